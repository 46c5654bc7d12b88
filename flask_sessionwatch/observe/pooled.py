"""Engines, their pools and what is pooled, as the watch knows them."""

from __future__ import annotations

import typing as t
import weakref

from .clock import clock
from .holder import Ref

if t.TYPE_CHECKING:
    from .records import Checkout


class Spell:
    """A stretch of time in which something was wrong with a pool."""

    __slots__ = ("began_at", "ended_at", "told")

    def __init__(self, began_at: float) -> None:
        self.began_at: float = began_at
        self.ended_at: float | None = None
        #: The highest level at which each rule has told of it, by the rule's code.
        self.told: dict[str, int] | None = None


class EngineInfo:
    """An engine as the ledger knows it: its name, and its pool for as long as that lives."""

    __slots__ = (
        "__weakref__",
        "crowded",
        "dialect",
        "engine_ref",
        "ignored",
        "name",
        "named",
        "pool_ref",
        "reused",
        "stuck",
        "used_in",
    )

    def __init__(self, name: str, dialect: str, pool: t.Any, *, named: bool) -> None:
        self.name: str = name
        #: False while the name is only derived from the URL, and a bind key may still be found.
        self.named: bool = named
        self.dialect: str = dialect
        #: Leads to the engine itself, once that was seen.
        self.engine_ref: Ref = _nothing
        self.ignored: bool = False
        #: Leads to the scope that used it first, and whether another one did since.
        self.used_in: Ref | None = None
        self.reused: bool = False
        #: Since when its pool is nearly or wholly used, and since when it is stuck.
        self.crowded: Spell | None = None
        self.stuck: Spell | None = None
        self.pool_ref: t.Callable[[], t.Any] = weakref.ref(pool) if pool is not None else _nothing

    @property
    def pool(self) -> t.Any:
        return self.pool_ref()

    def end(self) -> None:
        """End what was wrong with its pool: that is gone."""
        for spell in (self.crowded, self.stuck):
            if spell is not None:
                spell.ended_at = clock()
        self.crowded = self.stuck = None

    @property
    def port(self) -> int | None:
        """The port of its URL."""
        engine = self.engine_ref()
        return None if engine is None else engine.url.port

    @property
    def is_replaced(self) -> bool:
        """Whether the engine was disposed of, and has another pool since."""
        engine, pool = self.engine_ref(), self.pool
        return pool is None or (engine is not None and engine.pool is not pool)

    @property
    def capacity(self) -> int | None:
        """The most connections the pool can have checked out; None when it has no limit."""
        return capacity_of(self.pool)


def _nothing() -> None:
    return None


def capacity_of(pool: t.Any) -> int | None:
    """Return ``pool_size + max_overflow`` of *pool*, or None for a pool without a limit.

    Pools other than SQLAlchemy's QueuePool, and those with ``max_overflow=-1``, have none.
    """
    size = getattr(pool, "size", None)
    most_overflow = getattr(pool, "_max_overflow", None)
    if size is None or most_overflow is None or most_overflow < 0:
        return None
    return int(size()) + int(most_overflow)


class Pooled:
    """What is remembered of one pooled connection: its engine and who has it checked out."""

    __slots__ = (
        "__weakref__",
        "also",
        "checkout",
        "connected_at",
        "engine",
        "fresh",
        "foreign_to",
        "pid",
        "record_ref",
        "server_id",
        "settled",
        "transactional",
    )

    def __init__(
        self, engine: EngineInfo, record: t.Any, pid: int, server_id: int | None, connected_at: float | None
    ) -> None:
        self.engine: EngineInfo = engine
        #: Leads to the pool's own record of it.
        self.record_ref: Ref = weakref.ref(record)
        #: The process that opened it.
        self.pid: int = pid
        #: The number under which the server lists it, where the driver tells.
        self.server_id: int | None = server_id
        #: When it was opened, or None if that was before the watch.
        self.connected_at: float | None = connected_at
        #: Whether nobody has checked it out yet.
        self.fresh: bool = connected_at is not None
        #: The process in which its engine is known by name and watched, so that nothing has to be looked up.
        self.settled: int = 0
        #: Whether it begins a transaction at a write unless it is told otherwise, so that nobody has to ask each time.
        self.transactional: bool = False
        #: The process other than its own that has checked it out.
        self.foreign_to: int = 0
        self.checkout: Checkout | None = None
        #: Further check-outs of the same connection, which a StaticPool hands out.
        self.also: list[Checkout] | None = None
