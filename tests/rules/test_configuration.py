"""SW701, SW702, SW703, SW705, SW707: options and listeners that cost, mislead or do nothing."""

import functools
import textwrap
import typing as t
from pathlib import Path
from unittest import mock

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy import track_modifications
from sqlalchemy import event
from sqlalchemy import orm

from flask_sessionwatch import extension
from flask_sessionwatch.observe.pooled import EngineInfo
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line

Listen: t.TypeAlias = t.Callable[[t.Any, str, t.Callable[..., t.Any]], None]


@pytest.fixture
def listen() -> t.Iterator[Listen]:
    """Register listeners that are taken off again after the test."""
    registered: list[tuple[t.Any, str, t.Callable[..., t.Any]]] = []

    def listen(target: t.Any, name: str, listener: t.Callable[..., t.Any]) -> None:
        event.listen(target, name, listener)
        registered.append((target, name, listener))

    yield listen
    for each in registered:
        event.remove(*each)


def database(world: World, **config: t.Any) -> SQLAlchemy:
    """Give the world Flask-SQLAlchemy with further options."""
    world.app.config.update(config)
    return world.flask_sqlalchemy()


def writing_view(world: World, db: SQLAlchemy) -> None:
    @world.view("POST")
    def view() -> str:
        db.session.add(Item(name="cleo"))
        db.session.commit()  # WRITES
        return "ok"


def reading_view(world: World, db: SQLAlchemy) -> None:
    @world.view()
    def view() -> str:
        return str(db.session.scalar(sa.select(Item.name)))  # READS


# SW701


def test_track_modifications(world: World) -> None:
    """SW701: tracking for signals that nobody receives is told once, at a line that writes, with the option's own."""
    db = database(world, SQLALCHEMY_TRACK_MODIFICATIONS=True)  # OPTION
    writing_view(world, db)
    world.open(method="POST")
    world.ticks(2)
    finding = world.only("SW701")
    assert (finding.rule, finding.level, finding.count) == ("track-modifications", "warning", 1)
    assert at(finding) == line("WRITES")
    assert finding.scope is None
    assert any(
        f"set at {Path(__file__).name}" in each or "set at " in each for each in finding.details["lines"]
    )


def test_tracking_at_start(world: World) -> None:
    """SW701: asked before any work was done, the watch names the line that sets the option."""
    database(world, SQLALCHEMY_TRACK_MODIFICATIONS=True)
    world.watch.tick()
    finding = world.only("SW701")
    assert finding.site is not None
    assert (
        "SQLALCHEMY_TRACK_MODIFICATIONS"
        in Path(finding.site.filename).read_text().splitlines()[finding.site.lineno - 1]
    )


def test_tracking_that_is_used(world: World) -> None:
    """SW701: an application that receives the signal uses the option."""
    db = database(world, SQLALCHEMY_TRACK_MODIFICATIONS=True)
    writing_view(world, db)

    def receive(sender: object, changes: object) -> None: ...

    with track_modifications.models_committed.connected_to(receive):
        world.open(method="POST")
        world.ticks(1)
    assert world.heard == []


@pytest.mark.parametrize("config", [{}, {"SQLALCHEMY_TRACK_MODIFICATIONS": False}])
def test_tracking_off(world: World, config: dict[str, t.Any]) -> None:
    """SW701: the default, and the option turned off, are healthy."""
    db = database(world, **config)
    writing_view(world, db)
    world.open(method="POST")
    world.ticks(1)
    assert world.heard == []


def test_tracking_set_too_late(world: World) -> None:
    """SW701: an option that was set after init_app has no effect, and costs nothing."""
    db = database(world)
    world.app.config["SQLALCHEMY_TRACK_MODIFICATIONS"] = True
    writing_view(world, db)
    world.open(method="POST")
    world.ticks(1)
    assert world.heard == []


# SW702


def test_record_queries(world: World) -> None:
    """SW702: recording outside of debug mode and tests is told once, at a line whose statements are kept."""
    db = database(world, SQLALCHEMY_RECORD_QUERIES=True)
    reading_view(world, db)
    world.open()
    world.open()
    world.ticks(2)
    finding = world.only("SW702")
    assert (finding.rule, finding.level, finding.count) == ("record-queries", "warning", 1)
    assert at(finding) == line("READS")


