"""Greenlets: each holds what it holds, however late gevent came, and costs nothing where there are none."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from flask_sessionwatch import extension

PATCH = "from gevent import monkey; monkey.patch_all()"
IMPORTS = """
    import sys
    sys.path.append(__file__.replace("program.py", "site-packages"))
    import driver, flask, gevent, sqlalchemy as sa
    from sqlalchemy import event, orm
"""
#: When gevent patches the world: before the watch is imported, after that, or never.
ORDERS = {
    "before": f"{PATCH}\nimport flask_sessionwatch\n",
    "after": f"import flask_sessionwatch\n{PATCH}\n",
    "never": "import flask_sessionwatch\n",
}
BEGINNING = """
    from flask_sessionwatch import SessionWatch

    engine = sa.create_engine(sys.argv[1], pool_size=3, max_overflow=0, pool_timeout=0.2,
                              connect_args={"check_same_thread": False})
    app = flask.Flask("shop")
    app.config.update(SESSIONWATCH_TICK=600, SESSIONWATCH_IDLE_IN_TRANSACTION=60.0,
                      SESSIONWATCH_APP_PATHS=[__file__.rpartition("/")[0]])
    watch = SessionWatch(app, sinks=[])
    ledger = flask_sessionwatch.extension._process.ledger

    event.listen(engine, "do_execute", driver.cooperate)

    def get(path):
        return app.test_client().get(path, buffered=True).text

    def told():
        watch.tick()
        return [finding.code for finding in watch.findings]

    def line(marker):
        with open(__file__) as file:
            return next(n for n, text in enumerate(file, 1) if text.rstrip().endswith("# " + marker))
"""
#: Stands for a driver whose socket is gevent's: others run while it waits for the database.
DRIVER = """
    import gevent

    def cooperate(cursor, statement, parameters, context):
        gevent.sleep(context.execution_options.get("seconds", 0.05))
"""
ENDING = """
    assert ledger.internal_errors == 0
    watch.close()
    engine.dispose()
    print("done")
