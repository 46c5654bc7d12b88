"""SW210, SW211, SW212 and SW215: what a transaction was asked for at the wrong moment."""

import contextlib
import typing as t
import warnings

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line
from tests.rules.conftest import one_item

BASE_NAMES = ["ann", "bob"]


class Orders(orm.DeclarativeBase):
    """The base of a model that cannot be saved before it is complete."""


class Order(Orders):
    """Something that needs a name."""

    __tablename__ = "orders"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50))
    item_id: orm.Mapped[int]


# SW210 mid-request-close


@pytest.mark.parametrize("flushed", [False, True])
def test_removed_by_a_helper(any_world: World, flushed: bool) -> None:
    """SW210: a helper that removes its caller's session, whose changes are lost, is told at its line."""
    db = any_world.flask_sqlalchemy()

    def helper() -> None:
        db.session.scalar(sa.select(Item.id))
        db.session.remove()  # REMOVED

    @any_world.view()
    def view() -> str:
        item = one_item(db.session)
        with db.session.no_autoflush:
            item.hits = 9
            if flushed:
                db.session.flush()
            helper()
        db.session.commit()  # AGAIN
        return "ok"

    assert any_world.open().text == "ok"
    (finding,) = any_world.told("SW210")
    assert (finding.rule, finding.level, at(finding)) == ("mid-request-close", "warning", line("REMOVED"))
    assert "called remove() in the middle" in finding.message
    assert f"used again at tests/rules/test_timing.py:{line('AGAIN')}" in finding.text
    assert set(any_world.heard) == {"SW204 error", "SW210 warning"}


def test_closed_by_a_helper(any_world: World) -> None:
    """SW210: so is one that closes it, and whose caller goes on with the same session."""

    def helper(session: orm.Session) -> None:
        session.close()  # CLOSED

    @any_world.view()
    def view() -> str:
        session = orm.Session(any_world.engine)
        session.add(Item(name="eve"))
        helper(session)
        session.add(Item(name="fay"))
        session.commit()
        session.close()
        return "ok"

    assert any_world.open().text == "ok"
    (finding,) = any_world.told("SW210")
    assert (finding.level, at(finding)) == ("warning", line("CLOSED"))
    assert "called close()" in finding.message


def test_closed_by_its_owner(any_world: World) -> None:
    """SW210: a function that closes what it has begun itself has forgotten a commit, and is told as that."""

    @any_world.view()
    def view() -> str:
        session = orm.Session(any_world.engine)
        session.add(Item(name="eve"))
        session.close()
        session.scalar(sa.select(Item.id))
        session.close()
        return "ok"

    assert any_world.open().text == "ok"
    assert [each.level for each in any_world.told("SW210")] == ["info"]
    assert any_world.heard == ["SW204 error"]


def test_objects_of_a_removed_session(any_world: World) -> None:
    """SW210: an object that a removed session leaves behind, and that cannot be used, tells of the removal too."""
    db = any_world.flask_sqlalchemy()

    def helper() -> None:
        db.session.remove()  # REMOVED

    @any_world.view()
    def view() -> str:
        item = one_item(db.session)
        db.session.expire(item)
        helper()
        return item.name

    assert any_world.open().status_code == 500
    assert set(any_world.heard) == {"SW210 warning", "SW309 error"}
    assert at(any_world.told("SW210")[0]) == line("REMOVED")
    removed = f"closed at tests/rules/test_timing.py:{line('REMOVED')} in helper"
    assert removed in any_world.told("SW309")[0].text


