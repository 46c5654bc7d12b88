"""SW308 to SW310: errors that are made elsewhere than they are raised."""

import concurrent.futures
import contextlib
import sys
import threading
import typing as t

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import exc as orm_exc

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line


class Spoken(Item):
    """An item that says what it is."""

    def __repr__(self) -> str:
        return f"<{self.name}>"


def notes_of(error: BaseException) -> str:
    """Return the notes of an exception, which there are from Python 3.11 on."""
    return "\n".join(getattr(error, "__notes__", []))


def first(session: t.Any) -> Item:
    """Load the first item at the caller's expense."""
    found: Item = session.scalars(sa.select(Item).where(Item.id == 1)).one()  # LOADED
    return found


# SW308 cross-session-object


def test_added_to_another_session(any_world: World) -> None:
    """SW308: adding an object that another session has is an error there, with where both sessions were begun."""
    db = any_world.flask_sqlalchemy()
    errors: list[BaseException] = []

    @any_world.view()
    def view() -> str:
        item = first(db.session)
        with orm.Session(any_world.engine) as session:
            try:
                session.add(item)  # ADDED
            except sa.exc.InvalidRequestError as error:
                errors.append(error)
                raise
        return "ok"

    assert any_world.open().status_code == 500
    finding = any_world.only("SW308")
    assert (finding.rule, finding.level, at(finding)) == ("cross-session-object", "error", line("ADDED"))
    assert "its session begun at" in finding.text
    assert f"the other one begun at tests/rules/test_errors.py:{line('ADDED')}" in finding.text
    assert "flask_sessionwatch" not in str(errors[0])
    if sys.version_info >= (3, 11):
        assert "flask_sessionwatch: the session that has the object was begun at" in notes_of(errors[0])


def test_merged_instead(any_world: World) -> None:
    """SW308: whoever merges where adding is refused is told as info; merging at once is healthy."""
    db = any_world.flask_sqlalchemy()

    @any_world.view(rule="/<how>")
    def view(how: str) -> str:
        item = first(db.session)
        with orm.Session(any_world.engine) as session:
            if how == "add":
                with contextlib.suppress(sa.exc.InvalidRequestError):
                    session.add(item)
            session.merge(item)
        return "ok"

    any_world.open("/merge")
    assert any_world.watch.findings == []
    any_world.open("/add")
    assert [each.level for each in any_world.told("SW308")] == ["info"]
    assert any_world.heard == []


