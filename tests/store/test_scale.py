"""A short run of what benchmarks/scale.py does with a thousand workers: whatever many of them publish adds up."""

import importlib
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch.report.history import LONG
from flask_sessionwatch.report.history import RECENT
from flask_sessionwatch.report.totals import COMMIT_BUCKETS
from flask_sessionwatch.report.totals import VERDICTS
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.base import ABOUT
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.picture import Picture
from tests.rules.conftest import until

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WORKERS, HOSTS, FINDINGS = 50, 5, 4
HELD = {"id": "c1", "session_id": None, "age_seconds": 1.0}
#: Seven scopes that held a connection for half a second altogether.
TOTAL = [[7] + [0] * (len(VERDICTS) - 1), [7] + [0] * len(COMMIT_BUCKETS), 1, 7, 1, 0.5, 0.0, 0]
PATTERNS: dict[str, t.Any] = {
    "documents": {
        LIVE: [{"engines": [{"name": "default", "used": 1}], "sessions": [], "checkouts": [HELD]}],
        SCOPES: [{"scopes": [["GET /", "request", *TOTAL]]}],
        ABOUT: [{"version": "1"}],
        RECENT: [{"first": 0, "columns": {"sessions": [2.0, None]}}],
        LONG: [{"first": 0, "columns": {"sessions": [2.0]}}],
    },
    "findings": {f"f{number}": {"code": "SW101", "message": "Leaked."} for number in range(FINDINGS)},
}


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """The simulation's own module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("crowd")


def test_crowd(crowd: t.Any, redis_url: str) -> None:
    """Of fifty workers every count is in the picture; those that fall silent are live no more, and what they found stays."""
    patterns = crowd.Patterns(**PATTERNS)
    staying, ending = (
        crowd.Crowd(redis_url, patterns, range(WORKERS)[part::2], HOSTS, findings_per_second=20.0)
        for part in (0, 1)
    )
    picture = Picture(open_store(redis_url))
    with staying.publishing(threads=2):
        with ending.publishing(threads=2):
            until(lambda: len(staying.published) >= WORKERS and len(ending.published) >= WORKERS)
            live, scopes, series = picture.live(), picture.scopes(), picture.series("15m")
        assert len({each["host"] for each in live["workers"]}) == HOSTS
        assert [len(live[kind]) for kind in ("workers", "engines", "checkouts")] == [WORKERS] * 3
        assert len({each["id"] for each in live["checkouts"]}) == WORKERS
        assert (scopes["scopes"][0]["count"], scopes["scopes"][0]["hold_seconds"]) == (7 * WORKERS, 25.0)
        assert (max(series["workers"]), max(series["sessions"])) == (WORKERS, 2.0 * WORKERS)
        left = {each.worker.pid for each in staying.workers}
        until(lambda: {each["pid"] for each in picture.workers()} == left)
    _check_findings(picture.findings(), [*staying.workers, *ending.workers], left)
    assert (staying.failures, ending.failures, picture.problem) == ([], [], None)


def _check_findings(findings: list[dict[str, t.Any]], workers: list[t.Any], left: set[int]) -> None:
    counted = {each["fingerprint"]: each["count"] for each in findings}
    assert counted == {each: sum(worker.counts[each] for worker in workers) for each in PATTERNS["findings"]}
    assert {each["worker_count"] for each in findings} == {WORKERS}
    told_gone = {worker["pid"] for each in findings for worker in each["workers"] if worker["gone"]}
    assert not told_gone & left
