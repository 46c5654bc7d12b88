"""SW302, SW305 and SW306: sessions and the app contexts they belong to."""

import typing as t

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line

NAMES = sa.select(Item.name)

# SW302 session-after-teardown


def test_closed_session_in_a_stream(any_world: World) -> None:
    """SW302: a generator that goes on with a Session which teardown has closed is told, at its line."""

    @any_world.app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        flask.g.session.close()

    @any_world.view()
    def view() -> flask.Response:
        session = flask.g.session = any_world.keep(orm.Session(any_world.engine))

        def names() -> t.Iterator[str]:
            for name in session.scalars(NAMES):  # REOPENED
                yield str(name)

        return flask.Response(names())

    any_world.open()
    (finding,) = any_world.told("SW302")
    assert (finding.rule, finding.level, at(finding)) == (
        "session-after-teardown",
        "warning",
        line("REOPENED"),
    )
    assert str(finding.scope) == "GET /"
    assert "after its teardown, while its body was sent" in finding.message
    assert set(any_world.heard) == {"SW201 error", "SW302 warning"}


def test_registry_in_a_stream(world: World) -> None:
    """SW302: a generator that takes a new Session from a registry which teardown has removed is told."""
    registry = orm.scoped_session(orm.sessionmaker(world.engine))
    world.app.teardown_appcontext(lambda error: registry.remove())

    @world.view()
    def view() -> flask.Response:
        registry.scalars(NAMES).all()

        def names() -> t.Iterator[str]:
            for name in registry.scalars(NAMES):  # TAKEN
                yield str(name)

        return flask.Response(names())

    try:
        world.open()
    finally:
        registry.remove()
    assert [line("TAKEN")] == [at(each) for each in world.told("SW302")]


def _scalars_to_the_end(session: orm.Session) -> t.Iterator[str]:
    with session:
        yield from session.scalars(NAMES)


def _own_session(world: World) -> flask.Response:
    return flask.Response(_scalars_to_the_end(orm.Session(world.engine)))


def _older_session_that_is_closed(world: World) -> flask.Response:
    session = orm.Session(world.engine)
    return flask.Response(_scalars_to_the_end(session))


def _with_context(world: World) -> flask.Response:
    db = flask.current_app.extensions["sqlalchemy"]
    db.session.scalars(NAMES).all()

    def names() -> t.Iterator[str]:
        yield from db.session.scalars(NAMES)

    return flask.Response(flask.stream_with_context(names()))


@pytest.mark.parametrize("answer", [_own_session, _older_session_that_is_closed, _with_context])
def test_healthy_stream(any_world: World, answer: t.Callable[[World], flask.Response]) -> None:
    """SW302: a generator that closes its session, and one under stream_with_context, are not told."""
    any_world.flask_sqlalchemy()
    any_world.view()(lambda: answer(any_world))
    assert any_world.open().data == b"annbob"
    assert any_world.heard == []


def test_session_of_the_view_under_stream_with_context(world: World) -> None:
    """SW302: the view's Session, kept past the first teardown under stream_with_context, is told."""
    db = world.flask_sqlalchemy()

    @world.view()
    def view() -> flask.Response:
        session = world.keep(db.session())

        def names() -> t.Iterator[str]:
            yield from session.scalars(NAMES)  # KEPT

        return flask.Response(flask.stream_with_context(names()))

    world.open()
    assert [line("KEPT")] == [at(each) for each in world.told("SW302")]


def _late_teardown(world: World, work: t.Callable[[SQLAlchemy], object]) -> None:
    """Register a teardown function that runs after Flask-SQLAlchemy's own."""
    made: list[SQLAlchemy] = []

    @world.app.teardown_appcontext
    def late(error: BaseException | None) -> None:
        for db in made:
            work(db)

    made.append(world.flask_sqlalchemy())


def test_teardown_function_before_init_app(any_world: World) -> None:
    """SW302: a teardown function that runs after the session was removed, and opens another, is told."""

    def count(db: SQLAlchemy) -> None:
        any_world.keep(db.session()).scalars(NAMES).all()  # LATE

    _late_teardown(any_world, count)
    any_world.view()(lambda: "ok")
    any_world.open()
    (finding,) = any_world.told("SW302")
    assert at(finding) == line("LATE")
    assert "while its teardown ran" in finding.message


