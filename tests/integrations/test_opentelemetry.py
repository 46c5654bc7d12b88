"""OpenTelemetry: findings as span events with their trace, and the pools under the conventions' names."""

import collections.abc as cabc
import typing as t

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from werkzeug.test import Client

from flask_sessionwatch import Finding
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.integrations.opentelemetry import OpenTelemetrySink
from flask_sessionwatch.integrations.opentelemetry import measure_pools
from tests.rules.conftest import World
from tests.rules.conftest import line

PREFIX = "db.client.connection"


class Traced:
    """A world whose findings go to OpenTelemetry, and the spans that it has ended."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("tests")
        self.told: list[Finding] = []
        world.watch.close()
        # Whoever stands before it in the list knows of the trace as well.
        world.watch = SessionWatch(world.app, sinks=[self.hear, OpenTelemetrySink()], registry=world.registry)

    def hear(self, finding: Finding) -> None:
        self.told.append(finding)

    def leak(self) -> str:
        self.world.keep(self.world.engine.connect())  # leaked
        return "ok"

    @property
    def events(self) -> list[t.Any]:
        """The events of all spans that have ended."""
        return [event for span in self.exporter.get_finished_spans() for event in span.events]

    def ids_of(self, span: t.Any) -> dict[str, str]:
        context = span.get_span_context()
        return {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }


@pytest.fixture
def traced(world: World) -> cabc.Iterator[Traced]:
    """A traced world."""
    traced = Traced(world)
    yield traced
    traced.provider.shutdown()


def ids(finding: Finding) -> dict[str, t.Any]:
    return {key: finding.details.get(key) for key in ("trace_id", "span_id")}


def test_event_of_the_current_span(traced: Traced) -> None:
    """A finding at the end of a scope is an event of the span that is current, and carries its ids."""
    with traced.tracer.start_as_current_span("import") as span, traced.world.watch.scope("import"):
        traced.leak()
    (event,) = traced.events
    assert event.name == "sessionwatch.finding"
    assert event.attributes["sessionwatch.code"] == "SW101"
    assert event.attributes["sessionwatch.scope"] == "import"
    assert event.attributes["code.file.path"] == __file__
    assert event.attributes["code.line.number"] == line("leaked")
    finding = traced.world.only("SW101")
    assert ids(finding) == traced.ids_of(span)


def test_order_of_sinks(traced: Traced) -> None:
    """A sink that stands before it in the list is told the trace as well."""
    with traced.tracer.start_as_current_span("import") as span, traced.world.watch.scope("import"):
        traced.leak()
    traced.world.watch.tick()
    (finding,) = traced.told
    assert ids(finding) == traced.ids_of(span)


def test_each_occurrence(traced: Traced) -> None:
    """A bug that is seen again leads to the latest trace, also where nobody is told of it."""
    for _ in range(3):
        with traced.tracer.start_as_current_span("import") as span, traced.world.watch.scope("import"):
            traced.leak()
    assert ids(traced.world.only("SW101")) == traced.ids_of(span)
    assert len(traced.events) == 1


def test_no_span(traced: Traced) -> None:
    """Without a span there is no event, and nothing is added to a finding."""
    with traced.world.watch.scope("import"):
        traced.leak()
    assert traced.events == []
    assert ids(traced.world.only("SW101")) == {"trace_id": None, "span_id": None}


def test_healthy(traced: Traced) -> None:
    """A span in which all is well stays as it is."""
    with traced.tracer.start_as_current_span("import"), traced.world.watch.scope("import"):
        traced.world.engine.connect().close()
    (span,) = traced.exporter.get_finished_spans()
    assert (span.events, span.attributes) == ((), {})


def test_wsgi_instrumentation(traced: Traced) -> None:
    """With the WSGI instrumentation around the application, a request's finding is an event of the request's span."""
    traced.world.view()(traced.leak)
    app = OpenTelemetryMiddleware(traced.world.app, tracer_provider=traced.provider)
    assert Client(app).get("/").get_data() == b"ok"
    (span,) = traced.exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["sessionwatch.finding"]
    assert ids(traced.world.only("SW101")) == traced.ids_of(span)


def test_flask_instrumentation(traced: Traced) -> None:
    """Flask's instrumentation ends its span before the request is over; the finding names it nevertheless."""
    FlaskInstrumentor().instrument_app(traced.world.app, tracer_provider=traced.provider)
    traced.world.view()(traced.leak)

    def fail() -> t.NoReturn:
        traced.leak()
        raise KeyError("no stock")

    traced.world.view(rule="/fail")(fail)
    traced.world.open()
    traced.world.open("/fail")
    with traced.world.watch.scope("import"):
        traced.leak()
    spans = {span.name: traced.ids_of(span) for span in traced.exporter.get_finished_spans()}
    found = {str(finding.scope): ids(finding) for finding in traced.world.told("SW101")}
    assert found == {
        "GET /": spans["GET /"],
        "GET /fail": spans["GET /fail"],
        "import": {"trace_id": None, "span_id": None},
    }
    assert traced.events == [event for event in traced.events if event.name != "sessionwatch.finding"]


