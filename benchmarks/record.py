"""Results on disk: written as they come, so that a broken run loses nothing, and read again by report.py."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import sys
import typing as t
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "results"
_ALWAYS = ("flask", "sqlalchemy", "flask-sqlalchemy", "psycopg")


def write(name: str, results: t.Mapping[str, t.Any]) -> None:
    """Keep *results* under *name*."""
    FOLDER.mkdir(exist_ok=True)
    fresh = FOLDER / f"{name}.json.new"
    fresh.write_text(json.dumps(results, indent=1) + "\n")
    fresh.replace(FOLDER / f"{name}.json")


def read(name: str) -> dict[str, t.Any] | None:
    """Return what was kept under *name*, or None."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def about(distributions: Iterable[str] = ()) -> dict[str, t.Any]:
    """Say what was measured, where and how."""
    return {
        "date": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "command": f"python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}",
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": _versions([*_ALWAYS, *distributions]),
    }


def _versions(distributions: Iterable[str]) -> dict[str, str]:
    here = {_normal(each.metadata["Name"]): each for each in importlib.metadata.distributions()}
    found = {name: here.get(_normal(name)) for name in distributions}
    return {name: each.version for name, each in found.items() if each is not None}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def resident() -> int:
    """Return the bytes of memory that this process has in use, 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
