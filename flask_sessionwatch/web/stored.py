"""Metrics of what is in a store, for the server that is none of the workers.

They have the names of the workers' own metrics where they mean the same, and besides their labels those of the worker.
"""

from __future__ import annotations

import math
import threading
import time
import typing as t
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from ..store.base import FOLDED
from ..store.base import STRANGE
from ..store.base import Published
from ..store.base import Sighted
from ..store.base import Sighting
from ..store.base import StoreError
from ..store.picture import Readable

_WORKER = ("host", "pid")
_ENGINE = (*_WORKER, "engine")
_RULE = ("code", "rule", "level")

#: name -> (help, labels)
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "store_up": ("Whether the store could be read.", ()),
    "workers": ("Workers that live and publish to the store.", ("host",)),
    "sessions_open": ("Sessions that are in a transaction.", _WORKER),
    "leaked_sessions": ("Sessions that were leaked and are still open.", _WORKER),
    "connections": ("Pooled connections by state.", (*_ENGINE, "state")),
    "connections_max": ("The most connections the pool gives out: size + max_overflow.", _ENGINE),
    "connections_pending": ("Threads that wait for a connection.", _ENGINE),
    "oldest_checkout_timestamp_seconds": (
        "When the connection that is checked out for the longest was checked out; the present time if none is.",
        _ENGINE,
    ),
    "findings_open": ("Findings on something that is still held.", _RULE),
    "findings_known": ("Distinct findings in the store.", _RULE),
}
#: What grows while the server runs.
COUNTERS = {"findings": ("Occurrences of findings since this server began.", _RULE)}

#: Counts that are remembered of workers, beyond which those are forgotten that the store has no more.
_COUNTS_KEPT = 100_000

Values: t.TypeAlias = "dict[str, Counter[tuple[str, ...]]]"


class StoredMetrics:
    """Reads a store at each scrape.

    :param store: what is read.
    """

    def __init__(self, store: Readable) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._began_at = time.time()
        self._counted: dict[tuple[str, str], int] = {}
        self._occurrences: Counter[tuple[str, ...]] = Counter()
        self.registry: CollectorRegistry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; of a store that cannot be read, only that it is so."""
        try:
            values = self._read()
        except (StoreError, *STRANGE):
            values = _no_values()
        for name, (text, labels) in GAUGES.items():
            yield _filled(GaugeMetricFamily(f"sessionwatch_{name}", text, labels=labels), values[name])
        for name, (text, labels) in COUNTERS.items():
            yield _filled(CounterMetricFamily(f"sessionwatch_{name}", text, labels=labels), self._occurrences)

    def _read(self) -> Values:
        values = _no_values()
        live, findings = self._store.live(), self._store.findings()
        for each in live:
            _add_worker(values, each)
        values["findings_known"] = Counter(_rule(each) for each in findings)
        self._count(findings)
        values["store_up"][()] = 1
        return values

    def _count(self, findings: list[Sighted]) -> None:
        """Count by how much each worker's count has grown since this server began.

        The sum of all of them is no counter: it falls when an old finding is dropped, and Prometheus would take that for a
        restart, and all that is left for new.
        """
        with self._lock:
            counts: dict[tuple[str, str], int] = {}
            for each in findings:
                for worker, sighting in each.sightings.items():
                    if worker != FOLDED and not sighting.known:
                        key = (each.fingerprint, worker)
                        counts[key] = sighting.occurrences
                        more = sighting.occurrences - self._before(key, sighting)
                        # What no float holds is refused here, and not while it is written down.
                        self._occurrences[_rule(each)] += int(float(max(more, 0)))
            together = {**self._counted, **counts}
            self._counted = counts if len(together) > _COUNTS_KEPT else together

    def _before(self, key: tuple[str, str], sighting: Sighting) -> int:
        """Return what was counted of a sighting already; of one that is older than this server, all that it has."""
        is_older = sighting.first_seen < self._began_at
        return self._counted.get(key, sighting.occurrences if is_older else 0)


def _no_values() -> Values:
    values: Values = {name: Counter() for name in GAUGES}
    values["store_up"][()] = 0
    return values


def _filled(family: t.Any, values: Counter[tuple[str, ...]]) -> Metric:
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
    return t.cast(Metric, family)


def _rule(finding: Sighted) -> tuple[str, ...]:
    return tuple(str(finding.body.get(name, "")) for name in _RULE)


def _add_worker(values: Values, published: Published) -> None:
    worker, body = published.worker, published.body
    mine = (worker.host, str(worker.pid))
    values["workers"][worker.host,] += 1
    for name, number in body.get("counts", {}).items():
        values[name][mine] = _number(number)
    for code, rule, level, number in body.get("open_findings", ()):
        values["findings_open"][str(code), str(rule), str(level)] += _number(number)
    for engine in body.get("engines", ()):
        _add_engine(values, (*mine, str(engine["name"])), engine, published.seen_at)


def _number(value: t.Any) -> t.Any:
    """Return a number that can be written down.

    :raises TypeError: it is none.
    :raises OverflowError: no float holds it.
    """
    return value if math.isfinite(value) else 0


def _add_engine(
    values: Values, labels: tuple[str, ...], engine: t.Mapping[str, t.Any], seen_at: float
) -> None:
    # Two engines of a worker may have one name.
    for state in ("used", "idle"):
        key: tuple[str, ...] = (*labels, state)
        values["connections"][key] += _number(engine[state])
    values["connections_max"][labels] += _number(engine["max"] or 0)
    values["connections_pending"][labels] += _number(engine["waiting"])
    age = engine["oldest_age_seconds"]
    since = time.time() if age is None else seen_at - age
    oldest = values["oldest_checkout_timestamp_seconds"]
    oldest[labels] = min(oldest.get(labels, since), since)  # type: ignore[assignment]
