"""Every way to use SQLAlchemy beside Flask-SQLAlchemy: the same bug is told of each, and its healthy twin is not.

These are about what was recorded (SW101, SW201 and SW204), and whose scope, line and engine it is given.
"""

import asyncio
import typing as t

import flask
import flask_sqlalchemy_lite
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch
from tests.rules.conftest import SETTINGS
from tests.rules.conftest import Item
from tests.rules.conftest import Unused
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line
from tests.rules.conftest import one_item
from tests.rules.conftest import world_of

NAMES = sa.select(Item.name)
EVE = sa.insert(Item).values(name="eve", hits=0)


# Core


def _begin(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(EVE)


def _connect(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(EVE)
        connection.commit()


def _rolled_back(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.execute(EVE)
        connection.rollback()


def _raw(engine: sa.Engine) -> None:
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute("INSERT INTO item (name, hits) VALUES ('eve', 0)")
        connection.commit()
    finally:
        connection.close()


@pytest.mark.parametrize("work", [_begin, _connect, _rolled_back, _raw])
def test_core_that_is_closed(any_world: World, work: t.Callable[[sa.Engine], None]) -> None:
    """SW101, SW204: Core work that ends its transaction and gives its connection back is healthy."""

    @any_world.view()
    def view() -> str:
        work(any_world.engine)
        return "ok"

    any_world.open()
    any_world.ticks(2)
    assert any_world.heard == []


@pytest.mark.parametrize("acquire", ["connect", "raw_connection"])
def test_core_that_is_not_closed(any_world: World, acquire: str) -> None:
    """SW101: a connection that a request keeps is told as its own, with its line."""

    @any_world.view()
    def view() -> str:
        any_world.keep(getattr(any_world.engine, acquire)())  # KEPT
        return "ok"

    any_world.open()
    finding = any_world.only("SW101")
    assert at(finding) == line("KEPT")
    assert str(finding.scope) == "GET /"


def test_begin_that_is_never_left(any_world: World) -> None:
    """SW101: engine.begin() that is entered by hand and never left is told."""
    blocks: list[object] = []

    @any_world.view()
    def view() -> str:
        block = any_world.engine.begin()
        blocks.append(block)
        any_world.keep(block.__enter__()).execute(EVE)  # ENTERED
        return "ok"

    any_world.open()
    assert at(any_world.only("SW101")) == line("ENTERED")


def test_core_that_forgets_to_commit(any_world: World) -> None:
    """SW204: engine.connect() that writes and is closed without commit() loses the row, and is told."""

    @any_world.view()
    def view() -> str:
        with any_world.engine.connect() as connection:
            connection.execute(EVE)
        return "ok"

    any_world.open()
    assert "eve" not in any_world.names()
    assert str(any_world.only("SW204").scope) == "GET /"


# Plain Sessions


@pytest.mark.parametrize("removed", [True, False])
def test_scoped_session(any_world: World, *, removed: bool) -> None:
    """SW201: a plain scoped_session is healthy with a teardown that removes it, and is told without."""
    registry = orm.scoped_session(orm.sessionmaker(any_world.engine))
    if removed:
        any_world.app.teardown_appcontext(lambda error: registry.remove())

    @any_world.view()
    def view() -> str:
        return str(registry.scalars(NAMES).all())  # READ

    any_world.open()
    if removed:
        assert any_world.heard == []
    else:
        assert at(any_world.only("SW201")) == line("READ")
    registry.remove()


def test_plain_session(any_world: World) -> None:
    """SW204: Session(engine) is told when it forgets to commit, and healthy when it does."""

    @any_world.view("GET", "POST")
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            session.add(Item(name=flask.request.method))
            session.flush()
            if flask.request.method == "POST":
                session.commit()
        return "ok"

    any_world.open(method="POST")
    assert any_world.heard == []
    any_world.open()
    assert str(any_world.only("SW204").scope) == "GET /"


# Flask-SQLAlchemy-Lite


def test_lite(any_world: World) -> None:
    """SW201: Flask-SQLAlchemy-Lite's session is closed at teardown; one of its sessionmaker that is not, is told."""
    db = any_world.flask_sqlalchemy_lite()

    @any_world.view(rule="/closed")
    def closed() -> str:
        db.get_session("other").scalars(NAMES).all()
        return str(db.session.scalars(NAMES).all())

    @any_world.view(rule="/open")
    def left_open() -> str:
        return str(any_world.keep(db.sessionmaker()).scalars(NAMES).all())  # OPEN

    any_world.open("/closed")
    assert any_world.heard == []
    any_world.open("/open")
    assert at(any_world.only("SW201")) == line("OPEN")


# Several engines, several applications


def test_several_binds(any_world: World, sqlite_url: str) -> None:
    """SW101: each bind of Flask-SQLAlchemy is an engine with the name of its key."""
    any_world.app.config["SQLALCHEMY_BINDS"] = {"audit": f"{sqlite_url}.audit"}
    db = any_world.flask_sqlalchemy()

    @any_world.view(rule="/healthy")
    def healthy() -> str:
        with db.engines["audit"].connect() as connection:
            connection.execute(sa.text("SELECT 1"))
        db.session.scalars(NAMES).all()
        return str(db.session.execute(sa.text("SELECT 1"), bind_arguments={"bind": db.engines["audit"]}))

    @any_world.view(rule="/leak")
    def leak() -> str:
        any_world.keep(db.engines["audit"].connect())  # AUDIT
        return "ok"

    any_world.open("/healthy")
    assert any_world.heard == []
    any_world.open("/leak")
    finding = any_world.only("SW101")
    assert at(finding) == line("AUDIT")
    assert finding.details["engine"] == "audit"
    any_world.give_back()
    with any_world.app.app_context():
        db.engines["audit"].dispose()


def test_several_applications(world: World) -> None:
    """SW201: of two applications in a process each is told of its own work only."""
    other = flask.Flask("other")
    other.config.update(SETTINGS, SQLALCHEMY_DATABASE_URI=world.url)
    watch = SessionWatch(other, registry=world.registry)
    db, other_db = world.flask_sqlalchemy(), SQLAlchemy(other, model_class=Unused)
    with other.app_context():
        other_engine = other_db.engine

    @world.view()
    def view() -> str:
        return str(db.session.scalars(NAMES).all())

    @other.get("/")
    def other_view() -> str:
        return str(world.keep(orm.Session(other_db.engine)).scalars(NAMES).all())  # OTHER

    try:
        world.open()
        other.test_client().get("/").close()
        world.open()
        assert world.heard == []
        (finding,) = watch.findings
        assert (finding.code, at(finding)) == ("SW201", line("OTHER"))
    finally:
        world.give_back()
        watch.close()
        other_engine.dispose()


def test_application_that_calls_another(world: World) -> None:
    """SW201: work in the app context of another application, inside of a request, is healthy when it is torn down."""
    other = flask.Flask("other")
    other.config.update(SETTINGS, SQLALCHEMY_DATABASE_URI=world.url)
    db, other_db = world.flask_sqlalchemy(), SQLAlchemy(other, model_class=Unused)
    with other.app_context():
        other_engine = other_db.engine

    @world.view()
    def view() -> str:
        db.session.scalars(NAMES).all()
        with other.app_context():
            one_item(other_db.session).hits += 1
            other_db.session.commit()
        return "ok"

    world.open()
    assert world.heard == []
    other_engine.dispose()


# asyncio

ASYNC_DRIVERS = {"sqlite": ("aiosqlite", "sqlite+aiosqlite"), "postgresql": ("asyncpg", "postgresql+asyncpg")}


class AsyncLite:
    """An application whose Flask-SQLAlchemy-Lite has an async engine."""

    def __init__(self, world: World, kind: str) -> None:
        module, driver = ASYNC_DRIVERS[kind]
        pytest.importorskip(module)
        pytest.importorskip("asgiref")
        url = sa.make_url(world.url).set(drivername=driver)
        # Each async view has an event loop of its own, and a connection cannot outlive its loop.
        options = {"url": url, "poolclass": sa.NullPool}
        world.app.config["SQLALCHEMY_ASYNC_ENGINES"] = {"default": options}
        self.world = world
        self.db = flask_sqlalchemy_lite.SQLAlchemy(world.app)


@pytest.fixture(params=ASYNC_DRIVERS)
def lite(request: pytest.FixtureRequest) -> t.Iterator[AsyncLite]:
    """Such an application on SQLite and on PostgreSQL."""
    with world_of(request.getfixturevalue(f"{request.param}_url")) as world:
        yield AsyncLite(world, request.param)


def test_async_session_of_the_context(lite: AsyncLite) -> None:
    """SW201: an async view with the async session of its app context is healthy, reading and writing."""

    async def view() -> str:
        session = lite.db.async_session
        session.add(Item(name="eve"))
        await session.commit()
        names = (await session.scalars(NAMES)).all()
        await session.rollback()  # teardown runs in another event loop, which asyncpg does not bear
        return str(names)

    lite.world.app.add_url_rule("/", view_func=view)
    assert "eve" in lite.world.open().text
    lite.world.ticks(2)
    assert lite.world.heard == []


def test_async_commits(lite: AsyncLite) -> None:
    """SW501: commits of an async view are counted, and the line that commits most is named."""

    async def view() -> str:
        async with lite.db.async_sessionmaker() as session:
            for number in range(20):
                session.add(Item(name=str(number)))
                await session.commit()  # COMMIT
        return "ok"

    lite.world.app.add_url_rule("/", view_func=view)
    lite.world.open()
    assert at(lite.world.only("SW501")) == line("COMMIT")


def test_async_session_that_forgets_to_commit(lite: AsyncLite) -> None:
    """SW204: what an async view flushes and does not commit is told of its request."""

    async def view() -> str:
        async with lite.db.async_sessionmaker() as session:
            session.add(Item(name="eve"))
            await session.flush()  # FLUSHED
        return "ok"

    lite.world.app.add_url_rule("/", view_func=view)
    lite.world.open()
    finding = lite.world.only("SW204")
    assert str(finding.scope) == "GET /"
    assert f"{line('FLUSHED')} in view" in finding.text


@pytest.mark.parametrize("lite", ["sqlite"], indirect=True)  # only there can another event loop close it
def test_async_session_that_is_left_open(lite: AsyncLite) -> None:
    """SW201: an AsyncSession that an async view does not close is told of its request."""

    async def view() -> str:
        session = lite.db.async_sessionmaker()
        kept.append(session)
        return str((await session.scalars(NAMES)).all())  # AWAITED

    kept: list[t.Any] = []
    lite.world.app.add_url_rule("/", view_func=view)
    lite.world.open()
    finding = lite.world.told("SW201")[0]
    assert str(finding.scope) == "GET /"
    assert at(finding) == line("AWAITED")
    asyncio.run(kept[0].close())
