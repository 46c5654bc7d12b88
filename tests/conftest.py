"""Databases for every test that asks for one."""

import contextlib
import gc
import os
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from xdist.scheduler import LoadScopeScheduling

from tests import databases

# What a test watches is nobody else's to see, and leaves no file behind. Programs that are started inherit it.
os.environ.setdefault("SESSIONWATCH_STORE", "memory:")

#: Files whose tests share what takes long to make: a shop and who watches it, a shop and a browser; the distributions.
TOGETHER = {
    "tests/alerting/test_shop.py",
    "tests/browser/test_dashboard.py",
    "tests/browser/test_extremes.py",
    "tests/test_packaging.py",
}


class Schedule(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out tests one by one to the processes of pytest-xdist, and files that stay together as a whole."""

    def _split_scope(self, nodeid: str) -> str:
        file, *_ = nodeid.partition("::")
        return file if file in TOGETHER else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: t.Any) -> Schedule:
    return Schedule(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are processors: tests wait for servers as much as they compute."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let every garbage collection to come pass over what was imported and collected before the first test."""
    gc.collect()
    gc.freeze()


class Servers:
    """The servers of this run; each is found or started when first asked for."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self._stack = stack
        self._found: dict[str, databases.Server | str] = {"sqlite": databases.SQLite(folder)}

    def get(self, name: str) -> databases.Server:
        """Return the server, or skip the test that needs it; with CI set, nothing may be missing."""
        server = self.find(name)
        if isinstance(server, str):
            self.refuse(server)
        return server

    @staticmethod
    def refuse(reason: str) -> t.NoReturn:
        """Skip a test for whose server there is none; with CI set, fail it."""
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    def find(self, name: str) -> databases.Server | str:
        """Return the server, or why there is none."""
        if name not in self._found:
            try:
                self._found[name] = self._stack.enter_context(databases.SERVERS[name]())
            except databases.Unavailable as error:
                self._found[name] = str(error)
        return self._found[name]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Servers]:
    """Every kind of server by its name: sqlite, postgresql, mariadb."""
    with contextlib.ExitStack() as stack:
        yield Servers(stack, tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(params=["sqlite", "postgresql", "postgresql_psycopg2", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of this test's own, on each kind of server and by each driver in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def sqlite_url(servers: Servers) -> t.Iterator[str]:
    """The URL of an empty SQLite file of this test's own."""
    with _disposable(servers.get("sqlite")) as url:
        yield url


@pytest.fixture
def postgresql_url(servers: Servers) -> t.Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    with _disposable(servers.get("postgresql")) as url:
        yield url


@pytest.fixture
def postgresql_psycopg2_url(postgresql_url: str) -> str:
    """The URL of an empty PostgreSQL database of this test's own, which psycopg2 is to connect to."""
    url = sa.make_url(postgresql_url).set(drivername="postgresql+psycopg2")
    return url.render_as_string(hide_password=False)


@pytest.fixture
def mariadb_url(servers: Servers) -> t.Iterator[str]:
    """The URL of an empty MariaDB database of this test's own."""
    with _disposable(servers.get("mariadb")) as url:
        yield url


@contextlib.contextmanager
def _disposable(server: databases.Server) -> t.Iterator[str]:
    url = server.create()
    try:
        yield url
    finally:
        server.drop(url)
