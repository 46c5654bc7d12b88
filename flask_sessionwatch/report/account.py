"""What has been counted in this process since it began, for those who look at all processes."""

from __future__ import annotations

import threading
import time
import typing as t
from collections import Counter
from collections.abc import Iterable

from ..observe.ended import Ended
from ..observe.ledger import Ledger
from .dispatcher import Dispatcher
from .harvest import Harvest
from .harvest import HarvestCounter
from .history import OUTCOME
from .history import SERIES
from .history import History
from .metrics import idle_of
from .metrics import live_pools
from .totals import Totals
from .usage import Usage


class Account:
    """What has been counted in this process since it began.

    :param ledger: the process's ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.totals: Totals = Totals(ledger.stacks)
        #: Who else counts what has ended.
        self.counters: list[HarvestCounter] = []
        self.usage: Usage = Usage()
        self._lock = threading.Lock()
        self.histories: dict[str, History] = {
            kind: History(step, points) for kind, (step, points) in SERIES.items()
        }
        self._counted = {"scopes": 0, "findings": 0}
        #: What was counted since the last look.
        self._news: Counter[str] = Counter()

    def take(self, ended: Ended, harvest: Harvest) -> None:
        """Count records that have ended.

        :param harvest: the same, added up.
        """
        self.totals.take(ended)
        with self._lock:  # a scrape may count while the watchdog does
            self.usage.take(harvest)
            self._take_news(harvest)
        for counter in list(self.counters):
            counter.take(harvest)

    def _take_news(self, harvest: Harvest) -> None:
        for (series, labels), number in harvest.counts.items():
            if series == "transactions":
                self._news[OUTCOME + labels[1]] += number
            elif series == "connection_timeouts":
                self._news[f"timeouts:{labels[0]}"] += number
        for (series, labels), values in harvest.values.items():
            if series == "connection_create_seconds":
                self._news[f"connects:{labels[0]}"] += len(values)

    def look(self, dispatchers: Iterable[Dispatcher]) -> None:
        """Add what is live now to the history."""
        gauges = {"sessions": float(len(self._ledger.transactions))}
        used = Counter(each.engine for each in self._ledger.checkouts)
        for engine, pool in live_pools(self._ledger):
            for name, value in self._of_pool(engine, pool, used[engine]).items():
                gauges[name] = gauges.get(name, 0.0) + value
        found = sum(sum(each.occurrences.copy().values()) for each in dispatchers)
        counts = {
            "scopes": self._since("scopes", self.totals.ended),
            "findings": self._since("findings", found),
            **self._taken_news(),
        }
        for history in self.histories.values():
            history.add(time.time(), gauges, counts)

    def _taken_news(self) -> dict[str, float]:
        with self._lock:
            news: dict[str, float] = dict(self._news)
            self._news.clear()
        return news

    def _of_pool(self, engine: t.Any, pool: t.Any, used: int) -> dict[str, float]:
        waiting = [each for each, _ in self._ledger.waiting.copy().values()]
        return {
            f"used:{engine.name}": used,
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
        if history is not None:
            return history.as_json()
        return {**self.totals.as_json(self._ledger.checkouts), "pools": self.usage.as_json()}

    def forget(self) -> None:
        """Begin anew, as a child process must after a fork."""
        self.totals.forget()
        self._lock = threading.Lock()
        self.usage.forget()
        self._news.clear()
        for history in self.histories.values():
            history.forget()
        self._counted = dict.fromkeys(self._counted, 0)
