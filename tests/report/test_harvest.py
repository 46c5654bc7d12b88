"""What has ended is added up by series."""

from __future__ import annotations

import types
import typing as t

from flask_sessionwatch.observe.ended import Ended
from flask_sessionwatch.observe.pooled import EngineInfo
from flask_sessionwatch.observe.records import Checkout
from flask_sessionwatch.report.harvest import Harvest
from flask_sessionwatch.report.harvest import buckets_of

ENGINE = EngineInfo("shop", "sqlite", None, named=True)


def checkout(began_at: float, ended_at: float | None = None) -> Checkout:
    made = Checkout()
    made.more = made.scope = None
    made.stack = ()
    made.began_at, made.ended_at = began_at, ended_at
    made.pooled = t.cast("t.Any", types.SimpleNamespace(engine=ENGINE))
    return made


def test_peak() -> None:
    """The peak counts what was held at the same moment, also what is held still."""
    over = [checkout(1.0, 3.0), checkout(2.0, 4.0), checkout(5.0, 6.0)]
    assert Harvest(Ended(over)).peaks == {"shop": 2}
    assert Harvest(Ended(over), [checkout(2.5), checkout(5.5)]).peaks == {"shop": 3}


def test_one_after_the_other() -> None:
    """A connection that is taken at the moment in which it was returned is one."""
    assert Harvest(Ended([checkout(1.0, 2.0), checkout(2.0, 3.0)])).peaks == {"shop": 1}


def test_nothing() -> None:
    """Where nothing has ended and nothing is held, nothing is counted."""
    harvest = Harvest(Ended())
    assert (harvest.counts, harvest.values, harvest.peaks, harvest.live) == ({}, {}, {}, [])


def test_buckets() -> None:
    """A value belongs to the first bucket whose upper bound it does not exceed, and the largest to one behind the last."""
    assert buckets_of((1.0, 2.0), [0.5, 1.0, 1.5, 2.0, 9.0]) == {0: 2, 1: 2, 2: 1}
