"""Bring what a process knows to its store, and fetch what others have brought.

The store is used on a thread of its own, and on no other: a disk may hang for as long as it likes, and so may the
resolution of a host's name, and there is no way to end such a wait. So neither the watchdog, which has to judge on time,
nor a request for the pages, which takes a worker from the application, may do it themselves. The thread is started by the
first publication, and there is one for a store, however many applications publish to it.
"""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import time
import typing as t
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence

from ..report.logs import logger
from .base import Document
from .base import Published
from .base import Report
from .base import Sighted
from .base import Store
from .base import StoreError
from .base import Worker
from .native import Answer
from .native import Signal
from .native import new_lock
from .native import start_thread
from .native import thread_seconds

#: Findings that may wait for the store.
PENDING_KEPT = 1_000
#: Seconds that somebody who asks for a page waits for the store.
PATIENCE = 1.0
#: Seconds between two attempts: doubled after each that fails, from the first number to the second.
BACK_OFF = (1.0, 30.0)
#: Seconds between two prunings by one process.
PRUNE_SECONDS = 60.0
#: Failures in a row after which the log is told: another process may have held the lock for a moment.
TOLD_AFTER = 2
#: Seconds for which a fork waits until the thread is outside of the store.
_FORK_PATIENCE = 0.05

T = t.TypeVar("T")


class _Question:
    """Something that is to be read from the store."""

    def __init__(self, ask: t.Callable[[Store], t.Any]) -> None:
        self._ask = ask
        self._answer = Answer()
        self._value: t.Any = None
        self._error: StoreError | None = None
        self._is_given_up = False

    def put_to(self, opened: t.Callable[[], Store]) -> None:
        """Ask it, on the store's thread, unless nobody waits for the answer any more."""
        if self._is_given_up:
            return
        try:
            self._value = self._ask(opened())
        except Exception as error:
            self._error = _as_store_error(error)
        finally:
            self._answer.bring()

    def value(self, patience: float) -> t.Any:
        """Wait for the answer.

        :raises StoreError: there is none.
        """
        if not self._answer.wait(patience):
            self._is_given_up = True
            raise StoreError(f"the store did not answer within {patience:g} s")
        if self._error is not None:
            raise self._error
        return self._value


