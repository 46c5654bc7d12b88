"""One picture of all workers, put together from what they published."""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from datetime import timezone

from ..report.history import LONG
from ..report.history import RECENT
from ..report.history import SERIES
from .base import FOLDED
from .base import LIVE
from .base import SCOPES
from .base import Data
from .base import Published
from .base import Report
from .base import Sighted
from .base import Sighting
from .base import StoreError
from .base import Worker
from .base import merged
from .merging import engine_columns
from .merging import merged_columns
from .merging import merged_scopes
from .merging import merged_sites

#: Workers that are named with a finding in a list; its own page names every one.
WORKERS_LISTED = 20
#: Spans of history by name: which document has it, and how many of its points.
SPANS = {"15m": (RECENT, 90), "1h": (LONG, 60), "6h": (LONG, 360)}

T = t.TypeVar("T")


class Readable(t.Protocol):
    """The side of a store that is read."""

    def live(self) -> list[Published]: ...

    def documents(self, kind: str) -> list[Published]: ...

    def findings(self) -> list[Sighted]: ...

    def finding(self, fingerprint: str) -> Sighted | None: ...


class Own(t.Protocol):
    """What the process that answers knows of itself, fresher and fuller than the store has it."""

    @property
    def worker(self) -> Worker: ...

    def document(self, kind: str) -> Data:
        """Return its document of one kind."""

    def reports(self) -> Iterable[Report]:
        """Return all of its findings, each with its body."""


