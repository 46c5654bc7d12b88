"""Every application of the process is watched, and none of them was changed for it."""

import gc
import threading
import time
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import flask
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from flask_sessionwatch import ConfigError
from flask_sessionwatch import Finding
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.everywhere import Everywhere

ORIGINALS = flask.Flask.__call__, flask.Flask.app_context


class EveryTime(list[Finding]):
    """A sink that is told of each occurrence."""

    every_time = True

    def __call__(self, finding: Finding) -> None:
        self.append(finding)


@pytest.fixture
def told() -> EveryTime:
    return EveryTime()


@pytest.fixture
def refused() -> list[tuple[flask.Flask, Exception]]:
    return []


@pytest.fixture
def everywhere(told: EveryTime, refused: list[t.Any]) -> Iterator[Everywhere]:
    watch = SessionWatch(sinks=[told], registry=CollectorRegistry())
    everywhere = Everywhere(watch, [told], lambda app, error: refused.append((app, error)))
    everywhere.start()
    yield everywhere
    everywhere.stop()


@pytest.fixture
def held() -> Iterator[list[sa.Connection]]:
    """What the views leave checked out."""
    held: list[sa.Connection] = []
    yield held
    for connection in held:
        connection.close()


@pytest.fixture
def app(held: list[sa.Connection]) -> Iterator[flask.Flask]:
    """An application that leaks and knows nothing of a watch. It was made before there was one."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
    app = flask.Flask("shop")
    app.config.update(SESSIONWATCH_STORE="memory:", SESSIONWATCH_TICK=3600)

    @app.get("/leak")
    def leak() -> str:
        held.append(engine.connect())
        return "leaked"

    yield app
    engine.dispose()


def leak(app: flask.Flask) -> int:
    return app.test_client().get("/leak", buffered=True).status_code


def codes(findings: t.Iterable[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def own_watch(app: flask.Flask) -> SessionWatch:
    return SessionWatch(app, sinks=[], registry=CollectorRegistry())


def test_watched_from_the_first_request(app: flask.Flask, everywhere: Everywhere) -> None:
    """An application is watched when it answers its first request."""
    assert "sessionwatch" not in app.extensions
    assert leak(app) == 200
    assert codes(everywhere.watch.findings) == ["SW101"]


def test_first_requests_at_once(
    app: flask.Flask, everywhere: Everywhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that comes while the application is about to be watched waits until it is."""
    begun = threading.Event()
    init_app = SessionWatch.init_app

    def slow(watch: SessionWatch, app: flask.Flask) -> None:
        begun.set()
        time.sleep(0.2)  # in which the second would have come through
        init_app(watch, app)

    monkeypatch.setattr(SessionWatch, "init_app", slow)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(leak, app)
        begun.wait()
        second = threads.submit(leak, app)
        assert [first.result(), second.result()] == [200, 200]
    scopes = {(each.scope.name, each.count) for each in everywhere.watch.findings if each.scope}
    assert scopes == {("GET /leak", 2)}


def test_settings_of_later(app: flask.Flask, everywhere: Everywhere) -> None:
    """What an application is told between its making and its first use counts."""
    app.config["SESSIONWATCH_IGNORE"] = ["SW101"]
    leak(app)
    assert everywhere.watch.findings == []


def test_app_context(app: flask.Flask, everywhere: Everywhere) -> None:
    """An application is watched when it is first asked for an app context."""
    with app.app_context():
        assert app.extensions["sessionwatch"] is everywhere.watch


def test_told_every_time(app: flask.Flask, everywhere: Everywhere, told: EveryTime) -> None:
    """Who wants to be is told of each occurrence, and not only of the first and the tenth."""
    for _ in range(3):
        leak(app)
    assert codes(told) == ["SW101"] * 3
    assert [finding.count for finding in everywhere.watch.findings] == [3]


@pytest.mark.usefixtures("everywhere")
def test_watch_of_its_own(app: flask.Flask, told: EveryTime) -> None:
    """An application that has a watch keeps it; who listens to all applications is told, too."""
    watch = own_watch(app)
    leak(app)
    leak(app)
    assert app.extensions["sessionwatch"] is watch
    assert codes(watch.findings) == ["SW101"]
    assert codes(told) == ["SW101"] * 2
    watch.close()


def test_watch_of_its_own_that_comes_later(app: flask.Flask, everywhere: Everywhere, told: EveryTime) -> None:
    """An application that makes its watch only after its first use gets it, with one middleware and not two."""
    with app.app_context():
        assert app.extensions["sessionwatch"] is everywhere.watch
    watch = own_watch(app)
    leak(app)
    assert app.extensions["sessionwatch"] is watch
    assert codes(watch.findings) == codes(told) == ["SW101"]
    assert everywhere.watch.findings == []
    watch.close()
    leak(app)
    assert codes(everywhere.watch.findings) == ["SW101"], "watched again, once it has no watch any more"


def test_two_watches_of_its_own(app: flask.Flask) -> None:
    """Only the watch for all gives way: an application that makes two is told so."""
    watch = own_watch(app)
    with pytest.raises(RuntimeError, match="already"):
        own_watch(app)
    watch.close()


def test_silly_setting(app: flask.Flask, everywhere: Everywhere, refused: list[t.Any]) -> None:
    """An application that cannot be watched works on; whoever asked for the watch is told, once."""
    app.config["SESSIONWATCH_TIK"] = 1
    assert (leak(app), leak(app)) == (200, 200)
    ((refused_app, error),) = refused
    assert refused_app is app
    assert isinstance(error, ConfigError)
    assert everywhere.watch.findings == []


def test_own_pages(app: flask.Flask, everywhere: Everywhere) -> None:
    """The pages of the watch are not watched."""
    app.testing = True
    leak(app)
    assert app.test_client().get("/_sessionwatch/healthz").status_code < 500
    assert list(everywhere.watch._by_app) == [app]


def test_dropped_applications(everywhere: Everywhere) -> None:
    """Hundreds of applications, as test suites make them, leave nothing behind but what was found in them."""
    for _ in range(20):
        flask.Flask("brief").app_context()
    gc.collect()
    flask.Flask("last").app_context()
    assert len(everywhere.watch._watched) <= 2


def test_stop(app: flask.Flask, everywhere: Everywhere) -> None:
    """Stopped, it takes itself off the applications and off Flask."""
    leak(app)
    everywhere.stop()
    assert "sessionwatch" not in app.extensions
    assert (flask.Flask.__call__, flask.Flask.app_context) == ORIGINALS


def test_stop_wrapped_in_turn(
    app: flask.Flask, everywhere: Everywhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that somebody else has wrapped meanwhile stays, and does nothing any more."""
    ours = flask.Flask.__call__

    def wrapped(app: flask.Flask, *args: t.Any) -> t.Any:
        return ours(app, *args)

    monkeypatch.setattr(flask.Flask, "__call__", wrapped)
    everywhere.stop()
    assert flask.Flask.__call__ is wrapped
    assert leak(app) == 200
    assert "sessionwatch" not in app.extensions
