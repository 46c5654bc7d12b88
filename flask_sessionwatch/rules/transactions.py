"""SW2xx: transactions that stay open: idle, with locks held, or merely for long."""

from __future__ import annotations

import contextlib
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from ..finding import Finding
from ..finding import Level
from ..observe.present import in_transaction
from ..observe.records import Checkout
from ..observe.stack import site_of
from .base import Limits
from .base import Moment
from .base import Rule
from .base import in_scope
from .base import of_holder


def _idle(moment: Moment, threshold: float | None) -> Iterator[tuple[Checkout, float, float]]:
    """Find the connections that are idle in a transaction, for how long, and what the limit is."""
    limit = moment.settings.idle_in_transaction if threshold is None else threshold
    for checkout in moment.checkouts:
        idle = moment.now - checkout.used_at
        if idle <= limit or not checkout.statements or _is_told_otherwise(checkout, moment):
            continue
        if moment.present.runs_statement(checkout.user):
            checkout.busy_at = moment.now
        elif in_transaction(checkout):
            yield checkout, idle, limit


def _is_told_otherwise(checkout: Checkout, moment: Moment) -> bool:
    """Whether it leaked, or several threads share it: whose it is cannot be said then, and that is told."""
    transaction = checkout.transaction
    if transaction is not None and (transaction.leaked or moment.ledger.is_contested(transaction)):
        return True
    return checkout.leaked


def _has_written(checkout: Checkout) -> bool:
    """Whether the transaction that *checkout* is in has changed rows, whose locks it holds."""
    record = checkout.transaction or checkout
    if record is checkout and checkout.written_ref is not checkout.latest_ref:
        return False
    changed = record.cursor is not None
    with contextlib.suppress(Exception):  # the cursor belongs to another thread, and its driver may mind
        changed = changed and record.cursor.rowcount != 0
    return changed or record.writes > 0


#: How many times the limit makes an idle transaction a warning.
_LONG_IDLE = 4


@dataclass(frozen=True)
class IdleInTransaction(Rule):
    """A connection in a transaction ran no statement for SESSIONWATCH_IDLE_IN_TRANSACTION.

    What it does
        Looks at each tick at connections whose last statement is longer ago than the limit, while their holder
        is elsewhere: in an HTTP call, asleep, rendering, or between two chunks of a stream. A statement that is
        still running is not idle. Told as info at the limit and as a warning from four times the limit on. A
        transaction that has written is told by SW203 instead.

    Why it matters
        The database keeps a snapshot, and often locks, for as long as the transaction is open; the pool lacks
        the connection; and some databases end such sessions by force.

    Example
        ::

            user = db.session.get(User, user_id)
            quote = requests.get(PARTNER, params={"name": user.name})   # seconds, in the transaction

    Instead
        ::

            name = db.session.get(User, user_id).name
            db.session.commit()                    # ends the transaction, returns the connection
            quote = requests.get(PARTNER, params={"name": name})

    Options
        ``threshold``: seconds; SESSIONWATCH_IDLE_IN_TRANSACTION unless given.
    """

    code = "SW202"
    name = "idle-in-transaction"
    hint = "commit or close the session before slow work; if this is expected, raise SESSIONWATCH_IDLE_IN_TRANSACTION."
    limits: t.ClassVar[Limits] = MappingProxyType({"idle_in_transaction": "threshold"})

    threshold: float | None = None

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for checkout, idle, limit in _idle(moment, self.threshold):
            level: Level = "warning" if idle > _LONG_IDLE * limit else "info"
            if not _has_written(checkout) and self.is_news(checkout, level):
                yield self._told(checkout, moment, idle, level)

    def _told(self, checkout: Checkout, moment: Moment, idle: float, level: Level) -> Finding:
        message = (
            f"{in_scope(checkout.scope)} holds a connection of engine '{checkout.engine.name}' idle in transaction: "
            f"no statement for {idle:.1f} s ({moment.held(checkout)})."
        )
        return self.finding(
            moment,
            message,
            checkout.stack,
            checkout.scope,
            level=level,
            verb="checked out",
            subject=checkout,
            details={**of_holder(checkout, moment), "idle_seconds": round(idle, 3)},
        )


#: How many times the limit makes a held lock an error.
_LONG_LOCKED = 2


