"""SW401 to SW403: calls that a Session refuses."""

import contextlib
import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line
from tests.rules.conftest import one_item

BASE_NAMES = ["ann", "bob"]


def view_that(world: World, work: t.Callable[[orm.Session], object]) -> None:
    """Let the view at "/" do *work* in a session that is committed afterwards."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            work(session)
            session.commit()
        return "ok"


# SW401 reentrant-flush


def test_flush_in_a_mapper_event(any_world: World) -> None:
    """SW401: a mapper event that flushes is an error at its line, and says which flush was running."""

    def log(mapper: object, connection: object, target: Item) -> None:
        session = orm.object_session(target)
        assert session is not None
        session.flush()  # AGAIN

    def work(session: orm.Session) -> None:
        session.add(Item(name="eve"))
        session.flush()  # FLUSH

    view_that(any_world, work)
    sa.event.listen(Item, "after_insert", log)
    try:
        assert any_world.open().status_code == 500
    finally:
        sa.event.remove(Item, "after_insert", log)
    finding = any_world.only("SW401")
    assert (finding.rule, finding.level, at(finding)) == ("reentrant-flush", "error", line("AGAIN"))
    assert "called flush() on a Session whose flush() was still running" in finding.message
    assert f"test_misuse.py:{line('FLUSH')} in work" in finding.text


@pytest.mark.parametrize("event", ["after_flush", "after_flush_postexec", "before_commit", "after_begin"])
def test_commit_in_a_hook(every_world: World, event: str) -> None:
    """SW401: a hook that commits in the middle of a flush or commit is an error at its line, and no other thread's."""

    def hook(session: orm.Session, *rest: object) -> None:
        session.commit()  # COMMIT

    def work(session: orm.Session) -> None:
        sa.event.listen(session, event, hook)
        session.add(Item(name="eve"))
        session.flush()

    view_that(every_world, work)
    assert every_world.open().status_code == 500
    assert at(every_world.only("SW401")) == line("COMMIT")


def test_swallowed_by_the_hook(any_world: World) -> None:
    """SW401: a hook that swallows the error is a warning: what it wanted was not done."""

    def hook(session: orm.Session, *rest: object) -> None:
        with contextlib.suppress(sa.exc.InvalidRequestError):
            session.flush()  # AGAIN

    def work(session: orm.Session) -> None:
        sa.event.listen(session, "after_flush", hook)
        session.add(Item(name="eve"))

    view_that(any_world, work)
    assert any_world.open().text == "ok"
    finding = any_world.only("SW401")
    assert (finding.level, at(finding)) == ("warning", line("AGAIN"))


def test_hooks_that_keep_to_the_rules(any_world: World) -> None:
    """SW401: hooks that add in before_flush, or write over the connection they are given, are healthy."""

    def before(session: orm.Session, *rest: object) -> None:
        if not session.info.get("once"):
            session.info["once"] = True
            session.add(Item(name="before"))

    def after(mapper: object, connection: sa.Connection, target: Item) -> None:
        if target.name == "eve":
            connection.execute(sa.insert(Item).values(name="after"))

    def work(session: orm.Session) -> None:
        sa.event.listen(session, "before_flush", before)
        session.add(Item(name="eve"))

    view_that(any_world, work)
    sa.event.listen(Item, "after_insert", after)
    try:
        assert any_world.open().text == "ok"
    finally:
        sa.event.remove(Item, "after_insert", after)
    any_world.ticks()
    assert any_world.heard == []
    assert sorted(any_world.names()) == sorted([*BASE_NAMES, "eve", "before", "after"])


# SW402 double-begin


def test_begun_by_a_query(any_world: World) -> None:
    """SW402: begin() after a query is an error at its line, and says where autobegin happened."""
    db = any_world.flask_sqlalchemy()

    @any_world.app.before_request
    def load() -> None:
        one_item(db.session)  # BEGUN

    @any_world.view()
    def view() -> str:
        with db.session.begin():  # AGAIN
            return "ok"

    assert any_world.open().status_code == 500
    finding = any_world.only("SW402")
    assert (finding.rule, finding.level, at(finding)) == ("double-begin", "error", line("AGAIN"))
    # The innermost line is that of the tests' helper, which loads.
    assert "first begun at" in finding.text


