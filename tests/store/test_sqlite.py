"""The store in a file: who may read it, what is done to it, and what goes wrong with it."""

import contextlib
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import sqlite
from flask_sessionwatch.store.base import FOLD_ABOVE
from flask_sessionwatch.store.base import FOLD_AFTER
from flask_sessionwatch.store.base import FOLDED
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.sqlite import SQLiteStore
from tests.rules.conftest import until
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker

NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> t.Iterator[SQLiteStore]:
    store = SQLiteStore(str(path))
    yield store
    store.close()


@contextlib.contextmanager
def opened(path: Path) -> t.Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def works(store: SQLiteStore) -> bool:
    """Whether something can be published and read again."""
    mine = worker()
    store.publish(mine, {LIVE: document()}, [report()])
    return mine in [each.worker for each in store.live()] and len(store.findings()) == 1


# For those who only look


def test_reader(path: Path, store: SQLiteStore) -> None:
    """Who only looks sees what is published, also after the last worker has ended, and cannot publish."""
    assert works(store)
    reader = SQLiteStore(str(path), read_only=True)
    assert len(reader.findings()) == len(reader.live()) == 1
    store.close()
    assert len(reader.findings()) == 1
    with pytest.raises(StoreError, match="readonly"):
        reader.publish(worker(), {}, [report("f2")])
    reader.close()


def test_reader_makes_nothing(path: Path) -> None:
    """Who only looks makes no store, and sees one as soon as it is there."""
    reader = SQLiteStore(str(path), read_only=True)
    with pytest.raises(StoreError, match="there is no such file"):
        reader.findings()
    assert not path.exists()
    store = SQLiteStore(str(path))
    assert works(store)
    assert len(reader.findings()) == 1
    reader.close()
    store.close()


def test_reader_leaves_a_damaged_store(path: Path) -> None:
    """Who only looks sets nothing aside, also where the file can only be ours."""
    path.write_bytes(b"something else")
    with pytest.raises(StoreError, match="is left alone"):
        SQLiteStore(str(path), own=True, read_only=True).findings()
    assert path.read_bytes() == b"something else"


def test_reader_of_a_later_version(path: Path, store: SQLiteStore) -> None:
    """A store of a later version is not guessed at by a reader either."""
    assert works(store)
    with opened(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match="another version"):
        SQLiteStore(str(path), read_only=True).findings()


# Whose it is


def test_only_its_owner_may_read_it(path: Path) -> None:
    """The file and its companions are private, whatever the umask."""
    before = os.umask(0)
    try:
        store = SQLiteStore(str(path))
        assert works(store)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        assert modes == {f"store.db{ending}": 0o600 for ending in ("", "-wal", "-shm")}
        store.close()
    finally:
        os.umask(before)


def test_file_that_was_open_to_others(path: Path, store: SQLiteStore) -> None:
    """A store of ours that others may read is closed to them."""
    assert works(store)
    store.close()
    path.chmod(0o644)
    assert works(store)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_it_to_the_folders_owner(tmp_path: Path) -> None:
    """A command that is run as root makes no file that the workers could not write."""
    folder = tmp_path / "instance"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    store = SQLiteStore(str(folder / "store.db"))
    assert works(store)
    assert {each.stat().st_uid for each in folder.iterdir()} == {NOBODY}
    store.close()


def test_relative_path_and_odd_names(tmp_path: Path) -> None:
    """A path may hold what means something in a URL."""
    store = SQLiteStore(str(tmp_path / "50% of? #1 &.db"))
    assert works(store)
    store.close()
    assert [each.name for each in tmp_path.iterdir()] == ["50% of? #1 &.db"]


# Files of others


def test_database_of_somebody_else(path: Path, store: SQLiteStore) -> None:
    """An application's own database is left as it is, with its mode."""
    with opened(path) as connection:
        connection.execute("CREATE TABLE findings (fingerprint, body)")
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"left alone.*SESSIONWATCH_STORE"):
        store.findings()
    assert (before, 0o644) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))


def test_file_that_is_no_database(path: Path, store: SQLiteStore) -> None:
    """A file that was named by mistake is left as it is."""
    path.write_text("import flask\n" * 50)
    with pytest.raises(StoreError, match=r"left alone.*SESSIONWATCH_STORE"):
        store.findings()
    assert path.read_text() == "import flask\n" * 50


