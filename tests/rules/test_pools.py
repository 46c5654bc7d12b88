"""SW6xx: pools that run dry, are nearly full or stuck, and pools without end."""

import contextlib
import gc
import itertools
import sys
import threading
import typing as t
from pathlib import Path

import flask
import psycopg
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm

from flask_sessionwatch import extension
from flask_sessionwatch.observe.ledger import ENGINES_KEPT
from flask_sessionwatch.rules.pools import PoolNearLimit
from flask_sessionwatch.rules.pools import PoolStuck
from tests.rules.conftest import LONG_QUERY
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line
from tests.rules.conftest import querying
from tests.rules.conftest import until

DRY: dict[str, t.Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.05}


def text_of(error: BaseException) -> str:
    """Return what a traceback would show of *error*: its text and its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def fail(engine: sa.Engine) -> None:
    """Check out from a pool that is dry."""
    with pytest.raises(sa.exc.TimeoutError):
        engine.connect()


def test_exhausted(any_world: World) -> None:
    """SW601: a check-out that timed out is told at its line, with who holds the connections, and where."""
    engine = any_world.make_engine(**DRY)

    @any_world.view(rule="/hold")
    def hold() -> str:
        any_world.keep(engine.connect())  # HELD
        return "ok"

    @any_world.view()
    def view() -> str:
        with engine.connect() as connection:  # WANTED
            return str(connection.scalar(sa.select(Item.name)))

    any_world.open("/hold")
    assert any_world.open().status_code == 500
    (finding,) = any_world.told("SW601")
    assert (finding.rule, finding.level) == ("pool-exhausted", "error")
    assert (at(finding), str(finding.scope)) == (line("WANTED"), "GET /")
    (holder,) = finding.details["holders"]
    assert holder.startswith("GET /hold, held ")
    assert f"test_pools.py:{line('HELD')} in hold" in holder
    assert set(any_world.heard) == {"SW101 error", "SW601 error"}


def test_note_on_the_exception(world: World) -> None:
    """SW601: the TimeoutError itself says who holds the pool, as a note, or in its text on Python 3.10."""
    engine = world.make_engine(**DRY)
    world.keep(engine.connect())  # HELD
    errors: list[sa.exc.TimeoutError] = []

    def work() -> None:
        with pytest.raises(sa.exc.TimeoutError, match="QueuePool limit") as caught:
            engine.connect()
        errors.append(caught.value)

    in_thread(work)
    assert f"test_pools.py:{line('HELD')}" in text_of(errors[0])
    if sys.version_info >= (3, 11):
        assert f"test_pools.py:{line('HELD')}" not in str(errors[0])


def test_present_line_of_the_holder(world: World) -> None:
    """SW601: a holder that is still at work is named with the line it is at now."""
    engine = world.make_engine(**DRY)
    held, done = threading.Event(), threading.Event()

    def work() -> None:
        with engine.connect():
            held.set()
            done.wait()  # NOW

    thread = threading.Thread(target=work, name="report writer")
    thread.start()
    held.wait()
    with pytest.raises(sa.exc.TimeoutError):
        engine.connect()
    done.set()
    thread.join()
    (holder,) = world.wait_for("SW601").details["holders"]
    assert "thread 'report writer'" in holder
    assert f"now at {__file__.rpartition('/tests/')[2]}".split("/")[-1] in holder
    assert f":{line('NOW')} in work" in holder


def test_every_holder_is_listed(world: World) -> None:
    """SW601: all holders are listed, oldest first, and the pool's limit is said."""
    engine = world.make_engine(pool_size=2, max_overflow=1, pool_timeout=0.05)
    for _ in range(3):
        world.keep(engine.connect())
    in_thread(lambda: fail(engine))
    finding = world.wait_for("SW601")
    assert len(finding.details["holders"]) == 3
    assert "3 of 3 were held" in finding.message
    assert all(holder in finding.text for holder in finding.details["holders"])


def test_session_that_gets_no_connection(any_world: World) -> None:
    """SW601: a Session that gets no connection is told at the statement that wanted one."""
    engine = any_world.make_engine(**DRY)

    @any_world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            return str(session.scalar(sa.select(Item.name)))  # WANTED

    holder = engine.connect()
    assert any_world.open().status_code == 500
    holder.close()
    assert at(any_world.only("SW601")) == line("WANTED")
    assert any_world.open().text == "ann"


def test_waited_and_got(world: World) -> None:
    """SW601: waiting that ends well is no finding."""
    engine = world.make_engine(pool_size=1, max_overflow=0, pool_timeout=10)
    holder = engine.connect()
    timer = threading.Timer(0.1, holder.close)
    timer.start()
    with engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    timer.join()
    world.ticks()
    assert world.heard == []


