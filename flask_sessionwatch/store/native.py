"""Threads of the operating system, also where gevent or eventlet has put greenlets in their place.

A file is not read cooperatively: on a greenlet, a slow disk would hold up every other one.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
import typing as t


def original(module: str, name: str) -> t.Any:
    """Return what *module* calls *name*, as it was before anybody patched it."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None:
        return gevent.get_original(module, name)
    eventlet = sys.modules.get("eventlet.patcher")
    found = importlib.import_module(module) if eventlet is None else eventlet.original(module)
    return getattr(found, name)


def is_patched() -> bool:
    """Whether ``threading`` makes greenlets."""
    return original("_thread", "start_new_thread") is not importlib.import_module("_thread").start_new_thread


def start_thread(work: t.Callable[[], None], name: str) -> None:
    """Run *work* on a thread that nobody waits for when the process ends."""
    if is_patched():
        original("_thread", "start_new_thread")(work, ())
    else:
        threading.Thread(target=work, name=name, daemon=True).start()


def thread_seconds() -> float:
    """Return the CPU seconds that the calling thread has used; 0 on a platform that does not count per thread."""
    return time.thread_time() if hasattr(time, "thread_time") else 0.0


def new_lock() -> t.Any:
    """Return a lock between threads."""
    return original("_thread", "allocate_lock")()


class Signal:
    """Wakes a thread, and is remembered where that is not asleep."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wake the thread that waits, or the next one that does."""
        try:
            self._lock.release()
        except RuntimeError:  # set already
            pass

    def wait(self, timeout: float) -> None:
        """Sleep until it is set, for *timeout* seconds at most; on a thread of the operating system only."""
        self._lock.acquire(timeout=timeout)


class Answer:
    """Something that one thread, or greenlet, waits for and another one brings."""

    def __init__(self) -> None:
        self.is_there: bool = False
        self._signal = Signal()

    def bring(self) -> None:
        """Let whoever waits go on."""
        self.is_there = True
        self._signal.set()

    def wait(self, timeout: float) -> bool:
        """Wait for it, for *timeout* seconds at most; on a greenlet, others go on meanwhile."""
        if not is_patched():
            self._signal.wait(timeout)
            return self.is_there
        deadline = time.monotonic() + timeout
        while not self.is_there and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.is_there
