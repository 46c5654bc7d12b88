"""Celery: its tasks are scopes, in this process and in a worker's, and stay what they are."""

import collections.abc as cabc
import gc
import typing as t

import celery
import pytest
import sqlalchemy as sa
from celery import signals
from celery.exceptions import Ignore
from celery.exceptions import Reject
from celery.exceptions import Retry
from sqlalchemy import orm

from flask_sessionwatch.integrations.celery import watch_celery
from flask_sessionwatch.observe.records import Scope
from tests.integrations.conftest import DEADLINE
from tests.integrations.conftest import Program
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line

TASKS = """
    import os

    import celery
    import shop
    from flask_sessionwatch.integrations.celery import watch_celery

    app = celery.Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
    app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
    watch_celery(shop.watch)
    leak = app.task(name="shop.leak")(shop.leak)
    sound = app.task(name="shop.sound")(shop.sound)
    fail = app.task(name="shop.fail")(shop.fail)


    @app.task(name="shop.again", bind=True, default_retry_delay=0)
    def again(self):
        with shop.engine.connect():
            if self.request.retries < 2:
                raise self.retry()
            return self.request.retries
"""


@pytest.fixture(autouse=True)
def receivers() -> cabc.Iterator[None]:
    """Celery's signals as they were before."""
    sent = (signals.task_prerun, signals.task_postrun, signals.worker_process_shutdown)
    before = [list(each.receivers) for each in sent]
    yield
    for each, former in zip(sent, before, strict=True):
        each.receivers[:] = former


@pytest.fixture
def app() -> cabc.Iterator[t.Any]:
    """A Celery application that runs its tasks in the process of the test."""
    app = celery.Celery("shop", set_as_current=False)
    app.conf.task_always_eager = True
    yield app
    app.close()


def sent_to(program: Program) -> list[tuple[t.Any, str]]:
    """Have the worker run every task, and that which leaks twice, and return result and state of each."""
    with celery.Celery(
        "shop", broker=program.redis_url, backend=program.redis_url, set_as_current=False
    ) as app:
        sent = [app.send_task(f"shop.{name}") for name in ("leak", "leak", "fail", "again")]
        sent.append(app.send_task("shop.sound", (21,)))
        ends = [(each.get(timeout=DEADLINE, propagate=False), each.state) for each in sent]
        # A result that is collected speaks to Redis, which has to be there still.
        del sent
        gc.collect()
    return ends


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_worker(program: Program, pool: str) -> None:
    """A worker's leak is told with its line and is published when its process ends, and all tasks end as ever."""
    program.write("tasks", TASKS)
    options = ["--concurrency=2"] if pool == "prefork" else []
    program.start("celery", "-A", "tasks", "worker", "--pool", pool, "--loglevel=WARNING", *options)
    ends = sent_to(program)
    pids = [ends.pop(0)[0] for _ in range(2)]
    assert [(str(result), state) for result, state in ends] == [
        ("'no such order'", "FAILURE"),
        ("2", "SUCCESS"),
        ("42", "SUCCESS"),
    ]
    program.end()
    assert len(program.findings) == len(set(pids))
    for finding in program.findings:
        assert (finding["code"], finding["scope"], finding["scope_kind"]) == ("SW101", "shop.leak", "task")
        assert finding["site"]["lineno"] == program.line("guilty")
    assert program.published == {finding["fingerprint"] for finding in program.findings}


def test_named_by_the_task(world: World, app: t.Any, ended: list[Scope]) -> None:
    """The scope has the task's name, and never its arguments."""
    watch_celery(world.watch)

    @app.task(name="shop.greet")
    def greet(name: str) -> str:
        return f"hello {name}"

    assert greet.delay("ann").get() == "hello ann"
    assert [(scope.name, scope.kind) for scope in ended] == [("shop.greet", "task")]


