"""Which scope work belongs to, what a scope is called, and that nothing on its way is changed."""

import contextvars
import gc
import io
import sys
import threading
import typing as t

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import EnvironBuilder
from werkzeug.test import run_wsgi_app
from werkzeug.wsgi import FileWrapper

from flask_sessionwatch import FindingRaised
from flask_sessionwatch import extension
from flask_sessionwatch import scope_ended
from flask_sessionwatch.observe.records import Scope
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line
from tests.rules.conftest import world_of


@pytest.fixture
def world(sqlite_url: str) -> t.Iterator[World]:
    """A watched application on SQLite."""
    with world_of(sqlite_url) as world:
        yield world


@pytest.fixture
def ended(world: World) -> t.Iterator[list[Scope]]:
    """The scopes that ended so far."""
    scopes: list[Scope] = []

    def hear(sender: object, scope: Scope) -> None:
        scopes.append(scope)

    with scope_ended.connected_to(hear):
        yield scopes


def fail(world: World) -> None:
    """Write, and raise before the commit."""
    with orm.Session(world.engine) as session:
        session.add(Item(name="eve"))
        session.flush()
        raise KeyError("no stock")


def names(scopes: list[Scope]) -> list[str]:
    return [scope.name for scope in scopes]


# Requests


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/", "GET /"),
        ("HEAD", "/", "HEAD /"),
        ("POST", "/", "POST <unmatched>"),  # the method is not allowed, so no rule matches
        ("GET", "/orders/17", "GET /orders/<int:number>"),
        ("GET", "/shop/cart", "GET /shop/cart"),
        ("GET", "/orders/none", "GET <unmatched>"),
        ("GET", "/static/none.css", "GET /static/<path:filename>"),
        ("BREW", "/", "OTHER <unmatched>"),
    ],
)
def test_name(world: World, ended: list[Scope], method: str, path: str, name: str) -> None:
    """A request is named by method and URL rule, never by its path; what matches no rule shares a name."""
    shop = flask.Blueprint("shop", __name__, url_prefix="/shop")
    shop.add_url_rule("/cart", view_func=lambda: "cart")
    world.app.register_blueprint(shop)
    world.app.add_url_rule("/", view_func=lambda: "ok")
    world.app.add_url_rule("/orders/<int:number>", "order", lambda number: f"order {number}")
    world.open(path, method=method)
    (scope,) = ended
    assert (scope.name, scope.kind) == (name, "request")


def test_status_commits_and_verdict(world: World, ended: list[Scope]) -> None:
    """A scope that has ended says its status, its commits and its verdict."""

    @world.view(rule="/<what>")
    def view(what: str) -> tuple[str, int]:
        with orm.Session(world.engine) as session:
            for name in ("eve", "fay"):
                session.add(Item(name=f"{what} {name}"))
                session.commit()
        if what == "leak":
            world.keep(world.engine.connect())
        return "ok", 201

    world.open("/fine")
    world.open("/leak")
    assert [(scope.status, scope.commits, scope.verdict) for scope in ended] == [
        (201, 2, "clean"),
        (201, 2, "error"),
    ]


def test_error(world: World, ended: list[Scope]) -> None:
    """The exception that left a view is remembered by its type, handled or not."""

    @world.app.errorhandler(KeyError)
    def answer(error: KeyError) -> str:
        return "sorry"

    @world.view(rule="/<what>")
    def view(what: str) -> str:
        raise {"key": KeyError, "value": ValueError}[what]("secret")

    assert [world.open("/key").status_code, world.open("/value").status_code] == [200, 500]
    assert [(scope.error, scope.status) for scope in ended] == [("KeyError", 200), ("ValueError", 500)]


