"""/metrics, read back with prometheus_client's own parsers."""

import typing as t

import flask
import pytest
import sqlalchemy as sa
from prometheus_client import parser as text
from prometheus_client.openmetrics import parser as openmetrics_text
from prometheus_client.samples import Sample

from tests.web.conftest import Pages
from tests.web.conftest import Watch

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
#: What Prometheus sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
HOSTILE = "<b>\n\"\\{}'\u2028 ﷽=,#"


def read(answer: t.Any) -> dict[str, list[Sample]]:
    """Parse an answer by what it says it is, and return its samples by name."""
    kind = answer.mimetype
    parse = (
        openmetrics_text.text_string_to_metric_families
        if kind == "application/openmetrics-text"
        else text.text_string_to_metric_families
    )
    samples: dict[str, list[Sample]] = {}
    for family in parse(answer.text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    return samples


def value(samples: dict[str, list[Sample]], name: str, **labels: str) -> float:
    (found,) = [each for each in samples[name] if labels.items() <= each.labels.items()]
    return found.value


@pytest.fixture
def pages(watch: Watch, engine: sa.Engine) -> t.Iterator[Pages]:
    app = flask.Flask("watched")
    kept: list[sa.Connection] = []

    @app.get("/leak")
    def leak() -> str:
        kept.append(engine.connect())
        return str(kept[-1].scalar(sa.select(1)))

    @app.get(f"/{HOSTILE.replace('<', '').replace('>', '')}")
    def hostile() -> str:
        return "fine"

    yield Pages(watch(app))
    for connection in kept:
        connection.close()


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/html,*/*;q=0.8", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        (OPENMETRICS, "application/openmetrics-text"),
        (PROMETHEUS, "application/openmetrics-text"),
        ("nonsense;;q=é", "text/plain"),
    ],
)
def test_content_negotiation(pages: Pages, accept: str, mimetype: str) -> None:
    """The answer is in the format that was asked for, says so, and its own parser reads it."""
    answer = pages.get("/metrics", Accept=accept)
    assert (answer.status_code, answer.mimetype, answer.mimetype_params["charset"]) == (
        200,
        mimetype,
        "utf-8",
    )
    assert value(read(answer), "sessionwatch_leaked_sessions") == 0
    assert answer.text.endswith("# EOF\n") == (mimetype != "text/plain")


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_counts(pages: Pages, accept: str) -> None:
    """What happened before a scrape is in it: the request, its finding, and the connection it holds."""
    assert pages.http.get("/leak").status_code == 200
    samples = read(pages.get("/metrics", Accept=accept))
    # An engine of another test may be there still, with an idle connection.
    used = {
        each.labels["engine"]: each.value
        for each in samples["sessionwatch_connections"]
        if each.labels["state"] == "used"
    }
    (engine,) = (name for name, number in used.items() if number == 1)
    assert value(samples, "sessionwatch_connections", engine=engine, state="used") == 1
    assert value(samples, "sessionwatch_connections_max", engine=engine) == 2
    assert value(samples, "sessionwatch_findings_total", code="SW101") == 1
    assert value(samples, "sessionwatch_findings_open", code="SW101") == 1
    assert value(samples, "sessionwatch_scopes_total", scope="GET /leak") == 1


def test_counters_start_at_zero(pages: Pages) -> None:
    """Every rule has its series before its first finding, so that no increase is missed."""
    samples = read(pages.get("/metrics"))
    rules = pages.json("/api/v1/rules")["rules"]
    assert {rule["code"] for rule in rules} == {
        each.labels["code"] for each in samples["sessionwatch_findings_total"] if each.value == 0
    }


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_hostile_labels(pages: Pages, accept: str) -> None:
    """A scope of any name is one label value, which comes back as it was."""
    with pages.app.extensions["sessionwatch"].scope(HOSTILE):
        pass
    samples = read(pages.get("/metrics", Accept=accept))
    scopes = {each.labels["scope"] for each in samples["sessionwatch_scopes_total"]}
    assert HOSTILE in scopes
    assert value(samples, "sessionwatch_scopes_total", scope=HOSTILE) == 1


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_label_that_cannot_be_encoded(pages: Pages, accept: str) -> None:
    """One scope named after a file whose name is no UTF-8 does not take all metrics away."""
    with pages.app.extensions["sessionwatch"].scope("import \udcff.csv"):
        pass
    samples = read(pages.get("/metrics", Accept=accept))
    assert value(samples, "sessionwatch_scopes_total", scope="import \\udcff.csv") == 1


def test_no_raw_method(pages: Pages) -> None:
    """Methods that nobody knows share one label, however many there are."""
    for number in range(20):
        pages.http.open("/", method=f"X{number}")
    scopes = {each.labels["scope"] for each in read(pages.get("/metrics"))["sessionwatch_scopes_total"]}
    assert scopes == {"OTHER <unmatched>"}


def test_no_raw_path(pages: Pages) -> None:
    """Paths that no rule matches share one label, however many there are."""
    for number in range(20):
        pages.http.get(f"/no/such/{number}")
    scopes = [each.labels["scope"] for each in read(pages.get("/metrics"))["sessionwatch_scopes_total"]]
    assert scopes == ["GET <unmatched>"]


def test_peak_begins_anew(pages: Pages, engine: sa.Engine) -> None:
    """The peak is of the time since the last scrape."""
    with engine.connect(), engine.connect():
        pass
    first, second = (read(pages.get("/metrics")) for _ in range(2))
    assert max(each.value for each in first["sessionwatch_connections_peak"]) == 2
    assert max(each.value for each in second["sessionwatch_connections_peak"]) == 0


def test_compares_with_the_live_picture(pages: Pages) -> None:
    """Metrics and API say the same."""
    pages.http.get("/leak")
    live, samples = pages.json("/api/v1/live"), read(pages.get("/metrics"))
    for engine in live["engines"]:
        used = value(samples, "sessionwatch_connections", engine=engine["name"], state="used")
        assert used == engine["used"]


def test_parsers_are_strict() -> None:
    """The OpenMetrics parser refuses what is none, so that reading with it proves something."""
    with pytest.raises(ValueError, match="EOF"):
        list(openmetrics_text.text_string_to_metric_families("sessionwatch_x 1\n"))  # type: ignore[no-untyped-call]