class Publisher:
    """Publishes to one store, and reads from it.

    :param make: makes the store; called on the store's thread, once.
    :param on_dropped: told how many findings were dropped because too many waited.
    """

    def __init__(self, make: t.Callable[[], Store], on_dropped: t.Callable[[int], None]) -> None:
        self._make = make
        self._on_dropped = on_dropped
        self._store: Store | None = None
        #: Why the store cannot be used; None while it can.
        self.problem: StoreError | None = None
        #: Whether what was published earlier may be lost, so that all of it has to be published again.
        self.has_lost: bool = False
        #: CPU seconds the thread has used.
        self.seconds: float = 0.0
        self._failures = 0
        self._forking: set[int] = set()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._signal = Signal()
        #: Held while the store is used.
        self._busy = new_lock()
        self._running: _Run | None = None
        self._is_threadless = False
        self._worker: Worker | None = None
        self._documents: dict[str, Document] = {}
        self._reports: dict[str, Report] = {}
        #: Findings that are on their way to the store.
        self._sending = 0
        self._questions: deque[_Question] = deque()
        #: The findings that the store has to have, since they were published.
        self._published: set[str] = set()
        self._try_at = self._prune_at = 0.0
        self._dropped = 0
        self._away_since: float | None = None

    def __repr__(self) -> str:
        return f"<Publisher to {self._store!r}>"

    # From any thread

    def offer(self, worker: Worker, documents: Mapping[str, Document], reports: Sequence[Report]) -> None:
        """Have something published; what was offered before and is not published yet is replaced."""
        with self._lock:
            self._worker = worker
            self._documents.update(documents)
            for report in reports:
                self._wait_for_it(report)
        try:
            self._start()
        except StoreError as error:
            self._failed(error)
        else:
            self._signal.set()

    def _wait_for_it(self, report: Report) -> None:
        # The newest is last.
        before = self._reports.pop(report.fingerprint, None)
        if report.body is None and before is not None:
            report = report._replace(body=before.body)
        self._reports[report.fingerprint] = report
        if len(self._reports) > PENDING_KEPT:
            del self._reports[next(iter(self._reports))]
            self._dropped += 1
            self._on_dropped(1)

    def read(self, ask: t.Callable[[Store], T], patience: float = PATIENCE) -> T:
        """Return what *ask* reads from the store.

        :raises StoreError: the store cannot be used, or takes too long.
        """
        if self.problem is not None:
            raise self.problem
        question = _Question(ask)
        self._questions.append(question)
        self._start()
        self._signal.set()
        return t.cast(T, question.value(patience))

    def stop(self, patience: float) -> None:
        """Publish what waits still, say good-bye and end the thread; tell if not every finding has arrived.

        :param patience: seconds to wait for that; a store that is away is not waited for.
        """
        with self._lock:
            run, self._running = self._running, None
        if run is not None:
            run.is_over = True
            self._signal.set()
            if self.problem is None:
                run.ended.wait(patience)
        elif self._is_threadless:
            self._leave_alone()
        lost = len(self._reports) + self._sending
        if lost:
            logger.warning(
                "the store of flask_sessionwatch may lack %d of the findings of a watch that has ended: %s",
                lost,
                self.problem or f"that took longer than {patience:g} s",
            )

    def _leave_alone(self) -> None:
        """Publish without a thread: CPython 3.12 starts none any more when the interpreter is about to end."""
        self.problem = None
        with contextlib.suppress(Exception):
            self._leave()

    def _start(self) -> None:
        with self._lock:
            if self._running is not None:
                return
            run = _Run()
            try:
                start_thread(lambda: self._run(run), "flask_sessionwatch.store")
            except Exception as error:
                self._is_threadless = True
                raise StoreError(f"its thread cannot be started ({error})") from error
            self._running, self._is_threadless = run, False

    # Forks

    def before_fork(self) -> None:
        """Wait, but not for long, until the thread is outside of the store: what it holds there the child cannot let go of."""
        if self._busy.acquire(timeout=_FORK_PATIENCE):
            self._forking.add(threading.get_ident())

    def after_fork_in_parent(self) -> None:
        """Let the thread go on."""
        if threading.get_ident() in self._forking:
            self._forking.discard(threading.get_ident())
            self._busy.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread did not come along, and what waited is the parent's."""
        if self._store is not None:
            _inherited.append(self._store)
        self._store = self.problem = None
        self.has_lost, self._failures, self.seconds = False, 0, 0.0
        self._forking.clear()
        self._begin()

    # On the store's thread

    def _run(self, run: _Run) -> None:
        while not run.is_over:
            self._take_turn()
        with contextlib.suppress(Exception):
            self._leave()
        run.ended.bring()

    def _take_turn(self) -> None:
        try:
            self._work()
        except Exception as error:  # nothing works any more, not even the clock
            self.problem = _as_store_error(error)
            self._signal.wait(BACK_OFF[1])

    def _work(self) -> None:
        self._signal.wait(self._pause())
        before = thread_seconds()
        self._answer()
        if self._is_due():
            self._send()
        self.seconds += thread_seconds() - before

    def _pause(self) -> float:
        """Return the seconds until there may be something to do without anybody saying so."""
        return max(self._try_at - time.monotonic(), 0.01) if self._waits() else 3600.0

    def _waits(self) -> bool:
        return bool(self._documents or self._reports)

    def _is_due(self) -> bool:
        return self._waits() and time.monotonic() >= self._try_at

    def _answer(self) -> None:
        while self._questions:
            with self._busy:
                self._questions.popleft().put_to(self._opened)

    def _send(self) -> None:
        with self._lock:
            worker, documents, reports = self._worker, self._documents, self._reports
            if worker is None:
                return
            self._documents, self._reports, self._sending = {}, {}, len(reports)
        try:
            with self._busy:
                number = self._publish(worker, documents, list(reports.values()))
        except Exception as error:
            self._give_back(documents, reports)
            self._failed(_as_store_error(error))
        else:
            self._succeeded(reports, number)

    def _publish(self, worker: Worker, documents: dict[str, Document], reports: list[Report]) -> int:
        """Return how many distinct findings there are now, from whichever worker."""
        store = self._opened()
        if time.monotonic() >= self._prune_at:
            self._prune(store)
        return store.publish(worker, documents, reports)

    def _prune(self, store: Store) -> None:
        """Prune at the beginning, from time to time, and after a failure: the store may be full."""
        self._prune_at = time.monotonic() + PRUNE_SECONDS * random.uniform(0.8, 1.2)
        store.prune()

    def _give_back(self, documents: dict[str, Document], reports: dict[str, Report]) -> None:
        """Let what could not be published wait; what was offered meanwhile is newer."""
        with self._lock:
            newer, self._reports, self._sending = self._reports, reports, 0
            self._documents = {**documents, **self._documents}
            for report in newer.values():
                self._wait_for_it(report)

    def _leave(self) -> None:
        if self._waits() and self.problem is None:
            self._send()
        if self._store is None or self.problem is not None:
            return
        with self._busy:
            if self._worker is not None:
                self._store.leave(self._worker)
            self._store.close()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = self._make()
        return self._store

    def _succeeded(self, reports: t.Collection[str], number: int) -> None:
        """Go on after a publication.

        :param number: how many findings there are; fewer than were published say that the store has lost some.
        """
        self._sending = 0
        self._published.update(reports)
        if self._failures or number < len(self._published):
            self.has_lost = True
            self._published.clear()
        self.problem, self._failures = None, 0
        if self._away_since is not None:
            self._tell_return(len(reports))

    def _failed(self, error: StoreError) -> None:
        self._failures += 1
        least, most = BACK_OFF
        delay = min(least * 2 ** (self._failures - 1), most)
        now = time.monotonic()
        # Many workers shall not come back at the same moment.
        self._try_at = now + delay * random.uniform(0.75, 1.25)
        self._prune_at = 0.0
        self.problem = error
        if self._failures == TOLD_AFTER and self._away_since is None:
            self._away_since, self._dropped = now, 0
            logger.warning(
                "the store of flask_sessionwatch cannot be used, see SESSIONWATCH_STORE: %s. The watch goes on; at most %d "
                "findings wait, the oldest are dropped beyond that, and it is tried again from time to time",
                error,
                PENDING_KEPT,
            )

    def _tell_return(self, findings: int) -> None:
        seconds = time.monotonic() - (self._away_since or 0.0)
        self._away_since = None
        logger.info(
            "the store of flask_sessionwatch is back after %.0f s; %d findings that waited are in it, %d were dropped",
            seconds,
            findings,
            self._dropped,
        )


#: Stores of a parent process: to let go of one would close what the parent has open.
_inherited: list[Store] = []


class _Run:
    """One life of the store's thread."""

    def __init__(self) -> None:
        self.is_over = False
        self.ended = Answer()


class View:
    """What there is to read in a store, fetched by the store's own thread.

    :param publisher: has the store.
    :param patience: seconds to wait for an answer of it.
    """

    def __init__(self, publisher: Publisher, patience: float = PATIENCE) -> None:
        self._read = functools.partial(publisher.read, patience=patience)

    def live(self) -> list[Published]:
        return self._read(lambda store: store.live())

    def documents(self, kind: str) -> list[Published]:
        return self._read(lambda store: store.documents(kind))

    def findings(self) -> list[Sighted]:
        return self._read(lambda store: store.findings())

    def finding(self, fingerprint: str) -> Sighted | None:
        return self._read(lambda store: store.finding(fingerprint))


def _as_store_error(error: Exception) -> StoreError:
    """Return *error* as one that can be shown; of one that nobody expected, only what it is."""
    return (
        error if isinstance(error, StoreError) else StoreError(f"{type(error).__name__} inside of the store")
    )
