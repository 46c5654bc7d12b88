"""The log: text or JSON, one record for each telling, and nothing that a name could forge."""

import io
import json
import logging
import typing as t
from collections.abc import Iterator
from datetime import datetime

import flask
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from flask_sessionwatch import Finding
from flask_sessionwatch import LogSink
from flask_sessionwatch import SessionWatch
from flask_sessionwatch import Site
from flask_sessionwatch.finding import ScopeName
from flask_sessionwatch.report.logs import logger

SITE = Site("/srv/shop/orders.py", 42, "list_orders")
FORGED = "\n2026-01-01 00:00:00 CRITICAL root: all is lost \x1b[2J\r\u2028"


def finding(**changes: t.Any) -> Finding:
    """Make a finding that differs from an ordinary one by *changes*."""
    values: dict[str, t.Any] = {
        "code": "SW101",
        "rule": "leaked-connection",
        "level": "error",
        "message": "GET /orders ended with a connection still checked out.",
        "site": SITE,
        "stack": (),
        "scope": ScopeName("GET /orders", "request"),
        "hint": "use a 'with' block.",
        "verb": "checked out",
    }
    return Finding(**{**values, **changes})


@pytest.fixture
def lines() -> Iterator[t.Callable[[], list[str]]]:
    """Answers what a plain handler has written so far, line by line."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield lambda: stream.getvalue().split("\n")[:-1]
    logger.removeHandler(handler)
    logger.setLevel(level)


# Records


@pytest.mark.parametrize(
    ("level", "number"), [("info", logging.INFO), ("warning", logging.WARNING), ("error", logging.ERROR)]
)
def test_level(caplog: pytest.LogCaptureFixture, level: str, number: int) -> None:
    """A record has the level of its finding."""
    caplog.set_level(logging.DEBUG, "flask_sessionwatch")
    LogSink()(finding(level=level))
    assert [("flask_sessionwatch", number)] == [(record.name, record.levelno) for record in caplog.records]


@pytest.mark.parametrize("form", ["text", "json"])
def test_record_carries_its_finding(caplog: pytest.LogCaptureFixture, form: str) -> None:
    """A handler of one's own finds the finding itself on the record, in either format."""
    caplog.set_level(logging.DEBUG, "flask_sessionwatch")
    sink = LogSink(form)
    one = finding()
    sink(one)
    sink.resolved(one, 3.0)
    assert [one, one] == [vars(record)["finding"] for record in caplog.records]


def test_below_the_level_nothing_is_written(caplog: pytest.LogCaptureFixture) -> None:
    """What the logger's level leaves out is not even rendered."""
    caplog.set_level(logging.ERROR, "flask_sessionwatch")

    class Unreadable(Finding):
        @property
        def text(self) -> str:
            raise AssertionError("rendered")

        def as_json(self) -> dict[str, t.Any]:
            raise AssertionError("rendered")

    LogSink("json")(Unreadable(**vars(finding(level="info"))))
    assert caplog.records == []


def test_is_immediate() -> None:
    """The log is told before a scope's end returns."""
    assert LogSink().immediate


def test_percent_signs_are_no_formats(lines: t.Callable[[], list[str]]) -> None:
    """A percent sign in a path is not taken for a placeholder."""
    LogSink()(finding(message="GET /100%s/%d/%(x)s ended."))
    assert lines()[0] == "ERROR flask_sessionwatch: SW101 leaked-connection: GET /100%s/%d/%(x)s ended."


# Text


def test_text(lines: t.Callable[[], list[str]]) -> None:
    """A finding reads as the manual shows it: fact, site, hint."""
    LogSink()(finding())
    assert lines() == [
        "ERROR flask_sessionwatch: SW101 leaked-connection: GET /orders ended with a connection still checked out.",
        "  checked out at /srv/shop/orders.py:42 in list_orders",
        "  hint: use a 'with' block.   explain: flask sessionwatch explain SW101",
    ]


def test_text_of_a_repetition(lines: t.Callable[[], list[str]]) -> None:
    """When a bug is told again, the log says how often it was seen."""
    LogSink()(finding(count=100))
    assert lines()[-1].endswith("explain SW101  (seen 100 times)")


def test_resolved(lines: t.Callable[[], list[str]]) -> None:
    """The closing twin says what came back, after how long, and from where."""
    LogSink().resolved(finding(), 41.23)
    assert lines() == [
        "INFO flask_sessionwatch: SW101 leaked-connection: returned after 41.2 s. "
        "(GET /orders, checked out at /srv/shop/orders.py:42 in list_orders)"
    ]


def test_resolved_outside_of_any_scope(lines: t.Callable[[], list[str]]) -> None:
    """The closing twin of work without a scope names the site alone."""
    LogSink().resolved(finding(scope=None), 0.04)
    assert lines()[0].endswith("returned after 40 ms. (checked out at /srv/shop/orders.py:42 in list_orders)")


def test_resolved_without_a_site(lines: t.Callable[[], list[str]]) -> None:
    """The closing twin of a finding without a site still says which scope it was."""
    LogSink().resolved(finding(site=None), 1.0)
    assert lines() == [
        "INFO flask_sessionwatch: SW101 leaked-connection: returned after 1.0 s. (GET /orders)"
    ]


