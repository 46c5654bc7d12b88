"""SW308 to SW310: errors that are made elsewhere than they are raised, told with their history."""

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
class CrossSessionObject(Rule):
    """An object of one Session was added to another.

    What it does
        Sees the error "Object ... is already attached to session" and tells where each of the two sessions was
        begun. An error that is swallowed, to merge the object instead, is told as info.

    Why it matters
        An object belongs to one session at a time. The numbers in the error's text name neither of them.

    Example
        ::

            user = db.session.get(User, user_id)
            with Session(db.engine) as session:
                session.add(user)                  # is already attached to session '1' (this is '2')

    Instead
        ::

            user = db.session.get(User, user_id)
            with Session(db.engine) as session:
                user = session.merge(user)

    Options
        None.
    """

    code = "SW308"
    name = "cross-session-object"
    level: t.ClassVar[Level] = "error"
    hint = "work in one session; or take the object over with session.merge(), or load it there by its primary key."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "cross_session":
            return
        details = incident.details
        name: str = details["object"]
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} added {name} to a Session while it belongs to another one.",
            incident.stack,
            incident.scope,
            level="error" if has_left(incident) else "info",
            verb="added",
            details=lines_at(
                moment, ("its session begun", details["theirs"]), ("the other one begun", details["ours"])
            ),
        )


@dataclass(frozen=True)
class DetachedAccess(Rule):
    """An object was asked for something that it has to load, after its Session was closed.

    What it does
        Sees every DetachedInstanceError, also one that a thread or a task swallows, and tells where the object's
        session was begun, by whom and on which thread, how it ended, and where the object was used. In a request, an
        error that is swallowed under a good answer is told as info, and so is one that only prints the object.

    Why it matters
        The error names the line that reads the attribute; at fault is whoever closed the session, or handed the
        object to code that outlives it. After a commit, every attribute has to be loaded again.

    Example
        ::

            user = db.session.get(User, user_id)
            db.session.commit()                    # expires the attributes
            Thread(target=send_mail, args=(user,)).start()

    Instead
        ::

            Thread(target=send_mail, args=(user.email,)).start()

        or hand over the primary key, and load the object anew with a session of the thread's own.

    Options
        None.
    """

    code = "SW309"
    name = "detached-access"
    level: t.ClassVar[Level] = "error"
    hint = "hand values or the primary key to code that outlives the session, or load what is needed before it closes."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "detached":
            return
        owner, details = incident.subject, incident.details
        name: str = details["object"]
        outside: bool = details["outside"]
        thread = f", on thread '{incident.holder.name}'" if outside else ""
        shown = lines_at(moment, ("used", incident.stack if owner is not None else ()))
        history: str = details["history"]
        if history:
            shown["lines"].append(history)
        # Where the object came from is the line to look at; where it was used is in the exception as well.
        yield self.finding(
            moment,
            f"{in_scope(None if outside else incident.scope)} used {name} after its session was closed{thread}.",
            owner.stack if owner is not None and owner.stack else incident.stack,
            incident.scope,
            level=self._level(incident),
            verb="loaded in the session begun" if owner is not None and owner.stack else "used",
            details={"object": name, "thread": incident.holder.name, **shown},
        )

    def _level(self, incident: Incident) -> Level:
        if has_left(incident):
            return "error"
        # Who prints an object, for a log or an error report, does without what cannot be had.
        return "error" if incident.details["outside"] and not incident.details["spoken"] else "info"


@dataclass(frozen=True)
class NoAppContext(Rule):
    """Work that needs an app context ran outside of one.

    What it does
        Sees the error "Working outside of application context" where it ends a thread, the job of an executor, a
        streamed body, a scope or a view, and tells the line and the thread.

    Why it matters
        ``db.session`` and ``current_app`` belong to an app context, and a new thread has none. The work is not done,
        and often nobody reads what the thread prints.

    Example
        ::

            def cleanup():
                db.session.execute(delete(Token).where(Token.expired))

            Thread(target=cleanup).start()

    Instead
        ::

            def cleanup(app):
                with app.app_context():
                    db.session.execute(delete(Token).where(Token.expired))
                    db.session.commit()

            Thread(target=cleanup, args=(current_app._get_current_object(),)).start()

    Options
        None.
    """

    code = "SW310"
    name = "no-app-context"
    level: t.ClassVar[Level] = "error"
    hint = (
        "push a context where the work begins: 'with app.app_context():', or @copy_current_request_context for a "
        "thread that needs the request, or @stream_with_context for a streamed body."
    )

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "no_context":
            return
        thread = incident.holder.name
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} needed an app context on thread '{thread}', where there is none.",
            incident.stack,
            incident.scope,
            verb="used",
            details={"thread": thread},
        )
