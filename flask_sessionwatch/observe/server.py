"""Know the server that runs the application: how many workers and threads it has."""

from __future__ import annotations

import os
import sys
import threading
import typing as t
from types import FrameType

from .frames import undisturbed

_GUNICORN = f"{os.sep}gunicorn{os.sep}"
#: How servers name the threads that serve requests, all of which they start at once.
_THREAD_NAMES = {"waitress-": "waitress", "CP Server": "cheroot"}


class Server(t.NamedTuple):
    """A server, with the number of its worker processes and of each one's threads for requests."""

    name: str
    workers: int
    threads: int


def server_around(frame: FrameType | None) -> Server | None:
    """Return the server that is running: the one whose code is on the stack, in this process, or known by its threads."""
    try:
        with undisturbed:
            return _gunicorn(frame) or _uwsgi() or _by_threads()
    except Exception:  # somebody else's object that answers in a way of its own
        return None


def main_frame() -> FrameType | None:
    """Return the main thread's innermost frame."""
    with undisturbed:
        return sys._current_frames().get(threading.main_thread().ident or 0)


def _gunicorn(frame: FrameType | None) -> Server | None:
    while frame is not None:
        if _GUNICORN in frame.f_code.co_filename:
            config = getattr(frame.f_locals.get("self"), "cfg", None)
            workers, threads = getattr(config, "workers", None), getattr(config, "threads", None)
            if isinstance(workers, int) and isinstance(threads, int):
                threaded = str(getattr(config, "worker_class_str", "")).endswith("gthread")
                return Server("gunicorn", workers, threads if threaded else 1)
        frame = frame.f_back
    return None


def _uwsgi() -> Server | None:
    uwsgi = sys.modules.get("uwsgi")  # there is none but inside of uWSGI
    options = getattr(uwsgi, "opt", None)
    if not isinstance(options, dict):
        return None
    return Server("uWSGI", int(getattr(uwsgi, "numproc", 1)), int(options.get("threads", 1)))


def _by_threads() -> Server | None:
    names = [thread.name for thread in threading.enumerate()]
    for prefix, server in _THREAD_NAMES.items():
        number = sum(name.startswith(prefix) for name in names)
        if number:
            return Server(server, 1, number)
    return None
