"""SW3xx: sessions that live too long."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from ..finding import Finding
from ..finding import Level
from ..observe.records import Incident
from ..observe.records import Scope
from ..observe.records import Transaction
from ..observe.stale import mark
from .base import Limits
from .base import Moment
from .base import Rule
from .base import in_scope

#: How often a session has to be seen to have grown.
_GROWTHS = 3
#: How many ticks a transaction has to be open before it is asked whether it waits.
_TICKS = 3


@dataclass(frozen=True)
class StaleSession(Rule):
    """A long transaction goes on with what it has loaded, although others have changed it.

    What it does
        Tells when a command, a thread, a streamed body or a long request repeats the same read in one transaction,
        while others in this process commit changes of the same rows or tables in between, or while it waits between
        the reads; as info at first, as a warning when it goes on. And it tells, as info, when an app context of the
        main thread, as of a test, holds an object that a request on another thread changes, and ends without having
        loaded it anew. A read that cannot be stale is not told: ``refresh()``, ``populate_existing``, an expired or a
        forgotten object, or mere columns without a snapshot.

    Why it matters
        A Session loads an object once. Until the transaction ends, a query returns the object as it was,
        whatever the row says by now; with REPEATABLE READ the database does so as well. A loop that waits for a
        change never sees it, and a test compares with old values.

    Example
        ::

            with app.app_context():
                while True:
                    job = db.session.scalars(select(Job).filter_by(id=1)).one()
                    if job.done:                   # never, if it was not done at first
                        break
                    time.sleep(1)

    Instead
        ::

            with app.app_context():
                while True:
                    job = db.session.scalars(select(Job).filter_by(id=1)).one()
                    if job.done:
                        break
                    db.session.rollback()          # ends the transaction and expires what was loaded
                    time.sleep(1)

    Options
        None.
    """

    code = "SW304"
    name = "stale-session"
    hint = "end the transaction before each new look, with rollback(), commit() or remove(); in a test, refresh() the object."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind == "stale":
            yield self._read_again(incident, moment)
        elif incident.kind == "overtaken" and _was_left_stale(incident):
            yield self._kept(incident, moment)

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for transaction in moment.transactions:
            if moment.now - transaction.began_at < _TICKS * moment.settings.tick:
                break  # the oldest come first
            if transaction.cursor is None and not transaction.writes:
                for checkout in transaction.held:
                    if moment.present.waits(checkout.user):
                        mark(checkout, ("",), ("",))
        return ()

    def _read_again(self, incident: Incident, moment: Moment) -> Finding:
        meanwhile = "it waits" if incident.details["waits"] else "others change what it reads"
        scope = incident.scope
        return self.finding(
            moment,
            f"{in_scope(scope)} repeats a read in one transaction while {meanwhile}; it gets what it loaded first.",
            incident.stack,
            scope,
            level="warning" if incident.details["often"] else "info",
            verb="read",
            details={"times": incident.details["times"]},
        )

    def _kept(self, incident: Incident, moment: Moment) -> Finding:
        writer: Transaction = incident.details["writer"]
        entity = incident.details["entity"]
        wrote_at = () if writer.wrote_at is None else (writer.wrote_at,)
        site = moment.ledger.stacks.site(wrote_at)
        return self.finding(
            moment,
            f"{in_scope(incident.scope)} kept a {entity} that {in_scope(writer.scope)} has changed meanwhile, "
            "and did not load it anew.",
            incident.stack,
            incident.scope,
            level="info",
            verb="loaded",
            details={"lines": [] if site is None else [f"changed at {site}"]},
        )


def _was_left_stale(incident: Incident) -> bool:
    """Whether the transaction that was overtaken was merely closed, without a look at the new state."""
    reader, reads = incident.subject, incident.details["reads"]
    if not isinstance(reader, Transaction) or (reads is not None and reads.fresh):
        return False
    return reader.ending in (None, "rollback_on_close")


@dataclass(frozen=True)
class IdentityMapGrowth(Rule):
    """One session keeps more than SESSIONWATCH_MAX_IDENTITY_MAP objects, and more with time.

    What it does
        Looks at how many objects a session keeps at its commits, from a scope's second on, and at the
        transactions that are open longer than SESSIONWATCH_LONG_TRANSACTION at each tick. Told is a session that has
        grown several times and is past the limit: as a warning, and as info for a request, which ends soon. One big
        query is not this.

    Why it matters
        A Session forgets an object when nobody else refers to it. A worker that keeps results, or whose objects refer
        to each other, keeps all of them: memory grows with every job, and so does the time of each
        flush and of each commit, which expires them all.

    Example
        ::

            def worker():
                with app.app_context():
                    for job in queue:
                        results.append(process(job))       # objects of one session, kept for ever
                        db.session.commit()

    Instead
        ::

            def worker():
                for job in queue:
                    with app.app_context():                # a session for each job
                        results.append(process(job).id)
                        db.session.commit()

    Options
        ``limit``: objects; SESSIONWATCH_MAX_IDENTITY_MAP unless given, below which nothing is followed.
    """

    code = "SW307"
    name = "identity-map-growth"
    hint = "give each job a session of its own, or call session.expunge_all() or remove() between jobs."
    limits: t.ClassVar[Limits] = MappingProxyType({"max_identity_map": "limit"})

    limit: int | None = None

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind == "grown" and incident.details["objects"] > self._limit(moment):
            objects = incident.details["objects"]
            yield self.finding(
                moment,
                self._message(incident.scope, objects, moment),
                incident.stack,
                incident.scope,
                level=_level(incident.scope),
                verb="committed",
                details={"objects": objects, "limit": self._limit(moment)},
            )

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for transaction in moment.transactions:
            if moment.now - transaction.began_at <= moment.settings.long_transaction:
                break  # the oldest come first
            if self._has_grown(transaction) and transaction.objects > self._limit(moment):
                level = _level(transaction.scope)
                if self.is_news(transaction, level):
                    yield self.finding(
                        moment,
                        self._message(transaction.scope, transaction.objects, moment),
                        transaction.stack,
                        transaction.scope,
                        level=level,
                        verb="begun",
                        subject=transaction,
                        details={"objects": transaction.objects, "limit": self._limit(moment)},
                    )

    def _has_grown(self, transaction: Transaction) -> bool:
        """Whether its session has grown from tick to tick, and by more statements than one."""
        session = transaction.session()
        objects = 0 if session is None else len(session.identity_map)
        statements = sum(checkout.statements for checkout in transaction.checkouts)
        if objects > transaction.objects and statements > transaction.objects_at:
            transaction.objects, transaction.objects_at = objects, statements
            transaction.growths += 1
        return transaction.growths >= _GROWTHS

    def _limit(self, moment: Moment) -> int:
        return moment.settings.max_identity_map if self.limit is None else self.limit

    def _message(self, scope: Scope | None, objects: int, moment: Moment) -> str:
        return f"{in_scope(scope)}: one session keeps {objects} objects and grows; the limit is {self._limit(moment)}."


def _level(scope: Scope | None) -> Level:
    return "info" if scope is not None and scope.kind == "request" else "warning"
