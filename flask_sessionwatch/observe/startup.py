"""See what is checked out while the application is still being set up, before a watch is attached.

A connection that a start-up query leaves checked out is a bug of its own, and its line can only be told if
somebody looked at the time. So importing the package listens to check-outs, and to nothing else, until the first
:class:`~flask_sessionwatch.SessionWatch` takes over, or until more was seen than any start-up needs.
"""

from __future__ import annotations

import os
import sys
import typing as t
import weakref

from sqlalchemy import event
from sqlalchemy import pool as sa_pool

from ..settings import FALSE_WORDS
from .clock import clock
from .holder import Holder
from .stack import Stack
from .stack import Stacks

#: Check-outs after which the look at the start-up ends by itself.
CHECKOUTS_SEEN = 1_000


class Early(t.NamedTuple):
    """A connection that was checked out during start-up."""

    record_ref: weakref.ref[t.Any]
    proxy_ref: weakref.ref[t.Any]
    stack: Stack
    holder: Holder
    began_at: float


class Startup:
    """Listens to the pools until a watch is attached."""

    def __init__(self) -> None:
        self._stacks = Stacks()
        self._held: dict[int, Early] = {}
        self._left = CHECKOUTS_SEEN
        self._listening = False

    def listen(self) -> None:
        """Start to listen, unless the environment says that nothing is to be watched."""
        if os.environ.get("SESSIONWATCH_ENABLED", "1").strip().lower() not in FALSE_WORDS:
            for name, listener in self._listeners():
                event.listen(sa_pool.Pool, name, listener)
            self._listening = True

    def finish(self) -> list[Early]:
        """Stop listening and return what is still checked out."""
        if self._listening:
            self._listening = False
            for name, listener in self._listeners():
                event.remove(sa_pool.Pool, name, listener)
        held, self._held = list(self._held.values()), {}
        return held

    def _listeners(self) -> list[tuple[str, t.Any]]:
        # A detached connection is the pool's no more, and whoever detached it may keep it.
        return [
            ("checkout", self._on_checkout),
            ("checkin", self._on_returned),
            ("detach", self._on_returned),
        ]

    def _on_checkout(
        self, dbapi_connection: t.Any, connection_record: t.Any, connection_proxy: t.Any
    ) -> None:
        if self._left <= 0:
            return
        try:
            self._left -= 1
            stack = self._stacks.capture(sys._getframe(1))
            refs = weakref.ref(connection_record), weakref.ref(connection_proxy)
            self._held[id(connection_record)] = Early(*refs, stack, Holder(), clock())
        except Exception:
            self._left = 0

    def _on_returned(self, dbapi_connection: t.Any, connection_record: t.Any) -> None:
        self._held.pop(id(connection_record), None)


startup: Startup = Startup()
