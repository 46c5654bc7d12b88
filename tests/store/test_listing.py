"""Which findings are listed, in which order, and what there is to choose from."""

import typing as t

import pytest

from flask_sessionwatch.store.base import FOLDED
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import Sighting
from flask_sessionwatch.store.listing import FACET_VALUES
from flask_sessionwatch.store.listing import FACETS
from flask_sessionwatch.store.listing import SORTS
from flask_sessionwatch.store.listing import Query
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.picture import Picture
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker

SITE = {"filename": "/srv/shop/orders.py", "lineno": 42, "function": "list_orders"}


@pytest.fixture
def store() -> MemoryStore:
    """Four findings of two workers."""
    store = MemoryStore()
    alpha, beta = worker("alpha"), worker("beta")
    leak: t.Any = {"rule": "leaked-connection", "level": "error", "engine": "default", "scope": "GET /orders"}
    slow: t.Any = {"code": "SW103", "rule": "long-checkout", "engine": "reports", "message": "Held for long."}
    storm: t.Any = {"code": "SW501", "rule": "commit-storm", "level": "info", "scope": "POST /import"}
    store.publish(
        alpha,
        {LIVE: document()},
        [
            report("leak", count=7, first=100.0, last=900.0, site=SITE, **leak),
            report("slow", count=1, first=300.0, last=400.0, level="warning", scope=None, **slow),
            report("storm", count=3, first=200.0, last=500.0, resolved=True, **storm),
        ],
    )
    store.publish(
        beta,
        {},
        [
            report("leak", count=2, first=150.0, last=950.0, site=SITE, **leak),
            report("known", count=1, first=50.0, last=60.0, known=True, level="error", rule="x"),
        ],
    )
    return store


def listing(store: MemoryStore, **query: t.Any) -> t.Any:
    return Picture(store).listing(Query(**query))


def listed(store: MemoryStore, **query: t.Any) -> list[str]:
    return [each["fingerprint"] for each in listing(store, **query)["findings"]]


@pytest.mark.parametrize(
    ("wanted", "fingerprints"),
    [
        ({}, ["known", "leak", "storm", "slow"]),
        ({"code": ["SW103"]}, ["slow"]),
        ({"code": ["SW103", "SW501"]}, ["storm", "slow"]),
        ({"rule": ["commit-storm"]}, ["storm"]),
        ({"level": ["warning", "info"]}, ["storm", "slow"]),
        ({"engine": ["default"]}, ["leak"]),
        ({"scope": [""]}, ["known", "slow"]),
        ({"scope": ["GET /orders"], "level": ["error"]}, ["leak"]),
        ({"scope": ["GET /orders"], "level": ["info"]}, []),
        ({"resolved": ["true"]}, ["storm"]),
        ({"resolved": ["false"]}, ["known", "leak", "slow"]),
        ({"known": ["true"]}, ["known"]),
        ({"code": []}, []),
    ],
)
def test_filters(store: MemoryStore, wanted: dict[str, list[str]], fingerprints: list[str]) -> None:
    """Of each filter one value has to match, and all filters have to."""
    assert listed(store, wanted=wanted) == fingerprints


def test_filter_by_worker(store: MemoryStore) -> None:
    """A worker is named by its host and its number, and finds what it has seen."""
    names = [each["value"] for each in listing(store)["facets"]["worker"]]
    alpha, beta = sorted(names)
    assert alpha.startswith("alpha:")
    assert listed(store, wanted={"worker": [alpha]}) == ["leak", "storm", "slow"]
    assert listed(store, wanted={"worker": [beta]}) == ["known", "leak"]
    assert listed(store, wanted={"worker": ["gamma:1"]}) == []


@pytest.mark.parametrize(
    ("text", "fingerprints"),
    [
        ("ORDERS.PY", ["leak"]),
        ("list_orders", ["leak"]),
        ("held for", ["slow"]),
        ("/import", ["storm"]),
        ("reports", ["slow"]),
        ("sw1", ["known", "leak", "slow"]),
        ("nothing of the kind", []),
    ],
)
def test_text(store: MemoryStore, text: str, fingerprints: list[str]) -> None:
    """A text is looked for in what people read, whatever its case."""
    assert listed(store, text=text) == fingerprints


