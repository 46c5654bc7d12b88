"""Metrics: their fixed names and labels, counters from 0, gauges back to 0, several processes added up."""

import itertools
import os
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram
from prometheus_client import exposition
from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics import parser as openmetrics_parser
from sqlalchemy import orm

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.report.metrics import Metrics
from flask_sessionwatch.report.metrics import _observe_all
from flask_sessionwatch.report.metrics import idle_of

#: name -> (type, labels), fixed because dashboards and alert rules of users rely on them.
CATALOGUE = {
    "sessionwatch_sessions_open": ("gauge", set()),
    "sessionwatch_session_duration_seconds": ("histogram", {"scope_kind"}),
    "sessionwatch_transactions_open": ("gauge", {"engine"}),
    "sessionwatch_transactions": ("counter", {"engine", "outcome"}),
    "sessionwatch_transaction_duration_seconds": ("histogram", {"engine"}),
    "sessionwatch_connections": ("gauge", {"engine", "state"}),
    "sessionwatch_connections_max": ("gauge", {"engine"}),
    "sessionwatch_connections_peak": ("gauge", {"engine"}),
    "sessionwatch_connection_use_seconds": ("histogram", {"engine"}),
    "sessionwatch_connection_wait_seconds": ("histogram", {"engine"}),
    "sessionwatch_connection_create_seconds": ("histogram", {"engine"}),
    "sessionwatch_connections_pending": ("gauge", {"engine"}),
    "sessionwatch_connection_timeouts": ("counter", {"engine"}),
    "sessionwatch_oldest_checkout_timestamp_seconds": ("gauge", {"engine"}),
    "sessionwatch_scope_commits": ("histogram", {"scope", "kind"}),
    "sessionwatch_scope_connections": ("histogram", {"scope", "kind"}),
    "sessionwatch_scopes": ("counter", {"scope", "kind", "verdict"}),
    "sessionwatch_lost_writes": ("counter", {"scope", "status_class"}),
    "sessionwatch_findings": ("counter", {"code", "rule", "level"}),
    "sessionwatch_findings_open": ("gauge", {"code", "rule", "level"}),
    "sessionwatch_leaked_sessions": ("gauge", set()),
    "sessionwatch_findings_dropped": ("counter", set()),
    "sessionwatch_internal_errors": ("counter", set()),
    "sessionwatch_self_seconds": ("counter", set()),
}
OUTCOMES = {"commit", "rollback", "rollback_on_close", "error", "garbage_collected"}
SOON = 10.0
NUMBERS = itertools.count(1)


class Shop:
    """An application under watch whose metrics can be read."""

    def __init__(self, **pool: t.Any) -> None:
        # A pool that the collector has not found yet would be added to one of the same name.
        self.name = f"file:shop{next(NUMBERS)}"
        url = f"sqlite:///{self.name}?mode=memory&cache=shared&uri=true"
        options = {"pool_size": 2, "max_overflow": 1, "pool_timeout": 0.01, **pool}
        self.engine = sa.create_engine(url, poolclass=sa.pool.QueuePool, **options)
        self.app = flask.Flask("shop")
        self.app.config.update(TESTING=True, SESSIONWATCH_TICK=3600)
        self.registry = CollectorRegistry()
        self.watch = SessionWatch(self.app, sinks=[], registry=self.registry)
        self.held: list[t.Any] = []
        self.body: Callable[[], object] = lambda: None
        for path in ("/", "/work", "/leak", "/leak-session", "/lose", "/orders/<int:number>"):
            self.app.add_url_rule(path, path, self.serve)

    def serve(self, number: int = 0) -> str:
        self.body()
        return "ok"

    def view(self, body: Callable[[], object], path: str = "/") -> None:
        """Answer one request for *path* with *body*."""
        self.body = body
        self.app.test_client().get(path, buffered=True)

    def hold(self) -> sa.Connection:
        self.held.append(self.engine.connect())
        return t.cast(sa.Connection, self.held[-1])

    def session(self) -> orm.Session:
        self.held.append(orm.Session(self.engine))
        return t.cast(orm.Session, self.held[-1])

    def give_back(self) -> None:
        while self.held:
            self.held.pop().close()

    def value(self, name: str, **labels: str) -> float | None:
        """Read one sample after a tick; ``engine`` need not be said."""
        self.watch.tick()
        if "engine" in CATALOGUE.get(_family(name), ("", set()))[1]:
            labels = {"engine": self.name, **labels}
        return self.registry.get_sample_value(name, labels)

    def families(self) -> dict[str, Metric]:
        """Read everything after a tick."""
        self.watch.tick()
        return {family.name: family for family in self.registry.collect()}

    def close(self) -> None:
        self.watch.close()
        self.give_back()
        self.engine.dispose()


