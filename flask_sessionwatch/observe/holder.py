"""Who uses sessions and has connections checked out: threads and greenlets."""

from __future__ import annotations

import sys
import threading
import typing as t
import weakref
from types import FrameType

from . import greenlets

if t.TYPE_CHECKING:
    from .records import Checkout
    from .records import Scope

Ref: t.TypeAlias = t.Callable[[], t.Any]


class Record(t.Protocol):
    """A check-out or a transaction."""

    ended_at: float | None


R = t.TypeVar("R", bound=Record)


def added(present: R | set[R] | None, record: R) -> R | set[R]:
    """Return what stands for *present* and *record*: a record for itself, a set for several."""
    if present is None:
        return record
    if isinstance(present, set):
        present.add(record)
        return present
    return {present, record}


def without(present: R | set[R] | None, record: R) -> R | set[R] | None:
    """Return what stands for *present* without *record*; a set stays one, since somebody may be adding to it."""
    if isinstance(present, set):
        present.discard(record)
    return None if present is record else present


def open_among(present: R | set[R] | None) -> set[R]:
    if present is None:
        return set()
    records = present.copy() if isinstance(present, set) else {present}
    return {record for record in records if record.ended_at is None}


class Owner:
    """Has connections checked out: mostly one at a time, so that a set is made for a second one only."""

    __slots__ = ("held",)

    held: Checkout | set[Checkout] | None

    @property
    def checkouts(self) -> set[Checkout]:
        """What it has checked out now."""
        return open_among(self.held)

    def take(self, checkout: Checkout) -> None:
        """Enter *checkout* as its own."""
        self.held = added(self.held, checkout)

    def let_go(self, checkout: Checkout) -> None:
        """Take *checkout* off, if it is its own."""
        self.held = without(self.held, checkout)


class Holder(Owner):
    """A thread, or a greenlet, that uses sessions; remembered for as long as a record names it."""

    __slots__ = (
        "__weakref__",
        "greenlet_ref",
        "ident",
        "latest",
        "noted",
        "scope",
        "sessionless",
        "thread",
        "thread_ident",
        "waited",
    )

    ident: int
    thread_ident: int

    def __init__(self) -> None:
        greenlet = greenlets.current()
        #: The key of the thread in ``sys._current_frames()``.
        self.thread_ident = self.ident = greenlets.thread_ident()
        #: None for a greenlet that is not the one its thread began with.
        self.thread: threading.Thread | None = None
        self.greenlet_ref: Ref | None = None
        if greenlet is not None:
            self.belongs_to(greenlet)
        if greenlet is None or greenlet.parent is None:
            self.thread = threading.current_thread()
        else:
            self.ident = id(greenlet)
        #: The check-out this thread used last, until it is returned.
        self.latest: Checkout | None = None
        #: Whether there is something to be known of the check-out that it is making.
        self.noted: bool = False
        #: Seconds it has waited for that connection.
        self.waited: float = 0.0
        #: Whether that is not for a Session.
        self.sessionless: bool = False
        #: The request this thread served last, which may be over.
        self.scope: Scope | None = None
        # What this thread has checked out outside of any scope.
        self.held: Checkout | set[Checkout] | None = None

    def belongs_to(self, greenlet: t.Any) -> None:
        """Remember the greenlet, once there are greenlets at all."""
        if self.greenlet_ref is None:
            self.greenlet_ref = weakref.ref(greenlet)

    @property
    def name(self) -> str:
        if self.thread is not None:
            return self.thread.name
        name = getattr(self._greenlet, "name", None)
        return name if isinstance(name, str) else f"greenlet-{self.ident:x}"

    @property
    def is_alive(self) -> bool:
        if self.thread is not None:
            return self.thread.is_alive()
        greenlet = self._greenlet
        return greenlet is not None and not greenlet.dead

    @property
    def _greenlet(self) -> t.Any:
        return None if self.greenlet_ref is None else self.greenlet_ref()

    def frame(self) -> FrameType | None:
        """Return the innermost frame of this thread or greenlet, or None when it is over.

        Nobody may keep it, nor one outside of it, for longer than it takes to go on to the next: what its function has in variables
        outlives the function until then, and an open cursor among that would meet the next user of its connection.
        """
        if not self.is_alive:
            return None
        suspended: FrameType | None = getattr(self._greenlet, "gr_frame", None)
        return sys._current_frames().get(self.thread_ident) if suspended is None else suspended
