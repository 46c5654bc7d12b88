"""SW601: pools that run dry."""

import sys
import threading
import typing as t

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line

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
