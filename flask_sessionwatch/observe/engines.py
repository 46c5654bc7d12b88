"""Know which engine a pooled connection belongs to, and what that engine is called."""

from __future__ import annotations

import gc
import os
import sys
import typing as t
import weakref

import sqlalchemy as sa

from .clock import clock
from .driver import begins_by_itself
from .driver import opens_in_autocommit
from .driver import server_id
from .ledger import Ledger
from .pooled import EngineInfo
from .pooled import Pooled

KEY = "flask_sessionwatch"

_RAW_CONNECTION = getattr(sa.Engine.raw_connection, "__code__", None)


def pool_of(record: t.Any) -> t.Any:
    """Return the pool of a connection record, or else of the engine that is connecting."""
    pool = getattr(record, "_ConnectionRecord__pool", None)
    return pool if pool is not None else getattr(_engine_at_work(), "pool", None)


def pooled_of(connection: t.Any) -> Pooled | None:
    """Return what is remembered of the pooled connection that a SQLAlchemy Connection uses."""
    info = connection.connection.record_info
    pooled: Pooled | None = None if info is None else info.get(KEY)
    return pooled


def keeps_in_memory(engine: t.Any) -> bool:
    """Whether *engine*'s database is in the memory of this process, so that each engine and child has its own."""
    if engine is None or engine.dialect.name != "sqlite":
        return False
    database = engine.url.database or ":memory:"
    return ":memory:" in database or engine.url.query.get("mode") == "memory"


class Engines:
    """Names engines: by their bind key where an application knows one, else by their database.

    :param ledger: where engines are kept.
    :param on_pool: told of every pool that is seen for the first time.
    """

    def __init__(self, ledger: Ledger, on_pool: t.Callable[[t.Any, EngineInfo], None]) -> None:
        self._ledger = ledger
        self._on_pool = on_pool
        #: Names a pool by the bind key of its engine, or answers None; set by the layer that knows Flask.
        self.bind_key: t.Callable[[t.Any], str | None] = lambda pool: None
        self._ignored: weakref.WeakSet[t.Any] = weakref.WeakSet()

    def ignore(self, engine: t.Any) -> None:
        """Watch neither *engine*'s pool nor the ones that follow it when it is disposed of."""
        self._ignored.add(engine)
        self.info(engine.pool, engine).ignored = True

    def info(self, pool: t.Any, engine: t.Any = None) -> EngineInfo:
        """Return what the ledger knows of *pool*, whose engine is looked for where it is not given."""
        engines = self._ledger.engines
        info = engines.get(id(pool))
        if info is None or info.pool is not pool:
            engine = engine or _engine_at_work()
            info = EngineInfo(_url_name(engine), _dialect_name(engine), pool, named=False)
            info.ignored = engine in self._ignored
            if engine is not None:
                info.engine_ref = weakref.ref(engine)
            engines[id(pool)] = info
            self._on_pool(pool, info)
        if not info.named:
            self._name(info)
        return info

    def every(self) -> list[EngineInfo]:
        """Return what is known of each engine there is, also of those that were not used yet; it takes a while."""
        engines = [each for each in gc.get_objects() if issubclass(type(each), sa.Engine)]
        # One that was made with execution options shares the pool of another one.
        return list({id(each.pool): self.info(each.pool, each) for each in engines}.values())

    def connected(self, record: t.Any, dbapi_connection: t.Any) -> Pooled:
        """Make the record of a connection that was just opened."""
        info = self.info(pool_of(record))
        return Pooled(info, record, os.getpid(), server_id(dbapi_connection, info.dialect), clock())

    def _found(self, record: t.Any) -> Pooled:
        """Make the record of a connection that was opened before the watch."""
        info = self.info(pool_of(record))
        pid, forked = os.getpid(), self._ledger.forked
        if forked is not None and record.starttime < forked[1]:
            pid = forked[0]
        return Pooled(info, record, pid, server_id(record.dbapi_connection, info.dialect), None)

    def settle(self, record: t.Any, pooled: Pooled | None) -> Pooled | None:
        """Recognise a connection that was opened before the watch, and name its engine; None if it is ignored."""
        if pooled is None:
            pooled = record.record_info[KEY] = self._found(record)
        engine = pooled.engine
        if not engine.named:
            self._name(engine)
        if engine.ignored:
            return None
        pooled.settled = os.getpid() if engine.named else 0
        dialect = getattr(engine.engine_ref(), "dialect", None)
        pooled.transactional = not opens_in_autocommit(dialect) and begins_by_itself(record.dbapi_connection)
        return pooled

    def _name(self, info: EngineInfo) -> None:
        name = self.bind_key(info.pool)
        if name is not None:
            info.name, info.named = name, True


def _engine_at_work() -> t.Any:
    """Return the engine that the calling thread is taking a connection from; a pool does not know its own."""
    frame = sys._getframe(1) if _RAW_CONNECTION is not None else None
    while frame is not None:
        if frame.f_code is _RAW_CONNECTION:
            return frame.f_locals.get("self")
        frame = frame.f_back
    return None


def _url_name(engine: t.Any) -> str:
    """Name an engine that nobody named: by its database, never by its user or password."""
    if engine is None:
        return "unknown"
    database = engine.url.database
    return os.path.basename(database) if database else str(engine.dialect.name)


def _dialect_name(engine: t.Any) -> str:
    return "" if engine is None else str(engine.dialect.name)
