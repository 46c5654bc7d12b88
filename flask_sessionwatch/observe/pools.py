"""How full a pool is, who holds its connections and who waits for one, read off the ledger."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from .doing import STATEMENT
from .doing import doing
from .driver import named_on_server
from .holder import Holder
from .ledger import Ledger
from .pooled import EngineInfo
from .records import Checkout
from .stack import Stacks

#: Seconds without a check-in after which a pool that somebody waits for is stuck.
STUCK_AFTER = 1.0
#: The same while one of its holders runs a statement, which mostly ends by itself.
STUCK_IN_STATEMENT_AFTER = 10.0
#: At least so many ticks: one look is not enough.
_STUCK_TICKS = 2


class PoolState(t.NamedTuple):
    """A limited pool at one moment."""

    engine: EngineInfo
    capacity: int
    #: What is checked out, oldest first.
    held: list[Checkout]
    #: Since when each waiting thread waits, longest first.
    waiting: list[float]

    def still_for(self, now: float) -> float:
        """Return for how many seconds somebody has waited and nobody has got a connection; 0 where nobody waits.

        Who waits takes whatever is checked in. So the newest check-out tells when the latest check-in was.
        """
        if not self.waiting:
            return 0.0
        newest = max((each.began_at for each in self.held), default=self.waiting[0])
        return now - max(newest, self.waiting[0])


def pool_states(ledger: Ledger, live: Iterable[Checkout]) -> list[PoolState]:
    """Return the state of every pool that has a limit.

    :param live: what is checked out.
    """
    checkouts = sorted(live, key=lambda each: each.began_at)
    waiting = sorted(ledger.waiting.copy().values(), key=lambda each: each[1])
    states = []
    for engine in ledger.engines.copy().values():
        capacity = engine.capacity
        if capacity and not engine.ignored:
            held = [each for each in checkouts if each.engine is engine]
            waits = [since for waited_for, since in waiting if waited_for is engine]
            states.append(PoolState(engine, capacity, held, waits))
    return states


def is_stuck(state: PoolState, stacks: Stacks, tick: float, now: float) -> bool:
    """Whether threads wait for a pool whose connections nobody returns."""
    still = state.still_for(now)
    least = max(STUCK_AFTER, _STUCK_TICKS * tick)
    if still < least:
        return False
    # The stacks are looked at last: most pools never come here.
    busy = any(doing(each.user.frame, stacks).what == STATEMENT for each in state.held)
    return not busy or still >= max(STUCK_IN_STATEMENT_AFTER, least)


def lasting(seconds: float) -> str:
    """Say how long something lasts, in the unit that suits it: most requests are over in milliseconds."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.0995 else f"{seconds:.1f} s"


def described(checkout: Checkout, stacks: Stacks, now: float, asking: Holder | None = None) -> str:
    """Say who holds a connection, since when and from where, and what they are doing now.

    :param asking: who asks; what they are doing is known.
    """
    scope = "outside of any scope" if checkout.scope is None else checkout.scope.name
    site = stacks.site(checkout.stack)
    text = f"{scope}, held {lasting(now - checkout.began_at)} by thread '{checkout.holder.name}'"
    text += f", checked out at {site}" if site is not None else ""
    if checkout.user is not asking:
        present = doing(checkout.user.frame, stacks)
        text += f", {present}" if present else ""
    number = checkout.pooled.server_id
    return text if number is None else f"{text}, {named_on_server(number, checkout.engine.dialect)}"
