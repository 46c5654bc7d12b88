"""Thread pools, Flask-Executor's among them: each task is a scope of kind "task", named by its function."""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import typing as t
from collections.abc import Callable

from ..observe.records import current_scope
from .scoped import Watch
from .scoped import name_of
from .scoped import scoped

E = t.TypeVar("E", bound=concurrent.futures.Executor)


def watch_executor(watch: Watch, executor: E) -> E:
    """Make a scope of each task that *executor* is given from now on, and return it.

    The task's scope is its own, and may outlive the request that has handed the task over.

    :param watch: the :class:`~flask_sessionwatch.SessionWatch`; it may be given its application later.
    :param executor: a ``ThreadPoolExecutor``, Flask-Executor's ``Executor``, or another one whose tasks run in threads of
        this process.
    :raises TypeError: it runs its tasks in other processes.
    """
    pool = getattr(executor, "_self", executor)
    if isinstance(pool, concurrent.futures.ProcessPoolExecutor):
        raise TypeError(
            "A ProcessPoolExecutor runs its tasks in processes of their own, where this watch cannot see them. Use "
            "'with watch.scope(\"name\"):' in the function that is submitted."
        )
    if hasattr(executor, "_prepare_fn"):
        _watch_flask_executor(watch, executor)
    else:
        _watch_submit(watch, executor)
    return executor


def _watch_submit(watch: Watch, executor: t.Any) -> None:
    submit = executor.submit

    def submit_watched(function: Callable[..., t.Any], /, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return submit(*_in_scope(watch, function, args), **kwargs)

    executor.submit = submit_watched


def _watch_flask_executor(watch: Watch, executor: t.Any) -> None:
    prepare = executor._prepare_fn

    def prepare_watched(function: Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> t.Any:
        scope = current_scope.get()
        if scope is not None:
            scope.note_rule()  # the copy of the request's context takes the request off when it is popped
        # The scope has to be around the contexts that are pushed there: they close the session.
        prepared = prepare(function, *args, **kwargs)
        return scoped(watch, prepared, name_of(function))

    executor._prepare_fn = prepare_watched


def _in_scope(watch: Watch, function: Callable[..., t.Any], args: tuple[t.Any, ...]) -> tuple[t.Any, ...]:
    """Return what is to be submitted: the function in a scope, and its arguments.

    With a copied context, as ``asyncio.to_thread`` has one, the scope has to begin inside of it: out there it would be
    hidden by the scope that was copied, such as that of a request.
    """
    if isinstance(function, functools.partial) and not function.keywords:
        return _in_scope(watch, function.func, (*function.args, *args))
    if isinstance(getattr(function, "__self__", None), contextvars.Context) and args:
        task, *others = args
        return (function, scoped(watch, task, name_of(task)), *others)
    return (scoped(watch, function, name_of(function)), *args)
