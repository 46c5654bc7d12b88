"""SW105 to SW108: pooled connections that are inherited, kept busy, dead or taken too often."""

from __future__ import annotations

import os
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from ..finding import Finding
from ..finding import Level
from ..observe.pooled import Pooled
from ..observe.records import Checkout
from ..observe.records import Incident
from ..observe.records import Scope
from ..observe.records import Stream
from ..observe.results import has_open_result
from ..observe.stack import site_of
from .base import Limits
from .base import Moment
from .base import Rule
from .base import in_scope
from .base import on_server
from .base import server_ids


@dataclass(frozen=True)
class ForkedPool(Rule):
    """A process checked out a connection that another process, its parent, had opened.

    What it does
        Remembers which process opened each connection, and tells when a forked child checks out one that came with
        the pool of its parent: under ``gunicorn --preload``, uWSGI, Celery's prefork pool or ``multiprocessing``.
        Databases in memory are left alone, because the fork copies them.

    Why it matters
        Parent and children share one socket. Their statements and answers mix, which shows as "lost synchronization
        with server", "decryption failed" or rows of somebody else's query; a file of SQLite may be corrupted.

    Example
        ::

            app = create_app()                     # runs a query, so the pool holds a connection
            # gunicorn --preload forks its workers here

    Instead
        ::

            def post_fork(server, worker):         # gunicorn.conf.py
                with app.app_context():
                    db.engine.dispose(close=False)

    Options
        None.
    """

    code = "SW105"
    name = "forked-pool"
    level: t.ClassVar[Level] = "error"
    hint = (
        "call 'engine.dispose(close=False)' in the child right after the fork, or do not connect before it."
    )

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        # It is filed twice where its scope may never end.
        if incident.kind != "forked" or not incident.details.pop("untold", False):
            return
        pooled: Pooled = incident.details["pooled"]
        message = (
            f"{in_scope(incident.scope)} checked out a connection of engine '{pooled.engine.name}' in process "
            f"{os.getpid()} that was opened by process {pooled.pid} before the fork."
        )
        yield self.finding(
            moment,
            message,
            incident.stack,
            incident.scope,
            verb="checked out",
            details={
                "engine": pooled.engine.name,
                "opened_by": pooled.pid,
                **server_ids(pooled),
                "lines": on_server(pooled),
            },
        )


@dataclass(frozen=True)
class OpenCursor(Rule):
    """A streaming result was neither exhausted nor closed, and keeps its cursor open.

    What it does
        Looks at the end of a scope for results of ``yield_per`` or ``stream_results`` that are still alive with rows
        to come, while their connection is held; outside of any scope, once their connection is found to be leaked.
        It is info where the connection has been returned meanwhile, as by ``db.session``. What an exception left
        behind is no finding.

    Why it matters
        The cursor holds its connection and the snapshot of its transaction. SQLite keeps a lock on the tables it
        reads, and MySQL an answer that nobody has read and that the next statement has to wait for.

    Example
        ::

            rows = connection.execution_options(yield_per=100).execute(select(Order))
            first = next(iter(rows))               # the rest is never fetched
            return str(first.id)

    Instead
        ::

            with connection.execution_options(yield_per=100).execute(select(Order)) as rows:
                first = next(iter(rows))

    Options
        None.
    """

    code = "SW106"
    name = "open-cursor"
    hint = "use the result in a 'with' block or call its close(); for a few rows, use 'limit()' and do not stream."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        scope = incident.scope
        if incident.kind != "streams" or scope is None or scope.error is not None:
            return
        for stream in scope.streams or ():
            if self._is_open(stream):
                yield self._told(stream, scope, moment)

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for checkout in moment.checkouts:
            stream = checkout.stream
            if stream is None or checkout.scope is not None or not _is_leaked(checkout):
                continue
            if self.is_news(checkout, "warning") and self._is_open(stream):
                yield self._told(stream, None, moment)

    def _is_open(self, stream: Stream) -> bool:
        context = stream.context_ref()
        return context is not None and has_open_result(context)

    def _told(self, stream: Stream, scope: Scope | None, moment: Moment) -> Finding:
        checkout = stream.checkout_ref()
        held = checkout is not None and checkout.ended_at is None
        engine = None if checkout is None else checkout.engine.name
        holding = f", which holds a connection of engine '{engine}'" if held else ""
        return self.finding(
            moment,
            f"{in_scope(scope)} left a streaming result open{holding}.",
            stream.stack,
            scope,
            level="warning" if held else "info",
            verb="executed",
            subject=checkout if held else None,
            details={"engine": engine, **({} if checkout is None else server_ids(checkout.pooled))},
        )


