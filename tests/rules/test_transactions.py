"""SW202, SW203 and SW207: transactions that stay open."""

import threading
import typing as t

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import Finding
from flask_sessionwatch import extension
from flask_sessionwatch.observe.stack import shortened
from flask_sessionwatch.rules.transactions import IdleInTransaction
from flask_sessionwatch.rules.transactions import LockHeld
from flask_sessionwatch.rules.transactions import LongTransaction
from tests.rules.conftest import LONG_QUERY
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line
from tests.rules.conftest import one_item
from tests.rules.conftest import querying
from tests.rules.conftest import until

# SW202 idle-in-transaction


def idle_view(world: World, work: t.Callable[[t.Any], object], engine: sa.Engine | None = None) -> None:
    """Give *world* a view that does *work* with a connection and then sleeps through many limits."""
    world.configure(idle_in_transaction=10.0)

    @world.view()
    def view() -> str:
        with (engine or world.engine).connect() as connection:
            work(connection)
            world.clock.put_forward(60.0)
            world.ticks()
        return "ok"


def test_idle(every_world: World) -> None:
    """SW202: a session that sleeps in its transaction is told: where it was begun, and where its holder is."""
    every_world.configure(idle_in_transaction=0.05)
    seen: list[Finding] = []

    @every_world.view()
    def view() -> str:
        with orm.Session(every_world.engine) as session:
            session.scalar(sa.select(Item.id))  # BEGUN
            seen.append(every_world.wait_for("SW202", "warning"))
        return "ok"

    every_world.open()
    finding = every_world.only("SW202")
    assert seen == [finding]
    assert (finding.rule, at(finding)) == ("idle-in-transaction", line("BEGUN"))
    until(lambda: bool(every_world.watch.tick() or finding.resolved))


def test_idle_says_where_its_holder_is(world: World) -> None:
    """SW202: the finding names the line where the holder of the transaction is now."""
    world.configure(idle_in_transaction=0.02)
    done = threading.Event()

    def work() -> None:
        with orm.Session(world.engine) as session:
            session.scalar(sa.select(Item.id))
            done.wait()  # ELSEWHERE

    thread = threading.Thread(target=work)
    thread.start()
    finding = world.wait_for("SW202")
    done.set()
    thread.join()
    now = finding.details["now"]
    assert now["lineno"] == line("ELSEWHERE")
    assert finding.details["doing"] == "waiting for another thread"
    assert f"now waiting for another thread at {shortened(__file__)}:{now['lineno']} in work" in finding.text


def test_idle_core(every_world: World) -> None:
    """SW202: a Core connection that sleeps in its transaction is told as well."""
    idle_view(every_world, lambda connection: connection.execute(sa.select(Item.id)))
    every_world.open()
    every_world.only("SW202")


def test_idle_without_a_transaction(every_world: World) -> None:
    """SW202: a connection that is held, but between two transactions, is not in one."""

    def work(connection: sa.Connection) -> None:
        connection.execute(sa.select(Item.id))
        connection.commit()

    idle_view(every_world, work)
    every_world.open()
    assert every_world.told("SW202") == []


@pytest.mark.parametrize("how", ["engine", "connection", "execution options"])
def test_idle_in_autocommit(every_world: World, how: str) -> None:
    """SW202: in autocommit there is no transaction to be idle in, whoever asked for it."""
    engine = every_world.engine
    if how == "engine":
        engine = every_world.make_engine(isolation_level="AUTOCOMMIT")
    elif how == "execution options":
        engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    def work(connection: sa.Connection) -> None:
        if how == "connection":
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sa.select(Item.id))

    idle_view(every_world, work, engine)
    every_world.open()
    assert every_world.told("SW202") == []


def test_idle_without_a_statement(world: World) -> None:
    """SW202: a connection on which nothing ran yet is not in a transaction."""
    idle_view(world, lambda connection: None)
    world.open()
    assert world.told("SW202") == []


