"""What the recorder hears, and that it leaves nothing of its own behind."""

import gc
import logging
import subprocess
import sys
import textwrap
import threading
import time
import typing as t
import weakref

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch
from flask_sessionwatch import extension
from flask_sessionwatch.observe import identity
from flask_sessionwatch.observe import recorder as recorder_module
from tests.rules.conftest import Base
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line
from tests.rules.conftest import one_item
from tests.rules.conftest import until
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


def run_program(program: str, *args: str, options: t.Sequence[str] = ()) -> str:
    """Run *program* in a process of its own, where a warning is an error, and return what it prints."""
    command = [sys.executable, "-W", "error", *options, "-c", textwrap.dedent(program), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def checkedout(engine: sa.Engine) -> int:
    """Ask the pool itself."""
    assert isinstance(engine.pool, sa.QueuePool)
    return engine.pool.checkedout()


def name_of(engine: sa.Engine) -> str:
    """Return the name under which an engine of these tests is told: its database's."""
    return str(engine.url.database).rpartition("/")[2]


# Attaching and detaching


def listeners() -> dict[str, int]:
    """Count what listens to every pool, engine and session of this process."""
    engine = sa.create_engine("sqlite://")
    session = orm.Session(engine)
    heard = {}
    for target in (engine.pool, engine, engine.dialect, session):
        dispatch = t.cast(t.Any, target).dispatch
        for name in dispatch._event_names:
            heard[f"{type(target).__name__}.{name}"] = len(list(getattr(dispatch, name)))
    engine.dispose()
    return heard


def test_close_removes_every_listener(world: World) -> None:
    """After close() nothing listens that did not listen before."""
    world.watch.close()
    before = listeners()
    world.configure()
    with world.engine.connect() as connection:
        connection.execute(sa.insert(Item).values(name="eve"))
    assert listeners() != before
    world.watch.close()
    assert listeners() == before


def test_close_after_dispose(world: World) -> None:
    """Neither a pool that was written through, nor the one that dispose() made of it, keeps a listener."""

    def write() -> None:
        with world.engine.begin() as connection:
            connection.execute(sa.update(Item).values(hits=1))

    def heard() -> list[object]:
        return [listener for listener in world.engine.pool.dispatch.reset if "sessionwatch" in repr(listener)]

    write()
    world.engine.dispose()
    write()
    assert len(heard()) <= 1
    world.watch.close()
    assert heard() == []


def test_close_after_somebody_removed_listeners(world: World) -> None:
    """A listener that somebody else removed meanwhile does not keep close() from removing the others."""
    with world.engine.begin() as connection:
        connection.execute(sa.update(Item).values(hits=1))
    for listener in list(world.engine.pool.dispatch.reset):
        sa.event.remove(sa.pool.Pool, "reset", listener)
    world.watch.close()


def test_close_twice(world: World) -> None:
    """Closing a watch that is closed already does nothing."""
    world.watch.close()
    world.watch.close()


def test_nothing_is_heard_after_close(world: World) -> None:
    """A watch that is closed tells nothing more."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    world.watch.close()
    assert world.open().status_code == 200
    assert world.watch.findings == []


def test_no_engine_event_is_listened_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Engine event is listened to, which would slow down every statement of every Connection."""
    world.watch.close()
    # It stays set for good once anybody has listened.
    monkeypatch.setattr(sa.Engine, "_has_events", False)
    world.configure()
    with world.engine.connect() as connection:
        assert not connection._has_events
        assert not sa.Engine._has_events


def test_engines_made_before_and_after(world: World) -> None:
    """Engines are seen whether they were made and used before the watch, made before it, or made after it."""
    world.watch.close()
    used, unused = world.make_engine(), world.make_engine()
    with used.connect():
        pass
    world.configure()
    engines = [used, unused, world.make_engine()]

    @world.view(rule="/<int:number>")
    def view(number: int) -> str:
        world.keep(engines[number].connect())
        return "ok"

    for number in range(3):
        world.open(f"/{number}")
    (finding,) = world.told("SW101")
    assert finding.count == 3


def test_kinds_of_sessions(world: World) -> None:
    """A subclass of Session, one made before the watch, and those of a sessionmaker are all seen."""

    class OwnSession(orm.Session):
        pass

    world.watch.close()
    before = orm.Session(world.engine)
    before.scalar(sa.select(Item.id))
    before.rollback()
    world.configure()
    factory = orm.sessionmaker(world.engine, class_=OwnSession)

    @world.view()
    def view() -> str:
        for session in (before, OwnSession(world.engine), factory()):
            world.keep(session).scalar(sa.select(Item.id))
        return "ok"

    world.open()
    assert world.only("SW201").count == 3


def test_deaf(sqlite_url: str) -> None:
    """That somebody removed the class-level listeners, as SQLAlchemy's own test fixtures do, is said once."""
    program = """
        import logging, sys
        import flask
        from sqlalchemy.orm.events import SessionEvents
        from flask_sessionwatch import SessionWatch

        logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
        watch = SessionWatch(flask.Flask("shop"))
        watch.tick()
        SessionEvents._clear()
        watch.tick()
        watch.tick()
        watch.close()
    """
    told = run_program(program)
    assert told.count("removed the listeners of flask_sessionwatch") == 1
    assert told.startswith("WARNING")


# What is counted


def test_outcomes(any_world: World) -> None:
    """Every transaction is counted by its outcome, on its engine."""

    @any_world.view()
    def view() -> str:
        for ending in ("commit", "commit", "rollback", "close"):
            with orm.Session(any_world.engine) as session:
                session.add(Item(name=ending))
                session.flush()
                getattr(session, ending)()
                any_world.engine.connect().close()
            with any_world.engine.begin() as connection:
                connection.execute(sa.delete(Item))
        try:
            with orm.Session(any_world.engine) as session:
                session.execute(sa.text("SELECT nonsense"))
        except sa.exc.DBAPIError:
            pass
        orm.Session(any_world.engine).scalar(sa.select(Item.id))
        gc.collect()
        return "ok"

    assert any_world.open().status_code == 200
    counts = {
        outcome: any_world.metric(
            "sessionwatch_transactions_total", engine=name_of(any_world.engine), outcome=outcome
        )
        for outcome in ("commit", "rollback", "rollback_on_close", "error", "garbage_collected")
    }
    assert counts == {
        "commit": 2,
        "rollback": 1,
        "rollback_on_close": 1,
        "error": 1,
        "garbage_collected": 1,
    }


def agree(world: World, engine: sa.Engine, number: int) -> None:
    """See that the pool and the gauge both count *number* used connections."""
    assert checkedout(engine) == number
    assert world.metric("sessionwatch_connections", engine=name_of(engine), state="used") == number


def test_connections_are_the_pools(any_world: World) -> None:
    """The gauge of used connections says what the pool says, whatever happens to a connection."""
    engine = any_world.make_engine(pool_size=3, max_overflow=2)
    agree(any_world, engine, 0)
    first, second = engine.connect(), engine.connect()
    agree(any_world, engine, 2)
    first.invalidate()
    agree(any_world, engine, 1)
    first.rollback()
    assert first.scalar(sa.text("SELECT 1")) == 1
    agree(any_world, engine, 2)
    second.detach()
    agree(any_world, engine, 1)
    second.close()
    agree(any_world, engine, 1)
    raw = engine.raw_connection()
    agree(any_world, engine, 2)
    raw.close()
    first.close()
    agree(any_world, engine, 0)


def test_connections_of_sessions_are_the_pools(any_world: World) -> None:
    """The same with Sessions, and with what the collector returns."""
    engine = any_world.make_engine(pool_size=3, max_overflow=2)
    session = orm.Session(engine)
    session.scalar(sa.select(Item.id))
    agree(any_world, engine, 1)
    session.invalidate()
    agree(any_world, engine, 0)
    session.scalar(sa.select(Item.id))
    agree(any_world, engine, 1)
    del session
    engine.connect().execute(sa.select(Item.id))
    gc.collect()
    agree(any_world, engine, 0)


@pytest.mark.parametrize("depth", [0, 40])
def test_who_closes_may_keep_the_proxy(world: World, depth: int) -> None:
    """A connection that is closed is used by nobody, also when a variable leads to it still; it is counted once."""
    world.configure(stack_depth=depth)
    engine = world.make_engine()
    labels = {"engine": name_of(engine)}
    raw = engine.raw_connection()
    agree(world, engine, 1)
    raw.close()
    agree(world, engine, 0)
    world.ticks(2)
    assert world.metric("sessionwatch_connection_use_seconds_count", **labels) == 1
    del raw
    world.ticks(1)
    assert world.metric("sessionwatch_connection_use_seconds_count", **labels) == 1


@pytest.mark.parametrize("how", ["connect", "begin", "raw_connection"])
@pytest.mark.parametrize("depth", [0, 40])
def test_end_without_a_session(world: World, how: str, depth: int) -> None:
    """What is checked out without a Session ends with its close(), again and again."""
    world.configure(stack_depth=depth)
    engine = world.make_engine()
    for number in range(3):
        if how == "raw_connection":
            engine.raw_connection().close()
        else:
            with getattr(engine, how)():
                agree(world, engine, 1)
        assert world.metric("sessionwatch_connection_use_seconds_count", engine=name_of(engine)) == number + 1
    assert world.heard == []


def test_session_that_dies_with_its_connection(world: World) -> None:
    """A Session that is dropped has no connection any more, even before the watchdog looks."""
    engine = world.make_engine()
    session = orm.Session(engine)
    session.scalar(sa.select(Item.id))
    agree(world, engine, 1)
    del session
    gc.collect()
    agree(world, engine, 0)
    world.ticks(1)
    assert world.metric("sessionwatch_connection_use_seconds_count", engine=name_of(engine)) == 1
    world.only("SW102")


def test_connection_that_outlives_its_session(world: World) -> None:
    """A Connection that a Session has given away ends by itself when the Session is gone."""
    engine = world.make_engine()
    session = orm.Session(engine)
    connection = session.connection()
    del session
    gc.collect()
    world.ticks(1)
    agree(world, engine, 1)
    connection.close()
    agree(world, engine, 0)


def test_transaction_that_cannot_say_its_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an exception cuts the end of a transaction short, the watchdog finds out that it is over."""
    engine = world.make_engine()
    session = orm.Session(engine)
    session.scalar(sa.select(Item.id))
    transaction = extension._process.ledger.transactions[session.hash_key]
    with monkeypatch.context() as patch:
        patch.setattr(sa.Connection, "close", raise_interrupt(sa.Connection.close))
        with pytest.raises(KeyboardInterrupt):
            session.close()
    world.ticks(2)
    assert transaction.ended_at is None
    transaction.began_at -= 60.0
    world.ticks(2)
    assert (transaction.ending, transaction.held) == ("rollback_on_close", [])
    agree(world, engine, 0)


def raise_interrupt(close: t.Callable[..., None]) -> t.Callable[..., None]:
    """Make a close() that is interrupted as soon as it is done."""

    def interrupted(*args: t.Any) -> None:
        close(*args)
        raise KeyboardInterrupt

    return interrupted


def test_waiting_and_connecting_are_measured(world: World) -> None:
    """How long connecting and checking out took is counted, once per connection and check-out."""
    engine = world.make_engine()
    name = name_of(engine)
    before = world.metric("sessionwatch_connection_wait_seconds_count", engine=name)
    created = world.metric("sessionwatch_connection_create_seconds_count", engine=name)
    for _ in range(3):
        engine.connect().close()
    assert world.metric("sessionwatch_connection_wait_seconds_count", engine=name) == before + 3
    assert world.metric("sessionwatch_connection_create_seconds_count", engine=name) == created + 1


def test_who_waits(world: World) -> None:
    """A thread that waits for a connection is counted while it waits."""
    engine = world.make_engine(pool_size=1, max_overflow=0, pool_timeout=30)
    name = name_of(engine)
    holder = engine.connect()
    waiter = threading.Thread(target=lambda: engine.connect().close())
    waiter.start()
    until(lambda: world.metric("sessionwatch_connections_pending", engine=name) == 1)
    holder.close()
    waiter.join()
    assert world.metric("sessionwatch_connections_pending", engine=name) == 0


def test_threads_at_once(any_world: World) -> None:
    """Threads that work at once leave nothing behind: no live record, no finding, no error of the watcher's own."""
    engine = any_world.make_engine(pool_size=4, max_overflow=4)
    errors: list[BaseException] = []
    # SQLite has one writer at a time, and the others would wait for it.
    writes = any_world.url.startswith("postgresql")

    @any_world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.scalar(sa.select(Item.id))
            if writes:
                session.add(Item(name=f"{threading.get_ident()}"))
                session.flush()
            session.rollback()
        with engine.connect() as connection:
            return str(connection.scalar(sa.select(sa.literal(1))))

    def work() -> None:
        try:
            for _ in range(25):
                assert any_world.open().text == "1"
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        any_world.watch.tick()
        gc.collect(0)
    assert errors == []
    assert any_world.heard == []
    assert any_world.metric("sessionwatch_sessions_open") == 0
    assert any_world.metric("sessionwatch_connections", engine=name_of(engine), state="used") == 0


# Never the leak itself


def test_nothing_is_kept_alive(world: World) -> None:
    """Neither a Session, nor a Connection, nor a mapped object lives a moment longer because it is watched."""
    refs: list[weakref.ref[t.Any]] = []

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            item = one_item(session)
            item.hits += 1
            session.commit()
            refs.append(weakref.ref(item))
            refs.append(weakref.ref(session))
        with world.engine.begin() as connection:
            connection.execute(sa.update(Item).values(hits=1))
            refs.append(weakref.ref(connection))
            refs.append(weakref.ref(connection.get_transaction()))
        return "ok"

    world.open()
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None, None]