def _family(name: str) -> str:
    for suffix in ("_total", "_count", "_sum", "_bucket"):
        name = name.removesuffix(suffix)
    return name


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.close()


def busy(shop: Shop) -> None:
    """Let everything happen that a metric counts."""

    def work() -> None:
        session = shop.session()
        session.execute(sa.text("create table if not exists t (x)"))
        session.commit()
        session.execute(sa.text("insert into t values (1)"))
        session.close()

    shop.view(work, "/work")
    shop.view(shop.hold, "/leak")
    shop.view(lambda: shop.session().execute(sa.text("select 1")), "/leak-session")
    with pytest.raises(sa.exc.TimeoutError), shop.engine.connect(), shop.engine.connect():
        pass


# Names, types, labels


def test_names_types_and_labels(shop: Shop) -> None:
    """Every metric has the name, the type and the labels that the manual fixes, and there is no other."""
    busy(shop)
    found = {}
    for name, family in shop.families().items():
        labels = [set(sample.labels) - {"le"} for sample in family.samples]
        assert labels, f"{name} has no sample"
        assert all(each == labels[0] for each in labels)
        found[name] = (family.type, labels[0])
    assert found == CATALOGUE


def test_help(shop: Shop) -> None:
    """Every metric says in one sentence what it is."""
    for family in shop.families().values():
        assert family.documentation.endswith(".")
        assert "\n" not in family.documentation


@pytest.mark.parametrize("form", ["text", "openmetrics"])
def test_exposition_can_be_parsed(shop: Shop, form: str) -> None:
    """What is exposed is read back by prometheus_client's own parsers, with the same values."""
    busy(shop)
    shop.watch.tick()
    if form == "text":
        text = exposition.generate_latest(shop.registry).decode()
        families = list(parser.text_string_to_metric_families(text))
    else:
        text = openmetrics_exposition.generate_latest(shop.registry).decode()  # type: ignore[no-untyped-call]
        families = list(openmetrics_parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert set(CATALOGUE) <= {family.name for family in families}
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples["sessionwatch_connections_max", (("engine", shop.name),)] == 3.0
    assert samples["sessionwatch_leaked_sessions", ()] == 1.0


def test_labels_are_escaped(shop: Shop) -> None:
    """A scope's name with quotes, line breaks and backslashes is read back as it was."""
    name = 'import "x"\nsessionwatch_forged 1\\'
    with shop.watch.scope(name):
        pass
    shop.watch.tick()
    text = exposition.generate_latest(shop.registry).decode()
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert "sessionwatch_forged" not in families
    scopes = {sample.labels.get("scope") for sample in families["sessionwatch_scopes"].samples}
    assert name in scopes


def test_no_raw_path(shop: Shop) -> None:
    """Requests are labelled by their URL rule, and those without one share a name."""
    shop.view(lambda: None, "/orders/7")
    for number in range(5):
        shop.app.test_client().get(f"/nowhere/{number}", buffered=True)
    scopes = {sample.labels["scope"] for sample in shop.families()["sessionwatch_scopes"].samples}
    assert scopes == {"GET /orders/<int:number>", "GET <unmatched>"}
    assert (
        shop.value("sessionwatch_scopes_total", scope="GET <unmatched>", kind="request", verdict="clean")
        == 5.0
    )


def test_no_series_without_end(shop: Shop) -> None:
    """Neither unknown methods nor unknown paths make new series."""
    client = shop.app.test_client()
    client.get("/nowhere", buffered=True)
    client.open("/", method="BREW", buffered=True)
    before = sum(len(family.samples) for family in shop.families().values())
    for number in range(10):
        client.open(f"/{number}", method=f"BREW{number}", buffered=True)
        client.get(f"/{number}?x={number}", buffered=True)
    assert before == sum(len(family.samples) for family in shop.families().values())


# Counters start at 0


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.code)
def test_findings_start_at_zero(shop: Shop, rule: t.Any) -> None:
    """Every rule's counter is there before its first finding, so that an alert sees the first increase."""
    labels = {"code": rule.code, "rule": rule.name, "level": rule.level}
    assert shop.registry.get_sample_value("sessionwatch_findings_total", labels) == 0.0


