"""What the API answers: the shapes that the dashboard and other programs rely on."""

import dataclasses
import datetime
import socket
import threading
import typing as t
from pathlib import Path

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import Rule
from flask_sessionwatch import SessionWatch
from tests.rules.conftest import until
from tests.web.conftest import Pages
from tests.web.conftest import Watch

WORKER = {"host", "pid"}
SITE = {"filename", "lineno", "function"}
FRAME = {*SITE, "application"}
SCOPE = {"scope", "scope_kind"}
ENGINE = {
    *(*WORKER, "name", "dialect", "pool", "size", "max", "overflow", "used", "idle", "waiting"),
    "oldest_age_seconds",
}
HELD = {*SCOPE, *WORKER, "id", "site", "since", "age_seconds", "leaked", "stack", "thread", "doing", "now"}
SESSION = {*HELD, "writes", "checkouts"}
CHECKOUT = {
    *HELD,
    "engine",
    "session",
    "session_id",
    "statements",
    "idle_seconds",
    "server_id",
}
FINDING = {
    *SCOPE,
    *("code", "rule", "level", "message", "site", "hint", "count", "first_seen", "last_seen"),
    *("resolved", "fingerprint", "details", "stack", "verb", "workers"),
    *("about", "known", "worker_count", "engine", "recent"),
}
SEEN_BY = {*WORKER, "gone", "count", "first_seen", "last_seen", "resolved"}
RULE = {"code", "rule", "level", "hint", "page", "settings", "enabled", "ignored", "thresholds", "findings"}
HOSTILE = "</script><b onload=alert(1)>\n\r\t\x1b[31m \"\\{}'\u2028 ﷽\udcff"


class Leaky(Pages):
    """The pages of an application that keeps what its requests open."""

    def __init__(self, watch: Watch, engine: sa.Engine) -> None:
        self.kept: list[t.Any] = []
        app = flask.Flask("watched", root_path=str(Path(__file__).parent))

        @app.get("/connection/<int:number>")
        def leak_connection(number: int) -> str:
            connection = engine.connect()
            self.kept.append(connection)
            return str(connection.scalar(sa.select(sa.literal(number))))

        @app.get("/session")
        def leak_session() -> str:
            session = orm.Session(engine)
            self.kept.append(session)
            return str(session.scalar(sa.select(1)))

        super().__init__(watch(app))

    @property
    def watch(self) -> SessionWatch:
        return t.cast(SessionWatch, self.app.extensions["sessionwatch"])

    def leak(self, path: str) -> None:
        assert self.http.get(path).status_code == 200

    def close(self) -> None:
        while self.kept:
            self.kept.pop().close()


@pytest.fixture
def pages(watch: Watch, engine: sa.Engine) -> t.Iterator[Leaky]:
    pages = Leaky(watch, engine)
    yield pages
    pages.close()


def is_utc(stamp: str) -> bool:
    return datetime.datetime.fromisoformat(stamp).utcoffset() == datetime.timedelta(0)


# Live


def test_live_of_an_idle_process(client: Pages) -> None:
    """With nothing open the lists are empty, and the worker names itself."""
    live = client.json("/api/v1/live")
    assert {"now", "workers", "engines", "sessions", "checkouts", "omitted", "store"} == set(live)
    assert [live["sessions"], live["checkouts"]] == [[], []]
    (worker,) = live["workers"]
    assert {*WORKER, "started_at", "seen_at", "version"} == set(worker)
    assert worker["host"] == socket.gethostname()
    assert all(map(is_utc, [live["now"], worker["started_at"], worker["seen_at"]]))


def test_live_engine(pages: Leaky) -> None:
    """An engine tells the size of its pool and how much of it is used."""
    pages.leak("/connection/1")
    (engine,) = [each for each in pages.json("/api/v1/live")["engines"] if each["used"]]
    assert set(engine) == ENGINE
    assert (engine["dialect"], engine["pool"]) == ("sqlite", "QueuePool")
    numbers = [engine[name] for name in ("size", "max", "used", "idle", "waiting")]
    assert numbers == [2, 2, 1, 0, 0]
    assert isinstance(engine["oldest_age_seconds"], float)


