"""SW105 to SW108: pooled connections that are inherited, kept busy, dead or taken too often."""

import contextlib
import os
import subprocess
import sys
import textwrap
import typing as t

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

#: A watched application whose pool holds a connection, and a way to fork it and read what the child was told.
FORKING = """
    import ctypes, json, logging, os, sys, time
    import flask, sqlalchemy as sa
    from flask_sessionwatch import SessionWatch

    engine = sa.create_engine(sys.argv[1], **OPTIONS)
    app = flask.Flask("shop")
    app.config.update(SESSIONWATCH_APP_PATHS=[os.getcwd()], SESSIONWATCH_TICK=30.0)
    told = []
    logging.getLogger("flask_sessionwatch").addHandler(logging.Handler())
    logging.getLogger("flask_sessionwatch").handlers[0].emit = lambda record: told.append(
        getattr(record, "finding", None)
    )

    def ask():
        with engine.connect() as connection:
            return str(connection.scalar(sa.text("SELECT 1")))

    app.add_url_rule("/", "ask", ask)

    def get():
        assert app.test_client().get("/", buffered=True).text == "1"

    def child(work, fork=os.fork):
        reading, writing = os.pipe()
        pid = fork()
        if not pid:
            try:
                told.clear()
                work()
                found = [each for each in told if each is not None]
                text = [[each.code, each.level, each.scope and each.scope.name, each.details["opened_by"]] for each in found]
                os.write(writing, json.dumps(text).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            answer = pipe.read()
        os.waitpid(pid, 0)
        return json.loads(answer or '"the child has failed"')

    def soon(condition):
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)
"""


def fork(program: str, url: str = "sqlite:///forked.db", options: str = "{}", folder: t.Any = None) -> None:
    """Run *program* below the application above in a process of its own, which exits with 0 if all holds."""
    beginning = textwrap.dedent(FORKING).replace("**OPTIONS", f"**{options}")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", beginning + textwrap.dedent(program), url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
        env=environ,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_fork
@pytest.mark.parametrize("early", [True, False], ids=["before the watch", "after the watch"])
def test_forked(tmp_path: t.Any, early: bool) -> None:
    """SW105: a worker that uses a connection of its parent is told so once, when its request ends."""
    fork(
        f"""
        early = {early}
        ask() if early else None
        watch = SessionWatch(app)
        None if early else get()
        expected = [["SW105", "error", "GET /", os.getpid()]]
        for _ in range(2):
            answer = child(lambda: (get(), get()))
            assert answer == expected, answer
        assert watch.findings == []
        """,
        folder=tmp_path,
    )


@needs_fork
def test_forked_on_a_server(postgresql_url: str, tmp_path: t.Any) -> None:
    """SW105: the number of the server's own process is told with it."""
    fork(
        """
        ask()
        watch = SessionWatch(app)
        with engine.connect() as connection:
            backend = connection.scalar(sa.text("SELECT pg_backend_pid()"))

        def work():
            get()
            (finding,) = watch.findings
            assert finding.details["server_pid"] == backend
            assert f"PostgreSQL backend {backend}" in finding.text

        assert child(work) == [["SW105", "error", "GET /", os.getpid()]]
        """,
        postgresql_url,
        folder=tmp_path,
    )


@needs_fork
def test_forked_outside_of_any_scope(tmp_path: t.Any) -> None:
    """SW105: work outside of any scope is told at once, because a child may not live until the next tick."""
    fork(
        """
        ask()
        watch = SessionWatch(app)

        def work():
            ask()
            soon(lambda: any(told))

        assert child(work) == [["SW105", "error", None, os.getpid()]]
        """,
        folder=tmp_path,
    )


@needs_fork
@pytest.mark.parametrize("around", ["app.app_context()", "watch.scope('import')"])
def test_forked_inside_of_a_scope(tmp_path: t.Any, around: str) -> None:
    """SW105: a child that is forked in the midst of a scope never sees its end, and is told at once, and once."""
    fork(
        f"""
        watch = SessionWatch(app)
        with {around}:
            ask()
            answer = child(lambda: (ask(), soon(lambda: any(told)), ask(), watch.tick()))
            assert [each[:2] for each in answer] == [["SW105", "error"]], answer
        assert watch.findings == []
        """,
        folder=tmp_path,
    )


@needs_fork
def test_forked_without_python(tmp_path: t.Any) -> None:
    """SW105: a fork of which Python is not told, as uWSGI's, is noticed by the first check-out after it."""
    fork(
        """
        ask()
        watch = SessionWatch(app)
        get()
        answer = child(lambda: (get(), get()), ctypes.PyDLL(None).fork)
        assert answer == [["SW105", "error", "GET /", os.getpid()]], answer
        """,
        folder=tmp_path,
    )


