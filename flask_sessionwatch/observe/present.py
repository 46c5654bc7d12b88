"""What a holder of a connection is doing right now: read from its thread's stack and its driver."""

from __future__ import annotations

import os
import sys
import typing as t
from types import FrameType

import sqlalchemy as sa

from .ledger import Checkout
from .ledger import Holder
from .stack import Site
from .stack import Stack
from .stack import Stacks

_SQLALCHEMY = os.path.join(os.path.dirname(sa.__file__), "")
_POOL = os.path.join(_SQLALCHEMY, "pool", "")
#: libpq's and psycopg's PQTRANS_IDLE, and MySQL's SERVER_STATUS_IN_TRANS.
_POSTGRES_IDLE = 0
_MYSQL_IN_TRANSACTION = 1
_MYSQL_AUTOCOMMIT = 2


class Present:
    """One look at every thread, shared by all rules of a tick."""

    def __init__(self, stacks: Stacks) -> None:
        self.stacks = stacks
        self._frames = sys._current_frames()

    def frame(self, holder: Holder) -> FrameType | None:
        """Return the innermost frame of *holder*'s thread, or None when it is over."""
        return self._frames.get(holder.ident) if holder.is_alive else None

    def stack(self, holder: Holder) -> Stack:
        """Return the present stack of *holder*'s thread."""
        return self.stacks.capture(self.frame(holder))

    def site(self, holder: Holder) -> Site | None:
        """Return the application's line that *holder*'s thread is at."""
        return self.stacks.site(self.stack(holder))

    def runs_statement(self, holder: Holder) -> bool:
        """Whether *holder*'s thread is inside SQLAlchemy or a driver, and not merely waiting for the pool."""
        frame = self.frame(holder)
        while frame is not None:
            filename = frame.f_code.co_filename
            if filename.startswith(_POOL):
                return False
            if filename.startswith(_SQLALCHEMY):
                return True
            if self.stacks.is_application(filename):
                return False
            frame = frame.f_back
        return False

    def has_moved_on(self, holder: Holder, stack: Stack) -> bool:
        """Whether nothing of the application that was running in *stack* runs on that thread any more."""
        codes = self.stacks.application_codes(stack)
        frame = self.frame(holder)
        if not codes or frame is None:
            return False
        outermost = codes[-1]
        while frame is not None:
            if frame.f_code is outermost:
                return False
            frame = frame.f_back
        return True


def in_transaction(checkout: Checkout) -> bool:
    """Whether *checkout*'s connection is in a transaction, by the driver's word where it gives one."""
    status = _driver_status(checkout)
    if status is not None:
        return status
    if checkout.transaction is not None:
        return checkout.transaction.ended_at is None
    latest = None if checkout.latest_ref is None else checkout.latest_ref()
    return latest is not None and bool(latest.is_active)


def _driver_status(checkout: Checkout) -> bool | None:
    """Ask the driver, which answers from memory: neither the network nor a lock is touched."""
    proxy = checkout.proxy()
    connection = getattr(proxy, "driver_connection", None)
    if connection is None:
        return None
    try:
        info = getattr(connection, "info", None)
        status = getattr(info, "transaction_status", None)
        if status is not None:
            return int(status) != _POSTGRES_IDLE
        server_status = getattr(connection, "server_status", None)
        if isinstance(server_status, int):
            return _mysql_status(server_status)
        # sqlite3 without an isolation level begins nothing by itself.
        if (
            getattr(connection, "isolation_level", "") is None
            or getattr(connection, "autocommit", None) is True
        ):
            return bool(connection.in_transaction)
    except Exception:  # a connection that is being closed meanwhile answers with any error it likes
        return None
    return None


def _mysql_status(server_status: int) -> bool | None:
    # PyMySQL reads the status from answers without rows only: after a SELECT it is still the one before.
    if server_status & _MYSQL_IN_TRANSACTION:
        return True
    return False if server_status & _MYSQL_AUTOCOMMIT else None


def pool_use(checkout: Checkout, used: int) -> float | None:
    """Return the share of the pool that is checked out, 0 to 1; None for a pool without a limit."""
    capacity: t.Final = checkout.engine.capacity
    return None if not capacity else used / capacity
