"""SW101, SW102, SW103 and SW104: connections that are not returned, or taken twice."""

import concurrent.futures
import gc
import logging
import subprocess
import sys
import textwrap
import threading
import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import Finding
from flask_sessionwatch import finding_resolved
from flask_sessionwatch.rules.connections import LongCheckout
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line
from tests.rules.conftest import until


def checkedout(engine: sa.Engine) -> int:
    """Ask the pool itself."""
    assert isinstance(engine.pool, sa.QueuePool)
    return engine.pool.checkedout()


# SW101 leaked-connection


def test_leak(every_world: World) -> None:
    """SW101: a connection that a view leaves checked out is told as an error, at the line that checked it out."""

    @every_world.view()
    def view() -> str:
        connection = every_world.engine.connect()  # LEAK
        every_world.keep(connection).execute(sa.select(Item.id))
        return "ok"

    assert every_world.open().status_code == 200
    finding = every_world.only("SW101")
    assert (
        finding.rule,
        finding.level,
        str(finding.scope),
        finding.count,
    ) == ("leaked-connection", "error", "GET /", 1)
    assert line("LEAK") == at(finding)
    assert not finding.resolved
    assert checkedout(every_world.engine) == 1


def test_leak_is_told_before_the_answer_is_read(world: World) -> None:
    """SW101: the finding is there when the request has ended; no tick is needed."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    world.open()
    assert world.heard == ["SW101 error"]


def test_leak_of_a_name_that_goes_out_of_scope(any_world: World) -> None:
    """SW101: a forgotten connection is told once, although the collector returns it later."""

    @any_world.view()
    def view() -> str:
        connection = any_world.engine.connect()  # LEAK
        return ",".join(connection.scalars(sa.select(Item.name).order_by(Item.id)))

    gc.disable()
    try:
        assert any_world.open().text == "ann,bob"
        assert line("LEAK") == at(any_world.only("SW101"))
    finally:
        gc.enable()
    gc.collect()
    any_world.ticks()
    assert any_world.heard == ["SW101 error"]
    assert any_world.told("SW101")[0].resolved
    assert checkedout(any_world.engine) == 0


def test_returned_connections(every_world: World) -> None:
    """SW101: connections that are closed by a block, by hand, by begin() or after an exception are healthy."""

    @every_world.view()
    def view() -> str:
        with every_world.engine.connect() as connection:
            connection.execute(sa.select(Item.id))
        with every_world.engine.begin() as connection:
            connection.execute(sa.select(Item.id))
        by_hand = every_world.engine.connect()
        try:
            by_hand.execute(sa.text("SELECT nonsense FROM nowhere"))
        except sa.exc.DBAPIError:
            pass
        finally:
            by_hand.close()
        raw = every_world.engine.raw_connection()
        raw.close()
        return "ok"

    assert every_world.open().status_code == 200
    every_world.ticks()
    assert every_world.heard == []
    assert checkedout(every_world.engine) == 0


def test_returned_leak(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """SW101: a leaked connection that comes back resolves its finding, and log and signal say after how long."""
    caplog.set_level(logging.INFO, "flask_sessionwatch")
    heard: list[tuple[Finding, float]] = []

    def hear(sender: object, finding: Finding, seconds: float) -> None:
        heard.append((finding, seconds))

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    world.open()
    world.watch.tick()
    finding = world.only("SW101")
    assert not finding.resolved
    with finding_resolved.connected_to(hear):
        world.give_back()
        until(lambda: bool(world.watch.tick() or heard))
    assert finding.resolved
    assert [finding] == [each for each, _ in heard]
    assert heard[0][1] >= 0
    assert any("SW101 leaked-connection: returned after" in message for message in caplog.messages)


def test_leaks_at_one_line_are_one_finding(world: World) -> None:
    """SW101: three leaks at one line are one finding, resolved only when the last of them is back."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    for _ in range(3):
        world.open()
    finding = world.only("SW101")
    assert finding.count == 3
    kept = world._kept
    kept.pop().close()
    kept.pop().close()
    world.ticks(1)
    assert not finding.resolved
    kept.pop().close()
    until(lambda: bool(world.watch.tick() or finding.resolved))
    assert checkedout(world.engine) == 0


