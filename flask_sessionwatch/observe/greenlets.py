"""Tell greenlets apart where gevent or eventlet runs them; elsewhere a thread is all there is.

SQLAlchemy runs each call of an asyncio session on a greenlet of its own. Those are steps of the task that awaits
them, and stand for whoever switched to them.
"""

from __future__ import annotations

import sys
import threading
import typing as t
import weakref

_LIBRARIES = ("gevent", "eventlet")


def in_use() -> bool:
    """Whether a library that runs work on greenlets was imported."""
    return any(name in sys.modules for name in _LIBRARIES)


def current() -> t.Any:
    """Return the greenlet that is running; None where nobody uses greenlets."""
    library = sys.modules.get("greenlet")
    if library is None or not in_use():
        return None
    running = library.getcurrent()
    while running.parent is not None and type(running).__module__.startswith("sqlalchemy."):
        running = running.parent
    return running


def thread_ident() -> int:
    """Return the ident of the running thread, also where gevent gives each greenlet one of its own."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return threading.get_ident()
    ident: int = monkey.get_original("_thread", "get_ident")()
    return ident


class GreenletLocal:
    """What ``threading.local`` is, but per greenlet and whether or not gevent has patched that.

    :param threads: what each thread had before; the greenlet that the thread began with inherits it.
    """

    def __init__(self, threads: t.Any) -> None:
        vars(self)["_threads"] = threads
        vars(self)["_greenlets"] = weakref.WeakKeyDictionary()

    def __getattr__(self, name: str) -> t.Any:
        try:
            return self._mine()[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: t.Any) -> None:
        self._mine()[name] = value

    def _mine(self) -> dict[str, t.Any]:
        running = current()
        mine: dict[str, t.Any] | None = self._greenlets.get(running)
        if mine is None:
            mine = self._greenlets[running] = self._inherited(running) if running.parent is None else {}
        return mine

    def _inherited(self, running: t.Any) -> dict[str, t.Any]:
        inherited = dict(vars(self._threads))
        if "holder" in inherited:
            inherited["holder"].belongs_to(running)
        return inherited
