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

from ..observe.ledger import Checkout
from ..observe.ledger import EngineInfo
from ..observe.ledger import Ledger
from ..observe.ledger import Scope
from ..observe.ledger import Transaction
from ..observe.ledger import clock
from .dispatcher import Dispatcher

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_COMMITS = (0, 1, 2, 5, 10, 20, 50, 100)
_CONNECTIONS = (0, 1, 2, 3, 5, 10)

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
    "self_seconds": ("CPU seconds of the watcher's own thread.", ()),
}
_HISTOGRAMS = {
    "session_duration_seconds": ("How long a Session was in a transaction.", ("scope_kind",), _SECONDS),
    "transaction_duration_seconds": (
        "How long a transaction with a connection was open.",
        ("engine",),
        _SECONDS,
    ),
    "connection_use_seconds": ("How long a connection was checked out.", ("engine",), _SECONDS),
    "connection_wait_seconds": ("How long a check-out took.", ("engine",), _SECONDS),
    "connection_create_seconds": ("How long connecting took.", ("engine",), _SECONDS),
    "scope_commits": ("Commits per scope.", ("scope", "kind"), _COMMITS),
    "scope_connections": ("Connections held at once per scope.", ("scope", "kind"), _CONNECTIONS),
}
_OUTCOMES = ("commit", "rollback", "rollback_on_close", "error", "garbage_collected")