def test_leaks_at_two_lines_are_two_findings(world: World) -> None:
    """SW101: each line that leaks is told by itself."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())  # FIRST
        world.keep(world.engine.connect())  # SECOND
        return "ok"

    world.open()
    assert {line("FIRST"), line("SECOND")} == {at(each) for each in world.told("SW101")}


def test_leak_again_after_it_was_resolved(world: World) -> None:
    """SW101: a line that leaks again is open again."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    world.open()
    world.give_back()
    finding = world.only("SW101")
    until(lambda: bool(world.watch.tick() or finding.resolved))
    world.open()
    world.watch.tick()
    assert (world.only("SW101").count, finding.resolved) == (2, False)


def test_raw_leak(world: World) -> None:
    """SW101: a raw connection that is left checked out is told."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.raw_connection())  # LEAK
        return "ok"

    world.open()
    assert line("LEAK") == at(world.only("SW101"))


def test_leak_in_a_view_that_raises(world: World) -> None:
    """SW101: a connection that an exception leaves behind is told as well."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())  # LEAK
        raise ValueError("no such order")

    assert world.open().status_code == 500
    assert line("LEAK") == at(world.only("SW101"))


@pytest.mark.parametrize("pool", [sa.NullPool, sa.StaticPool])
def test_leak_from_a_pool_without_limit(world: World, pool: type[sa.Pool]) -> None:
    """SW101: NullPool and StaticPool can leak too, and do so at the right line."""
    engine = world.make_engine("sqlite://", poolclass=pool)

    @world.view()
    def view() -> str:
        world.keep(engine.connect())  # LEAK
        return "ok"

    @world.view(rule="/healthy")
    def healthy() -> str:
        with engine.connect() as connection:
            return str(connection.scalar(sa.text("SELECT 1")))

    for _ in range(3):
        assert world.open("/healthy").text == "1"
    assert world.heard == []
    world.open()
    assert line("LEAK") == at(world.only("SW101"))


def test_static_pool_hands_one_connection_out_twice(world: World) -> None:
    """SW101: what a StaticPool hands out twice at once, and gets back twice, is healthy, in either order."""
    engine = world.make_engine("sqlite://", poolclass=sa.StaticPool)

    @world.view()
    def view() -> str:
        first, second = engine.connect(), engine.connect()
        first.close()
        third = engine.connect()
        second.close()
        third.close()
        return "ok"

    world.open()
    world.ticks()
    assert world.heard == []


def test_single_connection_in_memory(world: World) -> None:
    """SW101: SQLite in memory, one connection per thread, is healthy when it is closed."""
    engine = world.make_engine("sqlite://")

    @world.view()
    def view() -> str:
        with engine.connect() as connection, engine.connect() as again:
            return f"{connection.scalar(sa.text('SELECT 1'))}{again.scalar(sa.text('SELECT 2'))}"

    assert world.open().text == "12"
    world.ticks()
    assert world.heard == []


def test_detached_connection(world: World) -> None:
    """SW101: a detached connection has left the pool, and no longer counts."""

    @world.view()
    def view() -> str:
        connection = world.keep(world.engine.connect())
        connection.detach()
        return "ok"

    world.open()
    world.ticks()
    assert world.heard == []
    assert checkedout(world.engine) == 0


@pytest.mark.parametrize("soft", [False, True])
def test_invalidated_connection(any_world: World, soft: bool) -> None:
    """SW101: an invalidated connection that is closed is healthy, and so is going on with a new one."""

    @any_world.view()
    def view() -> str:
        raw = any_world.engine.raw_connection()
        raw.invalidate(soft=soft)
        raw.close()
        with any_world.engine.connect() as connection:
            connection.invalidate()
            connection.rollback()
            return str(connection.scalar(sa.text("SELECT 1")))

    assert any_world.open().text == "1"
    any_world.ticks()
    assert any_world.heard == []
    assert checkedout(any_world.engine) == 0


def test_disposed_engine(world: World) -> None:
    """SW101: engine.dispose() in the middle of a request changes nothing for who returns its connection."""

    @world.view()
    def view() -> str:
        with world.engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            world.engine.dispose()
            with world.engine.connect() as another:
                another.execute(sa.text("SELECT 1"))
        return "ok"

    for _ in range(3):
        world.open()
    world.ticks()
    assert world.heard == []


def test_leak_after_dispose(world: World) -> None:
    """SW101: the pool that dispose() puts in the place of the old one is watched too."""

    @world.view()
    def view() -> str:
        world.engine.dispose()
        world.keep(world.engine.connect())  # LEAK
        return "ok"

    world.open()
    assert line("LEAK") == at(world.only("SW101"))