@pytest.mark.parametrize("name", ["findings_dropped", "self_seconds", "internal_errors"])
def test_own_counters_are_there(shop: Shop, name: str) -> None:
    """The watcher's own counters are there from the beginning."""
    assert shop.registry.get_sample_value(f"sessionwatch_{name}_total") == 0.0


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_outcomes_start_at_zero(shop: Shop, outcome: str) -> None:
    """Every outcome of an engine's transactions is there as soon as the engine is known."""
    shop.hold()
    assert shop.value("sessionwatch_transactions_total", outcome=outcome) == 0.0


def test_timeouts_start_at_zero(shop: Shop) -> None:
    """Time-outs of an engine are counted from 0."""
    shop.hold()
    assert shop.value("sessionwatch_connection_timeouts_total") == 0.0


# What has ended


@pytest.mark.parametrize(
    ("outcome", "work"),
    [
        ("commit", lambda session: (session.execute(sa.text("select 1")), session.commit())),
        ("rollback", lambda session: (session.execute(sa.text("select 1")), session.rollback())),
        ("rollback_on_close", lambda session: session.execute(sa.text("select 1"))),
    ],
)
def test_transactions(shop: Shop, outcome: str, work: Callable[[orm.Session], object]) -> None:
    """A transaction is counted once, by how it ended."""
    with orm.Session(shop.engine) as session:
        work(session)
    assert shop.value("sessionwatch_transactions_total", outcome=outcome) == 1.0
    totals = [shop.value("sessionwatch_transactions_total", outcome=each) for each in OUTCOMES]
    assert sum(filter(None, totals)) == 1.0
    assert shop.value("sessionwatch_transaction_duration_seconds_count") == 1.0
    assert shop.value("sessionwatch_session_duration_seconds_count", scope_kind="none") == 1.0


def test_scopes(shop: Shop) -> None:
    """A scope is counted with its commits, the connections it held at once and the verdict."""

    def work() -> None:
        with orm.Session(shop.engine) as session:
            for _ in range(3):
                session.execute(sa.text("select 1"))
                session.commit()

    shop.view(work, "/orders/7")
    labels = {"scope": "GET /orders/<int:number>", "kind": "request"}
    assert shop.value("sessionwatch_scopes_total", verdict="clean", **labels) == 1.0
    assert shop.value("sessionwatch_scope_commits_sum", **labels) == 3.0
    assert shop.value("sessionwatch_scope_connections_sum", **labels) == 1.0


def test_verdict(shop: Shop) -> None:
    """A scope in which something was found is counted by the worst level."""
    shop.view(shop.hold, "/leak")
    labels = {"scope": "GET /leak", "kind": "request"}
    assert shop.value("sessionwatch_scopes_total", verdict="error", **labels) == 1.0
    assert shop.value("sessionwatch_scopes_total", verdict="clean", **labels) is None


def test_connection_times(shop: Shop) -> None:
    """How long connecting, waiting and using took is counted once per connection or check-out."""
    for _ in range(3):
        shop.engine.connect().close()
    assert shop.value("sessionwatch_connection_create_seconds_count") == 1.0
    assert shop.value("sessionwatch_connection_wait_seconds_count") == 3.0
    assert shop.value("sessionwatch_connection_use_seconds_count") == 3.0


def test_timeouts(shop: Shop) -> None:
    """A check-out that timed out is counted."""
    for _ in range(3):
        shop.hold()
    with pytest.raises(sa.exc.TimeoutError):
        shop.hold()
    assert shop.value("sessionwatch_connection_timeouts_total") == 1.0


