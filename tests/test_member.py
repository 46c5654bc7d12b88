"""One process among those that share a store, seen through its pages."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import flask
import pytest
import sqlalchemy as sa
from werkzeug.test import Client

from flask_sessionwatch import SessionWatch
from flask_sessionwatch import extension
from flask_sessionwatch import member
from flask_sessionwatch.process import Process
from flask_sessionwatch.report import sources
from flask_sessionwatch.report.history import RECENT
from flask_sessionwatch.store import Store
from flask_sessionwatch.store import Worker
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store import publisher
from flask_sessionwatch.store.base import ABOUT
from flask_sessionwatch.store.base import KINDS
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.fleet import ABOUT_FIELDS
from flask_sessionwatch.store.reader import Reader
from flask_sessionwatch.store.sqlite import SQLiteStore
from flask_sessionwatch.web.standalone import create_standalone
from tests.rules.conftest import in_thread
from tests.rules.conftest import until
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker
from tests.web import conftest
from tests.web.conftest import PREFIX
from tests.web.conftest import Pages
from tests.web.conftest import Watch
from tests.web.test_api import Leaky
from tests.web.test_openapi import check

watch, engine = conftest.watch, conftest.engine


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Process]:
    """A runtime as a fresh process would have it, which publishes often."""
    process = Process()
    monkeypatch.setattr(extension, "_process", process)
    monkeypatch.setattr(member, "PUBLISH_SECONDS", 0.01)
    monkeypatch.delenv("SESSIONWATCH_STORE")
    yield process
    process._part()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def store(url: str) -> t.Iterator[Store]:
    """The store as another process sees it."""
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture
def pages(watch: Watch, engine: sa.Engine, url: str) -> t.Iterator[Leaky]:
    """An application that shares a store, and keeps what its requests open."""
    pages = Leaky(lambda app: watch(app, SESSIONWATCH_STORE=url), engine)  # type: ignore[arg-type]
    yield pages
    pages.close()


# What it publishes


def test_published(pages: Leaky, store: Store) -> None:
    """A tick publishes what is live, what was found and what was counted."""
    pages.leak("/connection/1")
    pages.watch.tick()
    until(lambda: len(store.findings()) == 1)
    (live,) = store.live()
    assert live.worker == Worker.this()
    (checkout,) = live.body["checkouts"]
    assert (checkout["scope"], checkout["leaked"]) == ("GET /connection/<int:number>", True)
    assert all(frame["application"] for frame in checkout["stack"])
    (finding,) = store.findings()
    assert (finding.body["code"], list(finding.sightings)) == ("SW101", [Worker.this().id])
    assert {kind: len(store.documents(kind)) for kind in KINDS} == dict.fromkeys(KINDS, 1)
    (scopes,) = store.documents(SCOPES)
    assert [row[0] for row in scopes.body["scopes"]] == ["GET /connection/<int:number>"]
    (recent,) = store.documents(RECENT)
    assert {"sessions", "scopes", "findings"} <= recent.body["columns"].keys()


def test_about_is_published(pages: Leaky, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is who it is, what it costs, when its findings were seen, and the source around what is held."""
    monkeypatch.setattr(sources, "HELD_SECONDS", 0.0)
    in_thread(lambda: pages.leak("/connection/1"))
    pages.watch.tick()
    until(lambda: len(store.documents(ABOUT)) == 1)
    (about,) = store.documents(ABOUT)
    assert {*ABOUT_FIELDS, "recent", "sources", "in_force"} == about.body.keys()
    assert (about.body["watching"], about.body["findings"]) == (True, 1)
    (finding,) = pages.watch.findings
    assert [sum(number for _, number in each) for each in about.body["recent"].values()] == [finding.count]
    assert finding.site is not None
    assert [each["lineno"] for each in about.body["sources"]] == [finding.site.lineno]
    (stored,) = store.findings()
    assert [each["lineno"] for each in stored.body["sources"]] == [finding.site.lineno]
    assert [each["event"] for each in stored.body["timeline"]][-2:] == ["checked out", "statement"]


