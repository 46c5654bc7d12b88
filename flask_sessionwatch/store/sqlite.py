"""A store in an SQLite file, for the processes of one host.

The standard library's sqlite3 alone: what goes through SQLAlchemy is watched, and this must not be.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from urllib.parse import quote

from ..report.logs import logger
from .base import FINDING_SECONDS
from .base import FINDINGS_KEPT
from .base import FOLD_ABOVE
from .base import FOLD_AFTER
from .base import FOLDED
from .base import LIVE
from .base import STRANGE
from .base import Document
from .base import Published
from .base import Report
from .base import Sighted
from .base import Sighting
from .base import Store
from .base import StoreError
from .base import Worker
from .base import decode
from .base import decoded_finding
from .base import encode
from .base import merged
from .base import not_understood
from .base import stored_document

#: Says in the file's header that it is ours: "FSWs".
APPLICATION_ID = 0x46535773
#: The version of the tables, which the header has as well.
VERSION = 1
#: How large the file may become.
MAX_BYTES = 64 * 1024 * 1024
#: Seconds to wait for another process to finish its writing.
PATIENCE = 0.5

_HEADER = b"SQLite format 3\0"
_PAGE = 4096

_TABLES = (
    """
    CREATE TABLE documents (
        kind TEXT NOT NULL, worker TEXT NOT NULL, seen_at REAL NOT NULL, until REAL NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (kind, worker)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE findings (fingerprint TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL)",
    """
    CREATE TABLE sightings (
        fingerprint TEXT NOT NULL, worker TEXT NOT NULL, occurrences INTEGER NOT NULL, first_seen REAL NOT NULL,
        last_seen REAL NOT NULL, resolved INTEGER NOT NULL, known INTEGER NOT NULL,
        PRIMARY KEY (fingerprint, worker)
    ) WITHOUT ROWID
    """,
)