def test_what_was_told_is_not_kept_alive(world: World) -> None:
    """A finding does not keep what it is about: what was leaked, lost or failed may be collected."""
    refs: list[weakref.ref[t.Any]] = []

    @world.view()
    def view() -> str:
        session = orm.Session(world.engine)
        item = Item(name="eve")
        session.add(item)
        session.flush()
        connection = world.engine.connect()
        connection.execute(sa.select(Item.id))
        refs.extend([weakref.ref(session), weakref.ref(item), weakref.ref(connection)])
        return "ok"

    world.open()
    gc.collect()
    world.ticks()
    assert world.told("SW101")
    assert [ref() for ref in refs] == [None, None, None]
    assert checkedout(world.engine) == 0


def test_no_statement_of_its_own(any_world: World) -> None:
    """Ticks and scrapes run no SQL, not even on connections that are held."""
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *args: object) -> None:
        statements.append(statement)

    sa.event.listen(any_world.engine, "before_cursor_execute", note)
    with orm.Session(any_world.engine) as session:
        session.scalar(sa.select(Item.id))
        any_world.ticks()
        any_world.metric("sessionwatch_sessions_open")
        any_world.tick_after(1000)
    assert len(statements) == 1


def test_collector_inside_a_listener(world: World) -> None:
    """A collection in the middle of the watcher's own listeners, which re-enters them, does no harm."""

    @world.view()
    def view() -> str:
        for _ in range(30):
            world.engine.connect()
        return "ok"

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(3):
            world.open()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    world.ticks()
    assert checkedout(world.engine) == 0
    assert world.metric("sessionwatch_connections", engine=name_of(world.engine), state="used") == 0


