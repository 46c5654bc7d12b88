"""Know which engine a pooled connection belongs to, and what that engine is called."""

from __future__ import annotations

import os
import typing as t
import weakref

from .ledger import EngineInfo
from .ledger import Holder
from .ledger import Ledger
from .ledger import Pooled

KEY = "flask_sessionwatch"


def pooled_of(connection: t.Any) -> Pooled | None:
    """Return what is remembered of the pooled connection that a SQLAlchemy Connection uses."""
    info = connection.connection.record_info
    pooled: Pooled | None = None if info is None else info.get(KEY)
    return pooled


class Engines:
    """Names engines: by their bind key where an application knows one, else by their database.

    :param ledger: where engines are kept.
    :param holder: answers the record of the calling thread.
    """

    def __init__(self, ledger: Ledger, holder: t.Callable[[], Holder]) -> None:
        self._ledger = ledger
        self._holder = holder
        #: Names an engine by its bind key, or answers None; set by the layer that knows Flask.
        self.bind_key: t.Callable[[t.Any], str | None] = lambda engine: None
        self._ignored: weakref.WeakSet[t.Any] = weakref.WeakSet()

    def ignore(self, engine: t.Any) -> None:
        """Watch neither *engine*'s pool nor the ones that follow it when it is disposed of."""
        self._ignored.add(engine)
        self.info(engine).ignored = True

    def info(self, engine: t.Any, pool: t.Any = None) -> EngineInfo:
        """Return what the ledger knows of *engine*, or of *pool* where only that is known."""
        pool = engine.pool if engine is not None else pool
        engines = self._ledger.engines
        info = engines.get(id(pool))
        if info is None or info.pool is not pool:
            info = engines[id(pool)] = EngineInfo(_url_name(engine), _dialect_name(engine), pool, named=False)
            info.ignored = engine in self._ignored
        if not info.named and engine is not None:
            self._name(info, engine)
        return info

    def connected(self, pool: t.Any = None) -> Pooled:
        """Make the record of a connection that this thread is acquiring, or that *pool* had already."""
        return Pooled(self.info(self._acquired(), pool), os.getpid())

    def settle(self, record: t.Any, proxy: t.Any, pooled: Pooled | None) -> Pooled | None:
        """Recognise a connection that was opened before the watch, and name its engine; None if it is ignored."""
        if pooled is None:
            pooled = record.record_info[KEY] = self.connected(getattr(proxy, "_pool", None))
        engine = self._acquired()
        if engine is not None and not pooled.engine.named:
            self._name(pooled.engine, engine)
        if pooled.engine.ignored:
            return None
        pooled.settled = pooled.engine.named
        return pooled

    def _acquired(self) -> t.Any:
        """Return the engine that this thread is taking a connection from."""
        acquired = self._ledger.acquiring.get(self._holder().ident)
        return None if acquired is None else acquired[0]

    def _name(self, info: EngineInfo, engine: t.Any) -> None:
        name = self.bind_key(engine)
        if name is not None:
            info.name, info.named = name, True
        elif not info.dialect:
            info.name = _url_name(engine)
        info.dialect = info.dialect or _dialect_name(engine)
        info.engine_ref = weakref.ref(engine)


def _url_name(engine: t.Any) -> str:
    """Name an engine that nobody named: by its database, never by its user or password."""
    if engine is None:
        return "unknown"
    database = engine.url.database
    return os.path.basename(database) if database else str(engine.dialect.name)


def _dialect_name(engine: t.Any) -> str:
    return "" if engine is None else str(engine.dialect.name)
