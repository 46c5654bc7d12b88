"""Sentry: a finding is an event that is grouped, titled and placed as the finding is, and holds no values."""

import collections.abc as cabc
import typing as t

import pytest
import sentry_sdk
import sqlalchemy as sa
from sentry_sdk.envelope import Envelope
from sentry_sdk.scope import Scope
from sentry_sdk.transport import Transport

from flask_sessionwatch import Rule
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.integrations.sentry import SentrySink
from flask_sessionwatch.rules.connections import LeakedConnection
from tests.report.test_logs import finding
from tests.rules.conftest import World
from tests.rules.conftest import line

SECRET = "correct horse battery staple"


class Loopback(Transport):
    """Keeps what would have been sent."""

    def __init__(self, options: t.Any = None) -> None:
        super().__init__(options)
        self.events: list[dict[str, t.Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        assert event is not None
        self.events.append(dict(event))


@pytest.fixture
def sent() -> cabc.Iterator[list[dict[str, t.Any]]]:
    """The events that were sent so far."""
    transport = Loopback()
    sentry_sdk.init(
        "http://key@127.0.0.1:9/1",
        transport=transport,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    yield transport.events
    sentry_sdk.get_client().close()
    Scope.get_global_scope().set_client(None)


def watch_with(world: World, sink: SentrySink, *rules: Rule) -> None:
    world.watch.close()
    world.watch = SessionWatch(world.app, rules=rules, sinks=[sink], registry=world.registry)


def leak(world: World) -> None:
    """Leave a connection checked out after a statement with a value that is nobody's business."""
    password = SECRET
    connection = world.keep(world.engine.connect())  # leaked
    connection.execute(sa.text("SELECT :password"), {"password": password})


def test_event(world: World, sent: list[dict[str, t.Any]]) -> None:
    """The event has the finding's fingerprint, level, title, scope and stack, with the application's frames marked."""
    watch_with(world, SentrySink(), LeakedConnection())
    with world.watch.scope("import"):
        leak(world)
    (event,) = sent
    found = world.only("SW101")
    assert event["fingerprint"] == ["flask_sessionwatch", found.fingerprint]
    assert (event["level"], event["logger"], event["transaction"]) == (
        "error",
        "flask_sessionwatch",
        "import",
    )
    assert event["tags"] == {"sessionwatch.code": "SW101", "sessionwatch.rule": "leaked-connection"}
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("SW101 leaked-connection", found.message)
    innermost = [frame for frame in exception["stacktrace"]["frames"] if frame["in_app"]][-1]
    assert (innermost["abs_path"], innermost["lineno"], innermost["function"]) == (
        __file__,
        line("leaked"),
        "leak",
    )
    assert event["contexts"]["sessionwatch"]["hint"] == found.hint


def test_no_values(world: World, sent: list[dict[str, t.Any]]) -> None:
    """No parameter and no variable is in the event, although the application has them at hand."""
    watch_with(world, SentrySink(), LeakedConnection())
    with world.watch.scope("import"):
        leak(world)
    assert SECRET not in repr(sent)
    assert "vars" not in repr(sent)


def test_each_telling(world: World, sent: list[dict[str, t.Any]]) -> None:
    """A bug that is seen ten times is two events in one group."""
    watch_with(world, SentrySink(), LeakedConnection())
    for _ in range(10):
        with world.watch.scope("import"):
            leak(world)
    assert [event["contexts"]["sessionwatch"]["count"] for event in sent] == [1, 10]
    assert sent[0]["fingerprint"] == sent[1]["fingerprint"]


@pytest.mark.parametrize(("level", "number"), [("info", 1), ("warning", 1), ("error", 0)])
def test_level(sent: list[dict[str, t.Any]], level: t.Any, number: int) -> None:
    """What is below the level is not sent."""
    SentrySink(level)(finding(level="warning"))
    assert [event["level"] for event in sent] == ["warning"] * number


def test_no_stack(sent: list[dict[str, t.Any]]) -> None:
    """A finding without a stack, a scope and a site is an event without them, which Sentry takes."""
    SentrySink()(finding(stack=(), scope=None, site=None))
    (event,) = sent
    assert "stacktrace" not in event["exception"]["values"][0]
    assert "transaction" not in event


def test_healthy(world: World, sent: list[dict[str, t.Any]]) -> None:
    """Nothing is sent of a scope in which all is well."""
    watch_with(world, SentrySink(), LeakedConnection())
    with world.watch.scope("import"), world.engine.connect():
        pass
    assert sent == []
