"""A watched application for each test of a rule, and ways to ask what was told of it."""

import contextlib
import gc
import inspect
import sys
import threading
import time
import typing as t
from pathlib import Path

import flask
import flask_sqlalchemy_lite
import prometheus_client
import psycopg
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm
from werkzeug.test import TestResponse

from flask_sessionwatch import Finding
from flask_sessionwatch import Rule
from flask_sessionwatch import SessionWatch
from flask_sessionwatch import extension
from flask_sessionwatch.observe.clock import clock

TICK = 0.05
#: Seconds in which other threads get their turn.
TURN = 0.002
#: Short limits, so that no test has to wait for long.
SETTINGS: dict[str, t.Any] = {
    "SESSIONWATCH_TICK": TICK,
    "SESSIONWATCH_IDLE_IN_TRANSACTION": 60.0,
    "SESSIONWATCH_LONG_CHECKOUT": 60.0,
    "SESSIONWATCH_APP_PATHS": [str(Path(__file__).parent.parent)],
}
#: Seconds after which waiting for something is given up.
DEADLINE = 10.0
#: A statement that PostgreSQL answers at the end of the block of `querying`.
LONG_QUERY = "SELECT pg_advisory_lock(1)"
BLOCKED = """
    SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()
"""


class Base(orm.DeclarativeBase):
    """The base of the tests' models."""


class Unused(orm.DeclarativeBase):
    """Flask-SQLAlchemy wants a base of its own; the session maps Item all the same."""


class Item(Base):
    """Something to read and write."""

    __tablename__ = "item"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    hits: orm.Mapped[int] = orm.mapped_column(default=0)


def one_item(session: t.Any) -> Item:
    """Load the first item; Session.get_one() came only with SQLAlchemy 2.0.22."""
    found: Item = session.scalars(sa.select(Item).where(Item.id == 1)).one()
    return found


def _errors() -> int:
    """Count the watcher's own errors and those of its sinks, from the start of this process."""
    process = extension._process
    return process.ledger.internal_errors + process._extension_errors