def test_without_stacks(world: World) -> None:
    """With SESSIONWATCH_STACK_DEPTH 0 bugs are told without a stack, and nothing else changes."""
    world.configure(stack_depth=0, max_commits=1)

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        world.keep(orm.Session(world.engine)).scalar(sa.select(Item.id))
        with orm.Session(world.engine) as session:
            for number in range(3):
                session.add(Item(name=f"item {number}"))
                session.commit()
            session.add(Item(name="lost"))
            session.flush()
        return "ok"

    assert world.open().status_code == 200
    assert {"SW101", "SW201", "SW204", "SW501"} <= {finding.code for finding in world.watch.findings}
    assert {finding.stack for finding in world.watch.findings} == {()}


def test_deep_stacks(world: World) -> None:
    """A line is found below many frames of the application, and beyond the depth it is simply not told."""

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            world.keep(world.engine.connect())  # LEAK

    @world.view()
    def view() -> str:
        deep(200)
        return "ok"

    world.open()
    assert at(world.only("SW101")) == line("LEAK")


def test_events_of_savepoints_and_two_phases(world: World) -> None:
    """Savepoints, nested deeply, leave neither session nor connection on the ledger."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session, session.begin():
            for number in range(5):
                nested = session.begin_nested()
                session.begin_nested()
                session.add(Item(name=f"item {number}"))
                session.flush()
                nested.commit() if number % 2 else nested.rollback()
        return "ok"

    assert world.open().status_code == 200
    assert world.metric("sessionwatch_sessions_open") == 0
    assert world.heard == []


def test_two_phase_commit(postgresql_url: str) -> None:
    """A two-phase commit is a commit."""
    with world_of(postgresql_url) as world:
        with world.engine.connect() as connection:
            if connection.scalar(sa.text("SHOW max_prepared_transactions")) == "0":
                pytest.skip("the server allows no prepared transactions")

        @world.view()
        def view() -> str:
            with orm.Session(world.engine, twophase=True) as session:
                session.add(Item(name="eve"))
                session.commit()
            return "ok"

        assert world.open().status_code == 200
        world.ticks()
        assert world.heard == []


def test_applications_side_by_side(world: World) -> None:
    """Two watched applications of one process hear of their own requests only."""
    other = World(world.url)
    try:

        @other.view()
        def view() -> str:
            other.keep(other.engine.connect())  # LEAK
            return "ok"

        other.open()
        assert [at(finding) for finding in other.watch.findings] == [line("LEAK")]
        assert world.watch.findings == []
    finally:
        other.close()


def test_the_last_one_detaches(world: World) -> None:
    """Closing one of two watches leaves the other one listening."""
    other = World(world.url)
    other.close()

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    world.open()
    world.only("SW101")


def test_without_an_application(sqlite_url: str) -> None:
    """A watch without any application watches plain SQLAlchemy in its explicit scopes."""
    engine = sa.create_engine(sqlite_url)
    Base.metadata.create_all(engine)
    watch = SessionWatch()
    try:
        with watch.scope("script"):
            connection = engine.connect()  # LEAK
        (finding,) = watch.findings
        assert (finding.code, str(finding.scope)) == ("SW101", "script")
        connection.close()
    finally:
        watch.close()
        engine.dispose()


# Processes and greenlets


def test_fork(sqlite_url: str) -> None:
    """A forked child begins anew: what its parent holds is not told again, its own is told, with its own thread."""
    program = """
        import os, sys, time
        import flask, sqlalchemy as sa
        from flask_sessionwatch import SessionWatch

        engine = sa.create_engine(sys.argv[1])
        app = flask.Flask("shop")
        app.config["SESSIONWATCH_TICK"] = 0.05
        watch = SessionWatch(app)
        kept = []

        @app.get("/leak")
        def leak():
            kept.append(engine.connect())
            return "ok"

        @app.get("/ok")
        def ok():
            with engine.connect() as connection:
                return str(connection.scalar(sa.text("SELECT 1")))

        client = app.test_client()
        client.get("/leak", buffered=True)
        assert [finding.code for finding in watch.findings] == ["SW101"]
        child = os.fork()
        if not child:
            code = 1
            try:
                engine.dispose(close=False)
                for _ in range(3):
                    watch.tick()
                    time.sleep(0.06)
                assert not watch.findings, watch.findings
                assert client.get("/ok", buffered=True).text == "1"
                assert not watch.findings, watch.findings
                client.get("/leak", buffered=True)
                assert [finding.count for finding in watch.findings] == [1], watch.findings
                kept.pop().close()
                deadline = time.monotonic() + 10
                while not watch.findings[0].resolved:  # by the child's own watchdog
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        watch.tick()
        assert [(finding.code, finding.count, finding.resolved) for finding in watch.findings] == [("SW101", 1, False)]
        kept.pop().close()
        watch.close()
        engine.dispose()
        print("done")
    """
    assert run_program(program, sqlite_url) == "done"


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import sys
    import flask, gevent, sqlalchemy as sa
    from sqlalchemy import orm
    from flask_sessionwatch import SessionWatch

    engine = sa.create_engine(sys.argv[1], pool_size=10, connect_args={"check_same_thread": False})
    app = flask.Flask("shop")
    app.config.update(SESSIONWATCH_TICK=0.05, SESSIONWATCH_IDLE_IN_TRANSACTION=60.0)
    watch = SessionWatch(app)
    registry = orm.scoped_session(orm.sessionmaker(engine))
    kept = []

    @app.teardown_appcontext
    def remove(error):
        registry.remove()

    @app.get("/ok")
    def ok():
        number = registry.scalar(sa.text("SELECT 1"))
        gevent.sleep(0.02)
        return f"{number}{registry.scalar(sa.text('SELECT 2'))}"

    @app.get("/leak")
    def leak():
        kept.append(engine.connect())
        return "ok"

    def get(path):
        return app.test_client().get(path, buffered=True).text
"""


