"""SW2xx: work that was committed by halves, escaped or undone; and transactions that nobody needed."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import exc as sa_exc
from sqlalchemy.orm import exc as orm_exc

from ..finding import Finding
from ..finding import Level
from ..observe.outcomes import is_work
from ..observe.outcomes import was_handling
from ..observe.records import Checkout
from ..observe.records import Incident
from ..observe.records import Scope
from ..observe.records import Transaction
from ..observe.stack import Stack
from ..observe.stack import site_of
from .base import Moment
from .base import Rule
from .base import in_scope


@dataclass(frozen=True)
class PartialCommit(Rule):
    """A scope failed after it had committed: half of its work is permanent.

    What it does
        Looks at scopes that ended with an exception or a 5xx after their first commit, where that had written.
        What a before_request hook commits is not the scope's work, nor is what is written while an error is
        handled. Also told when a Session with several binds has committed on one of them and failed on another.
        It is a warning; info where it may be meant: in a command, a task or an explicit scope, under an answer
        below 500, where the view answered 5xx by itself, where it wrote again while it handled its error, and where
        SQLAlchemy refused a misuse of the Session, which a rule of its own tells.

    Why it matters
        Whoever tries again does the first half twice; whoever does not leaves the second half undone. A rollback
        does not reach behind a commit.

    Example
        ::

            def add_hits(name, number):
                find(name).hits += number          # raises if there is no such account
                db.session.commit()

            add_hits("ann", -10)                   # permanent
            add_hits("zoe", +10)                   # fails

    Instead
        ::

            def add_hits(name, number):
                find(name).hits += number

            add_hits("ann", -10)
            add_hits("zoe", +10)
            db.session.commit()                    # once, by whoever knows that the work is whole

    Options
        None.
    """

    code = "SW206"
    name = "partial-commit"
    hint = "commit once, where the whole work is done; let helpers flush()."

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        record = scope.first_commit if scope.commits else None
        if record is None or scope.succeeded or scope.failed_early:
            return
        level = _level_of_failure(scope) if is_work(record, moment.ledger.stacks) else None
        if level is None or record.wrote_at is None:
            return
        commits = "its commit" if scope.commits == 1 else f"the first of its {scope.commits} commits"
        message = f"{scope.name} {_failure(scope)} after {commits}, which is permanent."
        yield self.finding(
            moment,
            message,
            record.stack,
            scope,
            level=level,
            site=site_of(record.wrote_at),
            verb="written",
            details={"status": scope.status, "error": scope.error, "commits": scope.commits},
        )

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        record = incident.subject
        if incident.kind != "half_committed" or not isinstance(record, Transaction):
            return
        engines = sorted({f"'{checkout.engine.name}'" for checkout in record.checkouts})
        message = (
            f"{in_scope(incident.scope)}: a Session with the engines {' and '.join(engines)} committed on one of them, "
            "and failed on another."
        )
        yield self.finding(moment, message, incident.stack, incident.scope, verb="committed")


#: SQLAlchemy's errors for a misuse of the Session. Other rules tell of these; NoResultFound and its like are no misuse.
_REFUSALS = frozenset(
    error.__name__
    for error in (
        sa_exc.InvalidRequestError,
        sa_exc.IllegalStateChangeError,
        sa_exc.PendingRollbackError,
        sa_exc.ResourceClosedError,
        orm_exc.DetachedInstanceError,
    )
)


def _failure(scope: Scope) -> str:
    answer = "" if scope.status is None else f"answered {scope.status}"
    error = "" if scope.error is None else f"failed with {scope.error}"
    return " and ".join(filter(None, (error, answer)))


def _level_of_failure(scope: Scope) -> Level | None:
    """Return how sure it is that work was left by halves: None where the view merely says no."""
    last = scope.failed_after or scope.last_transaction
    again = last is not None and last is not scope.first_commit
    undone = again and last is not None and not last.committed and last.ending in ("rollback", "error")
    raised = scope.error is not None and not scope.aborted
    if scope.status is not None and scope.status < 400:
        return None
    if scope.status is not None and scope.status < 500:
        return "info" if scope.error is not None or undone else None
    # A second write while the error was handled, and committed, is most likely what puts the first one right.
    repaired = again and last is not None and last.committed and was_handling(last)
    if scope.kind != "request" or repaired or scope.error in _REFUSALS:
        return "info"
    return "warning" if raised or undone else "info"


@dataclass(frozen=True)
class SavepointEscape(Rule):
    """SQLite's driver did not begin a transaction before a savepoint, so that a rollback could not undo it.

    What it does
        Looks at the release of each outermost savepoint of a Session on SQLite. If the driver is in no transaction
        after it, the release has committed. Told when the Session's transaction is then not committed: what it
        should have undone stays. A savepoint after a write, and one in a transaction that is committed, is fine.

    Why it matters
        Python's sqlite3 begins a transaction before INSERT, UPDATE and DELETE, and not before SAVEPOINT. The
        outermost savepoint is then the transaction, and its release the commit. Other databases roll it back: what
        is tested on SQLite behaves otherwise in production.

    Example
        ::

            with db.session.begin_nested():
                db.session.add(User(name=name))
            db.session.rollback()                  # the user is still there

    Instead
        ::

            @event.listens_for(engine, "connect")
            def leave_begin_to_sqlalchemy(dbapi_connection, record):
                dbapi_connection.isolation_level = None

            @event.listens_for(engine, "begin")
            def begin(connection):
                connection.exec_driver_sql("BEGIN")

        or, from Python 3.12 on, ``create_engine(url, connect_args={"autocommit": False})``.

    Options
        None.
    """

    code = "SW208"
    name = "savepoint-escape"
    hint = "send BEGIN from SQLAlchemy's 'begin' event and set the driver's isolation_level to None, as its manual shows."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        record = incident.subject
        if incident.kind != "escaped" or not isinstance(record, Transaction):
            return
        how = "rolled back" if record.rolled_back else "closed without commit()"
        message = (
            f"{in_scope(incident.scope)}: a transaction was {how} after the release of a savepoint, which SQLite "
            "had committed by itself; what was written in it is permanent."
        )
        yield self.finding(moment, message, incident.stack, incident.scope, verb="released")


@dataclass(frozen=True)
class CollateralRollback(Rule):
    """A rollback in a helper discarded what its caller had flushed, and the scope went on as if it were there.

    What it does
        Looks at each rollback that discards writes: who wrote first, and for whose sake it is rolled back. Told
        when a function handles an error of its own by rolling back what a function around it, or one before it,
        had flushed, and the scope commits later and answers below 400. Only the first write of a transaction is
        remembered. A rollback by the writer itself or by a function that called it, one because the writer
        or the commit failed, and one after which the same line writes again, are what a rollback is for. It is info
        where nothing was committed later, where the helper writes in place of it, where the caller had added
        objects and not flushed them, and where no error was handled.

    Why it matters
        The caller does not know that its rows are gone, and commits the rest.

    Example
        ::

            def get_or_create(name):
                try:
                    db.session.add(User(name=name))
                    db.session.flush()
                except IntegrityError:
                    db.session.rollback()          # also what the caller has flushed

    Instead
        ::

            def get_or_create(name):
                try:
                    with db.session.begin_nested():
                        db.session.add(User(name=name))
                except IntegrityError:
                    ...                            # only the savepoint was rolled back

    Options
        None.
    """

    code = "SW209"
    name = "collateral-rollback"
    hint = "run what may fail inside 'with session.begin_nested():', and leave rollback() to whoever commits."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        record = incident.subject
        scope = incident.scope
        if incident.kind != "undone" or not isinstance(record, Transaction):
            return
        if scope is None or not scope.succeeded:
            return
        level = _level_of_rollback(incident, record, scope)
        if level is None:
            return
        error = incident.details["error"]
        because = f" because of {error}" if error else ""
        message = f"{scope.name}: a rollback{because} also discarded what its caller had {_done(incident)}."
        yield self.finding(
            moment,
            message,
            incident.stack,
            scope,
            level=level,
            verb="rolled back",
            details={"error": error, "writes": record.writes, "lines": _lines(incident, record, moment)},
        )


def _done(incident: Incident) -> str:
    return "flushed" if incident.details["flushed"] else "added"


def _lines(incident: Incident, record: Transaction, moment: Moment) -> list[str]:
    if incident.details["flushed"] and record.wrote_at is not None:
        return [f"flushed at {site_of(record.wrote_at)}"]
    site = moment.ledger.stacks.site(record.stack)
    return [] if site is None else [f"added at {site}"]


def _level_of_rollback(incident: Incident, record: Transaction, scope: Scope) -> Level | None:
    later = scope.last_transaction if scope.commits > incident.details["commits"] else None
    if later is None or later is record:
        return "info" if incident.details["error"] else None
    if later.wrote_at is not None and later.wrote_at == record.wrote_at:
        return None  # the work was done again
    in_place = later.wrote_at is not None and later.wrote_at[0] is incident.details["code"]
    sure = incident.details["error"] and incident.details["flushed"] and not in_place
    return "warning" if sure else "info"


@dataclass(frozen=True)
class RefetchAfterCommit(Rule):
    """Objects were loaded again one by one after a commit.

    What it does
        Counts, in the transactions of a scope that follow a commit of the same Session, the SELECTs that only fill
        the attributes of an object which the Session has already. Told from five on, where they run.

    Why it matters
        A commit expires every object of its Session. Each is loaded again by a SELECT of its own when it is next
        read: a list that took one query takes one more for each row.

    Example
        ::

            users = db.session.scalars(select(User)).all()
            db.session.add(Audit(text="listed"))
            db.session.commit()                    # expires all users
            return {"names": [user.name for user in users]}

    Instead
        ::

            names = [user.name for user in users]
            db.session.commit()
            return {"names": names}

        or a Session with ``expire_on_commit=False``, or one query that loads them all again.

    Options
        None.
    """

    code = "SW213"
    name = "refetch-after-commit"
    level: t.ClassVar[Level] = "info"
    hint = "read what is needed before commit(), or set expire_on_commit=False."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        record = incident.subject
        if incident.kind != "reloaded" or not isinstance(record, Checkout):
            return
        message = (
            f"{in_scope(incident.scope)} loaded {record.reloads} objects again one by one, "
            "which a commit had expired."
        )
        details = {"objects": record.reloads, "engine": record.engine.name}
        yield self.finding(
            moment, message, incident.stack, incident.scope, verb="loaded again", details=details
        )


@dataclass(frozen=True)
class ExtraTransaction(Rule):
    """A request ran another transaction of the same Session, beside that of its work.

    What it does
        Looks at requests whose Session begins another transaction after it has written and committed. Told when
        one of the two runs in a hook (before_request, after_request or a teardown function), or when both write,
        from different lines. Reading on after a commit is ordinary, and so is a loop that commits.

    Why it matters
        Each transaction costs a check-out, a round trip for its commit, and a wait for the disk. A hook that writes
        makes a writer of every request, also of those that only read. And what belongs together can fail apart.

    Example
        ::

            @app.after_request
            def audit(response):
                db.session.add(Audit(path=request.path))
                db.session.commit()                # a second transaction in every request
                return response

    Instead
        ::

            db.session.add(order)
            db.session.add(Audit(path=request.path))
            db.session.commit()                    # one transaction for what belongs together

        or a log line, which a worker writes to the database later.

    Options
        None.
    """

    code = "SW214"
    name = "extra-transaction"
    level: t.ClassVar[Level] = "info"
    hint = "write it in the transaction of the work itself, or outside of the request."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        record = incident.subject
        if incident.kind != "extra" or not isinstance(record, Transaction):
            return
        hook: str | None = incident.details["hook"]
        where = f"in a {hook} function" if hook else "after the commit of its work"
        message = f"{in_scope(incident.scope)} ran an extra transaction {where}."
        stack: Stack = incident.stack
        yield self.finding(moment, message, stack, incident.scope, verb="begun", details={"hook": hook})