def test_lost_writes(shop: Shop) -> None:
    """A scope whose writes were thrown away is counted with what its caller was told."""
    with shop.engine.begin() as connection:
        connection.execute(sa.text("create table if not exists t (x)"))
        shop.held.append(connection)

        def lose() -> None:
            with orm.Session(connection.engine) as session:
                session.execute(sa.text("insert into t values (1)"))

        connection.commit()
        shop.view(lose, "/lose")
    assert shop.value("sessionwatch_lost_writes_total", scope="POST /lose", status_class="2xx") is None
    assert shop.value("sessionwatch_lost_writes_total", scope="GET /lose", status_class="2xx") == 1.0


def test_findings(shop: Shop) -> None:
    """Every occurrence is counted, whether or not it was told."""
    for _ in range(3):
        shop.view(shop.hold, "/leak")
    labels = {"code": "SW101", "rule": "leaked-connection", "level": "error"}
    assert shop.value("sessionwatch_findings_total", **labels) == 3.0
    assert shop.value("sessionwatch_findings_total", **labels) == 3.0


def test_counted_once(shop: Shop) -> None:
    """However often the metrics are brought up to date, what has ended is counted once."""
    shop.view(lambda: None)
    for _ in range(5):
        shop.watch.tick()
    labels = {"scope": "GET /", "kind": "request", "verdict": "clean"}
    assert shop.value("sessionwatch_scopes_total", **labels) == 1.0


# What is live


def test_gauges_return_to_zero(shop: Shop) -> None:
    """What is open is counted while it is, and not a moment longer."""
    shop.view(lambda: shop.session().execute(sa.text("select 1")), "/leak")
    shop.hold()
    labels = {"code": "SW201", "rule": "leaked-session", "level": "error"}
    gauges: list[tuple[str, dict[str, str], float]] = [
        ("sessionwatch_sessions_open", {}, 1.0),
        ("sessionwatch_transactions_open", {}, 1.0),
        ("sessionwatch_leaked_sessions", {}, 1.0),
        ("sessionwatch_connections", {"state": "used"}, 2.0),
        ("sessionwatch_findings_open", labels, 1.0),
        ("sessionwatch_connections_pending", {}, 0.0),
    ]
    assert [(name, each, shop.value(name, **each)) for name, each, _ in gauges] == gauges
    shop.give_back()
    assert [(name, shop.value(name, **each)) for name, each, _ in gauges] == [
        (name, 0.0) for name, *_ in gauges
    ]


def test_pool(shop: Shop) -> None:
    """The pool's size and its used and idle connections are those that the pool itself has."""
    shop.hold()
    shop.hold()
    shop.held.pop().close()
    assert shop.value("sessionwatch_connections_max") == 3.0
    assert shop.value("sessionwatch_connections", state="used") == 1.0
    assert shop.value("sessionwatch_connections", state="idle") == 1.0
    assert shop.engine.pool.checkedout() == 1  # type: ignore[attr-defined]


def test_detached_connection_is_not_used(shop: Shop) -> None:
    """A connection that was detached is the pool's no more, and the gauge does not drift."""
    connection = shop.hold()
    connection.detach()
    assert shop.value("sessionwatch_connections", state="used") == 0.0
    connection.close()
    assert shop.value("sessionwatch_connections", state="used") == 0.0


def test_invalidated_connection_is_not_used(shop: Shop) -> None:
    """A connection that was invalidated and closed leaves nothing in the gauge."""
    connection = shop.hold()
    connection.invalidate()
    connection.close()
    assert shop.value("sessionwatch_connections", state="used") == 0.0


def test_pending(shop: Shop) -> None:
    """Threads that wait for a connection are counted while they wait."""
    shop.close()
    patient = Shop(pool_timeout=SOON)
    try:
        for _ in range(3):
            patient.hold()
        thread = threading.Thread(target=lambda: patient.engine.connect().close(), daemon=True)
        thread.start()
        until = time.monotonic() + SOON
        while patient.value("sessionwatch_connections_pending") != 1.0:
            assert time.monotonic() < until
            time.sleep(0.001)
        patient.held.pop().close()
        thread.join(SOON)
        assert patient.value("sessionwatch_connections_pending") == 0.0
    finally:
        patient.close()


def test_peak(shop: Shop) -> None:
    """The peak is the most that were out at once, also between two looks."""
    with shop.engine.connect(), shop.engine.connect(), shop.engine.connect():
        pass
    shop.hold()
    assert shop.value("sessionwatch_connections_peak") == 3.0


