"""Is the watch well, and can the application's pools give out connections?"""

import threading
import typing as t

import pytest
import sqlalchemy as sa

from flask_sessionwatch import extension
from flask_sessionwatch.process import Process
from flask_sessionwatch.store import Worker
from tests.rules.conftest import until
from tests.web.conftest import Watch
from tests.web.test_api import Leaky


@pytest.fixture
def pages(watch: Watch, engine: sa.Engine) -> t.Iterator[Leaky]:
    """An application that keeps what its requests open."""
    pages = Leaky(watch, engine)
    yield pages
    pages.close()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A runtime of the test's own."""
    process = Process()
    monkeypatch.setattr(extension, "_process", process)
    return process


def test_well(pages: Leaky) -> None:
    """A watch that sees everything says so."""
    answer = pages.json("/healthz")
    assert answer == {"status": "ok", "problems": [], "workers": 1, "store": {"problem": None}}


def test_stepped_aside(process: Process, pages: Leaky) -> None:
    """A watch that has stepped aside is not well, and says why; the application may be."""
    for _ in range(20):
        process.recorder.failed("a test")
    answer = pages.get("/healthz")
    assert (answer.status_code, answer.get_json()["status"]) == (503, "failing")
    assert answer.get_json()["problems"] == ["it has stepped aside after ten errors of its own"]
    assert pages.json("/readyz")["status"] == "ready"


def test_ready(pages: Leaky) -> None:
    """Pools that are full, but nobody waits for, are ready."""
    pages.leak("/connection/1")
    pages.leak("/connection/2")
    pages.watch.tick()
    assert pages.json("/readyz") == {"status": "ready", "pools": [], "store": {"problem": None}}


def test_stuck(process: Process, pages: Leaky, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a pool is stuck the application is not ready; the answer names the line that holds it."""
    monkeypatch.setattr(engine.pool, "_timeout", 30)
    monkeypatch.setattr("flask_sessionwatch.observe.pools.STUCK_AFTER", 0.01)
    monkeypatch.setattr("flask_sessionwatch.observe.pools._STUCK_TICKS", 0)
    pages.leak("/connection/1")
    pages.leak("/connection/2")
    waiting = threading.Thread(target=lambda: engine.connect().close())
    waiting.start()
    until(lambda: bool(process.ledger.waiting))
    until(lambda: bool(pages.watch.tick()) and pages.get("/readyz").status_code == 503)
    answer = pages.get("/readyz").get_json()
    (pool,) = answer["pools"]
    assert answer["status"] == "stuck"
    assert pool["engine"] == engine.url.database.rpartition("/")[2]  # type: ignore[union-attr]
    assert pool["message"].startswith("The pool of engine")
    assert pool["site"]["function"] == "leak_connection"
    assert pool["workers"] == [{"host": Worker.this().host, "pid": Worker.this().pid}]
    assert pages.get("/readyz?host=elsewhere").status_code == 200
    pages.close()
    waiting.join()
    pages.watch.tick()
    assert pages.get("/readyz").status_code == 200
