"""What is written down of the rare cases: enough to tell what was lost and why, and nothing secret."""

import contextlib
import sys
import threading
import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line
from tests.rules.conftest import one_item
from tests.rules.conftest import world_of


@pytest.fixture
def world(sqlite_url: str) -> t.Iterator[World]:
    """A watched application on SQLite."""
    with world_of(sqlite_url) as world:
        yield world


@pytest.fixture(params=["sqlite", "postgresql", "postgresql_psycopg2"])
def any_world(request: pytest.FixtureRequest) -> t.Iterator[World]:
    """A watched application on SQLite and by each driver on PostgreSQL."""
    with world_of(request.getfixturevalue(f"{request.param}_url")) as world:
        yield world


def lose(world: World, work: t.Callable[[orm.Session], object]) -> None:
    """Make a request that does *work* in a session and forgets to commit."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            work(session)
        return "ok"

    assert world.open().status_code == 200


def test_unsaved_objects_are_counted_by_class(world: World) -> None:
    """How many objects of which class were never flushed is told."""

    def work(session: orm.Session) -> None:
        one_item(session).hits = 4
        session.add_all([Item(name="eve"), Item(name="fay")])

    lose(world, work)
    finding = world.only("SW204")
    assert finding.details["objects"] == {"Item": 3}
    assert "threw away 3 unsaved Item" in finding.message


def test_writes_and_unsaved_objects(world: World) -> None:
    """What was flushed and what was not are told in one finding, at the line that wrote first."""

    def work(session: orm.Session) -> None:
        session.add(Item(name="eve"))
        session.flush()  # FIRST
        session.add(Item(name="fay"))
        session.flush()
        session.add(Item(name="gus"))

    lose(world, work)
    finding = world.only("SW204")
    assert (at(finding), finding.details["writes"]) == (line("FIRST"), 2)
    assert "1 unsaved Item and 2 writes" in finding.message


def test_after_a_commit(world: World) -> None:
    """After a commit the first write is history: the transaction that lost is told where it was begun."""

    def work(session: orm.Session) -> None:
        session.add(Item(name="eve"))
        session.commit()
        session.add(Item(name="fay"))  # BEGUN
        session.flush()

    lose(world, work)
    assert line("BEGUN") <= (at(world.only("SW204")) or 0) <= line("BEGUN") + 1
    assert world.names() == ["ann", "bob", "eve"]


def test_values_are_never_told(any_world: World) -> None:
    """No value that was written, bound or refused gets into a finding, its text or its JSON."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            session.add(Item(name="hunter2"))
            session.flush()
        with any_world.engine.connect() as connection:
            connection.execute(sa.insert(Item).values(name="hunter2"))
            with contextlib.suppress(sa.exc.DBAPIError):
                connection.execute(sa.text("SELECT nonsense FROM item WHERE name = 'hunter2'"))
            with contextlib.suppress(sa.exc.DBAPIError):
                connection.execute(sa.select(Item.id))
        any_world.keep(orm.Session(any_world.engine)).add(Item(name="hunter2"))
        return "ok"

    any_world.open()
    assert {"SW201", "SW204", "SW205"} == {finding.code for finding in any_world.watch.findings}
    for finding in any_world.watch.findings:
        assert "hunter2" not in finding.text
        assert "hunter2" not in str(finding.as_json())


def test_note_is_on_the_timeout_only(world: World) -> None:
    """No exception but the pool's TimeoutError is changed."""
    errors: list[BaseException] = []

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        for statement in ("SELECT nonsense", "INSERT INTO item (name, hits) VALUES ('ann', 0)"):
            with world.engine.connect() as connection:
                try:
                    connection.execute(sa.text(statement))
                except sa.exc.DBAPIError as error:
                    errors.append(error)
        return "ok"

    world.open()
    assert len(errors) == 2
    assert [getattr(error, "__notes__", []) for error in errors] == [[], []]
    assert all("flask_sessionwatch" not in str(error) for error in errors)


