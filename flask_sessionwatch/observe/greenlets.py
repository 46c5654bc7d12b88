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
    return "greenlet" in sys.modules and any(name in sys.modules for name in _LIBRARIES)


def current() -> t.Any:
    """Return the greenlet that is running; None where nobody uses greenlets."""
    if not in_use():
        return None
    running = sys.modules["greenlet"].getcurrent()
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


class Own:
    """What one greenlet has of its own."""

    __slots__ = ("__weakref__", "connecting_at", "greenlet_ref", "holder")

    #: When it began to connect.
    connecting_at: float | None
    #: Its record in the ledger.
    holder: t.Any

    def __init__(self, greenlet: t.Any) -> None:
        self.greenlet_ref: weakref.ref[t.Any] = weakref.ref(greenlet)


class GreenletLocal:
    """What ``threading.local`` is, but per greenlet and whether or not gevent has patched that.

    :param threads: what each thread had before; the greenlet that the thread began with inherits it.
    """

    def __init__(self, threads: t.Any) -> None:
        self._threads = threads
        self._greenlets: weakref.WeakKeyDictionary[t.Any, Own] = weakref.WeakKeyDictionary()
        #: Leads to what belongs to the greenlet that asked last: mostly the same one asks next.
        self._latest: t.Callable[[], Own | None] = _nothing
        self._current: t.Callable[[], t.Any] = sys.modules["greenlet"].getcurrent

    @property
    def holder(self) -> t.Any:
        """The record of the running greenlet; an AttributeError where it has none yet."""
        own = self._latest()
        if own is None or own.greenlet_ref() is not self._current():
            own = self._find()
        return own.holder

    @holder.setter
    def holder(self, holder: t.Any) -> None:
        self._find().holder = holder

    @property
    def connecting_at(self) -> float | None:
        """When the running greenlet began to connect."""
        return self._find().connecting_at

    @connecting_at.setter
    def connecting_at(self, moment: float | None) -> None:
        self._find().connecting_at = moment

    def _find(self) -> Own:
        running = current()
        own = self._greenlets.get(running)
        if own is None:
            own = self._greenlets[running] = Own(running)
            if running.parent is None:
                self._inherit(own, running)
        self._latest = weakref.ref(own)
        return own

    def _inherit(self, own: Own, running: t.Any) -> None:
        for name, value in vars(self._threads).items():
            setattr(own, name, value)
            if name == "holder":
                value.belongs_to(running)


def _nothing() -> None:
    return None