def test_begun_twice_over_core(any_world: World) -> None:
    """SW402: a Core connection that begins again is told with where it was checked out."""

    @any_world.view()
    def view() -> str:
        with any_world.engine.connect() as connection:  # BEGUN
            connection.execute(sa.select(Item.id))
            with connection.begin():  # AGAIN
                return "ok"

    assert any_world.open().status_code == 500
    finding = any_world.only("SW402")
    assert at(finding) == line("AGAIN")
    assert f"test_misuse.py:{line('BEGUN')} in view" in finding.text


def test_begin_unless_begun(any_world: World) -> None:
    """SW402: whoever tries begin() and goes on where it is refused is told as info."""

    def work(session: orm.Session) -> None:
        session.scalar(sa.select(Item.id))
        with contextlib.suppress(sa.exc.InvalidRequestError):
            session.begin()

    view_that(any_world, work)
    assert any_world.open().text == "ok"
    assert [each.level for each in any_world.told("SW402")] == ["info"]
    assert any_world.heard == []


def test_begun_once(any_world: World) -> None:
    """SW402: begin() first, begin() after a commit, and a savepoint in a transaction are healthy."""

    def work(session: orm.Session) -> None:
        with session.begin():
            one_item(session).hits = 1
        with session.begin(), session.begin_nested():
            one_item(session).hits = 2
        one_item(session)
        session.commit()
        with session.begin():
            one_item(session).hits = 3

    view_that(any_world, work)
    assert any_world.open().text == "ok"
    any_world.ticks()
    assert any_world.heard == []


# SW403 closed-transaction-in-context


def save(session: orm.Session, how: str) -> None:
    """End the caller's transaction, as a helper does that thinks it is its own."""
    session.add(Item(name="eve"))
    getattr(session, how)()  # ENDED


@pytest.mark.parametrize("how", ["commit", "rollback"])
def test_ended_in_the_block(any_world: World, how: str) -> None:
    """SW403: who ends the transaction of a block in it is told at that line, with where it was to go on."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session, session.begin():  # BLOCK
            save(session, how)
            return str(session.scalar(sa.select(Item.id)))  # USED

    assert any_world.open().status_code == 500
    finding = any_world.only("SW403")
    assert (finding.rule, finding.level) == ("closed-transaction-in-context", "error")
    assert finding.site is not None
    assert finding.site.function == "save"
    assert f"whose transaction a {how}() had ended" in finding.message
    assert f"block begun at tests/rules/test_misuse.py:{line('BLOCK')}" in finding.text
    assert f"used at tests/rules/test_misuse.py:{line('USED')}" in finding.text


def test_ended_in_a_savepoints_block(any_world: World) -> None:
    """SW403: a commit inside of a savepoint's block is told as well."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            one_item(session)
            with session.begin_nested():
                session.commit()
                return str(session.scalar(sa.select(Item.id)))

    assert any_world.open().status_code == 500
    assert any_world.told("SW403")[0].level == "error"


def test_ended_in_a_core_block(any_world: World) -> None:
    """SW403: so is one inside of the block of a Core connection, with where that was checked out."""

    @any_world.view()
    def view() -> str:
        with any_world.engine.begin() as connection:  # BLOCK
            connection.commit()
            return str(connection.scalar(sa.select(Item.id)))

    assert any_world.open().status_code == 500
    assert at(any_world.only("SW403")) == line("BLOCK")


def test_swallowed_in_the_block(any_world: World) -> None:
    """SW403: an error that the block swallows is a warning, for what it wanted was not done."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session, session.begin():
            save(session, "commit")
            with contextlib.suppress(sa.exc.InvalidRequestError):
                session.scalar(sa.select(Item.id))
        return "ok"

    assert any_world.open().text == "ok"
    assert any_world.only("SW403").level == "warning"


def test_failure_in_the_block(any_world: World) -> None:
    """SW403: a block whose flush failed, and that goes on all the same, is a failed transaction and no closed one."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session, session.begin():
            session.add(Item(name="ann"))
            with contextlib.suppress(sa.exc.IntegrityError):
                session.flush()  # FAILED
            return str(session.scalar(sa.select(Item.id)))

    assert any_world.open().status_code == 500
    assert at(any_world.only("SW205")) == line("FAILED")


def test_flush_in_the_block(any_world: World) -> None:
    """SW403: a helper that flushes, and a commit that is the last thing in the block, are healthy."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            with session.begin():
                save(session, "flush")
                session.scalar(sa.select(Item.id))
            with session.begin():
                session.add(Item(name="fay"))
                session.commit()
        return "ok"

    assert any_world.open().text == "ok"
    any_world.ticks()
    assert any_world.heard == []
    assert any_world.names() == [*BASE_NAMES, "eve", "fay"]
