"""Count the instructions of a request, with and without flask_sessionwatch.

    python benchmarks/instructions.py [CASE ...]

Runs workload.py under valgrind's callgrind for 20 requests and for 20 + N, and divides the difference by N: what
remains is the request alone. Instructions are repeatable where seconds are not, as long as nothing moves in memory.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from workload import CASES
from workload import WATCHERS

HERE = Path(__file__).parent
WARM_UP = 20
REQUESTS = 100
#: Runs that differ in where CPython caches its methods, which is chance and moves a count by several percent.
LAYOUTS = 5


def count(case: str, watcher: str, requests: int, layout: int = 0) -> int:
    """Return the instructions of one whole process."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += [str(HERE / "workload.py"), case, watcher, str(requests)]
    environ = {**os.environ, "PYTHONHASHSEED": "0", "BENCH_LAYOUT": str(layout)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def per_request(case: str, watcher: str) -> float:
    """Return the instructions of one request, on the average of several layouts of memory."""
    return statistics.mean(
        (count(case, watcher, WARM_UP + REQUESTS, layout) - count(case, watcher, WARM_UP, layout)) / REQUESTS
        for layout in range(LAYOUTS)
    )


def main(cases: list[str]) -> int:
    """Print a table of *cases*, all watchers beside each other."""
    if problem := _problem(cases):
        print(problem, file=sys.stderr)
        return 1
    pairs = [(case, watcher) for case in cases for watcher in WATCHERS]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(pairs, pool.map(lambda pair: per_request(*pair), pairs), strict=True))
    print(f"{'case':8}{'plain':>12}" + "".join(f"{watcher:>14}" for watcher in WATCHERS[1:]))
    for case in cases:
        plain = found[case, "nothing"]
        shares = (found[case, watcher] / plain - 1 for watcher in WATCHERS[1:])
        print(f"{case:8}{plain:>12,.0f}" + "".join(f"{share:>+14.1%}" for share in shares))
    return 0


def _problem(cases: list[str]) -> str | None:
    if shutil.which("valgrind") is None:
        return "valgrind does the counting and is not here; on Debian and Ubuntu it is the package 'valgrind'"
    if unknown := sorted({*cases} - {*CASES}):
        return f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(CASES)))
