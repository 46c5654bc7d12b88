"""What passes through an application is nowhere to be found afterwards: every place is searched that something is told in."""

import io
import json
import logging
import sqlite3
import typing as t
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import flask
import prometheus_client
import pytest
import redis
import sqlalchemy as sa
from flask.testing import FlaskClient
from sqlalchemy import orm
from sqlalchemy import pool

from flask_sessionwatch import SessionWatch
from flask_sessionwatch.store import Store
from flask_sessionwatch.store import open_store
from tests.rules.conftest import until
from tests.store.conftest import redis_server as redis_server
from tests.store.conftest import redis_url as redis_url
from tests.store.conftest import sqlite_url as sqlite_url
from tests.story import Page
from tests.story import Story
from tests.web.conftest import PATHS
from tests.web.conftest import PREFIX

#: The lines of source around these views are shown, so none of them may name it.
BIRD = "quetzal"
TOKEN = f"{BIRD}-token-of-the-pages"
EXTRA = f"{BIRD}-local"


class Client(FlaskClient):
    """Sends something to be kept secret in every part of a request."""

    def open(self, *args: t.Any, **options: t.Any) -> t.Any:
        if args and str(args[0]).startswith(PREFIX):
            return super().open(*args, **options)
        secret = {
            "HTTP_AUTHORIZATION": f"Bearer {BIRD}-bearer",
            "HTTP_COOKIE": f"session={BIRD}-cookie",
            "HTTP_USER_AGENT": f"{BIRD}-agent",
            "HTTP_X_API_KEY": f"{BIRD}-key",
        }
        if "?" not in str(args[0]):
            options["query_string"] = {"q": f"{BIRD}-query"}
        return super().open(*args, environ_overrides=secret, data={"form": f"{BIRD}-form"}, **options)


class Spilling:
    """The story, in which every parameter, statement, row, request, variable and exception has a secret in it."""

    def __init__(self, folder: Path, store: str, log_format: str) -> None:
        self.story = Story(f"sqlite:///{folder / 'story.db'}")
        self.store = store
        self.app = self.story.app
        self.app.test_client_class = Client
        self.app.secret_key = f"{BIRD}-secret-key"
        self.app.config.update(
            SESSIONWATCH_STORE=store, SESSIONWATCH_TICK=60.0, SESSIONWATCH_LOG_FORMAT=log_format
        )
        self.app.config["SESSIONWATCH_APP_PATHS"] = [str(Path(__file__).parent)]
        self.remote = _remote()
        sa.event.listen(self.story.engine, "before_cursor_execute", _with_secrets, retval=True)
        self._add_views()
        self.watch = SessionWatch(self.app, registry=prometheus_client.CollectorRegistry())

    def _add_views(self) -> None:
        story = self.story

        @self.app.get("/spill/<path>")
        def spill(path: str) -> str:
            secret = EXTRA
            story.registry.add(Page(title=secret))
            story.registry.flush()
            story.kept.append(self.remote.raw_connection())
            raise RuntimeError(secret, path)

        @self.app.get("/swallow-each")
        def swallow_each() -> str:
            with orm.Session(story.engine) as session:
                for _ in range(3):
                    session.add(Page(title="one"))
                    try:
                        session.commit()
                    except sa.exc.IntegrityError as error:
                        session.rollback()
                        caught = error
            return str(caught)

    def tell(self) -> None:
        """Go through the story, and publish what is known then."""
        self.story.tell(self.watch.tick)
        for path in (f"/spill/{BIRD}-path", "/spill/2", "/swallow-each", "/leak"):
            self.app.test_client().get(path)
        with closing(open_store(self.store)) as store:
            until(lambda: self._is_published(store))

    def _is_published(self, store: Store) -> bool:
        self.watch.tick()
        known = {each.fingerprint for each in self.watch.findings}
        return bool(store.live()) and known <= {each.fingerprint for each in store.findings()}

    def close(self) -> None:
        self.watch.close()
        self.story.close()
        self.remote.dispose()


def _remote() -> sa.Engine:
    """An engine whose URL has a password; what answers is SQLite."""
    return sa.create_engine(
        f"postgresql+psycopg://{BIRD}-user:{BIRD}-password@{BIRD}-host/orders?options={BIRD}-option",
        creator=lambda: sqlite3.connect(":memory:", check_same_thread=False),
        poolclass=pool.QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.05,
        _initialize=False,
    )


def _with_secrets(
    connection: t.Any, cursor: t.Any, statement: str, parameters: t.Any, context: t.Any, many: bool
) -> tuple[str, t.Any]:
    if many:
        return statement, [_with_secret(each) for each in parameters]
    return f"{statement} /* {BIRD}-sql */", _with_secret(parameters)


def _with_secret(parameters: t.Any) -> t.Any:
    return tuple(f"{BIRD}-{each}" if isinstance(each, str) else each for each in parameters)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that the logger says, tracebacks included."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("flask_sessionwatch")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield text
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


