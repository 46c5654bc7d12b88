"""The exposition of a registry: what prometheus_client itself would say, only sooner."""

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Counter
from prometheus_client import Gauge
from prometheus_client import Histogram
from prometheus_client import Info
from prometheus_client import exposition

from flask_sessionwatch.web.exposition import exposed

FORMATS = ["", "application/openmetrics-text; version=1.0.0", "text/plain;version=0.0.4"]
AWKWARD = ["plain", "", 'a "quoted" word', "back\\slash", "two\nlines", "{brace}", "ü 日本", "a,b=c"]
VALUES = [0, 1, 0.1, 1e-9, 123456789.0, 1e300, float("inf"), float("-inf"), float("nan")]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def lines(text: bytes) -> list[str]:
    return sorted(text.decode().split("\n"))


@pytest.mark.parametrize("accept", FORMATS)
def test_says_what_prometheus_client_says(registry: CollectorRegistry, accept: str) -> None:
    """Every line of every type, however awkward the labels are."""
    counter = Counter(
        "sessionwatch_scopes", 'Scopes: "all"\nof \\ them.', ("scope", "kind"), registry=registry
    )
    histogram = Histogram("sessionwatch_seconds", "Seconds.", ("z", "a"), registry=registry)
    for label in AWKWARD:
        counter.labels(label, "request").inc()
        histogram.labels(label, "b").observe(0.3)
    encode, content_type = exposition.choose_encoder(accept)
    body, told = exposed(registry, accept)
    assert (lines(body), told) == (lines(encode(registry)), content_type)


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("value", VALUES)
def test_values(registry: CollectorRegistry, accept: str, value: float) -> None:
    """Numbers are written as prometheus_client writes them."""
    Gauge("sessionwatch_gauge", "A gauge.", registry=registry).set(value)
    encode, _ = exposition.choose_encoder(accept)
    assert exposed(registry, accept)[0] == encode(registry)


@pytest.mark.parametrize("accept", FORMATS)
def test_metrics_of_others(registry: CollectorRegistry, accept: str) -> None:
    """Metrics of other types and of other libraries are in it too, once, and in front of the end."""
    Info("sessionwatch_build", "Not ours to render.", registry=registry).info({"version": "1"})
    Counter("orders", "Somebody else's.", registry=registry).inc(3)
    Gauge("sessionwatch_sessions_open", "Ours.", registry=registry).set(2)
    encode, _ = exposition.choose_encoder(accept)
    body, _ = exposed(registry, accept)
    assert lines(body) == lines(encode(registry))
    assert body.endswith(b"# EOF\n") == (b"# EOF" in body)


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("name", ["sessionwatch_scopes", "orders"])
def test_label_that_is_no_utf8(registry: CollectorRegistry, accept: str, name: str) -> None:
    """A label that cannot be encoded is escaped, and takes nothing else away."""
    Counter(name, "Named after a file.", ("file",), registry=registry).labels("\udcff.csv").inc()
    assert b'file="\\\\udcff.csv"' in exposed(registry, accept)[0]
