"""The memory that the watch takes in a process, and whether it stays the same.

    python benchmarks/memory.py [--requests 100000]

The same application serves the same mix of requests with and without it, each in a process of its own;
benchmarks/results/memory.json has the points, and report.py makes a chart of them in docs/cost.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import typing as t
from collections.abc import Iterator
from pathlib import Path

import record
import workload
from watchers import WATCHERS

#: What the watch may add, in bytes, and what it may grow by in all requests.
MOST = 12e6
MOST_GROWTH = 1e6
POINTS = 10
#: Requests between two ticks: about what a busy process serves in a second.
_TICK_AFTER = 500
_MIX = ("one", "one", "noquery", "write", "stream")
_PAIR = ("nothing", "sessionwatch")


def grow(watcher: str, requests: int) -> Iterator[dict[str, float]]:
    """Serve *requests* and tell the resident memory on the way."""
    with tempfile.TemporaryDirectory(dir=workload.memory_folder(), ignore_cleanup_errors=True) as folder:
        app = workload.create_app(folder)
        settle = WATCHERS[watcher].attach(app)
        workload.fill(app)
        served = 0
        for point in range(POINTS + 1):
            while served < max(1_000, point * requests // POINTS):
                for case in _MIX:
                    workload.serve(app, case, _TICK_AFTER // len(_MIX))
                served += _TICK_AFTER
                settle()
            gc.collect()
            yield {"requests": served, "resident": record.resident()}


def main() -> int:
    """Print the memory of both, and return 1 if it is too much or grows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--one", choices=WATCHERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        for point in grow(options.one, options.requests):
            print(json.dumps(point), flush=True)
        return 0
    points = {watcher: _run(watcher, options.requests) for watcher in _PAIR}
    record.write("memory", {"about": record.about(["flask-sessionwatch"]), "points": points})
    return _judge(points)


def _run(watcher: str, requests: int) -> list[dict[str, float]]:
    command = [sys.executable, str(Path(__file__)), "--one", watcher, "--requests", str(requests)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _judge(points: t.Mapping[str, list[dict[str, float]]]) -> int:
    plain, watched = (points[watcher] for watcher in _PAIR)
    added = [after["resident"] - before["resident"] for before, after in zip(plain, watched, strict=True)]
    for before, more in zip(plain, added, strict=True):
        print(
            f"{before['requests']:>8,} requests  {before['resident'] / 1e6:6.1f} MB  with the watch {more / 1e6:+5.1f} MB"
        )
    # The first point is before every cache is full.
    held = added[-1] <= MOST and added[-1] - added[1] <= MOST_GROWTH
    print(f"budget {MOST / 1e6:+.0f} MB, and flat: {'held' if held else 'BROKEN'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