def test_teardown_function_of_a_bare_context(world: World) -> None:
    """SW302: the same is told of an app context that is no request."""

    def count(db: SQLAlchemy) -> None:
        world.keep(db.session()).scalars(NAMES).all()  # LATE

    _late_teardown(world, count)
    with world.app.app_context():
        world.app.extensions["sqlalchemy"].session.scalars(NAMES).all()
    (finding,) = world.told("SW302")
    assert at(finding) == line("LATE")
    assert str(finding.scope) == "app context"


def test_teardown_function_that_closes(any_world: World) -> None:
    """SW302: a late teardown function that closes what it opened is healthy."""

    def count(db: SQLAlchemy) -> None:
        with orm.Session(db.engine) as session:
            session.scalars(NAMES).all()
        db.session.scalars(NAMES).all()
        db.session.remove()

    _late_teardown(any_world, count)
    any_world.view()(lambda: "ok")
    any_world.open()
    assert any_world.heard == []


def test_teardown_function_after_init_app(any_world: World) -> None:
    """SW302: a teardown function that runs before the session is removed is healthy."""
    db = any_world.flask_sqlalchemy()

    @any_world.app.teardown_appcontext
    def count(error: BaseException | None) -> None:
        db.session.scalars(NAMES).all()

    any_world.view()(lambda: "ok")
    any_world.open()
    assert any_world.heard == []


def test_receiver_of_a_late_signal(world: World) -> None:
    """SW302: a receiver of appcontext_tearing_down that opens a session of the removed registry is told."""
    db = world.flask_sqlalchemy()

    def receiver(sender: flask.Flask, **extra: t.Any) -> None:
        world.keep(db.session()).scalars(NAMES).all()  # LATE

    world.view()(lambda: "ok")
    with flask.appcontext_tearing_down.connected_to(receiver, world.app):
        world.open()
    assert [line("LATE")] == [at(each) for each in world.told("SW302")]


# SW306 nested-context

EXTENSIONS = ["flask_sqlalchemy", "flask_sqlalchemy_lite"]


def _eve(session: t.Any) -> None:
    session.add(Item(name="eve"))


def _eve_flushed(session: t.Any) -> None:
    session.add(Item(name="eve"))
    session.flush()


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("write", [_eve, _eve_flushed])
def test_nested_context(world: World, extension: str, write: t.Callable[[t.Any], None]) -> None:
    """SW306: a nested app context whose session begins while the outer one's is uncommitted is told as info."""
    db: t.Any = getattr(world, extension)()

    @world.view()
    def view() -> str:
        write(db.session)
        with world.app.app_context():
            names = db.session.scalars(NAMES).all()  # NESTED
        db.session.commit()
        return str(names)

    assert "eve" not in world.open().text
    (finding,) = world.told("SW306")
    assert (finding.rule, finding.level, at(finding)) == ("nested-context", "info", line("NESTED"))
    assert str(finding.scope) == "GET /"
    assert world.heard == []


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_healthy_nested_context(world: World, extension: str) -> None:
    """SW306: after a commit, after mere reading, and for a session that belongs to no context, nothing is told."""
    db: t.Any = getattr(world, extension)()

    @world.view()
    def view() -> str:
        db.session.add(Item(name="eve"))
        db.session.commit()
        with world.app.app_context():
            db.session.scalars(NAMES).all()
        db.session.scalars(NAMES).all()
        with world.app.app_context():
            db.session.scalars(NAMES).all()
        _eve(db.session)
        with world.app.app_context(), orm.Session(world.engine) as session:
            session.scalars(NAMES).all()
        db.session.rollback()
        return "ok"

    world.open()
    assert world.told("SW306") == []
    assert world.heard == []


def test_two_sessions_of_one_context(world: World) -> None:
    """SW306: a second session in the same app context is no nested context."""
    db = world.flask_sqlalchemy_lite()

    @world.view()
    def view() -> str:
        _eve(db.session)
        db.get_session("audit").scalars(NAMES).all()
        db.session.rollback()
        return "ok"

    world.open()
    assert world.told("SW306") == []
