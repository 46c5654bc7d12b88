"""A store that fails: the application never notices, the watch goes on, and all is put right when the store is back."""

import contextlib
import sqlite3
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch import member
from flask_sessionwatch.process import Process
from flask_sessionwatch.store import Store
from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store import publisher
from flask_sessionwatch.store import reports
from flask_sessionwatch.store import sqlite
from tests import redis_servers
from tests.faults.conftest import Watched
from tests.rules.conftest import until
from tests.store.test_sqlite import LOCK
from tests.store.test_sqlite import damage
from tests.story import Story


class Trouble(t.Protocol):
    """Something that happens to a store."""

    url: str

    def begin(self) -> None:
        """Let it happen."""

    def end(self) -> None:
        """Repair it."""


class Folder:
    """A store in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "store.db"
        self.url = f"sqlite:///{self.path}"

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


class Missing(Folder):
    """Its folder is away."""

    def begin(self) -> None:
        self.folder.rename(self.folder.with_suffix(".away"))

    def end(self) -> None:
        self.folder.with_suffix(".away").rename(self.folder)


class Damaged(Folder):
    """It is overwritten; it repairs itself."""

    def begin(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        damage(self.path)


class Deleted(Folder):
    """Somebody deletes it; it repairs itself."""

    def begin(self) -> None:
        for each in self.folder.iterdir():
            each.unlink()


class Locked(Folder):
    """Another process does not let go of its lock."""

    def begin(self) -> None:
        command = [sys.executable, "-c", LOCK, str(self.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"locked\n"

    def end(self) -> None:
        self._process.communicate()


class Replaced(Folder):
    """Somebody puts another file into its place."""

    def begin(self) -> None:
        Deleted.begin(t.cast(Deleted, self))
        self.path.write_text("something else " * 100)

    def end(self) -> None:
        self.path.unlink()


class Full(Folder):
    """Nothing can be written any more, as on a full disk."""

    def begin(self) -> None:
        self._writing = sqlite._writing

        def full(connection: sqlite3.Connection) -> t.NoReturn:
            raise sqlite3.OperationalError("database or disk is full")

        sqlite._writing = full

    def end(self) -> None:
        sqlite._writing = self._writing


class Hanging(Folder):
    """The disk does not answer, for as long as it lasts."""

    def begin(self) -> None:
        self._identity, answers = sqlite._identity, threading.Event()
        self.answers = answers

        def hang(path: str) -> t.Any:
            answers.wait()
            return self._identity(path)

        sqlite._identity = hang

    def end(self) -> None:
        sqlite._identity = self._identity
        self.answers.set()


class OnServer:
    """A store on a server."""

    def __init__(self, server: redis_servers.Server) -> None:
        self.server = server
        self.url = f"{server.url}?socket_timeout=0.1&socket_connect_timeout=0.1"


class Killed(OnServer):
    """The server is killed, and comes back empty."""

    def begin(self) -> None:
        self.server.kill()

    def end(self) -> None:
        self.server.start()


class Silent(OnServer):
    """The server does not answer."""

    def begin(self) -> None:
        self.server.pause()

    def end(self) -> None:
        self.server.resume()


class Flushed(OnServer):
    """Somebody empties the server; nothing fails."""

    def begin(self) -> None:
        with self.server.client() as client:
            client.flushall()

    def end(self) -> None:
        pass


class ReadOnly(OnServer):
    """The server becomes a replica of one that is not there."""

    def begin(self) -> None:
        with self.server.client() as client:
            client.replicaof("127.0.0.1", redis_servers.free_port())

    def end(self) -> None:
        with self.server.client() as client:
            client.replicaof("NO", "ONE")


class Crowded(OnServer):
    """The server has no room any more."""

    def begin(self) -> None:
        with self.server.client() as client:
            client.config_set("maxmemory", "1kb")

    def end(self) -> None:
        with self.server.client() as client:
            client.config_set("maxmemory", 0)


FOLDERS = [Missing, Damaged, Deleted, Locked, Replaced, Full, Hanging]
SERVERS = [Killed, Silent, Flushed, ReadOnly, Crowded]
#: What nobody has to repair, and so may be over before anybody has noticed.
BY_THEMSELVES = (Damaged, Deleted, Flushed)


@pytest.fixture(params=[*FOLDERS, *SERVERS], ids=lambda kind: kind.__name__)
def trouble(request: pytest.FixtureRequest, tmp_path: Path) -> t.Iterator[Trouble]:
    if request.param in FOLDERS:
        (tmp_path / "folder").mkdir()
        yield request.param(tmp_path / "folder")
    else:
        with redis_servers.running() as server:
            yield request.param(server)


@pytest.fixture
def store(trouble: Trouble) -> t.Iterator[Store]:
    """The store as another process sees it."""
    store = open_store(trouble.url)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is tried again soon."""
    monkeypatch.setattr(member, "PUBLISH_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "BACK_OFF", (0.02, 0.05))
    monkeypatch.setattr(reports, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(publisher.Publisher.read, "__defaults__", (0.1,))
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    monkeypatch.delenv("SESSIONWATCH_STORE")


@pytest.fixture
def unwatched_twice(servers: t.Any) -> list[list[str]]:
    """What the story is without a watch, and what it is once more."""
    server = servers.get("sqlite")
    url = server.create()
    story = Story(url)
    try:
        return [story.tell(), story.tell()]
    finally:
        story.close()
        server.drop(url)


def test_trouble(
    watched: Watched,
    unwatched_twice: list[list[str]],
    own_process: Process,
    trouble: Trouble,
    store: Store,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The application does what it does without a watch, the pages show what the process knows, and nothing is lost."""
    watched.begin(store=trouble.url)
    assert watched.story.tell(watched.watch.tick) == unwatched_twice[0]
    until(lambda: is_whole(watched, store))
    trouble.begin()
    try:
        assert watched.story.tell(watched.watch.tick) == unwatched_twice[1]
        if not isinstance(trouble, BY_THEMSELVES):
            until(lambda: shown(own_process, watched) == (known(watched), True))
    finally:
        trouble.end()
    until(lambda: is_whole(watched, store))
    until(lambda: shown(own_process, watched) == (known(watched), False))
    assert watched.errors() == 0
    assert sum("cannot be used" in text for text in caplog.messages) <= 1


def is_whole(watched: Watched, store: Store) -> bool:
    """Whether the store has all that the watch has found, after one more tick."""
    watched.watch.tick()
    with contextlib.suppress(StoreError):
        return stored(store) == known(watched)
    return False


def known(watched: Watched) -> dict[str, int]:
    """How often the watch has found what itself."""
    return {each.fingerprint: each.count for each in watched.watch.findings}


def stored(store: Store) -> dict[str, int]:
    """How often the store has heard of what."""
    return {
        each.fingerprint: sum(one.occurrences for one in each.sightings.values()) for each in store.findings()
    }


def shown(process: Process, watched: Watched) -> tuple[dict[str, int], bool]:
    """How often the pages say that what was found, and whether they say that there may be more."""
    picture = process.picture(watched.watch._watched[0])
    found = {each["fingerprint"]: each["count"] for each in picture.findings()}
    return found, picture.problem is not None


def test_dropped_findings_are_counted(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What finds no room while the store is away is in the metric of dropped findings."""
    monkeypatch.setattr(publisher, "PENDING_KEPT", 1)
    watched.begin(store=f"sqlite:///{tmp_path / 'missing' / 'store.db'}")
    watched.story.tell(watched.watch.tick)
    watched.watch.tick()
    dropped = watched.registry.get_sample_value("sessionwatch_findings_dropped_total")
    assert dropped is not None
    assert dropped > 0


def test_tick_does_not_wait(watched: Watched, tmp_path: Path) -> None:
    """While the disk hangs, the watchdog judges as ever."""
    trouble = Hanging(tmp_path)
    watched.begin(store=trouble.url)
    trouble.begin()
    try:
        for _ in range(20):
            watched.story.tell(watched.watch.tick)
        assert not trouble.answers.is_set()
    finally:
        trouble.end()
