"""One picture of all workers, put together from what they published."""

from __future__ import annotations

import functools
import time
import typing as t
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from ..finding import stamp
from ..report.history import LONG
from ..report.history import RECENT
from ..report.history import SERIES
from ..report.sources import excerpts
from ..report.sources import places_of
from .base import ABOUT
from .base import FOLDED
from .base import SCOPES
from .base import STRANGE
from .base import Data
from .base import Published
from .base import Report
from .base import Sighted
from .base import Sighting
from .base import StoreError
from .base import Worker
from .base import merged
from .base import not_understood
from .fleet import fleet_rows
from .fleet import newest_in_force
from .fleet import recent_counts
from .listing import EVERYTHING
from .listing import Query
from .listing import counted
from .listing import facets
from .listing import listed
from .merging import counted_columns
from .merging import engine_columns
from .merging import merged_columns
from .merging import merged_scopes
from .merging import merged_sites
from .pools import merged_pools

#: Sessions, and check-outs, that are shown of all workers; those are the oldest.
ROWS_SHOWN = 500
#: Workers that are named with a finding in a list; its own page names every one.
WORKERS_LISTED = 20
#: Spans of history by name: which document has it, and how many of its points.
SPANS = {"15m": (RECENT, 90), "1h": (LONG, 60), "6h": (LONG, 360)}

P = t.ParamSpec("P")
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

    def live(self, *, stacks: bool) -> Data:
        """Return what is live in it.

        :param stacks: whether to render stacks.
        """

    def document(self, kind: str) -> Data:
        """Return its document of another kind."""

    def reports(self) -> Iterable[Report]:
        """Return all of its findings, each with what a list tells of it."""

    def report(self, fingerprint: str) -> Report | None:
        """Return one of its findings with all of its body, or None where it has none such."""


