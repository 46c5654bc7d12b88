"""Add up how the pools of several workers are used, and were since they began."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Sequence

from ..report.harvest import SECONDS
from ..report.usage import Distribution
from ..report.usage import PoolUsage
from .base import Data

#: What adds up over the pools of one engine.
_SUMS = ("overflow", "used", "idle", "waiting")


def merged_pools(engines: Iterable[Data], bodies: Iterable[Data], sites: Sequence[Data]) -> list[Data]:
    """Return a row for each engine.

    :param engines: those of each live worker.
    :param bodies: the totals of each worker.
    :param sites: what held connections for the longest, of each engine.
    """
    usage: dict[str, PoolUsage] = {}
    for body in bodies:
        for name, told in body.get("pools", {}).items():
            usage.setdefault(name, PoolUsage()).add(told)
    live: dict[str, list[Data]] = {}
    for engine in engines:
        live.setdefault(engine["name"], []).append(engine)
    return [
        {
            "name": name,
            **_live_row(live.get(name, [])),
            **_usage_row(usage.get(name, PoolUsage())),
            "sites": [_without_engine(each) for each in sites if each["engine"] == name],
        }
        for name in sorted(live.keys() | usage.keys())
    ]


def _live_row(engines: Sequence[Data]) -> Data:
    first = engines[0] if engines else {}
    ages = [each["oldest_age_seconds"] for each in engines if each["oldest_age_seconds"] is not None]
    return {
        "dialect": first.get("dialect"),
        "pool": first.get("pool"),
        "size": _sum_or_none(each["size"] for each in engines),
        "max": _sum_or_none(each["max"] for each in engines),
        **{name: sum(each.get(name, 0) for each in engines) for name in _SUMS},
        "workers": len({(each["host"], each["pid"]) for each in engines}),
        "oldest_age_seconds": max(ages, default=None),
    }


def _sum_or_none(numbers: Iterable[int | None]) -> int | None:
    """Return the sum; None where there is nothing to add up, or where one of them has no limit."""
    told = list(numbers)
    known = [each for each in told if each is not None]
    return sum(known) if told and len(known) == len(told) else None


def _usage_row(usage: PoolUsage) -> Data:
    return {
        "peak": usage.peak,
        **{name: _histogram(each) for name, each in usage.durations.items()},
        "checkouts": sum(usage.durations["hold"].counts),
        "timeouts": usage.timeouts,
        "connects": sum(usage.durations["connect"].counts),
    }


def _histogram(distribution: Distribution) -> dict[str, t.Any]:
    return {"bounds": SECONDS, "counts": distribution.counts, "sum": round(distribution.seconds, 3)}


def _without_engine(site: Data) -> Data:
    return {name: value for name, value in site.items() if name != "engine"}
