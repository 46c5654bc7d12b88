"""Count the instructions of a request under valgrind's callgrind, with each watcher.

    python benchmarks/instructions.py [--cases one,ten] [--watchers nothing,sessionwatch] [--layouts 3]

Instructions are repeatable where seconds are not, as long as nothing moves in memory. Which attributes find no place in
CPython's method cache is chance, and moves a count by percents: looking those up is left out, for all alike, and each count is
the average over several layouts of the cache. `bench.py` shows them beside the seconds, and `budget.py` guards them.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import math
import os
import statistics
import sys
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

import callgrind
from watchers import OURS
from workload import CASES

HERE = Path(__file__).parent
REQUESTS = 20


class Job(t.NamedTuple):
    """One process: a watcher in one layout of memory, with one or several cases."""

    watcher: str
    layout: int
    cases: tuple[str, ...]
    database: str = "sqlite"
    #: Where the database is, unless it is a file.
    url: str = ""


class Count(t.NamedTuple):
    """What a request took in one process."""

    database: str
    watcher: str
    layout: int
    case: str
    #: Instructions of the request itself.
    request: float
    #: Those of them that are there by chance: for what had no place in CPython's method cache.
    missing: float
    #: Instructions that the watcher put off until later.
    later: float

    @property
    def steady(self) -> float:
        """Instructions of the request, less those by chance."""
        return self.request - self.missing


def count(job: Job, requests: int = REQUESTS) -> list[Count]:
    """Run *job* and return a count for each of its cases."""
    environ = {**os.environ, "PYTHONHASHSEED": "0", "BENCH_LAYOUT": str(job.layout)}
    if job.url:
        environ["BENCH_URL"] = job.url
    program = [str(HERE / "counted.py"), job.watcher, str(requests), *job.cases]
    stretches = callgrind.count(program, environ)
    return [
        Count(
            job.database,
            job.watcher,
            job.layout,
            case,
            request.instructions / requests,
            request.missing / requests,
            later.instructions / requests,
        )
        for case, request, later in zip(job.cases, stretches[::2], stretches[1::2], strict=False)
    ]


def count_all(jobs: Iterable[Job], requests: int = REQUESTS) -> Iterator[list[Count]]:
    """Run *jobs* on as many cores as there are, and give their counts out as they come."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        running = [pool.submit(count, job, requests) for job in jobs]
        try:
            for done in concurrent.futures.as_completed(running):
                yield done.result()
        finally:
            # After an error nobody waits for those that have not begun.
            pool.shutdown(cancel_futures=True)


def jobs_of(watchers: Sequence[str], cases: Sequence[str], layouts: int) -> list[Job]:
    """Interleave the *watchers*, so that a broken run has counted all of them in as many layouts."""
    return [Job(watcher, layout, tuple(cases)) for layout in range(layouts) for watcher in watchers]


class Mean(t.NamedTuple):
    """A mean, and the standard error of it."""

    value: float
    error: float

    def over(self, base: Mean) -> Mean:
        """Return by what share this is more than *base*."""
        ratio = self.value / base.value
        return Mean(ratio - 1, ratio * math.hypot(self.error / self.value, base.error / base.value))


def mean(values: Sequence[float]) -> Mean:
    """Return the mean of *values*."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Mean(statistics.mean(values), error)


def means(
    counts: Iterable[Count], database: str = "sqlite", *, whole: bool = False
) -> dict[tuple[str, str], Mean]:
    """Return the mean of a request over its layouts, by case and watcher.

    :param whole: also with what is there by chance.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for each in counts:
        if each.database == database:
            value = each.request if whole else each.steady
            found.setdefault((each.case, each.watcher), []).append(value)
    return {key: mean(values) for key, values in found.items()}


def main() -> int:
    """Print a table, all watchers beside each other."""
    if problem := callgrind.problem():
        print(problem, file=sys.stderr)
        return 1
    options = _options()
    counts: list[Count] = []
    for found in count_all(jobs_of(options.watchers, options.cases, options.layouts)):
        counts += found
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _print(means(counts), options.cases, options.watchers)
    return 0


def _print(found: dict[tuple[str, str], Mean], cases: Sequence[str], watchers: Sequence[str]) -> None:
    base, *others = watchers
    print(f"{'case':8}{base:>12}" + "".join(f"{watcher:>22}" for watcher in others))
    for case in cases:
        plain = found[case, base]
        shares = [found[case, watcher].over(plain) for watcher in others]
        print(
            f"{case:8}{plain.value:>12,.0f}"
            + "".join(f"{f'{s.value:+.1%} ± {s.error:.1%}':>22}" for s in shares)
        )


def names(text: str) -> list[str]:
    """Split an option that names several."""
    return [name for name in text.split(",") if name]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=names, default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument(
        "--watchers", type=names, default=list(OURS), help="the others are compared with the first"
    )
    parser.add_argument("--layouts", type=int, default=5, help="how many layouts of memory to average over")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
