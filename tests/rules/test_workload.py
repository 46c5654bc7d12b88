"""SW501: more commits than needed."""

import typing as t

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch.rules.workload import CommitStorm
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line


def commit(session: t.Any, times: int) -> None:
    for _ in range(times):
        session.execute(sa.update(Item).values(hits=Item.hits + 1))
        session.commit()  # COMMIT


def committing(world: World, times: int) -> None:
    """Give *world* a view that commits so many times."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            commit(session, times)
        return "ok"

    assert world.open().status_code == 200


def test_storm(any_world: World) -> None:
    """SW501: a loop that commits each row is told as a warning, at the line that commits."""
    committing(any_world, 11)
    finding = any_world.only("SW501")
    assert (finding.rule, finding.level, str(finding.scope)) == ("commit-storm", "warning", "GET /")
    assert at(finding) == line("COMMIT")
    assert "11 times" in finding.message
    assert "loop" in finding.message
    assert finding.details["commits"] == 11


def test_exactly_at_the_limit(any_world: World) -> None:
    """SW501: as many commits as the limit allows are healthy."""
    committing(any_world, 10)
    assert any_world.watch.findings == []


@pytest.mark.parametrize(("limit", "number"), [(1, 1), (2, 1), (3, 0)])
def test_limit_by_setting(world: World, limit: int, number: int) -> None:
    """SW501: SESSIONWATCH_MAX_COMMITS is the limit, down to a single commit."""
    world.configure(max_commits=limit)
    committing(world, 3)
    assert len(world.told("SW501")) == number


def test_limit_of_the_rule(world: World) -> None:
    """SW501: a limit given to the rule itself counts more than the setting."""
    world.configure(rules=[CommitStorm(limit=2)])
    committing(world, 3)
    assert world.only("SW501").details == {"commits": 3, "limit": 2}


def test_storm_of_flask_sqlalchemy(any_world: World) -> None:
    """SW501: commits of Flask-SQLAlchemy's session count."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        commit(db.session, 12)
        return "ok"

    any_world.open()
    assert at(any_world.only("SW501")) == line("COMMIT")


def test_savepoints(any_world: World) -> None:
    """SW501: the release of a savepoint is no commit."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session, session.begin():
            for number in range(20):
                with session.begin_nested():
                    session.add(Item(name=f"item {number}"))
        with any_world.engine.begin() as connection:
            for _ in range(20):
                with connection.begin_nested():
                    connection.execute(sa.update(Item).values(hits=1))
        return "ok"

    assert any_world.open().status_code == 200
    assert any_world.watch.findings == []


def test_commits_of_nothing(any_world: World) -> None:
    """SW501: a commit of a session that did nothing costs nothing, and is not counted."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            for _ in range(20):
                session.commit()
        return "ok"

    any_world.open()
    assert any_world.told("SW501") == []


def test_rollbacks(any_world: World) -> None:
    """SW501: rollbacks are no commits."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            for _ in range(20):
                session.execute(sa.update(Item).values(hits=1))
                session.rollback()
        return "ok"

    any_world.open()
    assert any_world.told("SW501") == []


def test_batches(any_world: World) -> None:
    """SW501: many rows and few commits are healthy."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            for batch in range(5):
                session.add_all(Item(name=f"{batch} {number}") for number in range(50))
                session.commit()
        return "ok"

    any_world.open()
    assert any_world.told("SW501") == []


def test_sessions_and_core_together(any_world: World) -> None:
    """SW501: the commits of all sessions and Core connections of a scope add up."""

    @any_world.view()
    def view() -> str:
        for _ in range(6):
            with orm.Session(any_world.engine) as session, session.begin():
                session.execute(sa.update(Item).values(hits=1))
            with any_world.engine.begin() as connection:
                connection.execute(sa.update(Item).values(hits=2))
        return "ok"

    any_world.open()
    assert any_world.only("SW501").details["commits"] == 12


def test_storm_of_engine_begin(any_world: World) -> None:
    """SW501: a loop that opens and commits a Core connection for each row is told."""

    @any_world.view()
    def view() -> str:
        for _ in range(12):
            with any_world.engine.begin() as connection:
                connection.execute(sa.update(Item).values(hits=1))
        return "ok"

    any_world.open()
    assert any_world.only("SW501").details["commits"] == 12


def test_reading_by_core(any_world: World) -> None:
    """SW501: Core connections that only read commit nothing."""

    @any_world.view()
    def view() -> str:
        for _ in range(12):
            with any_world.engine.connect() as connection:
                connection.execute(sa.select(Item.id))
        return "ok"

    any_world.open()
    assert any_world.told("SW501") == []


