"""Count what has ended and measure what is live, as Prometheus metrics.

Nothing here runs inside a request: closed records wait in the ledger until the watchdog or a scrape counts them,
and gauges are set from the live collections, never incremented and decremented.
"""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t
import weakref
from collections import Counter as Tally

from prometheus_client import REGISTRY as REGISTRY
from prometheus_client import CollectorRegistry as CollectorRegistry
from prometheus_client import Counter
from prometheus_client import Gauge
from prometheus_client import Histogram

from ..observe.clock import clock
from ..observe.ledger import Ledger
from ..observe.pooled import EngineInfo
from ..observe.records import Checkout
from .dispatcher import Dispatcher
from .harvest import OUTCOMES
from .harvest import SECONDS
from .harvest import Harvest
from .harvest import Key
from .harvest import buckets_of

_COMMITS = (0, 1, 2, 5, 10, 100)
_CONNECTIONS = (0, 1, 2, 3, 5)

#: name -> (help, labels); all of them add up over workers.
_GAUGES = {
    "sessions_open": ("Sessions that are in a transaction.", ()),
    "transactions_open": ("Session transactions that have a connection.", ("engine",)),
    "connections": ("Pooled connections by state.", ("engine", "state")),
    "connections_max": ("The most connections the pool gives out: size + max_overflow.", ("engine",)),
    "connections_peak": ("The most connections checked out at once since the last scrape.", ("engine",)),
    "connections_pending": ("Threads that wait for a connection.", ("engine",)),
    "findings_open": ("Findings on something that is still held.", ("code", "rule", "level")),
    "leaked_sessions": ("Sessions that were leaked and are still open.", ()),
}
_COUNTERS = {
    "transactions": ("Session transactions that ended, by outcome.", ("engine", "outcome")),
    "connection_timeouts": ("Check-outs that timed out.", ("engine",)),
    "scopes": ("Scopes that ended, by the worst level found in them.", ("scope", "kind", "verdict")),
    "lost_writes": ("Scopes whose writes were thrown away.", ("scope", "status_class")),
    "findings": ("Occurrences of findings.", ("code", "rule", "level")),
    "findings_dropped": ("Findings that found no room in memory or in a queue.", ()),
    "internal_errors": ("Errors in the watcher and its sinks; after ten of its own it steps aside.", ()),
    "self_seconds": (
        "CPU seconds of the watcher's own threads, and of judging and of the pages on the application's.",
        (),
    ),
}
_HISTOGRAMS = {
    "session_duration_seconds": ("How long a Session was in a transaction.", ("scope_kind",), SECONDS),
    "transaction_duration_seconds": (
        "How long a transaction with a connection was open.",
        ("engine",),
        SECONDS,
    ),
    "connection_use_seconds": ("How long a connection was checked out.", ("engine",), SECONDS),
    "connection_wait_seconds": ("How long a check-out took.", ("engine",), SECONDS),
    "connection_create_seconds": ("How long connecting took.", ("engine",), SECONDS),
    "scope_commits": ("Commits per scope.", ("scope", "kind"), _COMMITS),
    "scope_connections": ("Connections held at once per scope.", ("scope", "kind"), _CONNECTIONS),
}


