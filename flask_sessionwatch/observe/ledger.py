"""What is live now: scopes, sessions' transactions, check-outs; and what just happened to them.

The recorder and the scopes write here, rules and reports read. Events may come from the garbage collector,
on any thread and inside another event, so everything is one atomic operation on a dict, set or deque, and
nothing takes a lock.
"""

from __future__ import annotations

import os
import time
import typing as t
import weakref
from collections import deque

from .clock import clock
from .holder import Holder
from .holder import Ref
from .pooled import EngineInfo
from .pooled import Pooled
from .records import INCIDENTS_KEPT
from .records import Checkout
from .records import Incident
from .records import Scope
from .records import Transaction
from .records import current_scope
from .stack import Stacks

#: Ended records kept until the watchdog has counted them; older ones are dropped beyond that.
CLOSED_KEPT = 100_000
RECENT_KEPT = 500
#: Engines of one kind, and kinds of engines, that are remembered for having been left behind.
ENGINES_KEPT = 100


class Ledger:
    """Everything that is live in this process."""

    def __init__(self, stacks: Stacks) -> None:
        self.stacks = stacks
        self.engines: dict[int, EngineInfo] = {}
        #: Engines that a scope used first and left behind, by who judges it and by what they have in common.
        self.engines_left: weakref.WeakKeyDictionary[t.Any, dict[t.Any, deque[EngineInfo]]] = (
            weakref.WeakKeyDictionary()
        )
        #: Every pooled connection that this process has checked out, for as long as its pool keeps it.
        self.pooled: set[weakref.ref[Pooled]] = set()
        #: Sessions' root transactions by the number of the Session.
        self.transactions: dict[int, Transaction] = {}
        #: Those of them that last: a request's are entered at a tick, or when its answer is begun, all others at once.
        self.long: set[Transaction] = set()
        #: The numbers of Sessions that a thread was refused because another one was using them.
        self.contested: set[int] = set()
        #: Scopes that are open; only those that may outlive their thread's attention are kept here.
        self.scopes: set[Scope] = set()
        #: Every thread or greenlet that has used a session or served a request, for as long as it lives.
        self.holders: set[weakref.ref[Holder]] = set()
        #: Who waits for a connection, of which engine, and since when.
        self.waiting: dict[Holder, tuple[EngineInfo, float]] = {}
        #: What happened outside of an open scope, to be judged at the next tick.
        self.incidents: deque[Incident] = deque(maxlen=INCIDENTS_KEPT)
        #: Ended scopes, transactions, check-outs and other facts, to be counted by the watchdog.
        self.closed: deque[t.Any] = deque(maxlen=CLOSED_KEPT)
        #: Transactions that were counted already, for the history of an object that is used after its session.
        self.recent: deque[Transaction] = deque(maxlen=RECENT_KEPT)
        #: The objects in one session from which on its growth is followed; the smallest limit of all applications.
        self.most_objects = 10_000
        #: Whether a request was served yet.
        self.serving = False
        self.internal_errors: int = 0
        #: How many of them were made before the present watch was begun.
        self.errors_forgiven: int = 0
        self.attached_at: float = clock()
        #: The process this is about.
        self.pid: int = os.getpid()
        #: The process that forked this one, and when by the clock on the wall; None unless it was forked.
        self.forked: tuple[int, float] | None = None
        #: Leads to the scope that was open when this process was forked; it ends in the parent only.
        self.inherited: Ref = _nothing

    def forget(self) -> None:
        """Drop all that is live, as a child process must after a fork: it is its parent's."""
        for live in (
            self.pooled,
            self.transactions,
            self.long,
            self.scopes,
            self.waiting,
            self.incidents,
            self.closed,
            self.recent,
        ):
            live.clear()
        for ref in self.holders.copy():
            holder = ref()
            if holder is not None:
                holder.held = holder.latest = holder.scope = None

    @property
    def checkouts(self) -> set[Checkout]:
        """What is checked out now."""
        return {checkout for checkout in self._entered() if checkout.is_open}

    def closed_unheard(self) -> set[Checkout]:
        """Return what is closed already, and still entered as checked out."""
        return {checkout for checkout in self._entered() if not checkout.is_open}

    def _entered(self) -> t.Iterator[Checkout]:
        for ref in self.pooled.copy():
            pooled = ref()
            if pooled is None:
                continue
            checkout, also = pooled.checkout, pooled.also
            if checkout is not None:
                yield checkout
            yield from also or ()

    def enter(self, pooled: Pooled) -> None:
        """Follow what is checked out of *pooled* from now on."""
        self.pooled.add(weakref.ref(pooled, self.pooled.discard))

    def fork(self) -> None:
        """Begin anew in a child process."""
        self.forked = (self.pid, time.time())
        self.pid = os.getpid()
        scope = current_scope.get()
        self.inherited = _nothing if scope is None else weakref.ref(scope)
        self.internal_errors = self.errors_forgiven = 0
        self.forget()

    def engine_left(self, scope: Scope, engine: EngineInfo, alike: t.Hashable) -> list[EngineInfo]:
        """Remember that *scope* made *engine* and left it behind; return those it is alike to, and it.

        :param alike: what they have in common.
        """
        kinds = self.engines_left.setdefault(scope.owner, {})
        if len(kinds) >= ENGINES_KEPT and alike not in kinds:
            kinds.clear()
        left = kinds.setdefault(alike, deque(maxlen=ENGINES_KEPT))
        left.append(engine)
        return [each for each in left if not each.reused]

    def new_holder(self) -> Holder:
        """Make the record of the calling thread."""
        holder = Holder()
        self.holders.add(weakref.ref(holder, self.holders.discard))
        return holder

    def lender_of(self, session: t.Any) -> Scope | None:
        """Return the open request that used *session* before, and has lent it to the calling thread."""
        for ref in self.holders.copy():
            holder = ref()
            scope = None if holder is None else holder.scope
            last = None if scope is None or scope.ended else scope.last_transaction
            if last is not None and last.session() is session:
                return scope
        return None

    def contend(self, session_key: int) -> None:
        """Remember that several threads were seen using a Session at once."""
        if len(self.contested) >= RECENT_KEPT:
            self.contested.clear()
        self.contested.add(session_key)

    def is_contested(self, transaction: Transaction) -> bool:
        """Whether several threads were seen using the Session of *transaction* at once."""
        return transaction.session_key in self.contested

    def happened(self, incident: Incident) -> None:
        """File *incident* with its scope, or for the next tick where that is over or unknown."""
        scope = incident.scope
        if scope is None or scope.ended:
            self.incidents.append(incident)
        else:
            scope.add_incident(incident)

    def used(self, engine: EngineInfo) -> int:
        """Return how many connections of *engine* are checked out."""
        return sum(1 for checkout in self.checkouts if checkout.engine is engine)


def _nothing() -> None:
    return None
