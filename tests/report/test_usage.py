"""How pools were used, counted from what has ended, and what of it becomes history."""

import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy import orm

from flask_sessionwatch import extension
from flask_sessionwatch.process import Process
from flask_sessionwatch.report.account import Account
from flask_sessionwatch.report.harvest import OUTCOMES
from flask_sessionwatch.report.harvest import SECONDS
from flask_sessionwatch.report.history import OUTCOME
from flask_sessionwatch.report.usage import Distribution
from flask_sessionwatch.report.usage import PoolUsage
from tests.report.test_totals import Shop


@pytest.fixture
def shop(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Shop]:
    """An application with a pool of three, which gives up soon."""
    monkeypatch.setattr(extension, "_process", Process())
    shop = Shop(sqlite_url)
    shop.engine.dispose()
    shop.engine = sa.create_engine(sqlite_url, pool_size=2, max_overflow=1, pool_timeout=0.01)
    yield shop
    shop.watch.close()
    shop.engine.dispose()


def account(shop: Shop) -> Account:
    shop.watch.tick()
    return extension._process.account


def usage(shop: Shop) -> PoolUsage:
    (pool,) = account(shop).usage.pools.values()
    return pool


def test_counts(shop: Shop) -> None:
    """Every check-out is counted with how long it was held and waited for, and every connection that was opened."""
    before = sum(usage(shop).durations["hold"].counts)
    for _ in range(3):
        with shop.engine.connect():
            pass
    pool = usage(shop)
    assert sum(pool.durations["hold"].counts) - before == 3
    assert sum(pool.durations["wait"].counts) - before == 3
    assert sum(pool.durations["connect"].counts) >= 1
    assert pool.durations["hold"].seconds > 0


def test_peak_and_timeouts(shop: Shop) -> None:
    """The most that were checked out at once are remembered after they came back, and so is whoever got none."""
    held = [shop.engine.connect() for _ in range(3)]
    with pytest.raises(exc.TimeoutError):
        shop.engine.connect()
    for each in held:
        each.close()
    pool = usage(shop)
    assert (pool.peak, pool.timeouts) == (3, 1)
    with shop.engine.connect():
        pass
    assert usage(shop).peak == 3


def test_history(shop: Shop) -> None:
    """How transactions ended, connections that were opened and check-outs that timed out are points of the history."""
    with orm.Session(shop.engine) as session:
        session.execute(sa.text("SELECT 1"))
        session.commit()
    held = [shop.engine.connect() for _ in range(3)]
    with pytest.raises(exc.TimeoutError):
        shop.engine.connect()
    for each in held:
        each.close()
    columns = account(shop).document("recent")["columns"]
    (name,) = extension._process.account.usage.pools
    assert sum(filter(None, columns[f"{OUTCOME}commit"])) == 1
    assert sum(filter(None, columns[f"connects:{name}"])) >= 3
    assert sum(filter(None, columns[f"timeouts:{name}"])) == 1
    again = account(shop).document("recent")["columns"]
    assert sum(filter(None, again[f"timeouts:{name}"])) == 1


def test_outcomes_have_names() -> None:
    """The columns of outcomes are not taken for those of engines."""
    assert not any(":" in OUTCOME + each for each in OUTCOMES)


def test_forget(shop: Shop) -> None:
    """After a fork there is nothing yet."""
    with shop.engine.connect():
        pass
    extension._process.account.forget()
    assert extension._process.account.document("scopes")["pools"] == {}


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (300.0, len(SECONDS) - 1), (301.0, len(SECONDS))],
)
def test_buckets(seconds: float, bucket: int) -> None:
    """A duration is counted below the first bound that it does not exceed."""
    distribution = Distribution()
    distribution.take([seconds])
    assert distribution.counts.index(1) == bucket


def test_told_and_added(shop: Shop) -> None:
    """What one process tells, another one adds to its own; empty buckets at the end are not told."""
    distribution = Distribution()
    distribution.take([0.0, 0.02, 0.02])
    told = distribution.as_json()
    assert told == [0.04, 1, 0, 0, 2]
    distribution.add(told)
    assert distribution.as_json() == [0.08, 2, 0, 0, 4]
    assert Distribution().as_json() == [0.0]


def test_peaks_do_not_add_up() -> None:
    """Every process has a pool of its own: of peaks the highest counts."""
    one, other = PoolUsage(), PoolUsage()
    one.peak, other.peak, one.timeouts, other.timeouts = 3, 5, 1, 2
    one.add(other.as_json())
    assert (one.peak, one.timeouts) == (5, 3)