def _wary(read: t.Callable[t.Concatenate[Picture, P], T]) -> t.Callable[t.Concatenate[Picture, P], T]:
    """Let a method of a picture do without the store where that has something in it that no worker puts there."""

    @functools.wraps(read)
    def reading(picture: Picture, /, *args: P.args, **options: P.kwargs) -> T:
        try:
            return read(picture, *args, **options)
        except (*STRANGE, OSError) as error:  # which is what a time is that no calendar has
            if not picture.does_without(error):
                raise
        return read(picture, *args, **options)

    return reading


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

    def does_without(self, error: Exception) -> bool:
        """Put the store aside, in which there may be what *error* comes from; answer whether there was one."""
        if self._store is None:
            return False
        self._store, self.problem = None, str(not_understood("the store", error))
        return True

    @_wary
    def live(self, *, stacks: bool = True) -> Data:
        """Return workers, engines, sessions and check-outs; of too many of these the oldest, and how many were left out.

        :param stacks: whether with their stacks, which are most of it.
        """
        live = sorted(self._live(stacks=stacks), key=lambda each: each.worker.id)
        held = {kind: _oldest_first(live, kind) for kind in ("sessions", "checkouts")}
        beyond = {kind: max(len(rows) - ROWS_SHOWN, 0) for kind, rows in held.items()}
        return {
            "now": stamp(time.time()),
            "workers": [_worker_row(each) for each in live],
            "engines": [row for each in live for row in _rows(each, "engines")],
            **{kind: _held_rows(rows[:ROWS_SHOWN], stacks=stacks) for kind, rows in held.items()},
            "omitted": _sums([beyond, *(each.body.get("omitted", {}) for each in live)]),
        }

    @_wary
    def workers(self) -> list[Data]:
        """Return the workers that live."""
        return [_worker_row(each) for each in sorted(self._live(), key=lambda each: each.worker.id)]

    @_wary
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

    @_wary
    def held(self, kind: str, number: str) -> Data | None:
        """Return one session or check-out with the source around its frames, or None where it is live no more.

        :param kind: "sessions" or "checkouts".
        :param number: its id, as :meth:`live` tells it.
        """
        for each in self._live(stacks=True):
            for row in _rows(each, kind):
                if row["id"] == number:
                    return {**row, "sources": self._sources(each.worker, row)}
        return None

    def _sources(self, worker: Worker, row: Data) -> list[Data]:
        places = [*places_of(row.get("stack", ())), *places_of(row.get("now", ()))]
        if self._own is not None and worker == self._own.worker:
            return excerpts(places)
        about = (each.body for each in self._documents(ABOUT) if each.worker == worker)
        told = [source for body in about for source in body.get("sources", ())]
        return [each for each in told if (each["filename"], each["lineno"]) in places]

    def findings(self) -> list[Data]:
        """Return every finding, the one that was first seen latest last."""
        return t.cast("list[Data]", self.listing()["findings"])

    @_wary
    def listing(self, query: Query = EVERYTHING) -> Data:
        """Return the findings that *query* asks for, and how many of which kind there are."""
        alive = {each.worker.id for each in self._live()}
        found = [listed(each) for each in self._sighted()]
        chosen = query.chosen(found)
        page = query.page(chosen)
        recent = recent_counts(self._documents(ABOUT), (each.sighted.fingerprint for each in page))
        return {
            "findings": [
                {
                    **_summary(finding_row(each.sighted, alive, WORKERS_LISTED)),
                    "recent": recent[each.sighted.fingerprint],
                }
                for each in page
            ],
            "total": len(chosen),
            "counts": counted(found),
            "facets": facets(found),
        }

    @_wary
    def counts_by_code(self) -> dict[str, Data]:
        """Return how many findings there are of each rule, by its code, and how many of them are open."""
        counts: dict[str, Data] = {}
        for each in map(listed, self._sighted()):
            of_rule = counts.setdefault(str(each.sighted.body.get("code")), {"open": 0, "total": 0})
            of_rule["total"] += 1
            of_rule["open"] += not (each.together.resolved or each.together.known)
        return counts

    def _sighted(self) -> list[Sighted]:
        stored: list[Sighted] = self._read(lambda store: store.findings(), [])
        found = {each.fingerprint: each for each in stored}
        for report in () if self._own is None else self._own.reports():
            found[report.fingerprint] = self._with_own(found.get(report.fingerprint), report)
        return list(found.values())

    @_wary
    def finding(self, fingerprint: str) -> Data | None:
        """Return one finding with every worker that saw it, or None where there is none."""
        alive = {each.worker.id for each in self._live()}
        sighted = self._read(lambda store: store.finding(fingerprint), None)
        report = None if self._own is None else self._own.report(fingerprint)
        if report is not None:
            sighted = self._with_own(sighted, report)
        if sighted is None:
            return None
        recent = recent_counts(self._documents(ABOUT), [fingerprint])
        whole = {"sources": [], "timeline": [], **finding_row(sighted, alive)}
        return {**whole, "recent": recent[fingerprint]}

    @_wary
    def scopes(self) -> Data:
        """Return what all workers have counted of each scope, and which sites held connections for the longest."""
        published = self._documents(SCOPES)
        return {"scopes": merged_scopes(published), "sites": merged_sites(each.body for each in published)}

    @_wary
    def pools(self) -> list[Data]:
        """Return how the pools of all workers are used, and were since those began, by engine."""
        engines = [row for each in self._live() for row in _rows(each, "engines")]
        bodies = [each.body for each in self._documents(SCOPES)]
        return merged_pools(engines, bodies, merged_sites(bodies))

    @_wary
    def fleet(self) -> list[Data]:
        """Return every worker that lives, or was heard lately."""
        return fleet_rows(self._live(), self._documents(ABOUT))

    @_wary
    def in_force(self) -> Data | None:
        """Return which rules and limits the workers judge by; None where nobody has told yet."""
        return newest_in_force(self._documents(ABOUT))

    @_wary
    def series(self, span: str) -> Data:
        """Return the history over a *span*, which is one of :data:`SPANS`."""
        kind, points = SPANS[span]
        step = SERIES[kind][0]
        last = int(time.time() // step)
        slots = range(last - points + 1, last + 1)
        columns, workers = merged_columns((each.body for each in self._documents(kind)), slots)
        return {
            "span": span,
            "step_seconds": step,
            "start": stamp(slots[0] * step),
            "workers": workers,
            **{name: columns.get(name, [None] * points) for name in ("sessions", "scopes", "findings")},
            "transactions": counted_columns(columns, workers),
            "engines": engine_columns(columns, workers),
        }

    def _live(self, *, stacks: bool = False) -> list[Published]:
        published: list[Published] = self._read(lambda store: store.live(), [])
        return self._and_own(published, lambda own: own.live(stacks=stacks))

    def _documents(self, kind: str) -> list[Published]:
        published: list[Published] = self._read(lambda store: store.documents(kind), [])
        return self._and_own(published, lambda own: own.document(kind))

    def _read(self, read: t.Callable[[Readable], T], nothing: T) -> T:
        if self._store is None:
            return nothing
        try:
            return read(self._store)
        except StoreError as error:
            self.problem = str(error)
            return nothing

    def _and_own(self, published: list[Published], ask: t.Callable[[Own], Data]) -> list[Published]:
        own = self._own
        if own is None:
            return published
        others = [each for each in published if each.worker != own.worker]
        return [*others, Published(own.worker, time.time(), ask(own))]

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
    _check(sighted.body)
    sightings = sighted.sightings
    together = merged(sightings.values())
    named = sorted(
        (each for each in sightings if each != FOLDED), key=lambda each: -sightings[each].last_seen
    )
    return {
        "engine": None,
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


#: What readers rely on in a finding's body, where there is something. A rule of somebody's own may tell else what it likes.
_KINDS: dict[str, type] = {"scope": str, "site": dict, "details": dict, "stack": list}


def _check(body: Data) -> None:
    """Raise TypeError or KeyError where *body* is no finding's."""
    for name, kind in _KINDS.items():
        if not isinstance(body.get(name), (kind, type(None))):
            raise TypeError(name)
    places = [*body.get("stack", ()), *([body["site"]] if body.get("site") else [])]
    if not all(isinstance(each["filename"], str) and isinstance(each["lineno"], int) for each in places):
        raise TypeError("site")


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
    return [_row(published.worker, row) for row in published.body.get(name, ())]


def _row(worker: Worker, told: Data) -> Data:
    row = {**told, "host": worker.host, "pid": worker.pid}
    for key in ("id", "session_id"):
        if row.get(key) is not None:
            row[key] = f"{worker.id}:{row[key]}"
    return row


def _held_rows(held: Iterable[tuple[Worker, Data]], *, stacks: bool) -> list[Data]:
    rows = [_row(worker, told) for worker, told in held]
    return rows if stacks else [{**row, "stack": [], "now": []} for row in rows]


def _summary(row: Data) -> Data:
    """Return what a list tells of a finding."""
    return {name: value for name, value in row.items() if name not in ("sources", "timeline")}


def _oldest_first(live: Iterable[Published], kind: str) -> list[tuple[Worker, Data]]:
    """Return what workers hold, as they have told it, and who holds it."""
    held = [(each.worker, told) for each in live for told in each.body.get(kind, ())]
    return sorted(held, key=lambda each: -each[1]["age_seconds"])


def _sums(counts: Iterable[Data]) -> dict[str, int]:
    together: Counter[str] = Counter()
    for each in counts:
        together.update(each)
    return {name: together[name] for name in ("sessions", "checkouts")}
