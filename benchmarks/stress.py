"""Millions of events from all sides at once: no deadlock, and no record is lost.

    python benchmarks/stress.py [--events 10000000] [PHASE ...]

Each phase runs in a process of its own, with faulthandler on, which writes down where everybody is when nothing has moved for a
minute. In the end the watch must have counted every check-out, every connection, every transaction and every scope that there was,
by the count of listeners that know nothing of it; it must hold nothing, and must not have failed once.
benchmarks/results/stress.json has the figures. Exit status 1 if a single record is missing.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1:3] == ["--one", "greenlets"]:
    from gevent import monkey

    monkey.patch_all()

import argparse
import asyncio
import contextlib
import contextvars
import faulthandler
import gc
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import flask
import prometheus_client
import record
import sqlalchemy as sa
import workload
from sqlalchemy import event
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch
from flask_sessionwatch import extension

EVENTS = 10_000_000
#: Seconds without any progress after which a phase is taken to hang.
_PATIENCE = 60
_CONNECTIONS = 48
_ONE = sa.text("SELECT 1")
#: What is listened to besides the watch, where, and whether the watch counts it in the end.
_HEARD: tuple[tuple[t.Any, tuple[str, ...]], ...] = (
    (sa.Pool, ("connect", "checkout", "checkin")),
    (sa.Engine, ("do_execute",)),
    (
        orm.Session,
        (
            "after_transaction_create",
            "after_begin",
            "after_commit",
            "after_rollback",
            "after_transaction_end",
        ),
    ),
)


class Truth:
    """Counts every event, without a lock and without the watch."""

    def __init__(self) -> None:
        self._counts = {name: itertools.count() for name in ("root", "scope")}
        for target, names in _HEARD:
            for name in names:
                self._counts[name] = itertools.count()
                event.listen(target, name, self._counter(name))

    def _counter(self, name: str) -> Callable[..., None]:
        count, root = self._counts[name].__next__, self._counts["root"].__next__

        def heard(*args: t.Any) -> None:
            count()
            if name == "after_transaction_create" and args[1].parent is None:
                root()

        return heard

    def scope(self) -> None:
        """Count a scope."""
        next(self._counts["scope"])

    def told(self) -> dict[str, int]:
        """Return all counts."""
        # An iterator of this kind shows its next number without taking it.
        return {name: int(repr(count)[6:-1]) for name, count in self._counts.items()}

    @property
    def events(self) -> int:
        """How many events there were."""
        return sum(number for name, number in self.told().items() if name not in ("root", "scope"))


class Stage:
    """What a phase works with: a watched process, and an engine whose every connection is a database of its own.

    :param events: how many events there are to be.
    """

    def __init__(self, events: int) -> None:
        self._most = events
        self.truth = Truth()
        self.engine = sa.create_engine(
            "sqlite://",
            poolclass=sa.QueuePool,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=600,
            connect_args={"check_same_thread": False},
        )
        self.app = flask.Flask("stress")
        self.app.config["SESSIONWATCH_STORE"] = "memory:"
        self.registry = prometheus_client.CollectorRegistry()
        self.watch = SessionWatch(self.app, sinks=[], registry=self.registry)
        self._alive_at = 0.0

    def is_on(self) -> bool:
        """Whether there are events to come; tells faulthandler that something moves."""
        if time.monotonic() - self._alive_at > 1:
            self._alive_at = time.monotonic()
            faulthandler.dump_traceback_later(_PATIENCE, exit=True)
        return self.truth.events < self._most

    def work(self, cycles: int = 4) -> None:
        """Do some of everything that leaves nothing behind."""
        for number in range(cycles):
            _CYCLES[number % len(_CYCLES)](self)

    def until_over(self) -> None:
        """Work for as long as there are events to come."""
        while self.is_on():
            self.work()

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Run a block as a scope."""
        self.truth.scope()
        with self.watch.scope("job"):
            yield


def _commit(stage: Stage) -> None:
    with stage.scope(), orm.Session(stage.engine) as session:
        session.execute(_ONE)
        session.commit()


def _read(stage: Stage) -> None:
    with orm.Session(stage.engine) as session:
        session.execute(_ONE)


def _nest(stage: Stage) -> None:
    with orm.Session(stage.engine) as session:
        with session.begin_nested():
            session.execute(_ONE)
        session.rollback()


def _core(stage: Stage) -> None:
    with stage.scope(), stage.engine.connect() as connection:
        connection.execute(_ONE)


_CYCLES = (_commit, _read, _nest, _core)


# The phases: what happens at once, and which share of the events it makes


def threads(stage: Stage) -> None:
    """64 threads, which wait for 48 connections."""
    _run_all([threading.Thread(target=stage.until_over) for _ in range(64)])


