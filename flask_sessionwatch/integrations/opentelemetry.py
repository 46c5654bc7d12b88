"""OpenTelemetry: findings as events of the current span, and the pools under the names of the semantic conventions."""

from __future__ import annotations

import functools
import typing as t
from collections import Counter as Counts
from collections.abc import Iterator
from contextvars import ContextVar

import flask
from opentelemetry import metrics
from opentelemetry import trace

from ..finding import Finding
from ..observe.ledger import Ledger
from ..report.harvest import SECONDS
from ..report.harvest import Harvest
from ..report.harvest import HarvestCounter
from ..report.metrics import idle_of
from ..report.metrics import live_pools
from ..version import VERSION

_PREFIX = "db.client.connection"
_POOL = f"{_PREFIX}.pool.name"
_STATE = f"{_PREFIX}.state"

#: The span of the request that this context has answered last. Flask's instrumentation ends it before the request does.
_answered: ContextVar[trace.SpanContext | None] = ContextVar("sessionwatch_answered", default=None)


class OpenTelemetrySink:
    """Adds each finding that is told while a span is current to that span, as the event ``sessionwatch.finding``.

    It also adds ``trace_id`` and ``span_id`` to the details of findings, for all the other sinks and the pages.
    """

    immediate = True

    def __init__(self) -> None:
        flask.request_finished.connect(self._remember)
        flask.got_request_exception.connect(self._remember)

    def __call__(self, finding: Finding) -> None:
        span = trace.get_current_span()
        if span.is_recording():
            span.add_event("sessionwatch.finding", _attributes_of(finding))

    def annotate(self, finding: Finding) -> None:
        """Add to a finding that is new which trace it belongs to."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid and finding.scope is not None and finding.scope.kind == "request":
            context = _answered.get() or context
        if context.is_valid:
            finding.details["trace_id"] = trace.format_trace_id(context.trace_id)
            finding.details["span_id"] = trace.format_span_id(context.span_id)

    def _remember(self, sender: object, **_: object) -> None:
        context = trace.get_current_span().get_span_context()
        _answered.set(context if context.is_valid else None)


def _attributes_of(finding: Finding) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "sessionwatch.code": finding.code,
        "sessionwatch.rule": finding.rule,
        "sessionwatch.level": finding.level,
        "sessionwatch.message": finding.message,
        "sessionwatch.fingerprint": finding.fingerprint,
    }
    if finding.scope is not None:
        attributes["sessionwatch.scope"] = finding.scope.name
    if finding.site is not None:
        attributes["code.file.path"] = finding.site.filename
        attributes["code.line.number"] = finding.site.lineno
        attributes["code.function.name"] = finding.site.function
    return attributes


class Watch(t.Protocol):
    """What is needed of a :class:`~flask_sessionwatch.SessionWatch`."""

    def count_with(self, counter: HarvestCounter) -> None:
        """Have *counter* told what has ended."""


def measure_pools(watch: Watch, meter_provider: metrics.MeterProvider | None = None) -> None:
    """Give the figures of the pools to OpenTelemetry, under the names of its semantic conventions for databases.

    What is live is read when it is collected. Times are taken from what has ended since the last tick; nothing is measured
    inside of a request.

    :param watch: the :class:`~flask_sessionwatch.SessionWatch`.
    :param meter_provider: the global one unless given.
    """
    watch.count_with(_Pools(metrics.get_meter("flask_sessionwatch", VERSION, meter_provider)))


Looks: t.TypeAlias = "Iterator[tuple[str, dict[str, str], float]]"


class _Pools:
    """Told of what has ended at each tick, and asked for what is live at each collection."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._ledger: Ledger | None = None
        for name, unit, text, look in (
            ("count", "{connection}", "Connections of the pool, by state.", _count),
            ("idle.max", "{connection}", "The most connections that the pool keeps idle.", _idle_max),
            ("idle.min", "{connection}", "The fewest connections that the pool keeps idle.", _idle_min),
            ("max", "{connection}", "The most connections that the pool gives out.", _max),
            ("pending_requests", "{request}", "Threads that wait for a connection.", _pending),
        ):
            callback = functools.partial(self._observe, look)
            meter.create_observable_up_down_counter(f"{_PREFIX}.{name}", [callback], unit, text)
        self._timeouts = meter.create_counter(
            f"{_PREFIX}.timeouts", "{timeout}", "Check-outs that timed out."
        )
        self._times = {
            series: meter.create_histogram(
                f"{_PREFIX}.{name}", "s", text, explicit_bucket_boundaries_advisory=SECONDS
            )
            for series, name, text in (
                ("connection_create_seconds", "create_time", "How long connecting took."),
                ("connection_wait_seconds", "wait_time", "How long a check-out took."),
                ("connection_use_seconds", "use_time", "How long a connection was checked out."),
            )
        }

    def begin(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def end(self) -> None:
        self._ledger = None

    def take(self, harvest: Harvest) -> None:
        for (series, labels), values in harvest.values.items():
            histogram = self._times.get(series)
            if histogram is not None:
                for value in values:
                    histogram.record(value, {_POOL: labels[0]})
        for (series, labels), number in harvest.counts.items():
            if series == "connection_timeouts":
                self._timeouts.add(number, {_POOL: labels[0]})

    def _observe(
        self, look: t.Callable[[Ledger], Looks], _: metrics.CallbackOptions
    ) -> list[metrics.Observation]:
        if self._ledger is None:
            return []
        # Two engines of one name, such as those of two applications, are one series.
        sums: dict[tuple[tuple[str, str], ...], float] = {}
        for name, attributes, value in look(self._ledger):
            key = ((_POOL, name), *attributes.items())
            sums[key] = sums.get(key, 0) + value
        return [metrics.Observation(value, dict(key)) for key, value in sums.items()]


def _count(ledger: Ledger) -> Looks:
    used = Counts(checkout.pooled.engine for checkout in ledger.checkouts)
    for engine, pool in live_pools(ledger):
        yield engine.name, {_STATE: "used"}, used[engine]
        yield engine.name, {_STATE: "idle"}, idle_of(pool)


def _idle_max(ledger: Ledger) -> Looks:
    for engine, pool in live_pools(ledger):
        size = getattr(pool, "size", None)
        if callable(size):  # other pools than a QueuePool have no such limit
            yield engine.name, {}, size()


def _idle_min(ledger: Ledger) -> Looks:
    # SQLAlchemy's pools keep what was returned, and open nothing in advance.
    for engine, _ in live_pools(ledger):
        yield engine.name, {}, 0


def _max(ledger: Ledger) -> Looks:
    for engine, _ in live_pools(ledger):
        if engine.capacity is not None:
            yield engine.name, {}, engine.capacity


def _pending(ledger: Ledger) -> Looks:
    waiting = Counts(engine for engine, _ in ledger.waiting.copy().values())
    for engine, _ in live_pools(ledger):
        yield engine.name, {}, waiting[engine]
