"""structlog: findings are events with a constant name and bound values."""

import logging

import pytest
import structlog
from structlog.testing import capture_logs

from flask_sessionwatch import Finding
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.integrations.structlog import StructlogSink
from tests.report.test_logs import finding
from tests.rules.conftest import World
from tests.rules.conftest import line


def test_reported_and_resolved(world: World) -> None:
    """A leak is an event of its level, and its end is one more."""
    world.watch.close()
    world.watch = SessionWatch(world.app, sinks=[StructlogSink()], registry=world.registry)
    with capture_logs() as logs:
        with world.watch.scope("import"):
            connection = world.keep(world.engine.connect())  # leaked
        connection.close()
        world.watch.tick()
    identity = {
        "code": "SW101",
        "rule": "leaked-connection",
        "site": f"{finding_site(world)}",
        "scope": "import",
        "scope_kind": "explicit",
        "count": 1,
        "fingerprint": world.only("SW101").fingerprint,
    }
    reported, resolved = logs
    assert resolved.pop("held_seconds") >= 0
    assert reported.pop("fact").startswith("import ended with a connection")
    assert reported.pop("hint")
    assert reported == {"event": "sessionwatch.finding_reported", "log_level": "error", **identity}
    assert resolved == {"event": "sessionwatch.finding_resolved", "log_level": "info", **identity}


def finding_site(world: World) -> str:
    site = world.only("SW101").site
    assert site is not None
    assert site.lineno == line("leaked")
    return str(site)


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_level(level: str) -> None:
    """The level is the method's, from which processors take it."""
    with capture_logs() as logs:
        StructlogSink()(finding(level=level))
    assert [log["log_level"] for log in logs] == [level]


def test_logger_of_the_application() -> None:
    """A logger that is given is used, with what is bound to it."""
    with capture_logs() as logs:
        StructlogSink(structlog.get_logger().bind(service="shop"))(finding())
    assert logs[0]["service"] == "shop"


def test_renamed_event(caplog: pytest.LogCaptureFixture) -> None:
    """It goes with the processors of an ordinary set-up, which put names of their own into an event."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    told: Finding = finding()
    try:
        with caplog.at_level(logging.INFO):
            StructlogSink()(told)
    finally:
        structlog.reset_defaults()
    assert '"message": "sessionwatch.finding_reported"' in caplog.text
    assert f'"fact": "{told.message}"' in caplog.text
    assert '"level": "error"' in caplog.text
