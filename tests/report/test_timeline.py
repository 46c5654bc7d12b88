"""The history that a finding tells of its session or connection."""

import datetime
import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy import orm

from flask_sessionwatch import Finding
from flask_sessionwatch import extension
from flask_sessionwatch.observe.stack import Stacks
from flask_sessionwatch.report.timeline import timeline
from tests.rules import conftest
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import line

world = conftest.world


def events(finding: Finding) -> list[str]:
    return [each["event"] for each in finding.timeline]


def event(finding: Finding, name: str) -> dict[str, t.Any]:
    (found,) = [each for each in finding.timeline if each["event"] == name]
    return found


def test_lost_write(world: World) -> None:
    """It begins with the session's transaction, and tells how that came to an end, in order."""

    @world.view()
    def lose() -> str:
        with orm.Session(world.engine) as session:
            session.add(Item(name="cat"))  # added
            session.flush()  # flushed
        return "lost"

    world.open()
    finding = world.only("SW204")
    told = events(finding)
    assert told == ["began", "checked out", "wrote", "statement", "closed", "returned"]
    times = [each["seconds"] for each in finding.timeline if each["seconds"] is not None]
    assert times == sorted(times)
    assert times[0] == 0.0
    assert event(finding, "wrote")["site"]["lineno"] in (line("added"), line("flushed"))
    assert event(finding, "closed")["text"] == "without a commit"
    stamps = [each["at"] for each in finding.timeline if each["at"] is not None]
    assert all(datetime.datetime.fromisoformat(each).tzinfo for each in stamps)


def test_failure(world: World) -> None:
    """A statement that failed is told by its exception's class and its line, and by nothing of its values."""

    @world.view()
    def swallow() -> str:
        session = orm.Session(world.engine)
        session.add(Item(id=1, name="secret"))
        try:
            session.flush()  # failed
        except exc.IntegrityError:
            pass
        session.close()
        return "swallowed"

    world.open()
    finding = world.only("SW205")
    failed = event(finding, "failed")
    assert failed["text"] == "IntegrityError in a flush"
    assert failed["site"]["lineno"] == line("failed")
    assert "secret" not in str(finding.timeline)


def test_leaked_connection(world: World) -> None:
    """Of a connection without a Session it tells the check-out; once it is over, also the return."""

    @world.view()
    def leak() -> str:
        world.keep(world.engine.connect()).execute(sa.select(1))  # checked out
        return "leaked"

    world.open()
    finding = world.only("SW101")
    assert events(finding) == ["checked out", "statement"]
    assert event(finding, "checked out")["site"]["lineno"] == line("checked out")
    world.give_back()
    world.watch.tick()
    assert finding.resolved
    assert events(finding) == ["checked out", "statement", "returned"]


def test_new_connection(world: World) -> None:
    """Where a connection had to be opened first, that comes first."""
    fresh = world.make_engine(poolclass=sa.pool.QueuePool)

    @world.view()
    def leak() -> str:
        world.keep(fresh.connect())
        return "leaked"

    world.open()
    finding = world.only("SW101")
    assert events(finding)[-1] == "checked out"
    assert set(events(finding)) <= {"opened", "checked out"}


def test_of_nothing() -> None:
    """What is about no session or connection has no history."""
    assert timeline(None, Stacks()) == []
    assert timeline(object(), Stacks()) == []


def test_engine(world: World) -> None:
    """A finding names the engine that it is about, also where its details do not."""

    @world.view()
    def lose() -> str:
        with orm.Session(world.engine) as session:
            session.add(Item(name="cat"))
            session.flush()
        return "lost"

    world.open()
    names = {each.name for each in extension._process.ledger.engines.values()}
    assert world.only("SW204").engine in names


def test_an_error_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that cannot be told is no reason to keep the finding back."""

    def fail(*args: object) -> t.NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr("flask_sessionwatch.watched.timeline", fail)

    @world.view()
    def leak() -> str:
        world.keep(world.engine.connect())
        return "leaked"

    world.open()
    assert world.only("SW101").timeline == []
    world.forgive(1)
