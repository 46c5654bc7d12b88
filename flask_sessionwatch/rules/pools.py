"""SW6xx: pools that run dry."""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.engines import keeps_in_memory
from ..observe.pooled import EngineInfo
from ..observe.pooled import Spell
from ..observe.pools import PoolState
from ..observe.pools import described
from ..observe.pools import is_stuck
from ..observe.records import Checkout
from ..observe.records import Incident
from .base import Moment
from .base import Rule
from .base import in_scope


@dataclass(frozen=True)
class PoolExhausted(Rule):
    """Checking out a connection timed out because every connection of the pool was held.

    What it does
        Lists every holder at that moment, with its scope, age, site and present line: in the log, in the finding,
        and as a note on the TimeoutError itself (on Python 3.10, in its text).

    Why it matters
        The one who fails is rarely the one at fault. Who holds the connections is the question, and a moment
        later it can no longer be answered.

    Example
        ::

            create_engine(url, pool_size=5, max_overflow=0)   # served by 16 threads

    Instead
        ::

            create_engine(url, pool_size=16, max_overflow=4)  # or hold connections for shorter

    Options
        None.
    """

    code = "SW601"
    name = "pool-exhausted"
    level: t.ClassVar[Level] = "error"
    hint = "shorten what the holders do with their connection, close what leaks, or raise pool_size or max_overflow."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "pool_timeout":
            return
        engine: EngineInfo = incident.details["engine"]
        holders: list[str] = incident.details["holders"]
        message = (
            f"{in_scope(incident.scope)} got no connection from the pool of engine '{engine.name}': "
            f"{len(holders)} of {engine.capacity or len(holders)} were held."
        )
        yield self.finding(
            moment,
            message,
            incident.stack,
            incident.scope,
            verb="asked for",
            details={
                "engine": engine.name,
                "holders": holders,
                "lines": [f"held by {line}" for line in holders],
            },
        )


#: The share of a pool from which on it is near its limit.
_NEAR = 0.8
#: Pools with fewer connections are near their limit as soon as they are used.
_LEAST_CAPACITY = 5
#: Holders that a finding lists, the oldest ones.
_HOLDERS_TOLD = 50
#: For how many ticks, and at least how many seconds, a pool is near its limit before that is a warning.
_LONG_TICKS = 10
_LONG_SECONDS = 5.0


@dataclass(frozen=True)
class PoolNearLimit(Rule):
    """At least four fifths of a pool's connections were checked out.

    What it does
        Looks at each tick at every pool with a limit, which is ``pool_size + max_overflow``. Told as info when two
        ticks in a row see it that full, and as a warning when that lasts for ten ticks and five seconds; a pool of
        fewer than five connections stays at info. It names the line that holds most, lists the holders, and is
        resolved when the pool has room again.

    Why it matters
        A little more load, or one slow query, and check-outs wait for each other and then time out.

    Example
        ::

            create_engine(url, pool_size=5, max_overflow=0)   # served by 16 threads

    Instead
        ::

            create_engine(url, pool_size=16, max_overflow=4)  # or hold connections for shorter

    Options
        ``share``: of the pool; 0.8 unless given.
    """

    code = "SW602"
    name = "pool-near-limit"
    hint = "shorten what the holders do with their connection, or raise pool_size or max_overflow."

    share: float | None = None

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        share = _NEAR if self.share is None else self.share
        for state in moment.pools:
            engine = state.engine
            near = len(state.held) >= share * state.capacity
            engine.crowded = _spell(engine.crowded, moment, goes_on=near)
            if engine.crowded is not None and _is_confirmed(engine.crowded, moment):
                level = self._level(state, engine.crowded, moment)
                if self.is_news(engine.crowded, level):
                    yield self._told(state, engine.crowded, moment, level)

    def _level(self, state: PoolState, spell: Spell, moment: Moment) -> Level:
        lasting = moment.now - spell.began_at >= max(_LONG_TICKS * moment.settings.tick, _LONG_SECONDS)
        return "warning" if lasting and state.capacity >= _LEAST_CAPACITY else "info"

    def _told(self, state: PoolState, spell: Spell, moment: Moment, level: Level) -> Finding:
        message = (
            f"The pool of engine '{state.engine.name}' has {len(state.held)} of {state.capacity} connections "
            f"checked out, for {moment.now - spell.began_at:.1f} s."
        )
        stack = _main_holder(state.held, moment).stack
        details = _of_pool(state, moment)
        return self.finding(
            moment, message, stack, None, level=level, verb="checked out", subject=spell, details=details
        )


