"""What has ended is sorted by kind, and grouped by what its counters ask for."""

from __future__ import annotations

import types
import typing as t

from flask_sessionwatch.observe.ended import Ended
from flask_sessionwatch.observe.ended import seconds_held
from flask_sessionwatch.observe.ended import seconds_waited
from flask_sessionwatch.observe.holder import Holder
from flask_sessionwatch.observe.pooled import EngineInfo
from flask_sessionwatch.observe.records import Checkout
from flask_sessionwatch.observe.records import Scope
from flask_sessionwatch.observe.records import Transaction
from flask_sessionwatch.observe.records import new_scope

ENGINE = EngineInfo("shop", "sqlite", None, named=True)


def checkout(began_at: float, ended_at: float | None, engine: EngineInfo = ENGINE) -> Checkout:
    made = Checkout()
    made.more = None
    made.began_at, made.ended_at = began_at, ended_at
    made.pooled = t.cast("t.Any", types.SimpleNamespace(engine=engine))
    return made


def transaction(*checkouts: Checkout, ended_at: float) -> Transaction:
    made = Transaction()
    made.checkouts, made.ended_at = checkouts, ended_at
    return made


def request(rule: str | None, method: str = "GET") -> Scope:
    made = new_scope("request", None, None, None, Holder())
    made.more = None
    made.method = method
    made.rule = None if rule is None else types.SimpleNamespace(rule=rule)
    return made


def test_kinds() -> None:
    """Each record goes to those of its kind."""
    scope, alone = request("/"), checkout(1.0, 2.0)
    session = transaction(ended_at=3.0)
    fact = ("created", ENGINE, 0.1)
    ended = Ended([fact, alone, session, scope])
    assert (ended.scopes, ended.checkouts, ended.transactions, ended.facts) == (
        [scope],
        [alone],
        [session],
        [fact],
    )


def test_checkouts_of_a_transaction() -> None:
    """A session's check-outs end with its transaction; one that had ended before has a record of its own."""
    end = 3.0
    held, gone = checkout(1.0, end), checkout(1.0, 2.0)
    assert Ended([transaction(held, gone, ended_at=end)]).checkouts == [held]


def test_labels() -> None:
    """Requests of one method and rule have one label, and those of others have their own."""
    rule = "/orders/<int:number>"
    first, second = request(rule), request(rule)
    second.rule = first.rule
    posted, other = request(rule, "POST"), request("/")
    posted.rule = first.rule
    groups = Ended([first, posted, second, other]).scopes_by_label
    assert groups == {
        (f"GET {rule}", "request"): [first, second],
        (f"POST {rule}", "request"): [posted],
        ("GET /", "request"): [other],
    }


def test_labels_without_a_rule() -> None:
    """Scopes that have no rule, or a name of their own, are not taken for each other."""
    unmatched = request(None)
    job = new_scope("explicit", "import", None, None, Holder())
    task = new_scope("task", "import", None, None, Holder())
    assert list(Ended([unmatched, job, task]).scopes_by_label) == [
        ("GET <unmatched>", "request"),
        ("import", "explicit"),
        ("import", "task"),
    ]


def test_engines() -> None:
    """Check-outs are grouped by their engine, not by its name, which two may share."""
    twin = EngineInfo("shop", "sqlite", None, named=True)
    one, two = checkout(1.0, 2.0), checkout(1.0, 2.0, twin)
    assert Ended([one, two]).checkouts_by_engine == {ENGINE: [one], twin: [two]}


def test_what_follows() -> None:
    """What ends later is counted beside the rest, whatever was asked before."""
    first, later = request("/"), request("/late")
    ended = Ended([first])
    assert list(ended.scopes_by_label) == [("GET /", "request")]
    both = ended + Ended([later, checkout(1.0, 2.0), transaction(ended_at=3.0), ("timeout", ENGINE, 1.0)])
    assert list(both.scopes_by_label) == [("GET /", "request"), ("GET /late", "request")]
    assert [len(each) for each in (both.checkouts, both.transactions, both.facts)] == [1, 1, 1]


def test_seconds() -> None:
    """A check-out that has not ended has no time of its own, and most have not waited."""
    waited = checkout(2.0, 5.0)
    waited.waited = 1.5
    some = [checkout(1.0, 2.0), waited, checkout(4.0, None)]
    assert seconds_held(some) == [1.0, 3.0]
    assert seconds_waited(some) == [0.0, 1.5, 0.0]