def test_commit_of_nothing(any_world: World) -> None:
    """SW210: a change to an object of a removed session, which the commit cannot save, is told as info."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        item = one_item(db.session)
        db.session.remove()  # REMOVED
        item.hits = 9
        db.session.commit()
        return "ok"

    assert any_world.open().text == "ok"
    (finding,) = any_world.told("SW210")
    assert (finding.level, at(finding)) == ("info", line("REMOVED"))
    assert any_world.heard == []


@pytest.mark.parametrize("how", ["close", "remove", "block", "rollback", "own"])
def test_closings_without_harm(any_world: World, how: str) -> None:
    """SW210: a session that is closed and begins anew, a block, and an explicit rollback before are healthy."""
    db = any_world.flask_sqlalchemy()

    def helper() -> None:
        if how == "block":
            with orm.Session(any_world.engine) as session:
                one_item(session)
        elif how == "own":
            session = orm.Session(any_world.engine)
            one_item(session)
            session.close()
        else:
            one_item(db.session).hits = 0 if how != "rollback" else 9
            if how == "rollback":
                db.session.rollback()
            getattr(db.session, "close" if how == "close" else "remove")()

    @any_world.view()
    def view() -> str:
        for _ in range(3):
            helper()
        one_item(db.session).hits = 3
        db.session.commit()
        helper()
        return "ok"

    assert any_world.open().text == "ok"
    any_world.ticks()
    assert any_world.told("SW210") == []


def test_batches(any_world: World) -> None:
    """SW210: a command that commits and removes after each of its batches is healthy."""
    db = any_world.flask_sqlalchemy()

    @any_world.app.cli.command("load")
    def load() -> None:
        for name in ("eve", "fay"):
            db.session.scalar(sa.select(Item.id))
            db.session.remove()
            db.session.add(Item(name=name))
            db.session.commit()
            db.session.remove()

    assert any_world.app.test_cli_runner().invoke(args=["load"]).exit_code == 0
    any_world.ticks()
    assert any_world.told("SW210") == []
    assert any_world.names() == [*BASE_NAMES, "eve", "fay"]


def test_nested_context(any_world: World) -> None:
    """SW210: the session of a nested app context is removed with that, and not by the application."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        one_item(db.session)
        with any_world.app.app_context():
            db.session.add(Item(name="eve"))
        return str(db.session.scalar(sa.select(Item.id)))

    any_world.open()
    assert any_world.told("SW210") == []


# SW211 isolation-ignored


def ask_for(session: t.Any, level: str) -> None:
    """Ask for an isolation level, and do not care for the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session.connection(execution_options={"isolation_level": level})  # ASKED


def test_asked_too_late(every_world: World) -> None:
    """SW211: a level asked for after the first query is told where it was asked for, and where that was."""
    db = every_world.flask_sqlalchemy()

    @every_world.view()
    def view() -> str:
        db.session.scalar(sa.select(Item.id))  # BEGUN
        ask_for(db.session, "SERIALIZABLE")
        return "ok"

    assert every_world.open().text == "ok"
    finding = every_world.only("SW211")
    assert (finding.rule, finding.level) == ("isolation-ignored", "warning")
    assert finding.site is not None
    assert finding.site.function == "ask_for"
    assert "SERIALIZABLE, which was ignored" in finding.message
    assert f"begun at tests/rules/test_timing.py:{line('BEGUN')}" in finding.text


def test_the_warning_is_still_the_applications(world: World) -> None:
    """SW211: SQLAlchemy's own warning is given as before, at the application's line."""
    caught: list[warnings.WarningMessage] = []

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session, warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            session.scalar(sa.select(Item.id))
            session.connection(execution_options={"isolation_level": "SERIALIZABLE"})  # ASKED
            caught.extend(warned)
        return "ok"

    world.open()
    assert [(each.filename, each.lineno) for each in caught] == [(__file__, line("ASKED"))]
    assert len(world.told("SW211")) == 1


def test_asked_in_time(any_world: World) -> None:
    """SW211: a level asked for first, again by a helper, or after a commit is healthy; so are other options."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            session.add(Item(name="eve"))
            with session.no_autoflush:
                ask_for(session, "SERIALIZABLE")
                ask_for(session, "SERIALIZABLE")
            session.commit()
            ask_for(session, "READ UNCOMMITTED")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                session.connection(execution_options={"stream_results": True})
        return "ok"

    assert any_world.open().text == "ok"
    any_world.ticks()
    assert any_world.heard == []


def test_refused_by_core(any_world: World) -> None:
    """SW211: a Core connection refuses it with an error; told as a warning, or as info where it is swallowed."""

    @any_world.view(rule="/<how>")
    def view(how: str) -> str:
        with any_world.engine.connect() as connection:  # BEGUN
            connection.execute(sa.select(Item.id))
            with contextlib.suppress(*((sa.exc.InvalidRequestError,) if how == "swallow" else ())):
                connection.execution_options(isolation_level="SERIALIZABLE")  # ASKED
        return "ok"

    any_world.open("/swallow")
    assert [each.level for each in any_world.told("SW211")] == ["info"]
    any_world.open("/raise")
    finding = any_world.told("SW211")[-1]
    assert (finding.level, at(finding)) == ("warning", line("ASKED"))
    assert f"begun at tests/rules/test_timing.py:{line('BEGUN')}" in finding.text


# SW212 sql-in-after-commit