def test_greenlets(sqlite_url: str) -> None:
    """Requests on greenlets, with a session each and all in between, are healthy; a leak among them is told."""
    program = textwrap.dedent(GEVENT) + textwrap.dedent("""
        texts = [job.get() for job in [gevent.spawn(get, "/ok") for _ in range(8)]]
        assert texts == ["12"] * 8, texts
        for _ in range(4):
            watch.tick()
            gevent.sleep(0.06)
        assert not watch.findings, watch.findings
        gevent.spawn(get, "/leak").get()
        told = [(finding.code, str(finding.scope)) for finding in watch.findings]
        assert told == [("SW101", "GET /leak")], told
        kept.pop().close()
        watch.close()
        engine.dispose()
        print("done")
    """)
    assert run_program(program, sqlite_url, options=["-W", "default"]) == "done"


def test_watchdog_among_greenlets(sqlite_url: str) -> None:
    """The watchdog ticks under gevent, and tells an idle transaction of a greenlet that sleeps."""
    program = textwrap.dedent(GEVENT) + textwrap.dedent("""
        watch.close()
        app.config["SESSIONWATCH_IDLE_IN_TRANSACTION"] = 0.1
        watch = SessionWatch(app)

        @app.get("/idle")
        def idle():
            registry.scalar(sa.text("SELECT 1"))
            for _ in range(500):
                if watch.findings:
                    break
                gevent.sleep(0.02)
            return "ok"

        gevent.spawn(get, "/idle").get()
        assert [finding.code for finding in watch.findings] == ["SW202"], watch.findings
        watch.close()
        engine.dispose()
        print("done")
    """)
    assert run_program(program, sqlite_url, options=["-W", "default"]) == "done"