# JSON


def test_json(lines: t.Callable[[], list[str]]) -> None:
    """As JSON a finding is one line that a machine reads back."""
    one = finding(details={"engine": "default"})
    LogSink("json")(one)
    (line,) = lines()
    assert json.loads(line.removeprefix("ERROR flask_sessionwatch: ")) == one.as_json()


def test_json_of_resolved(lines: t.Callable[[], list[str]]) -> None:
    """The closing twin is the same object, resolved."""
    one = finding(resolved=True, details={"held_seconds": 41.2})
    LogSink("json").resolved(one, 41.2)
    (line,) = lines()
    data = json.loads(line.removeprefix("INFO flask_sessionwatch: "))
    assert data["resolved"] is True
    assert data["details"] == {"held_seconds": 41.2}


def test_json_of_details_that_json_does_not_know(lines: t.Callable[[], list[str]]) -> None:
    """A rule's details that JSON has no word for are written as text."""
    LogSink("json")(finding(details={"when": datetime(2026, 1, 2), "names": {"a"}}))  # noqa: DTZ001
    (line,) = lines()
    assert '"when": "2026-01-02 00:00:00"' in line


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_is_strict(lines: t.Callable[[], list[str]], number: float) -> None:
    """What is written is JSON that every reader takes, and NaN is not."""
    LogSink("json")(finding(details={"held_seconds": number}))
    (line,) = lines()
    json.loads(line.removeprefix("ERROR flask_sessionwatch: "), parse_constant=pytest.fail)


# Nothing that a name could forge


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "changes",
    [
        {"message": f"GET /{FORGED} ended."},
        {"site": SITE._replace(filename=f"/srv/{FORGED}.py")},
        {"site": SITE._replace(function=FORGED)},
        {"scope": ScopeName(FORGED, "explicit")},
        {"hint": FORGED},
        {"verb": FORGED},
        {"rule": FORGED},
        {"details": {"lines": [FORGED], FORGED: FORGED}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_forged_line(lines: t.Callable[[], list[str]], form: str, changes: dict[str, t.Any]) -> None:
    """A line break or an escape sequence in any name begins no line of the log and reaches no terminal."""
    sink = LogSink(form)
    sink(finding(**changes))
    sink.resolved(finding(**changes), 1.0)
    written = lines()
    own = [
        line for line in written if line.startswith(("ERROR flask_sessionwatch", "INFO flask_sessionwatch"))
    ]
    assert len(own) == 2
    assert all(line.startswith("  ") for line in written if line not in own)
    assert all(line.isprintable() for line in written)


def test_no_forged_line_by_a_request(lines: t.Callable[[], list[str]]) -> None:
    """Whatever stands in the path of a request, the log shows the URL rule only."""
    app = flask.Flask(__name__)
    app.config.update(TESTING=True, SESSIONWATCH_TICK=3600)
    engine = sa.create_engine("sqlite://")
    held = []

    @app.get("/files/<path:name>")
    def leak(name: str) -> str:
        held.append(engine.connect())
        return name

    watch = SessionWatch(app, registry=CollectorRegistry())
    try:
        app.test_client().get("/files/%0AERROR%20root:%20forged%1B[2J", buffered=True)
        assert "forged" not in "\n".join(lines())
        assert lines()[-3].startswith(
            "ERROR flask_sessionwatch: SW101 leaked-connection: GET /files/<path:name> "
        )
    finally:
        watch.close()
        for connection in held:
            connection.close()
        engine.dispose()


def test_no_forged_line_by_a_scope_name(lines: t.Callable[[], list[str]]) -> None:
    """The name that a block was given, perhaps by a user, is escaped where it is shown."""
    app = flask.Flask(__name__)
    app.config.update(TESTING=True, SESSIONWATCH_TICK=3600)
    engine = sa.create_engine("sqlite://")
    watch = SessionWatch(app, registry=CollectorRegistry())
    try:
        with watch.scope(f"import {FORGED}"):
            connection = engine.connect()
        connection.close()
        watch.tick()
        written = lines()
        assert not any(line.startswith("2026-01-01") for line in written)
        assert all(line.isprintable() for line in written)
        assert any("\\n2026-01-01" in line for line in written)
    finally:
        watch.close()
        engine.dispose()


def test_format_from_settings(lines: t.Callable[[], list[str]]) -> None:
    """SESSIONWATCH_LOG_FORMAT chooses the format of the sink that is there by itself."""
    app = flask.Flask(__name__)
    app.config.update(TESTING=True, SESSIONWATCH_TICK=3600, SESSIONWATCH_LOG_FORMAT="json")
    engine = sa.create_engine("sqlite://")
    watch = SessionWatch(app, registry=CollectorRegistry())
    try:
        with watch.scope("import"):
            connection = engine.connect()
        connection.close()
        assert json.loads(lines()[-1].partition(": ")[2])["code"] == "SW101"
    finally:
        watch.close()
        engine.dispose()
