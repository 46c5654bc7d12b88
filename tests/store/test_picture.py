"""One picture of many workers."""

import time
import typing as t

import pytest

from flask_sessionwatch.report.history import RECENT
from flask_sessionwatch.report.totals import COMMIT_BUCKETS
from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import Worker
from flask_sessionwatch.store import picture as picture_module
from flask_sessionwatch.store.base import FOLDED
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.base import Data
from flask_sessionwatch.store.base import Report
from flask_sessionwatch.store.base import Sighting
from flask_sessionwatch.store.base import merged
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.merging import BAD_SHOWN
from flask_sessionwatch.store.picture import WORKERS_LISTED
from flask_sessionwatch.store.picture import Picture
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker


class Self:
    """A process that answers, and knows itself better than the store does."""

    def __init__(self, worker: Worker, reports: t.Sequence[Report] = (), **documents: Data) -> None:
        self.worker = worker
        self._reports = reports
        self._documents = documents

    def live(self, *, stacks: bool) -> Data:
        return self.document(LIVE)

    def document(self, kind: str) -> Data:
        return self._documents.get(kind, {})

    def reports(self) -> t.Sequence[Report]:
        return self._reports

    def report(self, fingerprint: str) -> Report | None:
        return next((each for each in self._reports if each.fingerprint == fingerprint), None)


class Away(MemoryStore):
    """A store that cannot be read."""

    def live(self) -> t.Any:
        raise StoreError("gone fishing")

    findings = documents = finding = t.cast(t.Any, lambda self, *args: self.live())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def live(number: int, age: float = 1.0) -> dict[str, t.Any]:
    """What a worker says that has one check-out."""
    row = {"id": f"c{number}", "session_id": f"s{number}", "age_seconds": age}
    return {
        "version": "1",
        "engines": [{"name": "default", "used": number}],
        "sessions": [{"id": f"s{number}", "age_seconds": age}],
        "checkouts": [row],
        "omitted": {"sessions": 0, "checkouts": number},
    }


# Live


def test_live(store: MemoryStore) -> None:
    """Everything that is live names its worker; the oldest comes first."""
    first, second = worker("alpha"), worker("beta")
    store.publish(first, {LIVE: document(**live(1, age=1.0))}, [])
    store.publish(second, {LIVE: document(**live(2, age=9.0))}, [])
    picture = Picture(store).live()
    assert [(each["host"], each["pid"]) for each in picture["workers"]] == [
        ("alpha", first.pid),
        ("beta", second.pid),
    ]
    assert [(each["host"], each["used"]) for each in picture["engines"]] == [("alpha", 1), ("beta", 2)]
    assert [(each["host"], each["age_seconds"]) for each in picture["checkouts"]] == [
        ("beta", 9.0),
        ("alpha", 1.0),
    ]
    assert picture["omitted"] == {"sessions": 0, "checkouts": 3}