def test_exception_that_is_not_handled(world: World, ended: list[Scope]) -> None:
    """An exception that leaves the application reaches its server, and its scope ends by its name."""
    world.app.testing = True

    @world.view(rule="/orders/<int:number>")
    def view(number: int) -> str:
        raise ValueError("no such order")

    with pytest.raises(ValueError, match="no such order"):
        world.open("/orders/3")
    assert [(scope.name, scope.error) for scope in ended] == [("GET /orders/<int:number>", "ValueError")]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_request_that_is_cut_short(world: World, ended: list[Scope], error: type[BaseException]) -> None:
    """What is no Exception, such as a worker's time-out, goes through, and its scope is named all the same."""

    @world.view(rule="/orders/<int:number>")
    def view(number: int) -> str:
        world.keep(world.engine.connect())  # LEAK
        raise error

    with pytest.raises(error):
        world.open("/orders/3")
    assert [(scope.name, scope.error) for scope in ended] == [("GET /orders/<int:number>", error.__name__)]
    assert at(world.only("SW101")) == line("LEAK")


@pytest.mark.parametrize("leaks", [False, True], ids=["clean", "leaking"])
def test_copy_of_a_request_context(world: World, ended: list[Scope], leaks: bool) -> None:
    """A request keeps its name although a copy of its context, which takes the request off the environ, has ended."""
    during: list[str | None] = []

    @world.view(rule="/orders/<int:number>")
    def view(number: int) -> str:
        @flask.copy_current_request_context
        def work() -> None:
            assert flask.request.path == f"/orders/{number}"

        in_thread(work)
        assert flask.request.environ["werkzeug.request"] is None
        kept = world.keep(world.engine.connect())
        during.extend(
            each.scope.name for each in extension._process.ledger.checkouts if each.scope is not None
        )
        if not leaks:
            kept.close()
        return "ok"

    world.open("/orders/3")
    assert during == ["GET /orders/<int:number>"]
    assert names(ended) == ["GET /orders/<int:number>"]
    assert [each.scope.name for each in world.watch.findings if each.scope] == names(ended) * leaks


def test_own_pages_are_no_scope(world: World, ended: list[Scope]) -> None:
    """The dashboard's own requests are not watched; a path that only begins like them is."""
    world.configure(url_prefix="/_sessionwatch")
    world.app.testing = True
    world.open("/_sessionwatch/api/v1/findings")
    assert ended == []
    world.open("/_sessionwatching")
    assert names(ended) == ["GET <unmatched>"]


def test_request_in_a_request(world: World, ended: list[Scope]) -> None:
    """A view that calls its own application has two scopes, and each keeps what it opened."""

    @world.view(rule="/inner")
    def inner() -> str:
        with orm.Session(world.engine) as session:
            return str(session.scalar(sa.select(Item.name)))

    @world.view(rule="/outer")
    def outer() -> str:
        text = world.open("/inner").text
        world.keep(world.engine.connect())  # LEAK
        return text

    assert world.open("/outer").text == "ann"
    assert names(ended) == ["GET /inner", "GET /outer"]
    finding = world.only("SW101")
    assert (at(finding), str(finding.scope)) == (line("LEAK"), "GET /outer")


def test_nothing_is_current_after_a_request(world: World, ended: list[Scope]) -> None:
    """After a request the calling code is in the scope it was in before."""
    world.app.add_url_rule("/", view_func=lambda: "ok")
    with world.watch.scope("test"):
        world.open()
        world.keep(world.engine.connect())
    assert names(ended) == ["GET /", "test"]
    assert str(world.only("SW101").scope) == "test"


def test_async_view(world: World) -> None:
    """An async view, which Flask runs on a thread of its own, is in its request's scope."""
    pytest.importorskip("asgiref")

    @world.view(rule="/<what>")
    async def view(what: str) -> str:
        if what == "leak":
            world.keep(orm.Session(world.engine)).scalar(sa.select(Item.id))  # LEAK
        with orm.Session(world.engine) as session:
            return str(session.scalar(sa.select(Item.name)))

    assert world.open("/fine").text == "ann"
    world.ticks()
    assert world.heard == []
    world.open("/leak")
    world.wait_for("SW201")
    assert at(world.only("SW201")) == line("LEAK")


