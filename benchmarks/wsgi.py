"""The benchmark's application for a server; BENCH_WATCHER, BENCH_URL and BENCH_FOLDER in the environment set it up."""

from __future__ import annotations

import os

from watchers import WATCHERS
from workload import create_app
from workload import fill

app = create_app(os.environ["BENCH_FOLDER"], os.environ.get("BENCH_URL", ""), {"pool_size": 20})
WATCHERS[os.environ["BENCH_WATCHER"]].attach(app)
fill(app)
