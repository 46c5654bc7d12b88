"""SW304 and SW307: sessions that live too long."""

import threading
import time
import typing as t

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch.observe import stale
from tests.rules.conftest import TICK
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line
from tests.rules.conftest import one_item

# SW304 stale-session

Look = t.Callable[[orm.Session], object]


def _hit(world: World, name: str = "ann") -> None:
    """Change a row as another request does."""
    with orm.Session(world.engine) as session:
        session.scalars(sa.select(Item).filter_by(name=name)).one().hits += 1
        session.commit()


def _hit_in_bulk(world: World) -> None:
    with orm.Session(world.engine) as session:
        session.execute(sa.update(Item).values(hits=Item.hits + 1))
        session.commit()


def _add(world: World) -> None:
    with orm.Session(world.engine) as session:
        session.add(Item(name=str(time.monotonic())))
        session.commit()


def _ann(session: orm.Session) -> Item:
    return session.scalars(sa.select(Item).filter_by(name="ann")).one()


def _poll(world: World, look: Look, change: t.Callable[[World], None], times: int = 6) -> None:
    """Look at the same thing again and again in one transaction, while another thread changes it."""
    world.configure(tick=600.0)
    with world.watch.scope("poller"), orm.Session(world.engine) as session:
        kept = []
        for _ in range(times):
            kept.append(look(session))
            in_thread(lambda: change(world))
    world.watch.tick()


@pytest.mark.parametrize("change", [_hit, _hit_in_bulk])
def test_polling_loop(any_world: World, change: t.Callable[[World], None]) -> None:
    """SW304: a loop that reads the same again in one transaction, while others change it, is told."""

    def look(session: orm.Session) -> object:
        item = session.scalars(sa.select(Item).filter_by(name="ann")).one()  # LOOK
        assert item.hits == 0
        return item

    _poll(any_world, look, change)
    found = any_world.told("SW304")
    assert {line("LOOK")} == {at(each) for each in found}
    assert "warning" in {each.level for each in found}
    assert {str(each.scope) for each in found} == {"poller"}
    assert "while others change what it reads" in found[0].message


def test_two_looks_are_no_loop(world: World) -> None:
    """SW304: the same read a third time is not worth more than an info."""
    _poll(world, _ann, _hit, times=3)
    assert [each.level for each in world.told("SW304")] == ["info"]
    assert world.heard == []


def _ended(session: orm.Session) -> object:
    session.rollback()
    return _ann(session)


def _expired(session: orm.Session) -> object:
    session.expire_all()
    return _ann(session)


def _refreshed(session: orm.Session) -> object:
    item = one_item(session)
    session.refresh(item)
    return item


def _populated(session: orm.Session) -> object:
    ann = sa.select(Item).filter_by(name="ann").execution_options(populate_existing=True)
    return session.scalars(ann).one()


def _forgotten(session: orm.Session) -> object:
    return _ann(session).hits


def _column(session: orm.Session) -> object:
    return session.scalar(sa.select(Item.hits).filter_by(name="ann"))


def _other_values(session: orm.Session) -> object:
    return session.scalars(sa.select(Item).where(Item.hits < time.monotonic())).all()


@pytest.mark.parametrize(
    "look", [_ended, _expired, _refreshed, _populated, _forgotten, _column, _other_values]
)
def test_healthy_loop(any_world: World, look: Look) -> None:
    """SW304: a read that sees what others have changed, or that is not the same each time, is not told."""
    _poll(any_world, look, _hit)
    assert any_world.told("SW304") == []


@pytest.mark.parametrize("change", [_add, lambda world: _hit(world, "bob")])
def test_other_rows_change(world: World, change: t.Callable[[World], None]) -> None:
    """SW304: it does not matter that others add rows, or change some that were not loaded."""
    _poll(world, _ann, change)
    assert world.told("SW304") == []


def test_column_in_a_snapshot(postgresql_world: World) -> None:
    """SW304: with REPEATABLE READ a mere column is stale as well."""
    postgresql_world.configure(tick=600.0)
    engine = postgresql_world.make_engine(isolation_level="REPEATABLE READ")
    with postgresql_world.watch.scope("poller"), orm.Session(engine) as session:
        for _ in range(4):
            assert _column(session) == 0
            in_thread(lambda: _hit_over(engine))
    postgresql_world.watch.tick()
    assert postgresql_world.told("SW304")


def _hit_over(engine: sa.Engine) -> None:
    with orm.Session(engine) as session:
        _ann(session).hits += 1
        session.commit()