def test_other_errors_while_connecting(world: World) -> None:
    """SW601: a database that cannot be reached is no exhausted pool."""
    engine = world.make_engine("sqlite:////nowhere/at/all.db")

    @world.view()
    def view() -> str:
        with engine.connect():
            return "ok"

    assert world.open().status_code == 500
    assert world.watch.findings == []


def test_pool_of_an_ignored_engine(world: World) -> None:
    """SW601: an engine that is not to be watched may run dry untold, and its exception is untouched."""
    engine = world.make_engine(**DRY)
    world.watch.ignore(engine)
    world.keep(engine.connect())
    with pytest.raises(sa.exc.TimeoutError) as caught:
        engine.connect()
    world.ticks()
    assert world.watch.findings == []
    assert "is held by" not in text_of(caught.value)


def test_engine_with_options(world: World) -> None:
    """SW601: an engine made by execution_options() runs dry with the pool it shares."""
    engine = world.make_engine(**DRY)
    world.keep(engine.connect())
    options = engine.execution_options(stream_results=True)
    in_thread(lambda: fail(options))
    assert len(world.wait_for("SW601").details["holders"]) == 1


def test_nothing_secret_is_told(postgresql_world: World) -> None:
    """SW601: neither the finding nor the note shows a password of the engine's URL."""
    url = sa.make_url(postgresql_world.url)
    conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
    engine = postgresql_world.make_engine(
        url.set(password="hunter2").render_as_string(hide_password=False),
        creator=lambda: psycopg.connect(conninfo),
        **DRY,
    )
    postgresql_world.keep(engine.connect())
    with pytest.raises(sa.exc.TimeoutError) as caught:
        engine.connect()
    finding = postgresql_world.wait_for("SW601")
    assert "hunter2" not in text_of(caught.value)
    assert "hunter2" not in finding.text + str(finding.as_json())


def test_repeated(world: World) -> None:
    """SW601: one line that times out again and again is one finding, with the latest holders."""
    engine = world.make_engine(**DRY)
    world.keep(engine.connect())

    @world.view()
    def view() -> str:
        with engine.connect():
            return "ok"

    for _ in range(3):
        assert world.open().status_code == 500
    assert world.only("SW601").count == 3
    assert world.metric("sessionwatch_connection_timeouts_total", engine=name_of(world)) == 3


def name_of(world: World) -> str:
    """Return the name under which the engines of *world* are told: their database's."""
    return str(sa.make_url(world.url).database).rpartition("/")[2]


# SW602


def crowd(world: World, engine: sa.Engine, number: int) -> None:
    """Check out so many connections of *engine*."""
    for _ in range(number):
        world.keep(engine.connect())  # CROWD


def lively(world: World, **options: t.Any) -> sa.Engine:
    """Watch with the rule on full pools alone, and make an engine whose pool has a limit."""
    world.configure(rules=[PoolNearLimit(), PoolStuck()])
    return world.make_engine(poolclass=sa.QueuePool, **options)


def test_near_limit(world: World) -> None:
    """SW602: a pool four fifths of which are used is told with its holders, and resolved when it has room again."""
    engine = lively(world, pool_size=3, max_overflow=2)
    with world.watch.scope("import"):
        crowd(world, engine, 4)
        finding = world.wait_for("SW602")
        assert (finding.rule, finding.level, at(finding)) == ("pool-near-limit", "info", line("CROWD"))
        assert [finding.details[name] for name in ("used", "capacity")] == [4, 5]
        assert "has 4 of 5 connections checked out" in finding.message
        assert len(finding.details["holders"]) == 4
        assert f"held by {finding.details['holders'][0]}" in finding.text
        assert not finding.resolved
        world.give_back()
        world.watch.tick()
        assert finding.resolved


def test_large_pool_near_its_limit(world: World) -> None:
    """SW602: of very many holders the oldest are listed, and the others are counted."""
    engine = lively(world, pool_size=60, max_overflow=0)
    crowd(world, engine, 55)
    finding = world.wait_for("SW602")
    assert (finding.details["used"], len(finding.details["holders"])) == (55, 50)
    assert "and by 5 more" in finding.text
    world.give_back()


def test_long_near_the_limit(world: World) -> None:
    """SW602: what lasts becomes a warning, and is told once."""
    engine = lively(world, pool_size=5, max_overflow=0)
    crowd(world, engine, 5)
    world.wait_for("SW602")
    for seconds in (4.0, 7.0, 8.0):
        world.tick_after(seconds)
    assert world.heard == ["SW602 warning"]
    assert world.only("SW602").count == 2
    world.give_back()