class SQLiteStore(Store):
    """Keeps what is published in one file, which several processes share.

    :param path: the file; its folder has to exist when the store is used.
    :param own: whether the path was chosen by flask_sessionwatch itself, so that a damaged file there can only be its own.
    :param max_bytes: how large the file may become.
    :param read_only: whether it is only looked at: nothing is made, changed or set aside.
    """

    def __init__(
        self, path: str, *, own: bool = False, max_bytes: int = MAX_BYTES, read_only: bool = False
    ) -> None:
        self.path = path
        self._own = own
        self._read_only = read_only
        self._max_pages = max_bytes // _PAGE
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._identity: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<SQLiteStore {self.path}>"

    # Writing

    def publish(self, worker: Worker, documents: Mapping[str, Document], reports: Sequence[Report]) -> int:
        now = time.time()
        published = [
            (kind, worker.id, now, now + each.lifetime, encode([worker.as_json(), each.body]))
            for kind, each in documents.items()
        ]
        bodies = [(each.fingerprint, encode(each.body)) for each in reports if each.body is not None]
        sightings = [(each.fingerprint, worker.id, *each.sighting) for each in reports]
        with self._using() as connection, _writing(connection):
            connection.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?)", published)
            connection.executemany("INSERT OR REPLACE INTO findings VALUES (?, ?)", bodies)
            connection.executemany(_INSERT_SIGHTING, sightings)
            (number,) = connection.execute("SELECT count(*) FROM findings").fetchone()
        return int(number)

    def leave(self, worker: Worker) -> None:
        with self._using() as connection:
            connection.execute("DELETE FROM documents WHERE kind = ? AND worker = ?", (LIVE, worker.id))

    def prune(self) -> None:
        now = time.time()
        with self._using() as connection:
            with _writing(connection):
                connection.execute("DELETE FROM documents WHERE until <= ?", (now,))
                _drop_findings(connection, now)
                _fold(connection, now)
            self._shrink(connection)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Give back what the file does not need; of one that is nearly full drop the older half."""
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if pages - free > 0.9 * self._max_pages:
            with _writing(connection):
                _drop_older_half(connection)
        # execute() would take the first step of it only, which is one page.
        connection.executescript("PRAGMA incremental_vacuum")

    # Reading

    def documents(self, kind: str) -> list[Published]:
        query = "SELECT seen_at, body FROM documents WHERE kind = ? AND until > ?"
        with self._using() as connection:
            rows = connection.execute(query, (kind, time.time())).fetchall()
            return [stored_document(seen_at, *decode(body)) for seen_at, body in rows]

    def findings(self) -> list[Sighted]:
        with self._using() as connection:
            with _reading(connection):
                bodies = connection.execute("SELECT fingerprint, body FROM findings").fetchall()
                rows = connection.execute("SELECT * FROM sightings").fetchall()
            sightings: dict[str, dict[str, Sighting]] = {}
            for fingerprint, worker, *values in rows:
                sightings.setdefault(fingerprint, {})[worker] = _sighting(values)
            return [
                Sighted(fingerprint, decoded_finding(body), sightings[fingerprint])
                for fingerprint, body in bodies
                if fingerprint in sightings
            ]

    def finding(self, fingerprint: str) -> Sighted | None:
        with self._using() as connection:
            with _reading(connection):
                body = connection.execute(
                    "SELECT body FROM findings WHERE fingerprint = ?", (fingerprint,)
                ).fetchone()
                rows = connection.execute(
                    "SELECT * FROM sightings WHERE fingerprint = ?", (fingerprint,)
                ).fetchall()
            if body is None or not rows:
                return None
            return Sighted(
                fingerprint,
                decoded_finding(body[0]),
                {worker: _sighting(values) for _, worker, *values in rows},
            )

    # The file

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._pid != os.getpid():
            # Closing it would let go of the parent's locks.
            _inherited.append(connection)
            return
        with contextlib.suppress(sqlite3.Error):
            connection.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Hand out the connection; what goes wrong with it closes it and is a StoreError."""
        try:
            yield self._opened()
        except sqlite3.Error as error:
            damaged = _is_damaged(error) and self._identity == _identity(self.path)
            self.close()
            if damaged and not self._read_only:
                self._set_aside(str(error))
            raise StoreError(f"{self.path}: {error}") from None
        except OSError as error:
            self.close()
            raise StoreError(f"{self.path}: {error.strerror}") from None
        except STRANGE as error:
            raise not_understood(self.path, error) from None

    def _opened(self) -> sqlite3.Connection:
        """Return the connection of this process to the file that is there now."""
        identity = _identity(self.path)
        if self._connection is not None and (self._pid, self._identity) != (os.getpid(), identity):
            self.close()
        if self._connection is None:
            self._connection = self._open()
            self._pid, self._identity = os.getpid(), _identity(self.path)
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self._identity = _identity(self.path) if self._read_only else _make_private(self.path)
        if self._identity is None:
            raise StoreError(
                f"{self.path}: there is no such file; perhaps no worker has published yet, or the workers publish elsewhere"
            )
        self._check_header()
        connection = sqlite3.connect(
            f"file:{quote(os.fsencode(self.path))}?mode={'ro' if self._read_only else 'rw'}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            # One thread at a time uses it, but not always the same one.
            check_same_thread=False,
        )
        try:
            if self._read_only:
                self._check(connection)
            else:
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_header(self) -> None:
        """Leave alone what is no database; where only ours can be, set it aside."""
        # Opening a pipe would wait until somebody writes to it.
        if _is_special(self.path):
            raise self._foreign()
        header = _header(self.path)
        if not header or header.startswith(_HEADER):
            return
        if self._read_only or not self._own:
            raise self._foreign()
        self._set_aside("it is no SQLite database")
        self._identity = _make_private(self.path)

    def _foreign(self) -> StoreError:
        return StoreError(
            f"{self.path} is something else than a store of flask_sessionwatch, and is left alone. "
            "Name a file of its own in SESSIONWATCH_STORE"
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables unless they are there."""
        connection.execute(f"PRAGMA max_page_count = {self._max_pages:d}")
        connection.execute("PRAGMA synchronous = NORMAL")
        (ours,) = connection.execute("PRAGMA application_id").fetchone()
        if ours != APPLICATION_ID:
            self._make_tables(connection)
        else:
            self._check_tables(connection)
        os.chmod(self.path, 0o600)
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(f"PRAGMA journal_size_limit = {_PAGE * 1024:d}")

    def _check(self, connection: sqlite3.Connection) -> None:
        """Refuse what is no store, or none that can be read here."""
        (ours,) = connection.execute("PRAGMA application_id").fetchone()
        if ours != APPLICATION_ID:
            raise self._foreign()
        self._check_tables(connection)

    def _check_tables(self, connection: sqlite3.Connection) -> None:
        """Refuse what another version has written, and views, triggers and the like, which would run for whoever reads."""
        self._check_version(connection)
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        if {_on_one_line(sql) for (sql,) in rows} != set(map(_on_one_line, _TABLES)):
            raise self._foreign()

    def _check_version(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            raise StoreError(
                f"{self.path} was written by another version of flask_sessionwatch (its tables are of version {version}, "
                f"known here is {VERSION}), and is left alone. Name another file in SESSIONWATCH_STORE, or delete this one"
            )

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        # Both have to be set before there is a page in the file.
        connection.execute(f"PRAGMA page_size = {_PAGE:d}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        with _writing(connection):
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (ours,) = connection.execute("PRAGMA application_id").fetchone()
            if ours == APPLICATION_ID:
                return  # another process was faster
            if tables:
                raise self._foreign()
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
            connection.execute(f"PRAGMA user_version = {VERSION:d}")

    def _set_aside(self, why: str) -> None:
        """Rename a damaged file, so that a new one can take its place; it replaces the one set aside before it."""
        aside = f"{self.path}.damaged"
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.path + ending, aside + ending)
        logger.warning(
            "the store %s is damaged (%s); it is kept as %s, and a new one begun", self.path, why, aside
        )


#: Connections of a parent process, which must not be closed here, not even by the garbage collector.
_inherited: list[sqlite3.Connection] = []


@contextlib.contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with _ending(connection):
        yield


@contextlib.contextmanager
def _reading(connection: sqlite3.Connection) -> Iterator[None]:
    """Let several queries see the same state."""
    connection.execute("BEGIN")
    with _ending(connection):
        yield


@contextlib.contextmanager
def _ending(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _drop_findings(connection: sqlite3.Connection, now: float) -> None:
    """Drop findings that are too old, and the oldest of too many."""
    seen = connection.execute(
        "SELECT fingerprint, max(last_seen) AS seen FROM sightings GROUP BY fingerprint ORDER BY seen DESC"
    ).fetchall()
    old = [
        (each,)
        for place, (each, last_seen) in enumerate(seen)
        if place >= FINDINGS_KEPT or last_seen < now - FINDING_SECONDS
    ]
    connection.executemany("DELETE FROM sightings WHERE fingerprint = ?", old)
    connection.executemany("DELETE FROM findings WHERE fingerprint = ?", old)
    # Bodies that nobody counts.
    connection.execute("DELETE FROM findings WHERE fingerprint NOT IN (SELECT fingerprint FROM sightings)")


def _drop_older_half(connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM sightings WHERE fingerprint IN (SELECT fingerprint FROM sightings GROUP BY fingerprint "
        "ORDER BY max(last_seen) LIMIT (SELECT (count(*) + 1) / 2 FROM findings))"
    )
    connection.execute("DELETE FROM findings WHERE fingerprint NOT IN (SELECT fingerprint FROM sightings)")
    connection.execute(
        "DELETE FROM documents WHERE (kind, worker) IN (SELECT kind, worker FROM documents WHERE kind != ? "
        "ORDER BY seen_at LIMIT (SELECT (count(*) + 1) / 2 FROM documents))",
        (LIVE,),
    )


def _fold(connection: sqlite3.Connection, now: float) -> None:
    """Add the sightings of workers that are long gone together, where there are too many."""
    crowded = connection.execute(
        "SELECT fingerprint FROM sightings GROUP BY fingerprint HAVING count(*) > ?", (FOLD_ABOVE,)
    ).fetchall()
    for (fingerprint,) in crowded:
        gone = connection.execute(
            "SELECT * FROM sightings WHERE fingerprint = ? AND (worker = ? OR (last_seen < ? AND worker NOT IN "
            "(SELECT worker FROM documents WHERE kind = ?)))",
            (fingerprint, FOLDED, now - FOLD_AFTER, LIVE),
        ).fetchall()
        if gone:
            together = merged(_sighting(values) for _, _, *values in gone)
            connection.executemany(
                "DELETE FROM sightings WHERE fingerprint = ? AND worker = ?", [each[:2] for each in gone]
            )
            connection.execute(_INSERT_SIGHTING, (fingerprint, FOLDED, *together))


_INSERT_SIGHTING = "INSERT OR REPLACE INTO sightings VALUES (?, ?, ?, ?, ?, ?, ?)"


def _sighting(values: Sequence[float]) -> Sighting:
    occurrences, first_seen, last_seen, resolved, known = values
    return Sighting(int(occurrences), float(first_seen), float(last_seen), bool(resolved), bool(known))


def _on_one_line(sql: str) -> str:
    return " ".join(sql.split())


def _make_private(path: str) -> tuple[int, int] | None:
    """Make the file unless it is there, readable to its owner only: sqlite3 gives its companions the same mode."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            _leave_to_folder(descriptor, path)
        finally:
            os.close(descriptor)
    return _identity(path)


def _leave_to_folder(descriptor: int, path: str) -> None:
    """Give a file that root makes, perhaps by a command, to whom its folder belongs: the workers have to write it."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        folder = os.stat(os.path.dirname(path) or os.curdir)
        with contextlib.suppress(OSError):
            os.fchown(descriptor, folder.st_uid, folder.st_gid)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_special(path: str) -> bool:
    """Whether it is a pipe, a device or a socket."""
    mode = os.stat(path).st_mode
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _header(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(100)


def _is_damaged(error: sqlite3.Error) -> bool:
    # Its code has a name only from Python 3.11 on.
    return "malformed" in str(error) or "not a database" in str(error)
