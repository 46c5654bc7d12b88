"""Celery: each task is a scope of kind "task", named by the task."""

from __future__ import annotations

import contextlib
import sys
import threading
import typing as t
import weakref

from celery import signals
from celery import states
from celery.exceptions import Ignore
from celery.exceptions import Reject
from celery.exceptions import Retry

from .scoped import Watch
from .scoped import depart


def watch_celery(watch: Watch) -> None:
    """Make a scope of each task that runs in this process, and in those that Celery's prefork pool makes of it.

    It connects to Celery's signals, so that tasks, their results, retries and failures stay what they are. A task that
    asks for a retry because of an exception counts as failed with that exception. One that raises ``Ignore``, ``Reject``,
    or ``Retry`` for no exception, ends as it meant to.

    :param watch: the :class:`~flask_sessionwatch.SessionWatch`; it may be given its application later.
    """
    tasks = _Tasks(watch)
    signals.task_prerun.connect(tasks.begin, weak=False)
    signals.worker_process_shutdown.connect(tasks.leave, weak=False)


class _Tasks:
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._uid: str | None = None
        self._number = 0
        # By request and not by id: an eager retry has the id of the task it runs inside of.
        self._open: weakref.WeakKeyDictionary[t.Any, contextlib.AbstractContextManager[t.Any]]
        self._open = weakref.WeakKeyDictionary()

    def begin(self, task: t.Any, **_: t.Any) -> None:
        self._come_last()
        scope = self._watch.scope(task.name, "task")
        scope.__enter__()
        self._open[task.request] = scope

    def end(self, task: t.Any, state: str | None, retval: t.Any, **_: t.Any) -> None:
        scope = self._open.pop(task.request, None)
        if scope is None:
            return
        error = _error_of(state, retval)
        if error is None:
            scope.__exit__(None, None, None)
        else:
            scope.__exit__(type(error), error, error.__traceback__)

    def leave(self, **_: t.Any) -> None:
        depart(self._watch)

    def _come_last(self) -> None:
        """End scopes after all other receivers of the signal: many applications close their sessions in one."""
        with self._lock:
            receivers = signals.task_postrun.receivers
            if self._uid is not None and receivers and receivers[-1][0][0] == self._uid:
                return
            before, self._number = self._uid, self._number + 1
            self._uid = f"flask_sessionwatch-{id(self)}-{self._number}"
            # A task of another thread that ends now is to find one of the two.
            signals.task_postrun.connect(self.end, weak=False, dispatch_uid=self._uid)
            if before is not None:
                signals.task_postrun.disconnect(dispatch_uid=before)


def _error_of(state: str | None, result: t.Any) -> BaseException | None:
    """Return the exception that made a task fail, or none where it ended as it meant to."""
    if state == states.SUCCESS:
        return None
    # No state: the exception is on its way to whoever called the task eagerly.
    error = result if isinstance(result, BaseException) else sys.exc_info()[1]
    if isinstance(error, Retry):
        return t.cast("BaseException | None", error.exc) or error.__context__
    return None if isinstance(error, (Ignore, Reject)) else error
