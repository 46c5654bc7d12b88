"""The one background thread: lazy, a daemon, unbreakable, made anew after a fork, and gone after stop()."""

import os
import subprocess
import sys
import threading
import typing as t
from collections.abc import Iterator

import pytest

from flask_sessionwatch.watchdog import Watchdog

SOON = 10.0
BEGINNING = """
import gc
import os
import threading
import time

import flask
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from flask_sessionwatch import SessionWatch


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "flask_sessionwatch"]


def wait_for(truth):
    until = time.monotonic() + 10
    while not truth():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def make_app():
    app = flask.Flask("shop")
    app.config.update(SESSIONWATCH_TICK=0.01)
    app.add_url_rule("/", "index", lambda: "ok")
    return app
"""


class Work:
    """What a watchdog does: it counts its ticks, and may fail at them."""

    def __init__(self) -> None:
        self.ticks = 0
        self.error: Exception | None = None
        self.ticked = threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.ticks += 1
        self.thread = threading.current_thread()
        self.ticked.set()
        if self.error is not None:
            raise self.error

    def wait(self, ticks: int = 1) -> None:
        """Wait for so many further ticks."""
        for _ in range(ticks):
            self.ticked.clear()
            assert self.ticked.wait(SOON), "waited in vain for a tick"


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def errors() -> list[str]:
    return []


@pytest.fixture
def watchdog(work: Work, errors: list[str]) -> Iterator[Watchdog]:
    watchdog = Watchdog(work, lambda: 0.001, errors.append)
    yield watchdog
    watchdog.stop()


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flask_sessionwatch"]


def run(program: str, environ: t.Mapping[str, str] | None = None) -> str:
    """Run *program* in a process of its own and return what it says."""
    command = [sys.executable, "-c", BEGINNING + program]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **(environ or {})},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_lazy(watchdog: Watchdog, work: Work) -> None:
    """Nothing runs before it is started."""
    assert not watchdog.running
    assert own_threads() == []
    assert work.ticks == 0


def test_hurry(work: Work, errors: list[str]) -> None:
    """Asked to hurry it ticks at once, each time; before it is started it only hears that it will be."""
    watchdog = Watchdog(work, lambda: 60.0, errors.append)
    watchdog.hurry()
    watchdog.start()
    try:
        for _ in range(3):
            work.ticked.clear()
            watchdog.hurry()
            assert work.ticked.wait(SOON)
    finally:
        watchdog.stop()
    assert not watchdog.running


def test_works_on_a_daemon_thread(watchdog: Watchdog, work: Work) -> None:
    """It works on a thread of its own that does not keep the process alive."""
    watchdog.start()
    work.wait()
    assert watchdog.running
    assert work.thread is not threading.current_thread()
    assert work.thread is not None
    assert work.thread.daemon
    assert work.thread.name == "flask_sessionwatch"


def test_ticks_again_and_again(watchdog: Watchdog, work: Work) -> None:
    """It works once per interval until it is stopped."""
    watchdog.start()
    work.wait(5)
    assert work.ticks >= 5


def test_started_once(watchdog: Watchdog, work: Work) -> None:
    """Starting what runs starts no second thread."""
    for _ in range(5):
        watchdog.start()
    work.wait()
    assert len(own_threads()) == 1


