"""SW1xx: connections that are not returned, or taken twice."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from ..finding import Finding
from ..finding import Level
from ..observe.pools import lasting
from ..observe.present import pool_use
from ..observe.records import Checkout
from ..observe.records import Incident
from ..observe.records import Scope
from .base import Limits
from .base import Moment
from .base import Rule
from .base import confirmed
from .base import in_scope
from .base import is_left_behind
from .base import of_holder
from .base import on_server
from .base import server_ids


@dataclass(frozen=True)
class LeakedConnection(Rule):
    """A scope ended, or its thread died, with a connection still checked out that no Session owns.

    What it does
        Looks at the end of every scope for Core connections that the scope checked out and did not return. Outside
        of any scope it looks at each tick for holders whose thread is over, or is long doing something else. A
        connection that was checked out while the application was being set up and is still out when requests are
        served is told too.

    Why it matters
        The pool has ``pool_size + max_overflow`` connections. Each leaked one is gone until the garbage collector
        finds it, if it ever does; then the next request waits ``pool_timeout`` seconds and fails.

    Example
        ::

            conn = db.engine.connect()
            rows = conn.execute(select(Order)).all()
            return render(rows)                    # nobody closes conn

    Instead
        ::

            with db.engine.connect() as conn:
                rows = conn.execute(select(Order)).all()

    Options
        None. A connection that is held on purpose: ``SESSIONWATCH_IGNORE = ["SW101:jobs/*"]``.
    """

    code = "SW101"
    name = "leaked-connection"
    level: t.ClassVar[Level] = "error"
    hint = "use 'with engine.connect() as connection:', which returns it also on an early return or an exception."

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        for checkout in scope.checkouts:
            if checkout.transaction is None:
                yield self._told(checkout, moment, f"{(checkout.origin or scope).name} ended with")

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for checkout in moment.checkouts:
            if checkout.leaked or checkout.transaction is not None:
                continue
            if checkout.early and moment.ledger.serving:
                yield self._told(checkout, moment, "Requests are served, and the start-up has left")
            elif confirmed(checkout, moment, suspect=is_left_behind(checkout, moment)):
                yield self._told(checkout, moment, f"{in_scope(checkout.scope)} left")

    def _told(self, checkout: Checkout, moment: Moment, fact: str) -> Finding:
        checkout.leaked = True
        message = f"{fact} a connection of engine '{checkout.engine.name}' still checked out ({moment.held(checkout)})."
        return self.finding(
            moment,
            message,
            checkout.stack,
            checkout.origin or checkout.scope,
            verb="checked out",
            subject=checkout,
            details=of_holder(checkout, moment),
        )


@dataclass(frozen=True)
class AbandonedConnection(Rule):
    """The garbage collector, not the code, returned a connection to its pool.

    What it does
        Notices a connection whose proxy died before it was given back: nobody called ``close()``, and the cyclic
        garbage collector cleaned up. SQLAlchemy itself is silent about it for synchronous drivers.

    Why it matters
        When the collector runs is chance. Under load the pool is empty before it does, and a collection in another
        thread rolls back whatever the connection had not committed.

    Example
        ::

            def newest():
                session = Session(engine)          # in a reference cycle with its transaction
                return session.scalars(select(Order).limit(10)).all()

    Instead
        ::

            with Session(engine) as session:
                return session.scalars(select(Order).limit(10)).all()

    Options
        None.
    """

    code = "SW102"
    name = "abandoned-connection"
    hint = (
        "close the Session or Connection, best with a 'with' block; do not leave it to the garbage collector."
    )

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        checkout = incident.subject
        if incident.kind != "abandoned" or not isinstance(checkout, Checkout) or checkout.leaked:
            return
        if checkout.transaction is not None and checkout.transaction.leaked:
            return
        seconds = (checkout.ended_at or moment.now) - checkout.began_at
        message = (
            f"{in_scope(incident.scope)} dropped a connection of engine '{checkout.engine.name}' without closing it; "
            f"the garbage collector returned it after {lasting(seconds)}."
        )
        yield self.finding(
            moment,
            message,
            incident.stack,
            incident.scope,
            verb="checked out",
            details={
                "engine": checkout.engine.name,
                **server_ids(checkout.pooled),
                "lines": on_server(checkout.pooled),
            },
        )


@dataclass(frozen=True)
class LongCheckout(Rule):
    """A connection was held longer than SESSIONWATCH_LONG_CHECKOUT.

    What it does
        Tells, while it is still held, of every connection that is checked out longer than the limit, with the
        stack that checked it out and what its holder is doing now; and tells again when it comes back. The level
        follows the pool: info while at most a fifth of it is used, error from nine tenths on.

    Why it matters
        A slow holder is a smaller pool. A few of them, and everybody else waits.

    Example
        ::

            users = db.session.scalars(select(User)).all()
            for user in users:
                send_mail(user)                    # minutes, with the connection held

    Instead
        ::

            addresses = db.session.scalars(select(User.email)).all()
            db.session.commit()                    # returns the connection
            for address in addresses:
                send_mail(address)

    Options
        ``threshold``: seconds; SESSIONWATCH_LONG_CHECKOUT unless given.
    """

    code = "SW103"
    name = "long-checkout"
    hint = "end the transaction before slow work, or raise SESSIONWATCH_LONG_CHECKOUT."
    limits: t.ClassVar[Limits] = MappingProxyType({"long_checkout": "threshold"})

    threshold: float | None = None

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        threshold = moment.settings.long_checkout if self.threshold is None else self.threshold
        for checkout in moment.checkouts:
            if checkout.leaked or moment.now - checkout.began_at <= threshold:
                continue
            level = self._level(checkout, moment)
            if self.is_news(checkout, level):
                yield self._told(checkout, moment, level, threshold)

    def _level(self, checkout: Checkout, moment: Moment) -> Level:
        use = pool_use(checkout, moment.used[checkout.engine])
        if use is None:
            return "warning"
        return "info" if use <= 0.2 else "error" if use >= 0.9 else "warning"

    def _told(self, checkout: Checkout, moment: Moment, level: Level, threshold: float) -> Finding:
        message = (
            f"{in_scope(checkout.scope)} holds a connection of engine '{checkout.engine.name}' for longer than "
            f"{threshold:g} s ({moment.held(checkout)})."
        )
        return self.finding(
            moment,
            message,
            checkout.stack,
            checkout.scope,
            level=level,
            verb="checked out",
            subject=checkout,
            details=of_holder(checkout, moment),
        )


@dataclass(frozen=True)
class NestedCheckout(Rule):
    """One scope held two connections of the same engine at once.

    What it does
        Notices a second check-out from the same pool by a scope that still holds the first, on the same thread;
        also when the pool was already empty and the second one timed out. Info while at most a fifth of the pool is
        used, an error when the second one timed out, a warning in between. Pools without a limit are left alone.

    Why it matters
        With as many such scopes as the pool has connections, each holds one and waits for another: the pool
        deadlocks on itself, and every one of them fails with a time-out.

    Example
        ::

            user = db.session.get(User, 1)         # the first connection
            with Session(db.engine) as session:    # the second
                flag = session.scalar(select(Flag.on))

    Instead
        ::

            user = db.session.get(User, 1)
            flag = db.session.scalar(select(Flag.on))

    Options
        None.
    """

    code = "SW104"
    name = "nested-checkout"
    hint = "pass the session that is already open to the helper, or end its transaction first."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "nested":
            return
        other: Checkout = incident.details["other"]
        first = moment.ledger.stacks.site(other.stack)
        message = (
            f"{in_scope(incident.scope)} checked out a second connection of engine '{other.engine.name}' "
            f"while it held one{f' from {first}' if first else ''}."
        )
        yield self.finding(
            moment,
            message,
            incident.stack,
            incident.scope,
            level=self._level(incident),
            verb="checked out",
            details={"engine": other.engine.name},
        )

    def _level(self, incident: Incident) -> Level:
        if incident.subject is None:
            return "error"
        use: float = incident.details["use"]
        return "info" if use <= 0.2 else "warning"