def test_teardown_that_raises(world: World) -> None:
    """An exception in a teardown function reaches the server, and leaves neither scope nor connection behind."""
    db = world.flask_sqlalchemy()
    world.app.testing = True

    @world.app.teardown_request
    def teardown(error: BaseException | None) -> None:
        raise ValueError("in teardown")

    @world.view()
    def view() -> str:
        return str(db.session.scalar(sa.select(Item.name)))

    with pytest.raises(ValueError, match="in teardown"):
        world.open()
    gc.collect()
    assert {finding.code for finding in world.watch.findings} <= {"SW201", "SW102"}


def test_raise(world: World) -> None:
    """A rule named in SESSIONWATCH_RAISE raises where its scope ends, with the text of the finding."""
    world.app.config["SESSIONWATCH_RAISE"] = ["SW101"]
    world.configure()

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    with pytest.raises(FindingRaised, match="SW101 leaked-connection: GET / ended with"):
        world.open()


# Bodies


class Body:
    """An iterable that says what was done to it."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> t.Iterator[bytes]:
        return self.chunks

    def close(self) -> None:
        self.closed += 1


def serve(world: World, body: t.Any, headers: t.Sequence[tuple[str, str]] = ()) -> t.Any:
    """Let the application answer *body* as plain WSGI, and return what a server would be given."""

    def application(environ: t.Any, start_response: t.Any) -> t.Any:
        start_response("200 OK", list(headers))
        return body

    watched = t.cast(t.Any, world.app.wsgi_app).__self__
    watched.application = application
    return world.app.wsgi_app(EnvironBuilder().get_environ(), lambda *args: lambda data: None)


def test_body_is_sent_and_closed(world: World, ended: list[Scope]) -> None:
    """Every chunk of a streamed body arrives, and close() reaches it once; its scope ends with that."""
    body = Body(b"one", b"two")
    answer = serve(world, body)
    assert [*answer] == [b"one", b"two"]
    assert ended == []
    answer.close()
    assert (body.closed, len(ended)) == (1, 1)
    answer.close()
    assert len(ended) == 1


def test_body_without_close(world: World, ended: list[Scope]) -> None:
    """A body that has no close() may be closed all the same."""
    answer = serve(world, iter([b"one"]))
    assert [*answer] == [b"one"]
    answer.close()
    assert len(ended) == 1


@pytest.mark.parametrize("body", [[b"one"], (b"one",), ()])
def test_whole_body(world: World, ended: list[Scope], body: t.Any) -> None:
    """A body that is complete reaches the server untouched, and its scope ends at once."""
    assert serve(world, body) is body
    assert len(ended) == 1


def test_file_for_the_server(world: World) -> None:
    """A file wrapper of the server reaches it untouched, since it would not know another type."""
    environ = EnvironBuilder().get_environ()
    environ["wsgi.file_wrapper"] = FileWrapper
    body = FileWrapper(io.BytesIO(b"one"))

    def application(environ: t.Any, start_response: t.Any) -> t.Any:
        start_response("200 OK", [])
        return body

    t.cast(t.Any, world.app.wsgi_app).__self__.application = application
    assert world.app.wsgi_app(environ, lambda *args: lambda data: None) is body


def test_close_that_raises(world: World, ended: list[Scope]) -> None:
    """An exception in the body's close() goes through, and the scope ends."""

    class Bad(Body):
        def close(self) -> None:
            raise ValueError("in close")

    answer = serve(world, Bad(b"one"))
    with pytest.raises(ValueError, match="in close"):
        answer.close()
    assert len(ended) == 1