def test_oldest_of_too_many(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many check-outs and sessions those are shown that are held for the longest, and the others are counted."""
    monkeypatch.setattr(picture_module, "ROWS_SHOWN", 2)
    for age in (5.0, 1.0, 7.0, 3.0):
        store.publish(worker(), {LIVE: document(**live(1, age=age))}, [])
    picture = Picture(store).live()
    for kind in ("sessions", "checkouts"):
        assert [each["age_seconds"] for each in picture[kind]] == [7.0, 5.0]
    # Each of the workers left out one check-out itself.
    assert picture["omitted"] == {"sessions": 2, "checkouts": 2 + 4}
    assert (len(picture["workers"]), len(picture["engines"])) == (4, 4)


def test_numbers_of_several_workers(store: MemoryStore) -> None:
    """What two workers number alike has different ids, and a check-out still leads to its session."""
    for host in ("alpha", "beta"):
        store.publish(worker(host), {LIVE: document(**live(1))}, [])
    picture = Picture(store).live()
    assert len({each["id"] for each in picture["checkouts"]}) == 2
    assert {each["session_id"] for each in picture["checkouts"]} == {
        each["id"] for each in picture["sessions"]
    }


def test_own_is_fresher(store: MemoryStore) -> None:
    """The process that answers shows itself as it is now, and once."""
    mine, other = worker("alpha"), worker("beta")
    store.publish(mine, {LIVE: document(**live(1))}, [])
    store.publish(other, {LIVE: document(**live(2))}, [])
    picture = Picture(store, Self(mine, live=live(3))).live()
    assert [(each["host"], each["used"]) for each in picture["engines"]] == [("alpha", 3), ("beta", 2)]


def test_alone() -> None:
    """Without a store there is the process itself."""
    picture = Picture(None, Self(worker("alpha"), live=live(1)))
    assert [each["host"] for each in picture.live()["workers"]] == ["alpha"]
    assert picture.problem is None


def test_store_is_away() -> None:
    """A store that cannot be read leaves the process itself, and says why there is no more."""
    own = Self(worker("alpha"), [report()], live=live(1))
    for read in (Picture.live, Picture.findings, Picture.scopes, lambda each: each.finding("f1")):
        picture = Picture(Away(), own)
        assert read(picture)
        assert picture.problem == "gone fishing"
    assert Picture(Away()).findings() == []


# Findings


def test_findings_are_added_up(store: MemoryStore) -> None:
    """A finding of two workers has the sum of their counts, and names both."""
    first, second = worker("alpha"), worker("beta")
    store.publish(first, {LIVE: document()}, [report(count=2, first=100.0, last=200.0, resolved=True)])
    store.publish(second, {}, [report(count=5, first=50.0, last=150.0)])
    (finding,) = Picture(store).findings()
    assert [finding["count"], finding["resolved"], finding["worker_count"]] == [7, False, 2]
    assert [finding["first_seen"], finding["last_seen"]] == [
        "1970-01-01T00:00:50+00:00",
        "1970-01-01T00:03:20+00:00",
    ]
    assert [(each["host"], each["count"], each["gone"]) for each in finding["workers"]] == [
        ("alpha", 2, False),
        ("beta", 5, True),
    ]
    whole = Picture(store).finding("f1")
    assert whole is not None
    assert finding.items() <= whole.items()
    assert Picture(store).finding("f2") is None


@pytest.mark.parametrize(("one", "other", "together"), [(True, True, True), (True, False, False)])
def test_resolved_and_known_everywhere(one: bool, other: bool, together: bool) -> None:
    """It is resolved, or known, when it is so for every worker."""
    sightings = [Sighting(1, 1.0, 1.0, one, one), Sighting(1, 1.0, 1.0, other, other)]
    assert merged(sightings)[-2:] == (together, together)


def test_own_findings_are_fresher(store: MemoryStore) -> None:
    """What the process that answers has counted replaces what the store has from it, and its later message wins."""
    mine, other = worker(), worker()
    store.publish(mine, {}, [report(count=1, last=1.0, message="Old.")])
    store.publish(other, {}, [report(count=10, last=2.0, message="Other.")])
    mine_now = report(count=3, last=3.0, message="New."), report("f2", count=1)
    found = {each["fingerprint"]: each for each in Picture(store, Self(mine, mine_now)).findings()}
    assert (found["f1"]["count"], found["f1"]["message"]) == (13, "New.")
    assert found["f2"]["count"] == 1
    earlier = [report(count=3, last=1.5, message="New.")]
    assert Picture(store, Self(mine, earlier)).findings()[0]["message"] == "Other."


def test_own_finding_that_it_forgot(store: MemoryStore) -> None:
    """What this process has published and no longer keeps is shown from the store."""
    mine = worker()
    store.publish(mine, {}, [report(count=4)])
    assert [each["count"] for each in Picture(store, Self(mine)).findings()] == [4]


def test_many_workers_of_one_finding(store: MemoryStore) -> None:
    """A list names the workers that saw it last; the finding's own page names all."""
    start = time.time() - 1000
    for number in range(WORKERS_LISTED + 5):
        store.publish(worker(f"host{number}"), {}, [report(last=start + number)])
    (finding,) = Picture(store).findings()
    assert [finding["worker_count"], len(finding["workers"])] == [WORKERS_LISTED + 5, WORKERS_LISTED]
    assert finding["workers"][0]["host"] == f"host{WORKERS_LISTED + 4}"
    whole = Picture(store).finding("f1")
    assert whole is not None
    assert len(whole["workers"]) == WORKERS_LISTED + 5


def test_folded_workers_count(store: MemoryStore) -> None:
    """Workers whose names were given up count, and are not named."""
    store.publish(worker(), {}, [report(count=1)])
    store._sightings["f1"][FOLDED] = Sighting(10, 1.0, 2.0, False, False)
    (finding,) = Picture(store).findings()
    assert [finding["count"], len(finding["workers"]), finding["worker_count"]] == [11, 1, 1]


def test_order_of_findings(store: MemoryStore) -> None:
    """The newest finding is last."""
    store.publish(worker(), {}, [report("b", first=3.0), report("c", first=1.0), report("a", first=2.0)])
    assert [each["fingerprint"] for each in Picture(store).findings()] == ["c", "a", "b"]


# Scopes


def commits(**numbers: int) -> list[int]:
    """Numbers of scopes by how many commits they made."""
    buckets = [0] * (len(COMMIT_BUCKETS) + 1)
    for name, number in numbers.items():
        buckets[COMMIT_BUCKETS.index(int(name[1:]))] = number
    return buckets


def test_scopes_are_added_up(store: MemoryStore) -> None:
    """What the scopes of one name used is added up over workers; of peaks the highest counts."""
    row = ["GET /", "request"]
    store.publish(
        worker(),
        {SCOPES: document(scopes=[[*row, [8, 0, 0, 1], commits(_0=5, _1=4), 1, 9, 1, 2.5, 0.5, 0]])},
        [],
    )
    store.publish(
        worker(),
        {SCOPES: document(scopes=[[*row, [1, 0, 0, 0], commits(_20=1), 17, 1, 3, 1.0, 0.25, 1]])},
        [],
    )
    (scope,) = Picture(store).scopes()["scopes"]
    assert scope == {
        "scope": "GET /",
        "kind": "request",
        "count": 10,
        "verdicts": {"clean": 9, "info": 0, "warning": 0, "error": 1},
        "commits": {"p50": 0, "p95": 17, "max": 17},
        "sessions": 10,
        "connections_peak": 3,
        "hold_seconds": 3.5,
        "wait_seconds": 0.75,
        "lost_writes": 1,
        "lost_writes_share": 0.1,
        "hold_share": 1.0,
        "bad": [],
    }


def test_shares(store: MemoryStore) -> None:
    """A scope tells its share of all the time that connections were held."""
    rows = [
        ["GET /", "request", [1, 0, 0, 0], commits(_0=1), 0, 1, 1, 3.0, 0.0, 0],
        ["GET /b", "request", [4, 0, 0, 0], commits(_0=4), 0, 1, 1, 1.0, 0.0, 1],
    ]
    store.publish(worker(), {SCOPES: document(scopes=rows)}, [])
    shares = {
        each["scope"]: (each["hold_share"], each["lost_writes_share"])
        for each in Picture(store).scopes()["scopes"]
    }
    assert shares == {"GET /": (0.75, 0.0), "GET /b": (0.25, 0.25)}


def test_shares_of_nothing(store: MemoryStore) -> None:
    """Where nothing was held, nobody has a share of it."""
    rows = [["GET /", "request", [0, 0, 0, 0], commits(), 0, 1, 0, 0.0, 0.0, 0]]
    store.publish(worker(), {SCOPES: document(scopes=rows)}, [])
    (scope,) = Picture(store).scopes()["scopes"]
    assert (scope["hold_share"], scope["lost_writes_share"]) == (0.0, 0.0)


def test_bad_scopes(store: MemoryStore) -> None:
    """The latest scopes with findings of all workers come together with their scope, the newest first."""
    row = ["GET /", "request", [1, 0, 0, 1], commits(_0=2), 0, 1, 1, 1.0, 0.0, 0]
    for host, begin in (("alpha", 100.0), ("beta", 103.0)):
        bad = [
            [*row[:2], begin + number, "error", 500, "KeyError", "t-1", 2, 1, ["f1"]] for number in range(7)
        ]
        store.publish(worker(host), {SCOPES: document(scopes=[row], bad=bad)}, [])
    (scope,) = Picture(store).scopes()["scopes"]
    times = [each["at"] for each in scope["bad"]]
    assert len(times) == BAD_SHOWN
    assert times == sorted(times, reverse=True)
    first = scope["bad"][0]
    assert (first["host"], first["at"]) == ("beta", "1970-01-01T00:01:49+00:00")
    told = {name: first[name] for name in ("verdict", "status", "error", "thread", "commits", "findings")}
    assert told == {
        "verdict": "error",
        "status": 500,
        "error": "KeyError",
        "thread": "t-1",
        "commits": 2,
        "findings": ["f1"],
    }


def test_sites_are_added_up(store: MemoryStore) -> None:
    """Of each engine the sites that held connections for the longest come first."""
    store.publish(
        worker(),
        {SCOPES: document(sites=[["db", "a.py", 1, "f", 1.0, 1], ["db", "b.py", 2, "g", 1.5, 2]])},
        [],
    )
    store.publish(
        worker(),
        {SCOPES: document(sites=[["db", "a.py", 1, "f", 2.0, 3], ["alt", "a.py", 1, "f", 9.0, 1]])},
        [],
    )
    sites = Picture(store).scopes()["sites"]
    assert [
        (each["engine"], each["site"]["filename"], each["hold_seconds"], each["checkouts"]) for each in sites
    ] == [
        ("alt", "a.py", 9.0, 1),
        ("db", "a.py", 3.0, 4),
        ("db", "b.py", 1.5, 2),
    ]


# Series


def test_series_are_added_up(store: MemoryStore) -> None:
    """Points of the same time are added up; where a worker was away it adds nothing, and where all were there is none."""
    last = int(time.time() // 10)
    columns = {"sessions": [1, None, 3], "used:db": [1, None, 2]}
    store.publish(worker(), {RECENT: document(first=last - 2, columns=columns)}, [])
    store.publish(worker(), {RECENT: document(first=last - 3, columns={"sessions": [9, 1]})}, [])
    series = Picture(store).series("15m")
    assert series["step_seconds"] == 10
    assert len(series["workers"]) == 90
    ends = [
        (workers, sessions)
        for workers, sessions in zip(series["workers"], series["sessions"], strict=True)
        if workers
    ]
    assert ends == [(1, 9), (2, 2), (1, 3)]
    (engine,) = series["engines"]
    assert [engine["name"], sorted(filter(None, engine["used"]))] == ["db", [1, 2]]
    assert engine["waiting"] == [None] * 90


def test_series_of_counts(store: MemoryStore) -> None:
    """What is counted is 0 where a worker was there and had nothing to tell, and unknown where none was."""
    last = int(time.time() // 10)
    columns = {
        "sessions": [1, 1, None],
        "transactions.commit": [None, 4, None],
        "timeouts:db": [None, 2, None],
    }
    store.publish(worker(), {RECENT: document(first=last - 2, columns=columns)}, [])
    series = Picture(store).series("15m")
    place = series["sessions"].index(1)
    assert series["transactions"]["commit"][place : place + 3] == [0, 4, None]
    assert series["transactions"]["error"][place : place + 3] == [0, 0, None]
    (engine,) = series["engines"]
    assert engine["timeouts"][place : place + 3] == [0, 2, None]
    assert engine["connects"][place : place + 3] == [0, 0, None]
    assert engine["used"][place : place + 3] == [None, None, None]


@pytest.mark.parametrize(("span", "step", "points"), [("15m", 10, 90), ("1h", 60, 60), ("6h", 60, 360)])
def test_spans(store: MemoryStore, span: str, step: int, points: int) -> None:
    """A span has a bounded number of points, however long the workers have been there."""
    series = Picture(store).series(span)
    assert [series["span"], series["step_seconds"], len(series["sessions"])] == [span, step, points]


def test_points_out_of_the_span(store: MemoryStore) -> None:
    """Points of another time are left out: the clock of their host may be wrong."""
    last = int(time.time() // 10)
    store.publish(worker(), {RECENT: document(first=last - 500, columns={"sessions": [1] * 3})}, [])
    store.publish(worker(), {RECENT: document(first=last + 500, columns={"sessions": [1] * 3})}, [])
    assert set(Picture(store).series("15m")["sessions"]) == {None}