@dataclass(frozen=True)
class PoolStuck(Rule):
    """Threads wait for a pool whose connections nobody returns.

    What it does
        Looks at each tick at pools that somebody waits for, and tells when for one second, and two ticks, no
        connection came back; for ten seconds while a holder runs a statement, because that mostly ends by itself.
        It names the line that holds most, lists the holders, and is resolved when the pool moves again.

    Why it matters
        Nothing that needs the database is answered any more. A process in this state should not be sent requests.

    Example
        ::

            with Session(engine) as session:       # as many requests as the pool has connections
                order = session.get(Order, order_id)
                with Session(engine) as audit:     # each waits for one more
                    audit.add(Seen(order_id))

    Instead
        ::

            with Session(engine) as session:
                order = session.get(Order, order_id)
                session.add(Seen(order_id))

    Options
        None.
    """

    code = "SW603"
    name = "pool-stuck"
    level: t.ClassVar[Level] = "error"
    hint = "let no request hold one connection while it waits for another one or for something slow."

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for state in moment.pools:
            stuck = is_stuck(state, moment.ledger.stacks, moment.settings.tick, moment.now)
            spell = state.engine.stuck = _spell(state.engine.stuck, moment, goes_on=stuck)
            if spell is not None and state.held and self.is_news(spell, self.level):
                yield self._told(state, spell, moment)

    def _told(self, state: PoolState, spell: Spell, moment: Moment) -> Finding:
        waiting = "1 thread waits" if len(state.waiting) == 1 else f"{len(state.waiting)} threads wait"
        message = (
            f"The pool of engine '{state.engine.name}' is stuck: all {len(state.held)} connections are held, {waiting}, "
            f"and none was returned for {state.still_for(moment.now):.1f} s."
        )
        stack = _main_holder(state.held, moment).stack
        details = {**_of_pool(state, moment), "waiting": len(state.waiting)}
        return self.finding(moment, message, stack, None, verb="checked out", subject=spell, details=details)


def _spell(spell: Spell | None, moment: Moment, *, goes_on: bool) -> Spell | None:
    """Begin, continue or end a spell."""
    if goes_on:
        return spell or Spell(moment.now)
    if spell is not None:
        spell.ended_at = moment.now
    return None


def _is_confirmed(spell: Spell, moment: Moment) -> bool:
    """Whether a spell has lasted from one tick to a later one."""
    return moment.now - spell.began_at >= moment.settings.tick * 0.5


def _main_holder(held: list[Checkout], moment: Moment) -> Checkout:
    """Return the oldest check-out of the line that holds most."""
    sites = [moment.ledger.stacks.site(each.stack) for each in held]
    most, _ = Counter(sites).most_common(1)[0]
    return held[sites.index(most)]


def _of_pool(state: PoolState, moment: Moment) -> dict[str, object]:
    oldest = sorted(state.held, key=lambda each: each.began_at)[:_HOLDERS_TOLD]
    holders = [described(each, moment.ledger.stacks, moment.now) for each in oldest]
    lines = [f"held by {holder}" for holder in holders]
    if len(state.held) > len(holders):
        lines.append(f"and by {len(state.held) - len(holders)} more")
    return {
        "engine": state.engine.name,
        "used": len(state.held),
        "capacity": state.capacity,
        "holders": holders,
        "lines": lines,
    }


#: How many engines of one kind make it a habit.
_HABIT = 3


@dataclass(frozen=True)
class EngineChurn(Rule):
    """Engines for the same database are made per request or per task.

    What it does
        Notes each engine that is used for the first time inside of a scope, and is there at its end without having
        been disposed of. Told from the third one on that has the same URL, was first used at the same line and was
        never used by another scope. In a command, task or app context, only engines of different scopes count.
        Engines without a pool, and databases in memory, are left alone. An application made per request shows the
        same way, by its engines.

    Why it matters
        Each engine has a pool of its own. Every request pays for connecting, no connection is used again, and all
        of them stay open until the garbage collector comes, or the server refuses more.

    Example
        ::

            def get_session():
                engine = create_engine(URL)        # called by every request
                return Session(engine)

    Instead
        ::

            engine = create_engine(URL)            # once, when the module is imported

            def get_session():
                return Session(engine)

    Options
        None.
    """

    code = "SW604"
    name = "engine-churn"
    hint = "make the engine once, when the application starts, and use it everywhere."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "engine" or incident.scope is None:
            return
        engine: EngineInfo = incident.details["engine"]
        if not _keeps_connections(engine):
            return
        site = moment.ledger.stacks.site(incident.stack)
        # The URL itself would keep its password.
        alike = (hash(engine.engine_ref().url), engine.name, site)
        once = moment.ledger.engine_left(incident.scope, engine, alike)
        in_request = incident.scope.kind == "request"
        if len(once if in_request else {id(each.used_in) for each in once}) < _HABIT:
            return
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} left an engine of its own for '{engine.name}' behind: "
            f"{len(once)} that were first used at this line have served one scope each.",
            incident.stack,
            incident.scope,
            verb="used",
            details={"engine": engine.name, "engines": len(once)},
        )


def _keeps_connections(info: EngineInfo) -> bool:
    """Whether an engine is there with the pool that it was made with, and connections stay open in that."""
    engine = info.engine_ref()
    if engine is None or info.is_replaced or keeps_in_memory(engine):
        return False
    # Only pools that keep connections have a size.
    return getattr(info.pool, "size", None) is not None
