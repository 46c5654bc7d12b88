"""See who waits for a connection of a pool, and who has waited in vain.

The pool has an event for neither. What is wrapped is run by those only who do wait: the condition that QueuePool waits
on when it is empty, and the making of the TimeoutError. A check-out that finds a connection costs nothing here.
"""

from __future__ import annotations

import functools
import sys
import typing as t
import weakref

from sqlalchemy import exc as sa_exc
from sqlalchemy import pool as sa_pool

from .clock import clock
from .holder import Holder
from .ledger import Ledger
from .pooled import EngineInfo

_GIVING_UP = getattr(getattr(sa_pool.QueuePool, "_do_get", None), "__code__", None)


class Waits:
    """Enters into *ledger* who waits for a connection.

    :param ledger: where they are entered.
    :param holder: answers the record of the calling thread.
    :param on_timeout: told of a TimeoutError, with the pool that had no connection.
    :param failed: told of an exception of our own.
    """

    def __init__(
        self,
        ledger: Ledger,
        holder: t.Callable[[], Holder],
        on_timeout: t.Callable[[t.Any, BaseException], None],
        failed: t.Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._holder = holder
        self._on_timeout = on_timeout
        self._failed = failed
        self._conditions: weakref.WeakSet[t.Any] = weakref.WeakSet()
        self._hook: t.Any = None

    def attach(self) -> None:
        """Begin to see time-outs; waits are seen for every pool that is given to :meth:`watch`."""
        original = sa_exc.TimeoutError.__init__
        on_error = self._on_error

        @functools.wraps(original)
        def __init__(error: sa_exc.TimeoutError, *args: t.Any, **options: t.Any) -> None:
            original(error, *args, **options)
            on_error(error)

        self._hook = __init__
        sa_exc.TimeoutError.__init__ = __init__  # type: ignore[assignment,method-assign]

    def detach(self) -> None:
        """Leave pools and exceptions as they were."""
        if vars(sa_exc.TimeoutError).get("__init__") is self._hook:
            del sa_exc.TimeoutError.__init__
        self._hook = None
        for condition in list(self._conditions):
            vars(condition).pop("wait", None)
        self._conditions.clear()

    def watch(self, pool: t.Any, info: EngineInfo) -> None:
        """See from now on who waits for *pool*; pools that never make anybody wait are passed over."""
        condition = getattr(getattr(pool, "_pool", None), "not_empty", None)
        if condition is None or "wait" in vars(condition):
            return
        self._conditions.add(condition)
        # The condition only weakly: it holds this function.
        condition.wait = functools.partial(self._wait, weakref.ref(condition), info)

    def _wait(
        self, condition_ref: weakref.ref[t.Any], info: EngineInfo, timeout: float | None = None
    ) -> t.Any:
        """Wait as the condition would have."""
        condition: t.Any = condition_ref()
        holder = self._begin(info)
        try:
            return condition.__class__.wait(condition, timeout)
        finally:
            self._end(holder)

    def _begin(self, info: EngineInfo) -> Holder | None:
        try:
            holder = self._holder()
            self._ledger.waiting[holder] = (info, clock())
        except Exception:
            self._failed("a wait for the pool")
            return None
        return holder

    def _end(self, holder: Holder | None) -> None:
        if holder is None:
            return
        try:
            waiting = self._ledger.waiting.pop(holder, None)
            if waiting is not None:
                holder.waited += clock() - waiting[1]
                holder.noted = True
        except Exception:
            self._failed("the end of a wait for the pool")

    def _on_error(self, error: BaseException) -> None:
        if self._hook is None:
            return
        try:
            frame = sys._getframe(2)
            if frame.f_code is _GIVING_UP:
                self._on_timeout(frame.f_locals["self"], error)
        except Exception:
            self._failed("pool timeout")