def test_file_of_another_version(path: Path, store: SQLiteStore) -> None:
    """A store that a later version has written is left as it is."""
    assert works(store)
    store.close()
    with opened(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"version 99.*left alone.*SESSIONWATCH_STORE"):
        store.findings()
    with opened(path) as connection:
        assert connection.execute("SELECT count(*) FROM findings").fetchone() == (1,)


def test_empty_file(path: Path, store: SQLiteStore) -> None:
    """A file that is there and empty is taken."""
    path.touch()
    assert works(store)


# Damage


def damage(path: Path) -> None:
    """Overwrite all of the file but its header."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(size - 100))


def use_all_of(store: SQLiteStore) -> None:
    """Publish much, twice: what is in memory already is not read again."""
    for _ in range(2):
        store.publish(worker(), {}, [report(f"f{number}") for number in range(500)])
        store.close()


@pytest.mark.parametrize("while_open", [False, True])
def test_damaged_file(
    path: Path, store: SQLiteStore, caplog: pytest.LogCaptureFixture, while_open: bool
) -> None:
    """A store that is damaged is kept beside, and a new one begun; the log says so."""
    assert works(store)
    if not while_open:
        store.close()
    with opened(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    damage(path)
    with pytest.raises(StoreError, match=str(path)):
        use_all_of(store)
    assert works(store)
    assert Path(f"{path}.damaged").stat().st_size > 0
    assert f"it is kept as {path}.damaged" in caplog.text


def test_second_damage_replaces_the_first(path: Path, store: SQLiteStore) -> None:
    """However often it is damaged, only one damaged file is kept."""
    for _ in range(3):
        assert works(store)
        store.close()
        damage(path)
        with pytest.raises(StoreError):
            store.findings()
    assert works(store)
    store.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["store.db", "store.db.damaged"]


def test_damaged_header(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where only our own file can be, it is replaced also when nothing in it can be read any more."""
    path.write_bytes(os.urandom(8192))
    store = SQLiteStore(str(path), own=True)
    assert works(store)
    assert "it is no SQLite database" in caplog.text
    store.close()


def test_file_that_was_deleted(path: Path, store: SQLiteStore) -> None:
    """A store that somebody deletes is begun anew, by everybody who has it open."""
    other = SQLiteStore(str(path))
    assert works(store)
    assert works(other)
    for each in path.parent.iterdir():
        each.unlink()
    assert works(store)
    assert len(other.live()) == 1
    other.close()


def test_folder_that_was_deleted(tmp_path: Path) -> None:
    """Without its folder a store cannot be used, and can again when that is back."""
    folder = tmp_path / "instance"
    folder.mkdir()
    store = SQLiteStore(str(folder / "store.db"))
    assert works(store)
    for each in folder.iterdir():
        each.unlink()
    folder.rmdir()
    with pytest.raises(StoreError, match="No such file"):
        store.findings()
    folder.mkdir()
    assert works(store)
    store.close()


