"""How the cost of the watch grows with what is live, with what is found, and with who works.

    python benchmarks/growth.py [--quick] [CURVE ...]

Each curve is measured in a process of its own, on SQLite; benchmarks/results/growth.json has the points, and report.py makes
charts of them in docs/cost.md.
"""

from __future__ import annotations

import argparse
import contextlib
import contextvars
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import flask
import record
import sqlalchemy as sa
import workload
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch

Point: t.TypeAlias = "dict[str, float]"
#: The powers of ten up to a number.
LIVE = (1, 10, 100, 1_000, 10_000)
FINDINGS = (1, 10, 100, 1_000, 10_000, 100_000)
THREADS = (1, 2, 4, 8, 16, 32, 64)
GREENLETS = (1, 10, 100, 1_000)
_REPEATS = 15
_TOKEN = "of-the-benchmark"


# What each curve is made of


def live_checkouts(most: int) -> Iterator[Point]:
    """A tick, and a request, beside connections that are checked out in as many scopes."""
    with _watched_app() as (app, watch), contextlib.ExitStack() as held:
        engine = _unlimited_engine()
        live = 0
        workload.serve(app, "one", 200)
        for size in _up_to(LIVE, most):
            while live < size:
                held.enter_context(_held_session(watch, engine))
                live += 1
            watch.tick()
            yield {
                "live": size,
                "tick": _median(watch.tick),
                "request": _median(lambda: workload.serve(app, "one", 20)) / 20,
            }


def live_threads(most: int) -> Iterator[Point]:
    """A tick beside threads of which each holds a connection and waits."""
    with _watched_app() as (_, watch):
        engine = _unlimited_engine()
        over = threading.Event()
        try:
            live = 0
            for size in _up_to(LIVE[:-1], most):
                while live < size:
                    _start_holder(watch, engine, over)
                    live += 1
                watch.tick()
                yield {"live": size, "tick": _median(watch.tick)}
        finally:
            over.set()


def findings(most: int) -> Iterator[Point]:
    """Distinct findings: how long each takes to report, and the memory they fill."""
    from flask_sessionwatch.finding import Finding
    from flask_sessionwatch.observe.stack import Frame
    from flask_sessionwatch.observe.stack import Site

    with _watched_app() as (_, watch):
        dispatcher = watch._watched[0].dispatcher
        stack = tuple(Frame(__file__, line, "view", True) for line in range(20))

        def report(number: int) -> None:
            site = Site(f"view_{number}.py", 1, "view")
            dispatcher.report(
                Finding("SW101", "leaked-connection", "error", "It leaks.", site, stack, None, "")
            )

        reported = 0
        before = record.resident()
        for size in _up_to(FINDINGS, most):
            began_at = time.process_time()
            fresh = size - reported
            for number in range(reported, size):
                report(number)
            reported = size
            seconds = (time.process_time() - began_at) / fresh
            yield {
                "findings": size,
                "report": seconds,
                "tick": _median(watch.tick),
                "kept": len(watch.findings),
                "memory": record.resident() - before,
            }


def ended_scopes(most: int) -> Iterator[Point]:
    """A tick after as many requests have ended since the last one, which it has to count."""
    with _watched_app() as (app, watch):
        workload.serve(app, "one", 200)
        for size in _up_to((10, 100, 1_000, 10_000), most):
            spent = []
            for _ in range(3):
                watch.tick()
                workload.serve(app, "one", size)
                spent.append(_seconds(watch.tick))
            yield {"ended": size, "tick": statistics.median(spent)}


def scrape(most: int) -> Iterator[Point]:
    """A scrape of an application with as many endpoints, and ten engines."""
    with _watched_app() as (app, watch):
        engines = [_unlimited_engine() for n in range(10)]
        for size in _up_to((1, 10, 50, 100, 200), most):
            _use_endpoints(app, size, engines)
            watch.tick()
            with app.test_client() as client:
                yield {"endpoints": size, "scrape": _median(lambda: _scrape(client))}


def threads(most: int) -> Iterator[Point]:
    """A request's CPU time while as many threads serve, with and without the watch."""
    yield from _compared("thread", _up_to(THREADS, most))


def greenlets(most: int) -> Iterator[Point]:
    """A request's CPU time while as many greenlets serve, with and without the watch."""
    yield from _compared("greenlet", _up_to(GREENLETS, most))


CURVES: dict[str, tuple[Callable[[int], Iterator[Point]], int]] = {
    "live_checkouts": (live_checkouts, LIVE[-1]),
    "live_threads": (live_threads, 1_000),
    "findings": (findings, FINDINGS[-1]),
    "ended_scopes": (ended_scopes, 10_000),
    "scrape": (scrape, 200),
    "threads": (threads, THREADS[-1]),
    "greenlets": (greenlets, GREENLETS[-1]),
}


# Making things live


@contextlib.contextmanager
def _watched_app() -> Iterator[tuple[flask.Flask, SessionWatch]]:
    """Give a watched application, whose watchdog ticks when it is told to."""
    with tempfile.TemporaryDirectory(dir=workload.memory_folder(), ignore_cleanup_errors=True) as folder:
        app = workload.create_app(folder)
        app.config.update(SESSIONWATCH_TICK=3600.0, SESSIONWATCH_TOKEN=_TOKEN)
        watch = SessionWatch(app)
        workload.fill(app)
        # Findings are written, though nobody wants to read them here.
        logger = logging.getLogger("flask_sessionwatch")
        logger.propagate = False
        logger.addHandler(logging.FileHandler(os.devnull))
        yield app, watch