def test_moved_to_another_session(any_world: World) -> None:
    """SW308: an object that is expunged first, or whose session is closed, may be added to another."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            item = first(session)
            session.expunge(item)
            with orm.Session(any_world.engine) as other:
                other.add(item)
            with orm.Session(any_world.engine) as third:
                third.add(item)
        return "ok"

    assert any_world.open().text == "ok"
    assert any_world.told("SW308") == []


# SW309 detached-access


def use_later(world: World, use: t.Callable[[Item], object]) -> None:
    """Load and commit an object in a request, then *use* it when that is over."""
    db = world.flask_sqlalchemy()
    kept: list[Item] = []

    @world.view()
    def view() -> str:
        item = first(db.session)
        item.hits += 1
        db.session.commit()
        kept.append(item)
        return "ok"

    assert world.open().text == "ok"
    use(kept[0])


def test_used_by_a_thread(any_world: World) -> None:
    """SW309: an object that a thread uses after its request is an error, also where the thread swallows it."""
    errors: list[BaseException] = []

    def use(item: Item) -> None:
        def work() -> None:
            try:
                print(item.name)  # noqa: T201  # USED
            except orm_exc.DetachedInstanceError as error:
                errors.append(error)

        in_thread(work)

    use_later(any_world, use)
    finding = any_world.wait_for("SW309")
    assert (finding.rule, finding.level) == ("detached-access", "error")
    assert at(finding) == line("LOADED")
    assert "used an instance of Item after its session was closed, on thread" in finding.message
    assert f"used at tests/rules/test_errors.py:{line('USED')} in work" in finding.text
    assert "by GET / on thread 'MainThread' and was closed when the request was over" in finding.text
    assert "flask_sessionwatch" not in str(errors[0])
    if sys.version_info >= (3, 11):
        assert "flask_sessionwatch: its session was begun at" in notes_of(errors[0])
    assert any_world.heard == ["SW309 error"]


def test_used_by_a_later_request(any_world: World) -> None:
    """SW309: an object that is kept beyond its request and used by a later one is told to that one."""
    kept: list[Item] = []

    @any_world.view(rule="/later")
    def later() -> str:
        return kept[0].name

    use_later(any_world, kept.append)
    assert any_world.open("/later").status_code == 500
    finding = any_world.only("SW309")
    assert (finding.level, str(finding.scope), at(finding)) == ("error", "GET /later", line("LOADED"))
    assert "by GET /" in finding.text


def test_used_much_later(any_world: World) -> None:
    """SW309: ticks and other requests in between do not make the watch forget where the object came from."""

    @any_world.view(rule="/other")
    def other() -> str:
        with orm.Session(any_world.engine) as session:
            return str(session.scalar(sa.select(Item.id)))

    def use(item: Item) -> None:
        for _ in range(3):
            any_world.watch.tick()
            any_world.open("/other")
        with pytest.raises(orm_exc.DetachedInstanceError):
            in_thread(lambda: item.name)

    use_later(any_world, use)
    assert at(any_world.wait_for("SW309")) == line("LOADED")


def test_swallowed_in_a_request(any_world: World) -> None:
    """SW309: a request that does without what it cannot have, and answers well, is told as info."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            item = first(session)
            session.commit()
        try:
            return item.name
        except orm_exc.DetachedInstanceError:
            return "unknown"

    assert any_world.open().text == "unknown"
    assert [each.level for each in any_world.told("SW309")] == ["info"]
    assert any_world.heard == []


def test_swallowed_and_answered_with_an_error(any_world: World) -> None:
    """SW309: a request that catches the error and answers 500 has failed by it."""

    @any_world.view()
    def view() -> tuple[str, int]:
        with orm.Session(any_world.engine) as session:
            item = first(session)
            session.commit()
        try:
            return item.name, 200
        except orm_exc.DetachedInstanceError:
            return "sorry", 500

    any_world.open()
    assert any_world.only("SW309").level == "error"


def test_raised_from_it(any_world: World) -> None:
    """SW309: an error that is raised from it has left the view as well; an answer like 404 has not."""

    @any_world.view(rule="/<how>")
    def view(how: str) -> str:
        with orm.Session(any_world.engine) as session:
            item = first(session)
            session.commit()
        try:
            return item.name
        except orm_exc.DetachedInstanceError as error:
            if how == "abort":
                flask.abort(404)
            raise ValueError("no name") from error

    assert any_world.open("/abort").status_code == 404
    assert any_world.heard == []
    assert any_world.open("/raise").status_code == 500
    assert "error" in {each.level for each in any_world.told("SW309")}


def test_printed_for_a_log(any_world: World) -> None:
    """SW309: an object whose __repr__ needs what is gone, printed by a thread, is told as info."""

    kept: list[Spoken] = []

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            kept.append(session.scalars(sa.select(Spoken).where(Spoken.id == 1)).one())
            session.commit()
        return "ok"

    def work() -> None:
        with contextlib.suppress(orm_exc.DetachedInstanceError):
            repr(kept[0])

    any_world.open()
    in_thread(work)
    assert any_world.wait_for("SW309").level == "info"


def test_collected_session(world: World) -> None:
    """SW309: an object whose session was collected is told so."""

    def load() -> Item:
        session = orm.Session(world.engine)
        item = first(session)
        session.expire(item)
        session.close()
        return item

    @world.view()
    def view() -> str:
        return load().name

    assert world.open().status_code == 500
    assert world.told("SW309")[0].level == "error"


