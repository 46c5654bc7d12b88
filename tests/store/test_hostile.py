"""Stores in which there is what no worker puts there: of another version, damaged, or made to do harm."""

import json
import os
import sqlite3
import stat
import time
import typing as t
import zlib
from contextlib import closing
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import Phase
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from werkzeug.test import Client

from flask_sessionwatch.settings import ConfigError
from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import Worker
from flask_sessionwatch.store import base
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.base import KINDS
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import Published
from flask_sessionwatch.store.base import Sighted
from flask_sessionwatch.store.base import Sighting
from flask_sessionwatch.store.base import decode
from flask_sessionwatch.store.picture import Picture
from flask_sessionwatch.store.reader import Reader
from flask_sessionwatch.store.sqlite import SQLiteStore
from flask_sessionwatch.web.standalone import create_standalone
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker

LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost"}
PAGES = (
    *("/metrics", "/healthz", "/readyz", "/api/v1/live", "/api/v1/findings", "/api/v1/findings/f1"),
    *("/api/v1/sessions/1", "/api/v1/checkouts/1", "/api/v1/series?span=6h", "/api/v1/scopes"),
    *("/api/v1/pools", "/api/v1/fleet", "/api/v1/rules"),
)


def packed(data: t.Any) -> bytes:
    return zlib.compress(json.dumps(data).encode())