def test_long_query(postgresql_world: World) -> None:
    """SW202: a statement that runs for long is not idle, not even when it has just ended."""
    postgresql_world.configure(idle_in_transaction=10.0)

    @postgresql_world.view()
    def view() -> str:
        with orm.Session(postgresql_world.engine) as session:
            session.execute(sa.text(LONG_QUERY))
            postgresql_world.watch.tick()
        return "ok"

    with querying(postgresql_world, postgresql_world.open):
        postgresql_world.clock.put_forward(60.0)
        postgresql_world.ticks()
    assert postgresql_world.told("SW202") == []


def test_idle_between_two_chunks(any_world: World) -> None:
    """SW202: a streamed body that waits between two chunks holds its transaction idle."""
    any_world.configure(idle_in_transaction=0.05)

    @any_world.view()
    def view() -> flask.Response:
        def lines() -> t.Iterator[str]:
            with orm.Session(any_world.engine) as session:
                yield str(session.scalar(sa.select(Item.name)))  # BEGUN
                any_world.wait_for("SW202")
                yield "!"

        return flask.Response(lines())

    assert any_world.open().text == "ann!"
    assert at(any_world.only("SW202")) == line("BEGUN")


def test_leaked_is_not_idle(world: World) -> None:
    """SW202: a session that is told as leaked is not told again for being idle."""
    world.configure(idle_in_transaction=10.0)

    @world.view()
    def view() -> str:
        world.keep(orm.Session(world.engine)).scalar(sa.select(Item.id))
        return "ok"

    world.open()
    world.clock.put_forward(60.0)
    world.ticks()
    world.only("SW201")


@pytest.mark.parametrize(
    ("seconds", "levels"),
    [(0, []), (99, []), (101, ["info"]), (399, ["info"]), (401, ["warning"])],
)
def test_idle_about_the_limit(any_world: World, seconds: float, levels: list[str]) -> None:
    """SW202: info above the limit, a warning above four times the limit."""
    any_world.configure(idle_in_transaction=100.0)
    with orm.Session(any_world.engine) as session:
        session.scalar(sa.select(Item.id))
        any_world.tick_after(seconds)
    assert [finding.level for finding in any_world.told("SW202")] == levels


def test_idle_threshold_of_the_rule(world: World) -> None:
    """SW202: a threshold given to the rule itself counts more than the setting."""
    world.configure(rules=[IdleInTransaction(threshold=10.0)], idle_in_transaction=100.0)
    with orm.Session(world.engine) as session:
        session.scalar(sa.select(Item.id))
        world.tick_after(9)
        assert world.watch.findings == []
        world.tick_after(11)
    assert [finding.level for finding in world.told("SW202")] == ["info"]


def test_idle_level_is_raised(world: World) -> None:
    """SW202: what was info is told again when it has become a warning, once."""
    world.configure(idle_in_transaction=100.0)
    with orm.Session(world.engine) as session:
        session.scalar(sa.select(Item.id))
        for seconds in (101, 102, 401, 402, 403):
            world.tick_after(seconds)
    (finding,) = world.told("SW202")
    assert (finding.level, finding.count) == ("warning", 2)


# SW203 lock-held


def test_lock(every_world: World) -> None:
    """SW203: a session that sleeps after a flush is told in place of SW202, at the line that wrote."""
    every_world.configure(idle_in_transaction=10.0)
    seen: list[Finding] = []

    @every_world.view()
    def view() -> str:
        with orm.Session(every_world.engine) as session:
            item = one_item(session)
            item.hits = 1
            session.flush()  # WROTE
            every_world.clock.put_forward(60.0)
            seen.append(every_world.wait_for("SW203", "error"))
            session.commit()
        return "ok"

    every_world.open()
    finding = every_world.only("SW203")
    assert seen == [finding]
    assert (finding.rule, at(finding), finding.verb) == ("lock-held", line("WROTE"), "written")
    assert ("the whole database" in finding.message) == every_world.url.startswith("sqlite")
    assert every_world.told("SW202") == []
    until(lambda: bool(every_world.watch.tick() or finding.resolved))


