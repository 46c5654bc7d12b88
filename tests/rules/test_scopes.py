"""SW301 and SW303: sessions in the wrong scope, on the wrong thread."""

import gc
import importlib
import sys
import threading
import typing as t
from pathlib import Path

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line

# SW301 session-outside-scope


def test_session_that_outlived_its_request(any_world: World) -> None:
    """SW301: a request that works in a Session whose transaction another, ended one began, is told."""
    session = any_world.keep(orm.Session(any_world.engine))

    @any_world.view(rule="/first")
    def first() -> str:
        return str(session.scalar(sa.select(Item.name)))  # BEGUN

    @any_world.view(rule="/second")
    def second() -> str:
        return str(session.scalar(sa.select(Item.name)))  # USED

    any_world.open("/first")
    any_world.open("/second")
    (finding,) = any_world.told("SW301")
    assert (finding.rule, finding.level, at(finding)) == ("session-outside-scope", "warning", line("BEGUN"))
    assert "GET /first, which is over" in finding.message
    assert str(finding.scope) == "GET /second"
    assert f"test_scopes.py:{line('USED')} in second" in finding.text
    assert set(any_world.heard) == {"SW201 error", "SW301 warning"}


def test_leak_that_comes_back_to_its_own_view(any_world: World) -> None:
    """SW301: one view that leaks its Session, and finds it again each time, is one bug and told once."""
    session = any_world.keep(orm.Session(any_world.engine))

    @any_world.view()
    def view() -> str:
        return str(session.scalar(sa.select(Item.name)))  # LEAK

    for _ in range(3):
        any_world.open()
    assert at(any_world.only("SW201")) == line("LEAK")


SETTINGS_MODULE = """
import sqlalchemy as sa
from sqlalchemy import orm

engine = sa.create_engine({url!r}, connect_args={{"check_same_thread": False}})
session = orm.Session(engine)
NAMES = session.scalars(sa.text("SELECT name FROM item")).all()
"""


@pytest.fixture
def shop_settings(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Any]:
    """A module that begins a Session when it is imported, in its line 7."""
    (tmp_path / "sessionwatch_shop_settings.py").write_text(SETTINGS_MODULE.format(url=world.url))
    monkeypatch.syspath_prepend(str(tmp_path))
    world.configure(app_paths=[str(tmp_path), str(Path(__file__).parent)])
    module = importlib.import_module("sessionwatch_shop_settings")
    yield module
    module.session.close()
    module.engine.dispose()
    del sys.modules["sessionwatch_shop_settings"]


@pytest.mark.parametrize("thread", ["same", "another"])
def test_session_of_a_module(world: World, shop_settings: t.Any, thread: str) -> None:
    """SW301: a Session that was begun while a module was imported, and serves requests, is told."""

    @world.view()
    def view() -> str:
        return str(shop_settings.session.scalar(sa.select(Item.name)))

    if thread == "same":
        world.open()
    else:
        in_thread(world.open)
    finding = world.only("SW301")
    assert finding.site is not None
    assert (finding.site.filename, finding.site.lineno) == (shop_settings.__file__, 7)
    assert "while a module was imported" in finding.message


