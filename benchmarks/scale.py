"""Simulate a thousand workers on a hundred hosts, and measure the Redis they publish to and the pages that show them.

    python benchmarks/scale.py [--workers 1000] [--hosts 100] [--findings 20] [--seconds 60]

The leaky shop runs first, and what it publishes is the pattern of what the simulated workers do (crowd.py). They publish to a Redis
of its own through the same store as real ones. For a minute nobody looks; then `flask-sessionwatch serve` is asked, and Chromium
opens its dashboard, while they go on.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import record
from crowd import Patterns
from prometheus_client import parser as prometheus

from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.base import KINDS
from flask_sessionwatch.store.base import LIVE

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import redis_servers

HERE = Path(__file__).parent
DEMO = HERE.parent / "examples" / "leaky_shop" / "demo.py"
CHROMIUM = "/usr/bin/chromium"
TOKEN = "a token for the demo"
#: Processes that drive the crowd.
PARTS = 2
#: What the dashboard asks for, and what else is large.
PATHS = (
    "/api/v1/live?stacks=false",
    "/api/v1/live",
    "/api/v1/findings?brief=true&resolved=false&known=false&sort=-last_seen&limit=30",
    "/api/v1/findings",
    "/api/v1/scopes",
    "/api/v1/pools",
    "/api/v1/series?span=15m",
    "/api/v1/series?span=6h",
    "/api/v1/fleet",
    "/api/v1/rules",
    "/metrics",
)
#: Seconds between two questions, so that no answer about what is live serves twice.
_ASK_SECONDS = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")

Figures: t.TypeAlias = "dict[str, t.Any]"


# The pattern


def capture(url: str, seconds: float) -> tuple[Patterns, int]:
    """Run the leaky shop, and return what it publishes and how many series its own metrics have.

    :param url: an empty store.
    """
    environment = {**os.environ, "SESSIONWATCH_STORE": url, "SESSIONWATCH_TOKEN": TOKEN}
    with running([sys.executable, str(DEMO), "--seconds", str(seconds + 60)], env=environment) as shop:
        words = map(str.split, t.cast(t.IO[str], shop.stdout))
        address = next(line[1] for line in words if line[:1] == ["dashboard"])
        lives = list(_snapshots(url, seconds))
        with contextlib.closing(open_store(url)) as store:
            # The shop's nightly command is a process, too, and a short one.
            documents = {
                kind: [max((each.body for each in store.documents(kind)), key=_size)] for kind in KINDS
            }
            findings = {each.fingerprint: dict(each.body) for each in store.findings()}
        series = _series(_get(address, "metrics", TOKEN)[1])
    return Patterns({**documents, LIVE: lives}, findings), series


def _size(body: t.Any) -> int:
    return len(json.dumps(body))


def _snapshots(url: str, seconds: float) -> Iterator[t.Any]:
    """Return what is live in the busiest of the processes, again and again."""
    end = time.monotonic() + seconds
    with contextlib.closing(open_store(url)) as store:
        while time.monotonic() < end:
            time.sleep(1)
            with contextlib.suppress(StoreError):
                busy = [each.body for each in store.documents(LIVE) if each.body["checkouts"]]
                yield from busy


@contextlib.contextmanager
def running(command: list[str], **options: t.Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program for as long as the block lasts; its end is the end of what it reads."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, **options
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate()  # what it says in the end finds a reader


# The crowd


@contextlib.contextmanager
def crowd(url: str, file: Path, options: argparse.Namespace) -> Iterator[list[subprocess.Popen[str]]]:
    """Let the simulated workers publish for as long as the block lasts."""
    sizes = [
        "--workers",
        str(options.workers),
        "--hosts",
        str(options.hosts),
        "--findings",
        str(options.findings),
    ]
    with contextlib.ExitStack() as stack:
        command = [sys.executable, str(HERE / "crowd.py"), url, str(file), *sizes]
        parts = [
            stack.enter_context(running([*command, "--part", f"{part}/{PARTS}"])) for part in range(PARTS)
        ]
        for each in parts:
            assert t.cast(t.IO[str], each.stdout).readline() == "publishing\n"
        yield parts


def published(parts: list[subprocess.Popen[str]]) -> tuple[list[tuple[float, float]], list[str]]:
    """End the crowd; return when each publication was made and how long it took, and what failed."""
    results = [json.loads(each.communicate()[0]) for each in parts]
    publications = [(at, took) for each in results for at, took in each["published"]]
    return publications, [failure for each in results for failure in each["failures"]]


# Redis


def traffic(client: t.Any, seconds: float) -> Figures:
    """Return what Redis did in *seconds* from now on."""
    before, began = client.info(), time.time()
    time.sleep(seconds)
    after, ended = client.info(), time.time()
    passed = ended - began

    def rate(*names: str) -> float:
        return sum(float(after[name]) - float(before[name]) for name in names) / passed

    return {
        "window": [began, ended],
        "cpu": rate("used_cpu_user", "used_cpu_sys"),
        "commands": rate("total_commands_processed"),
        "in": rate("total_net_input_bytes"),
        "out": rate("total_net_output_bytes"),
        "memory": after["used_memory"],
        "memory_peak": after["used_memory_peak"],
        "resident": after["used_memory_rss"],
        "clients": after["connected_clients"],
        "keys": client.dbsize(),
        "version": after["redis_version"],
    }


# The pages


@contextlib.contextmanager
def standalone(url: str) -> Iterator[tuple[str, int]]:
    """Run `flask-sessionwatch serve`; give its address and the number of its process."""
    program = str(Path(sys.executable).parent / "flask-sessionwatch")
    environment = {name: each for name, each in os.environ.items() if not name.startswith("SESSIONWATCH_")}
    with running([program, "serve", "--store", url, "--port", "0"], env=environment) as server:
        yield t.cast(t.IO[str], server.stdout).readline().split()[1], server.pid


def asked(address: str, pid: int, path: str, times: int) -> Figures:
    """Return how long the server takes to answer, and what of that is its own work."""
    seconds, cpu, size = [], _cpu_seconds(pid), 0
    for _ in range(times):
        time.sleep(_ASK_SECONDS)
        began = time.perf_counter()
        status, body = _get(address, path)
        seconds.append(time.perf_counter() - began)
        size = len(body)
        assert status == 200, (status, body)
    return {
        "p50": statistics.median(seconds),
        "p95": statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0],
        "cpu": (_cpu_seconds(pid) - cpu) / times,
        "bytes": size,
    }


def _get(address: str, path: str, token: str = "") -> tuple[int, str]:
    host, _, prefix = address.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=60)
    with contextlib.closing(connection):
        connection.request(
            "GET", f"/{prefix}{path.lstrip('/')}", headers={"Authorization": f"Bearer {token}"}
        )
        response = connection.getresponse()
        return response.status, response.read().decode()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _series(text: str) -> int:
    """Return how many series of ours a scrape brings."""
    samples = [
        sample for family in prometheus.text_string_to_metric_families(text) for sample in family.samples
    ]
    return sum(each.name.startswith("sessionwatch_") for each in samples)


def painted(address: str, times: int) -> Figures:
    """Return the milliseconds until Chromium has painted something, and until what is live is there."""
    from playwright import sync_api

    first, filled = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        for _ in range(times):
            time.sleep(_ASK_SECONDS)
            page = browser.new_context().new_page()
            page.set_default_timeout(60_000)
            began = time.perf_counter()
            page.goto(address)
            page.get_by_role("heading", name="Holders").wait_for()
            filled.append(time.perf_counter() - began)
            first.append(
                page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
            )
            page.context.close()
        version = browser.version
        browser.close()
    return {"first": first, "filled": filled, "chromium": version}


# Telling


def measure(options: argparse.Namespace) -> Figures:
    """Run everything, and return every figure."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sw-scale-")))
        redis = stack.enter_context(redis_servers.running())
        file = options.patterns or folder / "patterns.json"
        figures: Figures = {"about": record.about(["redis", "prometheus-client", "waitress"])}
        if not file.exists():
            patterns, figures["series_of_worker"] = capture(redis.url, options.capture)
            patterns.save(file)
            redis.client().flushall()
        with crowd(redis.url, file, options) as parts:
            time.sleep(min(options.seconds, 10))
            figures["redis"] = traffic(redis.client(), options.seconds)
            with standalone(redis.url) as (address, pid):
                figures["pages"] = {
                    each: asked(address, pid, each, options.times * (3 if "live" in each else 1))
                    for each in PATHS
                }
                figures["series"] = _series(_get(address, "/metrics")[1])
                figures["resident"] = _resident(pid)
                if Path(CHROMIUM).exists():
                    figures["paint"] = painted(address, options.paints)
            publications, figures["failures"] = published(parts)
        began, ended = figures["redis"]["window"]
        seconds = sorted(took for at, took in publications if began <= at < ended)
        figures["publish"] = {
            "rate": len(seconds) / (ended - began),
            "p50": statistics.median(seconds),
            "p95": seconds[int(len(seconds) * 0.95)],
        }
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--findings", type=float, default=20.0, help="a second, of all workers")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which nobody looks")
    parser.add_argument(
        "--times", type=int, default=10, help="how often each path is asked for; live three times as often"
    )
    parser.add_argument("--paints", type=int, default=5, help="how often the dashboard is opened")
    parser.add_argument("--capture", type=float, default=20.0, help="seconds for which the leaky shop runs")
    parser.add_argument(
        "--patterns", type=Path, help="keep what the shop publishes in this file, or take it from there"
    )
    print(json.dumps(measure(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
