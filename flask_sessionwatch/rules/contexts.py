"""SW3xx: sessions and the app contexts they belong to."""

from __future__ import annotations

import inspect
import threading
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.records import Incident
from ..observe.records import Scope
from ..observe.records import Transaction
from .base import Moment
from .base import Rule
from .base import in_scope

_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_TEARDOWN = "do_teardown_appcontext"


@dataclass(frozen=True)
class SessionAfterTeardown(Rule):
    """A session began again after its scope's teardown, and nothing closed it any more.

    What it does
        Tells when a scope ends with a transaction that was begun while a teardown function or a receiver of
        Flask's late signals ran, or, while the body was streamed, in a session that is older than the stream or comes
        from a registry that had been removed. A session that is closed again is healthy, and so are
        ``stream_with_context`` and a generator that opens its own.

    Why it matters
        ``close()`` and ``remove()`` do not end a Session for good: the next use begins a new transaction with a
        connection of its own. After teardown nobody is left to return that.

    Example
        ::

            @app.get("/export")
            def export():
                def lines():
                    for row in g.session.scalars(select(Row)):   # closed at teardown, begun again here
                        yield f"{row.id}\\n"
                return Response(lines())

    Instead
        ::

            def lines():
                with Session(engine) as session:
                    for row in session.scalars(select(Row)):
                        yield f"{row.id}\\n"

        Or ``stream_with_context(lines())`` with ``db.session``. Teardown functions run in the reverse order of their
        registration: register one that needs ``db.session`` after ``db.init_app(app)``.

    Options
        None.
    """

    code = "SW302"
    name = "session-after-teardown"
    hint = (
        "open and close a session inside the generator, or use stream_with_context; register a teardown function "
        "after db.init_app(), so that it runs before the session is removed."
    )

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        for transaction in scope.transactions:
            late = _late(transaction)
            if late is not None and _holds_something(transaction, moment):
                yield self._told(transaction, moment, late)

    def _told(self, transaction: Transaction, moment: Moment, late: str) -> Finding:
        scope = transaction.origin or transaction.scope
        assert scope is not None
        when = (
            "while its teardown ran" if late == "teardown" else "after its teardown, while its body was sent"
        )
        held = transaction.held
        holds = f", and still holds a connection of engine '{held[0].engine.name}'" if held else ""
        return self.finding(
            moment,
            f"{scope.name} began a Session {when}; nothing closes it any more{holds}.",
            transaction.stack,
            scope,
            verb="begun",
            subject=transaction,
        )


@dataclass(frozen=True)
class ContextLeak(Rule):
    """An app context was pushed and never popped, and what runs inside of it is never torn down.

    What it does
        Tells when a request ends inside an app context that was pushed before it on its thread, and nothing below
        the request on the stack but the server, so that nobody is left who could pop it; when a request works in the
        session of another one on its thread whose streamed body was abandoned; when a thread of a pool went idle and
        left its app context pushed, with a session in it; and when a context in which requests had run was
        collected. An app context around the requests of a test is healthy. One that is collected with its thread, before any
        request has run inside of it, leaves a session to be adopted, which is SW301's to tell.

    Why it matters
        Flask reuses the app context that is current: a request inside of one has no teardown of its own. Its session
        is not removed, so that connection, transaction and loaded objects stay, and the next request on the
        thread continues with them.

    Example
        ::

            app = create_app()
            app.app_context().push()               # in wsgi.py: around every request of this thread
            warm_up_caches()

    Instead
        ::

            app = create_app()
            with app.app_context():
                warm_up_caches()

    Options
        None.
    """

    code = "SW305"
    name = "context-leak"
    level: t.ClassVar[Level] = "error"
    hint = "push an app context with 'with app.app_context():'; a server must close every body that it does not send."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "context_leak":
            return
        left_by: Scope | None = incident.details["left_by"]
        whose = "that was never popped" if left_by is None else f"of {left_by.name}, whose body was abandoned"
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} ran inside an app context {whose}; it was not torn down.",
            incident.stack,
            incident.scope,
            verb="session begun",
        )

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        if scope.context_ref is None or scope.context_ref() is not None or not scope.guests:
            return
        for transaction in scope.transactions:
            message = f"{scope.name} was collected without having been popped, after requests had run inside of it ({scope.guests})."
            yield self.finding(moment, message, transaction.stack, scope, verb="session begun")
            return

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for transaction in moment.transactions:
            scope = transaction.scope
            if (
                scope is None
                or scope.ended
                or scope.context_ref is None
                or not self._is_left(transaction, moment)
            ):
                continue
            if self.is_news(transaction, self.level):
                yield self.finding(
                    moment,
                    f"Thread '{transaction.holder.name}' went idle and left an app context pushed, "
                    f"with a Session in it ({moment.held(transaction)}).",
                    transaction.stack,
                    scope,
                    verb="session begun",
                    subject=transaction,
                )

    def _is_left(self, transaction: Transaction, moment: Moment) -> bool:
        """Whether the thread has left the function that pushed the context, at this tick and at one before."""
        thread = transaction.holder.thread
        calls = transaction.stack
        complete = 0 < len(calls) < moment.ledger.stacks.depth
        # What is suspended comes back, and the main thread may hold a context for a whole script or test.
        suspended = any(code.co_flags & _SUSPENDABLE for code, _ in calls)
        if thread is None or thread is threading.main_thread() or not complete or suspended:
            return False
        if not moment.present.has_moved_on(transaction.holder, calls):
            transaction.left_at = None
            return False
        if transaction.left_at is None:
            transaction.left_at = moment.now
        return moment.now - transaction.left_at >= moment.settings.tick * 0.5


@dataclass(frozen=True)
class NestedContext(Rule):
    """A nested app context got a session of its own while the outer one had uncommitted work.

    What it does
        Tells when the session of an app context begins while the same thread has written or changed something in the
        session of an app context around it, and has not committed that yet. The session must be one that
        Flask-SQLAlchemy or Flask-SQLAlchemy-Lite keeps for the context.

    Why it matters
        ``db.session`` is another session in there: it does not see what the outer one has not committed, its
        commit does not save that, and a row or, with SQLite, a database that the outer one has locked makes
        it wait for itself.

    Example
        ::

            db.session.add(Order(id=1))
            with app.app_context():
                db.session.get(Order, 1)           # None: this is another session

    Instead
        ::

            db.session.add(Order(id=1))
            db.session.get(Order, 1)               # the current app context is enough

    Options
        None.
    """

    code = "SW306"
    name = "nested-context"
    level: t.ClassVar[Level] = "info"
    hint = "commit before pushing another app context, or work in the one that is current already."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "nested_context":
            return
        pending = moment.ledger.stacks.site(incident.details["pending"])
        lines = [] if pending is None else [f"the outer session was begun at {pending}"]
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} began a session in a nested app context while the outer one's was uncommitted.",
            incident.stack,
            incident.scope,
            verb="begun",
            details={"lines": lines},
        )


def _late(transaction: Transaction) -> str | None:
    if transaction.late is not None:
        return transaction.late
    # Other scopes than requests have no answer that tells when their work was done.
    torn_down = any(code.co_name == _TEARDOWN for code, _ in transaction.stack)
    return "teardown" if torn_down else None


def _holds_something(transaction: Transaction, moment: Moment) -> bool:
    if transaction.external or moment.ledger.is_contested(transaction):
        return False
    session = transaction.session()
    changed = session is not None and bool(session.new or session.deleted or session.dirty)
    return changed or bool(transaction.held)