@pytest.mark.parametrize(
    ("sort", "descending", "fingerprints"),
    [
        ("first_seen", False, ["known", "leak", "storm", "slow"]),
        ("last_seen", True, ["leak", "storm", "slow", "known"]),
        ("count", True, ["leak", "storm", "known", "slow"]),
        ("count", False, ["known", "slow", "storm", "leak"]),
        ("level", True, ["known", "leak", "slow", "storm"]),
        ("code", False, ["known", "leak", "slow", "storm"]),
        ("scope", False, ["known", "slow", "leak", "storm"]),
    ],
)
def test_order(store: MemoryStore, sort: str, descending: bool, fingerprints: list[str]) -> None:
    """Findings are sorted by any of these, and those that are equal always alike."""
    assert listed(store, sort=sort, descending=descending) == fingerprints


@pytest.mark.parametrize("sort", SORTS)
def test_order_of_what_is_unknown(store: MemoryStore, sort: str) -> None:
    """What an older version published, or a rule of somebody's own calls its level, can be sorted as well."""
    store.publish(worker(), {}, [report("odd", level="fatal"), report("old", code=None)])
    assert len(listed(store, sort=sort)) == 6


def test_pages(store: MemoryStore) -> None:
    """A part of the list says how long the whole of it is."""
    answer = listing(store, offset=1, limit=2)
    assert [each["fingerprint"] for each in answer["findings"]] == ["leak", "storm"]
    assert answer["total"] == 4
    assert listed(store, offset=3, limit=10) == ["slow"]
    assert listed(store, offset=9) == []
    assert listing(store, limit=0, wanted={"level": ["info"]})["total"] == 1


def test_counts(store: MemoryStore) -> None:
    """Whatever is asked for, all findings are counted: open ones by level, those that are over, and those that are known."""
    for query in ({}, {"wanted": {"code": ["SW999"]}}):
        assert listing(store, **query)["counts"] == {
            "open": {"info": 0, "warning": 1, "error": 1},
            "resolved": 1,
            "known": 1,
        }


def test_facets(store: MemoryStore) -> None:
    """Of each facet the values are named that there are, the one with the most findings first."""
    found = listing(store, wanted={"code": ["SW999"]})["facets"]
    assert set(found) == set(FACETS)
    assert found["code"][0] == {"value": "SW101", "count": 2}
    assert found["engine"] == [{"value": "default", "count": 1}, {"value": "reports", "count": 1}]
    assert {"value": "", "count": 2} in found["scope"]


def test_facets_are_bounded(store: MemoryStore) -> None:
    """Of very many scopes those are named that have the most findings."""
    store.publish(worker(), {}, [report(f"f{number}", scope=f"GET /{number}") for number in range(200)])
    scopes = listing(store)["facets"]["scope"]
    assert len(scopes) == FACET_VALUES
    assert scopes[0]["value"] == ""


def test_folded_workers_are_no_facet(store: MemoryStore) -> None:
    """Workers whose names were given up cannot be asked for."""
    store._sightings["leak"][FOLDED] = Sighting(10, 1.0, 2.0, False, False)
    assert len(listing(store)["facets"]["worker"]) == 2


def test_little_of_each(store: MemoryStore) -> None:
    """A list has neither source nor history; these are on the finding's own page."""
    store.publish(
        worker(), {}, [report("whole", sources=[{"filename": "a.py"}], timeline=[{"event": "began"}])]
    )
    (row,) = [each for each in listing(store)["findings"] if each["fingerprint"] == "whole"]
    assert row.keys().isdisjoint(("sources", "timeline"))
    whole = Picture(store).finding("whole")
    assert whole is not None
    assert (whole["sources"], whole["timeline"]) == ([{"filename": "a.py"}], [{"event": "began"}])
