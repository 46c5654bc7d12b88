"""What is attached to the application of the benchmark: nothing, flask_sessionwatch, and its peers.

Each peer is set up as its own documentation says, with whatever it would send kept in the process or thrown away.
"""

from __future__ import annotations

import importlib.metadata
import typing as t
import warnings

import flask
from sqlalchemy import event

#: Does what a watcher has put off until the request was over.
Settle: t.TypeAlias = "t.Callable[[], object]"


class Watcher(t.NamedTuple):
    """A column of the tables."""

    #: How to attach it, before the application has served anything.
    attach: t.Callable[[flask.Flask], Settle]
    #: What people call it.
    title: str
    #: The distributions whose versions belong beside its numbers.
    distributions: tuple[str, ...] = ()


def _rest() -> None:
    return None


def _nothing(app: flask.Flask) -> Settle:
    return _rest


def _floor(app: flask.Flask) -> Settle:
    """Listen to the events that flask_sessionwatch listens to, and do nothing."""
    from flask_sessionwatch.observe.ledger import Ledger
    from flask_sessionwatch.observe.recorder import Recorder
    from flask_sessionwatch.observe.stack import Stacks
    from flask_sessionwatch.observe.startup import startup

    def nothing(*args: t.Any) -> None:
        return None

    startup.finish()
    recorder = Recorder(Ledger(Stacks()), print)
    for target, name, _, options in recorder._listeners():
        event.listen(target, name, nothing, **options)
    return _rest


def _sessionwatch(app: flask.Flask) -> Settle:
    """Watch with every default rule; the watchdog ticks when the benchmark says so, and not in between."""
    from flask_sessionwatch import SessionWatch

    app.config["SESSIONWATCH_TICK"] = 3600.0
    return SessionWatch(app).tick


def _nostacks(app: flask.Flask) -> Settle:
    app.config["SESSIONWATCH_STACK_DEPTH"] = 0
    return _sessionwatch(app)


def _opentelemetry(app: flask.Flask) -> Settle:
    from opentelemetry import metrics
    from opentelemetry import trace
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: t.Sequence[t.Any]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere(), schedule_delay_millis=3_600_000))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    FlaskInstrumentor().instrument_app(app)
    SQLAlchemyInstrumentor().instrument(skip_dep_check=True)
    return provider.force_flush


def _prometheus(app: flask.Flask) -> Settle:
    from prometheus_flask_exporter import PrometheusMetrics

    PrometheusMetrics(app)
    return _rest


def _debugtoolbar(app: flask.Flask) -> Settle:
    from flask_debugtoolbar import DebugToolbarExtension

    # The pages of the benchmark are no HTML, which spares it the work of inserting itself into them.
    warnings.filterwarnings("ignore", "Could not insert debug toolbar")
    app.config["SECRET_KEY"] = "for the toolbar's cookie"
    app.config["DEBUG_TB_ENABLED"] = app.config["SQLALCHEMY_RECORD_QUERIES"] = True
    DebugToolbarExtension(app)
    return _rest


def _sentry(app: flask.Flask) -> Settle:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Nowhere(Transport):
        def capture_envelope(self, envelope: t.Any) -> None:
            return None

    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Nowhere)
    return sentry_sdk.flush


OURS = {
    "nothing": Watcher(_nothing, "nothing"),
    "floor": Watcher(_floor, "no-op listeners"),
    "sessionwatch": Watcher(_sessionwatch, "flask_sessionwatch", ("flask-sessionwatch",)),
    "nostacks": Watcher(_nostacks, "flask_sessionwatch, no stacks", ("flask-sessionwatch",)),
}
PEERS = {
    "prometheus": Watcher(_prometheus, "prometheus_flask_exporter", ("prometheus-flask-exporter",)),
    "debugtoolbar": Watcher(_debugtoolbar, "Flask-DebugToolbar", ("Flask-DebugToolbar",)),
    "opentelemetry": Watcher(
        _opentelemetry,
        "OpenTelemetry",
        (
            "opentelemetry-sdk",
            "opentelemetry-instrumentation-flask",
            "opentelemetry-instrumentation-sqlalchemy",
        ),
    ),
    "sentry": Watcher(_sentry, "sentry-sdk, tracing", ("sentry-sdk",)),
}
WATCHERS = {**OURS, **PEERS}


def versions(name: str) -> dict[str, str] | None:
    """Return the versions of what belongs to the watcher *name*, or None where something is not installed."""
    try:
        return {each: importlib.metadata.version(each) for each in WATCHERS[name].distributions}
    except importlib.metadata.PackageNotFoundError:
        return None