# Others at work


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_file_that_another_process_has_locked(
    path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who does not let go of the lock keeps others from writing, not from reading."""
    monkeypatch.setattr(sqlite, "PATIENCE", 0.05)
    mine = worker()
    store.publish(mine, {LIVE: document()}, [])
    store.close()
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(StoreError, match="locked"):
            store.publish(worker(), {LIVE: document()}, [])
        assert [mine] == [each.worker for each in store.live()]
        process.communicate()
    assert works(store)


def test_writer_that_is_killed(path: Path, store: SQLiteStore) -> None:
    """A worker that is killed in the midst of writing leaves neither a lock nor half of something."""
    assert works(store)
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert works(store)


def test_several_processes_at_once(path: Path) -> None:
    """Workers that begin the same store at the same moment all get into it."""
    children = [os.fork() for _ in range(6) if os.getpid() == _PARENT]
    if os.getpid() != _PARENT:
        os._exit(_publish_often(path))
    assert [os.waitpid(each, 0)[1] for each in children] == [0] * 6
    store = SQLiteStore(str(path))
    (finding,) = store.findings()
    assert [each.occurrences for each in finding.sightings.values()] == [20] * 6
    store.close()


_PARENT = os.getpid()


def _publish_often(path: Path) -> int:
    try:
        store, mine = SQLiteStore(str(path)), worker(str(os.getpid()))
        deadline = time.monotonic() + 30
        for count in range(1, 21):
            while True:
                try:
                    store.publish(mine, {LIVE: document()}, [report(count=count)])
                    break
                except StoreError:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
        return 0
    except BaseException:
        return 1


# Places that cannot be written


def as_nobody(use: t.Callable[[], bool]) -> int:
    """Run *use* in a child process of a user that owns nothing, and return its exit status."""
    child = os.fork()
    if not child:
        status = 2
        with contextlib.suppress(BaseException):
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            status = 0 if use() else 1
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refuses(store: SQLiteStore, why: str) -> bool:
    try:
        store.publish(worker(), {LIVE: document()}, [])
    except StoreError as error:
        return why in str(error)
    return False


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder that everybody can come to."""
    for each in (tmp_path, *tmp_path.parents):
        if each.stat().st_uid == os.geteuid() and each != Path("/"):
            each.chmod(each.stat().st_mode | 0o055)
    return tmp_path


def test_folder_that_may_not_be_written(public: Path) -> None:
    """In a folder of others no store can be made."""
    folder = public / "theirs"
    folder.mkdir()
    folder.chmod(0o555)
    store = SQLiteStore(str(folder / "store.db"))
    assert as_nobody(lambda: refuses(store, "Permission denied")) == 0


def test_file_that_may_not_be_written(public: Path) -> None:
    """A store that others may only read is theirs."""
    folder = public / "theirs"
    folder.mkdir()
    path = folder / "store.db"
    store = SQLiteStore(str(path))
    assert works(store)
    store.close()
    folder.chmod(0o777)
    path.chmod(0o444)
    if os.geteuid() == 0:
        os.chown(path, 0, 0)
    assert as_nobody(lambda: refuses(SQLiteStore(str(path)), "")) == 0


def test_full_disk(path: Path) -> None:
    """When nothing more can be written the store fails, and works again once there is room."""

    def fills_up() -> bool:
        store = SQLiteStore(str(path))
        assert works(store)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = max(each.stat().st_size for each in path.parent.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        reports = [report(f"f{number}", text=os.urandom(4096).hex()) for number in range(50)]
        with pytest.raises(StoreError, match=str(path)):
            store.publish(worker(), {}, reports)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return store.publish(worker(), {}, reports) == 50

    child = os.fork()
    if not child:
        status = 2
        with contextlib.suppress(BaseException):
            status = 0 if fills_up() else 1
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Bounds


def test_file_is_bounded(path: Path) -> None:
    """However much is published, the file does not grow beyond its bound; the newest stays."""
    bound = 512 * 1024
    store = SQLiteStore(str(path), max_bytes=bound)
    start = time.time() - 10_000
    refused = 0
    for number in range(300):
        sent = report(f"f{number}", last=start + number, text=os.urandom(2048).hex())
        documents = {SCOPES: document(text=os.urandom(200).hex())}
        try:
            store.publish(worker(), documents, [sent])
        except StoreError:
            refused += 1
            store.prune()
            store.publish(worker(), documents, [sent])
        assert path.stat().st_size <= bound
    store.prune()
    assert refused > 0
    assert "f299" in {each.fingerprint for each in store.findings()}
    store.close()


def test_room_is_given_back(path: Path, store: SQLiteStore) -> None:
    """What is over is not only deleted: the file shrinks."""
    store.publish(worker(), {SCOPES: document(lifetime=0.01, text=os.urandom(500_000).hex())}, [])
    with opened(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = path.stat().st_size
    until(lambda: not store.documents(SCOPES))
    store.prune()
    with opened(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert path.stat().st_size < before / 2


def test_workers_that_are_long_gone_are_added_together(store: SQLiteStore) -> None:
    """Of a finding that very many workers saw, those that are gone for long are one; the sum stays the same."""
    old = time.time() - FOLD_AFTER - 60
    alive, silent = worker(), worker()
    store.publish(alive, {LIVE: document()}, [report(count=1000, first=old, last=old)])
    store.publish(silent, {}, [report(count=100)])
    for _ in range(FOLD_ABOVE):
        store.publish(worker(), {}, [report(count=1, first=old - 5, last=old)])
    for _ in range(2):
        store.prune()
        (finding,) = store.findings()
        assert set(finding.sightings) == {alive.id, silent.id, FOLDED}
        assert finding.sightings[FOLDED].occurrences == FOLD_ABOVE
        assert finding.sightings[FOLDED].first_seen == old - 5
    for _ in range(FOLD_ABOVE):
        store.publish(worker(), {}, [report(count=2, first=old, last=old)])
    store.prune()
    (finding,) = store.findings()
    assert finding.sightings[FOLDED].occurrences == 3 * FOLD_ABOVE
