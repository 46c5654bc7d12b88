"""Make docs/cost.md and its charts of what the benchmarks have kept in benchmarks/results.

    python benchmarks/report.py

A part whose benchmark has not run is left out.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

import chart
import memory
import record
from budget import BUDGET
from instructions import Count
from instructions import means
from throughput import LEAST
from watchers import WATCHERS
from workload import CASES

DOCS = Path(__file__).resolve().parents[1] / "docs"
CHARTS = DOCS / "cost"
_WIDTH = 112

_INTRODUCTION = """\
# What it costs

Made by `make bench-all`; `make bench` measures the requests alone. Whoever runs them gets this page with the figures of their machine.

Three things cost: what runs inside a request, which is the first part of this page and has a budget; what the watchdog does later
on its own thread, for each request and for what is live; and what a scraper or a reader of the pages asks for.
"""
_REQUESTS = """\
## A request, beside the peers

Every row is the same application in a process of its own, called as a server calls it, and set up as its documentation
says. `no-op listeners` are those of flask_sessionwatch with nothing in them: the least that any watcher of this kind costs.
flask_sessionwatch runs with every default rule; `no stacks` is SESSIONWATCH_STACK_DEPTH=0.
"""
_INSTRUCTIONS = """\
Instructions are those of the thread that serves the request, as valgrind's callgrind counts them. They say the same on a busy
machine and on an idle one. What moves them, by percents, is which attributes happen to find no place in CPython's method cache:
looking those up is left out, for every watcher alike, and each figure is a mean over {layouts} layouts of the cache.
"""
_SECONDS = """\
CPU time is that of the thread that serves the request: the median of {rounds} short slices for each, in turns, on one core. It has
garbage collection in it, which is off while instructions are counted.
"""
_GROWTH = """\
## How it grows