def test_live_checkout(pages: Leaky) -> None:
    """A held connection tells its holder: scope, site, age, thread and stack."""
    pages.leak("/connection/1")
    (checkout,) = pages.json("/api/v1/live")["checkouts"]
    assert set(checkout) == CHECKOUT
    assert set(checkout["site"]) == SITE
    assert (__file__, "leak_connection") == (checkout["site"]["filename"], checkout["site"]["function"])
    assert [checkout["scope"], checkout["scope_kind"]] == ["GET /connection/<int:number>", "request"]
    assert [FRAME] * len(checkout["stack"]) == [set(frame) for frame in checkout["stack"]]
    assert [checkout[name] for name in ("leaked", "session", "session_id")] == [True, False, None]
    assert [float, float] == [type(checkout[name]) for name in ("age_seconds", "idle_seconds")]
    assert checkout["statements"] == 1
    assert checkout["doing"] is None  # its request is over


def test_live_checkout_of_a_thread_at_work(pages: Leaky, engine: sa.Engine) -> None:
    """A connection that is held by a thread at work tells what that is doing."""
    over = threading.Event()

    def work() -> None:
        with engine.connect():
            over.wait()

    thread = threading.Thread(target=work)
    thread.start()
    until(
        lambda: (
            [each["doing"] for each in pages.json("/api/v1/live")["checkouts"]]
            == ["waiting for another thread"]
        )
    )
    over.set()
    thread.join()


def test_live_session(pages: Leaky) -> None:
    """A checkout names the session that owns it, and is leaked where that is."""
    pages.leak("/session")
    live = pages.json("/api/v1/live")
    (session,), (checkout,) = live["sessions"], live["checkouts"]
    assert set(session) == SESSION
    assert [True, session["id"]] == [checkout["session"], checkout["session_id"]]
    assert [session["leaked"], checkout["leaked"]] == [True, True]
    assert [session["checkouts"], session["writes"]] == [1, 0]


def test_live_while_a_scope_runs(pages: Leaky, engine: sa.Engine) -> None:
    """What an open scope holds is not leaked."""
    with pages.watch.scope("import"), orm.Session(engine) as session:
        session.execute(sa.select(1))
        live = pages.json("/api/v1/live")
    (checkout,) = live["checkouts"]
    assert [checkout[name] for name in ("leaked", "scope", "scope_kind")] == [False, "import", "explicit"]
    assert [each["leaked"] for each in live["sessions"]] == [False]


def test_live_after_the_return(pages: Leaky) -> None:
    """What was returned is live no more."""
    pages.leak("/connection/1")
    pages.leak("/session")
    pages.close()
    live = pages.json("/api/v1/live")
    assert [live["sessions"], live["checkouts"]] == [[], []]


# Findings


def test_findings(pages: Leaky) -> None:
    """A finding carries everything that the log says, as data."""
    pages.leak("/connection/1")
    (finding,) = pages.json("/api/v1/findings")["findings"]
    assert set(finding) == FINDING
    assert [finding[name] for name in ("code", "rule", "level")] == ["SW101", "leaked-connection", "error"]
    assert [finding["count"], finding["resolved"]] == [1, False]
    assert set(finding["site"]) == SITE
    assert [set(worker) for worker in finding["workers"]] == [SEEN_BY]
    assert all(is_utc(finding[name]) for name in ("first_seen", "last_seen"))


def test_findings_are_counted(pages: Leaky) -> None:
    """One bug is one finding, however often it is seen."""
    pages.leak("/connection/1")
    pages.leak("/connection/2")
    (finding,) = pages.json("/api/v1/findings")["findings"]
    assert finding["count"] == 2


def test_finding_is_resolved(pages: Leaky) -> None:
    """A finding on something that came back says so."""
    pages.leak("/connection/1")
    pages.close()
    pages.watch.tick()
    (finding,) = pages.json("/api/v1/findings?resolved=true")["findings"]
    assert finding["code"] == "SW101"


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("", {"SW101", "SW201"}),
        ("?code=SW101", {"SW101"}),
        ("?rule=leaked-session", {"SW201"}),
        ("?level=error", {"SW101", "SW201"}),
        ("?level=info", set()),
        ("?scope=GET%20/session", {"SW201"}),
        ("?resolved=false", {"SW101", "SW201"}),
        ("?resolved=true", set()),
        ("?code=SW101&level=error", {"SW101"}),
        ("?code=SW101&rule=leaked-session", set()),
        ("?code=", set()),
        ("?code=%ff%00'--", set()),
        ("?somebody=else", {"SW101", "SW201"}),
    ],
)
def test_filters(pages: Leaky, query: str, codes: set[str]) -> None:
    """A query narrows the list by code, rule, level, scope and resolved, all of which have to match."""
    pages.leak("/connection/1")
    pages.leak("/session")
    found = pages.json(f"/api/v1/findings{query}")["findings"]
    assert codes == {finding["code"] for finding in found}


