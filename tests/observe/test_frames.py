"""While frames of other threads are looked at, no collection starts: CPython 3.11 would not survive it."""

import gc
import os
import subprocess
import sys
import textwrap
import threading
import typing as t

import prometheus_client
import pytest

from flask_sessionwatch import SessionWatch
from flask_sessionwatch.observe.frames import Undisturbed
from flask_sessionwatch.observe.frames import undisturbed
from tests.story import Story

only_where_needed = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="other versions start no collection when a frame is asked for"
)


@pytest.fixture
def block() -> t.Iterator[Undisturbed]:
    """A block of the test's own, after which the collector is as it was."""
    enabled = gc.isenabled()
    yield Undisturbed()
    if enabled:
        gc.enable()


def test_within_and_after(block: Undisturbed) -> None:
    """There is no collection in the block, and there are some again when it is over, also by an exception."""
    gc.enable()
    seen = []

    def look() -> None:
        with block:
            with block:
                seen.append(gc.isenabled())
            seen.append(gc.isenabled())
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        look()
    assert seen == [False, False]
    assert gc.isenabled()


def test_switched_off_by_the_application(block: Undisturbed) -> None:
    """An application that has switched the collector off finds it so."""
    gc.disable()
    with block:
        pass
    assert not gc.isenabled()


def test_overlapping_threads(block: Undisturbed) -> None:
    """It is over when the last thread has left its block."""
    gc.enable()
    inside, leave = threading.Event(), threading.Event()

    def look() -> None:
        with block:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=look)
    with block:
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fork(block: Undisturbed) -> None:
    """A child that was forked in the midst of another thread's look collects again."""
    gc.enable()
    inside, leave = threading.Event(), threading.Event()

    def look() -> None:
        with block:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=look)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        try:
            with block:
                pass
        finally:
            os._exit(0 if gc.isenabled() else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@only_where_needed
def test_every_look(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody in the package asks for other threads' frames outside of such a block."""
    asked: list[bool] = []
    current_frames = sys._current_frames

    def watched() -> dict[int, t.Any]:
        asked.append(gc.isenabled())
        return current_frames()

    story = Story(sqlite_url)
    story.app.config.update(SESSIONWATCH_IDLE_IN_TRANSACTION=0.0, SESSIONWATCH_LONG_CHECKOUT=0.0)
    watch = SessionWatch(story.app, registry=prometheus_client.CollectorRegistry())
    monkeypatch.setattr(sys, "_current_frames", watched)
    gc.enable()
    try:
        # Not tell(), which switches the collector off by itself.
        for step in ("/leak", "/hand", "/core", "/nest", "/leak"):
            story.get(step)
            gc.enable()
            watch.tick()
    finally:
        watch.close()
        story.close()
    assert len(asked) > 2
    assert not any(asked)


#: Dropping what is in a circle lets other threads run in the midst of a collection, and some of them begin or end.
PROGRAM = """
    import faulthandler, gc, sys, threading, time
    from flask_sessionwatch.observe.frames import undisturbed

    class Circle:
        def __init__(self):
            self.itself = self

        def __del__(self):
            time.sleep(0.0005)

    def deep(depth):
        deep(depth - 1) if depth else time.sleep(0.001)

    def work():
        while True:
            deep(30)

    def start_threads():
        while True:
            thread = threading.Thread(target=time.sleep, args=(0,))
            thread.start()
            thread.join()

    for job in (work, work, work, work, start_threads, start_threads):
        threading.Thread(target=job, daemon=True).start()
    faulthandler.dump_traceback_later(50, exit=True)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        gc.disable()
        circles = [Circle() for _ in range(3)]
        gc.set_threshold(5)
        del circles
        gc.enable()
        with undisturbed:
            for frame in sys._current_frames().values():
                while frame is not None:
                    frame = frame.f_back
        gc.set_threshold(700)
    print("done", flush=True)
    __import__("os")._exit(0)
"""


def test_many_looks() -> None:
    """A process that looks at busy threads while garbage waits to be collected goes on: there is neither deadlock nor crash."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout.strip(), done.returncode) == ("done", 0), done.stderr


def test_nothing_elsewhere() -> None:
    """The collector is switched off on CPython 3.11 only."""
    assert isinstance(undisturbed, Undisturbed) == (sys.version_info[:2] == (3, 11))
