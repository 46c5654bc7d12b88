"""The one background thread of a process."""

from __future__ import annotations

import threading
import time
import typing as t


class Watchdog:
    """A daemon thread that calls *work* once per *interval*; started lazily, and anew after a fork.

    :param work: what to do at each tick; an exception in it ends neither the thread nor the process.
    :param interval: answers the seconds between two ticks.
    :param on_error: told of an exception in *work*.
    """

    def __init__(
        self, work: t.Callable[[], object], interval: t.Callable[[], float], on_error: t.Callable[[str], None]
    ):
        self._work = work
        self._interval = interval
        self._on_error = on_error
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        #: Whether the thread is known to run in this process; False is what the hot path looks at.
        self.running: bool = False
        #: CPU seconds the thread has used.
        self.seconds: float = 0.0

    def start(self) -> None:
        """Start the thread unless it runs."""
        with self._lock:
            if self.running and self._thread is not None and self._thread.is_alive():
                return
            self._wake, self._stopped = threading.Event(), threading.Event()
            thread = threading.Thread(
                target=self._run, args=(self._wake, self._stopped), name="flask_sessionwatch", daemon=True
            )
            thread.start()
            self._thread, self.running = thread, True

    def hurry(self) -> None:
        """Tick at once, not only when the interval is over."""
        self._wake.set()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop the thread and wait for it.

        :param timeout: seconds to wait for a tick that is under way.
        """
        thread, self._thread, self.running = self._thread, None, False
        self._stopped.set()
        self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def after_fork(self) -> None:
        """Forget the parent's thread, which did not come along."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None
        self.running = False
        self.seconds = 0.0

    def _run(self, wake: threading.Event, stopped: threading.Event) -> None:
        while True:
            wake.wait(self._interval())
            if stopped.is_set():
                return
            wake.clear()
            before = _thread_seconds()
            try:
                self._work()
            except Exception:
                self._on_error("the watchdog")
            self.seconds += _thread_seconds() - before


def _thread_seconds() -> float:
    # Not every platform counts per thread.
    return time.thread_time() if hasattr(time, "thread_time") else 0.0