def greenlets(stage: Stage) -> None:
    """1,000 greenlets of gevent, which wait for 48 connections; others run during every statement."""
    import gevent

    event.listen(stage.engine, "do_execute", lambda *_: gevent.sleep(0))
    gevent.joinall([gevent.spawn(stage.until_over) for _ in range(1_000)], raise_error=True)


def async_views(stage: Stage) -> None:
    """Async views on eight threads, each with four tasks that take turns."""

    @stage.app.get("/")
    async def view() -> str:
        async def task() -> None:
            with orm.Session(stage.engine) as session:
                session.execute(_ONE)
                await asyncio.sleep(0)
                session.commit()

        await asyncio.gather(*(task() for _ in range(4)))
        return "ok"

    def serve() -> None:
        while stage.is_on():
            stage.truth.scope()
            workload.serve(stage.app, "", 1)

    _run_all([threading.Thread(target=serve) for _ in range(8)])


def executors(stage: Stage) -> None:
    """Eight scopes that hand their work, with its context, to 32 threads of a pool."""
    with ThreadPoolExecutor(32) as pool:

        def hand_out() -> None:
            while stage.is_on():
                with stage.scope():
                    jobs = [pool.submit(contextvars.copy_context().run, stage.work) for _ in range(8)]
                    for job in jobs:
                        job.result()

        _run_all([threading.Thread(target=hand_out) for _ in range(8)])


def collections(stage: Stage) -> None:
    """A garbage collection at every allocation, on four threads that forget one session in four."""

    def forget() -> None:
        while stage.is_on():
            stage.work(3)
            orm.Session(stage.engine).execute(_ONE)

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        _run_all([threading.Thread(target=forget) for _ in range(4)])
    finally:
        gc.set_threshold(*before)
        gc.collect()


def signals(stage: Stage) -> None:
    """A signal every millisecond, whose handler uses a session wherever it interrupts, beside four threads."""
    # To make a Session, or to open a connection, takes a lock of SQLAlchemy's own, which the handler would wait for in vain.
    own = orm.Session(stage.engine)
    inside = False
    with contextlib.ExitStack() as opened:
        for _ in range(_CONNECTIONS):
            opened.enter_context(stage.engine.connect())

    def handle(*_: object) -> None:
        nonlocal inside
        if not inside:
            inside = True
            own.execute(_ONE)
            own.commit()
            inside = False

    crew = [threading.Thread(target=stage.until_over) for _ in range(4)]
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for thread in crew:
            thread.start()
        stage.until_over()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        for thread in crew:
            thread.join()


def forks(stage: Stage) -> None:
    """Forks in the middle of a scope that holds a connection, beside eight threads; each child works and counts by itself."""
    event.listen(stage.engine, "do_connect", _connect_guarded)
    crew = [threading.Thread(target=stage.until_over) for _ in range(8)]
    for thread in crew:
        thread.start()
    own = orm.Session(stage.engine)
    while stage.is_on():
        with stage.scope(), orm.Session(stage.engine) as session:
            session.execute(_ONE)
            with _in_sqlite:
                child = os.fork()
            if child == 0:
                _live_as_child(stage, own)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status == 0, f"a child ended with status {status}"
            session.commit()
        time.sleep(0.02)
    for thread in crew:
        thread.join()


#: SQLite has locks that a child waits for in vain if a thread of its parent had one: at a fork nobody may be inside of it.
_in_sqlite = threading.Lock()


def _guarded(method: Callable[..., t.Any]) -> Callable[..., t.Any]:
    def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
        with _in_sqlite:
            return method(*args, **kwargs)

    return call


class _Cursor(sqlite3.Cursor):
    execute = _guarded(sqlite3.Cursor.execute)
    fetchall = _guarded(sqlite3.Cursor.fetchall)
    fetchone = _guarded(sqlite3.Cursor.fetchone)
    close = _guarded(sqlite3.Cursor.close)


class _Connection(sqlite3.Connection):
    commit = _guarded(sqlite3.Connection.commit)
    rollback = _guarded(sqlite3.Connection.rollback)
    close = _guarded(sqlite3.Connection.close)

    def cursor(self, factory: t.Any = _Cursor) -> t.Any:
        return super().cursor(factory)


def _connect_guarded(_dialect: object, _record: object, args: t.Any, kwargs: t.Any) -> sqlite3.Connection:
    with _in_sqlite:
        return sqlite3.connect(*args, **kwargs, factory=_Connection)