def test_uncommitted_in_an_outer_context(any_world: World) -> None:
    """SW301: a test that pushes an app context around its requests hides that the view forgot to commit."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        db.session.add(Item(name="eve"))
        db.session.flush()
        return "ok"

    with any_world.app.app_context():
        any_world.open()
        finding = any_world.only("SW301")
        db.session.rollback()
    assert str(finding.scope) == "GET /"


def test_committed_in_an_outer_context(any_world: World) -> None:
    """SW301: the same is healthy when the view commits, rolls back, answers no, or only reads."""
    db = any_world.flask_sqlalchemy()

    @any_world.view(rule="/<what>")
    def view(what: str) -> tuple[str, int]:
        if what != "read":
            db.session.add(Item(name="eve"))
            db.session.flush()
        if what == "commit":
            db.session.commit()
        if what == "rollback":
            db.session.rollback()
        return str(db.session.scalar(sa.select(sa.func.count(Item.id)))), 409 if what == "refuse" else 200

    with any_world.app.app_context():
        for what in ("commit", "read", "rollback", "refuse"):
            any_world.open(f"/{what}", method="GET")
            db.session.rollback()
            db.session.execute(sa.delete(Item).where(Item.name == "eve"))
            db.session.commit()
    any_world.ticks()
    assert any_world.heard == []


def test_two_contexts_one_after_the_other(any_world: World) -> None:
    """SW301: contexts that are pushed and popped one after the other, each with its session, are healthy."""
    db = any_world.flask_sqlalchemy()
    for number in range(5):
        with any_world.app.app_context():
            db.session.add(Item(name=f"item {number}"))
            db.session.commit()
            db.session.scalar(sa.select(Item.id))
    gc.collect()
    any_world.ticks()
    assert any_world.heard == []


def test_work_outside_of_any_scope(any_world: World) -> None:
    """SW301: scripts and threads without a scope, which close what they open, are healthy."""

    def work() -> None:
        with orm.Session(any_world.engine) as session:
            session.add(Item(name="eve"))
            session.commit()

    in_thread(work)
    with orm.Session(any_world.engine) as session:
        session.scalar(sa.select(Item.id))
    any_world.ticks()
    assert any_world.heard == []


def test_session_from_outside_into_a_request(any_world: World) -> None:
    """SW301: a test that hands its own open Session to the view, and closes it itself, is healthy."""
    engine = any_world.make_engine()

    with orm.Session(engine) as session:
        session.scalar(sa.select(Item.id))

        @any_world.view()
        def view() -> str:
            return str(session.scalar(sa.select(Item.name)))

        assert any_world.open().text == "ann"
    any_world.ticks()
    assert any_world.heard == []


def test_session_of_an_outer_block(any_world: World) -> None:
    """SW301: an inner scope may work in the session of the scope around it."""
    with any_world.watch.scope("outer"), orm.Session(any_world.engine) as session:
        session.scalar(sa.select(Item.id))
        with any_world.watch.scope("inner"):
            session.add(Item(name="eve"))
            session.flush()
        session.commit()
    any_world.ticks()
    assert any_world.heard == []
    assert any_world.names() == ["ann", "bob", "eve"]


def test_session_kept_but_ended(any_world: World) -> None:
    """SW301: one Session object for all requests of a thread is healthy as long as each ends its transaction."""
    session = any_world.keep(orm.Session(any_world.engine))

    @any_world.view()
    def view() -> str:
        name = str(session.scalar(sa.select(Item.name)))
        session.commit()
        return name

    for _ in range(3):
        assert any_world.open().text == "ann"
    any_world.ticks()
    assert any_world.heard == []


def test_context_that_was_never_popped(world: World) -> None:
    """SW301: a context that is collected unpopped leaves its session for another to adopt; that is told."""
    db = world.flask_sqlalchemy()

    def work() -> None:
        context = world.app.app_context()
        context.push()
        db.session.add(Item(name="eve"))  # LEAK
        db.session.flush()

    in_thread(work)
    gc.collect()
    assert "when its thread 'Thread-" in world.wait_for("SW301").message
    assert world.told("SW305") == []
    assert {at(finding) for finding in world.watch.findings} == {line("LEAK")}
    for session in list(db.session.registry.registry.values()):
        session.close()


# SW303 cross-thread-session


def shareable(world: World) -> sa.Engine:
    """Make an engine whose connections may go from thread to thread, which SQLite's otherwise may not."""
    if world.url.startswith("sqlite"):
        return world.make_engine(connect_args={"check_same_thread": False})
    return world.make_engine()


def overlapping(world: World, engine: sa.Engine, session: orm.Session, other: t.Callable[[], None]) -> None:
    """Run *other* while the calling thread is in the middle of a statement on *session*."""
    calls: list[int] = []

    def meanwhile(*args: t.Any) -> None:
        if not calls:
            calls.append(1)
            in_thread(other)

    sa.event.listen(engine, "before_cursor_execute", meanwhile)
    session.connection().exec_driver_sql("SELECT 1")
    sa.event.remove(engine, "before_cursor_execute", meanwhile)


def test_overlap(any_world: World) -> None:
    """SW303: a thread that uses a Session in the middle of another's statement on it is told, at its line."""
    engine = shareable(any_world)

    @any_world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.scalar(sa.select(Item.id))
            overlapping(
                any_world,
                engine,
                session,
                lambda: session.connection().exec_driver_sql("SELECT 2").close(),  # OVERLAP
            )
        return "ok"

    any_world.open()
    finding = any_world.wait_for("SW303")
    assert (finding.rule, finding.level, at(finding)) == ("cross-thread-session", "error", line("OVERLAP"))
    assert any_world.heard == ["SW303 error"]


def test_shared_session_that_is_idle(any_world: World) -> None:
    """SW303: a Session that several threads share is told as that; that it is idle as well is nobody's fault."""
    any_world.configure(idle_in_transaction=0.5)
    engine = shareable(any_world)

    @any_world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.scalar(sa.select(Item.id))
            overlapping(
                any_world,
                engine,
                session,
                lambda: session.connection().exec_driver_sql("SELECT 2").close(),
            )
            any_world.wait_for("SW303")
            any_world.tick_after(5.0)
        return "ok"

    any_world.open()
    assert any_world.heard == ["SW303 error"]


def test_scope_of_an_overlap(any_world: World) -> None:
    """SW303: a worker thread has no scope; the finding names the scope that the Session's transaction is in."""
    engine = shareable(any_world)

    @any_world.view(rule="/report")
    def view() -> str:
        with orm.Session(engine) as session:
            session.scalar(sa.select(Item.id))
            overlapping(
                any_world,
                engine,
                session,
                lambda: session.connection().exec_driver_sql("SELECT 2").close(),
            )
        return "ok"

    any_world.open("/report")
    assert str(any_world.wait_for("SW303").scope) == "GET /report"


