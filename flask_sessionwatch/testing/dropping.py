"""``drop_all()`` that waits for a lock: who is in its way."""

from __future__ import annotations

import os
import sys
import threading
import typing as t
from types import FrameType

import sqlalchemy as sa
from sqlalchemy import event

from ..observe.clock import clock
from ..observe.engines import pooled_of
from ..observe.frames import undisturbed
from ..observe.pooled import Pooled
from ..observe.records import Checkout
from ..observe.stack import Stack
from ..observe.stack import runs
from ..process import Process

#: Seconds that it may take before somebody is told.
PATIENCE = 2.0
_CODES = frozenset((sa.MetaData.drop_all.__code__,))


class Dropping:
    """Watches ``MetaData.drop_all()``, which waits for each transaction that has touched one of the tables.

    Such a wait may never end: it is told while it lasts, to the terminal itself.

    :param process: the process that is watched.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._timer: threading.Timer | None = None
        self._pooled: Pooled | None = None
        self._stack: Stack = ()
        self._terminal: int | None = None
        self._listeners = [
            (sa.MetaData, "before_drop", self._before),
            (sa.MetaData, "after_drop", self._after),
        ]
        for target, name, listener in self._listeners:
            event.listen(target, name, listener)

    def open_terminal(self) -> None:
        """Remember the terminal, for when pytest captures what is written to it."""
        try:
            self._terminal = os.dup(sys.__stderr__.fileno())  # type: ignore[union-attr]
        except (AttributeError, OSError, ValueError):  # none is there
            self._terminal = None

    def close(self) -> None:
        """Watch no more."""
        self._after()
        for target, name, listener in self._listeners:
            event.remove(target, name, listener)
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    @property
    def failed(self) -> str | None:
        """Who was in the way of a ``drop_all()`` that did not come to its end; None where there is no such."""
        if self._timer is None:
            return None
        told = self._told("drop_all() did not come to its end.")
        self._after()
        return told

    def _before(self, metadata: object, connection: t.Any, **_: object) -> None:
        self._after()
        self._pooled = pooled_of(connection)
        self._stack = self._process.stacks.capture(sys._getframe(1))
        self._timer = threading.Timer(PATIENCE, self._waits, [threading.get_ident(), clock()])
        self._timer.daemon = True
        self._timer.start()

    def _after(self, *_: object, **__: object) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _waits(self, ident: int, since: float) -> None:
        with undisturbed:
            frame: FrameType | None = sys._current_frames().get(ident)
            still = runs(frame, _CODES)
        if self._terminal is not None and still:
            text = self._told(f"drop_all() has been waiting for {clock() - since:.0f} s.")
            os.write(self._terminal, f"\n{text}\n".encode(errors="replace"))

    def _told(self, fact: str) -> str:
        site = self._process.stacks.site(self._stack)
        lines = [f"sessionwatch: {fact}"]
        if site is not None:
            lines.append(f"  called at {site}")
        others = [each for each in self._process.ledger.checkouts if each.pooled is not self._pooled]
        if not others:
            lines.append("  nothing else is checked out in this process: another process may hold a lock")
        lines += [self._line(each) for each in sorted(others, key=lambda each: each.began_at)]
        return "\n".join(lines)

    def _line(self, checkout: Checkout) -> str:
        site = self._process.stacks.site(checkout.stack)
        place = "" if site is None else f" at {site}"
        scope = checkout.scope or (checkout.transaction and checkout.transaction.scope)
        by = f", by {scope.name}" if scope else ""
        what = "a session's connection" if checkout.transaction is not None else "a connection"
        seconds = clock() - checkout.began_at
        return (
            f"  in its way, perhaps: {what} of engine '{checkout.engine.name}', checked out{place}{by}, "
            f"held for {seconds:.1f} s"
        )