def test_storm_of_one_core_connection(any_world: World) -> None:
    """SW501: a loop that commits one Core connection is told at the loop."""

    @any_world.view()
    def view() -> str:
        with any_world.engine.connect() as connection:
            for _ in range(12):
                connection.execute(sa.update(Item).values(hits=Item.hits + 1))
                connection.commit()  # CORE COMMIT
        return "ok"

    any_world.open()
    finding = any_world.only("SW501")
    assert (finding.details["commits"], at(finding)) == (12, line("CORE COMMIT"))


def test_core_connection_that_rolls_back(any_world: World) -> None:
    """SW501: a loop that rolls each row back, as a dry run does, commits nothing."""

    @any_world.view()
    def view() -> str:
        with any_world.engine.connect() as connection:
            for _ in range(12):
                connection.execute(sa.update(Item).values(hits=Item.hits + 1))
                connection.rollback()
        return "ok"

    any_world.open()
    assert any_world.told("SW501") == []


def test_core_connections_that_roll_back(any_world: World) -> None:
    """SW501: neither does a loop that checks a connection out for each row, and rolls it back."""

    @any_world.view()
    def view() -> str:
        for _ in range(12):
            with any_world.engine.connect() as connection:
                connection.execute(sa.update(Item).values(hits=Item.hits + 1))
                connection.rollback()
        return "ok"

    any_world.open()
    assert any_world.told("SW501") == []


def test_commits_of_several_lines(world: World) -> None:
    """SW501: the line that commits most is named, and no loop is claimed where there is none."""
    world.configure(max_commits=3)

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            session.execute(sa.update(Item).values(hits=1))
            session.commit()
            session.execute(sa.update(Item).values(hits=2))
            session.commit()
            session.execute(sa.update(Item).values(hits=3))
            session.commit()
            session.execute(sa.update(Item).values(hits=4))
            session.commit()
        return "ok"

    world.open()
    assert "loop" not in world.only("SW501").message


def test_requests_do_not_add_up(world: World) -> None:
    """SW501: each request is counted by itself, and so is each storm."""
    committing(world, 6)
    world.open()
    assert world.watch.findings == []


def test_storms_of_one_view(world: World) -> None:
    """SW501: a view that storms each time is one finding."""
    committing(world, 11)
    world.open()
    assert world.only("SW501").count == 2


def test_outer_app_context(world: World) -> None:
    """SW501: requests in an app context that was pushed around them do not add up either."""
    db = world.flask_sqlalchemy()

    @world.view()
    def view() -> str:
        commit(db.session, 4)
        return "ok"

    with world.app.app_context():
        for _ in range(4):
            world.open()
    assert world.heard == []


def test_command(world: World) -> None:
    """SW501: a command that commits each job is worth knowing, and no alert."""

    @world.app.cli.command("work")
    def command() -> None:
        with orm.Session(world.engine) as session:
            commit(session, 11)

    world.app.test_cli_runner().invoke(args=["work"])
    (finding,) = world.told("SW501")
    assert (finding.level, str(finding.scope)) == ("info", "flask work")


def test_block(world: World) -> None:
    """SW501: an explicit scope that commits often is worth knowing, and no alert."""
    with world.watch.scope("import"), orm.Session(world.engine) as session:
        commit(session, 11)
    assert [finding.level for finding in world.told("SW501")] == ["info"]


def test_outside_of_any_scope(world: World) -> None:
    """SW501: work outside of any scope has no end at which to be counted."""

    def work() -> None:
        with orm.Session(world.engine) as session:
            commit(session, 30)

    in_thread(work)
    world.ticks()
    assert world.watch.findings == []


def test_streamed_body(world: World) -> None:
    """SW501: commits in a streamed body count with those of the view."""

    @world.view()
    def view() -> flask.Response:
        session = orm.Session(world.engine)
        commit(session, 6)

        def lines() -> t.Iterator[str]:
            with session:
                commit(session, 5)
                yield "ok"

        return flask.Response(lines())

    assert world.open().text == "ok"
    assert world.only("SW501").details["commits"] == 11


def test_failed_storm(world: World) -> None:
    """SW501: a view that storms and then raises is told as well."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            commit(session, 11)
        raise KeyError("no stock")

    assert world.open().status_code == 500
    (finding,) = world.told("SW501")
    assert at(finding) == line("COMMIT")