def test_refused_by_sqlalchemy(any_world: World) -> None:
    """SW303: what SQLAlchemy itself refuses as concurrent is told as this, and still raised."""
    engine = shareable(any_world)

    @any_world.view()
    def view() -> str:
        raised: list[BaseException] = []
        with orm.Session(engine) as session:
            session.scalar(sa.select(Item.id))

            def close() -> None:
                try:
                    session.close()
                except sa.exc.InvalidRequestError as error:
                    raised.append(error)

            session.commit()
            sa.event.listen(session, "after_begin", lambda *args: in_thread(close), once=True)
            session.scalar(sa.select(Item.id))
        if raised:
            raise raised[0]
        return "ok"

    assert any_world.open().status_code == 500
    any_world.wait_for("SW303")


def test_sqlite_on_another_thread(world: World) -> None:
    """SW303: a SQLite connection that is used on a thread it was not opened on is refused, and told."""

    @world.view()
    def view() -> str:
        with world.engine.connect() as connection:
            connection.execute(sa.select(Item.id))
            errors: list[Exception] = []

            def use() -> None:
                try:
                    connection.execute(sa.select(Item.name))  # OTHER
                except sa.exc.ProgrammingError as error:
                    errors.append(error)

            in_thread(use)
            assert errors
        return "ok"

    world.engine = world.make_engine(connect_args={"check_same_thread": True})
    world.open()
    assert at(world.wait_for("SW303")) == line("OTHER")


def test_two_requests_in_one_session(any_world: World) -> None:
    """SW303: two requests that are open at once and work in one Session are told."""
    engine = shareable(any_world)
    session = any_world.keep(orm.Session(engine))
    inside, used = threading.Event(), threading.Event()

    @any_world.view(rule="/first")
    def first() -> str:
        session.scalar(sa.select(Item.id))
        inside.set()
        used.wait(5)
        return "ok"

    @any_world.view(rule="/second")
    def second() -> str:
        inside.wait(5)
        session.scalar(sa.select(Item.name))  # SECOND
        used.set()
        return "ok"

    thread = threading.Thread(target=lambda: any_world.open("/first"))
    thread.start()
    any_world.open("/second")
    thread.join()
    session.close()
    finding = any_world.wait_for("SW303")
    assert (at(finding), finding.level) == (line("SECOND"), "error")
    assert any_world.heard == ["SW303 error"]


def test_handed_over(any_world: World) -> None:
    """SW303: a session that goes from one thread to the next, one at a time, is healthy."""
    engine = shareable(any_world)

    @any_world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.add(Item(name="eve"))
            session.flush()
            for number in range(3):
                in_thread(lambda number=number: session.add(Item(name=f"item {number}")))  # type: ignore[misc]
                in_thread(session.flush)
            session.commit()
        return "ok"

    any_world.open()
    any_world.ticks()
    assert any_world.heard == []
    assert any_world.names() == ["ann", "bob", "eve", "item 0", "item 1", "item 2"]


def test_begun_here_ended_there(any_world: World) -> None:
    """SW303: a session that one thread begins and another closes is healthy."""
    engine = shareable(any_world)
    session = orm.Session(engine)
    in_thread(lambda: session.scalar(sa.select(Item.id)))
    in_thread(session.close)
    any_world.ticks()
    assert any_world.heard == []


def test_scoped_session_in_threads(any_world: World) -> None:
    """SW303: a scoped_session gives each thread one of its own, all at the same time."""
    registry = orm.scoped_session(orm.sessionmaker(any_world.engine))
    together = threading.Barrier(3)

    def work(number: int) -> None:
        registry.add(Item(name=f"item {number}"))
        registry.flush()
        registry.rollback()
        together.wait(10)
        registry.scalar(sa.select(Item.id))
        registry.remove()

    @any_world.view()
    def view() -> str:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "ok"

    any_world.open()
    any_world.ticks()
    assert any_world.heard == []


def test_requests_on_threads(any_world: World) -> None:
    """SW303: many requests at once, each with Flask-SQLAlchemy's session of its own, are healthy."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        return str(db.session.scalar(sa.select(Item.name)))

    def work() -> None:
        for _ in range(10):
            assert any_world.open().text == "ann"

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    any_world.ticks()
    assert any_world.heard == []


def test_streamed_body_on_another_thread(any_world: World) -> None:
    """SW303: a body that another thread of the server sends is a hand-over like any other."""
    engine = shareable(any_world)

    @any_world.view()
    def view() -> flask.Response:
        session = orm.Session(engine)
        session.scalar(sa.select(Item.id))

        def lines() -> t.Iterator[str]:
            with session:
                yield from session.scalars(sa.select(Item.name).order_by(Item.id))

        return flask.Response(lines())

    response = any_world.app.test_client().get("/")
    texts: list[str] = []

    def send() -> None:
        texts.append(response.text)
        response.close()

    in_thread(send)
    any_world.ticks()
    assert texts == ["annbob"]
    assert any_world.heard == []
