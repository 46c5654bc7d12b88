"""The applications that throughput.py has gunicorn serve; BENCH_WATCHER, BENCH_URL and BENCH_FOLDER set the bare one up."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import flask
from watchers import WATCHERS
from workload import create_app
from workload import fill


def bare() -> flask.Flask:
    """Make the benchmarks' application, whose requests do next to nothing."""
    app = create_app(os.environ["BENCH_FOLDER"], os.environ.get("BENCH_URL", ""), {"pool_size": 20})
    WATCHERS[os.environ["BENCH_WATCHER"]].attach(app)
    fill(app)
    return app


def shop() -> flask.Flask:
    """Make the shop of the demo, without the worker that writes beside its requests."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "leaky_shop"))
    from shop import create_app as create_shop

    return create_shop()