def test_note_is_added_once(world: World) -> None:
    """Each time-out has one note, and its arguments and text are SQLAlchemy's own."""
    engine = world.make_engine(pool_size=1, max_overflow=0, pool_timeout=0.01)
    world.keep(engine.connect())
    with pytest.raises(sa.exc.TimeoutError) as caught:
        orm.Session(engine).scalar(sa.select(Item.id))
    if sys.version_info >= (3, 11):
        assert len(caught.value.__notes__) == 1
        assert str(caught.value).startswith("QueuePool limit of size 1 overflow 0 reached")
        assert "held by" not in str(caught.value)
    assert caught.value.code == "3o7r"


def test_hand_over_moves_the_holder(world: World) -> None:
    """A connection is its latest user's: where that thread is now is what is told."""
    engine = world.make_engine(pool_size=2, max_overflow=0, connect_args={"check_same_thread": False})
    world.configure(long_checkout=30.0)
    connection = engine.connect()
    connection.execute(sa.select(Item.id))
    used, done = threading.Event(), threading.Event()

    def work() -> None:
        connection.execute(sa.select(Item.id))
        used.set()
        done.wait()  # NOW

    thread = threading.Thread(target=work, name="borrower")
    thread.start()
    used.wait()
    world.tick_after(31)
    done.set()
    thread.join()
    connection.close()
    finding = world.only("SW103")
    assert finding.details["thread"] == "borrower"
    assert finding.details["now"]["lineno"] == line("NOW")


def test_loss_of_a_lent_session(any_world: World) -> None:
    """What a lent thread wrote, and the lender did not commit, is told at the thread's line, in the lender's scope."""
    options: dict[str, t.Any] = (
        {"connect_args": {"check_same_thread": False}} if "sqlite" in any_world.url else {}
    )
    engine = any_world.make_engine(**options)

    @any_world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.scalar(sa.select(Item.id))

            def write() -> None:
                session.add(Item(name="eve"))
                session.flush()  # WRITTEN

            in_thread(write)
        return "ok"

    any_world.open()
    finding = any_world.only("SW204")
    assert (at(finding), str(finding.scope)) == (line("WRITTEN"), "GET /")


def test_two_failures_are_two_findings(any_world: World) -> None:
    """Each statement that failed and was swallowed is told at its own line."""

    @any_world.view(rule="/<what>")
    def view(what: str) -> str:
        with any_world.engine.connect() as connection:
            with contextlib.suppress(sa.exc.DBAPIError):
                if what == "one":
                    connection.execute(sa.text("SELECT nonsense FROM item"))  # ONE
                else:
                    connection.execute(sa.text("SELECT more FROM item"))  # TWO
            with contextlib.suppress(sa.exc.DBAPIError):
                connection.execute(sa.select(Item.id))
        return "ok"

    any_world.open("/one")
    any_world.open("/two")
    assert {at(finding) for finding in any_world.told("SW205")} == {line("ONE"), line("TWO")}


def test_statement_used_once_more_is_told_once(any_world: World) -> None:
    """However often a failed transaction is used, it is one occurrence."""

    @any_world.view()
    def view() -> str:
        with any_world.engine.connect() as connection:
            for _ in range(5):
                with contextlib.suppress(sa.exc.DBAPIError):
                    connection.execute(sa.text("SELECT nonsense FROM item"))  # FAILED
        return "ok"

    any_world.open()
    assert at(any_world.only("SW205")) == line("FAILED")


def test_lost_disconnect_is_no_failure(world: World) -> None:
    """A connection that the server dropped is no failed transaction; SQLAlchemy begins anew on another."""

    @world.view()
    def view() -> str:
        with world.engine.connect() as connection:
            connection.execute(sa.select(Item.id))
            connection.invalidate()
            connection.rollback()
            return str(connection.scalar(sa.select(Item.name)))

    assert world.open().text == "ann"
    world.ticks()
    assert world.heard == []


def test_server_that_went_away(postgresql_url: str) -> None:
    """A statement that fails since the server ended the connection, tried again on a new one, is healthy."""
    with world_of(postgresql_url) as world:

        @world.view()
        def view() -> str:
            with world.engine.connect() as connection:
                number = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
                with world.make_engine().connect() as other:
                    other.execute(sa.select(sa.func.pg_terminate_backend(number)))
                try:
                    connection.execute(sa.select(Item.id))
                except sa.exc.OperationalError:
                    connection.rollback()
                return str(connection.scalar(sa.select(Item.name)))

        assert world.open().text == "ann"
        world.ticks()
        assert [each for each in world.heard if "SW104" not in each] == []
