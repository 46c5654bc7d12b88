"""SQL comments: the server sees which route a statement came from, and answers as it did."""

import collections.abc as cabc
import concurrent.futures
import re
import typing as t
from urllib.parse import unquote

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import orm

from flask_sessionwatch.integrations.sqlcomments import comment_sql
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import world_of

ROUTE = "/*controller='orders',route='%2Forders%2F%3Cint%3Anumber%3E'*/"


@pytest.fixture
def any_world(database_url: str) -> cabc.Iterator[World]:
    """A watched application on each kind of server, whose engine comments its SQL."""
    with world_of(database_url) as world:
        comment_sql(world.engine)
        yield world


class Sent:
    """What the drivers were given."""

    def __init__(self, engine: sa.Engine) -> None:
        self.statements: list[str] = []
        event.listen(engine, "do_execute", self._hear)

    def _hear(self, cursor: t.Any, statement: str, parameters: t.Any, context: t.Any) -> None:
        self.statements.append(statement)


def ask(world: World, statement: str, **values: object) -> t.Any:
    """Ask the database in a request, and return the one value that it answers."""
    answers: list[t.Any] = []

    @world.app.endpoint("orders")
    def orders(number: int) -> str:
        with world.engine.connect() as connection:
            answers.append(connection.scalar(sa.text(statement), values))
        return "ok"

    if "orders" not in {rule.endpoint for rule in world.app.url_map.iter_rules()}:
        world.app.add_url_rule("/orders/<int:number>", "orders")
    assert world.open("/orders/17").status_code == 200
    return answers[0]


def test_server_sees_it(any_world: World) -> None:
    """The database's own view of what runs shows endpoint and URL rule, and never the path."""
    views = {
        "postgresql": "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()",
        "mysql": "SELECT info FROM information_schema.processlist WHERE id = connection_id()",
    }
    view = views.get(any_world.engine.dialect.name)
    if view is None:
        sent = Sent(any_world.engine)
        ask(any_world, "SELECT 1")
        seen = sent.statements[-1]
    else:
        seen = ask(any_world, view)
    assert seen.endswith(ROUTE)


def test_answers_stay(any_world: World) -> None:
    """Values, and percent signs of the statement's own, reach the server as ever."""
    statement = "SELECT CASE WHEN 'beans' LIKE 'b%' AND :name = '100%' THEN :name ELSE 'lost' END"
    assert ask(any_world, statement, name="100%") == "100%"
    with orm.Session(any_world.engine) as session:
        session.add_all([Item(name=name) for name in ("eve", "kim", "leo")])
        session.commit()
        assert session.scalars(sa.select(Item.name).where(Item.name.like("e%"))).all() == ["eve"]
        with any_world.engine.connect().execution_options(no_parameters=True) as connection:
            assert connection.exec_driver_sql("SELECT 'b%'").scalar() == "b%"


def test_no_parameters(any_world: World) -> None:
    """A statement that the driver takes as it is gets its comment as it is."""
    sent = Sent(any_world.engine)
    seen: list[str] = []
    event.listen(
        any_world.engine, "do_execute_no_params", lambda cursor, statement, context: seen.append(statement)
    )
    with (
        any_world.watch.scope("a/b"),
        any_world.engine.connect().execution_options(no_parameters=True) as connection,
    ):
        assert connection.exec_driver_sql("SELECT 'b%'").scalar() == "b%"
    assert [*sent.statements, *seen] == ["SELECT 'b%' /*action='a%2Fb'*/"]


def test_scope(world: World) -> None:
    """Outside of a request the scope is named, and outside of any scope there is no comment."""
    comment_sql(world.engine)
    sent = Sent(world.engine)
    with world.engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
        with world.watch.scope("it's */ 100 %"):
            connection.execute(sa.text("SELECT 2;"))
    assert sent.statements[0] == "SELECT 1"
    found = re.fullmatch(r"SELECT 2 /\*action='([^'*]+)'\*/;", sent.statements[1])
    assert found is not None
    assert unquote(found[1]) == "it's */ 100 %"


@pytest.mark.parametrize("statement", ["SELECT 1 /* mine */", "SELECT 1 -- mine"])
def test_comment_of_the_application(world: World, statement: str) -> None:
    """A statement that has a comment already is left as it is."""
    comment_sql(world.engine)
    sent = Sent(world.engine)
    with world.watch.scope("import"), world.engine.connect() as connection:
        connection.execute(sa.text(statement))
    assert sent.statements == [statement]


def test_off(world: World) -> None:
    """An engine that nobody asks for it has no listener for it, which is what makes it cost nothing."""
    commented = world.make_engine()
    comment_sql(commented)
    comment_sql(commented)
    assert commented._has_events
    assert len(commented.dispatch.before_cursor_execute) == 1
    assert not world.engine._has_events


def test_threads(world: World) -> None:
    """Each thread's statements name its own scope."""
    comment_sql(world.engine)
    sent = Sent(world.engine)

    def work(name: str) -> None:
        with world.watch.scope(name), world.engine.connect() as connection:
            connection.execute(sa.text(f"SELECT '{name}'"))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(work, "abcd"))
    assert sorted(sent.statements) == [f"SELECT '{name}' /*action='{name}'*/" for name in "abcd"]