def test_body_that_raises(world: World, ended: list[Scope]) -> None:
    """An exception in the middle of a body goes through, and its scope is named after it."""

    def lines() -> t.Iterator[bytes]:
        yield b"one"
        raise ValueError("in body")

    answer = serve(world, lines())
    assert next(answer) == b"one"
    with pytest.raises(ValueError, match="in body"):
        next(answer)
    answer.close()
    assert [scope.error for scope in ended] == ["ValueError"]


def test_body_that_is_dropped(world: World, ended: list[Scope]) -> None:
    """A body that the server drops without close() ends its scope."""
    answer = serve(world, Body(b"one"))
    next(answer)
    del answer
    gc.collect()
    assert len(ended) == 1


def test_start_response_in_the_body(world: World, ended: list[Scope]) -> None:
    """An application that starts its response in the body, writes, and starts it again, is served as ever."""
    calls: list[tuple[t.Any, ...]] = []
    written: list[bytes] = []

    def start_response(*args: t.Any) -> t.Callable[[bytes], None]:
        calls.append(args)
        return written.append

    def application(environ: t.Any, start_response: t.Any) -> t.Iterator[bytes]:
        start_response("200 OK", [("X-One", "1")])(b"written")
        start_response("500 Oh", [], (ValueError, None, None))
        yield b"one"

    t.cast(t.Any, world.app.wsgi_app).__self__.application = application
    body = t.cast(t.Any, world.app.wsgi_app(EnvironBuilder().get_environ(), start_response))
    assert [*body] == [b"one"]
    body.close()
    assert calls == [("200 OK", [("X-One", "1")]), ("500 Oh", [], (ValueError, None, None))]
    assert written == [b"written"]
    assert [scope.status for scope in ended] == [500]


def test_two_bodies_in_turn(world: World, ended: list[Scope]) -> None:
    """Two bodies that one thread sends in turn keep their scopes apart."""

    @world.view(rule="/<what>")
    def view(what: str) -> flask.Response:
        def lines() -> t.Iterator[str]:
            yield what
            if what == "leak":
                world.keep(world.engine.connect())  # LEAK
            yield "!"

        return flask.Response(lines())

    client = world.app.test_client()
    fine, leak = client.get("/fine"), client.get("/leak")
    first, second = iter(fine.iter_encoded()), iter(leak.iter_encoded())
    assert [next(first), next(second), next(second), next(first)] == [b"fine", b"leak", b"!", b"!"]
    fine.close()
    assert world.heard == []
    leak.close()
    assert at(world.only("SW101")) == line("LEAK")
    assert len(ended) == 2


def test_environ_is_not_kept(world: World, ended: list[Scope]) -> None:
    """A scope that has ended keeps neither cookies nor headers of its request."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    world.open(headers={"Authorization": "Bearer secret"})
    (scope,) = ended
    assert scope.environ is None
    assert scope.start_response is None


def test_dispatcher(world: World) -> None:
    """A watched application that is mounted below a path names its requests by its own rules."""

    @world.view(rule="/leak")
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    mounted = DispatcherMiddleware(lambda environ, start_response: [b"outer"], {"/shop": world.app})
    app_iter, status, _ = run_wsgi_app(mounted, EnvironBuilder("/shop/leak").get_environ(), buffered=True)
    assert (b"".join(app_iter), status) == (b"ok", "200 OK")
    assert str(world.only("SW101").scope) == "GET /leak"


# App contexts and commands


def test_app_context(world: World, ended: list[Scope]) -> None:
    """A bare app context is a scope once it uses the database, and one that does not is none."""
    with world.app.app_context():
        pass
    assert ended == []
    with world.app.app_context(), world.engine.connect():
        assert ended == []
    assert [(scope.name, scope.kind) for scope in ended] == [("app context", "app_context")]


def test_error_in_an_app_context(world: World, ended: list[Scope]) -> None:
    """An exception that leaves an app context goes through and is remembered by its type."""
    with pytest.raises(KeyError, match="no stock"), world.app.app_context():
        fail(world)
    assert [scope.error for scope in ended] == ["KeyError"]
    assert world.heard == []


def test_app_context_pushed_and_popped(world: World, ended: list[Scope]) -> None:
    """A context that is pushed and popped by hand is a scope, also when it is pushed a second time."""
    context = world.app.app_context()
    for _ in range(2):
        context.push()
        world.keep(world.engine.connect())
        context.pop()
    assert len(world.told("SW101")) == 1
    assert world.only("SW101").count == 2


def test_test_request_context(world: World) -> None:
    """A test's request context is a scope like an app context."""
    with world.app.test_request_context("/"):
        world.keep(world.engine.connect())  # LEAK
    assert at(world.only("SW101")) == line("LEAK")


