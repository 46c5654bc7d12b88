"""Stores of every kind, and workers that publish to them."""

import itertools
import time
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch.store import Document
from flask_sessionwatch.store import Store
from flask_sessionwatch.store import Worker
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.base import Report
from flask_sessionwatch.store.base import Sighting
from tests import redis_servers
from tests.rules.conftest import until

#: Seconds after which nothing in a test is over by itself.
LONG = 60.0

_pids = itertools.count(10_000_000)  # no system has such numbers


_names = map("test{}".format, itertools.count())


def worker(host: str = "alpha") -> Worker:
    """A worker that nobody else is."""
    return Worker(host, next(_pids), round(time.time(), 3))


def report(
    fingerprint: str = "f1",
    *,
    count: int = 1,
    first: float | None = None,
    last: float | None = None,
    resolved: bool = False,
    known: bool = False,
    **body: t.Any,
) -> Report:
    """What a worker says of a finding, with its body."""
    now = time.time()
    sighting = Sighting(
        count, now if first is None else first, now if last is None else last, resolved, known
    )
    return Report(fingerprint, sighting, {"code": "SW101", "message": "Leaked.", **body})


def document(lifetime: float = LONG, **body: t.Any) -> Document:
    return Document(body, lifetime)


@pytest.fixture(params=["memory", "sqlite", "redis", "cluster"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Where an empty store is, of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def memory_url() -> str:
    return "memory:"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture(scope="session")
def redis_server() -> t.Iterator[redis_servers.Server]:
    """A server that no test may stop."""
    with redis_servers.running() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> t.Iterator[redis_servers.Server]:
    """A cluster of one node, which refuses commands on keys of several slots as a large one does."""
    with redis_servers.running("--cluster-enabled", "yes") as server:
        client = server.client()
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        until(lambda: client.cluster("info")["cluster_state"] == "ok")
        client.close()
        yield server


@pytest.fixture
def redis_url(redis_server: redis_servers.Server) -> str:
    return f"{redis_server.url}?namespace={next(_names)}"


@pytest.fixture
def cluster_url(redis_cluster: redis_servers.Server) -> str:
    return f"{redis_cluster.url}?cluster=true&namespace={next(_names)}"


@pytest.fixture
def store(store_url: str) -> t.Iterator[Store]:
    """An empty store of each kind in turn."""
    store = open_store(store_url)
    yield store
    store.close()