"""


class Programs:
    """Runs programs in processes of their own, from a file so that their lines can be told.

    :param folder: where to put them.
    :param url: an empty database for each.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.path = folder / "program.py"
        self.library = folder / "site-packages"
        self.library.mkdir()
        (self.library / "driver.py").write_text(textwrap.dedent(DRIVER))
        self.url = url

    def run(self, order: str, program: str) -> None:
        parts = [ORDERS[order], *map(textwrap.dedent, (IMPORTS, BEGINNING, program, ENDING))]
        self.path.write_text("\n".join(parts))
        command = [sys.executable, "-W", "default", str(self.path), self.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "done"


@pytest.fixture
def programs(tmp_path: Path, sqlite_url: str) -> Programs:
    return Programs(tmp_path, sqlite_url)


in_every_order = pytest.mark.parametrize("order", ORDERS)


def test_no_greenlets() -> None:
    """Without gevent every thread has its record by the interpreter's own means."""
    program = """
        import sys, threading
        from flask_sessionwatch import extension
        extension._process.recorder.attach()
        assert "gevent" not in sys.modules
        assert type(extension._process.recorder.local) is threading.local
        print("done")
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("done", "")


@in_every_order
def test_a_record_for_each(programs: Programs, order: str) -> None:
    """Greenlets of one thread have records of their own, which end with them and make no thread."""
    program = """
        import gc, threading, weakref
        recorder = flask_sessionwatch.extension._process.recorder
        threads = threading.enumerate()

        def holder():
            found = recorder.holder()
            gevent.sleep(0.01)
            assert found is recorder.holder()
            return found, gevent.getcurrent().name

        jobs = [gevent.spawn(holder) for _ in range(3)]
        held = [job.get()[0] for job in jobs]
        assert len({*held, recorder.holder()}) == 4
        assert [each.name for each in held] == [job.value[1] for job in jobs]
        assert [each.is_alive for each in held] == [False] * 3
        assert recorder.holder().is_alive and recorder.holder().name == "MainThread"
        assert threading.enumerate() == threads
        left = [weakref.ref(each) for each in held]
        assert {*left} <= ledger.holders
        del held, jobs
        gc.collect()
        assert len([ref for ref in left if ref() is not None]) <= 1  # gevent itself may keep a greenlet for a while
        assert len({*left} & ledger.holders) <= 1
    """
    programs.run(order, program)


def test_gevent_comes_late(programs: Programs) -> None:
    """A thread keeps its record, and what it holds, when gevent is imported while it is watched."""
    program = """
        recorder = flask_sessionwatch.extension._process.recorder
        own = recorder.holder()
        assert gevent.spawn(recorder.holder).get() is not own
        assert recorder.holder() is own
        assert own.thread_ident in sys._current_frames()
    """
    late = textwrap.dedent("""
        from flask_sessionwatch import extension
        recorder = extension._process.recorder
        recorder.attach()
        first = recorder.holder()
        import gevent
        extension._process.tick()
        assert recorder.holder() is first
        assert recorder.holder().greenlet_ref() is gevent.getcurrent()
        recorder.detach()
    """)
    programs.run("after", program)
    command = [sys.executable, "-W", "default", "-c", late]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@in_every_order
def test_one_session_in_two_greenlets(programs: Programs, order: str) -> None:
    """SW303: two greenlets that use one Session at overlapping times are told, with both lines."""
    program = """
        session = orm.Session(engine)

        def use():
            session.connection().execute(sa.text("SELECT 1"))  # USE

        gevent.joinall([gevent.spawn(use), gevent.spawn(use)], raise_error=True)
        assert told() == ["SW303"], told()
        assert watch.findings[0].site.lineno == line("USE")
        session.close()
    """
    programs.run(order, program)


@in_every_order
def test_handed_on(programs: Programs, order: str) -> None:
    """SW303: one greenlet after another may use the same Session; that is healthy."""
    program = """
        session = orm.Session(engine)

        def use():
            session.execute(sa.text("SELECT 1"))

        for _ in range(3):
            gevent.spawn(use).get()
        session.close()
        assert told() == [], told()
    """
    programs.run(order, program)


@in_every_order
def test_asleep_with_a_connection(programs: Programs, order: str) -> None:
    """SW103, SW202: a greenlet that sleeps with a connection is told with its own line, not that of another."""
    program = """
        watch.close()
        app.config.update(SESSIONWATCH_IDLE_IN_TRANSACTION=0.1, SESSIONWATCH_LONG_CHECKOUT=0.1)
        watch = SessionWatch(app, sinks=[])

        @app.get("/asleep")
        def asleep():
            with orm.Session(engine) as session:
                session.execute(sa.text("SELECT 1"))
                gevent.sleep(0.6)  # ASLEEP
            return "ok"

        @app.get("/busy")
        def busy():
            with orm.Session(engine) as session:
                session.execute(sa.text("SELECT 1"))
                session.execute(sa.text("SELECT 2"), execution_options={"seconds": 0.5})
            return "ok"

        jobs = [gevent.spawn(get, "/asleep"), gevent.spawn(get, "/busy")]
        gevent.sleep(0.3)
        watch.tick()
        found = {(f.code, f.scope.name): f.details for f in watch.findings}
        assert set(found) == {("SW103", "GET /asleep"), ("SW103", "GET /busy"), ("SW202", "GET /asleep")}, found
        for code in ("SW103", "SW202"):
            details = found[code, "GET /asleep"]
            assert (details["doing"], details["now"]["lineno"]) == ("asleep", line("ASLEEP")), details
        assert found["SW103", "GET /busy"]["doing"] == "running a statement"
        gevent.joinall(jobs, raise_error=True)
    """
    programs.run(order, program)


@pytest.mark.parametrize("order", ["before", "after"])
def test_pool_exhausted_by_greenlets(programs: Programs, order: str) -> None:
    """SW601: greenlets that hold the whole pool are listed, each with the line it is at."""
    program = """
        @app.get("/first")
        def first():
            with engine.connect():
                gevent.sleep(0.5)  # FIRST
            return "ok"

        @app.get("/second")
        def second():
            with engine.connect():
                gone.wait(2)  # SECOND
            return "ok"

        from gevent.event import Event
        gone = Event()
        jobs = [gevent.spawn(get, path) for path in ("/first", "/second", "/second")]
        gevent.sleep(0.1)
        try:
            engine.connect()
        except sa.exc.TimeoutError as error:
            notes = "".join(map(str, [error, *getattr(error, "__notes__", ())]))
        assert f"now asleep at {__file__}:{line('FIRST')} in first" in notes, notes
        assert notes.count(f"now at {__file__}:{line('SECOND')} in second") == 2, notes
        assert notes.count("by thread 'Greenlet-") == 3
        assert told() == ["SW601"], told()
        gone.set()
        gevent.joinall(jobs, raise_error=True)
    """
    programs.run(order, program)


@in_every_order
def test_left_by_a_dead_greenlet(programs: Programs, order: str) -> None:
    """SW101: what a greenlet took outside of any scope and did not return is told once the greenlet is over."""
    program = """
        watch.close()
        app.config["SESSIONWATCH_TICK"] = 0.02
        watch = SessionWatch(app, sinks=[])
        kept = []

        def work():
            kept.append(engine.connect())  # LEAK

        gevent.spawn(work).get()
        told()  # one look is not enough
        gevent.sleep(0.05)
        assert told() == ["SW101"], told()
        assert watch.findings[0].site.lineno == line("LEAK")
        kept.pop().close()
    """
    programs.run(order, program)


@in_every_order
def test_background_greenlet_of_a_request(programs: Programs, order: str) -> None:
    """SW201: a greenlet that a request spawned and that works on after it is judged by its own life."""
    program = """
        from contextvars import copy_context

        def work():
            with orm.Session(engine) as session:
                session.execute(sa.text("SELECT 1"))
                gevent.sleep(0.2)

        jobs = []

        @app.get("/")
        def view():
            jobs.append(gevent.spawn(copy_context().run, work))
            gevent.sleep(0.1)
            return "ok"

        get("/")
        assert ledger.checkouts and not told(), told()
        gevent.joinall(jobs, raise_error=True)
        assert not ledger.checkouts and not told(), told()
    """
    programs.run(order, program)


@pytest.mark.parametrize("order", ["before", "never"])
def test_steps_of_an_asyncio_session(programs: Programs, order: str) -> None:
    """SQLAlchemy's own greenlets are no holders: each stands for the one that switched to it."""
    program = """
        from sqlalchemy.util import greenlet_spawn
        recorder = flask_sessionwatch.extension._process.recorder

        def drive(coroutine):
            try:
                coroutine.send(None)
            except StopIteration as stopped:
                return stopped.value

        def work():
            own = recorder.holder()
            assert drive(greenlet_spawn(recorder.holder)) is own
            assert drive(greenlet_spawn(recorder.holder)) is own
            return own

        assert work() is not gevent.spawn(work).get()
    """
    programs.run(order, program)


def test_used_after_the_watch_began(programs: Programs) -> None:
    """SW303: a connection that was checked out before the watch may be used after; nobody else used it."""
    program = """
        watch.close()
        with engine.connect() as connection:
            watch = SessionWatch(app, sinks=[])
            connection.execute(sa.text("SELECT 1"))
            assert told() == [], told()
    """
    programs.run("never", program)


def test_threads_of_this_process() -> None:
    """A thread's record names it, and is over when the thread is."""
    found = []
    thread = threading.Thread(target=lambda: found.append(extension._process.recorder.holder()), name="job")
    thread.start()
    thread.join()
    (holder,) = found
    assert (holder.name, holder.is_alive) == ("job", False)
    # Another thread may have its number by now.
    holder.thread_ident = threading.get_ident()
    assert holder.frame() is None
