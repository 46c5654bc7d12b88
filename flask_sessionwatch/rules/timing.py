"""SW210 to SW215: what a transaction was asked for at the wrong moment."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.records import Incident
from ..observe.records import Transaction
from .base import Moment
from .base import Rule
from .base import has_left
from .base import in_scope
from .base import lines_at


@dataclass(frozen=True)
class MidRequestClose(Rule):
    """A session was closed or removed in the middle of a request that went on with what it held.

    What it does
        Remembers where a request calls ``close()`` or ``remove()`` on a session that has not been committed, and tells
        that line when harm follows: unsaved or uncommitted changes are thrown away and the session is used again as if
        it had them, or an object that it held raises DetachedInstanceError. A session that is closed and then simply
        begins anew is healthy, and so is the end of a ``with`` block. A commit of nothing by a session that was closed
        before is told as info, and so is a function that closes what it has begun itself and forgets the commit.

    Why it matters
        ``db.session`` is one session for the whole request. A helper that removes it takes away its caller's objects
        and unsaved changes, and the caller's ``commit()`` succeeds and saves nothing.

    Example
        ::

            def count_users():
                number = db.session.scalar(select(func.count(User.id)))
                db.session.remove()                # the caller's session
                return number

    Instead
        ::

            def count_users():
                return db.session.scalar(select(func.count(User.id)))

        or, for work of its own, a session of its own: ``with Session(db.engine) as session:``.

    Options
        None.
    """

    code = "SW210"
    name = "mid-request-close"
    hint = "leave the closing to the end of the request, or give the helper a session of its own."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "midway" or not isinstance(incident.subject, Transaction):
            return
        how: str = incident.details["how"]
        call = "close()" if incident.subject.registry_ref is None else "remove()"
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} called {call} in the middle of its work, and then {_HARM[how]}.",
            incident.stack,
            incident.scope,
            level=self._level(incident, how, moment),
            verb="closed",
            details=lines_at(
                moment, ("begun", incident.subject.stack), ("used again", incident.details["used"])
            ),
        )

    def _level(self, incident: Incident, how: str, moment: Moment) -> Level:
        if how == "detached":
            return "warning" if has_left(incident) else "info"
        return "warning" if how == "lost" and not self._closes_its_own(incident, moment) else "info"

    def _closes_its_own(self, incident: Incident, moment: Moment) -> bool:
        """Whether the function that closed the session had begun it too: it merely forgot its commit."""
        record = incident.subject
        begun = None if record is None else moment.ledger.stacks.first_application_call(record.stack)
        return begun is not None and begun[0] is incident.stack[0][0]


_HARM = {
    "lost": "went on with a session that had lost its changes",
    "detached": "used an object that the session had held",
    "empty": "committed a session that had nothing left to commit",
}


@dataclass(frozen=True)
class IsolationIgnored(Rule):
    """An isolation level was asked for after the transaction had begun, and had no effect.

    What it does
        Sees the warning "Connection is already established for the given bind; execution_options ignored", also where
        warnings are switched off, and looks whether an isolation level is among the options and differs from the one
        that was set before. Sees as well the error with which a Core connection refuses it.

    Why it matters
        The code runs, with the protection of the default level: the race that SERIALIZABLE was to prevent happens.

    Example
        ::

            g.user = db.session.get(User, user_id)  # before_request: the transaction begins
            ...
            db.session.connection(execution_options={"isolation_level": "SERIALIZABLE"})

    Instead
        ::

            db.session.commit()                     # or rollback(): the next transaction begins with the level
            db.session.connection(execution_options={"isolation_level": "SERIALIZABLE"})

        or an engine of its own: ``create_engine(url, isolation_level="SERIALIZABLE")``.

    Options
        None.
    """

    code = "SW211"
    name = "isolation-ignored"
    hint = "ask for the level before the first query of the transaction, or give the work an engine with that level."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "isolation":
            return
        details = incident.details
        if details.get("refused"):
            fact = "asked for an isolation level, and was refused"
        else:
            fact = f"asked for the isolation level {details['level']}, which was ignored"
        level: Level = "info" if details.get("refused") and not has_left(incident) else "warning"
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} {fact}: the transaction had begun already.",
            incident.stack,
            incident.scope,
            level=level,
            verb="asked for",
            details=lines_at(moment, ("begun", details["begun"])),
        )


@dataclass(frozen=True)
class SqlInAfterCommit(Rule):
    """SQL was run in an ``after_commit`` hook.

    What it does
        Sees the error "This session is in 'committed' state; no further SQL can be emitted", also where it is
        swallowed. A hook that opens a second connection while the one that commits is still checked out is told as
        info.

    Why it matters
        After the commit and before its end the session has no transaction to run SQL in. The commit is done, the
        request fails all the same, and whoever repeats it does the work twice.

    Example
        ::

            @event.listens_for(db.session, "after_commit")
            def index(session):
                search.update(session.scalars(select(Order)).all())

    Instead
        ::

            @event.listens_for(db.session, "before_commit")
            def index(session):
                session.flush()
                session.info["changed"] = session.scalars(select(Order.id)).all()

        or work after the commit has returned, in a session of its own.

    Options
        None.
    """

    code = "SW212"
    name = "sql-in-after-commit"
    level: t.ClassVar[Level] = "error"
    hint = "read what the hook needs in before_commit, or do the work after commit() has returned."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "after_commit":
            return
        transaction = incident.subject
        second = incident.details.get("second", False)
        fact = "opened a second connection" if second else "ran SQL, which was refused,"
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} {fact} in an after_commit hook, before the commit had returned.",
            incident.stack,
            incident.scope,
            level=self._level(incident, second=second),
            verb="run",
            details=lines_at(moment, ("begun", () if transaction is None else transaction.stack)),
        )

    def _level(self, incident: Incident, *, second: bool) -> Level:
        if second:
            return "info"
        return "error" if has_left(incident) else "warning"


@dataclass(frozen=True)
class PrematureAutoflush(Rule):
    """A query flushed an object before it was complete, and the database refused it.

    What it does
        Tells the query whose autoflush failed because a row was refused. An error that is caught where it can be
        handled is told as info.

    Why it matters
        The error is an IntegrityError raised by a SELECT, far from the object that is at fault, and only on the paths
        that query something while they build it.

    Example
        ::

            talk = Talk()
            db.session.add(talk)
            talk.speaker = db.session.scalar(select(User).where(User.name == name))  # inserts the talk
            talk.title = title

    Instead
        ::

            speaker = db.session.scalar(select(User).where(User.name == name))
            db.session.add(Talk(speaker=speaker, title=title))

        or ``with db.session.no_autoflush:`` around what builds the object.

    Options
        None.
    """

    code = "SW215"
    name = "premature-autoflush"
    hint = "query first and add the complete object then, or build it inside 'with session.no_autoflush:'."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "autoflush":
            return
        transaction = incident.subject
        error: str = incident.details["error"]
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} got {error} from a query, whose autoflush wrote what was not complete.",
            incident.stack,
            incident.scope,
            level="warning" if has_left(incident) else "info",
            verb="queried",
            details=lines_at(moment, ("begun", () if transaction is None else transaction.stack)),
        )
