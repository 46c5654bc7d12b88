"""SW302, SW305 and SW306: sessions and the app contexts they belong to."""

import gc
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm
from werkzeug.test import EnvironBuilder

from flask_sessionwatch import extension
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
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
    happened: list[str] = []

    @world.app.teardown_appcontext
    def note(error: BaseException | None) -> None:
        happened.append("teardown")

    @world.view()
    def view() -> flask.Response:
        session = world.keep(db.session())

        def names() -> t.Iterator[str]:
            happened.append("stream")
            yield from session.scalars(NAMES)  # KEPT

        return flask.Response(flask.stream_with_context(names()))

    world.open()
    # Flask 3.0 puts the only teardown off until the body is sent, and all is well.
    early = happened[0] == "teardown"
    assert ([line("KEPT")] if early else []) == [at(each) for each in world.told("SW302")]


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


# SW305 context-leak


class Server:
    """One thread that serves requests, with nothing of the application below them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pool = ThreadPoolExecutor(1)

    def run(self, work: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
        """Run something on that thread, as a hook of the server."""
        return self._pool.submit(work, *args).result()

    def get(self, path: str = "/") -> None:
        """Serve a request as far as the server's own code goes."""
        environ = EnvironBuilder(path=path).get_environ()
        body = self.run(self._world.app, environ, lambda status, headers: None)
        self.run(body.close)

    def stop(self) -> None:
        """End the thread."""
        self._pool.shutdown()


@pytest.fixture
def server(world: World) -> t.Iterator[Server]:
    """A server's thread, for an application with Flask-SQLAlchemy that reads at /."""
    db = world.flask_sqlalchemy()

    @world.view()
    def view() -> str:
        return str(db.session.scalars(NAMES).all())  # READ

    server = Server(world)
    yield server
    server.stop()


def test_context_around_a_server(world: World, server: Server) -> None:
    """SW305: requests that run in an app context which nobody below them can pop are told, at their session."""
    context = world.app.app_context()
    server.run(context.push)
    server.get()
    server.get()
    finding = world.only("SW305")
    assert (finding.rule, finding.level, at(finding)) == ("context-leak", "error", line("READ"))
    assert str(finding.scope) == "GET /"
    assert "that was never popped" in finding.message
    server.run(context.pop, None)


def test_context_that_was_popped_in_time(world: World, server: Server) -> None:
    """SW305: an app context that is popped before the requests come is healthy."""
    context = world.app.app_context()
    server.run(context.push)
    server.run(lambda: world.app.extensions["sqlalchemy"].session.scalars(NAMES).all())
    server.run(context.pop, None)
    server.get()
    assert world.heard == []


def test_context_around_requests_of_a_test(any_world: World) -> None:
    """SW305: a test that holds an app context around its requests is healthy."""
    db = any_world.flask_sqlalchemy()
    any_world.view()(lambda: str(db.session.scalars(NAMES).all()))
    with any_world.app.app_context():
        for _ in range(2):
            any_world.open()
            db.session.rollback()
    context = any_world.app.app_context()
    context.push()
    any_world.open()
    any_world.open()
    context.pop()
    assert any_world.heard == []


def test_context_is_followed_once(world: World) -> None:
    """SW305: the scope of an outer app context ends once, also after several requests have run inside of it."""
    db = world.flask_sqlalchemy()
    world.view()(lambda: str(db.session.scalars(NAMES).all()))
    with world.app.app_context():
        for _ in range(3):
            world.open()
            db.session.rollback()
    assert extension._process.ledger.scopes == set()


def test_context_of_an_abandoned_stream(world: World, server: Server) -> None:
    """SW305: a request in the session of a stream that the server never closed is told."""
    db = world.app.extensions["sqlalchemy"]

    @world.view(rule="/chat")
    def chat() -> flask.Response:
        def names() -> t.Iterator[str]:
            yield from db.session.scalars(NAMES).all()  # STREAMED

        return flask.Response(flask.stream_with_context(names()))

    environ = EnvironBuilder(path="/chat").get_environ()
    body = server.run(world.app, environ, lambda status, headers: None)
    server.run(next, body)
    server.get()
    (finding,) = world.told("SW305")
    assert at(finding) == line("STREAMED")
    assert "of GET /chat, whose body was abandoned" in finding.message
    server.run(body.close)


def test_request_inside_a_request(world: World) -> None:
    """SW305: a view that calls its own application shares the context, and that is meant."""
    db = world.flask_sqlalchemy()
    world.view(rule="/inner")(lambda: str(db.session.scalars(NAMES).all()))

    @world.view()
    def view() -> str:
        db.session.scalars(NAMES).all()
        return world.open("/inner").text

    assert "ann" in world.open().text
    assert world.heard == []


def test_idle_thread_of_a_pool(world: World, server: Server) -> None:
    """SW305: a job that pushes an app context on a thread of a pool, and leaves it so, is told."""
    db = world.app.extensions["sqlalchemy"]
    contexts: list[t.Any] = []

    def job() -> None:
        contexts.append(world.app.app_context())
        contexts[0].push()
        db.session.scalars(NAMES).all()  # JOB

    server.run(job)
    finding = world.wait_for("SW305")
    assert at(finding) == line("JOB")
    assert "went idle and left an app context pushed" in finding.message
    world.ticks()
    assert finding.count == 1
    server.run(contexts[0].pop, None)


def test_thread_that_works_in_a_context(world: World) -> None:
    """SW305: a thread that is still inside of its app context is healthy, however long it waits."""
    db = world.flask_sqlalchemy()
    done, begun = threading.Event(), threading.Event()

    def work() -> None:
        with world.app.app_context():
            db.session.scalars(NAMES).all()
            begun.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    world.ticks()
    done.set()
    thread.join()
    assert world.told("SW305") == []


def test_context_that_was_collected(world: World, server: Server) -> None:
    """SW305: a context that dies with its thread, after requests had run inside of it, is told once as that."""

    def serve() -> None:
        world.app.app_context().push()
        world.open()

    in_thread(serve)
    gc.collect()
    world.watch.tick()
    (finding,) = world.told("SW305")
    assert at(finding) == line("READ")
    assert "after requests had run inside of it (1)" in finding.message
    assert world.told("SW301") == []
    world.app.extensions["sqlalchemy"].session.registry.registry.popitem()[1].close()


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
