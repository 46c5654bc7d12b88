"""SW7xx, second half: what does not fit the server, its threads and its processes."""

from __future__ import annotations

import os
import sys
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.pooled import EngineInfo
from ..observe.records import Transaction
from .base import Moment
from .base import Rule


@dataclass(frozen=True)
class PoolSmallerThanThreads(Rule):
    """A pool has fewer connections than the server has threads that use it.

    What it does
        Compares ``pool_size + max_overflow`` of each engine that requests use with the number of threads: those the
        server is configured with, where it is gunicorn, uWSGI, waitress or cheroot, or else the living threads whose
        requests have checked out from that engine. Pools without a limit are not judged.

    Why it matters
        When all threads are at work, some wait for a connection; after ``pool_timeout``, 30 seconds by default, they
        fail. Adding threads then makes the server slower.

    Example
        ::

            engine = create_engine(url, pool_size=2, max_overflow=0)   # gunicorn --threads 16

    Instead
        ::

            engine = create_engine(url, pool_size=16)                  # gunicorn --threads 16

    Options
        None.
    """

    code = "SW704"
    name = "pool-smaller-than-threads"
    hint = "let pool_size + max_overflow be at least the number of threads of one worker."

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for engine in moment.setup.engines:
            # A pool that ran dry was told with everyone who held it: this would say it twice.
            capacity = engine.capacity
            if capacity is None or moment.has_told("SW601"):
                continue
            threads, who = _threads(engine, capacity, moment)
            if threads > capacity and moment.setup.once(self.code, engine.name):
                message = (
                    f"The pool of engine '{engine.name}' has at most {capacity} connections, "
                    f"and {who} {threads} threads."
                )
                details = {"engine": engine.name, "capacity": capacity, "threads": threads}
                yield self.finding(moment, message, (), None, about=engine.name, details=details)


def _threads(engine: EngineInfo, capacity: int, moment: Moment) -> tuple[int, str]:
    """Return how many threads use *engine*, and who says so."""
    # A server of greenlets has one for each open connection, most of them idle; and an ident may come again.
    users = list(moment.setup.users.get(engine, ()))
    threads = [holder for holder in users if holder.thread is not None]
    seen = {holder.ident for holder in threads if holder.is_alive}
    if len(seen) > capacity or not (seen or moment.setup.foreseen):
        return len(seen), "its requests run on"
    server = moment.setup.server
    return (0, "") if server is None else (server.threads, f"{server.name} runs")


@dataclass(frozen=True)
class ConnectedBeforeFork(Rule):
    """Connections were open when a pre-forking server made this worker.

    What it does
        Tells, in a worker that serves requests, that the pool it inherited from its parent had open connections at
        the fork, with the line that used one last. A pool that was disposed of, before the fork or after it, is not
        told. When the worker was told to use an inherited connection already, this stays silent.

    Why it matters
        Parent and workers share the same sockets. As soon as two of them use one, answers are mixed up, or the server
        closes it under the other's feet.

    Example
        ::

            app = create_app()                    # gunicorn --preload
            with app.app_context():
                db.session.execute(select(Setting)).all()

    Instead
        ::

            with app.app_context():
                db.session.execute(select(Setting)).all()
                db.session.remove()
                db.engine.dispose()               # before the workers are forked

    Options
        None.
    """

    code = "SW706"
    name = "connected-before-fork"
    hint = "call engine.dispose() before the fork, or engine.dispose(close=False) in each worker after it."

    def at_start(self, moment: Moment) -> Iterable[Finding]:
        if not moment.ledger.serving or moment.has_told("SW105"):
            return
        for engine, connections, stack in moment.setup.inherited:
            if engine.is_replaced:
                continue
            plural = "s were" if connections > 1 else " was"
            message = f"{connections} connection{plural} open in the pool of engine '{engine.name}' when this worker was forked."
            details = {"engine": engine.name, "connections": connections}
            yield self.finding(
                moment, message, stack, None, verb="checked out", about=engine.name, details=details
            )


@dataclass(frozen=True)
class ScopedSessionWithoutTeardown(Rule):
    """Requests use a plain scoped_session that nothing removes.

    What it does
        Tells when one Session of a ``scoped_session`` has served two requests of a thread and was neither removed nor
        closed in between. Flask-SQLAlchemy's own is removed with each app context and is not looked at.

    Why it matters
        What one request added, changed or failed at is still in the session when the next one comes. Objects are
        read from memory instead of the database, and a transaction that was left open keeps its connection.

    Example
        ::

            Session = scoped_session(sessionmaker(engine))

            @app.get("/")
            def index():
                return str(Session.scalar(select(func.count(User.id))))

    Instead
        ::

            @app.teardown_appcontext
            def remove_session(error):
                Session.remove()

    Options
        None.
    """

    code = "SW708"
    name = "scoped-session-without-teardown"
    level: t.ClassVar[Level] = "error"
    hint = "call remove() in a function registered with app.teardown_appcontext."

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        setup = moment.setup
        suspects, setup.unremoved = setup.unremoved, []
        left_open = [
            each
            for each in moment.transactions
            if each.leaked and each.adopted and not moment.ledger.is_contested(each)
        ]
        for transaction in (*suspects, *left_open):
            yield from self._judge(transaction, moment)

    def _judge(self, transaction: Transaction, moment: Moment) -> Iterable[Finding]:
        site = moment.ledger.stacks.site(transaction.stack)
        session = transaction.session()
        # Looking for the registry takes a while: once for each line.
        if session is None or not moment.setup.once(self.code, site):
            return
        if moment.setup.registry_of(session) is not None:
            message = "A scoped_session serves one request after the other and is never removed."
            yield self.finding(moment, message, transaction.stack, None, verb="begun")


@dataclass(frozen=True)
class SingleProcessMetrics(Rule):
    """Several workers serve the application, and a scrape of the metrics shows one of them.

    What it does
        Tells when gunicorn or uWSGI runs more than one worker process and PROMETHEUS_MULTIPROC_DIR is not set, or was
        set only after prometheus_client had been imported, which is too late. As long as nobody has asked for the
        metrics it is told as info.

    Why it matters
        Each scrape is answered by another worker. Counters seem to jump back and forth, and an alert may see the one
        worker that is well.

    Example
        ::

            bind = "0.0.0.0:8000"                 # gunicorn.conf.py
            workers = 4

    Instead
        ::

            bind = "0.0.0.0:8000"                 # gunicorn.conf.py
            workers = 4
            raw_env = ["PROMETHEUS_MULTIPROC_DIR=/run/shop/metrics"]

    Options
        None.
    """

    code = "SW709"
    name = "single-process-metrics"
    hint = "set PROMETHEUS_MULTIPROC_DIR to an empty folder that all workers can write to."

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        setup = moment.setup
        server = setup.made_by
        if server is None or server.workers < 2:
            return
        is_set = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
        if not (is_set and _keeps_in_files()) and setup.once(self.code, setup.scraped):
            message = (
                f"{server.name} runs {server.workers} workers, and a scrape of the metrics shows one of them"
            )
            message += ": PROMETHEUS_MULTIPROC_DIR was set too late." if is_set else "."
            level = self.level if setup.scraped else "info"
            details = {"server": server.name, "workers": server.workers}
            yield self.finding(moment, message, (), None, level=level, details=details)


def _keeps_in_files() -> bool:
    """Whether prometheus_client shares its values between processes, which it decides when it is imported."""
    value = getattr(sys.modules.get("prometheus_client.values"), "ValueClass", None)
    return getattr(value, "__name__", "") != "MutexValue"
