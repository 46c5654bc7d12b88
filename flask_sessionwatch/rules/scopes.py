"""SW3xx: sessions in the wrong scope, on the wrong thread."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.holder import Holder
from ..observe.records import Incident
from ..observe.records import Scope
from .base import Moment
from .base import Rule
from .base import in_scope


@dataclass(frozen=True)
class SessionOutsideScope(Rule):
    """A scope worked in a session whose transaction was begun outside of it.

    What it does
        Tells when a session is used by a scope while its transaction was begun by one that is already over, or
        while a module was imported; when an app context was collected without having been popped, so that its
        session waits for another context to adopt it; and when a request inside an app context that was pushed around
        it leaves its writes uncommitted in that context's session. Work outside of any scope that closes its session
        is healthy and is not told.

    Why it matters
        The scope sees, and may commit, what somebody else added. Flask-SQLAlchemy keys its sessions by the
        address of the app context: a context that was never popped leaves its session behind, and a later context
        at the same address adopts it. And a test that pushes one app context around its requests passes although
        the view forgot to commit.

    Example
        ::

            session = Session(engine)              # at import, shared by every request

            @app.get("/settings")
            def settings():
                return dict(session.execute(select(Setting.key, Setting.value)).all())

    Instead
        ::

            @app.get("/settings")
            def settings():
                with Session(engine) as session:
                    return dict(session.execute(select(Setting.key, Setting.value)).all())

    Options
        None.
    """

    code = "SW301"
    name = "session-outside-scope"
    hint = "begin and end a session in the scope that uses it; pop every app context that is pushed."

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        if scope.context_ref is None or scope.context_ref() is not None or scope.guests:
            return  # where requests have run inside of it, that is told
        for transaction in scope.transactions:
            if transaction.session() is not None:
                message = (
                    f"{scope.name} was collected {_with_thread(scope)}without having been popped, "
                    "and left its Session behind, which a later context may adopt."
                )
                yield self.finding(
                    moment, message, transaction.stack, scope, verb="begun", subject=transaction
                )

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "adopted":
            return
        if incident.details.get("outer"):
            fact = "ran inside an app context pushed around it and left uncommitted changes in that context's session"
        else:
            opener: Scope | None = incident.details["opener"]
            fact = f"used a Session whose transaction was begun {_by(opener)}"
        used = moment.ledger.stacks.site(incident.details["used"])
        lines = [f"used at {used}"] if used is not None else []
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} {fact}.",
            incident.stack,
            incident.scope,
            verb="begun",
            details={"lines": lines},
        )


def _with_thread(scope: Scope) -> str:
    """Say that a context went with its thread, where that is so."""
    thread = scope.holder.thread
    return f"when its thread '{thread.name}' had ended, " if thread and not thread.is_alive() else ""


def _by(opener: Scope | None) -> str:
    return "while a module was imported" if opener is None else f"by {opener.name}, which is over"


@dataclass(frozen=True)
class CrossThreadSession(Rule):
    """One Session, or one SQLite connection, was used by two threads at overlapping times.

    What it does
        Tells when a thread uses a session while another is in the middle of an operation on it, when two requests
        that are both open work in the same session, when SQLAlchemy refuses concurrent operations, and when
        SQLite refuses a connection of another thread. Handing a session over from one thread to the next is legal.

    Why it matters
        A Session is not thread-safe: rows are mixed up, transactions end under another's feet, and most of the
        time nothing is raised at all.

    Example
        ::

            session = Session(engine)              # module level, used by all threads of the server

    Instead
        ::

            Session = scoped_session(sessionmaker(engine))
            app.teardown_appcontext(lambda error: Session.remove())

    Options
        None.
    """

    code = "SW303"
    name = "cross-thread-session"
    level: t.ClassVar[Level] = "error"
    hint = "give each thread a session of its own, with 'with Session(engine)' or a scoped_session."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "overlap":
            return
        other: Holder | None = incident.details["other"]
        whose = (
            f"that thread '{other.name}' is using" if other is not None else "that another thread is using"
        )
        message = f"{in_scope(incident.scope)}: thread '{incident.holder.name}' used a session {whose}."
        other_site = moment.ledger.stacks.site(incident.details.get("other_stack", ()))
        lines = [f"the other thread at {other_site}"] if other_site is not None else []
        yield self.finding(
            moment, message, incident.stack, incident.scope, verb="used", details={"lines": lines}
        )
