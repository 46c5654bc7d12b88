"""Requests per second under gunicorn, with and without the watch.

    python benchmarks/throughput.py [--threads 1,2,4,8] [--seconds 1] [--rounds 30] [--database postgresql]

One gunicorn of each kind is up all the time, with one gthread worker. wrk asks them in many short turns, because a machine is
faster at one time than at another; what counts is the median of the turns' ratios, which is given with its standard error.
benchmarks/results/throughput.json has the figures.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import record
from instructions import names
from servers import Database
from servers import databases

HERE = Path(__file__).parent
#: What the watch may leave of the throughput.
LEAST = 0.97
PATHS = ("/one", "/ten")
_START_SECONDS = 20.0
_PAIR = ("nothing", "sessionwatch")
_WARM_UP = 1


def main() -> int:
    """Print the throughput of both, and return 1 if the ratio is below the target."""
    options = _options()
    if shutil.which("wrk") is None:
        print("wrk asks for the pages and is not here; on Debian and Ubuntu it is the package 'wrk'")
        return 0
    rows: list[dict[str, t.Any]] = []
    results = {"about": record.about(["flask-sessionwatch", "gunicorn"]), "rows": rows}
    with databases([options.database]) as found:
        for database in found:
            for threads in map(int, options.threads):
                rows += _measure(database, threads, options)
                record.write("throughput", results)
    # What the turns differ by is no reason to say that it is broken.
    held = [row["ratio"] + row["error"] >= LEAST for row in rows]
    print(f"target {LEAST}: {'held' if all(held) else 'BROKEN'}")
    return 0 if all(held) else 1


def _measure(database: Database, threads: int, options: argparse.Namespace) -> list[dict[str, t.Any]]:
    with contextlib.ExitStack() as stack:
        ports = {each: stack.enter_context(_gunicorn(each, threads, database.create())) for each in _PAIR}
        for port in ports.values():
            for path in PATHS:
                _ask(port, path, threads, _WARM_UP)
        return [_compare(ports, path, threads, options) for path in PATHS]


def _compare(ports: dict[str, int], path: str, threads: int, options: argparse.Namespace) -> dict[str, t.Any]:
    rounds = []
    for number in range(options.rounds):
        # Whoever comes second finds the machine warmer: they take turns in that, too.
        order = _PAIR if number % 2 else _PAIR[::-1]
        rounds.append({each: _ask(ports[each], path, threads, options.seconds) for each in order})
    ratios = [each["sessionwatch"] / each["nothing"] for each in rounds]
    row = {
        "threads": threads,
        "path": path,
        **{each: statistics.median(one[each] for one in rounds) for each in _PAIR},
        "ratio": statistics.median(ratios),
        "error": _error_of_median(ratios),
        "ratios": ratios,
    }
    print(
        f"{threads} threads {path:5} {row['nothing']:8,.0f}/s  with the watch {row['sessionwatch']:8,.0f}/s"
        f"  ratio {row['ratio']:.3f} ± {row['error']:.3f}",
        flush=True,
    )
    return row


def _error_of_median(values: list[float]) -> float:
    """Return its standard error, as that of values which are distributed normally: by sqrt(pi / 2) more than the mean's."""
    return math.sqrt(math.pi / 2) * statistics.stdev(values) / math.sqrt(len(values)) if values[1:] else 0.0


@contextlib.contextmanager
def _gunicorn(watcher: str, threads: int, url: str) -> Iterator[int]:
    """Serve the benchmark's application and give the port."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "BENCH_WATCHER": watcher, "BENCH_URL": url, "BENCH_FOLDER": folder}
        environ["SESSIONWATCH_TICK"] = "1.0"  # what is served for real is judged for real
        command = [sys.executable, "-m", "gunicorn", "--chdir", str(HERE), "--bind", f"127.0.0.1:{port}"]
        command += [
            "--worker-class",
            "gthread",
            "--threads",
            str(threads),
            "--log-level",
            "warning",
            "wsgi:app",
        ]
        with subprocess.Popen(command, env=environ) as server:
            try:
                _wait_for(port, server)
                yield port
            finally:
                server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not _answers(port):
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError("gunicorn did not start; its log says why")
        time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/one", timeout=2).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(port: int, path: str, connections: int, seconds: int) -> float:
    """Let wrk ask for *seconds* and return the requests per second."""
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
    )
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if found is None or "Non-2xx" in done.stdout:
        raise RuntimeError(f"wrk got no proper answers:\n{done.stdout}")
    return float(found[1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=names, default=["1", "2", "4", "8"], help="of each worker")
    parser.add_argument("--seconds", type=int, default=1, help="that wrk asks each time")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--database", default="postgresql")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
