"""APScheduler: runs of its jobs are scopes, and the jobs stay what they are."""

import asyncio
import collections.abc as cabc
import datetime
import threading
import typing as t

import pytest
from apscheduler.events import EVENT_JOB_ERROR
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler

from flask_sessionwatch.integrations.apscheduler import watch_apscheduler
from flask_sessionwatch.observe.records import Scope
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line

#: Seconds after which waiting for a job is given up.
DEADLINE = 20.0


@pytest.fixture
def scheduler() -> cabc.Iterator[BackgroundScheduler]:
    """A scheduler that is not started yet."""
    scheduler = BackgroundScheduler(timezone=datetime.timezone.utc)
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


def run(scheduler: BackgroundScheduler, job: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
    """Run a job at once, and return the event of its end."""
    events: list[t.Any] = []
    done = threading.Event()

    def hear(event: t.Any) -> None:
        events.append(event)
        done.set()

    scheduler.add_listener(hear, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    scheduler.add_job(job, args=args, misfire_grace_time=None, **options)
    if not scheduler.running:
        scheduler.start()
    assert done.wait(DEADLINE)
    scheduler.remove_listener(hear)
    return events[0]


def test_job(world: World, scheduler: BackgroundScheduler, ended: list[Scope]) -> None:
    """A job returns what it did, and its scope is named by its function, whatever the job is called."""
    watch_apscheduler(world.watch, scheduler)

    def double(number: int) -> int:
        with world.engine.connect():
            return 2 * number

    assert run(scheduler, double, 21, name="double for ann").retval == 42
    assert [(scope.name, scope.kind) for scope in ended] == [(f"{__name__}.test_job.<locals>.double", "task")]
    assert world.watch.findings == []


def test_leak(world: World, scheduler: BackgroundScheduler) -> None:
    """A connection that a job leaves checked out is told as the job's."""
    watch_apscheduler(world.watch, scheduler)

    def leak() -> None:
        world.keep(world.engine.connect())  # leaked

    run(scheduler, leak)
    finding = world.only("SW101")
    assert at(finding) == line("leaked")
    assert finding.scope == (f"{__name__}.test_leak.<locals>.leak", "task")


def test_failure(world: World, scheduler: BackgroundScheduler, ended: list[Scope]) -> None:
    """A job that raises is told to the scheduler's listeners as ever, and remembered by its exception."""
    watch_apscheduler(world.watch, scheduler)
    error = KeyError("no stock")

    def fail() -> None:
        raise error

    assert run(scheduler, fail).exception is error
    assert [scope.error for scope in ended] == ["KeyError"]
    assert world.heard == []


def test_scheduler_that_runs(world: World, scheduler: BackgroundScheduler, ended: list[Scope]) -> None:
    """Executors of a scheduler that runs already are watched, and those that are added later; twice is as once."""
    scheduler.start()
    watch_apscheduler(world.watch, scheduler)
    watch_apscheduler(world.watch, scheduler)
    scheduler.add_executor(ThreadPoolExecutor(1), "second")
    run(scheduler, int)
    run(scheduler, float, executor="second")
    assert [scope.name for scope in ended] == ["builtins.int", "builtins.float"]


def test_job_in_store(world: World, scheduler: BackgroundScheduler) -> None:
    """What a store keeps of a job names the application's own function."""
    watch_apscheduler(world.watch, scheduler)
    scheduler.start(paused=True)
    job = scheduler.add_job(at, "interval", args=(None,), days=1)
    assert job.func is at
    assert job.__getstate__()["func"] == f"{at.__module__}:at"


def test_processes(world: World, scheduler: BackgroundScheduler, ended: list[Scope]) -> None:
    """Jobs that run in processes of their own run as ever, unseen."""
    scheduler.add_executor(ProcessPoolExecutor(1), "processes")
    watch_apscheduler(world.watch, scheduler)
    assert run(scheduler, abs, -3, executor="processes").retval == 3
    assert ended == []


def test_coroutine(world: World, ended: list[Scope]) -> None:
    """A coroutine runs in the event loop as ever, in a scope of its own."""

    async def main() -> t.Any:
        scheduler = watch_apscheduler(world.watch, AsyncIOScheduler(timezone=datetime.timezone.utc))
        events: asyncio.Queue[t.Any] = asyncio.Queue()
        scheduler.add_listener(events.put_nowait, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)

        async def double(number: int) -> int:
            await asyncio.sleep(0)
            return 2 * number

        scheduler.start()
        scheduler.add_job(double, args=(21,), misfire_grace_time=None)
        event = await asyncio.wait_for(events.get(), DEADLINE)
        scheduler.shutdown()
        return event.retval

    assert asyncio.run(main()) == 42
    assert [scope.name.rpartition(".")[2] for scope in ended] == ["double"]
