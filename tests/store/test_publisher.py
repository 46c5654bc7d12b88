"""The thread between a process and its store."""

import logging
import os
import threading
import typing as t
from collections.abc import Mapping
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from flask_sessionwatch.store import Document
from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import Worker
from flask_sessionwatch.store import publisher as publishing
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.base import Report
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.publisher import PENDING_KEPT
from flask_sessionwatch.store.publisher import Publisher
from flask_sessionwatch.store.publisher import View
from tests.rules.conftest import until
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker


class Fickle(MemoryStore):
    """A store that fails, hangs and counts as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        #: Cleared, it lets nobody through.
        self.open = threading.Event()
        self.open.set()
        self.threads: set[str] = set()
        self.calls: list[str] = []

    def publish(self, worker: Worker, documents: Mapping[str, Document], reports: Sequence[Report]) -> int:
        self._enter("publish")
        return super().publish(worker, documents, reports)

    def leave(self, worker: Worker) -> None:
        self._enter("leave")
        super().leave(worker)

    def prune(self) -> None:
        self._enter("prune")

    def close(self) -> None:
        self.calls.append("close")

    def findings(self) -> list[t.Any]:
        self._enter("findings")
        return list(super().findings())

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)
        self.open.wait()
        if self.error is not None:
            raise self.error

    @property
    def messages(self) -> dict[str, t.Any]:
        return {each.fingerprint: each.body["message"] for each in super().findings()}


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again soon."""
    monkeypatch.setattr(publishing, "BACK_OFF", (0.01, 0.02))


@pytest.fixture
def store() -> t.Iterator[Fickle]:
    store = Fickle()
    yield store
    store.open.set()


@pytest.fixture
def dropped() -> list[int]:
    return []


@pytest.fixture
def publisher(store: Fickle, dropped: list[int]) -> t.Iterator[Publisher]:
    publisher = Publisher(lambda: store, dropped.append)
    yield publisher
    store.error = None
    store.open.set()
    publisher.stop(5)


def bodies(store: MemoryStore, kind: str = LIVE) -> list[t.Any]:
    return [each.body for each in store.documents(kind)]


# Publishing


def test_publishes_on_its_own_thread(publisher: Publisher, store: Fickle) -> None:
    """What is offered is soon in the store, brought by a thread that does nothing else."""
    mine = worker()
    publisher.offer(mine, {LIVE: document(number=1)}, [report(message="Told.")])
    until(lambda: bodies(store) == [{"number": 1}])
    assert store.messages == {"f1": "Told."}
    assert store.threads == {"flask_sessionwatch.store"}


def test_nothing_is_made_before_it_is_needed(dropped: list[int]) -> None:
    """Without anything to publish there is neither a store nor a thread."""
    before = threading.active_count()
    publisher = Publisher(Fickle, dropped.append)
    publisher.stop(5)
    assert threading.active_count() == before
    assert repr(publisher) == "<Publisher to None>"


def test_a_slow_store_holds_nobody_up(publisher: Publisher, store: Fickle) -> None:
    """While the store hangs, whoever has something to publish goes on; of each document the newest is published."""
    store.open.clear()
    mine = worker()
    publisher.offer(mine, {LIVE: document(number=0)}, [])
    until(lambda: "prune" in store.calls)
    for number in range(1, 4):
        publisher.offer(mine, {LIVE: document(number=number)}, [report(count=number)])
    publisher.offer(mine, {SCOPES: document(number=4)}, [report(count=4)._replace(body=None)])
    store.open.set()
    until(lambda: bodies(store) == [{"number": 3}] and bodies(store, SCOPES) == [{"number": 4}])
    (finding,) = store.findings()
    assert [each.occurrences for each in finding.sightings.values()] == [4]


def test_prunes_at_first_and_not_each_time(publisher: Publisher, store: Fickle) -> None:
    """The store is pruned before the first publication, and again only after a while."""
    for number in range(3):
        publisher.offer(worker(), {LIVE: document(number=number)}, [])
        until(lambda number=number: {"number": number} in bodies(store))  # type: ignore[misc]
    assert store.calls == ["prune", "publish", "publish", "publish"]


def test_findings_that_were_lost(publisher: Publisher, store: Fickle) -> None:
    """A store that has fewer findings than were published has lost some; other workers' do not count against it."""
    store._sightings["theirs"] = {}
    for number in range(3):
        publisher.offer(worker(), {}, [report(f"f{number}")])
        until(lambda number=number: f"f{number}" in store.messages)  # type: ignore[misc]
    assert not publisher.has_lost
    store._sightings.clear()
    publisher.offer(worker(), {}, [report("f3")])
    until(lambda: publisher.has_lost)
    publisher.has_lost = False
    publisher.offer(worker(), {}, [report("f4")])
    until(lambda: "f4" in store.messages)
    publisher.stop(5)
    assert not publisher.has_lost


