"""What becomes of a watch that cannot go on: no thread, no ticks, more errors than it endures."""

import logging
import threading
import time
import typing as t

import prometheus_client
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch
from flask_sessionwatch.process import Process
from tests.faults.conftest import Watched
from tests.rules.conftest import until
from tests.story import Page

#: The methods of Stacks that every check-out needs.
BREAKABLE = ("capture", "capture_application", "application_call")


@pytest.fixture
def broken(own_process: Process) -> t.Callable[[], None]:
    """Break what every check-out needs, from now on."""

    def fail(*args: object) -> t.NoReturn:
        raise ValueError("broken")

    def breaking() -> None:
        for name in BREAKABLE:
            setattr(own_process.stacks, name, fail)

    return breaking


@pytest.fixture
def repaired(own_process: Process) -> t.Callable[[], None]:
    """Put right what was broken."""

    def repairing() -> None:
        for name in BREAKABLE:
            delattr(own_process.stacks, name)

    return repairing


def asides(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "steps aside" in record.getMessage()]


def checkedout(watched: Watched) -> int:
    """Ask the pool itself."""
    assert isinstance(watched.story.engine.pool, sa.QueuePool)
    return watched.story.engine.pool.checkedout()


def test_ten_errors(
    watched: Watched, unwatched: list[str], broken: t.Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """After ten errors the recorder steps aside and says so once; the application notices nothing of it."""
    watched.begin()
    broken()
    assert watched.story.tell(watched.watch.tick) == unwatched
    (record,) = asides(caplog)
    assert record.levelno == logging.ERROR
    assert len([text for text in caplog.messages if "inside flask_sessionwatch" in text]) <= 10


def test_errors_are_counted_to_the_last(watched: Watched, broken: t.Callable[[], None]) -> None:
    """The metric says that there were ten errors, also once nothing is watched any more."""
    watched.begin()
    broken()
    for _ in range(30):
        watched.story.get("/read")
    assert watched.errors() == 10


def test_nine_errors(
    watched: Watched,
    own_process: Process,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After nine errors it still watches and tells."""
    watched.begin()
    for _ in range(9):
        own_process.recorder.failed("a test")
    watched.story.get("/leak")
    assert {"SW101", "SW201"} <= {finding.code for finding in watched.watch.findings}
    assert asides(caplog) == []


def test_nothing_false_afterwards(watched: Watched, broken: t.Callable[[], None]) -> None:
    """What was open when the recorder stepped aside, and ended unheard, is never told as leaked, long or idle."""
    watched.begin(tick=0.02, idle_in_transaction=0.0, long_checkout=0.0)
    story = watched.story
    ready, go = threading.Event(), threading.Event()

    def work() -> None:
        with orm.Session(story.engine) as session:
            session.add(Page(title="committed unheard"))
            session.flush()
            ready.set()
            go.wait()
            session.commit()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    broken()
    before = len(watched.watch.findings)
    # SQLite has one writer at a time: only reading, until the thread has committed.
    for _ in range(15):
        story.get("/read")
    at_once = len(watched.watch.findings)
    go.set()
    thread.join()
    for _ in range(10):
        watched.watch.tick()
        time.sleep(0.02)
    assert before <= at_once <= before + 2  # the thread that is really idle may be told meanwhile
    assert len(watched.watch.findings) == at_once
    assert checkedout(watched) == 0
    assert "committed unheard" in story.titles()


def test_errors_in_the_middle_of_a_request(
    watched: Watched, own_process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """A request during which the recorder steps aside is not judged by what was heard before."""
    watched.begin()
    story = watched.story

    def view() -> str:
        with orm.Session(story.engine) as session:
            session.add(Page(title="committed unheard"))
            session.flush()
            for _ in range(10):
                own_process.recorder.failed("a test")
            session.commit()
        return "ok"

    story.app.add_url_rule("/middle", view_func=view)
    assert story.get("/middle").endswith("ok")
    for _ in range(3):
        watched.watch.tick()
    assert watched.watch.findings == []
    assert len(asides(caplog)) == 1


def test_begin_anew(
    watched: Watched,
    broken: t.Callable[[], None],
    repaired: t.Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A watch that is begun after another has stepped aside watches again, with ten errors to endure of its own."""
    watched.begin()
    broken()
    for _ in range(15):
        watched.story.get("/read")
    assert watched.errors() == 10
    watched.watch.close()
    repaired()
    watched.begin()
    watched.story.get("/leak")
    assert {"SW101", "SW201"} <= {finding.code for finding in watched.watch.findings}
    broken()
    caplog.clear()
    for _ in range(4):  # two errors each
        watched.story.get("/read")
    assert watched.watch._watched[-1].watching
    assert asides(caplog) == []
    for _ in range(10):
        watched.story.get("/read")
    assert not watched.watch._watched[-1].watching
    assert len(asides(caplog)) == 1
    assert watched.errors() == 20


def test_another_watch_beside_it(
    watched: Watched, broken: t.Callable[[], None], repaired: t.Callable[[], None]
) -> None:
    """A watch that is begun while one that has stepped aside was not closed yet is a new one, with all its hooks."""
    watched.begin()
    broken()
    for _ in range(15):
        watched.story.get("/read")
    repaired()
    another = SessionWatch(registry=prometheus_client.CollectorRegistry())
    try:
        with another.scope("block"), orm.Session(watched.story.engine) as session:
            session.query(Page).first()
        kept = None
        with another.scope("leak"):
            kept = watched.story.engine.connect()
        another.tick()
        assert {"SW404", "SW101"} <= {finding.code for finding in another.findings}
        assert watched.watch.findings == []
        kept.close()
    finally:
        another.close()


def test_pages_afterwards(watched: Watched, broken: t.Callable[[], None]) -> None:
    """The dashboard's pages still answer when nothing is watched any more."""
    watched.begin()
    watched.story.app.testing = True
    broken()
    for _ in range(15):
        watched.story.get("/read")
    for page in ("metrics", "api/v1/live", "api/v1/findings"):
        assert watched.story.get(f"/_sessionwatch/{page}").startswith("200")
    assert "sessionwatch_internal_errors_total 10" in watched.story.get("/_sessionwatch/metrics")


def test_thread_that_cannot_start(
    watched: Watched, unwatched: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no thread can be started, requests, commands and blocks go on, and what scopes leave is still told."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "flask_sessionwatch":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    watched.begin()
    with watched.watch.scope("block"):
        pass
    assert watched.story.tell() == unwatched
    assert {"SW101", "SW201", "SW204"} <= {finding.code for finding in watched.watch.findings}
    assert asides(caplog) == []


def test_tick_that_raises(
    watched: Watched,
    own_process: Process,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A tick that raises ends neither the thread nor the watch of requests."""
    calls: list[int] = []
    prune = own_process.recorder.prune

    def fail_three_times() -> None:
        calls.append(1)
        if len(calls) <= 3:
            raise ValueError("in a tick")
        prune()

    monkeypatch.setattr(own_process.recorder, "prune", fail_three_times)
    watched.begin(tick=0.01)
    watched.story.get("/leak")
    until(lambda: len(calls) > 5)
    assert {"SW101", "SW201"} <= {finding.code for finding in watched.watch.findings}
    assert any("the watchdog" in text for text in caplog.messages)


def test_metrics_that_raise(
    watched: Watched, unwatched: list[str], own_process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics that cannot be counted disturb neither the application, nor what is told, nor close()."""

    def fail(*args: object) -> t.NoReturn:
        raise ValueError("in the metrics")

    watched.begin()
    monkeypatch.setattr(own_process.metrics(watched.registry), "update", fail)
    assert watched.story.tell() == unwatched
    assert {"SW101", "SW201", "SW204"} <= {finding.code for finding in watched.watch.findings}
    watched.watch.close()
    assert not own_process.recorder.active