class Metrics:
    """The metrics of this process.

    :param registry: where they are registered; prometheus_client's own unless given.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._lock = threading.Lock()
        self._children: dict[tuple[str, tuple[str, ...]], t.Any] = {}
        self._counted: Tally[tuple[str, tuple[str, ...]]] = Tally()
        #: What was counted of each dispatcher, for they come and go with their applications.
        self._counted_of: weakref.WeakKeyDictionary[Dispatcher, Tally[tuple[str, tuple[str, ...]]]]
        self._counted_of = weakref.WeakKeyDictionary()
        self._gauges_set: set[tuple[str, tuple[str, ...]]] = set()
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
        closed: t.Iterable[t.Any],
        dispatchers: t.Iterable[Dispatcher],
        errors: int,
        self_seconds: float,
    ) -> None:
        """Count what has ended since the last time, and set the gauges to what is live now.

        :param closed: the records that have ended.
        :param errors: how many errors there were inside the watcher and its sinks so far.
        :param self_seconds: CPU seconds that the watcher's thread has used so far.
        """
        with self._lock:
            self._count_closed(closed, ledger)
            self._set_gauges(ledger)
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

    def _count_closed(self, closed: t.Iterable[t.Any], ledger: Ledger) -> None:
        ended: list[Checkout] = []
        for record in closed:
            if isinstance(record, Scope):
                self._count_scope(record)
            elif isinstance(record, Checkout):
                self._count_checkout(record)
                ended.append(record)
            elif isinstance(record, Transaction):
                self._count_transaction(record)
            else:
                self._count_fact(*record)
        self._raise_peaks(ended, ledger)

    def _count_scope(self, scope: Scope) -> None:
        labels = (scope.name, scope.kind)
        self._child("scopes", (*labels, scope.verdict)).inc()
        self._child("scope_commits", labels).observe(scope.commits)
        self._child("scope_connections", labels).observe(scope.held_peak)
        if (
            scope.incidents
            and scope.error is None
            and any(each.kind == "lost_write" for each in scope.incidents)
        ):
            self._child("lost_writes", (scope.name, _status_class(scope.status))).inc()

    def _count_checkout(self, checkout: Checkout) -> None:
        engine = (checkout.engine.name,)
        if checkout.ended_at is not None:
            self._child("connection_use_seconds", engine).observe(checkout.ended_at - checkout.began_at)
        self._child("connection_wait_seconds", engine).observe(checkout.waited)

    def _count_transaction(self, transaction: Transaction) -> None:
        seconds = (transaction.ended_at or transaction.began_at) - transaction.began_at
        kind = "none" if transaction.scope is None else transaction.scope.kind
        self._child("session_duration_seconds", (kind,)).observe(seconds)
        if transaction.engine is not None:
            engine = transaction.engine.name
            self._child("transaction_duration_seconds", (engine,)).observe(seconds)
            self._child("transactions", (engine, transaction.ending or "error")).inc()

    def _count_fact(self, kind: str, engine: EngineInfo, value: float) -> None:
        if kind == "created":
            self._child("connection_create_seconds", (engine.name,)).observe(value)
        elif kind == "timeout":
            self._child("connection_timeouts", (engine.name,)).inc()

    def _raise_peaks(self, ended: list[Checkout], ledger: Ledger) -> None:
        """Replay check-outs and check-ins since the last look, for the most that were held at once."""
        moments: list[tuple[float, int, str]] = []
        for checkout in (*ended, *ledger.checkouts.copy()):
            moments.append((checkout.began_at, 1, checkout.engine.name))
            if checkout.ended_at is not None:
                moments.append((checkout.ended_at, -1, checkout.engine.name))
        held: Tally[str] = Tally()
        for _, step, engine in sorted(moments):
            held[engine] += step
            self._peaks[engine] = max(self._peaks[engine], held[engine])

    # What is live

    def _set_gauges(self, ledger: Ledger) -> None:
        values: Tally[tuple[str, tuple[str, ...]]] = Tally()
        transactions = list(ledger.transactions.copy().values())
        values["sessions_open", ()] = len(transactions)
        values["leaked_sessions", ()] = sum(1 for each in transactions if each.leaked)
        for transaction in transactions:
            if transaction.engine is not None:
                values["transactions_open", (transaction.engine.name,)] += 1
        for engine, pool in live_pools(ledger):
            self._add_pool(values, engine, pool)
        for checkout in ledger.checkouts.copy():
            values["connections", (checkout.engine.name, "used")] += 1
        for engine, _ in ledger.waiting.copy().values():
            values["connections_pending", (engine.name,)] += 1
        self._set_all(values)
        self._set_oldest(ledger)

    def _add_pool(self, values: Tally[tuple[str, tuple[str, ...]]], engine: EngineInfo, pool: t.Any) -> None:
        labels = (engine.name,)
        values["connections", (engine.name, "used")] += 0
        values["connections", (engine.name, "idle")] += idle_of(pool)
        values["connections_max", labels] += engine.capacity or 0
        values["connections_peak", labels] = self._peaks[engine.name]
        values["connections_pending", labels] += 0
        values["transactions_open", labels] += 0
        self._child("connection_timeouts", labels)
        for outcome in _OUTCOMES:
            self._child("transactions", (engine.name, outcome))

    def _set_all(self, values: Tally[tuple[str, tuple[str, ...]]]) -> None:
        for key in self._gauges_set.difference(values):
            if key[0] != "findings_open":
                self._child(*key).set(0)
        for key, value in values.items():
            self._child(*key).set(value)
        self._gauges_set.update(values)

    def _set_oldest(self, ledger: Ledger) -> None:
        wall = time.time()
        present = clock()
        oldest = {engine.name: present for engine, _ in live_pools(ledger)}
        for checkout in ledger.checkouts.copy():
            name = checkout.engine.name
            oldest[name] = min(oldest.get(name, present), checkout.began_at)
        for name, began_at in oldest.items():
            self._oldest.labels(name).set(wall - (present - began_at))

    # Findings

    def _count_findings(self, dispatchers: list[Dispatcher]) -> None:
        still_open: Tally[tuple[str, tuple[str, ...]]] = Tally()
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
        counted: Tally[tuple[str, tuple[str, ...]]],
        name: str,
        labels: tuple[str, ...],
        total: float,
    ) -> None:
        """Add to a counter what *total* has grown by; one that fell began anew."""
        known = counted[name, labels]
        self._child(name, labels).inc(total - known if total >= known else total)
        counted[name, labels] = total  # type: ignore[assignment]


def live_pools(ledger: Ledger) -> list[tuple[EngineInfo, t.Any]]:
    """Return the engines whose pool still lives, with it."""
    pairs = [(engine, engine.pool) for engine in list(ledger.engines.copy().values())]
    return [(engine, pool) for engine, pool in pairs if pool is not None and not engine.ignored]


def idle_of(pool: t.Any) -> int:
    """Return how many connections wait in *pool*; 0 for a pool that keeps none or does not say."""
    checkedin = getattr(pool, "checkedin", None)
    return int(checkedin()) if callable(checkedin) else 0


def _status_class(status: int | None) -> str:
    return "none" if status is None else f"{status // 100}xx"
