"""The metrics of four workers in one scrape, before and after one of them is killed."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.servers.conftest import HERE
from tests.servers.conftest import deployed
from tests.servers.conftest import gunicorn
from tests.servers.conftest import until

HOOKS = ("--config", str(HERE / "gunicorn_hooks.py"))


@pytest.mark.parametrize("hooks", [(), HOOKS], ids=["without hooks", "with hooks"])
def test_every_metric(hooks: tuple[str, ...], tmp_path: Path) -> None:
    """What is live adds up over those that live, what was counted over all; the oldest check-out is that of any."""
    command = gunicorn("--worker-class", "gthread", "--threads", "4", *hooks, workers=4)
    began = time.time()
    with deployed(command, PROMETHEUS_MULTIPROC_DIR=str(tmp_path), SHOP_POOL="2") as server:
        workers = server.on_each("/leak-once", 4)
        server.on_each("/healthy-pid", 4)
        # What a worker tells of itself is what it was at its last tick.
        until(lambda: live(server.metrics()) == expected(4))
        before = server.metrics()
        # Of each the most since it was scraped itself.
        assert 4 <= before["sessionwatch_connections_peak", "shop.db"] <= 8
        assert began < before["sessionwatch_oldest_checkout_timestamp_seconds", "shop.db"] < time.time()

        killed = min(workers)
        os.kill(killed, signal.SIGKILL)
        # The one that takes its place has nothing yet.
        until(lambda: live(server.metrics()) == expected(3), 5.0)
        after = server.metrics()
        assert not list(tmp_path.glob(f"gauge_live*_{killed}.db"))
        counted = {key for key in before if key[0].endswith(("_total", "_count", "_sum", "_bucket"))}
        assert len(counted) > 100
        assert {key: before[key] for key in counted if after[key] < before[key]} == {}
        assert after["sessionwatch_findings_total", "SW201", "error", "leaked-session"] == 4
        assert after["sessionwatch_scopes_total", "GET /leak-once", "error", "request"] == 4
        assert not any("pid" in key for key in after)
        assert server.finding("SW709") is None


def live(metrics: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Return the gauges that have a whole number of things in them."""
    return {key: metrics.get(key, 0.0) for key in expected(0)}


def expected(workers: int) -> dict[tuple[str, ...], float]:
    """Return what the gauges say when each of *workers* has leaked one session, and had two at most."""
    engine = "shop.db"
    return {
        ("sessionwatch_sessions_open",): workers,
        ("sessionwatch_leaked_sessions",): workers,
        ("sessionwatch_transactions_open", engine): workers,
        ("sessionwatch_connections", engine, "used"): workers,
        ("sessionwatch_connections", "idle", engine): workers,
        ("sessionwatch_connections_max", engine): 2 * workers,
        ("sessionwatch_connections_pending", engine): 0,
        ("sessionwatch_findings_open", "SW201", "error", "leaked-session"): workers,
    }


def test_idle_workers_are_shown(tmp_path: Path) -> None:
    """With the hooks a worker is shown before it has had a request."""
    with deployed(gunicorn(*HOOKS, workers=2)) as server:
        until(lambda: len(server.workers()) == 2)


def test_not_set_up() -> None:
    """SW709: without a folder for the metrics of all workers it is told, as a warning once somebody scrapes."""
    with deployed(gunicorn(workers=2)) as server:
        server.metrics()
        finding = until(lambda: server.finding("SW709"))
        assert "gunicorn runs 2 workers" in finding["message"]
        until(lambda: server.finding("SW709")["level"] == "warning")
