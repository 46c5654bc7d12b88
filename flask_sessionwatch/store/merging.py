"""Add up what several workers say of the same thing."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

from ..report.history import Column
from ..report.totals import COMMIT_BUCKETS
from ..report.totals import SITES_TOLD
from ..report.totals import VERDICTS
from ..report.totals import ScopeTotal
from ..report.totals import SiteTotal
from .base import Data


def merged_scopes(bodies: Iterable[Data]) -> list[Data]:
    """Return the totals of each scope, the one with the most first."""
    together: dict[tuple[str, str], ScopeTotal] = {}
    for body in bodies:
        for name, kind, *values in body.get("scopes", ()):
            total = ScopeTotal(*values)
            before = together.get((name, kind))
            together[name, kind] = total if before is None else _sum(before, total)
    rows = [_scope_row(*key, total) for key, total in together.items()]
    return sorted(rows, key=lambda row: (-row["count"], row["scope"], row["kind"]))


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


def engine_columns(columns: dict[str, Column], points: int) -> list[Data]:
    """Return the columns that are about engines, by engine: "used:default" is what engine "default" had in use."""
    engines: dict[str, Data] = {}
    for name, values in columns.items():
        what, colon, engine = name.partition(":")
        if colon:
            row = {"name": engine, **{each: [None] * points for each in ENGINE_COLUMNS}}
            engines.setdefault(engine, row)[what] = values
    return [engines[name] for name in sorted(engines)]


#: What is known of an engine at each point.
ENGINE_COLUMNS = ("used", "idle", "max", "waiting")
