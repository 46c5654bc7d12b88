"""How the pools of several workers are used, added up."""

import typing as t

import pytest

from flask_sessionwatch.report.harvest import SECONDS
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.picture import Picture
from tests.store.conftest import document
from tests.store.conftest import worker


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def engine(**changed: t.Any) -> dict[str, t.Any]:
    return {
        "name": "default",
        "dialect": "postgresql",
        "pool": "QueuePool",
        "size": 5,
        "max": 15,
        "overflow": 0,
        "used": 2,
        "idle": 3,
        "waiting": 0,
        "oldest_age_seconds": 1.5,
        **changed,
    }


def used(**changed: t.Any) -> dict[str, t.Any]:
    return {
        "hold": [0.3, 0, 2],
        "wait": [0.0, 2],
        "connect": [0.5, *[0] * 6, 1],
        "timeouts": 1,
        "peak": 4,
        **changed,
    }


def publish(store: MemoryStore, engines: list[t.Any], **totals: t.Any) -> None:
    body: t.Any = {"engines": engines, "sessions": [], "checkouts": [], "omitted": {}}
    store.publish(worker(), {LIVE: document(**body), SCOPES: document(**totals)}, [])


def test_added_up(store: MemoryStore) -> None:
    """Sizes and counts of the workers' pools are added up; of peaks and ages the highest counts."""
    publish(store, [engine()], pools={"default": used()})
    publish(
        store,
        [engine(overflow=2, used=7, idle=0, waiting=3, oldest_age_seconds=9.0)],
        pools={"default": used(peak=7, hold=[100.0, *[0] * len(SECONDS), 1])},
    )
    (pool,) = Picture(store).pools()
    numbers = {name: pool[name] for name in ("size", "max", "overflow", "used", "idle", "waiting", "workers")}
    assert numbers == {
        "size": 10,
        "max": 30,
        "overflow": 2,
        "used": 9,
        "idle": 3,
        "waiting": 3,
        "workers": 2,
    }
    assert (pool["oldest_age_seconds"], pool["peak"], pool["timeouts"]) == (9.0, 7, 2)
    assert (pool["checkouts"], pool["connects"]) == (3, 2)
    assert pool["hold"]["sum"] == 100.3
    assert pool["hold"]["counts"] == [0, 2, *[0] * (len(SECONDS) - 2), 1]
    assert list(pool["hold"]["bounds"]) == list(SECONDS)


def test_without_a_limit(store: MemoryStore) -> None:
    """A pool without a limit, or without a size, has none together with others either."""
    publish(store, [engine(max=None), engine(name="memory", size=None, max=None, oldest_age_seconds=None)])
    publish(store, [engine()])
    default, memory = Picture(store).pools()
    assert (default["size"], default["max"]) == (10, None)
    assert (memory["size"], memory["oldest_age_seconds"], memory["peak"]) == (None, None, 0)


def test_without_a_worker(store: MemoryStore) -> None:
    """What was counted of an engine stays when no worker has it any more."""
    publish(store, [], pools={"gone": used()})
    (pool,) = Picture(store).pools()
    assert (pool["name"], pool["dialect"], pool["workers"], pool["size"]) == ("gone", None, 0, None)
    assert pool["checkouts"] == 2


def test_sites(store: MemoryStore) -> None:
    """Each engine names the lines that held its connections for the longest."""
    rows = [
        ["default", "a.py", 1, "f", 1.0, 1],
        ["default", "b.py", 2, "g", 5.0, 2],
        ["other", "c.py", 3, "h", 9.0, 3],
    ]
    publish(store, [engine()], sites=rows)
    (pool,) = Picture(store).pools()
    assert [each["site"]["filename"] for each in pool["sites"]] == ["b.py", "a.py"]
    assert pool["sites"][0].keys() == {"site", "hold_seconds", "checkouts"}


def test_of_an_older_version(store: MemoryStore) -> None:
    """A worker that counts no pools yet, and knows of no overflow, is added all the same."""
    old = engine()
    del old["overflow"]
    publish(store, [old])
    publish(store, [engine(overflow=1)], pools={"default": used()})
    (pool,) = Picture(store).pools()
    assert (pool["overflow"], pool["used"], pool["checkouts"]) == (1, 4, 2)
