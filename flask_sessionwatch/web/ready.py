"""Answers that are made before somebody asks, for as long as somebody asks again and again.

What a thousand workers publish takes longer to read and to put together than a page may take to answer. So what was asked for
twice is made anew in the background, and whoever asks is handed what is ready. Access is decided before anybody comes here.
"""

from __future__ import annotations

import threading
import time
import typing as t
from collections.abc import Hashable

from ..store import reader
from .answers import Made

#: Seconds after the last question from which on nothing is made in the background any more.
WATCHED_SECONDS = 10.0
#: Seconds between two makings of what is asked for again and again, if nothing else is said.
EVERY = 1.0
#: Seconds by which an answer may be late on a busy machine; whoever asks then waits for the next one.
LATE_SECONDS = 1.5
#: Answers that are kept; what was asked for the longest ago is dropped beyond that.
PLACES = 32

Make: t.TypeAlias = "t.Callable[[], Made]"


class Answers(t.Protocol):
    """Where answers come from."""

    def __call__(self, key: Hashable, make: Make, every: float = EVERY) -> Made:
        """Return an answer.

        :param key: what is asked for.
        :param make: makes the answer.
        :param every: seconds after which it is worth making again.
        """


def at_once(key: Hashable, make: Make, every: float = EVERY) -> Made:
    """Make each answer for whoever asks: the process that knows most of it has nothing to wait for."""
    return make()


class Ready:
    """Keeps answers ready, and makes them anew on a thread that ends when nobody asks any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: What was asked for the longest ago comes first.
        self._places: dict[Hashable, _Place] = {}
        self._is_running = False

    def __call__(self, key: Hashable, make: Make, every: float = EVERY) -> Made:
        """Return an answer, made now where none is ready."""
        with self._lock:
            place = self._places.pop(key, None) or _Place(make, every)
            self._places[key] = place
            place.ask()
            if len(self._places) > PLACES:
                del self._places[next(iter(self._places))]
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="flask_sessionwatch.ready", daemon=True).start()
        return place.answer()

    def _run(self) -> None:
        while places := self._left():
            began = time.monotonic()
            for each in places:
                each.keep()
            # It leaves half of the time to those who hand out.
            time.sleep(max(_SHORTEST_PAUSE, time.monotonic() - began))

    def _left(self) -> list[_Place]:
        """Drop what nobody asks for any more, and return what is left; where nothing is, this thread is the last."""
        with self._lock:
            for key in [key for key, each in self._places.items() if not each.is_asked_for]:
                del self._places[key]
            self._is_running = bool(self._places)
            return list(self._places.values())


_SHORTEST_PAUSE = 0.05


class _Place:
    """Where one answer is kept."""

    def __init__(self, make: Make, every: float) -> None:
        self._make = make
        self._every = every
        self._lock = threading.Lock()
        self._made: tuple[float, Made] | None = None
        self._asked_at = float("-inf")
        #: Whether it was asked for again before it was forgotten: one question alone is not worth the work.
        self._is_watched = False
        self._due = 0.0

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody has asked for it lately."""
        return time.monotonic() < self._asked_at + WATCHED_SECONDS

    def ask(self) -> None:
        """Note that somebody asks."""
        self._is_watched = self.is_asked_for
        self._asked_at = time.monotonic()

    def answer(self) -> Made:
        """Return what is ready, unless it is too old."""
        return self._fresh() or self._next()

    def _next(self) -> Made:
        with self._lock:
            return self._fresh() or self._make_it()

    def _fresh(self) -> Made | None:
        ready = self._made
        most = self._every + LATE_SECONDS if self._is_watched else min(self._every, reader.FRESH_SECONDS)
        return ready[1] if ready is not None and time.monotonic() < ready[0] + most else None

    def keep(self) -> None:
        """Make it anew, where it is due and somebody waits for it again and again."""
        if not self._is_due:
            return
        with self._lock:
            # Somebody may have made it while this waited.
            if self._is_due:
                try:
                    self._make_it()
                except Exception:  # whoever asks next gets to see it
                    self._made = None

    @property
    def _is_due(self) -> bool:
        return self._is_watched and time.monotonic() >= self._due

    def _make_it(self) -> Made:
        began = time.monotonic()
        made = self._make()
        self._made = (began, made)
        # From the end on, for as long serves what was read from the store.
        self._due = time.monotonic() + self._every
        return made
