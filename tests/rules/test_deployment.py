"""SW704, SW706, SW708, SW709: what does not fit the server, its threads and its processes."""

import json
import os
import sys
import threading
import types
import typing as t

import prometheus_client.values
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import extension
from flask_sessionwatch.observe.server import Server
from flask_sessionwatch.observe.server import server_around
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line

SMALL: dict[str, t.Any] = {"pool_size": 1, "max_overflow": 1}


def setup_of(world: World) -> t.Any:
    return world.watch._watched[0].setup


def reading_view(world: World, engine: sa.Engine) -> None:
    @world.view()
    def view() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(sa.select(Item.name)))


def serve_on_threads(world: World, number: int) -> None:
    """Serve a request on each of several threads of a pool, one after the other, while all of them live."""
    together = threading.Barrier(number + 1)

    def work(turn: threading.Lock) -> None:
        with turn:
            world.open()
        together.wait()
        together.wait()

    turn = threading.Lock()
    threads = [threading.Thread(target=work, args=(turn,)) for _ in range(number)]
    for thread in threads:
        thread.start()
    together.wait()
    world.ticks(1)
    together.wait()
    for thread in threads:
        thread.join()


# SW704


def test_pool_smaller_than_threads(any_world: World) -> None:
    """SW704: more living threads that serve requests than connections are told once, with both numbers."""
    reading_view(any_world, any_world.make_engine(**SMALL))
    serve_on_threads(any_world, 3)
    any_world.ticks(1)
    finding = any_world.only("SW704")
    assert (finding.rule, finding.level, finding.count) == ("pool-smaller-than-threads", "warning", 1)
    assert (finding.details["capacity"], finding.details["threads"]) == (2, 3)


def test_as_many_threads_as_connections(world: World) -> None:
    """SW704: a pool that is large enough for each thread is healthy."""
    reading_view(world, world.make_engine(**SMALL))
    serve_on_threads(world, 2)
    assert world.heard == []


@pytest.mark.parametrize("options", [{"poolclass": sa.NullPool}, {"pool_size": 1, "max_overflow": -1}])
def test_pool_without_limit(world: World, options: dict[str, t.Any]) -> None:
    """SW704: a pool that gives every thread a connection is healthy."""
    reading_view(world, world.make_engine(**options))
    serve_on_threads(world, 3)
    assert world.heard == []


def test_a_thread_for_each_request(world: World) -> None:
    """SW704: threads that are over do not count: a development server makes one for each request."""
    reading_view(world, world.make_engine(**SMALL))
    for _ in range(4):
        in_thread(world.open)
    world.ticks(1)
    assert world.heard == []


def test_threads_of_another_engine(world: World) -> None:
    """SW704: an engine is judged by the threads that use it."""
    small = world.make_engine(**SMALL)

    @world.view(rule="/report")
    def report() -> str:
        with small.connect() as connection:
            return str(connection.scalar(sa.select(Item.name)))

    reading_view(world, world.engine)
    world.open("/report")
    serve_on_threads(world, 3)
    assert world.heard == []


def test_threads_of_the_server(world: World) -> None:
    """SW704: a server's configured threads count before all of them have come."""
    setup_of(world).made_by = Server("gunicorn", 1, 16)
    reading_view(world, world.make_engine(**SMALL))
    world.open()
    world.ticks(1)
    assert "gunicorn runs 16 threads" in world.only("SW704").message


# Servers


class Arbiter:
    """Stands for gunicorn's worker: it runs code of a file of that name, and has a configuration."""

    def __init__(self, **config: t.Any) -> None:
        self.cfg = types.SimpleNamespace(**config)

    def run(self) -> Server | None:
        source = "def run(self, look):\n    return look()\n"
        namespace: dict[str, t.Any] = {}
        exec(compile(source, "/lib/gunicorn/workers/base.py", "exec"), namespace)  # noqa: S102, a file of that name
        found: Server | None = namespace["run"](self, lambda: server_around(sys._getframe()))
        return found


@pytest.mark.parametrize(("kind", "threads"), [("gthread", 8), ("sync", 1), ("gevent", 1)])
def test_gunicorn(kind: str, threads: int) -> None:
    """SW704, SW709: gunicorn is recognised by its code on the stack."""
    assert Arbiter(workers=4, threads=8, worker_class_str=kind).run() == Server("gunicorn", 4, threads)