def _is_leaked(checkout: Checkout) -> bool:
    return checkout.leaked or (checkout.transaction is not None and checkout.transaction.leaked)


#: Seconds from which on a failing statement may have begun on a connection that was alive.
_LONG_STATEMENT = 1.0


@dataclass(frozen=True)
class StalePooledConnection(Rule):
    """The first statement on a pooled connection failed because the connection was dead already.

    What it does
        Tells when SQLAlchemy recognises the error of a check-out's first statement as a disconnect, on a connection
        that was in the pool before. A connection that was just opened, one that had worked since its check-out, and
        a pool with ``pool_pre_ping`` are left alone. It is info where the scope ended well all the same, as after a
        retry, and where the statement ran for over a second before it failed.

    Why it matters
        Servers, proxies and firewalls drop connections that are idle for long, and a restart drops all of them. The
        pool notices only when somebody uses one; that request fails for nothing.

    Example
        ::

            SQLALCHEMY_DATABASE_URI = "mysql+pymysql://..."      # wait_timeout drops idle connections

    Instead
        ::

            SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True}  # or pool_recycle below the server's time-out

    Options
        None.
    """

    code = "SW107"
    name = "stale-pooled-connection"
    hint = "set 'pool_pre_ping': True, or 'pool_recycle' to less than the server's time-out, in the engine's options."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        checkout = incident.subject
        if incident.kind != "disconnected" or not isinstance(checkout, Checkout):
            return
        age: float | None = incident.details["age"]
        opened = "before the watch" if age is None else f"{age:.1f} s before"
        message = (
            f"{in_scope(incident.scope)} got a dead connection from the pool of engine '{checkout.engine.name}': "
            f"its first statement failed. The connection was opened {opened}."
        )
        yield self.finding(
            moment,
            message,
            incident.stack,
            incident.scope,
            level=self._level(incident),
            verb="executed",
            details={
                "engine": checkout.engine.name,
                "age_seconds": None if age is None else round(age, 3),
                **server_ids(checkout.pooled),
                "lines": on_server(checkout.pooled),
            },
        )

    def _level(self, incident: Incident) -> Level:
        scope = incident.scope
        recovered = scope is not None and scope.ended and scope.succeeded
        return "info" if recovered or incident.details["took"] > _LONG_STATEMENT else "warning"


@dataclass(frozen=True)
class CheckoutChurn(Rule):
    """One scope checked out connections more often than SESSIONWATCH_MAX_CHECKOUTS.

    What it does
        Counts the check-outs of each scope and names the line that checks out most. Check-outs that went with a
        commit are not counted: SW501 commit-storm tells of those.

    Why it matters
        Each check-out costs a reset of the connection, mostly a ROLLBACK on the wire. Helpers that open a Session
        each see different snapshots of the data, and none of the objects that the others have loaded.

    Example
        ::

            def name_of(user_id):
                with Session(engine) as session:
                    return session.get(User, user_id).name

            names = [name_of(user_id) for user_id in ids]

    Instead
        ::

            with Session(engine) as session:
                names = session.scalars(select(User.name).where(User.id.in_(ids))).all()

    Options
        None of its own; SESSIONWATCH_MAX_CHECKOUTS is the limit.
    """

    code = "SW108"
    name = "checkout-churn"
    level: t.ClassVar[Level] = "info"
    hint = "use one Session for the whole request and pass it to the helpers, or raise SESSIONWATCH_MAX_CHECKOUTS."
    limits: t.ClassVar[Limits] = MappingProxyType({"max_checkouts": None})

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        scope = incident.scope
        if incident.kind != "churn" or scope is None or scope.checkout_calls is None:
            return
        number = scope.held_peak + scope.checkouts_again
        limit = moment.settings.max_checkouts
        if number - scope.commits <= limit:
            return
        call, most = max(scope.checkout_calls.items(), key=lambda item: item[1])
        mostly = ", mostly at one line" if most >= number / 2 else ""
        yield self.finding(
            moment,
            f"{scope.name} checked out a connection {number} times{mostly}; the limit is {limit}.",
            incident.stack if call is None else (call,),
            scope,
            site=None if call is None else site_of(call),
            verb="checked out",
            details={"checkouts": number, "commits": scope.commits, "limit": limit},
        )
