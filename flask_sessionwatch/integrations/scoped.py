"""Run the work of others in scopes: what the integrations with task queues and executors have in common."""

from __future__ import annotations

import contextlib
import functools
import inspect
import typing as t
from collections.abc import Callable

from ..report.logs import logger


class Watch(t.Protocol):
    """What an integration needs of a :class:`~flask_sessionwatch.SessionWatch`."""

    def scope(self, name: str, kind: str = ...) -> contextlib.AbstractContextManager[t.Any]:
        """Run a block as a scope."""

    def close(self) -> None:
        """End the watch."""


def scoped(
    watch: Watch, function: Callable[..., t.Any], name: str, kind: str = "task"
) -> Callable[..., t.Any]:
    """Return *function* so that each call of it is a scope; it returns and raises what it always did."""
    if inspect.iscoroutinefunction(unwrapped(function)):

        @functools.wraps(function)
        async def run_async(*args: t.Any, **kwargs: t.Any) -> t.Any:
            with watch.scope(name, kind):
                return await function(*args, **kwargs)

        return run_async

    @functools.wraps(function)
    def run(*args: t.Any, **kwargs: t.Any) -> t.Any:
        with watch.scope(name, kind):
            return function(*args, **kwargs)

    return run


def unwrapped(function: t.Any) -> t.Any:
    """Return what the ``functools.partial`` objects around *function* call in the end."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def name_of(function: t.Any) -> str:
    """Name a scope after *function*: its module and name, as in ``shop.mail.send``, and never its arguments."""
    inner = unwrapped(function)
    if not hasattr(inner, "__qualname__"):
        inner = type(inner)
    module = getattr(inner, "__module__", None)
    return f"{module}.{inner.__qualname__}" if module else str(inner.__qualname__)


def depart(watch: Watch) -> None:
    """Tell what is known, in a process that is about to end without Python's own end."""
    try:
        watch.close()
    except Exception:
        logger.warning(
            "an error at the end of a process was kept from flask_sessionwatch's neighbour", exc_info=True
        )