def test_gunicorn_of_another_kind() -> None:
    """SW704, SW709: code below a folder of that name that has no such configuration is no server."""
    assert Arbiter().run() is None


def test_uwsgi(monkeypatch: pytest.MonkeyPatch) -> None:
    """SW704, SW709: uWSGI tells of itself by a module that there is only inside of it."""
    uwsgi = types.SimpleNamespace(opt={"threads": b"4"}, numproc=3)
    monkeypatch.setitem(sys.modules, "uwsgi", t.cast(types.ModuleType, uwsgi))
    assert server_around(None) == Server("uWSGI", 3, 4)


def test_waitress() -> None:
    """SW704: waitress starts its threads at once, and names them."""
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, name=f"waitress-{number}") for number in range(4)]
    for thread in threads:
        thread.start()
    found = server_around(None)
    done.set()
    for thread in threads:
        thread.join()
    assert found == Server("waitress", 1, 4)
    assert server_around(None) is None


# SW706


def in_child(world: World, work: t.Callable[[], object]) -> list[t.Any]:
    """Fork as a server does, run *work* in the child, and return what was told there."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            world.watch.tick()
            told = [[each.code, at(each), each.message] for each in world.watch.findings]
            os.write(into, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as file:
        told = json.loads(file.read())
    os.waitpid(pid, 0)
    return [each for each in told if each[0] == "SW706"]


def connect(engine: sa.Engine) -> None:
    with engine.connect() as connection:  # CONNECTED
        connection.scalar(sa.select(Item.name))


@pytest.fixture
def preloaded(any_world: World) -> sa.Engine:
    """An engine that has connected before the fork, in an application that serves a page without it."""
    any_world.engine.dispose()
    any_world.app.add_url_rule("/", view_func=lambda: "ok")
    engine = any_world.make_engine()
    connect(engine)
    return engine


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_connected_before_fork(any_world: World, preloaded: sa.Engine) -> None:
    """SW706: a worker that inherited open connections is told, with the line that used them last."""
    ((code, lineno, message),) = in_child(any_world, any_world.open)
    assert (code, lineno) == ("SW706", line("CONNECTED"))
    assert "1 connection was open" in message
    any_world.ticks(1)
    assert any_world.told("SW706") == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_disposed_before_fork(any_world: World, preloaded: sa.Engine) -> None:
    """SW706: a pool that was disposed of before the fork is healthy."""
    preloaded.dispose()
    assert in_child(any_world, any_world.open) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_disposed_after_fork(any_world: World, preloaded: sa.Engine) -> None:
    """SW706: a worker that gives its engine a new pool is healthy."""

    def work() -> None:
        preloaded.dispose(close=False)
        any_world.open()

    assert in_child(any_world, work) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_that_is_no_worker(any_world: World, preloaded: sa.Engine) -> None:
    """SW706: a child that serves no request, as one of multiprocessing, is no pre-forked worker."""
    any_world.open()
    assert in_child(any_world, lambda: None) == []


# SW708

Registry: t.TypeAlias = "orm.scoped_session[orm.Session]"


def registry_of(world: World) -> Registry:
    """Make a plain scoped_session as a module of the application has it."""
    registry = orm.scoped_session(orm.sessionmaker(world.engine))
    world.app.extensions["registry"] = registry
    return registry


def committing_view(world: World, registry: Registry) -> None:
    @world.view()
    def view() -> str:
        name = registry.scalar(sa.select(Item.name))  # BEGUN
        registry.commit()
        return str(name)


def requests(world: World, number: int = 3) -> None:
    """Serve several requests on this thread, with a tick after each."""
    for _ in range(number):
        world.open()
        world.watch.tick()


def test_never_removed(any_world: World) -> None:
    """SW708: a session that commits in each request and is never removed is told once, at its line."""
    registry = registry_of(any_world)
    committing_view(any_world, registry)
    requests(any_world)
    finding = any_world.only("SW708")
    assert (finding.rule, finding.level, finding.count) == ("scoped-session-without-teardown", "error", 1)
    assert at(finding) == line("BEGUN")
    registry.remove()


def test_never_removed_nor_ended(any_world: World) -> None:
    """SW708: a session whose transaction is left open from request to request is told as well."""
    registry = registry_of(any_world)

    @any_world.view()
    def view() -> str:
        return str(registry.scalar(sa.select(Item.name)))  # LEFT OPEN

    requests(any_world)
    assert [at(each) for each in any_world.told("SW708")] == [line("LEFT OPEN")]
    assert any_world.told("SW201")
    registry.remove()


def test_found_around_a_view(world: World) -> None:
    """SW708: a registry that only a view's closure knows is found."""
    registry = registry_of(world)
    world.app.extensions.clear()
    committing_view(world, registry)
    requests(world)
    assert world.only("SW708").count == 1
    registry.remove()