class Picture:
    """What there is to show, made for one reader.

    :param store: what the workers have published; None where there is nothing beside *own*.
    :param own: the process that answers; None for a program that is none of the workers.
    """

    def __init__(self, store: Readable | None, own: Own | None = None) -> None:
        self._store = store
        self._own = own
        #: Why the store could not be read, so that this is the picture of one process; None where it could.
        self.problem: str | None = None

    def live(self) -> Data:
        """Return workers, engines, sessions and check-outs."""
        live = sorted(self._live(), key=lambda each: each.worker.id)
        return {
            "now": stamp(_now()),
            "workers": [_worker_row(each) for each in live],
            "engines": [row for each in live for row in _rows(each, "engines")],
            "sessions": _oldest_first(row for each in live for row in _rows(each, "sessions")),
            "checkouts": _oldest_first(row for each in live for row in _rows(each, "checkouts")),
            "omitted": _sums(each.body.get("omitted", {}) for each in live),
        }

    def workers(self) -> list[Data]:
        """Return the workers that live."""
        return [_worker_row(each) for each in sorted(self._live(), key=lambda each: each.worker.id)]

    def findings(self) -> list[Data]:
        """Return every finding, the one that was first seen latest last."""
        alive = {each.worker.id for each in self._live()}
        rows = [finding_row(each, alive, WORKERS_LISTED) for each in self._sighted()]
        return sorted(rows, key=lambda row: (row["first_seen"], row["fingerprint"]))

    def lasting(self, code: str, host: str | None = None) -> list[Data]:
        """Return the findings of one rule that are not over, as far as workers see them that live.

        :param code: of a rule whose findings end.
        :param host: whose workers are asked; None asks all.
        """
        live = {each.worker.id for each in self._live() if host in (None, each.worker.host)}
        rows = []
        for each in self._sighted():
            lasting = {
                worker: it for worker, it in each.sightings.items() if worker in live and not it.resolved
            }
            if lasting and each.body.get("code") == code:
                rows.append(finding_row(replace(each, sightings=lasting), live))
        return rows

    def _sighted(self) -> list[Sighted]:
        stored: list[Sighted] = self._read(lambda store: store.findings(), [])
        found = {each.fingerprint: each for each in stored}
        for report in () if self._own is None else self._own.reports():
            found[report.fingerprint] = self._with_own(found.get(report.fingerprint), report)
        return list(found.values())

    def finding(self, fingerprint: str) -> Data | None:
        """Return one finding with every worker that saw it, or None where there is none."""
        alive = {each.worker.id for each in self._live()}
        sighted = self._read(lambda store: store.finding(fingerprint), None)
        for report in () if self._own is None else self._own.reports():
            if report.fingerprint == fingerprint:
                sighted = self._with_own(sighted, report)
        return None if sighted is None else finding_row(sighted, alive)

    def scopes(self) -> Data:
        """Return what all workers have counted of each scope, and which sites held connections for the longest."""
        bodies = [each.body for each in self._documents(SCOPES)]
        return {"scopes": merged_scopes(bodies), "sites": merged_sites(bodies)}

    def series(self, span: str) -> Data:
        """Return the history over a *span*, which is one of :data:`SPANS`."""
        kind, points = SPANS[span]
        step = SERIES[kind][0]
        last = int(_now() // step)
        slots = range(last - points + 1, last + 1)
        columns, workers = merged_columns((each.body for each in self._documents(kind)), slots)
        return {
            "span": span,
            "step_seconds": step,
            "start": stamp(slots[0] * step),
            "workers": workers,
            **{name: columns.get(name, [None] * points) for name in ("sessions", "scopes", "findings")},
            "engines": engine_columns(columns, points),
        }

    def _live(self) -> list[Published]:
        return self._and_own(self._read(lambda store: store.live(), []), LIVE)

    def _documents(self, kind: str) -> list[Published]:
        return self._and_own(self._read(lambda store: store.documents(kind), []), kind)

    def _read(self, read: t.Callable[[Readable], T], nothing: T) -> T:
        if self._store is None:
            return nothing
        try:
            return read(self._store)
        except StoreError as error:
            self.problem = str(error)
            return nothing

    def _and_own(self, published: list[Published], kind: str) -> list[Published]:
        own = self._own
        if own is None:
            return published
        others = [each for each in published if each.worker != own.worker]
        return [*others, Published(own.worker, _now(), own.document(kind))]

    def _with_own(self, sighted: Sighted | None, report: Report) -> Sighted:
        """Replace what the store has from this very process, which may be some seconds old."""
        own = t.cast(Own, self._own).worker.id
        body = {} if report.body is None else report.body
        if sighted is None:
            return Sighted(report.fingerprint, body, {own: report.sighting})
        others = {worker: each for worker, each in sighted.sightings.items() if worker != own}
        latest = max((each.last_seen for each in others.values()), default=0.0)
        newest = body if report.sighting.last_seen >= latest else sighted.body
        return Sighted(report.fingerprint, newest, {**others, own: report.sighting})


def finding_row(sighted: Sighted, alive: t.Container[str], most_workers: int | None = None) -> Data:
    """Return a finding as JSON has it: the sum of what its workers say.

    :param alive: the ids of the workers that live.
    :param most_workers: how many of them to name, beginning with the one that saw it last.
    """
    sightings = sighted.sightings
    together = merged(sightings.values())
    named = sorted(
        (each for each in sightings if each != FOLDED), key=lambda each: -sightings[each].last_seen
    )
    return {
        **sighted.body,
        "fingerprint": sighted.fingerprint,
        "count": together.occurrences,
        "first_seen": stamp(together.first_seen),
        "last_seen": stamp(together.last_seen),
        "resolved": together.resolved,
        "known": together.known,
        "workers": [
            _sighting_row(each, sightings[each], alive=each in alive) for each in named[:most_workers]
        ],
        "worker_count": len(named),
    }


def _worker_row(published: Published) -> Data:
    worker = published.worker
    return {
        "host": worker.host,
        "pid": worker.pid,
        "started_at": stamp(worker.started_at),
        "seen_at": stamp(published.seen_at),
        "version": published.body.get("version"),
    }


def _sighting_row(worker_id: str, sighting: Sighting, *, alive: bool) -> Data:
    worker = Worker.from_id(worker_id)
    return {
        "host": worker.host,
        "pid": worker.pid,
        "gone": not alive,
        "count": sighting.occurrences,
        "first_seen": stamp(sighting.first_seen),
        "last_seen": stamp(sighting.last_seen),
        "resolved": sighting.resolved,
    }


def _rows(published: Published, name: str) -> list[Data]:
    """Return what a worker listed under *name*, with the worker's own name; numbers of processes are not unique."""
    worker = published.worker
    rows = []
    for row in published.body.get(name, ()):
        row = {**row, "host": worker.host, "pid": worker.pid}
        for key in ("id", "session_id"):
            if row.get(key) is not None:
                row[key] = f"{worker.id}/{row[key]}"
        rows.append(row)
    return rows


def _oldest_first(rows: Iterable[Data]) -> list[Data]:
    return sorted(rows, key=lambda row: -row["age_seconds"])


def _sums(counts: Iterable[Data]) -> dict[str, int]:
    together: Counter[str] = Counter()
    for each in counts:
        together.update(each)
    return {name: together[name] for name in ("sessions", "checkouts")}


def stamp(seconds: float) -> str:
    """Return a time in seconds since the epoch as JSON has it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _now() -> float:
    return datetime.now(timezone.utc).timestamp()
