"""What a holder of a connection is doing right now: read from its stack and its driver."""

from __future__ import annotations

import typing as t

from .doing import NOTHING
from .doing import STATEMENT
from .doing import Doing
from .doing import doing
from .driver import is_in_transaction
from .frames import undisturbed
from .holder import Holder
from .records import Checkout
from .stack import Stack
from .stack import Stacks


class Present:
    """One look at every thread and greenlet, shared by all rules of a tick."""

    def __init__(self, stacks: Stacks) -> None:
        self.stacks = stacks
        self._doing: dict[Holder, Doing] = {}

    def stack(self, holder: Holder) -> Stack:
        """Return the present stack of *holder*."""
        with undisturbed:
            return self.stacks.capture_of(holder.frame)

    def doing(self, holder: Holder) -> Doing:
        """Say what *holder* is doing, and at which line of the application."""
        if holder not in self._doing:
            self._doing[holder] = doing(holder.frame, self.stacks)
        return self._doing[holder]

    def doing_with(self, checkout: Checkout) -> Doing:
        """Say what who holds *checkout* is doing; once its scope is over, that has nothing to do with it."""
        over = checkout.scope is not None and checkout.scope.ended
        return NOTHING if over else self.doing(checkout.user)

    def runs_statement(self, holder: Holder) -> bool:
        """Whether *holder* is inside SQLAlchemy or a driver, and not merely waiting for the pool."""
        return self.doing(holder).what == STATEMENT

    def waits(self, holder: Holder) -> bool:
        """Whether *holder* sleeps, or waits for somebody else or for a queue; not merely for the pool."""
        what = self.doing(holder).what or ""
        return what.startswith(("asleep", "waiting for a")) and not what.endswith("pool")

    def has_moved_on(self, holder: Holder, stack: Stack) -> bool:
        """Whether nothing of the application that was running in *stack* runs there any more."""
        codes = self.stacks.application_codes(stack)
        if not codes:
            return False
        with undisturbed:
            frame = holder.frame()
            is_there = frame is not None
            while frame is not None:
                if frame.f_code is codes[-1]:
                    return False
                frame = frame.f_back
        return is_there


def in_transaction(checkout: Checkout) -> bool:
    """Whether *checkout*'s connection is in a transaction, by the driver's word where it gives one."""
    connection = getattr(checkout.connection, "driver_connection", None)
    status = None if connection is None else is_in_transaction(connection)
    if status is not None:
        return status
    if checkout.transaction is not None:
        return checkout.transaction.ended_at is None
    latest = None if checkout.latest_ref is None else checkout.latest_ref()
    return latest is not None and bool(latest.is_active)


def pool_use(checkout: Checkout, used: int) -> float | None:
    """Return the share of the pool that is checked out, 0 to 1; None for a pool without a limit."""
    capacity: t.Final = checkout.engine.capacity
    return None if not capacity else used / capacity
