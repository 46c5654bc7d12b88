"""Signals: who hears what, from which application, and what happens if a receiver fails."""

import contextlib
import gc
import typing as t
import weakref
from collections.abc import Iterator

import blinker
import flask
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from flask_sessionwatch import Finding
from flask_sessionwatch import SessionWatch
from flask_sessionwatch import finding_reported
from flask_sessionwatch import finding_resolved
from flask_sessionwatch import scope_ended
from flask_sessionwatch.report.signals import SignalSink

Heard: t.TypeAlias = "list[tuple[t.Any, dict[str, t.Any]]]"


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
    yield engine
    engine.dispose()


@pytest.fixture
def held() -> Iterator[list[sa.Connection]]:
    """Connections that views leave checked out; closed at the end."""
    held: list[sa.Connection] = []
    yield held
    for connection in held:
        connection.close()


@pytest.fixture
def app(engine: sa.Engine, held: list[sa.Connection]) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config.update(TESTING=True, SESSIONWATCH_TICK=3600)

    @app.get("/")
    def healthy() -> str:
        return "ok"

    @app.get("/leak/<int:number>")
    def leak(number: int) -> str:
        held.append(engine.connect())
        return "leaked"

    @app.get("/fail")
    def fail() -> tuple[str, int]:
        return "failed", 503

    return app


@pytest.fixture
def watch(app: flask.Flask) -> Iterator[SessionWatch]:
    watch = SessionWatch(app, sinks=[], registry=CollectorRegistry())
    yield watch
    watch.close()


@contextlib.contextmanager
def hearing(signal: blinker.Signal) -> Iterator[Heard]:
    """Collect what *signal* sends."""
    heard: Heard = []

    def receive(sender: t.Any, **data: t.Any) -> None:
        heard.append((sender, data))

    with signal.connected_to(receive):
        yield heard


@contextlib.contextmanager
def failing(signal: blinker.Signal) -> Iterator[None]:
    """Connect a receiver that raises."""

    def receive(sender: t.Any, **data: t.Any) -> None:
        raise RuntimeError("a receiver's own bug")

    with signal.connected_to(receive):
        yield


@pytest.mark.parametrize(
    ("signal", "name"),
    [
        (finding_reported, "finding-reported"),
        (finding_resolved, "finding-resolved"),
        (scope_ended, "scope-ended"),
    ],
)
def test_names(signal: blinker.NamedSignal, name: str) -> None:
    """Signals are named in the past tense."""
    assert name == signal.name


def test_finding_reported(app: flask.Flask, watch: SessionWatch) -> None:
    """A finding is sent, by the application, before the request's end returns."""
    with hearing(finding_reported) as heard:
        app.test_client().get("/leak/7", buffered=True)
    ((sender, data),) = heard
    assert sender is app
    assert {"finding": watch.findings[0]} == data


def test_finding_reported_when_due(app: flask.Flask, watch: SessionWatch) -> None:
    """The same bug is sent at its 1st and 10th occurrence."""
    with hearing(finding_reported) as heard:
        for number in range(5):
            app.test_client().get(f"/leak/{number}", buffered=True)
    assert len(heard) == 1
    assert watch.findings[0].count == 5


def test_finding_reported_is_sent_beside_other_sinks(app: flask.Flask) -> None:
    """Choosing sinks does not turn the signals off."""
    told: list[Finding] = []
    watch = SessionWatch(app, sinks=[told.append], registry=CollectorRegistry())
    try:
        with hearing(finding_reported) as heard:
            app.test_client().get("/leak/1", buffered=True)
        assert len(heard) == 1
        assert told == []
        watch.tick()
        assert len(told) == 1
    finally:
        watch.close()


def test_finding_resolved(app: flask.Flask, watch: SessionWatch, held: list[sa.Connection]) -> None:
    """When what was leaked comes back, its finding is sent with the seconds it was held."""
    with hearing(finding_resolved) as heard:
        app.test_client().get("/leak/1", buffered=True)
        watch.tick()
        assert heard == []
        held.pop().close()
        watch.tick()
        watch.tick()
    ((sender, data),) = heard
    assert sender is app
    assert data["finding"] is watch.findings[0]
    assert data["finding"].resolved
    assert 0.0 <= data["seconds"] < 60.0
    assert set(data) == {"finding", "seconds"}


