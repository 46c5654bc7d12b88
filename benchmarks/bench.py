"""The cost of a request with each watcher, in CPU time and in instructions, in one interleaved run.

    python benchmarks/bench.py [--quick] [--cases one,ten] [--watchers nothing,sessionwatch,sentry] ...

CPU time: a process for each watcher, all on the same core, take turns in short slices; what counts is the median of many
rounds. Instructions: see instructions.py. Prints tables; benchmarks/results/bench.json has every figure, and report.py makes
docs/cost.md of them (not of those of --quick).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from pathlib import Path

import callgrind
import record
from instructions import Count
from instructions import Job
from instructions import count_all
from instructions import means
from instructions import names
from servers import Database
from servers import databases
from watchers import WATCHERS
from watchers import versions
from workload import CASES

HERE = Path(__file__).parent
#: Requests in a slice, so that each takes about a twentieth of a second.
SLICES = {"noquery": 200, "one": 80, "ten": 15, "write": 50, "stream": 50}
#: How one database, watcher and case came out: for each round the seconds of a request, and those put off.
Rounds: t.TypeAlias = "dict[tuple[str, str, str], list[tuple[float, float]]]"


def main() -> int:
    """Measure, print, and keep the results."""
    options = _options()
    watchers = [name for name in options.watchers if _is_here(name)]
    distributions = [each for name in watchers for each in versions(name) or ()]
    about = record.about(distributions)
    results: dict[str, t.Any] = {"about": about, "rounds": options.rounds, "seconds": [], "instructions": []}
    with databases(options.databases) as found:
        if options.rounds:
            _measure_seconds(results, found, watchers, options)
        if options.layouts and _can_count():
            _count_instructions(results, found, watchers, options)
    return 0


def _is_here(watcher: str) -> bool:
    if versions(watcher) is None:
        print(f"{watcher} is left out: {WATCHERS[watcher].distributions} is not installed", file=sys.stderr)
        return False
    return True


def _can_count() -> bool:
    problem = callgrind.problem()
    if problem:
        print(f"instructions are left out: {problem}", file=sys.stderr)
    return problem is None


# CPU time


def _measure_seconds(
    results: dict[str, t.Any], found: list[Database], watchers: list[str], options: argparse.Namespace
) -> None:
    rounds: Rounds = {}
    with contextlib.ExitStack() as stack:
        servers = {
            (database.name, watcher): stack.enter_context(_server(watcher, database.create()))
            for database in found
            for watcher in watchers
        }
        for number in range(options.rounds):
            for key, seconds in _one_round(servers, options.cases):
                rounds.setdefault(key, []).append(seconds)
            results["seconds"] = [_summary(*key, values) for key, values in rounds.items()]
            record.write(options.results, results)
            print(f"\rround {number + 1} of {options.rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for database in found:
        _print_seconds(results["seconds"], database.name, watchers, options.cases)


@contextlib.contextmanager
def _server(watcher: str, url: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "BENCH_CPU": str(_last_core())}
    if url:
        environ["BENCH_URL"] = url
    program = [sys.executable, str(HERE / "timed.py"), watcher]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, env=environ, text=True) as server:
        _answer(server)
        yield server
        server.terminate()


def _one_round(
    servers: dict[tuple[str, str], subprocess.Popen[str]], cases: list[str]
) -> Iterator[tuple[tuple[str, str, str], tuple[float, float]]]:
    """Give each case to every watcher in turn, before the next one."""
    for case in cases:
        for (database, watcher), server in servers.items():
            assert server.stdin is not None
            server.stdin.write(f"{case} {SLICES[case]}\n")
            server.stdin.flush()
            request, later = map(float, _answer(server).split())
            yield (database, case, watcher), (request, later)


def _answer(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    line = server.stdout.readline()
    if not line:
        raise RuntimeError(f"{server.args!r} ended early")
    return line


def _summary(database: str, case: str, watcher: str, values: list[tuple[float, float]]) -> dict[str, t.Any]:
    requests = [request for request, _ in values]
    quartiles = statistics.quantiles(requests, n=4) if len(requests) > 1 else requests * 3
    return {
        "database": database,
        "case": case,
        "watcher": watcher,
        "request": statistics.median(requests),
        "quartiles": [quartiles[0], quartiles[2]],
        "later": statistics.median(later for _, later in values),
    }


def _last_core() -> int:
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


def _print_seconds(
    rows: list[dict[str, t.Any]], database: str, watchers: list[str], cases: list[str]
) -> None:
    found = {(row["case"], row["watcher"]): row["request"] for row in rows if row["database"] == database}
    print(f"\nCPU time of a request, {database}")
    _print_table(watchers, {case: [found[case, each] * 1e6 for each in watchers] for case in cases}, "us")


# Instructions


def _count_instructions(
    results: dict[str, t.Any], found: list[Database], watchers: list[str], options: argparse.Namespace
) -> None:
    jobs = [
        Job(watcher, layout, tuple(options.cases), database.name, database.create())
        for layout in range(options.layouts)
        for database in found
        for watcher in watchers
    ]
    counted: list[Count] = []
    for number, counts in enumerate(count_all(jobs, options.requests)):
        counted += counts
        results["instructions"] = [each._asdict() for each in counted]
        record.write(options.results, results)
        print(f"\rprocess {number + 1} of {len(jobs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for database in found:
        mean = means(counted, database.name)
        print(f"\ninstructions of a request, {database.name}")
        rows = {case: [mean[case, each].value for each in watchers] for case in options.cases}
        _print_table(watchers, rows, "")


def _print_table(watchers: list[str], rows: dict[str, list[float]], unit: str) -> None:
    """Print a row for each case: the first figure as it is, the others by how much more they are."""
    print(f"{'case':8}{watchers[0]:>14}" + "".join(f"{each:>14}" for each in watchers[1:]))
    for case, (base, *others) in rows.items():
        first = f"{base:,.0f} {unit}".strip()
        print(f"{case:8}{first:>14}" + "".join(f"{each / base - 1:>+14.1%}" for each in others))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="SQLite, few rounds, one layout: a first look")
    parser.add_argument("--cases", type=names, default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--watchers", type=names, default=list(WATCHERS), help=f"of {', '.join(WATCHERS)}")
    parser.add_argument("--databases", type=names, help="of sqlite, postgresql")
    parser.add_argument("--rounds", type=int, help="rounds of CPU time; 0 for none")
    parser.add_argument("--layouts", type=int, help="layouts that instructions are counted in; 0 for none")
    parser.add_argument("--requests", type=int, default=20, help="requests that are counted in each layout")
    options = parser.parse_args()
    rounds, layouts, where = (8, 1, ["sqlite"]) if options.quick else (40, 3, ["sqlite", "postgresql"])
    options.rounds = rounds if options.rounds is None else options.rounds
    options.layouts = layouts if options.layouts is None else options.layouts
    options.databases = options.databases or where
    options.results = "quick" if options.quick else "bench"
    return options


if __name__ == "__main__":
    sys.exit(main())
