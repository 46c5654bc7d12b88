"""The pages without the application: what is in a store, shown by a server that is none of the workers."""

import threading
import typing as t

import pytest
from prometheus_client import parser
from werkzeug.test import Client
from werkzeug.test import TestResponse

from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import Worker
from flask_sessionwatch.store import reader
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.reader import Reader
from flask_sessionwatch.web import api
from flask_sessionwatch.web import ready
from flask_sessionwatch.web import standalone
from flask_sessionwatch.web.standalone import create_standalone
from tests.rules.conftest import until
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker
from tests.web.conftest import PATHS
from tests.web.conftest import PREFIX
from tests.web.conftest import TOKEN

LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8765"}
BODY: dict[str, t.Any] = {"code": "SW101", "rule": "leaked-connection", "level": "error", "scope": "GET /"}


class Away(MemoryStore):
    """A store that cannot be read while it has an error."""

    error: StoreError | None = None

    def documents(self, kind: str) -> list[t.Any]:
        if self.error is not None:
            raise self.error
        return super().documents(kind)


@pytest.fixture(autouse=True)
def ask_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer be given twice."""
    monkeypatch.setattr(reader, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(reader, "SLOW_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(ready, "WATCHED_SECONDS", 0.0)


@pytest.fixture
def store() -> Away:
    return Away()


@pytest.fixture
def pages(store: Away) -> Client:
    """Pages that need no token."""
    return Client(create_standalone(Reader(store), None, PREFIX))


def get(pages: Client, path: str, **environ: str) -> TestResponse:
    return pages.get(path, buffered=True, environ_overrides={**LOCAL, **environ})


def engine(**changed: t.Any) -> dict[str, t.Any]:
    return {
        "name": "default",
        "dialect": "sqlite",
        "pool": "QueuePool",
        "size": 2,
        "max": 4,
        "used": 3,
        "idle": 1,
        "waiting": 5,
        "oldest_age_seconds": 10.0,
        **changed,
    }


def publish(store: MemoryStore, who: Worker, *engines: dict[str, t.Any], **body: t.Any) -> None:
    store.publish(who, {LIVE: document(engines=list(engines), sessions=[], checkouts=[], **body)}, [])


def metrics(pages: Client) -> dict[tuple[str, ...], float]:
    """Return every value by the name and the values of the labels of its series."""
    families = parser.text_string_to_metric_families(get(pages, "/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {(each.name, *(value for _, value in sorted(each.labels.items()))): each.value for each in samples}


# Who may look


@pytest.mark.parametrize("path", PATHS)
def test_open_to_this_machine(pages: Client, path: str) -> None:
    """Without a token the pages answer whoever comes from this machine, at both addresses."""
    expected = 404 if path.endswith("/0") else 200
    assert get(pages, path).status_code == expected
    assert get(pages, PREFIX + path).status_code == expected


@pytest.mark.parametrize("path", [*PATHS, "/login", "/no-such-page"])
@pytest.mark.parametrize(
    "environ",
    [{"REMOTE_ADDR": "192.0.2.1"}, {"HTTP_HOST": "evil.example"}, {"HTTP_X_FORWARDED_FOR": "192.0.2.1"}],
    ids=["from elsewhere", "by another name", "through a proxy"],
)
def test_closed_to_others(pages: Client, path: str, environ: dict[str, str]) -> None:
    """Without a token they answer nobody else."""
    assert get(pages, path, **environ).status_code == 404


def test_token(store: Away) -> None:
    """With a token everybody needs it, on this machine too."""
    pages = Client(create_standalone(Reader(store), TOKEN, PREFIX))
    for path in PATHS[1:]:
        assert get(pages, path).status_code == 401
    assert get(pages, "/").headers["Location"] == "/login"
    assert get(pages, f"{PREFIX}/").headers["Location"] == f"{PREFIX}/login"
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}", "REMOTE_ADDR": "192.0.2.1"}
    assert get(pages, "/metrics", **bearer).status_code == 200


def test_without_slash(pages: Client) -> None:
    """The dashboard names its files relative to itself, so it has one address below the prefix."""
    assert get(pages, PREFIX).headers["Location"] == f"{PREFIX}/"


# What there is to see


def test_everything_is_from_the_store(pages: Client, store: Away) -> None:
    """Workers, engines and findings are those of the store, and the server itself is none of the workers."""
    alpha, beta = worker("alpha"), worker("beta")
    publish(store, alpha, engine())
    publish(store, beta, engine(name="reports"))
    store.publish(beta, {}, [report("f1", **BODY)])
    live = get(pages, "/api/v1/live").get_json()
    assert [(each["host"], each["pid"]) for each in live["workers"]] == [
        ("alpha", alpha.pid),
        ("beta", beta.pid),
    ]
    assert [each["name"] for each in live["engines"]] == ["default", "reports"]
    (finding,) = get(pages, "/api/v1/findings").get_json()["findings"]
    assert [(each["host"], each["gone"]) for each in finding["workers"]] == [("beta", False)]
    store.leave(beta)
    (finding,) = get(pages, "/api/v1/findings").get_json()["findings"]
    assert [(each["host"], each["gone"]) for each in finding["workers"]] == [("beta", True)]


def test_ready(pages: Client, store: Away) -> None:
    """A pool that is stuck on some host makes the fleet unready, and its host, and no other one."""
    beta = worker("beta")
    publish(store, worker("alpha"), engine())
    publish(store, beta, engine())
    details = {"engine": "default", "holders": ["GET /, held 3 s"]}
    stuck = report("f1", code="SW603", message="Stuck.", site=None, details=details)
    store.publish(beta, {}, [stuck, report("f2", **BODY)])
    (pool,) = get(pages, "/readyz").get_json()["pools"]
    assert (pool["holders"], pool["workers"]) == (
        ["GET /, held 3 s"],
        [{"host": "beta", "pid": beta.pid}],
    )
    assert [get(pages, f"/readyz?host={each}").status_code for each in ("alpha", "beta")] == [200, 503]
    store.leave(beta)
    assert get(pages, "/readyz").status_code == 200


# Its own health


def test_well(pages: Client, store: Away) -> None:
    """It is well while it can read the store."""
    publish(store, worker(), engine())
    answer = {"status": "ok", "problems": [], "workers": 1, "store": {"problem": None}}
    assert get(pages, "/healthz").get_json() == answer


def test_store_is_away(pages: Client, store: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away the pages say so; when that lasts, the server calls itself ill, until the store is back."""
    store.error = StoreError("redis://somewhere: gone fishing")
    answer = get(pages, "/healthz")
    assert (answer.status_code, answer.get_json()["store"]["problem"]) == (200, str(store.error))
    assert get(pages, "/api/v1/live").get_json()["store"]["problem"] == str(store.error)
    assert metrics(pages)["sessionwatch_store_up",] == 0
    monkeypatch.setattr(standalone, "AWAY_SECONDS", 0.0)
    answer = get(pages, "/healthz")
    assert (answer.status_code, answer.get_json()["status"]) == (503, "failing")
    (problem,) = answer.get_json()["problems"]
    assert problem.endswith("redis://somewhere: gone fishing")
    monkeypatch.undo()
    store.error = None
    assert get(pages, "/healthz").status_code == 200