def test_objects_left_behind(world: World) -> None:
    """SW708: objects that are still in the session when its thread is idle need no second look."""
    registry = registry_of(world)
    kept = []

    @world.view()
    def view() -> str:
        kept.append(registry.scalars(sa.select(Item)).first())
        registry.commit()
        return "ok"

    world.open()
    world.open()
    world.watch.tick()
    assert world.only("SW708").count == 1
    registry.remove()


@pytest.mark.parametrize("how", ["remove", "close", "rollback and close"])
def test_taken_down(any_world: World, how: str) -> None:
    """SW708: a registry that is removed, or whose session is closed, after each request is healthy."""
    registry = registry_of(any_world)
    committing_view(any_world, registry)

    @any_world.app.teardown_appcontext
    def close(error: BaseException | None) -> None:
        for each in how.split(" and "):
            getattr(registry, each)()

    requests(any_world)
    any_world.open()
    any_world.open()
    any_world.ticks(1)
    assert any_world.heard == []


def test_closed_by_a_block(world: World) -> None:
    """SW708: a view that closes the thread's session with a block is healthy."""
    registry = registry_of(world)

    @world.view()
    def view() -> str:
        with registry() as session:
            found = session.scalars(sa.select(Item)).all()
            session.commit()
            return str(len(found))

    requests(world)
    world.open()
    world.open()
    world.ticks(1)
    assert world.heard == []


def test_flask_sqlalchemy(world: World) -> None:
    """SW708: Flask-SQLAlchemy removes its sessions, and shares one on purpose where a context is pushed around."""
    db = world.flask_sqlalchemy()

    @world.view()
    def view() -> str:
        found = db.session.scalars(sa.select(Item)).all()
        db.session.commit()
        return str(len(found))

    requests(world)
    with world.app.app_context():
        requests(world)
    world.ticks(1)
    assert world.told("SW708") == []


def test_plain_global_session(world: World) -> None:
    """SW708: a global Session that is no scoped_session's is another bug, with a rule of its own."""
    session = orm.Session(world.engine)

    @world.view()
    def view() -> str:
        name = session.scalar(sa.select(Item.name))
        session.commit()
        return str(name)

    requests(world)
    session.close()
    assert world.told("SW708") == []


# SW709


def test_single_process_metrics(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SW709: several workers without a common folder are told as information, and as a warning once somebody scrapes."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    setup_of(world).made_by = Server("gunicorn", 4, 1)
    world.ticks(2)
    assert [(each.level, each.count) for each in world.told("SW709")] == [("info", 1)]
    world.app.debug = True
    assert world.open("/_sessionwatch/metrics").status_code == 200
    world.ticks(2)
    finding = world.only("SW709")
    assert (finding.rule, finding.level, finding.count) == ("single-process-metrics", "warning", 2)


@pytest.mark.parametrize("server", [None, Server("gunicorn", 1, 8)])
def test_one_worker(world: World, server: Server | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """SW709: one worker is the whole picture."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    setup_of(world).made_by = server
    setup_of(world).scraped = True
    world.ticks(1)
    assert world.told("SW709") == []


def test_common_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SW709: workers that share PROMETHEUS_MULTIPROC_DIR are seen together."""
    setup_of(world).made_by = Server("gunicorn", 4, 1)
    setup_of(world).scraped = True
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/run/metrics")
    shared = prometheus_client.values.MultiProcessValue()  # type: ignore[no-untyped-call]
    monkeypatch.setattr("prometheus_client.values.ValueClass", shared)
    extension._process.watched[0].tick([])
    assert world.told("SW709") == []


def test_common_folder_too_late(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SW709: a folder that was set after prometheus_client was imported does nothing, and that is told."""
    setup_of(world).made_by = Server("gunicorn", 4, 1)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/run/metrics")
    extension._process.watched[0].tick([])
    assert world.only("SW709").message.endswith(
        "shows one of them: PROMETHEUS_MULTIPROC_DIR was set too late."
    )
    world.app.debug = True
    assert "sessionwatch_findings_total" in world.open("/_sessionwatch/metrics").text