def test_waiting_loop(world: World) -> None:
    """SW304: a loop that waits between its looks is told, whoever makes the change: another process may."""
    with world.watch.scope("poller"):
        stop, looked = threading.Event(), []

        def poll() -> None:
            with orm.Session(world.engine) as session:
                while not stop.wait(TICK):
                    looked.append(_ann(session))

        thread = threading.Thread(target=poll)
        thread.start()
        try:
            finding = world.wait_for("SW304", "warning")
        finally:
            stop.set()
            thread.join()
    assert "while it waits" in finding.message


def _view_that_looks_again(world: World, between: t.Callable[[], object]) -> None:
    """Ask for a view that reads the same six times, and each time do something before others write."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            kept = []
            for _ in range(6):
                kept.append(_ann(session))
                between()
                in_thread(lambda: _hit(world))
        return "ok"

    world.open()
    world.watch.tick()


def test_view_that_reads_twice(world: World) -> None:
    """SW304: a request's view that reads the same again while others write is one short piece of work."""
    _view_that_looks_again(world, lambda: None)
    assert world.told("SW304") == []


def test_request_that_lasts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SW304: a request that goes on reading for long is no short piece of work any more."""
    monkeypatch.setattr(stale, "_LONG", 0.0)
    _view_that_looks_again(world, world.watch.tick)
    assert world.told("SW304")


def test_body_that_reads_again(world: World) -> None:
    """SW304: what begins while a body is sent lasts as long as the client likes, and is long at once."""
    world.configure(tick=600.0)

    @world.view()
    def view() -> t.Any:
        def body() -> t.Iterator[str]:
            yield "begun"
            with orm.Session(world.engine) as session:
                kept = []
                for _ in range(6):
                    kept.append(_ann(session))
                    in_thread(lambda: _hit(world))
            yield "ended"

        return flask.Response(body())

    world.open()
    world.watch.tick()
    assert world.told("SW304")


def test_writer_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that writes while nothing else is open notes nothing of it."""
    noted: list[object] = []
    monkeypatch.setattr(stale.Stale, "note_table", lambda self, *args: noted.append(args))
    with world.watch.scope("worker"):
        _add(world)
        assert noted == []
        with orm.Session(world.engine) as other:
            other.begin()
            _add(world)
    assert noted