WORKER = {"host": "alpha", "pid": 1, "started_at": 1.0, "space": "", "birth": 0}
BOMB = zlib.compress(b'["' + b" " * (base.MOST_BYTES + 1) + b'"]', 9)
ENTRIES: dict[str, t.Any] = {
    "nothing": b"",
    "no bytes": 17,
    "text": "text",
    "not packed": b"{}",
    "cut off": packed([WORKER, {"engines": []}])[:-5],
    "no JSON": zlib.compress(b"\xff\xfe"),
    "bomb": BOMB,
    "nested": zlib.compress(b"[" * 200_000 + b"]" * 200_000),
    "huge number": zlib.compress(b"9" * 10_000),
    "null": packed(None),
    "one": packed([WORKER]),
    "no worker": packed(["alpha", {}]),
    "worker without a host": packed([{**WORKER, "host": None}, {}]),
    "pid that is a path": packed([{**WORKER, "pid": "../../etc/passwd"}, {}]),
    "body that is none": packed([WORKER, "body"]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store in which a worker has published a document and a finding."""
    path = tmp_path / "store.db"
    with closing(SQLiteStore(str(path))) as store:
        store.publish(worker(), {LIVE: document(engines=[])}, [report()])
    return path


def replace(path: Path, entry: t.Any) -> None:
    """Put *entry* in the place of the document and of the finding."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE documents SET body = ?", (entry,))
        connection.execute("UPDATE findings SET body = ?", (entry,))


# Entries


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_in_a_file(path: Path, name: str) -> None:
    """An entry that is none is a StoreError, which says so in few words, and the store can be written to still."""
    replace(path, ENTRIES[name])
    with closing(SQLiteStore(str(path))) as store:
        for read in (store.live, store.findings, lambda: store.finding("f1")):
            with pytest.raises(StoreError, match=r"damaged|not understood") as caught:
                read()
            assert len(str(caught.value)) < 500
        store.prune()
        store.publish(worker(), {}, [report()])
        assert [each.fingerprint for each in store.findings()] == ["f1"]


@pytest.mark.parametrize("name", [name for name in ENTRIES if name != "no bytes"])
def test_entry_on_a_server(redis_url: str, name: str) -> None:
    """So it is on a server."""
    with closing(open_store(redis_url)) as store:
        store.publish(worker(), {LIVE: document()}, [report()])
        namespace = redis_url.rpartition("=")[2]
        with closing(redis.Redis.from_url(redis_url.partition("?")[0])) as client:
            for key in client.scan_iter(match=f"*{namespace}}}:*", _type="string"):
                client.set(key, ENTRIES[name])
        for read in (store.live, store.findings, lambda: store.finding("f1")):
            with pytest.raises(StoreError, match=r"damaged|not understood"):
                read()


@pytest.mark.parametrize("text", ["", "1 2 3", "x 1 1 0 0", "1 x 1 0 0", "1 1 1 0 0 0", "\xff"])
def test_sighting_on_a_server(redis_url: str, text: str) -> None:
    """Counts that are none are a StoreError, too, and so is a key of another type."""
    namespace = redis_url.rpartition("=")[2]
    with (
        closing(open_store(redis_url)) as store,
        closing(redis.Redis.from_url(redis_url.partition("?")[0])) as client,
    ):
        store.publish(worker(), {}, [report()])
        (key,) = client.scan_iter(match=f"*{namespace}}}:seen:*")
        client.hset(key, "worker", text)
        with pytest.raises(StoreError, match="not understood"):
            store.findings()
        client.delete(key)
        client.set(key, "text")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            store.findings()


def test_bomb_is_small() -> None:
    """What fills the memory when it is unpacked comes in few bytes, and is given up at the limit."""
    assert len(BOMB) < base.MOST_BYTES / 500
    with pytest.raises(StoreError, match="larger than 16 MiB"):
        decode(BOMB)


def test_numbers_of_other_types(path: Path) -> None:
    """SQLite takes text for a number, and we do not."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sightings SET last_seen = 'yesterday', occurrences = x'00'")
    with closing(SQLiteStore(str(path))) as store:
        for use in (store.findings, lambda: store.finding("f1"), store.prune):
            with pytest.raises(StoreError, match="not understood"):
                use()


# Pages


class Any:
    """A store that answers with what it was given."""

    def __init__(self, body: t.Any, sighting: Sighting) -> None:
        self._published = Published(Worker("alpha", 1, 1.0), time.time(), body)
        self._sighted = Sighted("f1", body, {"alpha:1:1000": sighting})

    def live(self) -> list[Published]:
        return [self._published]

    def documents(self, kind: str) -> list[Published]:
        assert kind in KINDS
        return [self._published]

    def findings(self) -> list[Sighted]:
        return [self._sighted]

    def finding(self, fingerprint: str) -> Sighted | None:
        return self._sighted


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3)
)
#: Names that readers look for, so that they go into what is behind them.
NAMES = st.sampled_from(
    [
        *("engines", "sessions", "checkouts", "omitted", "counts", "open_findings", "sources", "scopes"),
        *("sites", "series", "columns", "recent", "rules", "limits", "name", "id", "stack", "age_seconds"),
        *("in_force", "codes", "ignored", "pools", "bad", "first", "findings"),
        *("code", "level", "site", "scope", "details", "timeline", "version", "slots", "start", "step"),
    ]
)
ROWS = st.dictionaries(NAMES, VALUES, max_size=6)
BODIES = st.dictionaries(NAMES, VALUES | st.lists(ROWS, max_size=2) | ROWS, max_size=8)
SIGHTINGS = st.builds(Sighting, st.integers(), st.floats(), st.floats(), st.booleans(), st.booleans())


@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    # Making an example small takes longer than all else.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(body=BODIES, sighting=SIGHTINGS)
def test_pages_of_anything(body: t.Any, sighting: Sighting) -> None:
    """Whatever is in a store, each page answers, and says of what it does not understand that it does not."""
    client = Client(create_standalone(Reader(Any(body, sighting)), None, "/_sessionwatch"))
    for path in PAGES:
        answer = client.get(path, environ_base=LOCAL)
        assert answer.status_code in (200, 404, 503), (path, answer.text)
        if answer.mimetype == "application/json" and path.startswith("/api/"):
            problem = answer.get_json().get("store", {}).get("problem")
            assert problem is None or "is not understood here" in problem


def test_what_is_not_understood_is_left_out() -> None:
    """A store with something strange in it counts as one that is away, and the reader is told."""
    picture = Picture(Any({"sessions": 17}, Sighting(1, 1.0, 1.0, False, False)))
    assert picture.live()["sessions"] == []
    assert picture.problem is not None
    assert "TypeError" in picture.problem


# Files


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (number)",
        "CREATE TRIGGER harm AFTER INSERT ON findings BEGIN DELETE FROM findings; END",
        "CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "ALTER TABLE findings ADD COLUMN more DEFAULT (1)",
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_tables_of_somebody_else(path: Path, statement: str, read_only: bool) -> None:
    """A store with a view, a trigger or a table in it that is not ours is left alone, before anything of it runs."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    before = path.read_bytes()
    with (
        closing(SQLiteStore(str(path), read_only=read_only)) as store,
        pytest.raises(StoreError, match="left alone"),
    ):
        store.findings()
    assert path.read_bytes() == before


def test_view_in_the_place_of_a_table(path: Path) -> None:
    """A view that never ends is not begun to be read."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE findings")
        connection.execute(
            "CREATE VIEW findings (fingerprint, body) AS WITH RECURSIVE n(i) AS "
            "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, i FROM n"
        )
    with (
        closing(SQLiteStore(str(path), read_only=True)) as store,
        pytest.raises(StoreError, match="left alone"),
    ):
        store.findings()


@pytest.mark.parametrize("read_only", [False, True])
def test_pipe(tmp_path: Path, read_only: bool) -> None:
    """A pipe in the place of the file is refused, not waited for."""
    path = tmp_path / "store.db"
    os.mkfifo(path)
    with (
        closing(SQLiteStore(str(path), own=True, read_only=read_only)) as store,
        pytest.raises(StoreError, match="left alone"),
    ):
        store.findings()
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_device() -> None:
    """So is a device, which never ends."""
    with closing(SQLiteStore("/dev/zero")) as store, pytest.raises(StoreError, match="left alone"):
        store.findings()


def test_link_to_a_file_of_somebody_else(tmp_path: Path) -> None:
    """A link does not lead to a file of another kind being changed, nor to its mode."""
    victim = tmp_path / "victim"
    victim.write_text("precious\n" * 100)
    victim.chmod(0o644)
    path = tmp_path / "store.db"
    path.symlink_to(victim)
    with closing(SQLiteStore(str(path))) as store, pytest.raises(StoreError, match="left alone"):
        store.publish(worker(), {}, [report()])
    assert victim.read_text() == "precious\n" * 100
    assert stat.S_IMODE(victim.stat().st_mode) == 0o644


def test_link_to_nothing(tmp_path: Path) -> None:
    """A link that leads to no file does not make one elsewhere."""
    path = tmp_path / "store.db"
    path.symlink_to(tmp_path / "elsewhere")
    with closing(SQLiteStore(str(path))) as store, pytest.raises(StoreError, match="no such file"):
        store.publish(worker(), {}, [report()])
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.name != "posix", reason="only there a name is bytes")
def test_name_that_is_no_text(tmp_path: Path) -> None:
    """A path of bytes that are no UTF-8, as an environment may hold it, is a path."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.db")
    with closing(open_store(f"sqlite:///{path}")) as store:
        store.publish(worker(), {}, [report()])
        assert len(store.findings()) == 1
    assert os.path.exists(path)


def test_name_with_a_null() -> None:
    """A null character, which no path has, is refused at start."""
    with pytest.raises(ConfigError, match="SESSIONWATCH_STORE"):
        open_store("sqlite:////tmp/a\0b")