def test_one_finding(pages: Leaky) -> None:
    """The fingerprint leads to the finding and its stack."""
    pages.leak("/connection/1")
    (finding,) = pages.json("/api/v1/findings")["findings"]
    again = pages.json(f"/api/v1/findings/{finding['fingerprint']}")
    assert finding.items() <= again.items()
    assert [FRAME] * len(again["stack"]) == [set(frame) for frame in again["stack"]]


@pytest.mark.parametrize("fingerprint", ["0", "0" * 16, "é", "%00", "..", "%2e%2e%2flive", "x" * 5_000])
def test_unknown_fingerprint(pages: Leaky, fingerprint: str) -> None:
    """A fingerprint that is not kept is answered with 404."""
    answer = pages.get(f"/api/v1/findings/{fingerprint}")
    assert (answer.status_code, answer.get_json()) == (404, {"error": "Not Found"})


def test_details_of_any_kind(watch: Watch) -> None:
    """A rule of somebody's own may put anything into its details; the list is answered all the same."""

    class Strange(Rule):
        """Tells of every scope."""

        code = "X001"
        name = "strange"
        every_scope = True

        def at_scope_end(self, scope: t.Any, moment: t.Any) -> t.Iterator[t.Any]:
            details = {"path": Path("a"), "set": {1}, "bytes": b"\xff", "object": Rule}
            yield self.finding(moment, "Strange.", (), scope, details=details)

    app = flask.Flask("watched")
    pages = Pages(watch(app, rules=[Strange()]))
    pages.http.get("/")
    (finding,) = pages.json("/api/v1/findings")["findings"]
    assert [finding["details"][name] for name in ("path", "set")] == ["a", "{1}"]


# Rules


def test_rules(client: Pages) -> None:
    """The catalogue lists every rule that is on, with its manual page."""
    rules = client.json("/api/v1/rules")["rules"]
    assert [RULE] * len(rules) == [set(rule) for rule in rules]
    told = [(rule["code"], rule["rule"], rule["level"], rule["page"]) for rule in rules]
    assert sorted((rule.code, rule.name, rule.level, rule.page) for rule in DEFAULT_RULES) == told
    assert all(rule["enabled"] for rule in rules)
    assert all(rule["hint"] for rule in rules)


def test_rules_tell_their_settings(watch: Watch) -> None:
    """Options that were given are told; None stands for what the settings say."""
    options = {rule.code: {each.name: None for each in dataclasses.fields(rule)} for rule in DEFAULT_RULES}
    told = {rule["code"]: rule["settings"] for rule in Pages(watch()).json("/api/v1/rules")["rules"]}
    assert options == told
    changed = dataclasses.replace(DEFAULT_RULES[2], threshold=2.5)  # type: ignore[call-arg]
    rules = Pages(watch(rules=[changed])).json("/api/v1/rules")["rules"]
    (rule,) = [rule for rule in rules if rule["enabled"]]
    assert (rule["code"], rule["settings"]) == ("SW103", {"threshold": 2.5})


# Hostile names


def test_hostile_names_are_data(pages: Leaky, engine: sa.Engine) -> None:
    """Whatever a scope or a thread is called, it arrives as that string and nothing else."""

    def work() -> None:
        with pages.watch.scope(HOSTILE):
            connection = engine.connect()
            pages.kept.append(connection)
            connection.execute(sa.select(1))

    thread = threading.Thread(target=work, name=HOSTILE)
    thread.start()
    thread.join()
    answers = [pages.get("/api/v1/live"), pages.get("/api/v1/findings")]
    (checkout,) = answers[0].get_json()["checkouts"]
    assert [checkout["scope"], checkout["thread"]] == [HOSTILE, HOSTILE]
    assert [each["scope"] for each in answers[1].get_json()["findings"]] == [HOSTILE]
    for answer in answers:
        assert answer.mimetype == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
