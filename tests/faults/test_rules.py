"""Rules, sinks and receivers that raise: they are counted and logged, and stop neither the others nor the application."""

import logging
import typing as t
from collections.abc import Iterable

import pytest

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import Finding
from flask_sessionwatch import LogSink
from flask_sessionwatch import Rule
from flask_sessionwatch import finding_reported
from flask_sessionwatch import finding_resolved
from flask_sessionwatch import scope_ended
from flask_sessionwatch.observe.records import Incident
from flask_sessionwatch.observe.records import Scope
from flask_sessionwatch.rules import Moment
from tests.faults.conftest import Watched


class BrokenRule(Rule):
    """Raises at every moment."""

    code = "XX999"
    name = "broken"
    every_scope = True

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        raise ValueError("at the end of a scope")

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        raise ValueError("at a tick")

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        raise ValueError("at an incident")


class HalfwayRule(Rule):
    """Raises after it has begun to tell."""

    code = "XX998"
    name = "halfway"

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        yield self.finding(moment, "something", (), None)
        raise ValueError("halfway")


class NonsenseRule(Rule):
    """Answers what is no finding."""

    code = "XX997"
    name = "nonsense"

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        return t.cast("Iterable[Finding]", None)


def codes(watched: Watched) -> set[str]:
    return {finding.code for finding in watched.watch.findings}


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about errors of the watch's own."""
    return [text for text in caplog.messages if "inside flask_sessionwatch" in text]


@pytest.mark.parametrize("rule", [BrokenRule(), HalfwayRule(), NonsenseRule()], ids=lambda rule: rule.name)
def test_rule(watched: Watched, unwatched: list[str], caplog: pytest.LogCaptureFixture, rule: Rule) -> None:
    """A rule that raises keeps neither the rules around it from telling, nor the application from anything."""
    watched.begin(rules=[*DEFAULT_RULES[:6], rule, *DEFAULT_RULES[6:]])
    assert watched.story.tell(watched.watch.tick) == unwatched
    assert {"SW101", "SW201", "SW204", "SW205", "SW601"} <= codes(watched)
    assert watched.errors() > 0
    assert any(f"the rule {rule.code} {rule.name}" in text for text in complaints(caplog))


def test_rule_is_named_in_the_log(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the rule that raised, and has its traceback; however often it raises, it fills no disk."""
    watched.begin(rules=[BrokenRule()])
    for _ in range(100):
        watched.watch.tick()
    told = [record for record in caplog.records if "XX999 broken" in record.getMessage()]
    assert told[0].exc_info is not None
    assert told[0].levelno == logging.WARNING
    assert len(told) <= 10
    assert watched.errors() >= 100


def test_broken_rule_blinds_nobody(watched: Watched) -> None:
    """A rule that always raises is no reason to step aside: the others go on to tell for ever."""
    watched.begin(rules=[BrokenRule(), *DEFAULT_RULES])
    for _ in range(30):
        watched.story.get("/read")
        watched.watch.tick()
    watched.story.get("/leak")
    assert {"SW101", "SW201"} <= codes(watched)


def broken_sink(finding: Finding) -> None:
    raise ValueError("in a sink")


class BrokenSink:
    """Raises on both occasions, at once."""

    immediate = True

    def __call__(self, finding: Finding) -> None:
        raise ValueError("in a sink")

    def resolved(self, finding: Finding, seconds: float) -> None:
        raise ValueError("in a sink")


@pytest.mark.parametrize("sink", [broken_sink, BrokenSink()], ids=["late", "immediate"])
def test_sink(watched: Watched, unwatched: list[str], caplog: pytest.LogCaptureFixture, sink: t.Any) -> None:
    """A sink that raises keeps no other sink from hearing, and the application notices nothing."""
    before: list[str] = []
    after: list[str] = []
    watched.begin(
        sinks=[
            lambda finding: before.append(finding.code),
            sink,
            LogSink(),
            lambda finding: after.append(finding.code),
        ]
    )
    assert watched.story.tell(watched.watch.tick) == unwatched
    watched.watch.tick()
    assert {"SW101", "SW201", "SW204"} <= set(before)
    assert before == after
    assert any("SW101 leaked-connection" in text for text in caplog.messages)
    assert watched.errors() > 0
    assert len(complaints(caplog)) <= 10


@pytest.mark.parametrize(
    "signal", [finding_reported, finding_resolved, scope_ended], ids=lambda signal: signal.name
)
def test_receiver(watched: Watched, unwatched: list[str], signal: t.Any) -> None:
    """A receiver of a signal that raises changes nothing but the count of errors."""

    def receive(sender: object, **kwargs: object) -> None:
        raise ValueError("in a receiver")

    watched.begin()
    with signal.connected_to(receive):
        assert watched.story.tell(watched.watch.tick) == unwatched
    assert {"SW101", "SW201", "SW204", "SW205", "SW601"} <= codes(watched)
    assert watched.errors() > 0


class BrokenHandler(logging.Handler):
    """A handler of the application's that raises what logging itself would have swallowed."""

    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("in a handler")


def test_log_handler(watched: Watched, unwatched: list[str]) -> None:
    """A log handler that raises, even for the complaint about it, reaches neither view nor watch."""
    watched.begin(rules=[*DEFAULT_RULES, BrokenRule()])
    logger = logging.getLogger("flask_sessionwatch")
    handler = BrokenHandler()
    logger.addHandler(handler)
    try:
        assert watched.story.tell(watched.watch.tick) == unwatched
    finally:
        logger.removeHandler(handler)
    assert {"SW101", "SW201"} <= codes(watched)


def test_finding_that_cannot_be_shown(watched: Watched) -> None:
    """A finding that cannot be shown as text does not keep others from being shown."""
    watched.begin(rules=[NamelessRule(), *DEFAULT_RULES])
    watched.story.get("/leak")
    watched.watch.tick()
    assert {"SW101", "XX996"} <= codes(watched)


class Unprintable:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("unprintable")

    __repr__ = __str__


class NamelessRule(Rule):
    """Tells of something that cannot be shown."""

    code = "XX996"
    name = "nameless"

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        yield self.finding(moment, "something", (), None, details={"lines": [], "what": Unprintable()})
