"""What workers tell of themselves, put together."""

import time
import typing as t

import pytest

from flask_sessionwatch.finding import MINUTES_KEPT
from flask_sessionwatch.store.base import ABOUT
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import Published
from flask_sessionwatch.store.base import Worker
from flask_sessionwatch.store.fleet import ABOUT_FIELDS
from flask_sessionwatch.store.fleet import GONE_SECONDS
from flask_sessionwatch.store.fleet import fleet_rows
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.picture import Picture
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def about(**changed: t.Any) -> t.Any:
    return document(**{**dict.fromkeys(ABOUT_FIELDS), "python": "3.13.1", **changed})


def test_fleet(store: MemoryStore) -> None:
    """Workers that live come first; one that took leave is shown for a while as gone."""
    here, left = worker("alpha"), worker("beta")
    for each in (here, left):
        store.publish(each, {LIVE: document(), ABOUT: about(self_seconds=1.5)}, [])
    store.leave(left)
    rows = Picture(store).fleet()
    assert [(each["host"], each["live"]) for each in rows] == [("alpha", True), ("beta", False)]
    assert [(each["python"], each["self_seconds"]) for each in rows] == [("3.13.1", 1.5)] * 2
    assert rows[0].keys() == {"host", "pid", "live", "started_at", "seen_at", *ABOUT_FIELDS}


def test_worker_that_has_told_nothing_yet(store: MemoryStore) -> None:
    """A worker that only just lives, or speaks an older version, is shown with what is known."""
    store.publish(worker("alpha"), {LIVE: document()}, [])
    (row,) = Picture(store).fleet()
    assert (row["live"], row["python"]) == (True, None)


def test_gone_for_long() -> None:
    """Whoever was not heard for long is shown no more; of the others the latest comes first."""
    now = time.time()
    silent = {"alpha": GONE_SECONDS + 5, "beta": 60.0, "gamma": 30.0}
    told = [Published(worker(host), now - seconds, {}) for host, seconds in silent.items()]
    assert [each["host"] for each in fleet_rows([], told)] == ["gamma", "beta"]


def test_recent(store: MemoryStore) -> None:
    """What workers saw in the same minute is added up; what is out of the last hour is left out."""
    minute = int(time.time() // 60)
    minutes = {"f1": [[minute, 2], [minute - 59, 5], [minute - 60, 7], [minute + 60, 9]], "f2": [[minute, 1]]}
    store.publish(worker(), {ABOUT: about(recent=minutes)}, [report("f1"), report("f3")])
    store.publish(worker(), {ABOUT: about(recent={"f1": [[minute, 3]]})}, [report("f1")])
    rows = {each["fingerprint"]: each["recent"] for each in Picture(store).listing()["findings"]}
    # A minute may have passed meanwhile.
    assert rows["f1"][-2:] in ([0, 5], [5, 0])
    assert len(rows["f1"]) == MINUTES_KEPT
    assert sum(rows["f1"]) in (5, 10)
    assert rows["f3"] == [0] * MINUTES_KEPT
    one = Picture(store).finding("f1")
    assert one is not None
    assert sum(one["recent"]) in (5, 10)


def test_in_force(store: MemoryStore) -> None:
    """The worker that was started last says which rules are on: after a deployment, that is what counts."""
    assert Picture(store).in_force() is None
    old, new = Worker("alpha", 10_000_001, 100.0), Worker("alpha", 10_000_002, 200.0)
    store.publish(new, {ABOUT: about(in_force={"codes": ["SW101"], "ignored": {}, "limits": {}})}, [])
    store.publish(old, {ABOUT: about(in_force={"codes": ["SW102"], "ignored": {}, "limits": {}})}, [])
    store.publish(worker(), {ABOUT: about()}, [])
    assert Picture(store).in_force() == {"codes": ["SW101"], "ignored": {}, "limits": {}}


def test_counts_by_code(store: MemoryStore) -> None:
    """A rule's findings are counted, and those that are open still; known ones are not open."""
    store.publish(
        worker(),
        {},
        [report("a"), report("b", resolved=True), report("c", known=True), report("d", code="SW9")],
    )
    assert Picture(store).counts_by_code() == {
        "SW101": {"open": 1, "total": 3},
        "SW9": {"open": 1, "total": 1},
    }
