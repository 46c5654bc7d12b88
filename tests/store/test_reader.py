"""The side of a store that a program reads that is none of its workers."""

import threading
import time
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch.settings import ConfigError
from flask_sessionwatch.store import Store
from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store import publisher
from flask_sessionwatch.store import reader
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.reader import Reader
from flask_sessionwatch.store.reader import read_store
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker


class Slow(MemoryStore):
    """A store that counts how often it is asked, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.asked = 0
        self.error: StoreError | None = None
        self._seconds = seconds

    def documents(self, kind: str) -> list[t.Any]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return super().documents(kind)

    def findings(self) -> list[t.Any]:
        self.asked += 1
        time.sleep(self._seconds)
        if self.error is not None:
            raise self.error
        return super().findings()


@pytest.mark.parametrize("store_url", ["sqlite", "redis"], indirect=True)
def test_reads_what_workers_publish(store: Store, store_url: str) -> None:
    """It sees what is in the store, of every kind."""
    mine = worker()
    store.publish(mine, {LIVE: document(engines=[]), SCOPES: document(scopes=[])}, [report("f1")])
    reading = read_store(store_url)
    assert [each.worker for each in reading.live()] == [mine]
    assert [each.worker for each in reading.documents(SCOPES)] == [mine]
    assert reading.documents(LIVE) == reading.live()
    assert [each.fingerprint for each in reading.findings()] == ["f1"]
    assert (reading.finding("f1"), reading.finding("f2")) == (reading.findings()[0], None)


def test_sees_the_store_appear(tmp_path: Path) -> None:
    """A file that is not there yet is not made, and is read once a worker has made it."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with pytest.raises(StoreError, match="there is no such file; perhaps no worker has published yet"):
        read_store(url).findings()
    assert not list(tmp_path.iterdir())
    store = open_store(url)
    store.publish(worker(), {}, [report("f1")])
    assert len(read_store(url).findings()) == 1
    store.close()


def test_memory_cannot_be_read() -> None:
    """The memory of a worker is an error that says what to do instead."""
    with pytest.raises(ConfigError, match=r"nobody else can read the memory.*publish to a file"):
        read_store("memory:")


def test_one_question_for_all() -> None:
    """Those who ask for the same at the same time share one answer."""
    store = Slow(0.1)
    reading = Reader(store)
    threads = [threading.Thread(target=reading.findings) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert store.asked == 1


def test_answers_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is given again for a moment only."""
    store = Slow()
    reading = Reader(store)
    reading.findings()
    reading.findings()
    assert store.asked == 1
    monkeypatch.setattr(reader, "FRESH_SECONDS", 0.0)
    reading = Reader(store)
    reading.findings()
    reading.findings()
    assert store.asked == 3


def test_what_is_published_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers publish every ten seconds is asked for less often than what they publish every second; a failure is not kept."""
    monkeypatch.setattr(reader, "FRESH_SECONDS", 0.0)
    store = Slow()
    reading = Reader(store)
    store.error = StoreError("gone fishing")
    with pytest.raises(StoreError, match="gone fishing"):
        reading.documents(SCOPES)
    store.error = None
    for _ in range(3):
        assert reading.documents(SCOPES) == []
    assert store.asked == 2
    for _ in range(3):
        reading.live()
    assert store.asked == 5


def test_patience(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for an answer that takes longer than a worker would wait for it."""
    store = Slow(publisher.PATIENCE + 0.2)
    store.publish(worker(), {}, [report("f1")])
    monkeypatch.setattr(reader, "open_to_read", lambda url: store)
    assert len(read_store("sqlite:////nowhere").findings()) == 1


def test_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows since when the store does not answer, and that it is back."""
    monkeypatch.setattr(reader, "FRESH_SECONDS", 0.0)
    store = Slow()
    reading = Reader(store)
    assert reading.away_seconds == 0.0
    store.error = StoreError("gone fishing")
    for _ in range(2):
        with pytest.raises(StoreError, match="gone fishing"):
            reading.findings()
    first = reading.away_seconds
    assert first > 0.0
    assert reading.away_seconds > first
    assert str(reading.problem) == "gone fishing"
    store.error = None
    reading.findings()
    assert (reading.away_seconds, reading.problem) == (0.0, None)
