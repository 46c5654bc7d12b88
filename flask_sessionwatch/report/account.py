"""What has been counted in this process since it began, for those who look at all processes."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Iterable

from ..observe.ledger import Ledger
from .dispatcher import Dispatcher
from .history import SERIES
from .history import History
from .metrics import idle_of
from .metrics import live_pools
from .totals import Totals


class Account:
    """What has been counted in this process since it began.

    :param ledger: the process's ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.totals = Totals(ledger.stacks)
        self.histories = {kind: History(step, points) for kind, (step, points) in SERIES.items()}
        self._counted = {"scopes": 0, "findings": 0}

    def take(self, closed: Iterable[t.Any]) -> None:
        """Count records that have ended."""
        self.totals.take(closed)

    def look(self, dispatchers: Iterable[Dispatcher]) -> None:
        """Add what is live now to the history."""
        gauges = {"sessions": float(len(self._ledger.transactions))}
        for engine, pool in live_pools(self._ledger):
            for name, value in self._of_pool(engine, pool).items():
                gauges[name] = gauges.get(name, 0.0) + value
        found = sum(sum(each.occurrences.copy().values()) for each in dispatchers)
        counts = {
            "scopes": self._since("scopes", self.totals.ended),
            "findings": self._since("findings", found),
        }
        for history in self.histories.values():
            history.add(time.time(), gauges, counts)

    def _of_pool(self, engine: t.Any, pool: t.Any) -> dict[str, float]:
        waiting = [each for each, _ in self._ledger.waiting.copy().values()]
        return {
            f"used:{engine.name}": self._ledger.used(engine),
            f"idle:{engine.name}": idle_of(pool),
            f"max:{engine.name}": engine.capacity or 0,
            f"waiting:{engine.name}": waiting.count(engine),
        }

    def _since(self, name: str, total: int) -> float:
        """Return what a total has grown by; one that fell began anew."""
        before, self._counted[name] = self._counted[name], total
        return total - before if total >= before else total

    def document(self, kind: str) -> dict[str, t.Any]:
        """Return the history of that name, or else the totals, as plain data."""
        history = self.histories.get(kind)
        return self.totals.as_json(self._ledger.checkouts.copy()) if history is None else history.as_json()

    def forget(self) -> None:
        """Begin anew, as a child process must after a fork."""
        self.totals.forget()
        for history in self.histories.values():
            history.forget()
        self._counted = dict.fromkeys(self._counted, 0)