def test_object_from_elsewhere(world: World) -> None:
    """SW309: an object whose session nobody remembers is told at the line that used it."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            item = first(session)
            session.expire(item)
            session.expunge(item)
        return item.name  # USED

    assert world.open().status_code == 500
    finding = world.only("SW309")
    assert (finding.level, at(finding), finding.verb) == ("error", line("USED"), "used")


def test_ways_to_hand_over(any_world: World) -> None:
    """SW309: values, a session that does not expire, and merging on the thread are healthy."""

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine, expire_on_commit=False) as session:
            item = first(session)
            session.commit()

        def work() -> None:
            assert item.name == "ann"
            with orm.Session(any_world.engine) as session:
                assert session.merge(item).hits == 0

        in_thread(work)
        return item.name

    assert any_world.open().text == "ann"
    any_world.ticks()
    assert any_world.heard == []


def test_loop_that_swallows(world: World) -> None:
    """SW309: a loop that swallows thousands of them is one finding, and does not fill the memory."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            item = first(session)
            session.commit()
        for _ in range(2000):
            with contextlib.suppress(orm_exc.DetachedInstanceError):
                print(item.name)  # noqa: T201
        return "ok"

    world.open()
    (finding,) = world.told("SW309")
    assert finding.count <= 100


# SW310 no-app-context


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_thread_without_context(any_world: World) -> None:
    """SW310: a thread that dies for lack of an app context is an error at its line, and names the thread."""
    db = any_world.flask_sqlalchemy()

    def work() -> None:
        db.session.execute(sa.select(Item.id))  # USED

    thread = threading.Thread(target=work, name="cleaner")
    thread.start()
    thread.join()
    finding = any_world.wait_for("SW310")
    assert (finding.rule, finding.level, at(finding)) == ("no-app-context", "error", line("USED"))
    assert "thread 'cleaner'" in finding.message
    assert finding.scope is None


def test_job_without_context(any_world: World) -> None:
    """SW310: so is the job of an executor, whose error nobody asks for."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: db.session.scalar(sa.select(Item.id)))  # USED
        return "ok"

    assert any_world.open().text == "ok"
    assert at(any_world.wait_for("SW310")) == line("USED")


def test_scope_without_context(any_world: World) -> None:
    """SW310: a block that fails so is told once, with its scope, also when its thread ends by the same error."""
    db = any_world.flask_sqlalchemy()

    def work() -> None:
        with any_world.watch.scope("import"):
            db.session.scalar(sa.select(Item.id))  # USED

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        error = pool.submit(work).exception()
    any_world.watch.tick()
    finding = any_world.only("SW310")
    assert (str(finding.scope), at(finding)) == ("import", line("USED"))
    assert "flask_sessionwatch" not in str(error)
    if sys.version_info >= (3, 11):
        assert "flask_sessionwatch: push an app context" in notes_of(t.cast(BaseException, error))


def test_stream_without_context(any_world: World) -> None:
    """SW310: a streamed body that runs after its context is told with its request."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> flask.Response:
        def body() -> t.Iterator[str]:
            yield str(db.session.scalar(sa.select(Item.id)))  # USED

        return flask.Response(body())

    with pytest.raises(RuntimeError, match="outside of application context"):
        any_world.open()
    any_world.watch.tick()
    finding = any_world.told("SW310")[0]
    assert (str(finding.scope), at(finding)) == ("GET /", line("USED"))


def test_thread_with_context(any_world: World) -> None:
    """SW310: a thread or job that pushes a context is healthy, and so is asking whether there is one."""
    db = any_world.flask_sqlalchemy()

    def work() -> None:
        assert not flask.has_app_context()
        with contextlib.suppress(RuntimeError):
            db.session.scalar(sa.select(Item.id))
        with any_world.app.app_context():
            db.session.scalar(sa.select(Item.id))

    in_thread(work)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
    any_world.ticks()
    assert any_world.heard == []
