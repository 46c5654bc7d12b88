"""The side of a store that a program reads that is none of its workers."""

from __future__ import annotations

import functools
import threading
import time
import typing as t

from .base import LIVE
from .base import Published
from .base import Sighted
from .base import StoreError
from .opening import open_to_read
from .picture import Readable
from .publisher import Publisher
from .publisher import View

#: Seconds for which an answer of the store serves everybody who asks: of what is published every second, and of what is
#: published every ten seconds or less often, which is most of what a thousand workers have to tell.
FRESH_SECONDS = 0.5
SLOW_FRESH_SECONDS = 5.0
#: Seconds that somebody who asks waits for the store. No worker of the application is kept waiting, and to fetch what a
#: thousand workers have published takes a busy machine longer than the second that those have patience.
PATIENCE = 8.0

T = t.TypeVar("T")


def read_store(url: str) -> Reader:
    """Return a reader of the store that *url* names; nothing is opened before it is asked.

    :raises ConfigError: there is no such store, or no other process can read it.
    """
    open_to_read(url)
    publisher = Publisher(functools.partial(open_to_read, url), lambda number: None)
    return Reader(View(publisher, PATIENCE))


class Reader:
    """Asks a store once for all who want to know the same at the same time, and knows since when it does not answer.

    :param store: what is read.
    """

    def __init__(self, store: Readable) -> None:
        self._store = store
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()
        #: Why the last question was not answered; None if it was.
        self.problem: StoreError | None = None
        #: Since when no question was answered; monotonic seconds.
        self._away_since: float | None = None

    @property
    def away_seconds(self) -> float:
        """Seconds since the first of the questions that were not answered; 0 if the last one was."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    def live(self) -> list[Published]:
        return self._shared("live", self._store.live)

    def documents(self, kind: str) -> list[Published]:
        if kind == LIVE:
            return self.live()
        return self._shared(kind, lambda: self._store.documents(kind), slow=True)

    def findings(self) -> list[Sighted]:
        return self._shared("findings", self._store.findings)

    def finding(self, fingerprint: str) -> Sighted | None:
        return next((each for each in self.findings() if each.fingerprint == fingerprint), None)

    def _shared(self, name: str, read: t.Callable[[], T], *, slow: bool = False) -> T:
        with self._lock:
            answer = self._answers.setdefault(name, _Answer())
        with answer.lock:
            if time.monotonic() >= answer.fresh_until:
                self._ask(answer, read)
                seconds = SLOW_FRESH_SECONDS if slow and answer.error is None else FRESH_SECONDS
                answer.fresh_until = time.monotonic() + seconds
            if answer.error is not None:
                raise StoreError(str(answer.error))
            return t.cast(T, answer.value)

    def _ask(self, answer: _Answer, read: t.Callable[[], t.Any]) -> None:
        answer.value = answer.error = None
        try:
            answer.value = read()
            self._away_since = None
        except StoreError as error:
            answer.error = error
            self._away_since = self._away_since or time.monotonic()
        self.problem = answer.error


class _Answer:
    """What the store said to one question."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: t.Any = None
        self.error: StoreError | None = None
        self.fresh_until = 0.0
