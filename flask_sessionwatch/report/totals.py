"""What scopes and sites have used since the process began, as plain data that can be added up over processes.

Like the metrics, it is counted from closed records by the watchdog; nothing here runs inside a request.
"""

from __future__ import annotations

import bisect
import threading
import typing as t
import weakref
from collections import Counter as Tally
from collections import defaultdict
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field

from ..observe.clock import clock
from ..observe.ended import Ended
from ..observe.ended import Label
from ..observe.ended import seconds_held
from ..observe.ended import seconds_waited
from ..observe.pooled import EngineInfo
from ..observe.records import Checkout
from ..observe.records import Scope
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

    def take(self, ended: Ended) -> None:
        """Count records that have ended."""
        with self._lock:
            self._take_transactions(ended)
            self._take_checkouts(ended)
            for label, scopes in ended.scopes_by_label.items():
                self._take_scopes(label, scopes)

    def _take_transactions(self, ended: Ended) -> None:
        # Most scopes end beside their transactions, and are never entered.
        sessions: dict[Scope, dict[t.Any, None]] = {}
        any_entered = bool(self._sessions)
        for transaction in ended.transactions:
            scope = transaction.scope
            if scope is None:
                continue
            known = sessions.get(scope)
            if known is None:
                known = sessions[scope] = self._sessions.pop(scope, {}) if any_entered else {}
            key = transaction.session_key
            if key not in known:
                known[key] = None
                if len(known) > SESSIONS_KNOWN:
                    del known[next(iter(known))]
                self._total(ended.label_of(scope)).sessions += 1
        if sessions:
            over = set(ended.scopes)
            self._sessions.update((scope, known) for scope, known in sessions.items() if scope not in over)

    def _take_checkouts(self, ended: Ended) -> None:
        by_label: defaultdict[Label, list[Checkout]] = defaultdict(list)
        for checkout in ended.checkouts:
            if checkout.scope is not None:
                by_label[ended.label_of(checkout.scope)].append(checkout)
        for label, checkouts in by_label.items():
            total = self._total(label)
            total.held += sum(seconds_held(checkouts))
            total.waited += sum(seconds_waited(checkouts))
        self._add_sites(self.sites, ended.checkouts)
        self._make_room()

    def _take_scopes(self, label: Label, scopes: list[Scope]) -> None:
        self.ended += len(scopes)
        total = self._total(label)
        for commits, number in Tally(each.commits for each in scopes).items():
            total.commits[bisect.bisect_left(COMMIT_BUCKETS, commits)] += number
            total.most_commits = max(total.most_commits, commits)
        total.peak = max(total.peak, *(each.held_peak for each in scopes))
        if self._sessions:
            for scope in scopes:
                self._sessions.pop(scope, None)
        notable = [each for each in scopes if each.more is not None]
        total.verdicts[0] += len(scopes) - len(notable)
        for scope in notable:
            self._take_notable(label, total, scope)

    def _take_notable(self, label: Label, total: ScopeTotal, scope: Scope) -> None:
        total.verdicts[VERDICTS.index(scope.verdict)] += 1
        total.lost_writes += scope.lost_writes
        if scope.found is not None:
            self._remember(label, scope, *scope.found)

    def _remember(self, label: Label, scope: Scope, at: float, found: tuple[str, ...]) -> None:
        told = (scope.verdict, scope.status, scope.error, scope.holder.name, scope.commits, scope.held_peak)
        bad = self.bad.setdefault(self._key(label), deque(maxlen=BAD_KEPT))
        bad.append(BadScope(at, *told, found))

    def _add_sites(self, sites: dict[tuple[str, Call], SiteTotal], checkouts: Iterable[Checkout]) -> None:
        """Add *checkouts*, of which those made by one call are looked up once.

        Code is told apart by its id: hashing it takes as long as all the rest.
        """
        together: defaultdict[tuple[EngineInfo, int, int], list[Checkout]] = defaultdict(list)
        for each in checkouts:
            if each.stack:
                code, place = each.stack[0]
                together[each.pooled.engine, id(code), place].append(each)
        for (engine, _, _), made in together.items():
            call = made[0].stack[0]
            if self._stacks.is_application(call[0].co_filename):
                self._add_site(sites, engine, call, made)
            else:
                for each in made:
                    self._add_site(sites, engine, self._stacks.first_application_call(each.stack), [each])

    def _add_site(
        self,
        sites: dict[tuple[str, Call], SiteTotal],
        engine: EngineInfo,
        call: Call | None,
        made: list[Checkout],
    ) -> None:
        if call is not None:
            now = clock()
            held = sum((now if each.ended_at is None else each.ended_at) - each.began_at for each in made)
            before = sites.get((engine.name, call), SiteTotal(0.0, 0))
            sites[engine.name, call] = SiteTotal(before.held + held, before.checkouts + len(made))

    def _total(self, label: Label) -> ScopeTotal:
        key = self._key(label)
        total = self.scopes.get(key)
        if total is None:
            total = self.scopes[key] = ScopeTotal()
        return total

    def _key(self, label: Label) -> Label:
        return label if label in self.scopes or len(self.scopes) < SCOPES_KEPT else (OTHER, label[1])

    def _make_room(self) -> None:
        if len(self.sites) > SITES_KEPT:
            by_use = sorted(self.sites, key=lambda each: self.sites[each].held)
            for each in by_use[: len(by_use) - SITES_KEPT // 2]:
                del self.sites[each]

    def as_json(self, live: Iterable[Checkout] = ()) -> dict[str, t.Any]:
        """Return it as plain data: lists in the order of the fields, since there may be many.

        :param live: check-outs that last still; their sites have held them until now.
        """
        sites = self.sites.copy()
        self._add_sites(sites, live)
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