def test_oldest_checkout(shop: Shop) -> None:
    """The oldest check-out is told as a time of day, and the present time while there is none."""
    before = time.time()
    shop.hold()
    after = time.time()
    oldest = shop.value("sessionwatch_oldest_checkout_timestamp_seconds")
    assert oldest is not None
    assert before - 0.1 <= oldest <= after + 0.1
    again = shop.value("sessionwatch_oldest_checkout_timestamp_seconds")
    assert again is not None
    assert abs(again - oldest) < 0.1
    shop.give_back()
    none = shop.value("sessionwatch_oldest_checkout_timestamp_seconds")
    assert none is not None
    assert none >= after


def test_ignored_engine_has_no_series(shop: Shop) -> None:
    """An engine that is ignored is in no metric."""
    shop.watch.ignore(shop.engine)
    shop.hold()
    assert shop.value("sessionwatch_connections", state="used") is None
    assert shop.value("sessionwatch_connection_wait_seconds_count") is None


def test_engine_is_named_without_secrets(shop: Shop) -> None:
    """An engine is named by its database alone, and by nothing else of its URL."""
    engine = sa.create_engine(
        "sqlite:///file:other?mode=memory&uri=true&key=hidden", poolclass=sa.pool.QueuePool
    )
    engine.connect().close()
    assert shop.value("sessionwatch_connection_use_seconds_count", engine="file:other") == 1.0
    assert b"hidden" not in exposition.generate_latest(shop.registry)
    engine.dispose()


# Registries


def test_every_registry_counts(shop: Shop) -> None:
    """With two registries each counts all that has ended, and neither takes it from the other."""
    registry = CollectorRegistry()
    app = flask.Flask("other")
    app.config["SESSIONWATCH_TICK"] = 3600  # or the watchdog may be about to count when the test looks
    other = SessionWatch(app, sinks=[], registry=registry)
    try:
        shop.engine.connect().close()
        assert shop.value("sessionwatch_connection_use_seconds_count") == 1.0
        labels = {"engine": shop.name}
        assert registry.get_sample_value("sessionwatch_connection_use_seconds_count", labels) == 1.0
    finally:
        other.close()


@pytest.fixture
def other(shop: Shop) -> Iterator[tuple[flask.Flask, SessionWatch]]:
    """A second application that leaks, and its watch, in the same registry."""
    app = flask.Flask("other")
    app.config.update(TESTING=True, SESSIONWATCH_TICK=3600)

    @app.get("/")
    def leak() -> str:
        shop.hold()
        return "leaked"

    watch = SessionWatch(app, sinks=[], registry=shop.registry)
    yield app, watch
    watch.close()


def test_applications_share_a_registry(shop: Shop, other: tuple[flask.Flask, SessionWatch]) -> None:
    """The findings of two applications in one registry add up, and stay when one of them is closed."""
    app, watch = other
    labels = {"code": "SW101", "rule": "leaked-connection", "level": "error"}
    app.test_client().get("/", buffered=True)
    shop.view(shop.hold, "/leak")
    assert shop.value("sessionwatch_findings_total", **labels) == 2.0
    watch.close()
    assert shop.value("sessionwatch_findings_total", **labels) == 2.0
    shop.view(shop.hold, "/leak")
    assert shop.value("sessionwatch_findings_total", **labels) == 3.0


def test_last_findings_of_a_closed_watch(shop: Shop, other: tuple[flask.Flask, SessionWatch]) -> None:
    """What was found between the last tick and close() is not lost to a registry that others use."""
    app, watch = other
    app.test_client().get("/", buffered=True)
    watch.close()
    labels = {"code": "SW101", "rule": "leaked-connection", "level": "error"}
    assert shop.value("sessionwatch_findings_total", **labels) == 1.0


def test_close_takes_the_metrics_out(shop: Shop) -> None:
    """After close() the registry tells nothing that nobody keeps up to date."""
    shop.hold()
    shop.watch.tick()
    shop.watch.close()
    assert [family.name for family in shop.registry.collect()] == []


def test_registry_can_be_used_again(shop: Shop) -> None:
    """A second watch after the first may use the same registry, and counts from 0."""
    shop.view(shop.hold, "/leak")
    shop.watch.close()
    shop.watch = SessionWatch(shop.app, sinks=[], registry=shop.registry)
    labels = {"code": "SW101", "rule": "leaked-connection", "level": "error"}
    assert shop.value("sessionwatch_findings_total", **labels) == 0.0
    shop.app.test_client().get("/leak", buffered=True)
    assert shop.value("sessionwatch_findings_total", **labels) == 1.0


