"""What is live, as tables: the workers, their pools, and who holds connections."""

from __future__ import annotations

import shutil

from ..store.base import Data
from ..store.pools import merged_pools
from .output import Cell
from .output import place
from .output import plural
from .output import table

HOLDER_HEAD = ("held s", "engine", "scope", "site", "doing", "thread", "worker")
#: Lines of a screen that are not for holders, beside one for each pool.
_AROUND = 8


#: What is told of a pool.
_POOL = ("name", "dialect", "used", "max", "idle", "waiting", "oldest_age_seconds", "workers")


def pools(live: Data) -> list[Data]:
    """Return the engines of all workers together, those of one name as one."""
    return [{name: pool[name] for name in _POOL} for pool in merged_pools(live["engines"], (), ())]


POOL_HEAD = ("engine", "used", "max", "idle", "waiting", "oldest s", "workers")


def pool_row(pool: Data) -> list[Cell]:
    """Return the cells of a pool, in the order of :data:`POOL_HEAD`."""
    return [pool[name] for name in _POOL if name != "dialect"]


def workers_of(live: Data) -> str:
    """Say how many workers are seen."""
    workers = live["workers"]
    if not workers:
        return "No worker is seen: none runs, or none has begun to work."
    hosts = {each["host"] for each in workers}
    return f"{plural(len(workers), 'worker')} on {plural(len(hosts), 'host')}"


def as_tables(live: Data, limit: int | None) -> str:
    """Return a look as text."""
    together = pools(live)
    shown, left_out = holders(live, limit, together)
    parts = [workers_of(live), table(POOL_HEAD, map(pool_row, together)), table(HOLDER_HEAD, shown)]
    return "\n\n".join(parts) + (f"\n{left_out}" if left_out else "")


def holders(live: Data, limit: int | None, together: list[Data]) -> tuple[list[list[Cell]], str]:
    """Return the cells of the check-outs that are held for the longest, and how many there are beside."""
    most = limit or max(shutil.get_terminal_size().lines - _AROUND - len(together), 5)
    number = len(live["checkouts"]) + live["omitted"]["checkouts"]
    rows = [_holder_row(each) for each in live["checkouts"][:most]]
    left_out = number - len(rows)
    return rows, f"and {plural(left_out, 'other')}" if left_out else ""


def _holder_row(checkout: Data) -> list[Cell]:
    return [
        checkout["age_seconds"],
        checkout["engine"],
        checkout["scope"],
        place(checkout["site"]),
        "leaked" if checkout["leaked"] else checkout["doing"],
        checkout["thread"],
        f"{checkout['host']}:{checkout['pid']}",
    ]
