"""What must never be shown: passwords, bound parameters, cookies, headers, raw paths."""

import logging
import sqlite3
import typing as t
from pathlib import Path

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy import orm
from sqlalchemy import pool

from tests.web.conftest import PATHS
from tests.web.conftest import PREFIX
from tests.web.conftest import Pages
from tests.web.conftest import Watch

#: The lines of source that are shown may name it, so its name is another one.
BIRD = "canary"
PASSWORD = f"{BIRD}-password"
KNOWN = f"{BIRD}-known"
METADATA = sa.MetaData()
USERS = sa.Table("users", METADATA, sa.Column("name", sa.String, primary_key=True))


@pytest.fixture
def remote() -> t.Iterator[sa.Engine]:
    """An engine whose URL has a password; what answers is SQLite."""
    engine = sa.create_engine(
        f"postgresql+psycopg://shop:{PASSWORD}@db.example/orders?application_name={BIRD}-option",
        creator=lambda: sqlite3.connect(":memory:", check_same_thread=False),
        poolclass=pool.QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.1,
        _initialize=False,
    )
    yield engine
    engine.dispose()


@pytest.fixture
def pages(watch: Watch, engine: sa.Engine, remote: sa.Engine) -> t.Iterator[Pages]:
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(USERS.insert().values(name=KNOWN))
    kept: list[t.Any] = []
    app = flask.Flask("watched", root_path=str(Path(__file__).parent))
    app.secret_key = f"{BIRD}-secret-key"
    app.config["SQLALCHEMY_DATABASE_URI"] = f"postgresql://shop:{PASSWORD}@db.example/orders"

    @app.get("/orders/<order>")
    def leak(order: str) -> str:
        flask.session["user"] = f"{BIRD}-session"
        session = orm.Session(engine)
        kept.append(session)
        return str(session.scalars(sa.select(USERS.c.name).where(USERS.c.name == order)).all())

    @app.post("/users")
    def lose() -> str:
        with orm.Session(engine) as session:
            session.execute(USERS.insert().values(name=flask.request.form["name"]))
        return "lost"

    @app.post("/wishes")
    def swallow() -> str:
        with engine.connect() as connection:
            try:
                connection.execute(USERS.insert().values(name=KNOWN))
            except exc.IntegrityError:
                connection.execute(sa.select(USERS.c.name).where(USERS.c.name == f"{BIRD}-select"))
        return "swallowed"

    @app.get("/remote")
    def leak_remote() -> str:
        kept.append(remote.raw_connection())
        return "held"

    yield Pages(watch(app))
    for each in kept:
        each.close()


def misbehave(pages: Pages) -> None:
    """Let every kind of secret pass through requests that are told about."""
    secret: dict[str, t.Any] = {
        "headers": {"Authorization": f"Bearer {BIRD}-bearer", "X-Api-Key": f"{BIRD}-key"},
        "query_string": {"q": f"{BIRD}-query"},
    }
    pages.http.set_cookie("session", f"{BIRD}-cookie")
    pages.http.get(f"/orders/{BIRD}-path", **secret)
    for path in ("/users", "/wishes"):
        pages.http.post(path, data={"name": f"{BIRD}-parameter"}, **secret)
    for _ in range(2):
        pages.http.get("/remote", **secret)
    pages.http.get(f"/no/such/{BIRD}-path", **secret)
    pages.app.extensions["sessionwatch"].tick()


def answers(pages: Pages) -> t.Iterator[t.Any]:
    fingerprints = [each["fingerprint"] for each in pages.json("/api/v1/findings")["findings"]]
    live = pages.json("/api/v1/live")
    held = [f"/api/v1/{kind}/{each['id']}" for kind in ("sessions", "checkouts") for each in live[kind]]
    for path in (*PATHS, "/login", *held, *(f"/api/v1/findings/{each}" for each in fingerprints)):
        yield pages.get(path)
        yield pages.http.get(PREFIX + path, buffered=True)
    yield pages.get("/metrics", Accept="application/openmetrics-text")
    yield pages.get(f"/{BIRD}", X_Api_Key=BIRD)
    yield pages.http.get(f"{PREFIX}/{BIRD}?{BIRD}")
    yield pages.http.post(f"{PREFIX}/login", data={"token": f"{BIRD}-token"})


def test_no_secret_is_shown(pages: Pages, caplog: pytest.LogCaptureFixture) -> None:
    """No page, no error and no log record holds what passed through the application's requests."""
    caplog.set_level(logging.DEBUG, "flask_sessionwatch")
    misbehave(pages)
    told = {each["code"] for each in pages.json("/api/v1/findings")["findings"]}
    assert {"SW101", "SW201", "SW204", "SW205", "SW601"} <= told
    for answer in answers(pages):
        assert BIRD not in f"{answer.headers}{answer.text}".lower()
    own = [each.getMessage() for each in caplog.records if each.name.startswith("flask_sessionwatch")]
    assert BIRD not in "".join(own).lower()


def test_histories_and_sources_are_shown(pages: Pages) -> None:
    """What was looked through for secrets has histories and source in it."""
    misbehave(pages)
    fingerprints = [each["fingerprint"] for each in pages.json("/api/v1/findings")["findings"]]
    found = [pages.json(f"/api/v1/findings/{each}") for each in fingerprints]
    assert {"SW101", "SW204", "SW205"} <= {each["code"] for each in found if each["timeline"]}
    assert {"SW101", "SW204", "SW205"} <= {each["code"] for each in found if each["sources"]}


def test_engine_is_named_by_its_database(pages: Pages) -> None:
    """An engine that nobody named is named by its database, without user, password or host."""
    pages.http.get("/remote")
    names = {each["name"] for each in pages.json("/api/v1/live")["engines"]}
    assert "orders" in names
    assert not any("shop" in name or "example" in name for name in names)
