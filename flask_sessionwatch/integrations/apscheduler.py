"""APScheduler 3: each run of a job is a scope of kind "task", named by the job's function."""

from __future__ import annotations

import typing as t

from apscheduler.events import EVENT_EXECUTOR_ADDED
from apscheduler.executors.base import BaseExecutor
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.schedulers.base import BaseScheduler

from .scoped import Watch
from .scoped import name_of
from .scoped import scoped

S = t.TypeVar("S", bound=BaseScheduler)


def watch_apscheduler(watch: Watch, scheduler: S) -> S:
    """Make a scope of each run of each job of *scheduler*, and return it.

    Jobs stay what they are, also in their store. Those of a ``ProcessPoolExecutor`` run in processes that this watch
    cannot see; they are left alone.

    :param watch: the :class:`~flask_sessionwatch.SessionWatch`; it may be given its application later.
    :param scheduler: before or after it was started; Flask-APScheduler's is ``APScheduler().scheduler``.
    """

    def watch_executor(event: t.Any) -> None:
        _watch(watch, scheduler._lookup_executor(event.alias))

    scheduler.add_listener(watch_executor, EVENT_EXECUTOR_ADDED)
    with scheduler._executors_lock:
        for executor in scheduler._executors.values():
            _watch(watch, executor)
    return scheduler


def _watch(watch: Watch, executor: BaseExecutor) -> None:
    if isinstance(executor, ProcessPoolExecutor) or "_do_submit_job" in vars(executor):
        return
    submit = executor._do_submit_job

    def submit_watched(job: t.Any, run_times: t.Any) -> None:
        submit(_Run(watch, job), run_times)

    executor._do_submit_job = submit_watched


class _Run:
    """A job for those who run it, with its function in a scope.

    The job itself is not touched: a store may write it down at any time.
    """

    def __init__(self, watch: Watch, job: t.Any) -> None:
        self._job = job
        self.func = scoped(watch, job.func, name_of(job.func))

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._job, name)

    def __str__(self) -> str:
        return str(self._job)