def test_small_pool_near_its_limit(world: World) -> None:
    """SW602: a small pool is full as soon as it is used, which is worth knowing and no alert."""
    crowd(world, lively(world, pool_size=1, max_overflow=1), 2)
    world.wait_for("SW602")
    world.tick_after(60.0)
    assert world.heard == []
    world.give_back()


def test_far_from_the_limit(world: World) -> None:
    """SW602: a pool with room is healthy, and so is one without a limit."""
    crowd(world, lively(world, pool_size=5, max_overflow=0), 3)
    crowd(world, lively(world, pool_size=1, max_overflow=-1), 5)
    world.ticks()
    world.tick_after(60.0)
    assert world.watch.findings == []
    world.give_back()


def test_near_limit_for_a_moment(world: World) -> None:
    """SW602: a single look at a full pool says nothing."""
    engine = lively(world, pool_size=5, max_overflow=0)
    for _ in range(3):
        crowd(world, engine, 5)
        world.watch.tick()
        world.give_back()
        world.tick_after(0.2)
    assert world.watch.findings == []


def test_share_of_the_rule(world: World) -> None:
    """SW602: the share is an option."""
    world.configure(rules=[PoolNearLimit(share=0.4)])
    crowd(world, world.make_engine(poolclass=sa.QueuePool, pool_size=5, max_overflow=0), 2)
    world.wait_for("SW602")
    world.give_back()


def test_crowded_pool_that_is_gone(world: World) -> None:
    """SW602: it is resolved too when the whole pool is gone."""
    world.configure(rules=[PoolNearLimit()])
    engine: sa.Engine | None = sa.create_engine(world.url, pool_size=1, max_overflow=0)
    assert engine is not None
    connection = engine.connect()
    finding = world.wait_for("SW602")
    connection.close()
    with connection.engine.connect():
        pass
    engine.dispose()
    del connection, engine
    gc.collect()
    world.watch.tick()
    assert finding.resolved


# SW603


@contextlib.contextmanager
def waiting(engine: sa.Engine) -> t.Iterator[None]:
    """Have a thread wait for a connection of *engine* for as long as the block lasts, or until it gets one."""
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        with contextlib.suppress(sa.exc.TimeoutError), engine.connect():
            pass

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait(10)
    ledger = extension._process.ledger
    until(lambda: bool(ledger.waiting))
    try:
        yield
    finally:
        thread.join()


STUCK: dict[str, t.Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10}


def test_stuck(any_world: World) -> None:
    """SW603: a pool that somebody waits for in vain is told with its holders, and resolved when it moves."""
    engine = lively(any_world, **STUCK)
    with any_world.watch.scope("import"):
        any_world.keep(engine.connect())  # HELD
        with waiting(engine):
            # For good: the watchdog, which ticks as well, would find the pool moving again before that time.
            any_world.clock.put_forward(1.5)
            any_world.watch.tick()
            finding = any_world.only("SW603")
            assert (finding.rule, finding.level, at(finding)) == ("pool-stuck", "error", line("HELD"))
            assert finding.details["waiting"] == 1
            assert (
                "all 1 connections are held, 1 thread waits, and none was returned for 1." in finding.message
            )
            (holder,) = finding.details["holders"]
            assert holder.startswith("import, held ")
            assert not finding.resolved
            any_world.clock.put_forward(1.0)
            any_world.watch.tick()
            assert finding.count == 1
            any_world.give_back()
        any_world.watch.tick()
        assert finding.resolved


def test_waiting_for_a_moment(world: World) -> None:
    """SW603: a pool that lets somebody wait for less than a second is busy, not stuck."""
    engine = lively(world, **STUCK)
    world.keep(engine.connect())
    with waiting(engine):
        world.tick_after(0.5)
        assert world.told("SW603") == []
        world.give_back()


def test_full_pool_that_nobody_waits_for(world: World) -> None:
    """SW603: a full pool that nobody waits for is not stuck."""
    world.keep(lively(world, **STUCK).connect())
    world.tick_after(60.0)
    assert world.told("SW603") == []
    world.give_back()


def test_pool_that_moves(world: World) -> None:
    """SW603: a pool from which others get connections meanwhile is not stuck."""
    engine = lively(world, **{**STUCK, "pool_size": 2})
    world.keep(engine.connect())
    world.keep(engine.connect())
    with waiting(engine):
        held = [each for each in extension._process.ledger.checkouts if each.engine.pool is engine.pool]
        held[-1].began_at = world.clock() + 1.0
        world.tick_after(1.5)
        assert world.told("SW603") == []
        world.give_back()