# Failures


def test_outage(publisher: Publisher, store: Fickle, caplog: pytest.LogCaptureFixture) -> None:
    """An outage is told once, and so is its end, when what waited is in the store."""
    caplog.set_level(logging.INFO, "flask_sessionwatch")
    store.error = StoreError("there is no such place")
    publisher.offer(worker(), {LIVE: document()}, [report()])
    until(lambda: store.calls.count("prune") > 5)
    assert isinstance(publisher.problem, StoreError)
    (told,) = caplog.records
    assert told.levelname == "WARNING"
    for expected in ("SESSIONWATCH_STORE", "there is no such place", str(PENDING_KEPT)):
        assert expected in told.getMessage()
    assert not publisher.has_lost
    store.error = None
    until(lambda: publisher.problem is None)
    assert store.messages == {"f1": "Leaked."}
    until(lambda: len(caplog.records) == 2)
    assert "is back after" in caplog.records[1].getMessage()
    assert "1 findings" in caplog.records[1].getMessage()
    assert publisher.has_lost


def test_a_single_failure_is_not_told(
    publisher: Publisher, store: Fickle, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have held the lock for a moment."""
    caplog.set_level(logging.INFO, "flask_sessionwatch")
    monkeypatch.setattr(publishing, "BACK_OFF", (0.2, 0.2))
    store.error = StoreError("locked")
    publisher.offer(worker(), {LIVE: document()}, [])
    until(lambda: publisher.problem is not None)
    store.error = None
    until(lambda: publisher.problem is None)
    assert [len(bodies(store)), caplog.records] == [1, []]


def test_attempts_become_rarer(dropped: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """After each failure it is waited for twice as long, up to a limit; not every worker waits equally long."""
    monkeypatch.setattr(publishing, "BACK_OFF", (1.0, 30.0))
    monkeypatch.setattr(publishing, "time", SimpleNamespace(monotonic=lambda: 100.0))
    publisher = Publisher(Fickle, dropped.append)
    waits: list[float] = []
    for share in (0.75, 1.25, 1.0, 1.0, 1.0, 1.0, 1.0):
        monkeypatch.setattr(
            publishing, "random", SimpleNamespace(uniform=lambda low, high, share=share: share)
        )
        publisher._failed(StoreError("away"))
        waits.append(publisher._try_at - 100.0)
    assert waits == [0.75, 2.5, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_newer_counts_are_not_overwritten(publisher: Publisher, store: Fickle) -> None:
    """What could not be published waits behind what was offered meanwhile."""
    mine = worker()
    store.error = StoreError("away")
    publisher.offer(mine, {LIVE: document(number=1)}, [report(count=1, message="Old.")])
    until(lambda: publisher.problem is not None)
    publisher.offer(mine, {LIVE: document(number=2)}, [report(count=2)._replace(body=None)])
    store.error = None
    until(lambda: publisher.problem is None)
    until(lambda: bodies(store) == [{"number": 2}])
    (finding,) = MemoryStore.findings(store)
    assert (finding.body["message"], finding.sightings[mine.id].occurrences) == ("Old.", 2)


def test_oldest_findings_are_dropped(publisher: Publisher, store: Fickle, dropped: list[int]) -> None:
    """Beyond a limit those that wait for the longest are dropped, and counted."""
    store.error = StoreError("away")
    mine = worker()
    for number in range(PENDING_KEPT + 10):
        publisher.offer(mine, {}, [report(f"f{number}")])
    assert sum(dropped) == 10
    until(lambda: publisher.problem is not None)
    store.error = None
    until(lambda: len(store.messages) == PENDING_KEPT)
    assert set(store.messages) == {f"f{number}" for number in range(10, PENDING_KEPT + 10)}


def test_error_that_nobody_expected(
    publisher: Publisher, store: Fickle, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug in a store is a failure like any other; its message, in which there may be a password, is not shown."""
    store.error = RuntimeError("redis://:secret@host")
    publisher.offer(worker(), {LIVE: document()}, [])
    until(lambda: len(caplog.records) > 0)
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text + str(publisher.problem)
    store.error = None
    until(lambda: len(bodies(store)) == 1)


def test_store_that_cannot_be_made(dropped: list[int]) -> None:
    """Making the store may fail as well, and is tried again."""
    made: list[Fickle] = []

    def make() -> Fickle:
        made.append(Fickle())
        if len(made) < 3:
            raise OSError("no such folder")
        return made[-1]

    publisher = Publisher(make, dropped.append)
    publisher.offer(worker(), {LIVE: document()}, [])
    until(lambda: len(made) == 3 and len(bodies(made[-1])) == 1)
    publisher.stop(5)


# Reading


def test_read(publisher: Publisher, store: Fickle) -> None:
    """Whoever asks gets what the store has, by its own thread."""
    publisher.offer(worker(), {LIVE: document(number=1), SCOPES: document()}, [report()])
    view = View(publisher)
    until(lambda: [each.body for each in view.live()] == [{"number": 1}])
    assert [each.body for each in view.documents(SCOPES)] == [{}]
    assert [each.fingerprint for each in view.findings()] == ["f1"]
    found = view.finding("f1")
    assert found is not None
    assert found.fingerprint == "f1"
    assert store.threads == {"flask_sessionwatch.store"}


def test_read_without_having_published(publisher: Publisher) -> None:
    """A process that has published nothing can read as well."""
    assert View(publisher).findings() == []


def test_read_error(publisher: Publisher, store: Fickle) -> None:
    """An error goes to who asked, and does not stop the publications."""
    store.error = StoreError("damaged")
    with pytest.raises(StoreError, match="damaged"):
        View(publisher).findings()
    store.error = ValueError("redis://:secret@host")
    with pytest.raises(StoreError, match="ValueError") as caught:
        View(publisher).findings()
    assert "secret" not in str(caught.value)
    assert publisher.problem is None


def test_read_does_not_wait_for_long(publisher: Publisher, store: Fickle) -> None:
    """A page is not held up by a store that hangs."""
    store.open.clear()
    with pytest.raises(StoreError, match="did not answer"):
        publisher.read(lambda store: store.findings(), patience=0.05)


def test_read_of_a_store_that_is_away(publisher: Publisher, store: Fickle) -> None:
    """While the store is known to be away, nobody waits for it at all."""
    store.error = StoreError("away")
    publisher.offer(worker(), {LIVE: document()}, [])
    until(lambda: publisher.problem is not None)
    store.open.clear()
    with pytest.raises(StoreError, match="away"):
        View(publisher).findings()


# The end


def test_stop(publisher: Publisher, store: Fickle) -> None:
    """At the end what waits is published, and what was live is withdrawn."""
    mine = worker()
    publisher.offer(mine, {LIVE: document(), SCOPES: document()}, [report()])
    publisher.stop(5)
    assert store.messages == {"f1": "Leaked."}
    assert [len(bodies(store)), len(bodies(store, SCOPES))] == [0, 1]
    assert store.calls[-2:] == ["leave", "close"]
    publisher.stop(5)


def test_stop_does_not_wait_for_a_store_that_is_away(publisher: Publisher, store: Fickle) -> None:
    """Nothing is tried again at the end of a process."""
    store.error = StoreError("away")
    publisher.offer(worker(), {LIVE: document()}, [])
    until(lambda: publisher.problem is not None)
    store.open.clear()
    publisher.stop(3600)
    assert "leave" not in store.calls


def test_stop_while_the_store_hangs(publisher: Publisher, store: Fickle) -> None:
    """A store that hangs holds up the end for as long as it may, and no longer."""
    store.open.clear()
    publisher.offer(worker(), {LIVE: document()}, [])
    publisher.stop(0.05)
    assert "leave" not in store.calls


# Forks


def test_child_begins_anew(publisher: Publisher, store: Fickle) -> None:
    """A child has a thread and a store of its own, and publishes nothing of its parent's."""
    publisher.offer(worker(), {LIVE: document(whose="parent's")}, [report("parent's")])
    until(lambda: store.messages != {})
    publisher.before_fork()
    child = os.fork()
    if not child:
        os._exit(_child_publishes(publisher))
    publisher.after_fork_in_parent()
    assert os.waitpid(child, 0)[1] == 0
    publisher.offer(worker(), {LIVE: document(whose="still")}, [])
    until(lambda: {"whose": "still"} in bodies(store))


def _child_publishes(publisher: Publisher) -> int:
    try:
        mine = MemoryStore()
        publisher._make = lambda: mine
        publisher.after_fork_in_child()
        publisher.offer(worker(), {LIVE: document(whose="child's")}, [report("child's")])
        until(lambda: bodies(mine) == [{"whose": "child's"}])
        return 0 if [each.fingerprint for each in mine.findings()] == ["child's"] else 1
    except BaseException:
        return 2


def test_fork_waits_for_the_thread(publisher: Publisher, store: Fickle) -> None:
    """A fork does not happen inside of the store; but one that hangs is not waited for."""
    publisher.before_fork()
    publisher.offer(worker(), {LIVE: document()}, [])
    with pytest.raises(StoreError, match="did not answer"):
        publisher.read(lambda store: store.findings(), patience=0.05)
    assert store.calls == []
    publisher.after_fork_in_parent()
    until(lambda: len(bodies(store)) == 1)
    store.open.clear()
    publisher.offer(worker(), {LIVE: document()}, [])
    until(lambda: store.calls.count("publish") == 2)
    publisher.before_fork()
    publisher.after_fork_in_parent()
    store.open.set()
    until(lambda: len(bodies(store)) == 2)