def _unlimited_engine() -> sa.Engine:
    """Return an engine that gives out as many connections as are asked for; each is a database in memory."""
    options = {"pool_size": 0, "max_overflow": -1}
    return sa.create_engine(
        "sqlite://", poolclass=sa.QueuePool, connect_args={"check_same_thread": False}, **options
    )


@contextlib.contextmanager
def _held_session(watch: SessionWatch, engine: sa.Engine) -> Iterator[None]:
    """Hold a connection in a scope of its own, as a request that is under way does."""
    context = contextvars.copy_context()
    scope = watch.scope(f"job {id(context)}")
    context.run(scope.__enter__)
    session = orm.Session(engine)
    context.run(session.connection)
    yield
    context.run(session.close)
    context.run(scope.__exit__, None, None, None)


def _start_holder(watch: SessionWatch, engine: sa.Engine, over: threading.Event) -> None:
    holds = threading.Event()

    def hold() -> None:
        with watch.scope("job"), orm.Session(engine) as session:
            session.connection()
            holds.set()
            over.wait()

    threading.Thread(target=hold, daemon=True).start()
    holds.wait()


def _use_endpoints(app: flask.Flask, size: int, engines: list[sa.Engine]) -> None:
    """Let *size* endpoints each use one of *engines* in a request."""
    for number in range(size):
        rule = f"/endpoint{number}"
        if app.view_functions.get(rule) is None:
            app._got_first_request = False
            app.add_url_rule(rule, rule, _view_using(engines[number % len(engines)]))
            app._got_first_request = True
        with app.test_client() as client:
            client.get(rule).close()


def _view_using(engine: sa.Engine) -> Callable[[], str]:
    def view() -> str:
        with orm.Session(engine) as session:
            return str(session.scalar(sa.select(1)))

    return view


def _scrape(client: t.Any) -> None:
    answer = client.get("/_sessionwatch/metrics", headers={"Authorization": f"Bearer {_TOKEN}"})
    assert answer.status_code == 200, answer.status
    answer.close()


# With and without


def _compared(kind: str, sizes: list[int]) -> Iterator[Point]:
    with contextlib.ExitStack() as stack:
        crews = {
            watcher: stack.enter_context(_crew(kind, watcher)) for watcher in ("nothing", "sessionwatch")
        }
        for size in sizes:
            rounds = [{watcher: _ask(crew, size) for watcher, crew in crews.items()} for _ in range(_REPEATS)]
            yield {
                f"{kind}s": size,
                **{watcher: statistics.median(each[watcher] for each in rounds) for watcher in crews},
            }


@contextlib.contextmanager
def _crew(kind: str, watcher: str) -> Iterator[subprocess.Popen[str]]:
    program = [sys.executable, str(Path(__file__).with_name("crew.py")), kind, watcher]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdin=pipe, stdout=pipe, text=True) as crew:
        assert crew.stdout is not None
        crew.stdout.readline()
        yield crew
        crew.terminate()


def _ask(crew: subprocess.Popen[str], size: int) -> float:
    assert crew.stdin is not None
    assert crew.stdout is not None
    crew.stdin.write(f"{size}\n")
    crew.stdin.flush()
    return float(crew.stdout.readline())


# Measuring


def _up_to(sizes: tuple[int, ...], most: int) -> list[int]:
    return [size for size in sizes if size <= most]


def _seconds(work: Callable[[], object]) -> float:
    began_at = time.thread_time()
    work()
    return time.thread_time() - began_at


def _median(work: Callable[[], object]) -> float:
    return statistics.median(_seconds(work) for _ in range(_REPEATS))


def main() -> int:
    """Measure the curves that are named, or all, each in a process of its own."""
    options = _options()
    if options.one:
        for point in CURVES[options.one][0](options.most):
            print(json.dumps(point), flush=True)
        return 0
    # Each curve is the same whether it is measured alone or with the others.
    about = {**record.about(["flask-sessionwatch", "gevent"]), "command": "python benchmarks/growth.py"}
    results: dict[str, t.Any] = {"about": about}
    results["curves"] = (record.read("growth") or {}).get("curves", {})
    for name in options.curves or CURVES:
        most = CURVES[name][1] // (10 if options.quick else 1)
        results["curves"][name] = _run(name, most)
        record.write("growth", results)
    return 0


def _run(name: str, most: int) -> list[Point]:
    print(f"\n{name}: {(CURVES[name][0].__doc__ or '').strip()}")
    command = [sys.executable, __file__, "--one", name, "--most", str(most)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    points = [json.loads(line) for line in done.stdout.splitlines()]
    for point in points:
        print("  " + "  ".join(_shown(key, value) for key, value in point.items()))
    return points


def _shown(key: str, value: float) -> str:
    if isinstance(value, int):
        return f"{key} {value:>7,}"
    if key == "memory":
        return f"{key} {value / 1e6:5.1f} MB"
    return f"{key} {value * 1e6:10,.1f} us"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("curves", nargs="*", metavar="CURVE", help=f"of {', '.join(CURVES)}")
    parser.add_argument("--quick", action="store_true", help="end each curve at a tenth")
    parser.add_argument("--one", choices=CURVES, help=argparse.SUPPRESS)
    parser.add_argument("--most", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