def test_nested_app_contexts(world: World) -> None:
    """What an inner context leaves is told once, at the latest when the outer one ends."""
    with world.app.app_context():
        world.engine.connect().close()
        with world.app.app_context():
            world.keep(world.engine.connect())  # INNER
    finding = world.only("SW101")
    assert (at(finding), finding.count) == (line("INNER"), 1)


def test_context_of_another_application(world: World, ended: list[Scope]) -> None:
    """The context of an application that is not watched is no scope of ours, and works as ever."""
    other = flask.Flask("other")
    with other.app_context(), world.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    assert ended == []


def test_command(world: World, ended: list[Scope]) -> None:
    """A command is a scope named after it, and a command of a group after that as well."""

    @world.app.cli.command("import")
    def load() -> None:
        world.engine.connect().close()

    @world.app.cli.group()
    def shop() -> None:
        """The shop's own commands."""

    @shop.command("close")
    def close() -> None:
        world.engine.connect().close()

    runner = world.app.test_cli_runner()
    runner.invoke(args=["import"])
    runner.invoke(args=["shop", "close"])
    assert [(scope.name, scope.kind) for scope in ended] == [
        ("flask import", "command"),
        ("flask shop close", "command"),
    ]


def test_command_that_fails(world: World, ended: list[Scope]) -> None:
    """A command that raises is remembered by its exception, which the runner still gets."""

    @world.app.cli.command("import")
    def load() -> None:
        with orm.Session(world.engine) as session:
            session.add(Item(name="eve"))
            session.flush()
            raise KeyError("no file")

    result = world.app.test_cli_runner().invoke(args=["import"])
    assert isinstance(result.exception, KeyError)
    assert [scope.error for scope in ended] == ["KeyError"]
    assert world.heard == []


# Explicit scopes


def test_explicit(world: World, ended: list[Scope]) -> None:
    """A block, and each call of a decorated function, is a scope of its name and kind."""

    @world.watch.scope("job", kind="task")
    def job(number: int) -> int:
        return number + 1

    with world.watch.scope("import"):
        pass
    assert [job(1), job(2)] == [2, 3]
    assert [(scope.name, scope.kind) for scope in ended] == [
        ("import", "explicit"),
        ("job", "task"),
        ("job", "task"),
    ]


def test_explicit_error(world: World, ended: list[Scope]) -> None:
    """An exception that leaves the block goes through; its writes were not forgotten."""
    with pytest.raises(KeyError, match="no stock"), world.watch.scope("import"):
        fail(world)
    assert [scope.error for scope in ended] == ["KeyError"]
    assert world.heard == []


def test_recursive_decorator(world: World, ended: list[Scope]) -> None:
    """A decorated function that calls itself has a scope per call, the inner ones ending first."""

    @world.watch.scope("walk")
    def walk(depth: int) -> None:
        if depth:
            walk(depth - 1)

    walk(2)
    assert names(ended) == ["walk", "walk", "walk"]
    assert [scope.parent for scope in ended] == [ended[1], ended[2], None]