class Metrics:
    """The metrics of this process.

    :param registry: where they are registered; prometheus_client's own unless given.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._lock = threading.Lock()
        self._children: dict[Key, t.Any] = {}
        self._counted: Tally[Key] = Tally()
        #: What was counted of each dispatcher, for they come and go with their applications.
        self._counted_of: weakref.WeakKeyDictionary[Dispatcher, Tally[Key]]
        self._counted_of = weakref.WeakKeyDictionary()
        self._gauges_set: set[Key] = set()
        self._peaks: Tally[str] = Tally()
        self._metrics = self._register(registry)
        self._oldest = Gauge(
            "sessionwatch_oldest_checkout_timestamp_seconds",
            "When the connection that is checked out for the longest was checked out; the present time if none is.",
            ("engine",),
            registry=registry,
            # Over workers the oldest counts, which is why an idle one states the present time and not 0.
            multiprocess_mode="livemin",
        )
        for name in ("findings_dropped", "internal_errors", "self_seconds"):
            self._child(name, ())

    def _register(self, registry: CollectorRegistry) -> dict[str, t.Any]:
        metrics: dict[str, t.Any] = {}
        for name, (text, labels) in _GAUGES.items():
            metrics[name] = Gauge(
                f"sessionwatch_{name}", text, labels, registry=registry, multiprocess_mode="livesum"
            )
        for name, (text, labels) in _COUNTERS.items():
            metrics[name] = Counter(f"sessionwatch_{name}", text, labels, registry=registry)
        for name, (text, labels, buckets) in _HISTOGRAMS.items():
            metrics[name] = Histogram(
                f"sessionwatch_{name}", text, labels, registry=registry, buckets=buckets
            )
        return metrics

    def _child(self, name: str, labels: tuple[str, ...]) -> t.Any:
        child = self._children.get((name, labels))
        if child is None:
            metric = self._metrics[name]
            child = self._children[name, labels] = metric.labels(*labels) if labels else metric
        return child

    def announce(self, rules: t.Iterable[t.Any]) -> None:
        """Let the counters of *rules* start at 0, so that no series is missing before its first finding."""
        with self._lock:
            for rule in rules:
                self._child("findings", (rule.code, rule.name, rule.level))

    def unregister(self) -> None:
        """Take the metrics out of their registry."""
        for metric in (*self._metrics.values(), self._oldest):
            with contextlib.suppress(KeyError):
                self.registry.unregister(metric)

    def update(
        self,
        ledger: Ledger,
        harvest: Harvest,
        dispatchers: t.Iterable[Dispatcher],
        errors: int,
        self_seconds: float,
    ) -> None:
        """Count what has ended since the last time, and set the gauges to what is live now.

        :param harvest: what has ended, and what is checked out.
        :param errors: how many errors there were inside the watcher and its sinks so far.
        :param self_seconds: CPU seconds that the watcher has used so far.
        """
        with self._lock:
            self._count_closed(harvest)
            self._set_gauges(ledger, harvest.live)
            self._count_findings(list(dispatchers))
            self._count_to(self._counted, "internal_errors", (), errors)
            self._count_to(self._counted, "self_seconds", (), self_seconds)

    def after_fork(self) -> None:
        """Begin anew in a child process, where the parent's counts are not repeated."""
        self._lock = threading.Lock()
        self._counted.clear()
        self._counted_of.clear()
        self._peaks.clear()

    def scraped(self) -> None:
        """Begin a new period for the peaks."""
        with self._lock:
            self._peaks.clear()

    # What has ended

    def _count_closed(self, harvest: Harvest) -> None:
        for key, number in harvest.counts.items():
            self._child(*key).inc(number)
        for key, values in harvest.values.items():
            _observe_all(self._child(*key), values)
        for engine, most in harvest.peaks.items():
            self._peaks[engine] = max(self._peaks[engine], most)

    # What is live

    def _set_gauges(self, ledger: Ledger, live: list[Checkout]) -> None:
        values: Tally[Key] = Tally()
        transactions = list(ledger.transactions.copy().values())
        values["sessions_open", ()] = len(transactions)
        values["leaked_sessions", ()] = sum(1 for each in transactions if each.leaked)
        for engine, pool in live_pools(ledger):
            self._add_pool(values, engine, pool)
        open_on = Tally(each.checkouts[0].pooled.engine.name for each in transactions if each.checkouts)
        for name, number in open_on.items():
            values["transactions_open", (name,)] = number
        for name, number in Tally(each.pooled.engine.name for each in live).items():
            values["connections", (name, "used")] = number
        for engine, _ in ledger.waiting.copy().values():
            values["connections_pending", (engine.name,)] += 1
        self._set_all(values)
        self._set_oldest(ledger, live)

    def _add_pool(self, values: Tally[Key], engine: EngineInfo, pool: t.Any) -> None:
        labels = (engine.name,)
        values["connections", (engine.name, "used")] += 0
        values["connections", (engine.name, "idle")] += idle_of(pool)
        values["connections_max", labels] += engine.capacity or 0
        values["connections_peak", labels] = self._peaks[engine.name]
        values["connections_pending", labels] += 0
        values["transactions_open", labels] += 0
        self._child("connection_timeouts", labels)
        for outcome in OUTCOMES:
            self._child("transactions", (engine.name, outcome))

    def _set_all(self, values: Tally[Key]) -> None:
        for key in self._gauges_set.difference(values):
            if key[0] != "findings_open":
                self._child(*key).set(0)
        for key, value in values.items():
            self._child(*key).set(value)
        self._gauges_set.update(values)

    def _set_oldest(self, ledger: Ledger, live: list[Checkout]) -> None:
        wall = time.time()
        present = clock()
        oldest = {engine.name: present for engine, _ in live_pools(ledger)}
        # The last one that is entered counts: the oldest.
        oldest.update(
            (each.pooled.engine.name, each.began_at)
            for each in sorted(live, key=lambda each: each.began_at, reverse=True)
        )
        for name, began_at in oldest.items():
            self._oldest.labels(name).set(wall - (present - began_at))

    # Findings

    def _count_findings(self, dispatchers: list[Dispatcher]) -> None:
        still_open: Tally[Key] = Tally()
        for dispatcher in dispatchers:
            counted = self._counted_of.setdefault(dispatcher, Tally())
            for labels, total in dispatcher.occurrences.copy().items():
                self._count_to(counted, "findings", labels, total)
            self._count_to(counted, "findings_dropped", (), dispatcher.dropped)
            for finding in dispatcher.open_findings():
                still_open["findings_open", (finding.code, finding.rule, finding.level)] += 1
        for key in self._gauges_set.difference(still_open):
            if key[0] == "findings_open":
                self._child(*key).set(0)
        for key, value in still_open.items():
            self._child(*key).set(value)
        self._gauges_set.update(still_open)

    def _count_to(
        self,
        counted: Tally[Key],
        name: str,
        labels: tuple[str, ...],
        total: float,
    ) -> None:
        """Add to a counter what *total* has grown by; one that fell began anew."""
        known = counted[name, labels]
        self._child(name, labels).inc(total - known if total >= known else total)
        counted[name, labels] = total  # type: ignore[assignment]