def test_published_once_a_second_at_most(
    pages: Leaky, store: Store, own_process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the watchdog looks, what is live is not published more often than that."""
    pages.watch.tick()
    until(lambda: len(store.live()) == 1)
    monkeypatch.setattr(member, "PUBLISH_SECONDS", 3600.0)
    (shared,) = own_process._members.values()
    offered: list[t.Any] = []
    monkeypatch.setattr(shared.publisher, "offer", lambda *args: offered.append(args))
    for _ in range(3):
        pages.watch.tick()
    assert offered == []


def test_little_is_sent_of_much(pages: Leaky, store: Store, engine: sa.Engine) -> None:
    """Of very many check-outs the oldest are published, and how many more there are; the process itself shows all."""
    crowd = sa.create_engine(engine.url, pool_size=60)
    pages.kept += [crowd.connect() for _ in range(60)]
    assert len(pages.json("/api/v1/live")["checkouts"]) == 60
    pages.watch.tick()
    until(lambda: len(store.live()) == 1)
    (live,) = store.live()
    assert (len(live.body["checkouts"]), live.body["omitted"]["checkouts"]) == (50, 10)
    pages.close()
    crowd.dispose()


def test_lost_findings_are_published_again(
    pages: Leaky, store: Store, own_process: Process, tmp_path: Path
) -> None:
    """When the store has fewer findings than it was told of, it is told of all again."""
    pages.leak("/connection/1")
    pages.watch.tick()
    until(lambda: len(store.findings()) == 1)
    for each in tmp_path.glob("store.db*"):
        each.unlink()

    def is_back() -> bool:
        time.sleep(0.02)
        pages.watch.tick()
        return len(store.findings()) == 1

    until(is_back)


# What it shows


def test_other_workers(pages: Leaky, store: Store) -> None:
    """The pages of one worker show all of them."""
    other = worker("elsewhere")
    body: t.Any = {
        "engines": [{"name": "theirs"}],
        "sessions": [],
        "checkouts": [],
        "version": "1",
        "omitted": {},
    }
    scopes = [["GET /theirs", "request", [5, 0, 0, 0], [5, *[0] * 13], 0, 1, 1, 1.0, 0.0, 0]]
    sent = report("theirs", count=4, code="SW999", rule="other", level="info", scope="GET /theirs")
    store.publish(other, {LIVE: document(**body), SCOPES: document(scopes=scopes)}, [sent])
    pages.leak("/connection/1")
    live = pages.json("/api/v1/live")
    assert {(each["host"], each["pid"]) for each in live["workers"]} == {
        ("elsewhere", other.pid),
        (Worker.this().host, os.getpid()),
    }
    assert "theirs" in {each["name"] for each in live["engines"]}
    assert {"SW999", "SW101"} == {each["code"] for each in pages.json("/api/v1/findings")["findings"]}
    assert [each["fingerprint"] for each in pages.json("/api/v1/findings?level=info")["findings"]] == [
        "theirs"
    ]
    (seen_by,) = pages.json("/api/v1/findings/theirs")["workers"]
    assert (seen_by["host"], seen_by["count"], seen_by["gone"]) == ("elsewhere", 4, False)
    pages.watch.tick()
    assert {"GET /theirs", "GET /connection/<int:number>"} == {
        each["scope"] for each in pages.json("/api/v1/scopes")["scopes"]
    }
    store.leave(other)
    assert [each["gone"] for each in pages.json("/api/v1/findings/theirs")["workers"]] == [True]


def test_own_findings_are_counted_once(pages: Leaky, store: Store) -> None:
    """What the answering process knows and has published is one and the same."""
    pages.leak("/connection/1")
    pages.watch.tick()
    until(lambda: len(store.findings()) == 1)
    pages.leak("/connection/2")
    (finding,) = pages.json("/api/v1/findings")["findings"]
    assert (finding["count"], len(finding["workers"])) == (2, 1)


def test_series(pages: Leaky) -> None:
    """The history names its spans; another one is an error."""
    pages.leak("/connection/1")
    pages.watch.tick()
    series = pages.json("/api/v1/series")
    assert (series["span"], len(series["workers"]), series["workers"][-1]) == ("15m", 90, 1)
    assert (
        len(pages.json("/api/v1/series?span=6h")["scopes"]),
        pages.get("/api/v1/series?span=1y").status_code,
    ) == (360, 400)


def test_store_is_away(watch: Watch, engine: sa.Engine, tmp_path: Path) -> None:
    """Without the store the pages show the process itself, and say why it is alone."""
    missing = f"sqlite:///{tmp_path / 'missing' / 'store.db'}"
    pages = Leaky(lambda app: watch(app, SESSIONWATCH_STORE=missing), engine)  # type: ignore[arg-type]
    pages.leak("/connection/1")
    for path in ("live", "findings", "scopes", "series"):
        assert "No such file" in pages.json(f"/api/v1/{path}")["store"]["problem"]
    assert len(pages.json("/api/v1/findings")["findings"]) == 1
    pages.close()


# Which store it is


def test_default(watch: Watch, tmp_path: Path) -> None:
    """Unless told otherwise, the store is a file in the instance folder; looking at the pages is enough to make it."""
    pages = Pages(watch(flask.Flask("watched", instance_path=str(tmp_path / "instance"))))
    assert not (tmp_path / "instance").exists()
    pages.json("/api/v1/live")
    assert (tmp_path / "instance" / "sessionwatch.db").is_file()


@pytest.mark.parametrize("testing", [True, False])
def test_testing(watch: Watch, tmp_path: Path, testing: bool) -> None:
    """In tests nothing is shared, also if the application is put into testing after it was watched."""
    app = watch(flask.Flask("watched", instance_path=str(tmp_path / "instance")), token=None)
    app.testing = testing
    app.extensions["sessionwatch"].tick()
    if not testing:
        until((tmp_path / "instance" / "sessionwatch.db").exists)
    assert (tmp_path / "instance").exists() is not testing


def test_testing_with_a_store(watch: Watch, store: Store, url: str) -> None:
    """A store that was named is used in tests as well."""
    app = watch(SESSIONWATCH_STORE=url, TESTING=True)
    app.extensions["sessionwatch"].tick()
    until(lambda: len(store.live()) == 1)


def test_applications_that_share_a_store(watch: Watch, own_process: Process, store: Store, url: str) -> None:
    """Two applications of one process are one worker of the store that they share."""
    for name in ("one", "other"):
        watch(flask.Flask(name), SESSIONWATCH_STORE=url).extensions["sessionwatch"].tick()
    until(lambda: len(store.live()) == 1)
    assert len(own_process._members) == 1


def test_applications_that_share_none(watch: Watch) -> None:
    """Without a store an application shows its own findings, and not those of another one in the same process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SESSIONWATCH_STORE", "memory:")
        leaky, quiet = watch(flask.Flask("leaky")), Pages(watch(flask.Flask("quiet")))
    engine = sa.create_engine("sqlite://")
    with leaky.extensions["sessionwatch"].scope("leaky"):
        connection = engine.connect()
    assert len(Pages(leaky).json("/api/v1/findings")["findings"]) == 1
    assert quiet.json("/api/v1/findings")["findings"] == []
    connection.close()
    engine.dispose()


def test_script(own_process: Process) -> None:
    """A script without an application shares nothing unless it is told to."""
    watch = SessionWatch()
    with watch.scope("script"):
        pass
    watch.tick()
    assert own_process._members == {}
    watch.close()


# How it ends


def test_closing(watch: Watch, engine: sa.Engine, store: Store, url: str) -> None:
    """A watch that is closed publishes what it found last, and is live no more."""
    threads = threading.active_count()
    pages = Leaky(lambda app: watch(app, SESSIONWATCH_STORE=url), engine)  # type: ignore[arg-type]
    pages.watch.tick()
    until(lambda: len(store.live()) == 1)
    pages.leak("/connection/1")
    pages.watch.close()
    assert (store.live(), len(store.findings())) == ([], 1)
    until(lambda: threading.active_count() == threads)
    pages.close()


SCRIPT = """
import sys, os
import flask, sqlalchemy as sa
from flask_sessionwatch import SessionWatch

app = flask.Flask("watched", instance_path=sys.argv[1])
SessionWatch(app)
engine = sa.create_engine("sqlite://")

@app.get("/")
def leak():
    app.kept = engine.connect()
    return "leaked"

app.test_client().get("/")
if sys.argv[2] == "crash":
    os._exit(1)
"""


@pytest.mark.parametrize(("ending", "findings"), [("end", 1), ("crash", 0)])
def test_short_process(tmp_path: Path, ending: str, findings: int) -> None:
    """A command that is over before the first tick publishes what it found when it ends."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), ending]
    subprocess.run(command, check=False, timeout=60)
    with contextlib.closing(open_store(f"sqlite:///{tmp_path / 'sessionwatch.db'}")) as store:
        assert len(store.findings()) == findings
        assert store.live() == []


SLOW = """
import sys, time
import flask, sqlalchemy as sa
from flask_sessionwatch import SessionWatch

app = flask.Flask("watched", instance_path=sys.argv[1])
app.config["SESSIONWATCH_TICK"] = 60.0
engine = sa.create_engine("sqlite://", poolclass=sa.QueuePool, pool_size=20)
kept = []

def slow(finding):
    time.sleep(float(sys.argv[2]))
    print("told", finding.scope.name, flush=True)

watch = SessionWatch(app, sinks=[slow])
for number in range(10):
    with watch.scope(f"block {number}"):
        kept.append(engine.connect())
"""


@pytest.mark.parametrize(
    ("seconds", "told", "lost"), [("0.03", 10, False), ("3600", 0, True)], ids=["slow", "hanging"]
)
def test_slow_sinks_are_waited_for(tmp_path: Path, seconds: str, told: int, lost: bool) -> None:
    """What waits for a slow sink is told when the process ends; one that hangs holds that up for a while, and is named."""
    command = [sys.executable, "-c", SLOW, str(tmp_path), seconds]
    done = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    assert len({line for line in done.stdout.splitlines() if line.startswith("told block")}) == told
    counted = re.findall(r"before every sink was told of (\d+) of its findings", done.stderr)
    assert bool(counted) == lost
    assert not lost or int(counted[0]) >= 10


def test_a_hanging_store_is_waited_for(
    pages: Leaky, own_process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that hangs at the end of a process holds that up for a while, and the log says how many findings it lacks."""
    pages.watch.tick()
    until(lambda: bool(own_process.member(pages.watch._watched[0])._live()))
    gone = threading.Event()
    monkeypatch.setattr(SQLiteStore, "publish", lambda *args: gone.wait(60))
    monkeypatch.setattr(member, "PARTING_SECONDS", 0.1)
    pages.leak("/connection/1")
    own_process._part()
    gone.set()
    assert sum("may lack 1 of the findings" in text for text in caplog.messages) == 1


def test_no_thread_at_the_end(
    pages: Leaky, own_process: Process, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be had any more, as at the end of CPython 3.12, what was found is published without."""

    def refuse(work: t.Callable[[], None], name: str) -> t.NoReturn:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(publisher, "start_thread", refuse)
    pages.leak("/connection/1")
    own_process._part()
    assert len(store.findings()) == 1
    assert store.live() == []


def test_forked_child(pages: Leaky, store: Store) -> None:
    """A child that is forked publishes as a worker of its own, with counts of its own."""
    pages.leak("/connection/1")
    pages.watch.tick()
    until(lambda: len(store.findings()) == 1)
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            pages.leak("/connection/2")
            pages.watch.tick()
            until(lambda: len(open_store(str(pages.app.config["SESSIONWATCH_STORE"])).live()) == 2)
            extension._process._part()
            status = 0
        os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    (finding,) = [each for each in store.findings() if each.body["code"] == "SW101"]
    assert sorted(each.occurrences for each in finding.sightings.values()) == [1, 1]
    assert len(finding.sightings) == 2


# What is shown without it


def test_from_the_store_alone(pages: Leaky, store: Store) -> None:
    """A server that is none of the workers answers everything as described, from what they have published."""
    for path in ("/session", "/connection/1"):
        in_thread(lambda: pages.leak(path))  # noqa: B023, the thread is over before the next one
    pages.watch.tick()
    until(lambda: len(store.documents(SCOPES)) == len(store.live()) == 1)
    alone = Client(create_standalone(Reader(store), None, PREFIX))

    def ask(path: str) -> t.Any:
        answer = alone.get(path, environ_overrides={"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1"})
        assert answer.status_code == 200
        return answer.get_json()

    described = ask("/api/v1/openapi.json")
    live, listing = ask("/api/v1/live"), ask("/api/v1/findings")
    paths = [path for path in described["paths"] if not path.endswith("}")]
    assert len(paths) >= 7
    for path in paths:
        check(described, path, ask(path))
    for kind in ("sessions", "checkouts"):
        for each in live[kind]:
            check(described, f"/api/v1/{kind}/{{id}}", ask(f"/api/v1/{kind}/{each['id']}"))
    assert {each["code"] for each in listing["findings"]} == {"SW101", "SW201"}
    for each in listing["findings"]:
        one = ask(f"/api/v1/findings/{each['fingerprint']}")
        check(described, "/api/v1/findings/{fingerprint}", one)
        assert one["sources"]
        assert one["timeline"]
    scopes = {each["scope"]: each for each in ask("/api/v1/scopes")["scopes"]}
    assert len(scopes["GET /session"]["bad"]) == 1
