"""Who waits for a connection is seen, and waits as long as without a watch."""

import copy
import os
import pickle
import threading
import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from flask_sessionwatch import extension
from tests.rules.conftest import World
from tests.rules.conftest import until
from tests.rules.conftest import world as world

ONE: dict[str, t.Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 5.0}


def condition_of(engine: sa.Engine) -> t.Any:
    return t.cast(t.Any, engine.pool)._pool.not_empty


def name_of(engine: sa.Engine) -> str:
    return os.path.basename(engine.url.database or "")


def waits(engine: sa.Engine) -> threading.Thread:
    """Let a thread wait for the one connection of *engine*; returns when it does."""

    def wait() -> None:
        with engine.connect():
            pass

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: bool(condition_of(engine)._waiters))
    return thread


def test_waiting_is_seen(world: World) -> None:
    """While a thread waits it is pending; afterwards its wait is part of the histogram."""
    engine = world.make_engine(**ONE)
    with engine.connect():
        thread = waits(engine)
        world.watch.tick()
        assert world.metric("sessionwatch_connections_pending", engine=name_of(engine)) == 1.0
    thread.join()
    world.watch.tick()
    assert world.metric("sessionwatch_connections_pending", engine=name_of(engine)) == 0.0
    assert world.metric("sessionwatch_connection_wait_seconds_sum", engine=name_of(engine)) > 0.0


def test_no_wait_costs_nothing(world: World) -> None:
    """A check-out that finds a connection waits for nothing and runs nothing of ours in the pool."""
    engine = world.make_engine(**ONE)
    with engine.connect():
        pass
    calls: list[object] = []
    vars(condition_of(engine))["wait"] = calls.append
    with engine.connect():
        pass
    assert calls == []


def test_close_leaves_pools_as_they_were(world: World) -> None:
    """After close() a pool's condition and the exception are SQLAlchemy's own again."""
    engine = world.make_engine(**ONE)
    with engine.connect():
        pass
    assert "wait" in vars(condition_of(engine))
    world.watch.close()
    assert "wait" not in vars(condition_of(engine))
    assert "__init__" not in vars(sa_exc.TimeoutError)


def test_close_while_somebody_waits(world: World) -> None:
    """A thread that began to wait under the watch gets its connection after close() all the same."""
    engine = world.make_engine(**ONE)
    with engine.connect():
        thread = waits(engine)
        world.watch.close()
    thread.join(5.0)
    assert not thread.is_alive()


def test_a_failing_watcher_does_not_end_the_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of our own at the beginning of a wait is counted, and the wait goes on."""
    engine = world.make_engine(**ONE)
    process = extension._process
    before = process.ledger.internal_errors
    with engine.connect():
        pass
    monkeypatch.setattr(process.recorder.waits, "_holder", lambda: 1 / 0)
    with engine.connect():
        thread = waits(engine)
    thread.join(5.0)
    assert not thread.is_alive()
    assert process.ledger.internal_errors == before + 1
    world.forgive(1)


def test_timeouts_of_others(world: World) -> None:
    """A TimeoutError that no pool has raised is like any other exception: it can be made, copied and pickled."""
    error = sa_exc.TimeoutError("of somebody else", code="3o7r")
    for each in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert each.args == ("of somebody else",)
    world.watch.tick()
    assert world.heard == []
