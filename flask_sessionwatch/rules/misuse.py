"""SW4xx: calls that a Session refuses, told with what it was doing instead."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.records import Incident
from .base import Moment
from .base import Rule
from .base import has_left
from .base import in_scope
from .base import lines_at


@dataclass(frozen=True)
class ReentrantFlush(Rule):
    """A Session was flushed or committed by a hook of its own flush or commit.

    What it does
        Sees the error "Session is already flushing", and the others with which a Session refuses to be entered again
        on the same thread, also where somebody swallows them. Tells the hook's line and where the flush that is still
        running was asked for. An error that is swallowed is a warning.

    Why it matters
        What the hook wanted to write is not written, and the flush around it fails with it. A mapper event such as
        ``after_insert`` runs in the middle of a flush, where the Session cannot be used.

    Example
        ::

            @event.listens_for(Order, "after_insert")
            def log(mapper, connection, order):
                db.session.add(Audit(text="new order"))
                db.session.flush()                 # Session is already flushing

    Instead
        ::

            @event.listens_for(Order, "after_insert")
            def log(mapper, connection, order):
                connection.execute(insert(Audit).values(text="new order"))

    Options
        None.
    """

    code = "SW401"
    name = "reentrant-flush"
    level: t.ClassVar[Level] = "error"
    hint = "in a mapper event use the connection it is given; add objects in before_flush, which may use the session."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "reentrant":
            return
        details = incident.details
        running: str = details["running"]
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} called {details['asked']}() on a Session whose {running}() was still running.",
            incident.stack,
            incident.scope,
            level="error" if has_left(incident) else "warning",
            verb="called",
            details=lines_at(moment, (f"{running}() called", details["start"])),
        )


@dataclass(frozen=True)
class DoubleBegin(Rule):
    """A transaction was begun where one was begun already.

    What it does
        Sees the errors "A transaction is already begun on this Session" and, for Core connections, "can't call
        begin() here". Tells where the transaction was begun, which mostly is the first query: a Session begins by
        itself. An error that is swallowed, to begin only where nothing is begun, is told as info.

    Why it matters
        The request fails, and only where something was queried before: in production and not in the test, or after a
        ``before_request`` function was added.

    Example
        ::

            user = db.session.get(User, user_id)   # begins
            with db.session.begin():               # A transaction is already begun on this Session
                user.name = name

    Instead
        ::

            user = db.session.get(User, user_id)
            user.name = name
            db.session.commit()

    Options
        None.
    """

    code = "SW402"
    name = "double-begin"
    level: t.ClassVar[Level] = "error"
    hint = "leave out begin() and call commit(), for a session begins by itself; or use begin_nested()."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "double_begin":
            return
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} called begin() where a transaction was begun already.",
            incident.stack,
            incident.scope,
            level="error" if has_left(incident) else "info",
            verb="begun again",
            details=lines_at(moment, ("first begun", incident.details["begun"])),
        )


@dataclass(frozen=True)
class ClosedTransactionInContext(Rule):
    """The transaction of a ``with session.begin():`` block was ended inside of the block, and then used.

    What it does
        Sees the error "Can't operate on closed transaction inside context manager", and tells the line inside the
        block that called ``commit()``, ``rollback()`` or ``close()``, and the one that wanted to go on.

    Why it matters
        The block owns its transaction: what follows in it can neither be done nor committed. The call that ends it
        too early is often in a helper, far from the block and from the error.

    Example
        ::

            def save(session, draft):
                session.add(draft)
                session.commit()                   # ends the caller's block

            with session.begin():
                save(session, draft)
                session.scalar(select(func.count(Draft.id)))

    Instead
        ::

            def save(session, draft):
                session.add(draft)
                session.flush()                    # whoever began commits

    Options
        None.
    """

    code = "SW403"
    name = "closed-transaction-in-context"
    level: t.ClassVar[Level] = "error"
    hint = "call flush() in place of commit() inside the block, which commits at its end; or do without the block."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "closed_in_block":
            return
        record, details = incident.subject, incident.details
        level: Level = "error" if has_left(incident) else "warning"
        how = _CALLS.get(details["how"], "something inside of it")
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} went on in a 'with ...begin()' block whose transaction {how} had ended.",
            incident.stack,
            incident.scope,
            level=level,
            verb="ended" if details["ended"] else "begun" if record is not None else "used",
            details=lines_at(
                moment, ("block begun", () if record is None else record.stack), ("used", details["used"])
            ),
        )


_CALLS = {
    "commit": "a commit()",
    "rollback": "a rollback()",
    "error": "a rollback()",
    "rollback_on_close": "a close()",
}
