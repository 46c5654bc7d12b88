"""One process of the benchmark: tell the CPU seconds of requests.

    python timed.py WATCHER

Reads lines "CASE REQUESTS" and answers each with two numbers: the CPU seconds of a request on the thread that serves it, and
those that the watcher has spent beside it or put off until later. BENCH_URL in the environment chooses a database, BENCH_CPU a core.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import typing as t

import flask
from watchers import WATCHERS
from workload import CASES
from workload import create_app
from workload import fill
from workload import memory_folder
from workload import serve

WARM_UP = 100


def main(watcher: str) -> None:
    """Answer lines until there are no more."""
    if "BENCH_CPU" in os.environ and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(os.environ["BENCH_CPU"])})
    with tempfile.TemporaryDirectory(dir=memory_folder(), ignore_cleanup_errors=True) as folder:
        app = create_app(folder, os.environ.get("BENCH_URL", ""))
        settle = WATCHERS[watcher].attach(app)
        fill(app)
        for case in CASES:
            serve(app, case, WARM_UP)
        settle()
        print("ready", flush=True)
        for line in sys.stdin:
            case, requests = line.split()
            print(*_measure(app, settle, case, int(requests)), flush=True)


def _measure(
    app: flask.Flask, settle: t.Callable[[], object], case: str, requests: int
) -> tuple[float, float]:
    """Return the CPU seconds of a request on this thread, and of everything else this process does for it."""
    began_at, all_began_at = time.thread_time(), time.process_time()
    serve(app, case, requests)
    served = time.thread_time() - began_at
    settle()
    everything = time.process_time() - all_began_at
    return served / requests, (everything - served) / requests


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1])
