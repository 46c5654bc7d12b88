"""Hooks for gunicorn's configuration file.

::

    # gunicorn.conf.py
    from flask_sessionwatch.integrations.gunicorn import child_exit, post_worker_init

Everything works without them, too; with them it is seen sooner. They import the package in gunicorn's own process, and
prometheus_client with it. So PROMETHEUS_MULTIPROC_DIR has to be in the environment when gunicorn starts; in its ``raw_env`` it
would come too late.
"""

from __future__ import annotations

import os
import typing as t

from prometheus_client import multiprocess

from ..extension import show_process


def post_worker_init(worker: t.Any) -> None:
    """Show a worker as soon as it has started, and not when it has its first request."""
    show_process()


def child_exit(server: t.Any, worker: t.Any) -> None:
    """Take what was live in a worker out of the metrics as soon as it has ended; what it has counted stays."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
