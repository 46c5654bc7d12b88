"""Add up what several workers say of the same thing."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

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
    together: dict[tuple[str, str], ScopeTotal] = {}
    for each in published:
        for name, kind, *values in each.body.get("scopes", ()):
            total = ScopeTotal(*values)
            before = together.get((name, kind))
            together[name, kind] = total if before is None else _sum(before, total)
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
    bad: dict[tuple[str, str], list[tuple[float, Data]]] = {}
    for each in published:
        for name, kind, *values in each.body.get("bad", ()):
            scope = BadScope(*values)
            bad.setdefault((name, kind), []).append((scope.at, _bad_row(each.worker, scope)))
    for rows in bad.values():
        rows.sort(key=lambda row: -row[0])
    return {key: [row for _, row in rows[:BAD_SHOWN]] for key, rows in bad.items()}


def _bad_row(worker: Worker, scope: BadScope) -> Data:
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


def _sum(one: ScopeTotal, other: ScopeTotal) -> ScopeTotal:
    return ScopeTotal(
        [a + b for a, b in zip(one.verdicts, other.verdicts, strict=True)],
        [a + b for a, b in zip(one.commits, other.commits, strict=True)],
        max(one.most_commits, other.most_commits),
        one.sessions + other.sessions,
        max(one.peak, other.peak),
        one.held + other.held,
        one.waited + other.waited,
        one.lost_writes + other.lost_writes,
    )


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
    columns: dict[str, Column] = {}
    workers = [0] * len(slots)
    for body in bodies:
        present = [False] * len(slots)
        for name, values in body.get("columns", {}).items():
            column = columns.setdefault(name, [None] * len(slots))
            for place, value in enumerate(values, body["first"] - slots[0]):
                if value is not None and 0 <= place < len(slots):
                    column[place] = (column[place] or 0) + value
                    present[place] = True
        workers = [a + b for a, b in zip(workers, present, strict=True)]
    return columns, workers


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