All of these are medians on SQLite, in CPU time. What is done at a tick is done on the watchdog's thread, once in
SESSIONWATCH_TICK seconds, and not in a request.
"""


def main() -> int:
    """Write the page."""
    CHARTS.mkdir(exist_ok=True)
    parts = [_INTRODUCTION, *_requests(), *_growth(), *_memory(), *_throughput()]
    page = DOCS / "cost.md"
    page.write_text("\n".join(part.rstrip() + "\n" for part in parts))
    print(page.relative_to(DOCS.parent))
    return 0


# A request


def _requests() -> Iterator[str]:
    results = record.read("bench")
    if results is None:
        return
    yield _REQUESTS
    yield _about(results["about"])
    counts = [Count(**each) for each in results["instructions"]]
    if counts:
        yield _INSTRUCTIONS.format(layouts=len({each.layout for each in counts}))
        yield from _instructions(counts)
    if results["seconds"]:
        yield _SECONDS.format(rounds=results["rounds"])
        for database in dict.fromkeys(row["database"] for row in results["seconds"]):
            rows = {
                (row["case"], row["watcher"]): row["request"] * 1e6
                for row in results["seconds"]
                if row["database"] == database
            }
            yield _table_of(f"CPU time, {_title(database)}", rows, "{:,.0f} µs")


def _instructions(counts: list[Count]) -> Iterator[str]:
    for database in dict.fromkeys(each.database for each in counts):
        values = _values(counts, database)
        yield _table_of(f"Instructions, {_title(database)}", values, "{:,.0f}")
        if database == "sqlite":
            yield _chart(
                "request", _request_chart(values), "Instructions of a request with one query, by watcher"
            )
            whole = _values(counts, database, whole=True)
            yield "Budget, with every default rule on; the last column has all instructions, those by chance as well:"
            yield _rows(
                ["request", "measured", "budget", "all instructions"],
                (
                    [
                        CASES[case],
                        _share(values[case, "sessionwatch"], values[case, "nothing"]),
                        f"{most:+.0%}",
                        _share(whole[case, "sessionwatch"], whole[case, "nothing"]),
                    ]
                    for case, most in BUDGET.items()
                    if (case, "sessionwatch") in values
                ),
            )


def _values(counts: list[Count], database: str, *, whole: bool = False) -> dict[tuple[str, str], float]:
    return {key: mean.value for key, mean in means(counts, database, whole=whole).items()}


def _request_chart(values: dict[tuple[str, str], float]) -> str:
    base = values["one", "nothing"]
    rows = {
        WATCHERS[watcher].title: max(0.0, value / base - 1)
        for (case, watcher), value in values.items()
        if case == "one" and watcher != "nothing"
    }
    return chart.bars("One query: instructions more than without", rows, "{:+.1%}".format)


def _table_of(title: str, values: dict[tuple[str, str], float], plain: str) -> str:
    watchers = [each for each in WATCHERS if any(each == watcher for _, watcher in values)]
    rows = []
    for watcher in watchers:
        cells = []
        for case in CASES:
            value, base = values.get((case, watcher)), values.get((case, "nothing"))
            if value is None or base is None:
                cells.append("")
            else:
                cells.append(plain.format(value) if watcher == "nothing" else _share(value, base))
        rows.append([WATCHERS[watcher].title, *cells])
    return f"### {title}\n\n" + _rows([" ", *CASES.values()], rows)


def _share(value: float, base: float) -> str:
    return f"{value / base - 1:+.1%}"


# What grows


def _growth() -> Iterator[str]:
    results = record.read("growth")
    if results is None:
        return
    yield _GROWTH
    yield _about(results["about"])
    found: dict[str, list[dict[str, float]]] = results["curves"]
    for name, (title, x, ys, text) in _CURVES.items():
        if found.get(name):
            lines = [chart.Curve(label, [(p[x], p[y]) for p in found[name]]) for y, label in ys.items()]
            x_title = x.replace("_", " ")
            yield f"### {title}\n\n{text}"
            yield _chart(name, chart.curves(title, lines, x_title, _time), title)
            yield _rows(
                [x_title, *ys.values()], ([f"{p[x]:,}", *(_time(p[y]) for y in ys)] for p in found[name])
            )
            if name == "ended_scopes":
                yield f"The last two points differ by {_time(_slope(found[name], x, 'tick'))} for each request."


def _slope(points: list[dict[str, float]], x: str, y: str) -> float:
    before, last = points[-2:]
    return (last[y] - before[y]) / (last[x] - before[x])


#: The title of each curve, what it grows with, what grows and what it is called, and what there is to say.
_CURVES: dict[str, tuple[str, str, dict[str, str], str]] = {
    "live_checkouts": (
        "Connections that are checked out",
        "live",
        {"tick": "a tick", "request": "a request beside them"},
        "A request costs the same, whatever else is live. A tick looks at everything; the budget is 5 ms for 1,000.",
    ),
    "live_threads": (
        "Threads that hold a connection",
        "live",
        {"tick": "a tick"},
        "The same with a thread for each, whose stacks a tick can look at.",
    ),
    "findings": (
        "Distinct findings",
        "findings",
        {"report": "to report one", "tick": "a tick"},
        "1,000 are kept, and the oldest go first.",
    ),
    "ended_scopes": (
        "Requests that have ended since the last tick",
        "ended",
        {"tick": "a tick"},
        "A tick counts them, and learns from them how the application works. Each has left three records.",
    ),
    "scrape": (
        "A scrape",
        "endpoints",
        {"scrape": "a scrape"},
        "With ten engines. The budget is 20 ms for 200 endpoints.",
    ),
    "threads": (
        "Threads that serve",
        "threads",
        {"nothing": "a request without", "sessionwatch": "a request with flask_sessionwatch"},
        "One query; CPU time of all threads by request.",
    ),
    "greenlets": (
        "Greenlets that serve",
        "greenlets",
        {"nothing": "a request without", "sessionwatch": "a request with flask_sessionwatch"},
        "The same under gevent.",
    ),
}


# Memory and throughput


def _memory() -> Iterator[str]:
    results = record.read("memory")
    if results is None:
        return
    plain, watched = results["points"]["nothing"], results["points"]["sessionwatch"]
    yield "## Memory\n"
    yield f"Resident memory of a process that serves a mix of requests. The budget is {memory.MOST / 1e6:.0f} MB, and flat."
    yield _about(results["about"])
    yield _rows(
        ["requests", "without", "with", "more"],
        (
            [
                f"{a['requests']:,}",
                f"{a['resident'] / 1e6:.1f} MB",
                f"{b['resident'] / 1e6:.1f} MB",
                f"{(b['resident'] - a['resident']) / 1e6:+.1f} MB",
            ]
            for a, b in zip(plain, watched, strict=True)
        ),
    )


def _throughput() -> Iterator[str]:
    results = record.read("throughput")
    if results is None:
        return
    rows = results["rows"]
    judged = [row for row in rows if row["application"] == "shop"]
    reached = sum(row["ratio"] + row["error"] >= LEAST for row in judged)
    yield "## Throughput\n"
    yield (
        "Requests per second that `wrk` gets from one gunicorn worker on PostgreSQL, with and without the watch in turns: "
        "medians, and the mean of the ratios over several such pairs of servers with its standard error. Where wrk can have another, the worker has one core. "
        f"The pages are those of the demo's shop that have no bug. The aim for them is a ratio of {LEAST}, which "
        f"{reached} of {len(judged)} reach within that error."
    )
    yield _about(results["about"])
    yield _rows(
        ["application", "request", "threads", "without", "with", "ratio"],
        (
            [
                row["application"],
                row["asked"],
                str(row["threads"]),
                f"{row['nothing']:,.0f}",
                f"{row['sessionwatch']:,.0f}",
                f"{row['ratio']:.3f} ± {row['error']:.3f}",
            ]
            for row in rows
        ),
    )


# Words and tables


def _about(about: dict[str, t.Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return f"{about['date']}, {about['machine']}, {about['python']}: `{about['command']}`\n\n{versions}"


def _title(database: str) -> str:
    return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(database, database)


def _time(seconds: float) -> str:
    if seconds >= 1.0:
        return f"{seconds:,.3g} s"
    return f"{seconds * 1e3:,.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:,.3g} µs"


def _chart(name: str, svg: str, words: str) -> str:
    (CHARTS / f"{name}.svg").write_text(svg)
    return f"![{words}](cost/{name}.svg)"


def _rows(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