def _live_as_child(stage: Stage, own: orm.Session) -> t.NoReturn:
    """Work, and end with status 0 if all of it and nothing else was counted.

    :param own: a Session that was made before. To make one takes a lock of SQLAlchemy's, which a thread that did not come along may hold.
    """
    # Not by faulthandler's thread: it did not come along either, and is waited for whenever its time is set.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(_PATIENCE)
    try:
        stage.engine.dispose(close=False)
        before, counted = stage.truth.told(), _counted(stage)
        for _ in range(10):
            _core(stage)
            own.execute(_ONE)
            own.commit()
        after, now = stage.truth.told(), _counted(stage)
        same = all(
            now[name] - counted[name] == after[name] - before[name] for name in ("checkout", "root", "scope")
        )
        os._exit(0 if same and not extension._process.ledger.internal_errors else 1)
    finally:
        os._exit(2)


PHASES: dict[str, tuple[Callable[[Stage], None], float]] = {
    "threads": (threads, 0.65),
    "greenlets": (greenlets, 0.1),
    "executors": (executors, 0.1),
    "signals": (signals, 0.05),
    "forks": (forks, 0.05),
    "collections": (collections, 0.03),
    "async_views": (async_views, 0.02),
}


def _run_all(crew: list[threading.Thread]) -> None:
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()


def _counted(stage: Stage) -> dict[str, float]:
    """What the watch has counted: what has ended, and what is open still."""
    extension._process.count()
    totals: dict[str, float] = dict.fromkeys(("connect", "checkout", "root", "scope"), 0.0)
    names = {
        "sessionwatch_connection_create_seconds_count": "connect",
        "sessionwatch_connection_use_seconds_count": "checkout",
        "sessionwatch_session_duration_seconds_count": "root",
        "sessionwatch_scopes_total": "scope",
    }
    for metric in stage.registry.collect():
        for sample in metric.samples:
            if sample.name in names:
                totals[names[sample.name]] += sample.value
    totals["checkout"] += len(extension._process.ledger.checkouts)
    totals["root"] += len(extension._process.ledger.transactions)
    return totals


def play(name: str, events: int) -> dict[str, t.Any]:
    """Play a phase, and tell what there was and what the watch has missed."""
    phase, share = PHASES[name]
    stage = Stage(int(events * share))
    began_at = time.monotonic()
    phase(stage)
    faulthandler.dump_traceback_later(_PATIENCE, exit=True)
    seconds = time.monotonic() - began_at
    gc.collect()
    stage.watch.tick()
    truth, counted = stage.truth.told(), _counted(stage)
    ledger = extension._process.ledger
    left = len(ledger.checkouts) + len(ledger.transactions) + len(ledger.scopes) + len(ledger.waiting)
    result = {
        "phase": name,
        "seconds": seconds,
        "events": stage.truth.events,
        "made": {key: truth[key] for key in counted},
        "lost": {key: truth[key] - number for key, number in counted.items() if truth[key] != number},
        "left": left + t.cast("sa.QueuePool", stage.engine.pool).checkedout(),
        "errors": ledger.internal_errors + extension._process._extension_errors,
        "findings": sorted({each.code for each in stage.watch.findings}),
    }
    stage.watch.close()
    faulthandler.cancel_dump_traceback_later()
    return result


def main() -> int:
    """Play the phases that are named, or all, and return 1 if anything was lost, left or failed."""
    options = _options()
    if options.one:
        faulthandler.enable()
        print(json.dumps(play(options.one, options.events)))
        return 0
    rows = []
    for name in options.phases or PHASES:
        rows.append(_play_apart(name, options.events))
        record.write("stress", {"about": record.about(["gevent"]), "phases": rows})
    held = all(_is_right(row) for row in rows)
    print(f"{sum(row.get('events', 0) for row in rows):,} events: {'held' if held else 'BROKEN'}")
    return 0 if held else 1


def _play_apart(name: str, events: int) -> dict[str, t.Any]:
    command = [sys.executable, __file__, "--one", name, "--events", str(events)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{name:12} ended with status {done.returncode}")
        return {"phase": name, "status": done.returncode}
    row: dict[str, t.Any] = json.loads(done.stdout)
    made = row["made"]
    print(
        f"{name:12} {row['events']:>10,} events in {row['seconds']:5.0f} s  {made['checkout']:>9,} check-outs"
        f"  {made['root']:>9,} transactions  {made['scope']:>9,} scopes  lost {row['lost'] or 'none'}"
        f"  left {row['left']}  errors {row['errors']}  found {' '.join(row['findings']) or 'nothing'}",
        flush=True,
    )
    return row


def _is_right(row: dict[str, t.Any]) -> bool:
    return row.get("status") is None and not (row["lost"] or row["left"] or row["errors"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("phases", nargs="*", metavar="PHASE", help=f"of {', '.join(PHASES)}")
    parser.add_argument("--events", type=int, default=EVENTS, help="in all phases together")
    parser.add_argument("--one", choices=PHASES, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