class Clock:
    """The watcher's clock, which can be put forward: no test waits for what is only told after a while."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._clock = clock
        self._ahead = 0.0
        for name, module in sys.modules.copy().items():
            if name.startswith("flask_sessionwatch.") and getattr(module, "clock", None) is self._clock:
                self._patch.setattr(module, "clock", self)

    def __call__(self) -> float:
        return self._clock() + self._ahead

    def put_forward(self, seconds: float) -> None:
        self._ahead += seconds

    def close(self) -> None:
        """Give back the clock that was there before."""
        self._patch.undo()


class World:
    """A watched application with a database of its own.

    :param url: an empty database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = Clock()
        self.app = flask.Flask(__name__)
        self.app.config.update(SETTINGS)
        self.registry = prometheus_client.CollectorRegistry()
        self._engines: list[sa.Engine] = []
        self._kept: list[t.Any] = []
        self.engine = self.make_engine()
        if not sa.inspect(self.engine).has_table("item"):
            self._fill()
        self.watch = SessionWatch(self.app, registry=self.registry)
        self._errors_before = _errors()

    def _fill(self) -> None:
        Base.metadata.create_all(self.engine)
        with orm.Session(self.engine) as session:
            session.add_all([Item(name="ann"), Item(name="bob")])
            session.commit()

    def configure(self, rules: t.Sequence[Rule] | None = None, **settings: t.Any) -> SessionWatch:
        """Watch anew with other rules and settings, these given without their prefix."""
        self.watch.close()
        self.app.config.update({f"SESSIONWATCH_{key.upper()}": value for key, value in settings.items()})
        self.watch = SessionWatch(self.app, rules=rules, registry=self.registry)
        return self.watch

    def make_engine(self, url: str | None = None, **options: t.Any) -> sa.Engine:
        """Make a further engine, which is disposed of at the end."""
        if (url or self.url).startswith("mysql"):
            options.setdefault("pool_recycle", 3600)  # as SW707 wants it
        engine = sa.create_engine(url or self.url, **options)
        self._engines.append(engine)
        return engine

    def flask_sqlalchemy(self) -> SQLAlchemy:
        """Give the application Flask-SQLAlchemy on the same database."""
        self.app.config["SQLALCHEMY_DATABASE_URI"] = self.url
        db = SQLAlchemy(self.app, model_class=Unused)
        with self.app.app_context():
            self._engines.append(db.engine)
        return db

    def flask_sqlalchemy_lite(self) -> flask_sqlalchemy_lite.SQLAlchemy:
        """Give the application Flask-SQLAlchemy-Lite on the same database."""
        self.app.config["SQLALCHEMY_ENGINES"] = {"default": self.url}
        db = flask_sqlalchemy_lite.SQLAlchemy(self.app)
        with self.app.app_context():
            self._engines.append(db.engine)
        return db

    def keep(self, thing: t.Any) -> t.Any:
        """Keep a leaked Session or connection from the garbage collector until the test is over."""
        self._kept.append(thing)
        return thing

    def give_back(self) -> None:
        """Close what was kept."""
        while self._kept:
            self._kept.pop().close()

    def forgive(self, errors: int) -> None:
        """Expect that the watcher has stumbled so often, because the test made it."""
        self._errors_before += errors

    def close(self) -> None:
        """Take everything away, and fail if the watcher stumbled over itself meanwhile."""
        leaked = bool(self._kept or self.watch.findings)
        errors = _errors() - self._errors_before
        self.watch.close()
        while self._kept:
            with contextlib.suppress(Exception):
                self._kept.pop().close()
        if leaked:
            gc.collect()
        for engine in self._engines:
            engine.dispose()
        self.clock.close()
        assert errors == 0, "the watcher stumbled over itself"

    # Driving

    def open(self, path: str = "/", **options: t.Any) -> TestResponse:
        """Make a request, read its whole answer and close it, as a server does."""
        return self.app.test_client().open(path, buffered=True, **options)

    def view(self, *methods: str, rule: str = "/") -> t.Callable[[t.Callable[..., t.Any]], None]:
        """Register a view; it answers at "/" unless told otherwise."""

        def register(function: t.Callable[..., t.Any]) -> None:
            self.app.add_url_rule(rule, f"{rule}{methods}", function, methods=methods or ("GET",))

        return register

    def names(self) -> list[str]:
        """Read what is committed, with an engine that nobody watches closely."""
        engine = sa.create_engine(self.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return list(connection.scalars(sa.select(Item.name).order_by(Item.id)))

    # Asking

    def told(self, code: str) -> list[Finding]:
        """Return the findings of one rule."""
        return [finding for finding in self.watch.findings if finding.code == code]

    @property
    def heard(self) -> list[str]:
        """Every finding that is worth an alert, as "code level"; healthy code has none."""
        return [
            f"{finding.code} {finding.level}" for finding in self.watch.findings if finding.level != "info"
        ]

    def only(self, code: str) -> Finding:
        """Return the one finding of *code*, and see that nothing else worth an alert was told."""
        found = self.told(code)
        assert [code] == [each.code for each in found], self.heard
        assert {code} >= {each[:5] for each in self.heard}
        return found[0]

    def wait_for(self, code: str, level: str | None = None) -> Finding:
        """Tick until *code* is told, at *level* if that is given."""
        until(lambda: self._tick_for(code, level))
        return next(each for each in self.told(code) if level in (None, each.level))

    def _tick_for(self, code: str, level: str | None) -> bool:
        self.watch.tick()
        return any(level in (None, each.level) for each in self.told(code))

    def ticks(self, number: int = 4) -> None:
        """Let several ticks pass, each long enough for a suspicion to be confirmed."""
        for _ in range(number):
            self.watch.tick()
            self.clock.put_forward(TICK)
            time.sleep(TURN)
        self.watch.tick()

    def tick_after(self, seconds: float) -> None:
        """Judge as if *seconds* had passed."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flask_sessionwatch.rules.base.clock", lambda: self.clock() + seconds)
            self.watch.tick()

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric as it is now; 0 where there is none."""
        self.watch.tick()
        return self.registry.get_sample_value(name, labels) or 0.0


def until(condition: t.Callable[[], bool]) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def line(marker: str) -> int:
    """Return the number of the line with the comment *marker* in the calling function, or else in its module."""
    code = sys._getframe(1).f_code
    for source, first in (inspect.getsourcelines(code), (inspect.findsource(code)[0], 1)):
        found = [number for number, text in enumerate(source, first) if text.rstrip().endswith(f"# {marker}")]
        if found:
            assert len(found) == 1, f"{marker} is there {len(found)} times"
            return found[0]
    raise AssertionError(f"there is no line marked {marker}")


def at(finding: Finding) -> int | None:
    """Return the line a finding names."""
    return None if finding.site is None else finding.site.lineno


def in_thread(work: t.Callable[[], object]) -> None:
    """Run *work* on a thread of its own, and wait until that is over."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error


@contextlib.contextmanager
def querying(world: World, work: t.Callable[[], object]) -> t.Iterator[None]:
    """Have a thread do *work*, whose LONG_QUERY takes as long as the block lasts."""
    url = sa.make_url(world.url).set(drivername="postgresql").render_as_string(hide_password=False)
    thread = threading.Thread(target=work)
    try:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(LONG_QUERY)
            thread.start()
            until(lambda: other.execute(BLOCKED).fetchone() is not None)
            yield
    finally:
        thread.join()


@contextlib.contextmanager
def world_of(url: str) -> t.Iterator[World]:
    """A world for as long as the block lasts."""
    world = World(url)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture
def world(sqlite_url: str) -> t.Iterator[World]:
    """A watched application on SQLite."""
    with world_of(sqlite_url) as world:
        yield world


@pytest.fixture(params=["sqlite", "postgresql", "postgresql_psycopg2"])
def any_world(request: pytest.FixtureRequest) -> t.Iterator[World]:
    """A watched application on SQLite and by each driver on PostgreSQL, whose transactions differ most."""
    with world_of(request.getfixturevalue(f"{request.param}_url")) as world:
        yield world


@pytest.fixture
def every_world(database_url: str) -> t.Iterator[World]:
    """A watched application on each kind of database in turn."""
    with world_of(database_url) as world:
        yield world


@pytest.fixture
def postgresql_world(postgresql_url: str) -> t.Iterator[World]:
    """A watched application on PostgreSQL."""
    with world_of(postgresql_url) as world:
        yield world


@pytest.fixture
def mariadb_world(mariadb_url: str) -> t.Iterator[World]:
    """A watched application on MariaDB."""
    with world_of(mariadb_url) as world:
        yield world