@needs_fork
@pytest.mark.parametrize(
    ("before", "options"),
    [
        ("engine.dispose(close=False)", "{}"),
        ("pass", "{'poolclass': sa.NullPool}"),
        ("pass", "{'poolclass': sa.StaticPool}"),
    ],
    ids=["disposed", "no pool", "in memory"],
)
def test_not_forked(tmp_path: t.Any, before: str, options: str) -> None:
    """SW105: a child that made its pool anew, one without a pool, and a copied database in memory are healthy."""
    fork(
        f"""
        ask()
        watch = SessionWatch(app)
        get()

        def work():
            {before}
            get()
            get()
            watch.tick()

        for forking in (os.fork, ctypes.PyDLL(None).fork):
            answer = child(work, forking)
            assert answer == [], answer
        """,
        url="sqlite://" if "Static" in options else "sqlite:///forked.db",
        options=options,
        folder=tmp_path,
    )


@needs_fork
def test_parent_of_a_fork(tmp_path: t.Any) -> None:
    """SW105: the parent goes on with its own connections, and children with those that they open themselves."""
    fork(
        """
        watch = SessionWatch(app)
        assert child(lambda: (get(), get())) == []
        get()
        get()
        watch.tick()
        assert watch.findings == []
        """,
        folder=tmp_path,
    )


# SW106


@pytest.mark.parametrize("option", [{"yield_per": 1}, {"stream_results": True}], ids=["yield", "stream"])
def test_open_cursor(every_world: World, option: dict[str, t.Any]) -> None:
    """SW106: a streaming result that is kept with rows to come is told at the line that executed it."""

    @every_world.view()
    def view() -> str:
        connection = every_world.keep(every_world.engine.connect())
        rows = connection.execution_options(**option).execute(sa.select(Item.name))  # STREAM
        every_world.keep(rows)
        return str(next(iter(rows))[0])

    every_world.open()
    (finding,) = every_world.told("SW106")
    assert (finding.rule, finding.level, str(finding.scope)) == ("open-cursor", "warning", "GET /")
    assert at(finding) == line("STREAM")
    assert not finding.resolved
    every_world.give_back()
    every_world.watch.tick()
    assert finding.resolved
    assert set(every_world.heard) == {"SW101 error", "SW106 warning"}


def test_open_cursor_of_a_session(every_world: World) -> None:
    """SW106: the same holds of a Session's result."""

    @every_world.view()
    def view() -> str:
        session = every_world.keep(orm.Session(every_world.engine))
        items = session.scalars(sa.select(Item).execution_options(yield_per=1))  # STREAM
        every_world.keep(items)
        return str(next(iter(items)).name)

    every_world.open()
    assert at(every_world.told("SW106")[0]) == line("STREAM")
    assert set(every_world.heard) == {"SW106 warning", "SW201 error"}


def test_open_cursor_of_a_returned_connection(world: World) -> None:
    """SW106: once its connection is back in the pool, an open result is worth knowing, and no alert."""

    @world.view()
    def view() -> str:
        with world.engine.connect() as connection:
            rows = connection.execution_options(yield_per=1).execute(sa.select(Item.name))
            world.keep(rows)
            return str(next(iter(rows))[0])

    world.open()
    assert [finding.level for finding in world.told("SW106")] == ["info"]
    assert world.heard == []


@pytest.mark.parametrize("how", ["exhausted", "closed", "with", "first", "all"])
def test_closed_cursor(every_world: World, how: str) -> None:
    """SW106: a result that was read to its end, closed or dropped is healthy, though somebody keeps it."""
    kept: list[t.Any] = []

    @every_world.view()
    def view() -> str:
        with every_world.engine.connect() as connection:
            rows = connection.execution_options(yield_per=1).execute(sa.select(Item.name))
            kept.append(rows)
            if how == "exhausted":
                return str([row.name for row in rows])
            if how == "all":
                return str(rows.all())
            if how == "first":
                return str(rows.first())
            if how == "with":
                with rows:
                    return str(next(iter(rows)))
            next(iter(rows))
            rows.close()
        return "ok"

    assert every_world.open().status_code == 200
    assert every_world.watch.findings == []