@pytest.mark.parametrize("mode", ["DEBUG", "TESTING"])
def test_recording_where_it_is_meant(world: World, mode: str) -> None:
    """SW702: in debug mode and in tests the option is used as it should be."""
    db = database(world, SQLALCHEMY_RECORD_QUERIES=True, **{mode: True})
    reading_view(world, db)
    world.open()
    world.ticks(1)
    assert world.heard == []


def test_recording_off(world: World) -> None:
    """SW702: without the option nothing is told."""
    reading_view(world, database(world))
    world.open()
    world.ticks(1)
    assert world.heard == []


def test_recording_beside_a_mock(world: World) -> None:
    """SW702: an engine for which a test has put a mock is passed over."""
    db = database(world, SQLALCHEMY_RECORD_QUERIES=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(db._app_engines[world.app], None, mock.MagicMock())
        world.ticks(1)
    assert world.heard == []


def test_recording_in_a_long_context(world: World) -> None:
    """SW702: a worker that stays in one app context is told before that ends."""
    db = database(world, SQLALCHEMY_RECORD_QUERIES=True)
    with world.app.app_context():
        for _ in range(3):
            db.session.scalar(sa.select(Item.name))  # WORKS
            db.session.commit()
        process_ticks(world)
        assert at(world.only("SW702")) == line("WORKS")


def process_ticks(world: World) -> None:
    """Tick as the watchdog does."""
    extension._process.tick()


# SW703


def make_app(listen: Listen) -> None:
    """Register a hook as a create_app() does that was called once too often."""

    def audit(session: t.Any, context: t.Any, instances: t.Any) -> None: ...

    listen(orm.Session, "before_flush", audit)


def test_duplicate_listeners(world: World) -> None:
    """SW703: a hook that each create_app() registers anew is told once, at the registration."""

    def create_app() -> None:
        def audit(session: t.Any, context: t.Any, instances: t.Any) -> None: ...

        event.listen(orm.Session, "before_flush", audit)  # REGISTERED
        made.append(audit)

    made: list[t.Callable[..., None]] = []
    for _ in range(3):
        create_app()
    world.ticks(2)
    for audit in made:
        event.remove(orm.Session, "before_flush", audit)
    finding = world.only("SW703")
    assert (finding.rule, finding.level, finding.count) == ("duplicate-listeners", "warning", 1)
    assert at(finding) == line("REGISTERED")
    assert "audit" in finding.message
    assert finding.details["registered"] == 3


def test_decorated_duplicates(world: World) -> None:
    """SW703: a hook registered by a decorator is told at the decorator."""
    made: list[t.Callable[..., None]] = []
    for _ in range(2):

        @event.listens_for(orm.Mapper, "before_insert")  # DECORATED
        def stamp(mapper: t.Any, connection: t.Any, target: t.Any) -> None: ...

        made.append(stamp)
    world.watch.tick()
    for stamp in made:
        event.remove(orm.Mapper, "before_insert", stamp)
    assert at(world.only("SW703")) == line("DECORATED")


@pytest.mark.parametrize(
    ("target", "name"),
    [(sa.Engine, "before_cursor_execute"), (sa.Pool, "connect"), (orm.Session, "pending_to_persistent")],
    ids=lambda each: str(getattr(each, "__name__", each)),
)
def test_duplicates_behind_wrappers(world: World, listen: Listen, target: t.Any, name: str) -> None:
    """SW703: SQLAlchemy's own wrappers around a listener do not hide it."""
    for _ in range(2):

        def hook(*args: t.Any) -> None: ...

        listen(target, name, hook)
    world.watch.tick()
    assert world.told("SW703")


def test_one_listener(world: World, listen: Listen) -> None:
    """SW703: registered once, or the same function twice, is healthy."""

    def audit(session: t.Any, context: t.Any, instances: t.Any) -> None: ...

    listen(orm.Session, "before_flush", audit)
    event.listen(orm.Session, "before_flush", audit)
    event.listen(orm.Session, "after_flush", audit)
    world.ticks(1)
    event.remove(orm.Session, "after_flush", audit)
    assert world.heard == []


def test_listeners_of_different_targets(world: World, listen: Listen) -> None:
    """SW703: a hook for each engine or each session factory is healthy."""
    for _ in range(3):

        def hook(*args: t.Any) -> None: ...

        listen(world.make_engine(), "connect", hook)
    world.ticks(1)
    assert world.heard == []


def test_listeners_over_different_things(world: World, listen: Listen) -> None:
    """SW703: one function that closes over another model, name or function each time is several listeners."""

    def watching(what: t.Any) -> t.Callable[..., None]:
        def hook(session: t.Any, context: t.Any, instances: t.Any) -> None:
            repr(what)

        return hook

    for what in (Item, World, "item", "order", make_app, process_ticks):
        listen(orm.Session, "before_flush", watching(what))
        listen(orm.Session, "after_rollback", functools.partial(lambda what, session: None, what))
    world.ticks(1)
    assert world.heard == []


def test_listeners_of_objects(world: World, listen: Listen) -> None:
    """SW703: methods of several objects may be meant."""

    class Tracker:
        def hook(self, session: t.Any, context: t.Any, instances: t.Any) -> None: ...

    for _ in range(3):
        listen(orm.Session, "before_flush", Tracker().hook)
    world.ticks(1)
    assert world.heard == []


def test_listeners_of_ever_more_objects(world: World, listen: Listen) -> None:
    """SW703: methods of ever more objects are not meant: such a hook is registered by each request."""

    class Tracker:
        def hook(self, session: t.Any, context: t.Any, instances: t.Any) -> None: ...

    for _ in range(4):
        listen(orm.Session, "before_flush", Tracker().hook)
        world.watch.tick()
    assert world.only("SW703").details["event"] == "before_flush"


def test_listeners_over_the_application(world: World, listen: Listen) -> None:
    """SW703: a closure over an application is the same listener for another one."""

    def create_app() -> None:
        app = flask.Flask("another")

        def audit(session: t.Any, context: t.Any, instances: t.Any) -> None:
            app.logger.info("flush")

        listen(orm.Session, "before_flush", audit)

    for _ in range(2):
        create_app()
    world.watch.tick()
    assert world.only("SW703").details["registered"] == 2


def test_duplicates_grow(world: World, listen: Listen) -> None:
    """SW703: what was told is told again only when it has grown tenfold."""
    for _ in range(2):
        make_app(listen)
    world.ticks(2)
    assert world.only("SW703").count == 1
    for _ in range(10):
        make_app(listen)
    world.ticks(2)
    assert world.only("SW703").count == 2
    assert "12 times" in world.only("SW703").message


def test_duplicates_without_source(world: World, listen: Listen, tmp_path: Path) -> None:
    """SW703: where the source cannot be read, the line is the listener's first."""
    path = tmp_path / "gone.py"
    world.configure(app_paths=[str(tmp_path)])
    source = "def make():\n    def audit(session, context, instances): pass\n    return audit\n"
    namespace: dict[str, t.Any] = {}
    exec(compile(source, str(path), "exec"), namespace)  # noqa: S102, a module whose file was deleted
    for _ in range(2):
        listen(orm.Session, "before_flush", namespace["make"]())
    world.watch.tick()
    assert at(world.only("SW703")) == 2


# SW705


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("SQLALCHEMY_COMMIT_ON_TEARDOWN", True),
        ("SQLALCHEMY_POOL_SIZE", 20),
        ("SQLALCHEMY_POOL_TIMEOUT", 10),
        ("SQLALCHEMY_POOL_RECYCLE", 3600),
        ("SQLALCHEMY_MAX_OVERFLOW", 0.5),
    ],
)
def test_removed_option(world: World, option: str, value: t.Any) -> None:
    """SW705: an option that Flask-SQLAlchemy 3 ignores is told once, with what replaces it."""
    database(world, **{option: value})
    world.ticks(2)
    finding = world.only("SW705")
    assert (finding.rule, finding.level, finding.count) == ("removed-option", "error", 1)
    assert option in finding.message
    assert finding.details["option"] == option


