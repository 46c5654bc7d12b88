"""The metrics of all workers, where prometheus_client keeps them in files: a folder that PROMETHEUS_MULTIPROC_DIR names."""

from __future__ import annotations

import contextlib
import os
import re

from prometheus_client import CollectorRegistry
from prometheus_client import multiprocess
from prometheus_client import values

from ..store.worker import is_over

#: The file of what is live in one process.
_LIVE = re.compile(r"gauge_live[a-z]*_(\d+)\.db")


def shown_registry(own: CollectorRegistry) -> CollectorRegistry:
    """Return the registry to show: the files of all workers where there are such, or else *own*."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    # Where it was set after prometheus_client was imported, there are no files.
    if not folder or values.ValueClass is values.MutexValue:
        return own
    with contextlib.suppress(OSError):
        forget_dead(folder)
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together


def forget_dead(folder: str) -> None:
    """Drop what is said to be live in processes that are over; what they have counted stays.

    gunicorn's hook does this as soon as a worker ends. Elsewhere, nobody else does.
    """
    pids = {int(found[1]) for found in map(_LIVE.fullmatch, os.listdir(folder)) if found}
    # Somebody may have them named by other numbers than those of processes.
    if os.getpid() in pids:
        for pid in filter(is_over, pids):
            with contextlib.suppress(FileNotFoundError):  # another worker does the same
                multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]