# Pools


class Pools:
    """What OpenTelemetry collects of the pools of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        measure_pools(world.watch, self.provider)

    def collect(self) -> dict[str, t.Any]:
        """Return the data points by metric, and by state where there is one."""
        self.world.watch.tick()
        data = self.reader.get_metrics_data()
        found: dict[str, t.Any] = {}
        for metric in data.resource_metrics[0].scope_metrics[0].metrics if data is not None else ():
            for point in metric.data.data_points:
                attributes = dict(point.attributes or {})
                assert isinstance(attributes.pop(f"{PREFIX}.pool.name"), str)
                state = attributes.pop(f"{PREFIX}.state", None)
                assert attributes == {}
                name = metric.name.removeprefix(f"{PREFIX}.")
                found[f"{name} {state}" if state else name] = point
        return found

    def values(self) -> dict[str, float]:
        return {
            name: point.value if hasattr(point, "value") else point.count
            for name, point in self.collect().items()
        }


@pytest.fixture
def pools(world: World) -> cabc.Iterator[Pools]:
    """The pools of a world with an engine of its own, for at most three connections, of which two are kept."""
    world.engine = world.make_engine(
        poolclass=sa.pool.QueuePool, pool_size=2, max_overflow=1, pool_timeout=0.01
    )
    pools = Pools(world)
    yield pools
    pools.provider.shutdown()


def test_pool(pools: Pools) -> None:
    """The figures are those of the pool at the moment of collection, and add up what has ended."""
    held = [pools.world.engine.connect() for _ in range(3)]
    with pytest.raises(sa.exc.TimeoutError):
        pools.world.engine.connect()
    held.pop().close()
    assert pools.values() == {
        "count used": 2,
        "count idle": 1,
        "idle.max": 2,
        "idle.min": 0,
        "max": 3,
        "pending_requests": 0,
        "timeouts": 1,
        "create_time": 3,
        "wait_time": 1,
        "use_time": 1,
    }
    for connection in held:
        connection.close()
    values = pools.values()
    assert (values["count used"], values["count idle"], values["use_time"]) == (0, 2, 3)


def test_seconds(pools: Pools) -> None:
    """Times are in seconds, and in buckets that suit them."""
    connection = pools.world.engine.connect()
    pools.world.clock.put_forward(2.0)
    connection.close()
    point = pools.collect()["use_time"]
    assert 2.0 <= point.sum < 20.0
    assert 0.001 in point.explicit_bounds


def test_after_the_watch(pools: Pools) -> None:
    """When the watch is closed, nothing is observed any more, and the application goes on."""
    pools.world.engine.connect().close()
    before = pools.values()
    pools.world.watch.close()
    pools.world.engine.connect().close()
    after = pools.values()
    assert after["use_time"] == before["use_time"]
    assert "count used" not in after