@pytest.mark.parametrize(
    ("path", "name", "status", "verdict"),
    [
        ("/", "GET /", 200, "clean"),
        ("/fail", "GET /fail", 503, "clean"),
        ("/nowhere", "GET <unmatched>", 404, "clean"),
        ("/leak/7", "GET /leak/<int:number>", 200, "error"),
    ],
)
def test_scope_ended(
    app: flask.Flask, watch: SessionWatch, path: str, name: str, status: int, verdict: str
) -> None:
    """Every request is sent as it ends, healthy or not, with its name, status, commits and verdict."""
    with hearing(scope_ended) as heard:
        app.test_client().get(path, buffered=True)
    ((sender, data),) = heard
    scope = data["scope"]
    assert sender is app
    assert (name, "request", status, 0, verdict) == (
        scope.name,
        scope.kind,
        scope.status,
        scope.commits,
        scope.verdict,
    )


def test_scope_ended_for_a_block(app: flask.Flask, watch: SessionWatch) -> None:
    """An explicit scope is sent too."""
    with hearing(scope_ended) as heard, watch.scope("nightly import"):
        assert heard == []
    assert [(data["scope"].name, data["scope"].kind) for _, data in heard] == [("nightly import", "explicit")]


def test_signals_of_one_application(app: flask.Flask, watch: SessionWatch) -> None:
    """A receiver may listen to one application of several."""
    other = flask.Flask("other")
    other_watch = SessionWatch(other, sinks=[], registry=CollectorRegistry())
    heard = []

    def receive(sender: flask.Flask, scope: t.Any) -> None:
        heard.append(scope.name)

    try:
        with scope_ended.connected_to(receive, sender=app):
            app.test_client().get("/", buffered=True)
            other.test_client().get("/", buffered=True)
    finally:
        other_watch.close()
    assert heard == ["GET /"]


def test_nothing_is_sent_after_close(app: flask.Flask) -> None:
    """A watch that was closed is silent."""
    SessionWatch(app, sinks=[], registry=CollectorRegistry()).close()
    with hearing(scope_ended) as ended, hearing(finding_reported) as reported:
        app.test_client().get("/leak/1", buffered=True)
    assert ended == []
    assert reported == []


# Receivers that fail


@pytest.mark.parametrize("signal", [finding_reported, scope_ended])
def test_receiver_that_raises(app: flask.Flask, watch: SessionWatch, signal: blinker.Signal) -> None:
    """An error in a receiver reaches neither the request nor the findings."""
    with failing(signal):
        assert app.test_client().get("/leak/1", buffered=True).status_code == 200
    assert [(each.code, each.count) for each in watch.findings] == [("SW101", 1)]


def test_resolved_receiver_that_raises(
    app: flask.Flask, watch: SessionWatch, held: list[sa.Connection]
) -> None:
    """An error in a receiver of ``finding_resolved`` does not cut the tick short."""
    app.test_client().get("/leak/1", buffered=True)
    held.pop().close()
    with failing(finding_resolved):
        watch.tick()
    assert watch.findings[0].resolved


def test_scope_receiver_that_raises_does_not_hide_the_scope(app: flask.Flask) -> None:
    """A request whose receiver failed is counted among the requests all the same."""
    registry = CollectorRegistry()
    watch = SessionWatch(app, sinks=[], registry=registry)
    try:
        with failing(scope_ended):
            app.test_client().get("/", buffered=True)
        watch.tick()
        labels = {"scope": "GET /", "kind": "request", "verdict": "clean"}
        assert registry.get_sample_value("sessionwatch_scopes_total", labels) == 1.0
    finally:
        watch.close()


def test_signal_sink_is_immediate() -> None:
    """A signal is sent where the finding is reported, and not later on another thread."""
    assert SignalSink(None).immediate


def test_signals_do_not_keep_the_application() -> None:
    """An application that was dropped without a word is collected, for all that its signals name it as sender."""
    app = flask.Flask("dropped")
    watch = SessionWatch(app, sinks=[], registry=CollectorRegistry())
    watch.close()
    gone: list[bool] = []
    finalizer = weakref.finalize(app, gone.append, True)
    del app, watch
    gc.collect()
    assert gone == [True]
    assert not finalizer.alive
