"""Add up what several workers say of the same thing."""

from __future__ import annotations

import contextlib
import heapq
import operator
import typing as t
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import zip_longest

from ..finding import stamp
from ..report.harvest import OUTCOMES
from ..report.history import OUTCOME
from ..report.history import Column
from ..report.totals import COMMIT_BUCKETS
from ..report.totals import SITES_TOLD
from ..report.totals import VERDICTS
from ..report.totals import BadScope
from ..report.totals import ScopeTotal
from ..report.totals import SiteTotal
from .base import Data
from .base import Published
from .base import Worker

#: The latest scopes with findings that are shown of each name.
BAD_SHOWN = 10


def merged_scopes(published: Sequence[Published]) -> list[Data]:
    """Return the totals of each scope, the one with the most first."""
    told: dict[tuple[str, str], list[list[t.Any]]] = {}
    for each in published:
        for name, kind, *values in each.body.get("scopes", ()):
            told.setdefault((name, kind), []).append(values)
    together = {key: _sum(rows) for key, rows in told.items()}
    held = sum(total.held for total in together.values())
    bad = _bad_scopes(published)
    rows = [
        {**_scope_row(*key, total), "hold_share": _share(total.held, held), "bad": bad.get(key, [])}
        for key, total in together.items()
    ]
    return sorted(rows, key=lambda row: (-row["count"], row["scope"], row["kind"]))


