"""What scopes and sites have used since the process began, as plain data that can be added up over processes.

Like the metrics, it is counted from closed records by the watchdog; nothing here runs inside a request.
"""

from __future__ import annotations

import bisect
import threading
import typing as t
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

from ..observe.ledger import Checkout
from ..observe.ledger import Scope
from ..observe.ledger import Transaction
from ..observe.ledger import clock
from ..observe.stack import Call
from ..observe.stack import Stacks
from ..observe.stack import site_of

#: How a scope may end: nothing found, or the worst level that was.
VERDICTS = ("clean", "info", "warning", "error")
#: The upper bounds of the buckets that commits per scope are counted in; what is more goes to a last one.
COMMIT_BUCKETS = (0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100)

#: Scopes that are counted by name; all others are counted together.
SCOPES_KEPT = 300
OTHER = "<other>"
#: Sessions of one scope that are told apart; one that is used again after so many others counts again.
SESSIONS_KNOWN = 1_000
#: Sites that are counted; beyond that those that used the least are dropped.
SITES_KEPT = 500
#: Sites that are published for each engine.
SITES_TOLD = 20
#: Scopes with findings that are remembered of each name, and that are published in all.
BAD_KEPT = 5
BAD_TOLD = 100


@dataclass
class ScopeTotal:
    """What the scopes of one name have used.

    :param verdicts: how many ended how, in the order of :data:`VERDICTS`.
    :param commits: how many made how many commits, by :data:`COMMIT_BUCKETS`.
    :param most_commits: the most commits that one of them made.
    :param sessions: how many Sessions they worked with; one that commits again and again is one.
    :param peak: the most connections that one of them held at once.
    :param held: seconds their connections were checked out.
    :param waited: seconds they waited for a connection.
    :param lost_writes: how many of them lost what they had written.
    """

    verdicts: list[int] = field(default_factory=lambda: [0] * len(VERDICTS))
    commits: list[int] = field(default_factory=lambda: [0] * (len(COMMIT_BUCKETS) + 1))
    most_commits: int = 0
    sessions: int = 0
    peak: int = 0
    held: float = 0.0
    waited: float = 0.0
    lost_writes: int = 0

    def as_json(self) -> list[t.Any]:
        """Return it as plain data, in the order of the fields."""
        numbers = (self.most_commits, self.sessions, self.peak, self.held, self.waited, self.lost_writes)
        return [self.verdicts.copy(), self.commits.copy(), *_rounded(numbers)]


class SiteTotal(t.NamedTuple):
    """How long the connections of one engine that were checked out at one line were held, and how many they were."""

    held: float
    checkouts: int


class BadScope(t.NamedTuple):
    """A scope in which something was found.

    :param at: when that was, in seconds since the epoch.
    :param verdict: the worst level that was.
    :param status: the HTTP status of a request.
    :param error: the name of the exception that left it.
    :param thread: the thread that ran it.
    :param commits: how many it made.
    :param peak: the most connections it held at once.
    :param findings: the fingerprints of what was found.
    """

    at: float
    verdict: str
    status: int | None
    error: str | None
    thread: str
    commits: int
    peak: int
    findings: tuple[str, ...]


class _Batch:
    """What is known of the scopes that ended at about the same time: most of what ends belongs to one of those."""

    def __init__(self) -> None:
        self.totals: dict[Scope, ScopeTotal] = {}
        #: The keys of the Sessions that each has worked with, until it ends.
        self.sessions: dict[Scope, dict[t.Any, None]] = {}


