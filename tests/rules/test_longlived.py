"""SW304 and SW307: sessions that live too long."""

import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import in_thread
from tests.rules.conftest import line

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
