"""RQ: each job is a scope of kind "task", named by its function."""

from __future__ import annotations

import typing as t

from rq import Worker
from rq.job import Job

from .scoped import Watch
from .scoped import depart
from .scoped import scoped

W = t.TypeVar("W")


@t.overload
def watch_rq(watch: Watch) -> type[Worker]: ...


@t.overload
def watch_rq(watch: Watch, worker_class: type[W]) -> type[W]: ...


def watch_rq(watch: Watch, worker_class: type[t.Any] = Worker) -> type[t.Any]:
    """Return a class of workers that make a scope of each job.

    Start it with ``rq worker --worker-class your_module.YourWorker``.

    :param watch: the :class:`~flask_sessionwatch.SessionWatch`; it may be given its application later.
    :param worker_class: what the workers are otherwise: ``rq.Worker``, which forks for each job, ``rq.SimpleWorker``, or
        one of your own.
    """

    class WatchedWorker(worker_class):  # type: ignore[misc]
        def perform_job(self, job: Job, *args: t.Any, **kwargs: t.Any) -> t.Any:
            job.perform = scoped(watch, job.perform, _name_of(job))  # type: ignore[method-assign]
            try:
                return super().perform_job(job, *args, **kwargs)
            finally:
                if self.is_horse:
                    depart(watch)

    return WatchedWorker


def _name_of(job: Job) -> str:
    try:
        return str(job.func_name)
    except Exception:  # it cannot be read, which RQ will tell of itself
        return "unreadable job"