def test_dropped_cursor(world: World) -> None:
    """SW106: a result that is dropped half-way is gone, and its cursor with it."""

    @world.view()
    def view() -> str:
        with world.engine.connect() as connection:
            return str(next(iter(connection.execution_options(yield_per=1).execute(sa.select(Item.name)))))

    assert world.open().status_code == 200
    assert world.watch.findings == []


def test_many_streams(world: World) -> None:
    """SW106: a scope with many streaming results keeps few of them, and still finds the open one."""

    @world.view()
    def view() -> str:
        connection = world.keep(world.engine.connect()).execution_options(yield_per=1)
        world.keep(connection.execute(sa.select(Item.name)))
        for _ in range(250):
            connection.execute(sa.select(Item.name)).all()
        return "ok"

    world.open()
    assert len(world.told("SW106")) == 1


def test_open_cursor_outside_of_any_scope(world: World) -> None:
    """SW106: outside of any scope it is told with the leak of its connection."""

    def work() -> None:
        connection = world.keep(world.engine.connect())
        world.keep(connection.execution_options(yield_per=1).execute(sa.select(Item.name)))  # STREAM

    in_thread(work)
    assert at(world.wait_for("SW106")) == line("STREAM")


def test_cursor_left_by_an_exception(world: World) -> None:
    """SW106: what the traceback of an exception keeps alive is not told."""
    errors: list[BaseException] = []

    @world.view()
    def view() -> str:
        try:
            with world.engine.connect() as connection:
                rows = connection.execution_options(yield_per=1).execute(sa.select(Item.name))
                next(iter(rows))
                raise KeyError("no stock")
        except KeyError as error:
            errors.append(error)
            raise

    assert world.open().status_code == 500
    assert world.watch.findings == []


def test_streamed_body_of_a_streaming_result(every_world: World) -> None:
    """SW106: a body that streams rows until the client has gone is healthy."""

    @every_world.view()
    def view() -> flask.Response:
        def lines() -> t.Iterator[str]:
            with (
                orm.Session(every_world.engine) as session,
                session.scalars(sa.select(Item).execution_options(yield_per=1)) as items,
            ):
                for item in items:
                    yield item.name

        return flask.Response(lines())

    response = every_world.app.test_client().get("/", buffered=False)
    assert next(iter(response.response))
    response.close()
    assert every_world.open().status_code == 200
    assert every_world.watch.findings == []


# SW107


def drop(engine: sa.Engine) -> None:
    """Close the pool's one connection behind its back, as a server does."""
    pooled = engine.raw_connection()
    driver = pooled.driver_connection
    pooled.close()
    assert driver is not None
    driver.close()


def test_stale(every_world: World) -> None:
    """SW107: the first statement on a connection that the server has dropped is told at its line."""
    drop(every_world.engine)

    @every_world.view()
    def view() -> str:
        with orm.Session(every_world.engine) as session:
            return str(session.scalar(sa.select(Item.name)))  # DEAD

    assert every_world.open().status_code == 500
    finding = every_world.only("SW107")
    assert (finding.rule, finding.level, str(finding.scope)) == (
        "stale-pooled-connection",
        "warning",
        "GET /",
    )
    assert at(finding) == line("DEAD")
    assert every_world.open().status_code == 200
    assert every_world.only("SW107").count == 1


def test_stale_by_the_server(postgresql_world: World) -> None:
    """SW107: the same holds when the server has ended it, with the number by which the server's log knows it."""
    engine = postgresql_world.engine
    with engine.connect() as connection:
        backend = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    with postgresql_world.make_engine().connect() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})

    @postgresql_world.view()
    def view() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(sa.select(Item.name)))

    assert postgresql_world.open().status_code == 500
    assert postgresql_world.only("SW107").details["server_pid"] == backend


def test_stale_and_tried_again(every_world: World) -> None:
    """SW107: where a second try succeeded it is worth knowing, and no alert."""
    drop(every_world.engine)

    @every_world.view()
    def view() -> str:
        with orm.Session(every_world.engine) as session:
            with contextlib.suppress(sa.exc.DBAPIError):
                session.scalar(sa.select(Item.name))
            session.rollback()
            return str(session.scalar(sa.select(Item.name)))

    assert every_world.open().status_code == 200
    assert [finding.level for finding in every_world.told("SW107")] == ["info"]
    assert every_world.heard == []


def test_stale_outside_of_any_scope(world: World) -> None:
    """SW107: outside of any scope it is told at the next tick."""
    drop(world.engine)

    def work() -> None:
        with contextlib.suppress(sa.exc.DBAPIError), world.engine.connect() as connection:
            connection.execute(sa.select(Item.name))  # DEAD

    in_thread(work)
    assert at(world.wait_for("SW107")) == line("DEAD")