def _share(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0


def _bad_scopes(published: Iterable[Published]) -> dict[tuple[str, str], list[Data]]:
    """Return the latest scopes with findings by name and kind, the newest first."""
    bad: dict[tuple[str, str], list[tuple[float, Worker, list[t.Any]]]] = {}
    for each in published:
        for row in each.body.get("bad", ()):
            bad.setdefault((row[0], row[1]), []).append((-row[2], each.worker, row))
    return {key: [_bad_row(*each[1:]) for each in _latest(told)] for key, told in bad.items()}


def _latest(told: list[tuple[float, Worker, list[t.Any]]]) -> list[tuple[float, Worker, list[t.Any]]]:
    return heapq.nsmallest(BAD_SHOWN, told, key=operator.itemgetter(0))


def _bad_row(worker: Worker, told: Sequence[t.Any]) -> Data:
    scope = BadScope(*told[2:])
    return {
        "host": worker.host,
        "pid": worker.pid,
        "at": stamp(scope.at),
        "verdict": scope.verdict,
        "status": scope.status,
        "error": scope.error,
        "thread": scope.thread,
        "commits": scope.commits,
        "connections_peak": scope.peak,
        "findings": scope.findings,
    }


def _sum(rows: Sequence[Sequence[t.Any]]) -> ScopeTotal:
    """Return the sum; of a thousand workers field by field, which takes a tenth of the time of worker by worker."""
    verdicts, commits, most_commits, sessions, peak, held, waited, lost_writes = zip(*rows, strict=True)
    return ScopeTotal(
        _sums(verdicts),
        _sums(commits),
        max(most_commits),
        sum(sessions),
        max(peak),
        sum(held),
        sum(waited),
        sum(lost_writes),
    )


def _sums(lists: Iterable[Sequence[int]]) -> list[int]:
    return [sum(numbers) for numbers in zip(*lists, strict=True)]


def _scope_row(name: str, kind: str, total: ScopeTotal) -> Data:
    return {
        "scope": name,
        "kind": kind,
        "count": sum(total.verdicts),
        "verdicts": dict(zip(VERDICTS, total.verdicts, strict=True)),
        "commits": {
            "p50": _percentile(total.commits, 0.5, total.most_commits),
            "p95": _percentile(total.commits, 0.95, total.most_commits),
            "max": total.most_commits,
        },
        "sessions": total.sessions,
        "connections_peak": total.peak,
        "hold_seconds": round(total.held, 3),
        "wait_seconds": round(total.waited, 3),
        "lost_writes": total.lost_writes,
        "lost_writes_share": _share(total.lost_writes, sum(total.verdicts)),
    }


def _percentile(buckets: Sequence[int], share: float, most: int) -> int:
    """Return the upper bound of the bucket in which *share* of all is reached; never more than the most there was."""
    wanted = share * sum(buckets)
    reached = 0
    for bound, number in zip(COMMIT_BUCKETS, buckets, strict=False):
        reached += number
        if reached >= wanted:
            return min(bound, most)
    return most


def merged_sites(bodies: Iterable[Data]) -> list[Data]:
    """Return the sites that held connections for the longest, of each engine."""
    together: dict[tuple[str, str, int, str], SiteTotal] = {}
    for body in bodies:
        for engine, filename, lineno, function, held, checkouts in body.get("sites", ()):
            before = together.get((engine, filename, lineno, function), SiteTotal(0.0, 0))
            together[engine, filename, lineno, function] = SiteTotal(
                before.held + held, before.checkouts + checkouts
            )
    by_engine: dict[str, list[Data]] = {}
    for (engine, *site), total in sorted(together.items(), key=lambda item: -item[1].held):
        row = {
            "engine": engine,
            "site": dict(zip(("filename", "lineno", "function"), site, strict=True)),
            "hold_seconds": round(total.held, 3),
            "checkouts": total.checkouts,
        }
        by_engine.setdefault(engine, []).append(row)
    return [row for engine in sorted(by_engine) for row in by_engine[engine][:SITES_TOLD]]


def merged_columns(bodies: Iterable[Data], slots: range) -> tuple[dict[str, Column], list[int]]:
    """Add up histories point by point.

    :param slots: the points that are asked for.
    :return: the columns by name, None where no worker was there; and how many workers were there at each point.
    """
    told: dict[str, _Aligned] = {}
    present = _Aligned(len(slots))
    for body in bodies:
        first = body["first"] - slots[0]
        columns: Mapping[str, Column] = body.get("columns", {})
        for name, values in columns.items():
            told.setdefault(name, _Aligned(len(slots))).add(first, values)
        present.add(first, _presence(columns.values()))
    workers = [int(each or 0) for each in present.sum()]
    return {name: each.sum() for name, each in told.items()}, workers


class _Aligned:
    """The same column of several workers.

    Most begin at one of a few points, since they were published lately. Those are added up point by point at once.

    :param number: how many points are asked for.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._columns: dict[tuple[int, int], list[Column]] = {}

    def add(self, first: int, values: Column) -> None:
        """Take in the column of one worker.

        :param first: which of the points that are asked for it begins with; one before them is negative.
        """
        beyond = max(-first, 0)
        asked = values[beyond : max(self._number - first, 0)]
        self._columns.setdefault((first + beyond, len(asked)), []).append(asked)

    def sum(self) -> Column:
        """Return the sum, None where nobody has a value."""
        together: Column = [None] * self._number
        for (first, _), columns in self._columns.items():
            for place, value in enumerate(map(_sum_of_known, zip(*columns, strict=True)), first):
                if value is not None:
                    together[place] = (together[place] or 0) + value
        return together


def _sum_of_known(values: Sequence[t.Any]) -> t.Any:
    with contextlib.suppress(TypeError):  # most have no None among them
        return sum(values)
    known = [each for each in values if each is not None]
    return sum(known) if known else None


def _is_full(column: t.Any) -> bool:
    """Whether no value is None: to add them up is quicker than to compare each."""
    try:
        sum(column)
    except TypeError:
        return False
    return True


def _presence(columns: Collection[Column]) -> Column:
    """Return 1 for each point at which one of the columns has a value."""
    longest = max(map(len, columns), default=0)
    if any(len(each) == longest and _is_full(each) for each in columns):
        return [1] * longest
    return [1 if any(each is not None for each in point) else None for point in zip_longest(*columns)]


def engine_columns(columns: dict[str, Column], workers: Sequence[int]) -> list[Data]:
    """Return the columns that are about engines, by engine: "used:default" is what engine "default" had in use.

    :param workers: how many workers were there at each point.
    """
    engines: dict[str, dict[str, Column]] = {}
    for name, values in columns.items():
        what, colon, engine = name.partition(":")
        if colon:
            engines.setdefault(engine, {})[what] = values
    return [{"name": name, **_engine_columns(engines[name], workers)} for name in sorted(engines)]


def _engine_columns(columns: dict[str, Column], workers: Sequence[int]) -> dict[str, Column]:
    gauges = {name: columns.get(name, [None] * len(workers)) for name in ENGINE_GAUGES}
    return {**gauges, **{name: _counts(columns.get(name), workers) for name in ENGINE_COUNTS}}


def counted_columns(columns: dict[str, Column], workers: Sequence[int]) -> dict[str, Column]:
    """Return how many transactions ended how at each point; where a worker was there, nothing to tell means none."""
    return {outcome: _counts(columns.get(OUTCOME + outcome), workers) for outcome in OUTCOMES}


def _counts(column: Column | None, workers: Sequence[int]) -> Column:
    """Return *column*, in which nothing was counted where a worker was there and did not say."""
    told = column or [None] * len(workers)
    return [0 if here and value is None else value for value, here in zip(told, workers, strict=True)]


#: What is known of an engine at each point, and what is counted from one to the next.
ENGINE_GAUGES = ("used", "idle", "max", "waiting")
ENGINE_COUNTS = ("connects", "timeouts")