class Totals:
    """Counts what has ended in this process.

    :param stacks: knows which line of a stack is the application's.
    """

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self._lock = threading.Lock()
        self.scopes: dict[tuple[str, str], ScopeTotal] = {}
        self.sites: dict[tuple[str, Call], SiteTotal] = {}
        #: The latest scopes in which something was found, as plain data in the order of :class:`BadScope`.
        self.bad: dict[tuple[str, str], deque[BadScope]] = {}
        #: The keys of the Sessions that each scope has worked with, latest last.
        self._sessions: weakref.WeakKeyDictionary[Scope, dict[t.Any, None]] = weakref.WeakKeyDictionary()
        #: How many scopes have ended.
        self.ended: int = 0

    def take(self, closed: Iterable[t.Any]) -> None:
        """Count records that have ended."""
        with self._lock:
            batch = _Batch()
            for record in closed:
                self._take(record, batch)
            # What is left are the scopes that go on.
            self._sessions.update(batch.sessions)

    def _take(self, record: t.Any, batch: _Batch) -> None:
        if isinstance(record, Scope):
            self._take_scope(record, batch)
        elif isinstance(record, Checkout):
            self._take_checkout(record, batch)
        elif isinstance(record, Transaction) and record.scope is not None:
            self._take_transaction(record, record.scope, batch)

    def _take_transaction(self, transaction: Transaction, scope: Scope, batch: _Batch) -> None:
        known = batch.sessions.get(scope)
        if known is None:
            known = batch.sessions[scope] = self._sessions.pop(scope, {}) if self._sessions else {}
        if transaction.session_key in known:
            return
        known[transaction.session_key] = None
        if len(known) > SESSIONS_KNOWN:
            del known[next(iter(known))]
        self._total(scope, batch).sessions += 1

    def _take_scope(self, scope: Scope, batch: _Batch) -> None:
        self.ended += 1
        batch.sessions.pop(scope, None)
        if self._sessions:
            self._sessions.pop(scope, None)
        total = self._total(scope, batch)
        total.verdicts[VERDICTS.index(scope.verdict)] += 1
        total.commits[bisect.bisect_left(COMMIT_BUCKETS, scope.commits)] += 1
        total.most_commits = max(total.most_commits, scope.commits)
        total.peak = max(total.peak, scope.held_peak)
        if scope.more is None:
            return
        if scope.error is None and any(each.kind == "lost_write" for each in scope.incidents or ()):
            total.lost_writes += 1
        if scope.found is not None:
            self._remember(scope, *scope.found)

    def _remember(self, scope: Scope, at: float, found: tuple[str, ...]) -> None:
        told = (scope.verdict, scope.status, scope.error, scope.holder.name, scope.commits, scope.held_peak)
        bad = self.bad.setdefault(self._key(scope), deque(maxlen=BAD_KEPT))
        bad.append(BadScope(at, *told, found))

    def _take_checkout(self, checkout: Checkout, batch: _Batch) -> None:
        held = 0.0 if checkout.ended_at is None else checkout.ended_at - checkout.began_at
        if checkout.scope is not None:
            total = self._total(checkout.scope, batch)
            total.held += held
            total.waited += checkout.waited
        self._add_site(self.sites, checkout, held)
        self._make_room()

    def _add_site(self, sites: dict[tuple[str, Call], SiteTotal], checkout: Checkout, held: float) -> None:
        call = self._stacks.first_application_call(checkout.stack)
        if call is not None:
            before = sites.get((checkout.engine.name, call), SiteTotal(0.0, 0))
            sites[checkout.engine.name, call] = SiteTotal(before.held + held, before.checkouts + 1)

    def _total(self, scope: Scope, batch: _Batch) -> ScopeTotal:
        total = batch.totals.get(scope)
        if total is None:
            key = self._key(scope)
            total = self.scopes.get(key)
            if total is None:
                total = self.scopes[key] = ScopeTotal()
            batch.totals[scope] = total
        return total

    def _key(self, scope: Scope) -> tuple[str, str]:
        key = (scope.name, scope.kind)
        return key if key in self.scopes or len(self.scopes) < SCOPES_KEPT else (OTHER, scope.kind)

    def _make_room(self) -> None:
        if len(self.sites) > SITES_KEPT:
            by_use = sorted(self.sites, key=lambda each: self.sites[each].held)
            for each in by_use[: SITES_KEPT // 2]:
                del self.sites[each]

    def as_json(self, live: Iterable[Checkout] = ()) -> dict[str, t.Any]:
        """Return it as plain data: lists in the order of the fields, since there may be many.

        :param live: check-outs that last still; their sites have held them until now.
        """
        sites = self.sites.copy()
        now = clock()
        for checkout in live:
            self._add_site(sites, checkout, now - checkout.began_at)
        return {
            "scopes": [[*key, *total.as_json()] for key, total in self.scopes.copy().items()],
            "sites": [[engine, *site_of(call), *_rounded(total)] for (engine, call), total in _top(sites)],
            "bad": self._bad(),
        }

    def _bad(self) -> list[list[t.Any]]:
        with self._lock:
            bad = [(key, each) for key, ring in self.bad.items() for each in ring]
        bad.sort(key=lambda item: -item[1].at)
        return [[*key, round(each.at, 3), *each[1:]] for key, each in bad[:BAD_TOLD]]

    def forget(self) -> None:
        """Begin anew, as a child process must after a fork."""
        self._lock = threading.Lock()
        self.scopes.clear()
        self.sites.clear()
        self.bad.clear()
        self._sessions.clear()
        self.ended = 0


def _top(sites: dict[tuple[str, Call], SiteTotal]) -> list[tuple[tuple[str, Call], SiteTotal]]:
    """Return the sites that held connections for the longest, of each engine."""
    by_engine: dict[str, list[tuple[tuple[str, Call], SiteTotal]]] = {}
    for item in sorted(sites.items(), key=lambda item: -item[1].held):
        by_engine.setdefault(item[0][0], []).append(item)
    return [item for items in by_engine.values() for item in items[:SITES_TOLD]]


def _rounded(values: Iterable[t.Any]) -> list[t.Any]:
    return [round(each, 6) if isinstance(each, float) else each for each in values]