def test_development_mode(sqlite_url: str) -> None:
    """Under -X dev and -W error a leak, its collection and the end of the process raise no warning of ours."""
    program = """
        import gc, sys
        import flask, sqlalchemy as sa
        from flask_sessionwatch import SessionWatch

        gc.disable()  # a collection between the view and the end of its request would give the leak back: SW102
        app = flask.Flask("shop")
        app.config["SESSIONWATCH_TICK"] = 0.05
        watch = SessionWatch(app)
        engine = sa.create_engine(sys.argv[1])

        @app.get("/")
        def view():
            connection = engine.connect()
            connection.execute(sa.text("SELECT 1"))
            return "ok"

        assert app.test_client().get("/", buffered=True).status_code == 200
        gc.collect()
        watch.tick()
        assert [finding.code for finding in watch.findings][0] == "SW101", watch.findings
        engine.dispose()
        print("done")
    """
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program), sqlite_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr
    assert "Warning" not in done.stderr
    assert "Traceback" not in done.stderr


def test_thread_ids_are_used_again(world: World) -> None:
    """A new thread that is given a dead thread's number is not taken for it."""
    for _ in range(20):
        in_thread(lambda: world.engine.connect().close())
    held = threading.Event()
    done = threading.Event()
    kept: list[sa.Connection] = []

    def leave() -> None:
        kept.append(world.engine.connect())  # LEAK

    def stay() -> None:
        held.set()
        done.wait()

    in_thread(leave)
    thread = threading.Thread(target=stay)
    thread.start()
    held.wait()
    finding = world.wait_for("SW101")
    done.set()
    thread.join()
    kept[0].close()
    assert at(finding) == line("LEAK")