def test_explicit_in_a_request(world: World, ended: list[Scope]) -> None:
    """A block inside a request keeps what was opened in it; the request's own is the request's."""

    @world.view()
    def view() -> str:
        with world.engine.connect(), world.watch.scope("report"):
            world.keep(world.engine.connect())  # INNER
        return "ok"

    world.open()
    (finding,) = world.told("SW101")
    assert (at(finding), str(finding.scope)) == (line("INNER"), "report")
    assert names(ended) == ["report", "GET /"]


def test_explicit_around_an_app_context(world: World) -> None:
    """A session of an app context inside a block is the context's, and ends with it."""
    db = world.flask_sqlalchemy()
    with world.watch.scope("job"), world.app.app_context():
        db.session.add(Item(name="eve"))
        db.session.commit()
        db.session.scalar(sa.select(Item.id))
    world.ticks()
    assert world.heard == []


def test_explicit_inside_an_app_context(world: World) -> None:
    """The context's session, used in a block and left to the context, is healthy."""
    db = world.flask_sqlalchemy()
    with world.app.app_context():
        for name in ("eve", "fay"):
            with world.watch.scope("job"):
                db.session.add(Item(name=name))
                db.session.commit()
                db.session.scalar(sa.select(Item.id))
    world.ticks()
    assert world.heard == []


def test_threads_have_scopes_of_their_own(world: World, ended: list[Scope]) -> None:
    """Blocks of several threads at once do not see each other."""
    together = threading.Barrier(4)

    def work(number: int) -> None:
        with world.watch.scope(f"job {number}"):
            together.wait(10)
            connection = world.engine.connect()
            together.wait(10)
            if number == 2:
                world.keep(connection)
            else:
                connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert str(world.only("SW101").scope) == "job 2"
    assert sorted(names(ended)) == ["job 0", "job 1", "job 2", "job 3"]


def test_copied_context(world: World) -> None:
    """Work that is handed to a thread with a copy of the context belongs to the scope that handed it over."""

    def work() -> None:
        world.keep(world.engine.connect())  # LEAK

    with world.watch.scope("import"):
        context = contextvars.copy_context()
        in_thread(lambda: context.run(work))
    finding = world.only("SW101")
    assert (at(finding), str(finding.scope)) == (line("LEAK"), "import")


def test_copied_context_after_its_scope(world: World) -> None:
    """Work in a copied context whose scope is over is work outside of any scope."""
    with world.watch.scope("import"):
        context = contextvars.copy_context()

    def work() -> None:
        with orm.Session(world.engine) as session:
            session.add(Item(name="eve"))
            session.flush()

    in_thread(lambda: context.run(work))
    finding = world.wait_for("SW204")
    assert finding.scope is None


def test_generator_that_is_left_open(world: World) -> None:
    """A scope that a generator opens and that is closed in another context neither raises nor stays current."""

    def lines() -> t.Iterator[int]:
        with world.watch.scope("lines"):
            yield 1
            yield 2

    generator = lines()
    assert next(generator) == 1
    with world.engine.connect():
        pass
    generator.close()  # type: ignore[attr-defined]
    world.keep(world.engine.connect())
    world.ticks()
    assert world.heard == []


def test_generator_closed_on_another_thread(world: World, ended: list[Scope]) -> None:
    """A scope of a generator that another thread closes ends without an exception."""

    def lines() -> t.Iterator[int]:
        with world.watch.scope("lines"):
            yield 1

    generator = t.cast("t.Generator[int]", lines())
    next(generator)
    in_thread(generator.close)
    assert names(ended) == ["lines"]


def test_healthy_scopes_are_not_asked_about(world: World) -> None:
    """A finding's scope is the request's, although another one ran in between on the same thread."""

    @world.view(rule="/<what>")
    def view(what: str) -> str:
        if what == "leak":
            world.keep(world.engine.connect())
        return what

    for what in ("fine", "leak", "fine"):
        assert world.open(f"/{what}").text == what
    assert str(world.only("SW101").scope) == "GET /<what>"
    assert sys.exc_info() == (None, None, None)