def test_who_is_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker has begun is long at once, what a request has begun when it has lasted, and nothing that is over."""
    ledger = world.watch._watched[0].ledger
    seen = []

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            _ann(session)
            world.watch.tick()
            seen.append(len(ledger.long))
            monkeypatch.setattr(stale, "_LONG", 0.0)
            world.watch.tick()
            seen.append(len(ledger.long))
        return "ok"

    world.open()
    assert seen == [0, 1]
    assert not ledger.long
    with world.watch.scope("worker"), orm.Session(world.engine) as session:
        _ann(session)
        (transaction,) = ledger.long
    assert not ledger.long
    ledger.long.add(transaction)
    world.watch.tick()
    assert not ledger.long


@pytest.fixture
def hitting(world: World) -> t.Any:
    """An application with Flask-SQLAlchemy, whose POST / changes the first item."""
    db = world.flask_sqlalchemy()

    @world.view("POST")
    def view() -> str:
        one_item(db.session).hits += 1
        db.session.commit()  # HIT
        return "ok"

    return db


def test_object_of_a_test(world: World, hitting: t.Any) -> None:
    """SW304: a test that keeps an object which a request on another thread changes is told as info."""
    with world.app.app_context():
        item = one_item(hitting.session)
        in_thread(lambda: world.open(method="POST"))
        assert item.hits == 0
    (finding,) = world.told("SW304")
    assert finding.level == "info"
    assert "kept a Item that POST / has changed meanwhile" in finding.message
    assert "changed at" in finding.text


@pytest.mark.parametrize("look", ["refresh", "expire_all", "rollback", "commit"])
def test_object_that_is_loaded_anew(world: World, hitting: t.Any, look: str) -> None:
    """SW304: a test that refreshes or expires the object, or ends the transaction, sees the change."""
    with world.app.app_context():
        item = one_item(hitting.session)
        in_thread(lambda: world.open(method="POST"))
        getattr(hitting.session, look)(*([item] if look == "refresh" else []))
        assert item.hits == 1
    assert world.told("SW304") == []


def test_object_that_is_gone(world: World, hitting: t.Any) -> None:
    """SW304: an object that the test has dropped, or another one than the request changes, is not told."""
    with world.app.app_context():
        assert one_item(hitting.session).hits == 0
        bob = hitting.session.get(Item, 2)
        in_thread(lambda: world.open(method="POST"))
        assert bob.hits == 0
    assert world.told("SW304") == []


# SW307 identity-map-growth

LIMIT = 50


def _work(session: t.Any, jobs: int = 6) -> list[Item]:
    """Commit once per job, and keep what was added."""
    kept: list[Item] = []
    for job in range(jobs):
        items = [Item(name=f"{job}-{number}") for number in range(10)]
        session.add_all(items)
        session.commit()  # COMMIT
        kept += items
    return kept


def test_worker_that_keeps_its_objects(any_world: World) -> None:
    """SW307: a worker whose session keeps more objects with each commit is told while it still runs."""
    any_world.configure(max_identity_map=LIMIT)
    db = any_world.flask_sqlalchemy()
    with any_world.app.app_context():
        assert _work(db.session)
        any_world.watch.tick()
        (finding,) = any_world.told("SW307")
    assert (finding.rule, finding.level, at(finding)) == ("identity-map-growth", "warning", line("COMMIT"))
    assert finding.details["limit"] == LIMIT
    assert finding.details["objects"] > LIMIT
    assert str(finding.scope) == "app context"


def test_worker_outside_of_any_scope(world: World) -> None:
    """SW307: a thread without an app context, with a Session of its own, is told as well."""
    world.configure(max_identity_map=LIMIT)

    def worker() -> None:
        with orm.Session(world.engine) as session:
            assert _work(session)

    in_thread(worker)
    world.watch.tick()
    assert at(world.only("SW307")) == line("COMMIT")


def test_request_that_keeps_its_objects(world: World) -> None:
    """SW307: a request ends soon, and is told as info."""
    world.configure(max_identity_map=LIMIT, max_commits=100)

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            return str(len(_work(session)))

    world.open()
    world.watch.tick()
    assert [each.level for each in world.told("SW307")] == ["info"]


def test_told_again_when_doubled(world: World) -> None:
    """SW307: a session that goes on growing is told again only when it has doubled."""
    world.configure(max_identity_map=10)
    with world.watch.scope("import"), orm.Session(world.engine) as session:
        assert _work(session, 30)
        world.watch.tick()
        (finding,) = world.told("SW307")
    assert finding.count <= 5


def _one_big_load(session: orm.Session) -> object:
    items = session.scalars(sa.select(Item)).all()
    for _ in range(5):
        items[0].hits += 1
        session.commit()
        session.scalars(sa.select(Item)).all()
    return items


def _expunging(session: orm.Session) -> object:
    kept: list[Item] = []
    for job in range(10):
        items = [Item(name=f"{job}-{number}") for number in range(LIMIT - 1)]
        session.add_all(items)
        session.commit()
        kept += items
        session.expunge_all()
    return kept


def _forgetting(session: orm.Session) -> object:
    for job in range(10):
        session.add_all([Item(name=f"{job}-{number}") for number in range(LIMIT - 1)])
        session.commit()
    return None


@pytest.mark.parametrize("work", [_one_big_load, _expunging, _forgetting])
def test_healthy_worker(world: World, work: t.Callable[[orm.Session], object]) -> None:
    """SW307: one big load, a worker that expunges, and one that keeps nothing, are not told."""
    with orm.Session(world.engine) as session:
        session.add_all([Item(name=str(number)) for number in range(3 * LIMIT)])
        session.commit()
    world.configure(max_identity_map=LIMIT)
    with world.watch.scope("import"), orm.Session(world.engine) as session:
        kept = work(session)
        world.watch.tick()
    assert world.told("SW307") == []
    del kept


def test_transaction_that_never_ends(world: World) -> None:
    """SW307: a long transaction that loads more and more is told at a tick, in the midst of it."""
    world.configure(max_identity_map=LIMIT, long_transaction=30.0)
    with orm.Session(world.engine) as session:
        session.add_all([Item(name=str(number)) for number in range(4 * LIMIT)])
        session.commit()
    with world.watch.scope("collector"), orm.Session(world.engine) as session:
        kept: list[Item] = []
        for step in range(4):
            kept += session.scalars(sa.select(Item).offset(step * LIMIT).limit(LIMIT)).all()  # LOAD
            world.tick_after(60.0)
        (finding,) = world.told("SW307")
        assert (finding.level, at(finding)) == ("warning", line("LOAD"))
        world.tick_after(60.0)
        assert world.told("SW307") == [finding]
        assert finding.count == 1


def test_long_report(world: World) -> None:
    """SW307: a long transaction that has loaded everything at once is not told."""
    world.configure(max_identity_map=1)
    with world.watch.scope("report"), orm.Session(world.engine) as session:
        items = session.scalars(sa.select(Item)).all()
        for _ in range(4):
            session.scalars(sa.select(Item)).all()
            world.tick_after(60.0)
        assert items
    assert world.told("SW307") == []