def test_own_log_only(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """What is said is said by the logger of the package, and carries its finding."""
    caplog.set_level(logging.INFO)

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    world.open()
    (record,) = [record for record in caplog.records if record.name.startswith("flask_sessionwatch")]
    assert record.name == "flask_sessionwatch"
    assert vars(record)["finding"] is world.only("SW101")


def test_session_is_known_by_its_number(world: World) -> None:
    """A record leads to its Session as long as that lives; one that is collected takes no other's record along."""
    ledger = extension._process.ledger
    lender, other = orm.Session(world.engine), orm.Session(world.engine)
    lent = [lender.connection()]
    other.begin()
    dead, begun = ledger.transactions[lender.hash_key], ledger.transactions[other.hash_key]
    assert (dead.session(), begun.session()) == (lender, other)
    del lender
    gc.collect()
    assert dead.session() is None
    lent.clear()
    gc.collect()
    extension._process.recorder.prune()
    assert dead.ending == "garbage_collected"
    assert ledger.transactions == {other.hash_key: begun}
    other.close()
    assert not ledger.transactions


def test_ended_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check-out that a signal's handler ends, while it is about to end, is counted once."""
    process = extension._process
    with world.engine.connect():
        (checkout,) = process.ledger.checkouts

        def interrupted() -> float:
            monkeypatch.setattr(recorder_module, "clock", time.monotonic)
            process.recorder._end_checkout(checkout)
            return time.monotonic()

        monkeypatch.setattr(recorder_module, "clock", interrupted)
        process.recorder._end_checkout(checkout)
    assert list(process.ledger.closed).count(checkout) == 1


def test_sessions_that_sqlalchemy_does_not_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLAlchemy keeps no list of its Sessions, one is kept here, and keeps none of them alive."""
    monkeypatch.setattr(identity, "_sessions", weakref.WeakValueDictionary())
    session = orm.Session()
    assert identity.session_of(session.hash_key) is None
    identity.remember(session)
    assert identity.session_of(session.hash_key) is session
    key = session.hash_key
    del session
    gc.collect()
    assert identity.session_of(key) is None


def test_sqlalchemy_lists_its_sessions() -> None:
    """SQLAlchemy knows its Sessions by their numbers, so that none has to be entered."""
    session = orm.Session()
    assert not identity.UNKNOWN
    assert identity.session_of(session.hash_key) is session
