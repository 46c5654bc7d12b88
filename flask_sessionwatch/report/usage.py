"""How the pools of this process were used since it began, as plain data that can be added up over processes."""

from __future__ import annotations

import typing as t
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence

from .harvest import SECONDS
from .harvest import Harvest
from .harvest import buckets_of

#: What is measured of each pool: how long connections were checked out, waited for, and opened.
DURATIONS = ("hold", "wait", "connect")
_DURATION_OF = {
    "connection_use_seconds": "hold",
    "connection_wait_seconds": "wait",
    "connection_create_seconds": "connect",
}


class Distribution:
    """How many durations fell between which bounds, and their sum.

    :param counts: one number for each of the bounds, and a last one for what is above them.
    :param seconds: the sum.
    """

    __slots__ = ("counts", "seconds")

    def __init__(self, counts: Iterable[int] = (), seconds: float = 0.0) -> None:
        self.counts: list[int] = list(counts) or [0] * (len(SECONDS) + 1)
        self.seconds: float = seconds

    def take(self, values: Sequence[float]) -> None:
        """Count each of *values*."""
        for place, number in buckets_of(SECONDS, values).items():
            self.counts[place] += number
        self.seconds += sum(values)

    def as_json(self) -> list[t.Any]:
        """Return the sum and the counts, without the empty ones at the end."""
        last = max((place for place, number in enumerate(self.counts) if number), default=-1)
        return [round(self.seconds, 6), *self.counts[: last + 1]]

    def add(self, told: list[t.Any]) -> None:
        """Add what another one has told of itself."""
        seconds, *counts = told
        self.seconds += seconds
        for place, number in enumerate(counts[: len(self.counts)]):
            self.counts[place] += number


class PoolUsage:
    """How the pools of one engine's name were used."""

    __slots__ = ("durations", "peak", "timeouts")

    def __init__(self) -> None:
        self.durations: dict[str, Distribution] = {name: Distribution() for name in DURATIONS}
        self.timeouts: int = 0
        #: The most connections that were checked out at once.
        self.peak: int = 0

    def as_json(self) -> dict[str, t.Any]:
        """Return it as plain data."""
        durations = {name: each.as_json() for name, each in self.durations.items()}
        return {**durations, "timeouts": self.timeouts, "peak": self.peak}

    def add(self, told: dict[str, t.Any]) -> None:
        """Add what another process has told of the same engine; each process has a pool of its own, so that peaks do not add up."""
        for name, each in self.durations.items():
            each.add(told[name])
        self.timeouts += told["timeouts"]
        self.peak = max(self.peak, told["peak"])


class Usage:
    """How the pools of this process were used since it began."""

    def __init__(self) -> None:
        self.pools: defaultdict[str, PoolUsage] = defaultdict(PoolUsage)

    def take(self, harvest: Harvest) -> None:
        """Count what has ended."""
        for (series, labels), values in harvest.values.items():
            name = _DURATION_OF.get(series)
            if name is not None:
                self.pools[labels[0]].durations[name].take(values)
        for (series, labels), number in harvest.counts.items():
            if series == "connection_timeouts":
                self.pools[labels[0]].timeouts += number
        for engine, most in harvest.peaks.items():
            pool = self.pools[engine]
            pool.peak = max(pool.peak, most)

    def as_json(self) -> dict[str, t.Any]:
        """Return it as plain data, by the name of the engine."""
        return {engine: pool.as_json() for engine, pool in self.pools.copy().items()}

    def forget(self) -> None:
        """Begin anew, as a child process must after a fork."""
        self.pools.clear()