def test_started_by_many_at_once(watchdog: Watchdog) -> None:
    """Many first requests at once start one thread."""
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait(SOON)
        watchdog.start()

    starters = [threading.Thread(target=start, daemon=True) for _ in range(8)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(SOON)
    assert len(own_threads()) == 1


def test_stop(watchdog: Watchdog, work: Work) -> None:
    """Stopping ends the thread, and no tick comes afterwards."""
    watchdog.start()
    work.wait()
    watchdog.stop()
    ticks = work.ticks
    assert not watchdog.running
    assert own_threads() == []
    assert ticks == work.ticks


def test_stop_is_idempotent(watchdog: Watchdog, work: Work) -> None:
    """Stopping what never ran or has stopped does nothing."""
    watchdog.stop()
    watchdog.start()
    work.wait()
    watchdog.stop()
    watchdog.stop()
    assert not watchdog.running


def test_stop_does_not_wait_for_the_interval(work: Work) -> None:
    """However long the interval is, stopping ends the wait."""
    watchdog = Watchdog(work, lambda: 3600.0, lambda where: None)
    watchdog.start()
    watchdog.stop(timeout=SOON)
    assert own_threads() == []
    assert work.ticks == 0


def test_restart(watchdog: Watchdog, work: Work) -> None:
    """What was stopped can be started again."""
    watchdog.start()
    work.wait()
    watchdog.stop()
    watchdog.start()
    work.wait()
    assert len(own_threads()) == 1


def test_stop_from_within(errors: list[str]) -> None:
    """A sink that closes the watch, on the watchdog's own thread, does not wait for itself."""
    stopped = threading.Event()

    def work() -> None:
        closing.stop()
        stopped.set()

    closing = Watchdog(work, lambda: 0.001, errors.append)
    closing.start()
    assert stopped.wait(SOON)
    for thread in own_threads():
        thread.join(SOON)
    assert own_threads() == []
    assert errors == []


def test_survives_an_exception(watchdog: Watchdog, work: Work, errors: list[str]) -> None:
    """An exception in its work is told of and ends nothing."""
    work.error = ZeroDivisionError("a bug")
    watchdog.start()
    work.wait(3)
    assert watchdog.running
    assert {"the watchdog"} == set(errors)
    work.error = None
    work.wait()
    assert len(own_threads()) == 1


def test_interval_is_asked_each_time(work: Work) -> None:
    """A setting that changes is heeded from the next tick on."""
    asked: list[float] = []

    def interval() -> float:
        asked.append(0.001)
        return 0.001

    watchdog = Watchdog(work, interval, lambda where: None)
    watchdog.start()
    work.wait(3)
    watchdog.stop()
    assert len(asked) >= 3


def test_counts_its_own_cost(watchdog: Watchdog, work: Work) -> None:
    """It knows how many seconds of CPU it has used, which is no more than there were."""
    assert watchdog.seconds == 0.0
    watchdog.start()
    work.wait(3)
    watchdog.stop()
    assert 0.0 <= watchdog.seconds < SOON


def test_forgets_its_parents_thread(watchdog: Watchdog, work: Work) -> None:
    """After a fork it knows that it does not run, and can be started although a lock may have been held."""
    watchdog.start()
    work.wait()
    watchdog.stop()
    watchdog.after_fork()
    assert not watchdog.running
    assert watchdog.seconds == 0.0
    watchdog.start()
    work.wait()
    assert len(own_threads()) == 1


# In processes of their own


def test_process_ends_with_it_running() -> None:
    """A program that never closes its watch ends all the same."""
    program = """
app = make_app()
watch = SessionWatch(app)
app.test_client().get("/", buffered=True)
assert len(threads()) == 1
print("done")
"""
    assert run(program) == "done"


def test_no_thread_before_the_first_request() -> None:
    """Creating an application starts no thread: a server may fork yet."""
    program = """
app = make_app()
watch = SessionWatch(app)
assert threads() == []
app.test_client().get("/", buffered=True)
(thread,) = threads()
assert thread.daemon
watch.close()
assert threads() == []
print("done")
"""
    assert run(program) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_anew_after_a_fork() -> None:
    """A child process gets a thread of its own at its first request, and finds what it leaks itself."""
    program = """
app = make_app()
engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
held = []


@app.get("/leak")
def leak():
    held.append(engine.connect())
    return "leaked"


watch = SessionWatch(app, sinks=[])
app.test_client().get("/leak", buffered=True)
assert len(threads()) == 1
assert len(watch.findings) == 1
child = os.fork()
if child == 0:
    status = 1
    try:
        assert threads() == []
        assert watch.findings == []
        app.test_client().get("/", buffered=True)
        assert len(threads()) == 1
        app.test_client().get("/leak", buffered=True)
        assert [1] == [finding.count for finding in watch.findings]
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
assert len(threads()) == 1
assert len(watch.findings) == 1
print("done")
"""
    assert run(program) == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_fork_in_the_midst_of_a_tick() -> None:
    """A child that is forked while the thread holds its locks is not stuck in them."""
    program = """
entered, leave = threading.Event(), threading.Event()


def slow_sink(finding):
    entered.set()
    leave.wait(10)


app = make_app()
engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
held = []
app.add_url_rule("/leak", "leak", lambda: held.append(engine.connect()) or "leaked")
watch = SessionWatch(app, sinks=[slow_sink])
app.test_client().get("/leak", buffered=True)
assert entered.wait(10)
child = os.fork()
if child == 0:
    leave.set()
    app.test_client().get("/leak", buffered=True)
    watch.tick()
    told = [finding.code for finding in watch.findings]
    os._exit(0 if told.count("SW101") == 1 else 1)
until = time.monotonic() + 10
while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < until:
    time.sleep(0.005)
if not ended[0]:
    os.kill(child, 9)
    os.waitpid(child, 0)
    print("stuck")
leave.set()
assert os.waitstatus_to_exitcode(ended[1]) == 0
print("done")
"""
    assert run(program) == "done"


def test_under_gevent() -> None:
    """With the world monkey-patched it is a greenlet that works all the same."""
    pytest.importorskip("gevent")
    program = """
app = make_app()
told = []
engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
held = []
app.add_url_rule("/leak", "leak", lambda: held.append(engine.connect()) or "leaked")
watch = SessionWatch(app, sinks=[told.append])
app.test_client().get("/leak", buffered=True)
wait_for(lambda: told)
assert told[0].code == "SW101"
watch.close()
assert threads() == []
print("done")
"""
    patched = f"from gevent import monkey\nmonkey.patch_all()\n{BEGINNING}{program}"
    command = [sys.executable, "-c", patched]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == "done"