def test_ignored_engine(world: World) -> None:
    """SW101: an engine that is not to be watched may leak in peace."""
    engine = world.make_engine()
    world.watch.ignore(engine)

    @world.view()
    def view() -> str:
        world.keep(engine.connect())
        return "ok"

    world.open()
    world.ticks()
    assert world.heard == []


def test_own_pool_listeners(world: World) -> None:
    """SW101: an application's own pool listeners go on to be called, in health and leak alike."""
    seen: list[str] = []
    sa.event.listen(world.engine, "checkout", lambda *args: seen.append("out"))
    sa.event.listen(world.engine, "checkin", lambda *args: seen.append("in"))

    @world.view()
    def view() -> str:
        with world.engine.connect() as connection:
            return str(connection.scalar(sa.text("SELECT 1")))

    world.open()
    assert seen == ["out", "in"]
    assert world.heard == []


def test_connection_from_before_the_watch(world: World) -> None:
    """SW101: a connection that was pooled, or even out, before the watch began is no leak of a request's."""
    world.watch.close()
    connection = world.keep(world.engine.connect())
    world.configure()

    @world.view()
    def view() -> str:
        connection.execute(sa.text("SELECT 1"))
        with world.engine.connect() as another:
            another.execute(sa.text("SELECT 1"))
        connection.close()
        return "ok"

    assert world.open().status_code == 200
    world.ticks()
    assert world.heard == []


def test_leak_of_the_start_up(sqlite_url: str) -> None:
    """SW101: a connection that the start-up leaves out is told when requests are served; one it returned is not."""
    program = """
        import sys
        import flask, sqlalchemy as sa
        from flask_sessionwatch import SessionWatch

        engine = sa.create_engine(sys.argv[1])
        with engine.connect() as warm_up:
            warm_up.execute(sa.text("SELECT 1"))
        leak = engine.connect()  # line 8
        app = flask.Flask("shop")
        watch = SessionWatch(app)
        app.add_url_rule("/", view_func=lambda: "ok")
        watch.tick()
        assert not watch.findings
        app.test_client().get("/", buffered=True)
        watch.tick()
        print([(finding.code, finding.site.lineno) for finding in watch.findings])
    """
    told = run_program(program, sqlite_url)
    assert told == "[('SW101', 8)]"


