"""One process among those that share a store: what it tells of itself, and what it can show of all."""

from __future__ import annotations

import random
import time
import typing as t
from collections import Counter

from .finding import Finding
from .observe.ledger import Ledger
from .report.about import recently
from .report.account import Account
from .report.dispatcher import Dispatcher
from .report.history import LONG
from .report.history import RECENT
from .report.live import LivePicture
from .report.sources import sources_of
from .store import Document
from .store import Worker
from .store.base import ABOUT
from .store.base import LIVE
from .store.base import LIVE_SECONDS
from .store.base import SCOPES
from .store.base import Data
from .store.base import Report
from .store.picture import Picture
from .store.publisher import Publisher
from .store.publisher import View
from .store.reports import Reports
from .store.reports import body_of
from .store.reports import sighting_of
from .store.reports import summary_of

#: Seconds between two publications at least.
PUBLISH_SECONDS = 0.9
#: Seconds between two publications of what is no snapshot, and for which it counts.
_PERIODS = {SCOPES: (10.0, 3600.0), ABOUT: (10.0, 3600.0), RECENT: (10.0, 900.0), LONG: (60.0, 6 * 3600.0)}
#: Seconds that the end of a process is held up at most, to publish what it found last; hardly ever more than a moment.
PARTING_SECONDS = 3.0


class Member:
    """This process among those that share a store.

    :param ledger: what is live in it.
    :param account: what it has counted.
    :param dispatchers: answers who has its findings.
    :param publisher: has the store; None where there is nobody to share with.
    :param about: answers what it tells of itself.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: Account,
        dispatchers: t.Callable[[], list[Dispatcher]],
        publisher: Publisher | None,
        about: t.Callable[[], Data],
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._dispatchers = dispatchers
        self._about = about
        self.publisher = publisher
        self._begin()

    def _begin(self) -> None:
        self._reports = Reports()
        self._published_at = float("-inf")
        self._due = dict.fromkeys(_PERIODS, float("-inf"))

    # What it knows of itself

    @property
    def worker(self) -> Worker:
        return Worker.this()

    def live(self, *, stacks: bool) -> Data:
        """Return what is live in it, all of it."""
        return LivePicture(self._ledger, stacks=stacks).as_json()

    def document(self, kind: str) -> Data:
        """Return what it would publish, in full."""
        if kind == ABOUT:
            findings = self._findings()
            return {**self._about(), "findings": len(findings), "recent": recently(findings)}
        return self.live(stacks=True) if kind == LIVE else self._account.document(kind)

    def reports(self) -> list[Report]:
        """Return all of its findings, each with what a list tells of it."""
        return [Report(each, sighting_of(it), summary_of(it)) for each, it in self._findings().items()]

    def report(self, fingerprint: str) -> Report | None:
        """Return one of its findings with all of its body."""
        found = self._findings().get(fingerprint)
        return None if found is None else Report(fingerprint, sighting_of(found), body_of(found))

    def _findings(self) -> dict[str, Finding]:
        return {
            fingerprint: each
            for one in self._dispatchers()
            for fingerprint, each in one.by_fingerprint.items()
        }

    # What it shows and publishes

    def picture(self) -> Picture:
        """Return the picture of all workers, as far as they can be seen."""
        return Picture(None if self.publisher is None else View(self.publisher), self)

    def publish(self, tick: float) -> None:
        """Hand over what is news.

        :param tick: seconds until it will be called again.
        """
        now = time.monotonic()
        if self.publisher is None or now < self._published_at + PUBLISH_SECONDS:
            return
        self._published_at = now
        if self.publisher.has_lost:
            self._publish_all_again()
        lifetime = max(LIVE_SECONDS, 3 * tick)
        live = self._live()
        documents = {LIVE: Document(live, lifetime)}
        for kind, (period, counts_for) in _PERIODS.items():
            if now >= self._due[kind]:
                # Workers that were started together shall not all publish at the same moment.
                self._due[kind] = now + period * random.uniform(0.8, 1)
                documents[kind] = Document(self.document(kind), counts_for)
        if ABOUT in documents:
            documents[ABOUT].body["sources"] = sources_of(live)
        self.publisher.offer(self.worker, documents, self._reports.changed(self._findings()))

    def _live(self) -> Data:
        """Return what is live, and how many findings are open, by rule."""
        found = [each for one in self._dispatchers() for each in one.open_findings()]
        number = Counter((each.code, each.rule, each.level) for each in found)
        return {
            **LivePicture(self._ledger, brief=True).as_json(),
            "open_findings": [[*rule, count] for rule, count in number.items()],
        }

    def _publish_all_again(self) -> None:
        t.cast(Publisher, self.publisher).has_lost = False
        self._reports.forget()
        self._due = dict.fromkeys(_PERIODS, float("-inf"))

    def leave(self) -> None:
        """Publish what is news still, and say good-bye."""
        if self.publisher is None:
            return
        news = self._reports.changed(self._findings())
        if news and self.publisher.problem is None:
            self.publisher.offer(self.worker, {SCOPES: self._scopes()}, news)
        self.publisher.stop(PARTING_SECONDS)

    def withdraw(self) -> None:
        """Say good-bye, and keep what is news to itself."""
        if self.publisher is not None:
            self.publisher.stop(PARTING_SECONDS)

    def _scopes(self) -> Document:
        return Document(self._account.document(SCOPES), _PERIODS[SCOPES][1])

    def after_fork(self) -> None:
        """Begin anew in a child process."""
        self._begin()
        if self.publisher is not None:
            self.publisher.after_fork_in_child()
