"""Which of a process's findings are news."""

import dataclasses
import json
import time
import typing as t
from datetime import timedelta
from types import SimpleNamespace

import pytest

from flask_sessionwatch import Finding
from flask_sessionwatch.finding import ScopeName
from flask_sessionwatch.finding import now
from flask_sessionwatch.observe.stack import Frame
from flask_sessionwatch.observe.stack import Site
from flask_sessionwatch.store import reports as module
from flask_sessionwatch.store.base import FINDING_SECONDS
from flask_sessionwatch.store.reports import BODY_SECONDS
from flask_sessionwatch.store.reports import REFRESH_SECONDS
from flask_sessionwatch.store.reports import Reports
from flask_sessionwatch.store.reports import body_of
from flask_sessionwatch.store.reports import sighting_of


def finding(**values: t.Any) -> Finding:
    site = Site("/srv/shop/orders.py", 42, "list_orders")
    usual = Finding(
        code="SW101",
        rule="leaked-connection",
        level="error",
        message="It leaked.",
        site=site,
        stack=(Frame(*site, application=True),),
        scope=ScopeName("GET /", "request"),
        hint="Close it.",
    )
    return dataclasses.replace(usual, **values)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock, time=time.time))
    return clock


def test_new_finding(clock: Clock) -> None:
    """What was not published yet is news, with everything that is known of it."""
    found = finding()
    (report,) = Reports().changed({"f1": found})
    assert (report.fingerprint, report.sighting, report.body) == ("f1", sighting_of(found), body_of(found))


def test_nothing_new(clock: Clock) -> None:
    """What is as it was published is no news."""
    reports, found = Reports(), {"f1": finding()}
    reports.changed(found)
    assert (reports.changed(found), len(reports)) == ([], 1)


def test_counted_again(clock: Clock) -> None:
    """A finding that is seen again and again is published with its count at once, and with its message now and then."""
    reports, found = Reports(), finding()
    reports.changed({"f1": found})
    sent = []
    for _ in range(25):
        clock.seconds += 1
        found.count += 1
        sent += reports.changed({"f1": found})
    assert [each.sighting.occurrences for each in sent] == list(range(2, 27))
    assert sum(each.body is not None for each in sent) == 25 // BODY_SECONDS


def test_message_follows(clock: Clock) -> None:
    """The last message is published, too, when nothing more happens after it."""
    reports, found = Reports(), finding()
    reports.changed({"f1": found})
    found.count, found.message = 2, "It leaked again."
    (report,) = reports.changed({"f1": found})
    assert report.body is None
    clock.seconds += BODY_SECONDS
    (report,) = reports.changed({"f1": found})
    assert report.body is not None
    assert report.body["message"] == "It leaked again."
    assert reports.changed({"f1": found}) == []


def test_resolved(clock: Clock) -> None:
    """That a finding is resolved is published at once, with what it says now."""
    reports, found = Reports(), finding()
    reports.changed({"f1": found})
    found.resolved = True
    found.details["held_seconds"] = 41.2
    (report,) = reports.changed({"f1": found})
    assert report.body is not None
    assert (report.sighting.resolved, report.body["details"]) == (True, {"held_seconds": 41.2})


def test_refreshed(clock: Clock) -> None:
    """What has not changed for long is published again: the store may have lost it."""
    reports, found = Reports(), {"f1": finding()}
    reports.changed(found)
    clock.seconds += REFRESH_SECONDS
    (report,) = reports.changed(found)
    assert report.body is not None
    assert reports.changed(found) == []


def test_forget(clock: Clock) -> None:
    """When it is not certain what the store has, all is news."""
    reports, found = Reports(), {"f1": finding(), "f2": finding()}
    reports.changed(found)
    reports.forget()
    assert [each.fingerprint for each in reports.changed(found)] == ["f1", "f2"]


def test_finding_that_is_no_longer_kept(clock: Clock) -> None:
    """What the process keeps no more is not remembered here either."""
    reports = Reports()
    reports.changed({"f1": finding(), "f2": finding()})
    assert (reports.changed({"f2": finding()}), len(reports)) != ([], 2)
    assert len(reports) == 1


def test_old_finding(clock: Clock) -> None:
    """What a store would drop at once is not published any more."""
    old = finding(last_seen=now() - timedelta(seconds=FINDING_SECONDS + 60))
    assert Reports().changed({"f1": old}) == []


def test_body_has_no_counts() -> None:
    """What each worker counts for itself is not in the part that they share."""
    assert {"count", "first_seen", "last_seen", "resolved", "known", "fingerprint"}.isdisjoint(
        body_of(finding())
    )


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")


_circle: list[t.Any] = []
_circle.append(_circle)


@pytest.mark.parametrize("value", [Unspeakable(), _circle, {("a", "tuple"): 1}])
def test_details_that_cannot_be_written(value: object) -> None:
    """Details of a rule of somebody's own that are no data are left out, and nothing else is."""
    body = body_of(finding(details={"value": value}))
    assert (body["message"], body["details"]) == (
        "It leaked.",
        {"omitted": "these details are no plain data"},
    )
    assert json.loads(json.dumps(body)) == body


@pytest.mark.parametrize(
    ("value", "written"), [(float("nan"), "NaN"), (b"\xff", "b'\\xff'"), ({1: 2}, {"1": 2})]
)
def test_details_become_plain(value: object, written: object) -> None:
    """Other details are written as JSON can have them."""
    body = body_of(finding(details={"value": value}))
    assert body["details"] == {"value": written}
    json.dumps(body, allow_nan=False)


def test_body_is_a_copy() -> None:
    """What a process adds to a finding later does not change what was handed over."""
    found = finding(details={"list": [1]})
    body = body_of(found)
    found.details["list"].append(2)
    assert body["details"] == {"list": [1]}