def run_program(program: str, *args: str) -> str:
    """Run *program* as a file of its own in a process of its own, and return what it prints."""
    text = textwrap.dedent(program).strip()
    command = [sys.executable, "-W", "error", "-c", PROLOGUE, text, *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


#: Runs a program as a file in the working folder would run, so that it counts as the application's own code.
PROLOGUE = """
import sys
program = sys.argv.pop(1)
exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
"""


# SW101 in other scopes than requests


def test_leak_in_an_app_context(world: World) -> None:
    """SW101: a bare app context that is popped with a connection still out is told."""
    with world.app.app_context():
        world.keep(world.engine.connect())  # LEAK
        assert world.heard == []
    finding = world.only("SW101")
    assert (line("LEAK"), "app context") == (at(finding), str(finding.scope))


def test_leak_in_a_command(world: World) -> None:
    """SW101: a command that leaves a connection out is told by its name."""

    @world.app.cli.command("import")
    def command() -> None:
        world.keep(world.engine.connect())  # LEAK

    assert world.app.test_cli_runner().invoke(args=["import"]).exit_code == 0
    finding = world.only("SW101")
    assert (line("LEAK"), "flask import") == (at(finding), str(finding.scope))


def test_healthy_command(world: World) -> None:
    """SW101: a command that returns its connection is healthy."""

    @world.app.cli.command("import")
    def command() -> None:
        with world.engine.begin() as connection:
            connection.execute(sa.insert(Item).values(name="eve"))

    assert world.app.test_cli_runner().invoke(args=["import"]).exit_code == 0
    world.ticks()
    assert world.heard == []
    assert world.names() == ["ann", "bob", "eve"]


def test_leak_in_a_block(world: World) -> None:
    """SW101: an explicit scope is judged at its end."""
    with world.watch.scope("nightly import"):
        world.keep(world.engine.connect())  # LEAK
    finding = world.only("SW101")
    assert (line("LEAK"), "nightly import") == (at(finding), str(finding.scope))


def test_leak_in_an_inner_block(world: World) -> None:
    """SW101: what an inner scope leaves is the inner scope's; what the outer one opened is the outer one's."""
    with world.watch.scope("outer"):
        outer = world.engine.connect()
        with world.watch.scope("inner"):
            outer.execute(sa.text("SELECT 1"))
            world.keep(world.engine.connect())  # LEAK
        outer.close()
    finding = world.only("SW101")
    assert (line("LEAK"), "inner") == (at(finding), str(finding.scope))


def test_outer_app_context(world: World) -> None:
    """SW101: a request inside an app context that was pushed around it hands its connection on to that context."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    with world.app.app_context():
        world.open()
        assert world.heard == []
        world.give_back()
    world.ticks()
    assert world.heard == []


def test_leak_through_an_outer_app_context(world: World) -> None:
    """SW101: what a request left to the outer app context, and that leaves too, is told at its end."""

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())  # LEAK
        return "ok"

    with world.app.app_context():
        world.open()
    assert line("LEAK") == at(world.only("SW101"))


def test_thread_that_died_with_a_connection(any_world: World) -> None:
    """SW101: a thread that is over without having returned its connection is told at a tick."""

    def work() -> None:
        connection = any_world.engine.connect()  # LEAK
        any_world.keep(connection).execute(sa.select(Item.id))

    in_thread(work)
    finding = any_world.wait_for("SW101")
    assert (line("LEAK"), None) == (at(finding), finding.scope)
    assert any_world.heard == ["SW101 error"]


def test_worker_that_never_returns(world: World) -> None:
    """SW101: a worker thread that went idle after its job, with the connection still out, is told."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:

        def job() -> None:
            world.keep(world.engine.connect())  # LEAK

        executor.submit(job).result()
        assert line("LEAK") == at(world.wait_for("SW101"))


def test_worker_that_is_at_work(world: World) -> None:
    """SW101: a thread that still runs the function which checked out is at work, however long that takes."""
    done = threading.Event()
    started = threading.Event()

    def work() -> None:
        with world.engine.connect() as connection:
            connection.execute(sa.select(Item.id))
            started.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    world.ticks(6)
    done.set()
    thread.join()
    world.ticks()
    assert world.heard == []


def test_connection_handed_to_another_thread(world: World) -> None:
    """SW101: a connection that one thread checks out and another returns is healthy, whichever ends first."""
    handed: list[sa.Connection] = []
    in_thread(lambda: handed.append(world.engine.connect()))

    def use() -> None:
        handed[0].execute(sa.text("SELECT 1"))
        handed[0].close()

    engine = world.make_engine(connect_args={"check_same_thread": False})
    handed[0].close()
    handed[:] = [engine.connect()]
    in_thread(use)
    world.ticks()
    assert world.heard == []


def test_background_thread_of_a_request(world: World) -> None:
    """SW101: a thread that goes on after the request that started it is not the request's leak."""
    done = threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        with world.engine.connect() as connection:
            connection.execute(sa.select(Item.id))
            done.wait()

    @world.view()
    def view() -> str:
        threads.append(threading.Thread(target=work))
        threads[0].start()
        until(lambda: checkedout(world.engine) == 1)
        return "ok"

    world.open()
    world.ticks()
    done.set()
    threads[0].join()
    world.ticks()
    assert world.heard == []


# SW102 abandoned-connection


def test_collected(every_world: World) -> None:
    """SW102: a connection that the collector returned in the middle of a request is told where it was checked out."""

    @every_world.view()
    def view() -> str:
        every_world.engine.connect().execute(sa.select(Item.id))  # ABANDONED
        gc.collect()
        return "ok"

    every_world.open()
    finding = every_world.wait_for("SW102")
    assert (finding.rule, finding.level, str(finding.scope)) == ("abandoned-connection", "warning", "GET /")
    assert line("ABANDONED") == at(finding)
    assert checkedout(every_world.engine) == 0


def test_collected_session(any_world: World) -> None:
    """SW102: a Session that is dropped with its connection, and collected, is told by its connection."""

    @any_world.view()
    def view() -> str:
        orm.Session(any_world.engine).scalar(sa.select(Item.name))  # ABANDONED
        gc.collect()
        return "ok"

    any_world.open()
    assert line("ABANDONED") == at(any_world.wait_for("SW102"))


def test_collected_on_another_thread(world: World) -> None:
    """SW102: whichever thread the collector runs on, the scope that dropped the connection is told."""

    @world.view()
    def view() -> str:
        gc.disable()
        try:
            world.engine.connect().execute(sa.select(Item.id))  # ABANDONED
        finally:
            gc.enable()
        in_thread(gc.collect)
        return "ok"

    world.open()
    finding = world.wait_for("SW102")
    assert (line("ABANDONED"), "GET /") == (at(finding), str(finding.scope))


def test_collected_outside_of_any_scope(world: World) -> None:
    """SW102: a connection dropped outside of any scope is told at the next tick."""
    in_thread(lambda: world.engine.connect().execute(sa.select(Item.id)))  # ABANDONED
    gc.collect()
    finding = world.wait_for("SW102")
    assert (line("ABANDONED"), None) == (at(finding), finding.scope)
    assert world.heard == ["SW102 warning"]


def test_collected_from_null_pool(world: World) -> None:
    """SW102: a connection of a pool that keeps none is abandoned just as well."""
    engine = world.make_engine(poolclass=sa.NullPool)

    @world.view()
    def view() -> str:
        engine.connect().execute(sa.select(Item.id))  # ABANDONED
        gc.collect()
        return "ok"

    world.open()
    assert line("ABANDONED") == at(world.wait_for("SW102"))


def test_collected_after_it_was_closed(any_world: World) -> None:
    """SW102: what was closed before it was collected is healthy, and so is a Session that held nothing."""

    @any_world.view()
    def view() -> str:
        connection = any_world.engine.connect()
        connection.execute(sa.select(Item.id))
        connection.close()
        session = orm.Session(any_world.engine)
        session.scalar(sa.select(Item.id))
        session.close()
        unused = orm.Session(any_world.engine)
        del connection, session, unused
        gc.collect()
        return "ok"

    any_world.open()
    any_world.ticks()
    assert any_world.heard == []


def test_collected_after_it_was_detached(world: World) -> None:
    """SW102: a detached connection is the application's own; the collector may have it."""

    @world.view()
    def view() -> str:
        connection = world.engine.connect()
        connection.detach()
        connection.close()
        del connection
        gc.collect()
        return "ok"

    world.open()
    world.ticks()
    assert world.heard == []


# SW103 long-checkout


def test_long_checkout(every_world: World) -> None:
    """SW103: a connection held longer than the limit is told while it is held, and told again when it is back."""
    every_world.configure(long_checkout=0.1)
    engine = every_world.make_engine(pool_size=2, max_overflow=0)
    seen: list[Finding] = []

    @every_world.view()
    def view() -> str:
        with engine.connect() as connection:  # HELD
            connection.execute(sa.select(Item.id))
            seen.append(every_world.wait_for("SW103"))
        return "ok"

    every_world.open()
    finding = every_world.only("SW103")
    assert [finding] == seen
    assert ("long-checkout", "warning", line("HELD")) == (finding.rule, finding.level, at(finding))
    until(lambda: bool(every_world.watch.tick() or finding.resolved))


def test_long_checkout_says_where_its_holder_is(world: World) -> None:
    """SW103: the finding names the line that the holder is at now, not only the one that checked out."""
    world.configure(long_checkout=0.05)
    engine = world.make_engine(pool_size=2, max_overflow=0)
    done, held = threading.Event(), threading.Event()

    def work() -> None:
        with engine.connect():  # HELD
            held.set()
            done.wait()  # WAITING

    thread = threading.Thread(target=work, name="slow one")
    thread.start()
    held.wait()
    finding = world.wait_for("SW103")
    done.set()
    thread.join()
    assert line("HELD") == at(finding)
    assert line("WAITING") == finding.details["now"]["lineno"]
    assert finding.details["thread"] == "slow one"


def test_short_checkout(world: World) -> None:
    """SW103: a connection that is back before the limit is not told."""

    @world.view()
    def view() -> str:
        with world.engine.connect():
            world.ticks()
        return "ok"

    world.open()
    assert world.told("SW103") == []


def test_leaked_is_not_long(world: World) -> None:
    """SW103: a connection that is told as leaked is not told again for being held long."""
    world.configure(long_checkout=10.0)

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return "ok"

    world.open()
    world.clock.put_forward(60.0)
    world.ticks()
    world.only("SW101")


def held(world: World, seconds: float, used: int = 1, **options: t.Any) -> list[str]:
    """Hold *used* connections of an engine with *options* for *seconds*; return the levels that are told."""
    engine = world.make_engine(**options)
    connections = [engine.connect() for _ in range(used)]
    world.tick_after(seconds)
    for connection in connections:
        connection.close()
    return [finding.level for finding in world.told("SW103")]


@pytest.mark.parametrize(("seconds", "number"), [(0, 0), (99, 0), (101, 1)])
def test_about_the_limit(world: World, seconds: float, number: int) -> None:
    """SW103: nothing below the limit, told above it."""
    world.configure(long_checkout=100.0)
    assert len(held(world, seconds)) == number


def test_threshold_of_the_rule(world: World) -> None:
    """SW103: a threshold given to the rule itself counts more than the setting."""
    world.configure(rules=[LongCheckout(threshold=10.0)], long_checkout=100.0)
    assert held(world, 9) == []
    assert held(world, 11) == ["info"]


@pytest.mark.parametrize(
    ("used", "options", "level"),
    [
        (1, {"pool_size": 5, "max_overflow": 0}, "info"),  # exactly a fifth
        (3, {"pool_size": 5, "max_overflow": 10}, "info"),
        (4, {"pool_size": 5, "max_overflow": 10}, "warning"),
        (8, {"pool_size": 9, "max_overflow": 0}, "warning"),  # 88.9 %
        (9, {"pool_size": 9, "max_overflow": 1}, "error"),  # exactly nine tenths
        (1, {"pool_size": 1, "max_overflow": 0}, "error"),
        (1, {"poolclass": sa.NullPool}, "warning"),  # no limit
        (1, {"pool_size": 5, "max_overflow": -1}, "warning"),
    ],
)
def test_level_by_pool_use(world: World, used: int, options: dict[str, t.Any], level: str) -> None:
    """SW103: the level follows the pool: info up to a fifth, error from nine tenths on, a warning in between."""
    assert set(held(world, 61, used, **options)) == {level}


def test_level_is_raised_as_the_pool_fills(world: World) -> None:
    """SW103: one finding is told again when the pool has filled up meanwhile, at the higher level."""
    world.configure(long_checkout=0.05)
    engine = world.make_engine(pool_size=5, max_overflow=0)

    @world.view()
    def view() -> str:
        with engine.connect():
            world.wait_for("SW103", "info")
            others: list[sa.Connection] = []
            in_thread(lambda: others.extend(engine.connect() for _ in range(4)))
            world.wait_for("SW103", "error")
            for other in others:
                other.close()
        return "ok"

    world.open()
    assert "error" in {each.level for each in world.told("SW103")}


# SW104 nested-checkout


@pytest.mark.parametrize(
    ("size", "overflow", "level"),
    [(2, 0, "warning"), (9, 0, "warning"), (10, 0, "info"), (5, 10, "info"), (1, 1, "warning")],
)
def test_nested(world: World, size: int, overflow: int, level: str) -> None:
    """SW104: a second connection of one pool is told by the share of the pool: info up to exactly a fifth."""
    engine = world.make_engine(pool_size=size, max_overflow=overflow)

    @world.view()
    def view() -> str:
        with engine.connect(), engine.connect():  # SECOND
            return "ok"

    world.open()
    (finding,) = world.told("SW104")
    assert ("nested-checkout", level, line("SECOND")) == (finding.rule, finding.level, at(finding))
    assert {"SW104"} >= {each[:5] for each in world.heard}


def test_nested_in_what_was_handed_on(world: World) -> None:
    """SW104: what a scope in a request leaves to it is the request's own, beside the first that it checks out itself."""

    @world.view()
    def view() -> str:
        with world.watch.scope("load"):
            connection = world.keep(world.engine.connect())
        connection.execute(sa.select(Item.id))
        with orm.Session(world.engine) as session:
            return str(session.scalar(sa.select(Item.name)))  # SECOND

    assert world.open().status_code == 200
    assert world.heard == ["SW101 error"]
    (finding,) = world.told("SW104")
    assert line("SECOND") == at(finding)


def test_nested_session(any_world: World) -> None:
    """SW104: a helper that opens a Session of its own while its caller's is in a transaction is told."""
    engine = any_world.make_engine(pool_size=2, max_overflow=0)

    @any_world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.scalar(sa.select(Item.id))  # FIRST
            with orm.Session(engine) as another:
                another.scalar(sa.select(Item.id))  # SECOND
        return "ok"

    any_world.open()
    finding = any_world.only("SW104")
    assert line("SECOND") == at(finding)
    assert f"test_connections.py:{line('FIRST')}" in finding.message


def test_nested_timed_out(world: World) -> None:
    """SW104: the second check-out that timed out on the pool which its own scope had emptied is an error."""
    engine = world.make_engine(pool_size=1, max_overflow=0, pool_timeout=0.05)

    @world.view()
    def view() -> str:
        with engine.connect():
            try:
                engine.connect()  # SECOND
            except sa.exc.TimeoutError:
                return "busy"
        return "ok"

    assert world.open().text == "busy"
    (finding,) = world.told("SW104")
    assert ("error", line("SECOND")) == (finding.level, at(finding))
    assert {"SW104 error", "SW601 error"} == set(world.heard)


def test_one_after_the_other(any_world: World) -> None:
    """SW104: connections that are taken one after the other are healthy."""
    engine = any_world.make_engine(pool_size=1, max_overflow=0)

    @any_world.view()
    def view() -> str:
        for _ in range(3):
            with engine.connect() as connection:
                connection.execute(sa.select(Item.id))
            with orm.Session(engine) as session:
                session.scalar(sa.select(Item.id))
        return "ok"

    any_world.open()
    assert any_world.told("SW104") == []


def test_two_engines_with_one_url(world: World) -> None:
    """SW104: two engines are two pools, even with the same URL."""
    first = world.make_engine(pool_size=1, max_overflow=0)
    second = world.make_engine(pool_size=1, max_overflow=0)

    @world.view()
    def view() -> str:
        with first.connect(), second.connect():
            return "ok"

    world.open()
    assert world.watch.findings == []


def test_engine_with_options_is_one_pool(world: World) -> None:
    """SW104: an engine made by execution_options() shares the pool of the one it came from."""
    engine = world.make_engine(pool_size=2, max_overflow=0)
    options = engine.execution_options(isolation_level="AUTOCOMMIT")

    @world.view()
    def view() -> str:
        with engine.connect(), options.connect():  # SECOND
            return "ok"

    world.open()
    assert line("SECOND") == at(world.only("SW104"))


@pytest.mark.parametrize("options", [{"poolclass": sa.NullPool}, {"max_overflow": -1}])
def test_nested_without_limit(world: World, options: dict[str, t.Any]) -> None:
    """SW104: a pool without a limit cannot deadlock on itself."""
    engine = world.make_engine(**options)

    @world.view()
    def view() -> str:
        with engine.connect(), engine.connect():
            return "ok"

    world.open()
    assert world.watch.findings == []


def test_threads_of_one_request(world: World) -> None:
    """SW104: helper threads with a connection each do not wait for one another."""
    engine = world.make_engine(pool_size=3, max_overflow=0)
    together = threading.Barrier(3)

    def work(number: int) -> int:
        with engine.connect() as connection:
            together.wait()
            return int(connection.scalar(sa.select(sa.literal(number))) or 0)

    @world.view()
    def view() -> str:
        with concurrent.futures.ThreadPoolExecutor(3) as executor:
            return str(sum(executor.map(work, range(3))))

    assert world.open().text == "3"
    world.ticks()
    assert world.watch.findings == []


def test_outside_of_any_scope(world: World) -> None:
    """SW104: a thread without a scope that takes a second connection is told, and its neighbour is not."""
    engine = world.make_engine(pool_size=3, max_overflow=0)
    neighbour = engine.connect()

    def work() -> None:
        with engine.connect(), engine.connect():  # SECOND
            pass

    in_thread(work)
    neighbour.close()
    finding = world.wait_for("SW104")
    assert (line("SECOND"), None, 1) == (at(finding), finding.scope, finding.count)


def test_nested_app_context(world: World) -> None:
    """SW104: a nested app context has a session of its own; with room in the pool that is no more than info."""
    db = world.flask_sqlalchemy()

    @world.view()
    def view() -> str:
        db.session.scalar(sa.select(Item.id))
        with world.app.app_context():
            db.session.scalar(sa.select(Item.id))
        return "ok"

    assert world.open().status_code == 200
    world.ticks()
    assert world.heard == []