@pytest.mark.parametrize(("kind", "log_format"), [("sqlite", "text"), ("redis", "json")])
def test_nothing_is_told(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log: io.StringIO,
    kind: str,
    log_format: str,
) -> None:
    """Parameters, SQL, rows, requests, variables, exceptions, URLs and the environment are in no place that is read."""
    monkeypatch.delenv("SESSIONWATCH_STORE", raising=False)
    monkeypatch.setenv("SESSIONWATCH_TOKEN", TOKEN)
    monkeypatch.setenv("SHOP_SECRET", f"{BIRD}-environment")
    monkeypatch.chdir(tmp_path)
    spilling = Spilling(tmp_path, request.getfixturevalue(f"{kind}_url"), log_format)
    try:
        spilling.tell()
        assert BIRD in spilling.story.titles()
        codes = {each.code for each in spilling.watch.findings}
        assert len(codes) >= 15, sorted(codes)
        assert codes <= {each for each in codes if each in log.getvalue()}
        places = {
            "log": log.getvalue(),
            **dict(_pages(spilling.app)),
            **dict(_stored(spilling.store)),
            **dict(_printed(spilling.app, tmp_path)),
        }
        told = {place for place, text in places.items() if BIRD in text.lower()}
        assert told == set()
    finally:
        spilling.close()


def _pages(app: flask.Flask) -> Iterator[tuple[str, str]]:
    """Every page, as somebody with the token gets it and as a stranger does."""
    client = app.test_client()

    def get(path: str, **options: t.Any) -> t.Any:
        return client.get(PREFIX + path, buffered=True, **options)

    bearer = {"Authorization": f"Bearer {TOKEN}"}
    live = get("/api/v1/live", headers=bearer).get_json()
    findings = get("/api/v1/findings", headers=bearer).get_json()["findings"]
    held = [f"/api/v1/{kind}/{each['id']}" for kind in ("sessions", "checkouts") for each in live[kind]]
    whole = [f"/api/v1/findings/{each['fingerprint']}" for each in findings]
    assert held
    assert whole
    for path in (*PATHS, "/login", *held, *whole):
        for headers in (bearer, {}, {**bearer, "Accept": "application/openmetrics-text"}):
            answer = get(path, headers=headers)
            yield f"{path} {headers}", f"{answer.headers}{answer.text}"
    answer = client.post(f"{PREFIX}/login", data={"token": TOKEN})
    yield "login", f"{answer.headers}{answer.text}"


def _stored(url: str) -> Iterator[tuple[str, str]]:
    """Every byte of the store, as it is and unpacked."""
    return _in_file(Path(url.removeprefix("sqlite:///"))) if url.startswith("sqlite") else _in_redis(url)


def _in_file(path: Path) -> Iterator[tuple[str, str]]:
    for each in path.parent.glob("store.db*"):
        yield each.name, each.read_bytes().decode("latin-1")
    with closing(sqlite3.connect(path)) as connection:
        for table in ("documents", "findings", "sightings"):
            for row in connection.execute(f"SELECT * FROM {table}"):
                yield f"{table} {row[:2]}", " ".join(map(_unpacked, row))


def _in_redis(url: str) -> Iterator[tuple[str, str]]:
    namespace = url.rpartition("=")[2]
    with closing(redis.Redis.from_url(url.partition("?")[0])) as client:
        for key in client.scan_iter(match=f"*{namespace}*"):
            yield str(key), " ".join(map(_unpacked, (key, client.dump(key), *_values(client, key))))


def _values(client: t.Any, key: bytes) -> list[bytes]:
    kind = client.type(key)
    if kind == b"hash":
        return [each for pair in client.hgetall(key).items() for each in pair]
    return [client.get(key)] if kind == b"string" else list(client.zrange(key, 0, -1))


def _unpacked(value: t.Any) -> str:
    try:
        return json.dumps(json.loads(zlib.decompress(value)), ensure_ascii=False)
    except (zlib.error, TypeError):
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _printed(app: flask.Flask, folder: Path) -> Iterator[tuple[str, str]]:
    """What the commands print and write."""
    for words in (
        ("status",),
        ("requests",),
        ("doctor",),
        ("findings",),
        ("findings", "--json"),
        ("baseline",),
        ("top", "--once", "--json"),
        ("top", "--once"),
    ):
        result = app.test_cli_runner().invoke(args=["sessionwatch", *words])
        assert result.exit_code in (0, 1), result.output
        yield " ".join(words), result.output
        if words == ("findings", "--json"):
            found = [each["fingerprint"] for each in json.loads(result.stdout)["findings"]]
    for fingerprint in found:
        result = app.test_cli_runner().invoke(args=["sessionwatch", "findings", fingerprint])
        yield f"findings {fingerprint}", result.output
    for path in folder.glob("*.json"):
        yield path.name, path.read_text()