def _observe_all(histogram: t.Any, values: list[float]) -> None:
    """Observe *values* as ``observe()`` does, but with each bucket written once.

    prometheus_client has no way to observe several at once; should its insides change, they are observed one by one.
    """
    try:
        bounds, buckets, total = histogram._upper_bounds, histogram._buckets, histogram._sum
    except AttributeError:
        for value in values:
            histogram.observe(value)
        return
    total.inc(sum(values))
    for index, number in buckets_of(bounds, values).items():
        buckets[index].inc(number)


def live_pools(ledger: Ledger) -> list[tuple[EngineInfo, t.Any]]:
    """Return the engines whose pool still lives, with it."""
    pairs = [(engine, engine.pool) for engine in list(ledger.engines.copy().values())]
    return [(engine, pool) for engine, pool in pairs if pool is not None and not engine.ignored]


def idle_of(pool: t.Any) -> int:
    """Return how many connections wait in *pool*; 0 for a pool that keeps none or does not say."""
    # Not through the queue's lock: in a forked child it may be held, for ever, by a thread that did not come along.
    waiting = getattr(getattr(pool, "_pool", None), "queue", None)
    if waiting is not None:
        return len(waiting)
    checkedin = getattr(pool, "checkedin", None)
    return int(checkedin()) if callable(checkedin) else 0