def test_leak(world: World, app: t.Any) -> None:
    """A session that a task leaves open is told as the task's."""
    watch_celery(world.watch)

    @app.task(name="shop.leak")
    def leak() -> None:
        world.keep(orm.Session(world.engine)).scalars(sa.select(Item)).all()  # leaked

    leak.delay()
    finding = world.only("SW201")
    assert at(finding) == line("leaked")
    assert finding.scope == ("shop.leak", "task")


def test_session_closed_by_a_later_receiver(world: World, app: t.Any) -> None:
    """A session that a receiver of task_postrun closes is no leak, although that was connected after the watch."""
    watch_celery(world.watch)
    session = orm.scoped_session(orm.sessionmaker(world.engine))

    @signals.task_postrun.connect(weak=False)
    def close(**_: object) -> None:
        session.remove()

    @app.task(name="shop.count")
    def count() -> int:
        return len(session.scalars(sa.select(Item)).all())

    assert [count.delay().get() for _ in range(2)] == [2, 2]
    assert world.watch.findings == []


def test_app_context(world: World, app: t.Any, ended: list[Scope]) -> None:
    """A task that pushes an app context is one scope, not two."""
    watch_celery(world.watch)
    db = world.flask_sqlalchemy()

    class InContext(celery.Task):  # type: ignore[misc]
        def __call__(self, *args: object) -> t.Any:
            with world.app.app_context():
                return self.run(*args)

    @app.task(name="shop.count", base=InContext)
    def count() -> int:
        return len(db.session.scalars(sa.select(Item)).all())

    assert count.delay().get() == 2
    assert [scope.name for scope in ended] == ["shop.count"]
    assert world.watch.findings == []


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyError("no stock"), "KeyError"),
        (Ignore(), None),
        (Reject("not mine"), None),
        (Retry(exc=KeyError("no stock")), "KeyError"),
        (Retry(), None),
    ],
)
def test_how_it_ended(
    world: World, app: t.Any, ended: list[Scope], error: Exception, seen: str | None
) -> None:
    """A failure is remembered by its exception, a retry by what it is for; who asks to be ignored or run again has not failed."""
    watch_celery(world.watch)

    @app.task(name="shop.stop")
    def stop() -> None:
        raise error

    stop.apply()
    assert [scope.error for scope in ended] == [seen]
    assert world.heard == []


def test_eager_failure(world: World, app: t.Any, ended: list[Scope]) -> None:
    """An exception that reaches whoever called the task eagerly is the task's own, and so is its absence."""
    watch_celery(world.watch)
    app.conf.task_eager_propagates = True
    error = KeyError("no stock")

    @app.task(name="shop.fail")
    def fail() -> None:
        raise error

    @app.task(name="shop.recover")
    def recover() -> None:
        """Succeed while the caller handles an exception."""

    with pytest.raises(KeyError) as caught:
        fail.delay()
    assert caught.value is error
    try:
        raise error
    except KeyError:
        recover.delay()
    assert [scope.error for scope in ended] == ["KeyError", None]


def test_eager_retries(world: World, app: t.Any, ended: list[Scope]) -> None:
    """Eager retries, which have the id of the task they repeat, are scopes of their own."""
    watch_celery(world.watch)

    @app.task(name="shop.again", bind=True)
    def again(self: t.Any) -> int:
        if self.request.retries < 2:
            try:
                raise KeyError("not yet")
            except KeyError:
                raise self.retry(countdown=0) from None
        return int(self.request.retries)

    assert again.delay().get() == 2
    assert [scope.error for scope in ended] == ["KeyError", "KeyError", None]


def test_raised_finding(world: World, app: t.Any) -> None:
    """SESSIONWATCH_RAISE does not reach a task: Celery logs what its receivers raise, and the result stays."""
    settings: dict[str, t.Any] = {"raise": ["SW101"]}
    world.configure(**settings)
    watch_celery(world.watch)

    @app.task(name="shop.leak")
    def leak() -> str:
        world.keep(world.engine.connect())
        return "done"

    assert leak.delay().get() == "done"
    assert world.told("SW101")
