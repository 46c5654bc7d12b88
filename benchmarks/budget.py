"""Fail when a request costs more than its budget.

    python benchmarks/budget.py [--cases one,ten] [--layouts 2]

Instructions with every default rule on, less those without any watcher, on SQLite; see instructions.py.
"""

from __future__ import annotations

import argparse
import sys
import time

import callgrind
from instructions import Mean
from instructions import count_all
from instructions import jobs_of
from instructions import means
from instructions import names

#: What a request may cost more with the watcher than without.
BUDGET = {"noquery": 0.12, "one": 0.05, "ten": 0.03, "write": 0.05}
REQUESTS = 10


def main() -> int:
    """Print what each case costs, and return 1 if a budget is broken."""
    if problem := callgrind.problem():
        print(problem, file=sys.stderr)
        return 1
    options = _options()
    jobs = jobs_of(("nothing", "sessionwatch"), options.cases, options.layouts)
    began_at = time.monotonic()
    counted = (count for counts in count_all(jobs, REQUESTS) for count in counts)
    found = means(counted)
    held = [_judge(case, found[case, "nothing"], found[case, "sessionwatch"]) for case in options.cases]
    print(f"{len(jobs)} processes, {time.monotonic() - began_at:.0f} s")
    return 0 if all(held) else 1


def _judge(case: str, plain: Mean, watched: Mean) -> bool:
    share = watched.over(plain)
    # What the layouts differ by is no reason to say that it is broken.
    held = share.value - share.error <= BUDGET[case]
    print(
        f"{case:8}{plain.value:>12,.0f} -> {watched.value:>12,.0f}  {share.value:+6.1%} ± {share.error:.1%}"
        f"  limit {BUDGET[case]:+.0%} {'held' if held else 'BROKEN'}",
        flush=True,
    )
    return held


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=names, default=list(BUDGET), help=f"of {', '.join(BUDGET)}")
    parser.add_argument("--layouts", type=int, default=2, help="how many layouts of memory to average over")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