def test_stuck_in_a_statement(postgresql_world: World) -> None:
    """SW603: while a holder runs a statement, it takes ten seconds until the pool counts as stuck."""
    engine = lively(postgresql_world, **STUCK)

    def work() -> None:
        with engine.connect() as connection:
            connection.execute(sa.text(LONG_QUERY))

    with contextlib.ExitStack() as stack, querying(postgresql_world, work):
        stack.enter_context(waiting(engine))
        postgresql_world.tick_after(5.0)
        assert postgresql_world.told("SW603") == []
        postgresql_world.tick_after(15.0)
        assert len(postgresql_world.told("SW603")) == 1


# SW604


def asking(world: World, make: t.Callable[[], sa.Engine]) -> None:
    """Give *world* a view that takes its engine from *make*."""

    @world.view()
    def view() -> str:
        with orm.Session(make()) as session:
            return str(session.scalar(sa.select(Item.name)))  # USE

    assert {world.open().status_code for _ in range(4)} == {200}


def test_engine_churn(every_world: World) -> None:
    """SW604: a third engine for the same database that only one request used is told at the line of its use."""
    asking(every_world, every_world.make_engine)
    finding = every_world.only("SW604")
    assert (finding.rule, finding.level, str(finding.scope)) == ("engine-churn", "warning", "GET /")
    assert (at(finding), finding.count) == (line("USE"), 2)
    assert finding.details["engines"] == 4


def test_application_churn(world: World) -> None:
    """SW604: an application that is made per request brings an engine each."""

    @world.view()
    def view() -> str:
        app = flask.Flask("inner")
        app.config["SQLALCHEMY_DATABASE_URI"] = world.url
        db = SQLAlchemy(app)
        with app.app_context():
            world._engines.append(db.engine)
            return str(db.session.execute(sa.text("SELECT 1")).scalar())

    for _ in range(3):
        world.open()
    assert len(world.told("SW604")) == 1


@pytest.mark.parametrize("scopes", [1, 3])
def test_engines_of_blocks(world: World, scopes: int) -> None:
    """SW604: outside of requests it is the number of scopes that counts, not the engines of one."""
    for number in range(scopes):
        with world.watch.scope(f"job {number}"):
            for _ in range(4 // scopes):
                world.make_engine().connect().close()
    assert len(world.told("SW604")) == (scopes == 3)


@pytest.mark.parametrize("how", ["disposed", "no pool", "in memory", "once", "other databases"])
def test_no_engine_churn(world: World, how: str, tmp_path: Path) -> None:
    """SW604: engines that are disposed of, keep nothing, are used again or differ are healthy."""
    one = world.make_engine()
    numbers = itertools.count()

    @world.view()
    def view() -> str:
        if how == "other databases":
            engine = world.make_engine(f"sqlite:///{tmp_path}/{next(numbers)}.db")
        elif how == "in memory":
            engine = world.make_engine("sqlite://")
        elif how == "once":
            engine = one
        else:
            engine = world.make_engine(poolclass=sa.NullPool if how == "no pool" else None)
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
        if how == "disposed":
            engine.dispose()
        return "ok"

    for _ in range(5):
        assert world.open().status_code == 200
    assert world.watch.findings == []


def test_engines_that_take_turns(world: World) -> None:
    """SW604: engines of one database that serve request after request are no churn."""
    engines = [world.make_engine() for _ in range(2)]
    turns = itertools.cycle(engines)
    asking(world, lambda: next(turns))
    turns = itertools.cycle([*engines, world.make_engine()])
    for _ in range(6):
        world.open()
    assert world.watch.findings == []


def test_engines_kept_by_the_first_request(world: World) -> None:
    """SW604: engines that the first request makes for all that follow are healthy."""
    engines: list[sa.Engine] = []

    def make() -> sa.Engine:
        if not engines:
            engines.extend(world.make_engine() for _ in range(4))
            for engine in engines:
                engine.connect().close()
        engines.append(engines.pop(0))
        return engines[0]

    with world.watch.scope("warm-up"):
        make()
    asking(world, make)
    assert world.watch.findings == []


def test_many_kinds_of_engines(world: World, tmp_path: Path) -> None:
    """SW604: of engines for ever new databases, not all are remembered."""
    numbers = itertools.count()
    asking(world, lambda: world.make_engine(f"{world.url}?timeout={next(numbers) + 5}"))
    for _ in range(ENGINES_KEPT + 5):
        world.open()
    assert world.watch.findings == []
    kinds = extension._process.ledger.engines_left.values()
    assert 0 < max(map(len, kinds)) <= ENGINES_KEPT
