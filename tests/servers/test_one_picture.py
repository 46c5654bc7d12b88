"""One true picture: through any worker, the standalone server, the metrics and the log; also when the application is stuck."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import redis_servers
from tests.servers.conftest import Deployment
from tests.servers.conftest import Site
from tests.servers.conftest import deployed
from tests.servers.conftest import gunicorn
from tests.servers.conftest import standalone
from tests.servers.conftest import until

GTHREAD = ("--worker-class", "gthread", "--threads", "4")
#: Seconds after which nothing of a dead worker may be told to live.
GONE = 5.0
LEAK = ("SW201", "error", "leaked-session")


class Picture(t.NamedTuple):
    """What can be seen of the shop.

    :param workers: those that live.
    :param holders: those that hold a session.
    :param occurrences: how often the leak was seen.
    :param gone: those that have seen it and live no more.
    """

    workers: frozenset[int]
    holders: frozenset[int]
    occurrences: int
    gone: frozenset[int]


def picture(site: Site) -> Picture:
    finding = site.finding("SW201") or {"count": 0, "workers": []}
    gone = frozenset(each["pid"] for each in finding["workers"] if each["gone"])
    return Picture(frozenset(site.workers()), frozenset(site.holders()), finding["count"], gone)


def everybody_sees(expected: Picture, server: Deployment, alone: Site, seconds: float) -> None:
    """Wait until the standalone server and many answers in a row, from whichever worker, show the same."""

    def same() -> bool:
        with ThreadPoolExecutor(8) as threads:
            seen = list(threads.map(picture, [server] * 12))
        return {*seen, picture(alone)} == {expected}

    until(same, seconds)


def leaked(site: Site) -> tuple[float, float]:
    """Return how many sessions the metrics tell to be leaked now, and how often they tell of a leak in all."""
    metrics = site.metrics()
    now = sum(value for key, value in metrics.items() if key[0] == "sessionwatch_leaked_sessions")
    return now, metrics.get(("sessionwatch_findings_total", *LEAK), 0.0)


def test_four_workers(postgresql_url: str, tmp_path: Path) -> None:
    """Bugs in four workers on PostgreSQL are one picture everywhere, before and after one of the workers is killed."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    folder = tmp_path / "metrics"
    folder.mkdir()
    environ = {
        "SHOP_DATABASE": postgresql_url,
        "SESSIONWATCH_STORE": store,
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
    }
    with standalone(store) as alone, deployed(gunicorn(*GTHREAD, workers=4), **environ) as server:
        workers = frozenset(server.on_each("/leak-once", 4))
        everybody_sees(Picture(workers, workers, 4, frozenset()), server, alone, 30.0)
        until(lambda: leaked(server) == leaked(alone) == (4, 4))
        assert server.log.count("SW201 leaked-session: GET /leak-once") == 4

        killed = min(workers)
        left = workers - {killed}
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in server.workers() | server.holders(), GONE)
        until(lambda: killed not in alone.workers() | alone.holders(), GONE)
        (successor,) = server.on_each("/pid", 4) - workers
        everybody_sees(Picture(left | {successor}, left, 4, frozenset({killed})), server, alone, 30.0)
        until(lambda: leaked(server) == leaked(alone) == (3, 4))
        assert server.log.count("SW201 leaked-session: GET /leak-once") == 4
        # A worker that was killed has not said good-bye, and nothing else is strange.
        assert "Traceback" not in server.log


