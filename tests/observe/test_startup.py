"""What is checked out while the application is being set up, before there is a watch."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from flask_sessionwatch.observe import startup as startup_module
from flask_sessionwatch.observe.startup import Startup


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
    yield engine
    engine.dispose()


@pytest.fixture
def startup() -> Iterator[Startup]:
    """A look at the start-up that is under way."""
    startup = Startup()
    startup.listen()
    yield startup
    startup.finish()


def listeners() -> set[object]:
    """Return what SQLAlchemy knows of listeners, of any target that is still there."""
    gc.collect()
    return set(event.registry._key_to_collection)


def run(program: str, **environ: str) -> str:
    """Run *program* in a process of its own and return what it says."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_sees_what_is_held(startup: Startup, engine: sa.Engine) -> None:
    """A connection that is still checked out is known with its line and thread."""
    with engine.connect():
        (early,) = startup.finish()
        assert early.record_ref() is not None
        assert early.proxy_ref() is not None
        assert early.holder.is_alive
        functions = [code.co_name for code, _ in early.stack]
        assert "test_sees_what_is_held" in functions


def test_forgets_what_is_returned(startup: Startup, engine: sa.Engine) -> None:
    """A start-up query that returns its connection is none of its business."""
    with engine.connect() as connection:
        connection.execute(sa.text("select 1"))
    assert startup.finish() == []


def test_sees_each_connection(startup: Startup, engine: sa.Engine) -> None:
    """Several connections are several findings to be."""
    with engine.connect(), engine.connect(), engine.connect():
        assert len(startup.finish()) == 3


def test_holds_nothing(startup: Startup, engine: sa.Engine) -> None:
    """It keeps no connection alive: one that is collected is returned as it would have been."""
    engine.connect()
    gc.collect()
    assert startup.finish() == []
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_forgets_what_is_detached(startup: Startup, engine: sa.Engine) -> None:
    """A detached connection is the pool's no more, and its slot is free."""
    connection = engine.connect()
    connection.detach()
    try:
        assert startup.finish() == []
    finally:
        connection.close()


def test_finish_removes_its_listeners(engine: sa.Engine) -> None:
    """Once finished it listens to nothing."""
    before = listeners()
    startup = Startup()
    startup.listen()
    assert before < listeners()
    startup.finish()
    assert before == listeners()
    with engine.connect():
        assert startup.finish() == []


def test_finish_is_idempotent(startup: Startup, engine: sa.Engine) -> None:
    """What is held is handed over once."""
    with engine.connect():
        assert len(startup.finish()) == 1
        assert startup.finish() == []


def test_finish_without_listening() -> None:
    """What never listened has nothing to hand over and nothing to remove."""
    assert Startup().finish() == []


@pytest.mark.parametrize("off", ["0", "false", "No", "OFF", " off ", ""])
def test_off(monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    """When the environment says that nothing is to be watched, nothing is."""
    monkeypatch.setenv("SESSIONWATCH_ENABLED", off)
    before = listeners()
    startup = Startup()
    startup.listen()
    assert before == listeners()
    assert startup.finish() == []


@pytest.mark.parametrize("on", ["1", "true", "YES", "on", "nonsense"])
def test_on(monkeypatch: pytest.MonkeyPatch, on: str) -> None:
    """Anything else is on; what makes no sense is for the settings to refuse."""
    monkeypatch.setenv("SESSIONWATCH_ENABLED", on)
    before = listeners()
    startup = Startup()
    startup.listen()
    try:
        assert before < listeners()
    finally:
        startup.finish()


def test_ends_by_itself(monkeypatch: pytest.MonkeyPatch, engine: sa.Engine) -> None:
    """A process that imports the package and never makes a watch pays for a bounded number of check-outs."""
    monkeypatch.setattr(startup_module, "CHECKOUTS_SEEN", 3)
    startup = Startup()
    startup.listen()
    try:
        for _ in range(3):
            engine.connect().close()
        with engine.connect():
            assert startup.finish() == []
    finally:
        startup.finish()


def test_importing_starts_it() -> None:
    """Importing the package is enough, and listens to the pools alone."""
    program = """
import sqlalchemy as sa
from sqlalchemy import event, orm
from prometheus_client import CollectorRegistry
before = set(event.registry._key_to_collection)
import flask_sessionwatch
added = set(event.registry._key_to_collection) - before
assert sorted(name for _, name, _ in added) == ["checkin", "checkout", "detach"], added
engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
before = set(event.registry._key_to_collection) - added
held = engine.connect()
import flask
app = flask.Flask("shop")
app.config["SESSIONWATCH_APP_PATHS"] = ["/nowhere"]
app.add_url_rule("/", "index", lambda: "ok")
watch = flask_sessionwatch.SessionWatch(app, sinks=[])
assert watch.tick() == []
app.test_client().get("/", buffered=True)
(finding,) = watch.tick()
print(finding.code)
watch.close()
assert set(event.registry._key_to_collection) <= before
held.close()
"""
    assert run(program) == "SW101"


def test_importing_does_nothing_when_off() -> None:
    """With SESSIONWATCH_ENABLED=0 importing and initialising attach nothing at all."""
    program = """
import sqlalchemy as sa
from sqlalchemy import event, orm
before = set(event.registry._key_to_collection)
import flask
import flask_sessionwatch
app = flask.Flask("shop")
watch = flask_sessionwatch.SessionWatch(app)
assert set(event.registry._key_to_collection) == before
assert "__init__" not in vars(sa.exc.TimeoutError)
assert vars(app).get("wsgi_app", app.wsgi_app) == app.wsgi_app
print("nothing")
"""
    assert run(program, SESSIONWATCH_ENABLED="0") == "nothing"