@pytest.mark.parametrize("swallowed", [False, True])
def test_query_in_after_commit(any_world: World, swallowed: bool) -> None:
    """SW212: SQL in an after_commit hook is an error at its line, a warning where the hook swallows that."""

    def hook(session: orm.Session) -> None:
        with contextlib.suppress(*((sa.exc.InvalidRequestError,) if swallowed else ())):
            session.scalar(sa.select(Item.id))  # QUERIED

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            sa.event.listen(session, "after_commit", hook)
            session.add(Item(name="eve"))
            session.commit()
        return "ok"

    assert any_world.open().status_code == (200 if swallowed else 500)
    finding = any_world.only("SW212")
    assert (finding.rule, finding.level) == ("sql-in-after-commit", "warning" if swallowed else "error")
    assert at(finding) == line("QUERIED")
    assert any_world.names() == [*BASE_NAMES, "eve"]


def test_second_connection_in_after_commit(any_world: World) -> None:
    """SW212: a hook that works on a connection of its own works, and is told as info."""

    def hook(session: orm.Session) -> None:
        with any_world.engine.connect() as connection:
            connection.scalar(sa.select(Item.id))

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            sa.event.listen(session, "after_commit", hook)
            session.add(Item(name="eve"))
            session.commit()
        return "ok"

    assert any_world.open().text == "ok"
    assert [each.level for each in any_world.told("SW212")] == ["info"]


def test_work_around_a_commit(any_world: World) -> None:
    """SW212: hooks before the commit or after the transaction, and work after commit() has returned, are healthy."""

    def hook(session: orm.Session, *rest: object) -> None:
        assert session.scalar(sa.select(Item.id).limit(1)) is not None

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            sa.event.listen(session, "before_commit", hook)
            sa.event.listen(session, "after_commit", lambda session: session.info.update(done=True))
            session.add(Item(name="eve"))
            session.commit()
            session.scalar(sa.select(Item.id))
        return "ok"

    assert any_world.open().text == "ok"
    any_world.ticks()
    assert any_world.heard == []


# SW215 premature-autoflush


@pytest.fixture
def ordering(any_world: World) -> World:
    """A world with orders."""
    Orders.metadata.create_all(any_world.engine)
    return any_world


def test_half_built(ordering: World) -> None:
    """SW215: an object that a query flushes before it is complete is told at the query."""
    db = ordering.flask_sqlalchemy()

    @ordering.view()
    def view() -> str:
        order = Order()
        db.session.add(order)
        order.item_id = t.cast(int, db.session.scalar(sa.select(Item.id)))  # QUERIED
        order.name = "complete"
        db.session.commit()
        return "ok"

    assert ordering.open().status_code == 500
    finding = ordering.only("SW215")
    assert (finding.rule, finding.level, at(finding)) == ("premature-autoflush", "warning", line("QUERIED"))
    assert "IntegrityError" in finding.message


def test_handled_where_it_is_raised(ordering: World) -> None:
    """SW215: an autoflush that fails and is rolled back by the view is told as info."""
    db = ordering.flask_sqlalchemy()

    @ordering.view()
    def view() -> tuple[str, int]:
        db.session.add(Item(name="ann"))
        try:
            return str(db.session.scalar(sa.select(Item.id))), 200
        except sa.exc.IntegrityError:
            db.session.rollback()
            flask.abort(409)

    assert ordering.open().status_code == 409
    assert [each.level for each in ordering.told("SW215")] == ["info"]
    assert ordering.heard == []


def test_built_in_peace(ordering: World) -> None:
    """SW215: what is built with autoflush off, or added when it is complete, is healthy."""
    db = ordering.flask_sqlalchemy()

    @ordering.view()
    def view() -> str:
        order = Order()
        db.session.add(order)
        with db.session.no_autoflush:
            order.item_id = t.cast(int, db.session.scalar(sa.select(Item.id)))
        order.name = "complete"
        db.session.scalar(sa.select(Item.id))
        db.session.commit()
        return "ok"

    assert ordering.open().text == "ok"
    ordering.ticks()
    assert ordering.heard == []


def test_refused_by_a_commit(ordering: World) -> None:
    """SW215: a row that is refused when it is committed, and not by a query, is no matter of autoflush."""
    db = ordering.flask_sqlalchemy()

    @ordering.view()
    def view() -> str:
        db.session.add(Item(name="ann"))
        db.session.commit()
        return "ok"

    assert ordering.open().status_code == 500
    assert ordering.told("SW215") == []