def test_removed_option_site(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SW705: the line that sets the option is named, and not one that only mentions it."""
    # Other tests made their own folder the application's as well, and set the option there.
    monkeypatch.setattr(extension._process.stacks, "_paths", ())
    monkeypatch.setattr(extension._process.stacks, "_known", {})
    path = tmp_path / "settings_of_shop.py"
    path.write_text(
        textwrap.dedent("""\
            # SQLALCHEMY_POOL_SIZE = 5 was too little.
            class Config:
                DEBUG = False
                SQLALCHEMY_POOL_SIZE = 20
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    __import__("settings_of_shop")
    world.configure(app_paths=[str(tmp_path)])
    database(world, SQLALCHEMY_POOL_SIZE=20)
    world.watch.tick()
    finding = world.only("SW705")
    assert (finding.site and Path(finding.site.filename), at(finding)) == (path, 4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("SQLALCHEMY_COMMIT_ON_TEARDOWN", False),
        ("SQLALCHEMY_POOL_SIZE", None),
        ("SQLALCHEMY_NATIVE_UNICODE", True),
    ],
)
def test_removed_option_that_asks_for_nothing(world: World, option: str, value: t.Any) -> None:
    """SW705: an option without consequences is only information."""
    database(world, **{option: value})
    world.ticks(1)
    assert [finding.level for finding in world.told("SW705")] == ["info"]


