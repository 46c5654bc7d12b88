"""SW2xx: sessions and transactions that are left open, lost or failed."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.records import Checkout
from ..observe.records import Failure
from ..observe.records import Incident
from ..observe.records import Scope
from ..observe.records import Transaction
from ..observe.stack import site_of
from .base import Moment
from .base import Rule
from .base import confirmed
from .base import in_scope
from .base import is_left_behind
from .base import lines_at
from .base import of_holder


@dataclass(frozen=True)
class LeakedSession(Rule):
    """A scope ended with a Session still in a transaction.

    What it does
        Looks at the end of every scope for Sessions that it began and did not close, and names what they hold: a
        connection, or changes that nobody will commit. Outside of any scope it looks at each tick for Sessions
        whose thread is over, or is long doing something else. A Session without a connection and without changes
        holds nothing and is left alone, and so is one that joined a connection of somebody else.

    Why it matters
        A Session keeps its connection until ``commit()``, ``rollback()`` or ``close()``. Going out of scope does
        not return it: Session and transaction form a reference cycle that waits for the garbage collector.

    Example
        ::

            session = Session(db.engine)
            order = session.get(Order, order_id)
            if order is None:
                return "no such order", 404        # the session stays open
            session.close()

    Instead
        ::

            with Session(db.engine) as session:
                order = session.get(Order, order_id)
                if order is None:
                    return "no such order", 404

    Options
        None.
    """

    code = "SW201"
    name = "leaked-session"
    level: t.ClassVar[Level] = "error"
    hint = (
        "use 'with Session(engine) as session:', or 'db.session', which is removed when its app context ends."
    )

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        for transaction in scope.transactions:
            level = self._level(transaction, moment)
            if level is not None:
                yield self._told(
                    transaction, moment, f"{(transaction.origin or scope).name} ended with", level
                )

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for transaction in moment.transactions:
            if transaction.leaked or transaction.external or moment.ledger.is_contested(transaction):
                continue
            held = transaction.held
            suspect = bool(held) and all(is_left_behind(each, moment) for each in held)
            if confirmed(transaction, moment, suspect=suspect):
                yield self._told(transaction, moment, f"{in_scope(transaction.scope)} left", "error")

    def _level(self, transaction: Transaction, moment: Moment) -> Level | None:
        # A session that several threads share is told as that: whose leak it is cannot be said.
        if transaction.external or transaction.leaked or moment.ledger.is_contested(transaction):
            return None
        if transaction.held:
            return "error"
        session = transaction.session()
        changed = session is not None and bool(session.new or session.deleted or session.dirty)
        return "warning" if changed else None

    def _told(self, transaction: Transaction, moment: Moment, fact: str, level: Level) -> Finding:
        transaction.leaked = True
        held = transaction.held
        holds = (
            f"a connection of engine '{held[0].engine.name}'" if held else "changes that were never flushed"
        )
        message = f"{fact} a Session still in a transaction that holds {holds} ({moment.held(transaction)})."
        details = of_holder(held[0], moment) if held else {}
        return self.finding(
            moment,
            message,
            transaction.stack,
            transaction.origin or transaction.scope,
            level=level,
            verb="begun",
            subject=transaction,
            details=details,
        )


@dataclass(frozen=True)
class UncommittedChanges(Rule):
    """Writes were thrown away without anyone asking for it.

    What it does
        Tells of objects added but never flushed, changed but never flushed, rows written by a flush, a bulk
        statement or a Core connection and never committed, and work that a teardown function rolled back after
        the response had been built; and what an error handler writes itself. An explicit rollback, also one to a
        savepoint or as SQL, an exception that left the scope or the block, a statement that matched no row, a
        temporary table and a connection in autocommit are not this. ``abort(redirect(...))`` is an answer like any other.

    Why it matters
        The client was told that all went well, and the data is not there.

    Example
        ::

            db.session.add(Order(user=user))
            db.session.flush()                     # to get the id
            return {"id": order.id}, 201           # rolled back at teardown

    Instead
        ::

            db.session.add(order)
            db.session.commit()
            return {"id": order.id}, 201

    Options
        None. It is an error under an answer below 400, a warning under a 5xx, and info under a 4xx.
    """

    code = "SW204"
    name = "uncommitted-changes"
    level: t.ClassVar[Level] = "error"
    hint = "call commit() before the session or connection is closed, or rollback() where the work is not wanted."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        scope = incident.scope
        record = incident.subject
        if incident.kind != "lost_write" or record is None or _was_called_off(record, scope):
            return
        status = None if scope is None else scope.status
        answered = f" answered {status}, but" if status is not None else ":"
        message = f"{in_scope(scope)}{answered} {_what_was_lost(record)}."
        # After a commit the first write is history; what was lost came later.
        committed = isinstance(record, Transaction) and record.committed
        site = None if committed or record.wrote_at is None else site_of(record.wrote_at)
        yield self.finding(
            moment,
            message,
            incident.stack,
            scope,
            level=self._level(status),
            site=site,
            verb="written" if site is not None else "begun",
            details={
                "status": status,
                "writes": record.writes,
                "objects": getattr(record, "dropped", None) or {},
            },
        )

    def _level(self, status: int | None) -> Level:
        if status is None or status < 400:
            return "error"
        return "warning" if status >= 500 else "info"


def _was_called_off(record: Checkout | Transaction, scope: Scope | None) -> bool:
    """Whether an exception left the scope after the writes: what an error handler writes is work of its own."""
    return scope is not None and scope.failed and not record.in_handler


def _what_was_lost(record: Checkout | Transaction) -> str:
    writes = "1 write" if record.writes == 1 else f"{record.writes} writes"
    if isinstance(record, Checkout):
        return f"a connection was closed without commit(), which rolled back {writes}"
    parts = [f"{number} unsaved {name}" for name, number in (record.dropped or {}).items()]
    if record.writes and not record.committed:
        parts.append(writes)
    return f"{record.lost_how} {' and '.join(parts)}"


@dataclass(frozen=True)
class FailedTransaction(Rule):
    """A statement or flush failed, and its transaction was used or left without a rollback.

    What it does
        Remembers where a statement or flush failed. Tells when another statement runs in the same transaction,
        when a Session that waits for ``rollback()`` is used again (PendingRollbackError), when the failed
        transaction is committed, and when the error was swallowed and the transaction simply left. A rollback,
        also one to a savepoint, puts it right; an exception that ends the request is no finding.

    Why it matters
        After a failed flush every use of the Session fails, far from the cause. PostgreSQL refuses every further
        statement of the transaction, and answers its COMMIT with a rollback.

    Example
        ::

            try:
                db.session.add(User(name=name))
                db.session.commit()
            except IntegrityError:
                pass                               # the session still waits for rollback()
            count = db.session.scalar(select(func.count(User.id)))

    Instead
        ::

            except IntegrityError:
                db.session.rollback()

        or, for a statement that may fail, a savepoint: ``with db.session.begin_nested():``.

    Options
        None.
    """

    code = "SW205"
    name = "failed-transaction"
    level: t.ClassVar[Level] = "error"
    hint = "call rollback() where the error is caught, or run what may fail inside 'with session.begin_nested():'."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "failed":
            return
        failure: Failure = incident.details["failure"]
        how: str = incident.details["how"]
        level = self._level(incident, how)
        if level is None:
            return
        message = (
            f"{in_scope(incident.scope)}: {failure.error} was swallowed, and the transaction {_ENDINGS[how]}."
        )
        yield self.finding(
            moment,
            message,
            failure.stack,
            incident.scope,
            level=level,
            verb="failed",
            details={"error": failure.error, **lines_at(moment, ("used again", failure.again))},
        )

    def _level(self, incident: Incident, how: str) -> Level | None:
        if how == "left":
            return _level_when_left(incident)
        record = incident.subject
        engine = record.engine if record is not None else None
        # Only PostgreSQL refuses what follows; elsewhere it works, until the application moves there.
        lenient = how == "used" and isinstance(record, Checkout) and engine and engine.dialect != "postgresql"
        return "warning" if lenient else "error"


_ENDINGS = {
    "used": "was used again without rollback()",
    "committed": "was committed as if nothing had happened",
    "left": "was left without rollback()",
}


def _level_when_left(incident: Incident) -> Level | None:
    scope = incident.scope
    if scope is not None and scope.failed:
        return None
    failure: Failure = incident.details["failure"]
    # A failed statement that nothing followed did no harm; a failed flush leaves the Session refusing all work.
    if not failure.in_flush or (scope is not None and not scope.succeeded):
        return "info"
    return "error"
