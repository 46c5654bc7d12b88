"""Thread pools: what they are given runs in scopes, and stays what it is."""

import asyncio
import collections.abc as cabc
import concurrent.futures
import contextvars
import functools
import math
import threading
import typing as t

import flask
import flask_executor
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch.integrations.executors import watch_executor
from flask_sessionwatch.observe.records import Scope
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line

HERE = __name__
#: Seconds after which waiting for something is given up.
DEADLINE = 20.0


@pytest.fixture
def pool(world: World) -> cabc.Iterator[concurrent.futures.ThreadPoolExecutor]:
    """A watched pool of one thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield watch_executor(world.watch, pool)


def double(number: int) -> int:
    return 2 * number


class Doubler:
    """Something that can be called, and has no name of its own."""

    def __call__(self, number: int) -> int:
        return 2 * number


def test_names(pool: concurrent.futures.ThreadPoolExecutor, ended: list[Scope]) -> None:
    """Each task is a scope named by its function, however that is handed over."""
    context = contextvars.copy_context()
    tasks: list[t.Any] = [
        pool.submit(double, 21),
        pool.submit(functools.partial(double, 21)),
        pool.submit(functools.partial(double, number=21)),
        pool.submit(Doubler(), 21),
        pool.submit(context.run, double, 21),
        pool.submit(functools.partial(context.run, functools.partial(double, 21))),
        pool.submit(math.sqrt, 4),
    ]
    assert [task.result() for task in tasks] == [42, 42, 42, 42, 42, 42, 2.0]
    assert list(pool.map(double, [1, 2])) == [2, 4]
    names = [scope.name for scope in ended]
    assert {scope.kind for scope in ended} == {"task"}
    assert names[:6] == [f"{HERE}.double"] * 3 + [f"{HERE}.Doubler"] + [f"{HERE}.double"] * 2
    assert names[6:] == ["math.sqrt", f"{HERE}.double", f"{HERE}.double"]


def test_failure(pool: concurrent.futures.ThreadPoolExecutor, world: World, ended: list[Scope]) -> None:
    """A task that raises gives its own exception to its future."""
    error = KeyError("no stock")

    def fail() -> None:
        with orm.Session(world.engine) as session:
            session.add(Item(name="eve"))
            session.flush()
            raise error

    assert pool.submit(fail).exception() is error
    assert [scope.error for scope in ended] == ["KeyError"]
    assert world.watch.findings == []


def test_leak(pool: concurrent.futures.ThreadPoolExecutor, world: World) -> None:
    """What a task leaves checked out is told as the task's, at once, although its thread lives on."""

    def leak() -> None:
        world.keep(world.engine.connect())  # leaked

    pool.submit(leak).result()
    finding = world.only("SW101")
    assert at(finding) == line("leaked")
    assert finding.scope == (f"{HERE}.test_leak.<locals>.leak", "task")


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("leaks", [False, True])
def test_after_the_request(
    pool: concurrent.futures.ThreadPoolExecutor, world: World, ended: list[Scope], copied: bool, leaks: bool
) -> None:
    """What a task leaves that outlives its request is told as the task's, also with a copy of the request's context."""
    over = threading.Event()
    tasks: list[concurrent.futures.Future[None]] = []

    def work() -> None:
        over.wait(DEADLINE)
        connection = world.keep(world.engine.connect())  # leaked
        if not leaks:
            connection.close()

    @world.view()
    def hand_over() -> str:
        if copied:
            tasks.append(pool.submit(contextvars.copy_context().run, work))
        else:
            tasks.append(pool.submit(work))
        return "ok"

    assert world.open().status_code == 200
    over.set()
    tasks[0].result()
    assert [scope.kind for scope in ended] == ["request", "task"]
    assert [finding.scope and finding.scope.kind for finding in world.told("SW101")] == ["task"] * leaks
    assert len(world.watch.findings) == leaks


def test_event_loop(pool: concurrent.futures.ThreadPoolExecutor, ended: list[Scope]) -> None:
    """An event loop's work on the pool is named by its function as well."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(pool)
        return await asyncio.to_thread(double, 21)

    assert asyncio.run(main()) == 42
    assert [scope.name for scope in ended] == [f"{HERE}.double"]


@pytest.fixture
def flask_pool(world: World) -> cabc.Iterator[t.Any]:
    """A watched Executor of Flask-Executor, with Flask-SQLAlchemy beside it."""
    world.app.config["EXECUTOR_MAX_WORKERS"] = 1
    world.app.config["EXECUTOR_TYPE"] = "thread"
    executor = watch_executor(world.watch, flask_executor.Executor(world.app))
    yield executor
    executor.shutdown()


def test_flask_executor(world: World, flask_pool: t.Any, ended: list[Scope]) -> None:
    """Flask-Executor's tasks are scopes around the contexts that it pushes, which close the session."""
    db = world.flask_sqlalchemy()

    def count(name: str) -> tuple[int, str]:
        found = db.session.scalars(sa.select(Item).where(Item.name == name)).all()
        return len(found), flask.request.path

    @world.view()
    def ask() -> list[t.Any]:
        submitted = flask_pool.submit(count, "ann").result()
        return [submitted, *flask_pool.map(count, ["bob", "eve"])]

    assert world.open().json == [[1, "/"], [1, "/"], [0, "/"]]
    name = f"{HERE}.test_flask_executor.<locals>.count"
    assert [scope.name for scope in ended] == [name, name, name, "GET /"]
    assert world.watch.findings == []


def test_flask_executor_leak(world: World, flask_pool: t.Any) -> None:
    """A connection that a task of Flask-Executor leaves checked out is told as the task's."""

    def leak() -> None:
        world.keep(world.engine.connect())  # leaked

    @world.view()
    def ask() -> str:
        flask_pool.submit(leak).result()
        return "ok"

    world.open()
    finding = world.only("SW101")
    assert at(finding) == line("leaked")
    assert finding.scope == (f"{HERE}.test_flask_executor_leak.<locals>.leak", "task")


def test_processes(world: World) -> None:
    """A pool of processes is refused, with what to do instead."""
    with (
        concurrent.futures.ProcessPoolExecutor(1) as pool,
        pytest.raises(TypeError, match=r"with watch\.scope"),
    ):
        watch_executor(world.watch, pool)