def test_removed_option_explains(world: World) -> None:
    """SW705: where the lost write itself was told, the option that explains it raises no second alarm."""
    db = database(world, SQLALCHEMY_COMMIT_ON_TEARDOWN=True)

    @world.view("POST")
    def view() -> str:
        db.session.add(Item(name="cleo"))
        return "ok"

    world.open(method="POST")
    world.ticks(1)
    assert world.heard == ["SW204 error"]
    assert [finding.level for finding in world.told("SW705")] == ["info"]


def test_removed_option_of_others(world: World) -> None:
    """SW705: without Flask-SQLAlchemy, and with Flask-SQLAlchemy-Lite, the keys are somebody else's."""
    world.app.config["SQLALCHEMY_POOL_SIZE"] = 20
    world.watch.tick()
    world.flask_sqlalchemy_lite()
    world.configure()
    world.watch.tick()
    assert world.told("SW705") == []


# SW707


def used(world: World, engine: sa.Engine) -> None:
    """Let a request use *engine*."""

    @world.view()
    def view() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(sa.text("SELECT 1")))

    world.open()
    world.ticks(1)


def test_no_liveness_check(mariadb_world: World) -> None:
    """SW707: a MySQL or MariaDB engine without a check is told once, as information."""
    used(mariadb_world, mariadb_world.make_engine(pool_recycle=-1))
    (finding,) = mariadb_world.told("SW707")
    assert (finding.rule, finding.level, finding.count) == ("no-liveness-check", "info", 1)


@pytest.mark.parametrize(
    "options", [{"pool_pre_ping": True}, {"pool_recycle": 3600}, {"poolclass": sa.NullPool}]
)
def test_liveness_check(mariadb_world: World, options: dict[str, t.Any]) -> None:
    """SW707: with either option, or without a pool, nothing is told."""
    used(mariadb_world, mariadb_world.make_engine(**options))
    assert mariadb_world.told("SW707") == []


def test_no_proxy(any_world: World) -> None:
    """SW707: SQLite, and PostgreSQL without a proxy, keep their connections."""
    used(any_world, any_world.engine)
    assert any_world.told("SW707") == []


def test_behind_pgbouncer(postgresql_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SW707: PostgreSQL at PgBouncer's port is a proxied one."""
    used(postgresql_world, postgresql_world.engine)
    monkeypatch.setattr(EngineInfo, "port", 6432)
    postgresql_world.watch.tick()
    (finding,) = postgresql_world.told("SW707")
    assert "PgBouncer" in finding.message


def test_facts_survive_the_application(world: World) -> None:
    """SW701, SW705: once the application is gone, there is nothing to be told, and no error."""
    world.flask_sqlalchemy()
    setup = world.watch._watched[0].setup
    setup._app_ref = lambda: None
    world.ticks(1)
    in_thread(world.watch.tick)
    assert (setup.config, setup.extension("sqlalchemy"), world.heard) == ({}, None, [])