def test_pre_ping(every_world: World) -> None:
    """SW107: a pool that asks first hands out no dead connection."""
    engine = every_world.make_engine(pool_pre_ping=True)
    drop(engine)

    @every_world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            return str(session.scalar(sa.select(Item.name)))

    assert every_world.open().status_code == 200
    assert every_world.watch.findings == []


@pytest.mark.parametrize("worked", [True, False], ids=["after a statement", "right after connecting"])
def test_died_in_use(any_world: World, worked: bool) -> None:
    """SW107: a connection that dies after its first statement, or is new, says nothing about the pool."""
    engine = any_world.make_engine()
    if worked:
        engine.connect().close()

    @any_world.view()
    def view() -> str:
        with engine.connect() as connection:
            if worked:
                connection.execute(sa.select(Item.name))
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.close()
            return str(connection.scalar(sa.select(Item.name)))

    assert any_world.open().status_code == 500
    assert any_world.watch.findings == []


def test_server_that_is_down(postgresql_world: World) -> None:
    """SW107: a server that cannot be reached at all is no stale connection."""
    url = sa.make_url(postgresql_world.url).set(port=1)
    engine = postgresql_world.make_engine(url.render_as_string(hide_password=False))

    @postgresql_world.view()
    def view() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(sa.select(Item.name)))

    assert postgresql_world.open().status_code == 500
    assert postgresql_world.watch.findings == []


# SW108


def name_of(world: World, number: int) -> str | None:
    with orm.Session(world.engine) as session:
        return session.scalar(sa.select(Item.name).where(Item.id == number))  # CHURN


def churning(world: World, times: int) -> None:
    """Give *world* a view whose helper opens a session so many times."""

    @world.view()
    def view() -> str:
        return str([name_of(world, number) for number in range(times)])

    assert world.open().status_code == 200


def test_churn(every_world: World) -> None:
    """SW108: a helper that opens a session for each call is worth knowing, at the line that checks out."""
    churning(every_world, 11)
    (finding,) = every_world.watch.findings
    assert (finding.code, finding.rule, finding.level) == ("SW108", "checkout-churn", "info")
    assert at(finding) == line("CHURN")
    assert finding.details == {"checkouts": 11, "commits": 0, "limit": 10}
    assert "GET / checked out a connection 11 times, mostly at one line" in finding.message


def test_as_often_as_allowed(world: World) -> None:
    """SW108: as many check-outs as the limit allows are healthy."""
    churning(world, 10)
    assert world.watch.findings == []


@pytest.mark.parametrize(("limit", "number"), [(1, 1), (2, 1), (3, 0)])
def test_churn_limit(world: World, limit: int, number: int) -> None:
    """SW108: SESSIONWATCH_MAX_CHECKOUTS is the limit, down to a single check-out."""
    world.configure(max_checkouts=limit)
    churning(world, 3)
    assert len(world.told("SW108")) == number


def test_churn_of_several_lines(world: World) -> None:
    """SW108: where several lines check out, none is blamed for all of them."""
    world.configure(max_checkouts=3)

    @world.view()
    def view() -> str:
        world.engine.connect().close()
        world.engine.connect().close()
        world.engine.connect().close()
        world.engine.connect().close()
        return "ok"

    world.open()
    assert "mostly" not in world.only("SW108").message


def test_churn_of_commits(world: World) -> None:
    """SW108: a session that commits takes its connection again, and is told by the number of its commits only."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            for _ in range(11):
                session.execute(sa.update(Item).values(hits=1))
                session.commit()
        return "ok"

    world.open()
    assert [finding.code for finding in world.watch.findings] == ["SW501"]


def test_one_session(every_world: World) -> None:
    """SW108: many statements of one session are one check-out."""

    @every_world.view()
    def view() -> str:
        with orm.Session(every_world.engine) as session:
            return str([session.scalar(sa.select(Item.name)) for _ in range(30)])

    assert every_world.open().status_code == 200
    assert every_world.watch.findings == []


def test_churn_without_stacks(world: World) -> None:
    """SW108: without stacks it is told without a line."""
    world.configure(stack_depth=0)
    churning(world, 11)
    assert world.only("SW108").site is None


def test_churn_outside_of_any_scope(world: World) -> None:
    """SW108: work outside of any scope has no end at which to be counted."""
    in_thread(lambda: [name_of(world, 1) for _ in range(30)])
    world.ticks()
    assert world.watch.findings == []