# Metrics


def test_gauges(pages: Client, store: Away) -> None:
    """The gauges are those of each worker, under the names that its own have."""
    mine = worker("alpha")
    counts = {"sessions_open": 7, "leaked_sessions": 2}
    opened = [["SW101", "leaked-connection", "error", 3]]
    publish(store, mine, engine(), engine(), counts=counts, open_findings=opened)
    publish(store, worker("alpha"), engine(name="idle", used=0, max=None, oldest_age_seconds=None))
    seen = metrics(pages)
    me = (mine.host, str(mine.pid))

    def value(*key: str) -> float:
        return seen[key]

    assert seen["sessionwatch_workers", "alpha"] == 2
    assert value("sessionwatch_sessions_open", *me) == 7
    assert value("sessionwatch_leaked_sessions", *me) == 2
    assert value("sessionwatch_connections", "default", *me, "used") == 6
    assert value("sessionwatch_connections", "default", *me, "idle") == 2
    assert value("sessionwatch_connections_max", "default", *me) == 8
    assert value("sessionwatch_connections_pending", "default", *me) == 10
    assert seen["sessionwatch_findings_open", "SW101", "error", "leaked-connection"] == 3
    oldest = {
        key[1]: value
        for key, value in seen.items()
        if key[0] == "sessionwatch_oldest_checkout_timestamp_seconds"
    }
    assert oldest["idle"] - oldest["default"] == pytest.approx(10.0, abs=2.0)