@dataclass(frozen=True)
class LockHeld(Rule):
    """A transaction that has written ran no statement for SESSIONWATCH_IDLE_IN_TRANSACTION, and holds its locks.

    What it does
        Looks for the same as SW202 after a write: a flush, a bulk statement or one over a Core connection. Told in
        place of SW202, as info at the limit and as an error from twice the limit on. It names the line that wrote
        first, and the one where its holder is now.

    Why it matters
        Whoever wants to change the same rows waits until this transaction ends, and holds a connection of the
        pool meanwhile. SQLite locks the whole database: every other writer waits, five seconds unless told
        otherwise, and then fails with "database is locked".

    Example
        ::

            order.status = "charging"
            db.session.flush()                     # the row is locked from here on
            receipt = payments.charge(order.total) # seconds
            db.session.commit()

    Instead
        ::

            order.status = "charging"
            db.session.commit()                    # ends the transaction, and with it the locks
            receipt = payments.charge(total)

    Options
        ``threshold``: seconds; SESSIONWATCH_IDLE_IN_TRANSACTION unless given.
    """

    code = "SW203"
    name = "lock-held"
    level: t.ClassVar[Level] = "error"
    hint = "commit before slow work, or write after it; if this is expected, raise SESSIONWATCH_IDLE_IN_TRANSACTION."
    limits: t.ClassVar[Limits] = MappingProxyType({"idle_in_transaction": "threshold"})

    threshold: float | None = None

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for checkout, idle, limit in _idle(moment, self.threshold):
            # What a request left to the app context around it is told by SW301; there it may stay for long.
            harmful = idle > _LONG_LOCKED * limit and checkout.origin is None
            level: Level = "error" if harmful else "info"
            if _has_written(checkout) and self.is_news(checkout, level):
                yield self._told(checkout, moment, idle, level)

    def _told(self, checkout: Checkout, moment: Moment, idle: float, level: Level) -> Finding:
        engine = checkout.engine
        locked = "the whole database" if engine.dialect == "sqlite" else "the rows it wrote"
        wrote_at = (checkout.transaction or checkout).wrote_at
        message = (
            f"{in_scope(checkout.scope)} wrote over a connection of engine '{engine.name}', and keeps {locked} locked: "
            f"no statement for {idle:.1f} s, and no commit ({moment.held(checkout)})."
        )
        return self.finding(
            moment,
            message,
            checkout.stack,
            checkout.scope,
            level=level,
            site=None if wrote_at is None else site_of(wrote_at),
            verb="checked out" if wrote_at is None else "written",
            subject=checkout,
            details={**of_holder(checkout, moment), "idle_seconds": round(idle, 3)},
        )


@dataclass(frozen=True)
class LongTransaction(Rule):
    """A transaction is open for longer than SESSIONWATCH_LONG_TRANSACTION.

    What it does
        Looks at each tick at Sessions and Core connections that are in the same transaction for longer than the
        limit, busy or not. In autocommit there is no transaction.

    Why it matters
        Under snapshot isolation the rows it reads are those of its beginning, PostgreSQL cannot clean up what was
        deleted since, and what it has locked stays locked. A report or an import may take its time; a request
        should not.

    Example
        ::

            for row in rows:                       # a million rows, one transaction
                db.session.add(Product(**row))
            db.session.commit()

    Instead
        ::

            for batch in batched(rows, 1000):
                db.session.add_all(Product(**row) for row in batch)
                db.session.commit()

    Options
        ``threshold``: seconds; SESSIONWATCH_LONG_TRANSACTION unless given.
    """

    code = "SW207"
    name = "long-transaction"
    level: t.ClassVar[Level] = "info"
    hint = "commit in smaller steps; if this is expected, raise SESSIONWATCH_LONG_TRANSACTION."
    limits: t.ClassVar[Limits] = MappingProxyType({"long_transaction": "threshold"})

    threshold: float | None = None

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        threshold = moment.settings.long_transaction if self.threshold is None else self.threshold
        for checkout in moment.checkouts:
            began_at = _transaction_began_at(checkout, moment)
            if began_at is None or moment.now - began_at <= threshold or _is_told_otherwise(checkout, moment):
                continue
            if in_transaction(checkout) and self.is_news(checkout, self.level):
                yield self._told(checkout, moment, moment.now - began_at)

    def _told(self, checkout: Checkout, moment: Moment, seconds: float) -> Finding:
        message = (
            f"{in_scope(checkout.scope)} is in one transaction of engine '{checkout.engine.name}' for {seconds:.1f} s, "
            f"which ran {checkout.statements} statements so far ({moment.held(checkout)})."
        )
        return self.finding(
            moment,
            message,
            checkout.stack,
            checkout.scope,
            verb="checked out",
            subject=checkout,
            details={**of_holder(checkout, moment), "open_seconds": round(seconds, 3)},
        )


def _transaction_began_at(checkout: Checkout, moment: Moment) -> float | None:
    """Return since when *checkout* is known to be in its transaction; None where it ran nothing yet.

    A Session checks a connection out for each transaction. Over a Core connection there may be many: which it is
    in is seen at each tick.
    """
    if not checkout.statements:
        return None
    if checkout.transaction is not None:
        return checkout.began_at
    if checkout.seen_ref is not checkout.latest_ref:
        checkout.seen_ref, checkout.seen_at = checkout.latest_ref, moment.now
    return checkout.seen_at
