"""The fixture ``sessionwatch``: assertions that show what happened when they fail."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from ..observe.ledger import Ledger
from .events import CHECKED_OUT
from .events import COMMITTED
from .events import Event
from .events import Events
from .events import counted


class Assertions:
    """What a test has done to the database so far, and what it expects of a block.

    :param events: what was seen since the test began.
    :param ledger: what is open now.
    """

    def __init__(self, events: Events, ledger: Ledger) -> None:
        self._events = events
        self._ledger = ledger

    @property
    def commits(self) -> int:
        """The commits so far. The release of a savepoint is none."""
        return _count(COMMITTED, self._events.seen)

    @property
    def connections(self) -> int:
        """How often a connection was checked out so far."""
        return _count(CHECKED_OUT, self._events.seen)

    @property
    def open_connections(self) -> int:
        """How many connections are checked out now."""
        return len(self._ledger.checkouts)

    def expect(
        self,
        *,
        commits: int | None = None,
        connections: int | None = None,
        max_commits: int | None = None,
        max_connections: int | None = None,
    ) -> Expecting:
        """Expect of a block exactly, or at most, so many commits and check-outs.

        An AssertionError, which shows what happened where, says that it did otherwise.

        :param commits: how often it is to commit.
        :param connections: how often it is to check out a connection.
        :param max_commits: how often it may commit.
        :param max_connections: how often it may check out a connection.
        """
        limits = {
            COMMITTED: ("commit", commits, max_commits),
            CHECKED_OUT: ("check-out", connections, max_connections),
        }
        return Expecting(self._events, self._ledger, limits)


Limits: t.TypeAlias = "dict[str, tuple[str, int | None, int | None]]"


class Expecting:
    """A block of which something is expected: the value of :meth:`Assertions.expect`."""

    def __init__(self, events: Events, ledger: Ledger, limits: Limits) -> None:
        self._events = events
        self._ledger = ledger
        self._limits = limits

    def __enter__(self) -> None:
        self._before = len(self._events.seen)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        __tracebackhide__ = True
        if error is not None:
            return
        seen = self._events.seen[self._before :]
        wrong = [
            line
            for what, (noun, exactly, most) in self._limits.items()
            for line in _compared(noun, _count(what, seen), exactly, most)
        ]
        if wrong:
            raise AssertionError("\n".join([*wrong, *self._shown(seen)]))

    def _shown(self, seen: list[Event]) -> list[str]:
        lines = [f"  {event}" for event in seen] or ["  nothing happened"]
        stacks = self._ledger.stacks
        for checkout in sorted(self._ledger.checkouts, key=lambda each: each.began_at):
            site = stacks.site(checkout.stack)
            place = "" if site is None else f", checked out at {site}"
            lines.append(f"  still out: a connection of engine '{checkout.engine.name}'{place}")
        return lines


def _count(what: str, seen: list[Event]) -> int:
    return sum(1 for event in seen if event.what == what)


def _compared(noun: str, seen: int, exactly: int | None, most: int | None) -> Iterator[str]:
    if exactly is not None and seen != exactly:
        yield f"expected {counted(exactly, noun)}, and there {_were(seen)} {seen}:"
    if most is not None and seen > most:
        yield f"expected {counted(most, noun)} at most, and there {_were(seen)} {seen}:"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