def test_findings_are_counted_from_the_beginning(store: Away) -> None:
    """Occurrences are counted from the start of the server, also of workers that are gone; old ones are only known."""
    old, new = worker(), worker()
    store.publish(old, {}, [report("f1", count=5, first=1000.0, **BODY)])
    pages = Client(create_standalone(Reader(store), None, PREFIX))
    total = ("sessionwatch_findings_total", "SW101", "error", "leaked-connection")
    known = ("sessionwatch_findings_known", *total[1:])
    assert (metrics(pages)[total], metrics(pages)[known]) == (0, 1)
    store.publish(old, {}, [report("f1", count=7, first=1000.0, **BODY)])
    store.publish(new, {}, [report("f1", count=2, **BODY), report("f2", count=1, **BODY)])
    store.publish(new, {}, [report("f3", count=9, known=True, **BODY)])
    assert metrics(pages)[total] == 5
    assert metrics(pages)[total] == 5


def test_counters_never_fall(store: Away) -> None:
    """When the store drops a finding, or is emptied and filled again, nothing is counted backwards or twice."""
    pages = Client(create_standalone(Reader(store), None, PREFIX))
    total = ("sessionwatch_findings_total", "SW101", "error", "leaked-connection")
    mine = worker()
    store.publish(mine, {}, [report("f1", count=4, **BODY)])
    assert metrics(pages)[total] == 4
    store._sightings.clear()
    store._bodies.clear()
    assert metrics(pages)[total] == 4
    store.publish(mine, {}, [report("f1", count=5, **BODY)])
    assert metrics(pages)[total] == 5


def test_openmetrics(pages: Client, store: Away) -> None:
    """A scraper that asks for OpenMetrics gets it."""
    answer = get(pages, "/metrics", HTTP_ACCEPT="application/openmetrics-text; version=1.0.0")
    assert answer.mimetype == "application/openmetrics-text"
    assert answer.text.endswith("# EOF\n")


# Answers that are ready


@pytest.fixture
def polled(monkeypatch: pytest.MonkeyPatch, store: Away) -> Client:
    """Pages of which what is live was asked for twice, so that it is made in the background."""
    monkeypatch.setattr(ready, "WATCHED_SECONDS", 60.0)
    pages = Client(create_standalone(Reader(store), TOKEN, PREFIX))
    for _ in range(2):
        assert polled_live(pages).status_code == 200
    return pages


@pytest.fixture(autouse=True)
def forgotten() -> t.Iterator[None]:
    """The background ends with the test."""
    yield
    ready.WATCHED_SECONDS, before = 0.0, ready.WATCHED_SECONDS
    until(lambda: all(each.name != "flask_sessionwatch.ready" for each in threading.enumerate()))
    ready.WATCHED_SECONDS = before


def polled_live(pages: Client) -> TestResponse:
    return get(pages, "/api/v1/live", HTTP_AUTHORIZATION=f"Bearer {TOKEN}")


def test_a_dead_worker_vanishes(polled: Client, store: Away) -> None:
    """A worker appears when it publishes, and is gone when what it said counts no more, whoever polls."""
    store.publish(worker("alpha"), {LIVE: document(1.0, engines=[engine()])}, [])
    until(lambda: [each["host"] for each in polled_live(polled).get_json()["workers"]] == ["alpha"])
    until(lambda: polled_live(polled).get_json()["workers"] == [])
    assert polled_live(polled).get_json()["engines"] == []


def test_a_failure_is_told_to_pollers(polled: Client, store: Away) -> None:
    """What is ready says that the store cannot be read, and that it can be again."""
    store.error = StoreError("gone fishing")
    until(lambda: polled_live(polled).get_json()["store"]["problem"] == "gone fishing")
    store.error = None
    until(lambda: polled_live(polled).get_json()["store"]["problem"] is None)


def test_what_is_ready_is_no_way_in(polled: Client) -> None:
    """Whoever has no token gets nothing of what others are handed, and does not learn its tag."""
    tag = polled_live(polled).headers["ETag"]
    for environ in ({}, {"HTTP_AUTHORIZATION": "Bearer wrong"}, {"HTTP_IF_NONE_MATCH": tag}):
        answer = get(polled, "/api/v1/live", **environ)
        assert (answer.status_code, answer.headers.get("ETag")) == (401, None)


def test_the_age_is_told(store: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that was made a second ago or more says so."""
    monkeypatch.setattr(ready, "WATCHED_SECONDS", 60.0)
    monkeypatch.setattr(api, "SLOW", 60.0)
    pages = Client(create_standalone(Reader(store), None, PREFIX))
    assert all("Age" not in get(pages, "/api/v1/rules").headers for _ in range(2))
    until(lambda: int(get(pages, "/api/v1/rules").headers.get("Age", 0)) >= 1)