def test_unregister_is_idempotent() -> None:
    """Metrics can be taken out of their registry twice, and made anew."""
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.unregister()
    metrics.unregister()
    Metrics(registry)
    assert registry.get_sample_value("sessionwatch_findings_dropped_total") == 0.0


# Several processes

PROGRAM = """
import os
import sys

import flask
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, multiprocess

from flask_sessionwatch import SessionWatch

url = "sqlite:///file:shop?mode=memory&uri=true"
engine = sa.create_engine(url, poolclass=sa.pool.QueuePool, pool_size=5, max_overflow=0)
held = []
app = flask.Flask("shop")
app.config.update(SESSIONWATCH_TICK=3600)
app.add_url_rule("/leak", "leak", lambda: held.append(engine.connect()) or "leaked")
watch = SessionWatch(app, sinks=[])


def leak(times):
    for _ in range(times):
        app.test_client().get("/leak", buffered=True)
    watch.tick()


def value(name, **labels):
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return registry.get_sample_value("sessionwatch_" + name, labels)


leak(1)
child = os.fork()
if child == 0:
    held.clear()
    leak(2)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
leak(1)
found = {"code": "SW101", "rule": "leaked-connection", "level": "error"}
print(value("findings_total", **found))
print(value("scopes_total", scope="GET /leak", kind="request", verdict="error"))
print(value("connections", engine="file:shop", state="used"))
print(value("internal_errors_total"))
multiprocess.mark_process_dead(child)
print(value("connections", engine="file:shop", state="used"))
print(value("findings_total", **found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_multiprocess(tmp_path: Path) -> None:
    """With PROMETHEUS_MULTIPROC_DIR workers add up: counters for good, gauges while their worker lives."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    # The leaks of the parent, 1 + 1, and those of the child, 2; then the child's connections are gone.
    assert done.stdout.split() == ["4.0", "4.0", "4.0", "0.0", "2.0", "4.0"]


@pytest.mark.parametrize("values", [[], [0.0], [0.5, 1.0, 1.0], [0.1, 1.0000001, 7.0, 1e9, float("inf")]])
def test_values_are_observed_at_once(values: list[float]) -> None:
    """A histogram that is given many values at once says what it says when it is given one after the other."""
    together, apart = (Histogram("seconds", "", registry=None, buckets=(0.5, 1.0, 2.5)) for _ in range(2))
    _observe_all(together, values)
    for value in values:
        apart.observe(value)
    assert samples_of(together) == samples_of(apart)


def test_values_are_observed_one_by_one_by_an_unknown_histogram() -> None:
    """Of prometheus_client only what is documented has to stay as it is."""

    class Unknown:
        def __init__(self) -> None:
            self.observed: list[float] = []

        def observe(self, value: float) -> None:
            self.observed.append(value)

    histogram = Unknown()
    _observe_all(histogram, [0.5, 2.0])
    assert histogram.observed == [0.5, 2.0]


def samples_of(histogram: Histogram) -> list[tuple[str, dict[str, str], float]]:
    (family,) = histogram.collect()
    return [(each.name, each.labels, each.value) for each in family.samples if "created" not in each.name]


def test_idle_of_a_locked_pool() -> None:
    """The idle connections of a pool are counted although a thread that was lost in a fork holds its lock."""
    engine = sa.create_engine("sqlite://", poolclass=sa.QueuePool)
    engine.connect().close()
    pool = engine.pool
    assert isinstance(pool, sa.QueuePool)
    counted: list[int] = []
    with pool._pool.mutex:  # type: ignore[attr-defined]
        thread = threading.Thread(target=lambda: counted.append(idle_of(pool)), daemon=True)
        thread.start()
        thread.join(10)
    assert counted == [pool.checkedin()] == [1]
    engine.dispose()


def test_idle_of_other_pools() -> None:
    """A pool of another kind is asked, and one that does not say has none."""
    engine = sa.create_engine("sqlite://", poolclass=sa.NullPool)
    assert idle_of(engine.pool) == 0
