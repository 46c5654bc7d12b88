"""What the watch leans on fails wholly and for ever: the clock, the store, the system's threads.

The application does what it does without a watch, whoever looks is told once what is wrong, and nothing is held up.
"""

import logging
import sys
import threading
import time
import types
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch import process
from flask_sessionwatch.process import Process
from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import publisher
from tests.faults.conftest import Watched
from tests.faults.test_stepping_aside import asides
from tests.faults.test_stores import known
from tests.faults.test_stores import shown
from tests.rules.conftest import until

#: Seconds that an end may take although everything fails.
SOON = 3.0


class Stopped(types.ModuleType):
    """The module of time, without any that could be told."""

    def __getattr__(self, name: str) -> t.Any:
        if name in ("monotonic", "perf_counter", "time", "time_ns", "monotonic_ns", "clock_gettime"):
            return self.tell
        return getattr(time, name)

    def tell(self, *args: object) -> t.NoReturn:
        raise OSError("the clock has stopped")


@pytest.fixture
def clock_stops(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[], None]:
    """Stop every clock that the package has imported, from now on."""
    stopped = Stopped("time")

    def stop() -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("flask_sessionwatch."):
                if "clock" in vars(module):
                    monkeypatch.setattr(module, "clock", stopped.tell)
                if vars(module).get("time") is time:
                    monkeypatch.setattr(module, "time", stopped)

    return stop


@pytest.fixture
def thread_errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What threads have died of."""
    died: list[str] = []
    monkeypatch.setattr(
        threading, "excepthook", lambda args: died.append(f"{args.thread} {args.exc_value!r}")
    )
    return died


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is tried again soon."""
    monkeypatch.setattr("flask_sessionwatch.member.PUBLISH_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "BACK_OFF", (0.01, 0.02))
    monkeypatch.delenv("SESSIONWATCH_STORE")


@pytest.mark.parametrize("first", ["at work", "from the first"])
def test_clock(
    watched: Watched,
    unwatched: list[str],
    clock_stops: t.Callable[[], None],
    thread_errors: list[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    hurried: None,
    first: str,
) -> None:
    """No clock tells the time: the watch steps aside and says so once."""
    watched.begin(tick=0.01, store=f"sqlite:///{tmp_path}/store.db")
    if first == "at work":
        watched.watch.tick()
    clock_stops()
    assert watched.story.tell() == unwatched
    until(lambda: bool(asides(caplog)))
    assert len(asides(caplog)) == 1
    assert thread_errors == []


class Refusing:
    """A store whose every call raises.

    :param error: what it raises.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.calls: set[str] = set()

    def __getattr__(self, name: str) -> t.Any:
        def refuse(*args: object) -> t.NoReturn:
            self.calls.add(name)
            raise self._error

        return refuse


@pytest.mark.parametrize("error", [StoreError("away"), MemoryError(), ZeroDivisionError()], ids=repr)
def test_store(
    watched: Watched,
    unwatched: list[str],
    own_process: Process,
    monkeypatch: pytest.MonkeyPatch,
    thread_errors: list[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    hurried: None,
    error: Exception,
) -> None:
    """Every call of the store raises: the pages show what the process knows, the log says so once, and the end is soon."""
    store = Refusing(error)
    monkeypatch.setattr(process, "open_store", lambda url: store)
    watched.begin(store=f"sqlite:///{tmp_path}/store.db")
    assert watched.story.tell(watched.watch.tick) == unwatched
    until(lambda: _told_of_the_store(watched, caplog) > 0)
    assert shown(own_process, watched) == (known(watched), True)
    began_at = time.monotonic()
    watched.watch.close()
    assert time.monotonic() - began_at < SOON
    assert _told_of_the_store(watched, caplog) == 1
    assert thread_errors == []
    assert asides(caplog) == []


def _told_of_the_store(watched: Watched, caplog: pytest.LogCaptureFixture) -> int:
    watched.watch.tick()
    return sum("cannot be used" in text for text in caplog.messages)


def test_threads(
    watched: Watched,
    unwatched: list[str],
    own_process: Process,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    hurried: None,
) -> None:
    """No thread can be started, neither the watchdog's nor the store's: it is told once of each, and judged all the same."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("flask_sessionwatch"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    watched.begin(store=f"sqlite:///{tmp_path}/store.db")
    assert watched.story.tell(watched.watch.tick) == unwatched
    assert {"SW101", "SW201", "SW204"} <= {finding.code for finding in watched.watch.findings}
    assert shown(own_process, watched) == (known(watched), True)
    warned = [
        each
        for each in caplog.records
        if each.levelno >= logging.WARNING and each.name == "flask_sessionwatch"
    ]
    own = [each.getMessage() for each in warned if not hasattr(each, "finding")]
    assert sum("watchdog" in text for text in own) == 1
    assert len(own) == 2, own
    assert asides(caplog) == []