def test_lock_of_a_core_connection(every_world: World) -> None:
    """SW203: a Core connection that sleeps after a write is told as well, and no longer after its commit."""
    every_world.configure(idle_in_transaction=100.0)
    with every_world.engine.connect() as connection:
        connection.execute(sa.update(Item).values(hits=1))  # WROTE
        every_world.tick_after(201)
        connection.commit()
        connection.scalar(sa.select(Item.id))
        every_world.tick_after(150)
    finding = every_world.only("SW203")
    assert (finding.level, at(finding)) == ("error", line("WROTE"))
    assert [each.level for each in every_world.told("SW202")] == ["info"]


@pytest.mark.parametrize(
    ("seconds", "levels"), [(99, []), (101, ["info"]), (199, ["info"]), (201, ["error"]), (999, ["error"])]
)
def test_lock_about_the_limit(any_world: World, seconds: float, levels: list[str]) -> None:
    """SW203: info above the limit, an error above twice the limit."""
    any_world.configure(idle_in_transaction=100.0)
    with orm.Session(any_world.engine) as session:
        session.execute(sa.update(Item).values(hits=1))
        any_world.tick_after(seconds)
        session.commit()
    assert [finding.level for finding in any_world.told("SW203")] == levels
    assert any_world.told("SW202") == []


def test_lock_threshold_of_the_rule(world: World) -> None:
    """SW203: a threshold given to the rule itself counts more than the setting."""
    world.configure(rules=[LockHeld(threshold=10.0)], idle_in_transaction=100.0)
    with orm.Session(world.engine) as session:
        session.execute(sa.update(Item).values(hits=1))
        world.tick_after(11)
        session.rollback()
    assert [finding.level for finding in world.told("SW203")] == ["info"]


def test_lock_without_rows(any_world: World) -> None:
    """SW203: an UPDATE that matched no row holds no row's lock; it is merely idle."""
    any_world.configure(idle_in_transaction=100.0)
    with orm.Session(any_world.engine) as session:
        session.execute(sa.update(Item).where(Item.id == 99).values(hits=1))
        any_world.tick_after(201)
        session.commit()
    assert any_world.told("SW203") == []
    assert [finding.level for finding in any_world.told("SW202")] == ["info"]


def test_lock_that_a_savepoint_gave_back(any_world: World) -> None:
    """SW203: rolling back to a savepoint gives back what was locked since."""
    any_world.configure(idle_in_transaction=100.0)
    with orm.Session(any_world.engine) as session:
        session.scalar(sa.select(Item.id))
        savepoint = session.begin_nested()
        session.execute(sa.update(Item).values(hits=1))
        savepoint.rollback()
        any_world.tick_after(201)
        session.commit()
    assert any_world.told("SW203") == []


def test_lock_before_a_savepoint(any_world: World) -> None:
    """SW203: what was written before a savepoint stays locked, whatever becomes of that."""
    any_world.configure(idle_in_transaction=100.0)
    with orm.Session(any_world.engine) as session:
        session.execute(sa.update(Item).values(hits=1))
        session.begin_nested().rollback()
        any_world.tick_after(201)
        session.commit()
    any_world.only("SW203")


def test_lock_in_autocommit(every_world: World) -> None:
    """SW203: in autocommit no lock outlives its statement."""
    every_world.configure(idle_in_transaction=100.0)
    with orm.Session(every_world.make_engine(isolation_level="AUTOCOMMIT")) as session:
        session.execute(sa.update(Item).values(hits=1))
        every_world.tick_after(999)
    assert every_world.told("SW202") == every_world.told("SW203") == []


def test_commit_before_the_slow_call(every_world: World) -> None:
    """SW203: who commits before slow work holds neither lock nor transaction."""
    every_world.configure(idle_in_transaction=10.0)

    @every_world.view()
    def view() -> str:
        with orm.Session(every_world.engine) as session:
            session.execute(sa.update(Item).values(hits=1))
            session.commit()
            every_world.clock.put_forward(60.0)
            every_world.ticks()
        return "ok"

    every_world.open()
    assert every_world.told("SW202") == every_world.told("SW203") == []