def test_three_hosts(postgresql_url: str) -> None:
    """Three hosts that share a Redis are one picture on each of them, before and after one of them is lost."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(redis_servers.running()).url
        alone = stack.enter_context(standalone(store))
        hosts = {
            name: stack.enter_context(
                deployed(
                    gunicorn(*GTHREAD, workers=1),
                    SHOP_DATABASE=postgresql_url,
                    SESSIONWATCH_STORE=store,
                    SESSIONWATCH_HOST=name,
                )
            )
            for name in ("web-1", "web-2", "web-3")
        }
        pids = {name: server.on_each("/leak-once", 1).pop() for name, server in hosts.items()}
        everywhere = [*hosts.values(), alone]
        expected = {(name, pid, False) for name, pid in pids.items()}
        until(lambda: all(sightings(site) == expected for site in everywhere))
        until(lambda: all(site.hosts() == set(hosts) for site in everywhere))
        until(lambda: all(site.holders() == set(pids.values()) for site in everywhere))
        workers = {
            key[1]: value for key, value in alone.metrics().items() if key[0] == "sessionwatch_workers"
        }
        assert workers == dict.fromkeys(hosts, 1)

        lost = hosts.pop("web-2")
        for pid in (lost.process.pid, pids["web-2"]):
            os.kill(pid, signal.SIGKILL)
        everywhere = [*hosts.values(), alone]
        until(lambda: all(site.hosts() == set(hosts) for site in everywhere), GONE)
        expected = {(name, pid, name == "web-2") for name, pid in pids.items()}
        # Each answer is kept ready by itself, so one may know it a little later than another.
        until(lambda: all(sightings(site) == expected for site in everywhere), GONE)


def sightings(site: Site) -> set[tuple[str, int, bool]]:
    """Return who has seen the leak, on which host, and whether they are gone."""
    finding = site.finding("SW201") or {"workers": []}
    return {(each["host"], each["pid"], each["gone"]) for each in finding["workers"]}


def test_application_is_stuck(postgresql_url: str, tmp_path: Path) -> None:
    """When every thread of every worker waits for a connection, the standalone server answers, and names the line."""
    store, workers = f"sqlite:///{tmp_path / 'store.db'}", 2
    command = gunicorn("--worker-class", "gthread", "--threads", "2", workers=workers)
    environ = {"SHOP_DATABASE": postgresql_url, "SESSIONWATCH_STORE": store, "SHOP_POOL": "1"}
    with standalone(store) as alone, deployed(command, **environ) as server:
        pids = server.on_each("/leak-once", workers)
        with blocking(server) as block_one_more:
            # A worker takes as many requests as it likes, and lets them wait for its threads.
            while waiting(alone) != dict.fromkeys(pids, 2):
                block_one_more()
            # A request for the pages finds no thread that is free.
            with pytest.raises(TimeoutError):
                server.get("/_sessionwatch/readyz", timeout=1.0)
            answer = until(lambda: found(alone.get("/_sessionwatch/readyz"), pids))
            assert answer["status"] == "stuck"
            (pool,) = answer["pools"]
            assert pool["site"]["function"] == "leak_once"
            assert {each["pid"] for each in pool["workers"]} == pids
            assert all("checked out at" in each for each in pool["holders"])
            assert alone.get("/_sessionwatch/healthz").status == 200
            assert "<!doctype html>" in alone.get("/").text
            pending = alone.metrics()
            assert (
                sum(v for k, v in pending.items() if k[0] == "sessionwatch_connections_pending")
                == 2 * workers
            )


def waiting(site: Site) -> dict[int, int]:
    """Return how many threads of each worker wait for a connection."""
    return {each["pid"]: each["waiting"] for each in site.json("/api/v1/live")["engines"]}


def found(answer: t.Any, pids: set[int]) -> t.Any:
    """Return what is said of stuck pools once all of these workers have said so."""
    data = json.loads(answer.text)
    seen = {each["pid"] for pool in data["pools"] for each in pool["workers"]}
    return answer.status == 503 and seen == pids and data


@contextlib.contextmanager
def blocking(server: Deployment) -> t.Iterator[t.Callable[[], None]]:
    """Let requests wait for a connection that does not come, until the server is killed."""
    threads: list[threading.Thread] = []

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.get("/leak", timeout=120.0)

    def block_one_more() -> None:
        time.sleep(0.2)  # what is seen is up to a second old
        threads.append(threading.Thread(target=ask))
        threads[-1].start()

    try:
        yield block_one_more
    finally:
        os.killpg(server.process.pid, signal.SIGKILL)
        for each in threads:
            each.join()
