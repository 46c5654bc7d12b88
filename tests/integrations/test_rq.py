"""RQ: its jobs are scopes, in a work horse and without one, and stay what they are."""

import collections.abc as cabc
import typing as t

import pytest
import redis
import rq
from rq.timeouts import TimerDeathPenalty

from flask_sessionwatch.integrations.rq import watch_rq
from flask_sessionwatch.observe.records import Scope
from tests import redis_servers
from tests.integrations.conftest import Program
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line

WORKER = """
    import shop
    from flask_sessionwatch.integrations.rq import watch_rq

    Worker = watch_rq(shop.watch)
"""

_worlds: list[World] = []


def leak() -> str:
    world = _worlds[-1]
    world.keep(world.engine.connect())  # leaked
    return "leaked"


def sound(number: int) -> int:
    with _worlds[-1].engine.connect():
        return 2 * number


def fail() -> None:
    with _worlds[-1].engine.connect():
        raise KeyError("no such order")


class InTests(rq.SimpleWorker):
    """A worker that leaves signals, and SIGALRM above all, to the tests."""

    death_penalty_class = TimerDeathPenalty

    def _install_signal_handlers(self) -> None:
        """Install none."""


@pytest.fixture
def here(world: World) -> cabc.Iterator[World]:
    """The world that the jobs of this module work in."""
    _worlds.append(world)
    yield world
    _worlds.remove(world)


@pytest.fixture
def queue(redis_server: redis_servers.Server) -> cabc.Iterator[rq.Queue]:
    """An empty queue."""
    with redis.Redis.from_url(redis_server.url) as connection:
        yield rq.Queue(connection=connection)


def ends(queue: rq.Queue, worker_class: type[rq.SimpleWorker]) -> list[t.Any]:
    """Run a sound and a failing job, which is tried twice, and return how they ended."""
    jobs = [queue.enqueue(sound, 21), queue.enqueue(fail, retry=rq.Retry(max=1))]
    worker_class([queue], connection=queue.connection).work(burst=True)
    results = [job.latest_result() for job in jobs]
    lines = [each and each.exc_string and each.exc_string.splitlines()[-3:] for each in results]
    return [
        [job.get_status(), each and each.return_value] for job, each in zip(jobs, results, strict=True)
    ] + lines


def test_worker(program: Program, queue: rq.Queue) -> None:
    """What a work horse has found is told with its line and published, although the horse ends without a tick."""
    program.write("worker", WORKER)
    jobs = [queue.enqueue("shop.leak"), queue.enqueue("shop.sound", 21), queue.enqueue("shop.fail")]
    program.start("rq.cli", "worker", "--burst", "-w", "worker.Worker", "--url", program.redis_url)
    program.end(None)
    assert [str(job.get_status().value) for job in jobs] == ["finished", "finished", "failed"], program.log
    (finding,) = program.findings
    assert finding["pid"] == jobs[0].return_value()
    assert (finding["code"], finding["scope"], finding["scope_kind"]) == ("SW101", "shop.leak", "task")
    assert finding["site"]["lineno"] == program.line("guilty")
    assert program.published == {finding["fingerprint"]}


def test_simple_worker(here: World, queue: rq.Queue, ended: list[Scope]) -> None:
    """Without a horse, each job is a scope too, and a retry one more; the watch goes on after it."""
    worker_class = watch_rq(here.watch, InTests)
    assert ends(queue, worker_class) == ends(queue, InTests)
    sound_name, fail_name = f"{__name__}.sound", f"{__name__}.fail"
    assert [(scope.name, scope.error) for scope in ended if scope.kind == "task"] == [
        (sound_name, None),
        (fail_name, "KeyError"),
        (fail_name, "KeyError"),
    ]
    assert here.watch.findings == []
    queue.enqueue(leak)
    worker_class([queue], connection=queue.connection).work(burst=True)
    finding = here.only("SW101")
    assert at(finding) == line("leaked")
    assert finding.scope == (f"{__name__}.leak", "task")


def test_unreadable_job(here: World, queue: rq.Queue) -> None:
    """A job that cannot be read fails as RQ makes it fail."""
    job = queue.enqueue(sound, 21)
    queue.connection.hset(job.key, "data", b"no pickle")
    watch_rq(here.watch, InTests)([queue], connection=queue.connection).work(burst=True)
    assert queue.failed_job_registry.get_job_ids() == [job.id]
    assert here.watch.findings == []