def test_lock_that_was_handed_on(world: World) -> None:
    """SW203: what a request wrote and left to the app context around it is told as that; its lock is info."""
    world.configure(idle_in_transaction=100.0)
    db = world.flask_sqlalchemy()

    @world.view()
    def view() -> str:
        one_item(db.session).hits = 1
        db.session.flush()
        return "ok"

    with world.app.app_context():
        world.open()
        world.tick_after(999)
        db.session.rollback()
    assert [finding.level for finding in world.told("SW203")] == ["info"]


def test_cursor_that_minds(world: World) -> None:
    """SW203: a driver that refuses to be asked from another thread does not keep the rule from judging."""

    class Minding:
        @property
        def rowcount(self) -> int:
            raise RuntimeError("not on this thread")

    world.configure(idle_in_transaction=100.0)
    with orm.Session(world.engine) as session:
        session.execute(sa.update(Item).values(hits=1))
        (transaction,) = extension._process.ledger.transactions.values()
        transaction.cursor, cursor = Minding(), transaction.cursor
        world.tick_after(201)
        transaction.cursor = cursor
        session.commit()
    world.only("SW203")


# SW207 long-transaction


@pytest.mark.parametrize(("seconds", "levels"), [(99, []), (101, ["info"]), (999, ["info"])])
def test_long(every_world: World, seconds: float, levels: list[str]) -> None:
    """SW207: a Session that is longer in its transaction than the limit is info, once."""
    every_world.configure(long_transaction=100.0, idle_in_transaction=1e6)
    with orm.Session(every_world.engine) as session:
        session.scalar(sa.select(Item.id))  # BEGUN
        every_world.tick_after(seconds)
        every_world.tick_after(seconds)
    told = every_world.told("SW207")
    assert [(each.level, each.count, at(each)) for each in told] == [
        (level, 1, line("BEGUN")) for level in levels
    ]


def test_long_core(every_world: World) -> None:
    """SW207: over a Core connection it is the transaction that counts, and not how long the connection is held."""
    every_world.configure(long_transaction=100.0, idle_in_transaction=1e6, long_checkout=1e6)
    with every_world.engine.connect() as connection:
        connection.scalar(sa.select(Item.id))
        every_world.watch.tick()
        connection.commit()
        connection.scalar(sa.select(Item.id))
        every_world.tick_after(101)
        assert every_world.told("SW207") == []
        every_world.tick_after(202)
    assert [finding.level for finding in every_world.told("SW207")] == ["info"]


def test_long_without_a_transaction(every_world: World) -> None:
    """SW207: in autocommit, after a commit and before the first statement there is no transaction to be long."""
    every_world.configure(long_transaction=100.0, long_checkout=1e6)
    engine = every_world.make_engine(isolation_level="AUTOCOMMIT")
    with orm.Session(engine) as session, every_world.engine.connect() as idle, engine.connect() as connection:
        session.execute(sa.select(Item.id))
        connection.execute(sa.select(Item.id))
        connection.commit()
        every_world.watch.tick()
        every_world.tick_after(101)
        assert idle.in_transaction() is False
    assert every_world.told("SW207") == []


def test_long_threshold_of_the_rule(world: World) -> None:
    """SW207: a threshold given to the rule itself counts more than the setting."""
    world.configure(rules=[LongTransaction(threshold=10.0)], long_transaction=100.0)
    with orm.Session(world.engine) as session:
        session.scalar(sa.select(Item.id))
        world.tick_after(11)
    assert [finding.level for finding in world.told("SW207")] == ["info"]


def test_long_and_leaked(world: World) -> None:
    """SW207: a session that is told as leaked is not told again for being long."""
    world.configure(long_transaction=100.0, long_checkout=1e6)

    @world.view()
    def view() -> str:
        world.keep(orm.Session(world.engine)).scalar(sa.select(Item.id))
        return "ok"

    world.open()
    world.tick_after(101)
    assert world.told("SW207") == []
