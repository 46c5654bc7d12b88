"""What has ended since the last look, added up once for everybody who counts."""

from __future__ import annotations

import typing as t
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable

from ..observe.ledger import Checkout
from ..observe.ledger import EngineInfo
from ..observe.ledger import Ledger
from ..observe.ledger import Scope
from ..observe.ledger import Transaction

#: The upper bounds of the buckets that durations are counted in.
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: How a Session's transaction may end.
OUTCOMES = ("commit", "rollback", "rollback_on_close", "error", "garbage_collected")

#: A metric's name and the values of its labels.
Key: t.TypeAlias = "tuple[str, tuple[str, ...]]"


class Harvest:
    """What has ended, added up by series, so that each of them is looked up and locked once and not for every request.

    :param closed: records of the ledger.
    :param live: what is checked out still, which it keeps for those who count that.
    """

    def __init__(self, closed: Iterable[t.Any] = (), live: Iterable[Checkout] = ()) -> None:
        self.counts: defaultdict[Key, int] = defaultdict(int)
        self.values: defaultdict[Key, list[float]] = defaultdict(list)
        self.checkouts: list[Checkout] = []
        self.live: list[Checkout] = list(live)
        for record in closed:
            self.add(record)
        #: The most connections of each engine that were checked out at once.
        self.peaks: Tally[str] = self._peaks()

    def add(self, record: t.Any) -> None:
        """Take in a record of the ledger."""
        if isinstance(record, Scope):
            self._add_scope(record)
        elif isinstance(record, Checkout):
            self._add_checkout(record)
        elif isinstance(record, Transaction):
            self._add_transaction(record)
        else:
            self._add_fact(*record)

    def _add_scope(self, scope: Scope) -> None:
        name, kind = labels = (scope.name, scope.kind)
        self.counts["scopes", (name, kind, scope.verdict)] += 1
        self.values["scope_commits", labels].append(scope.commits)
        self.values["scope_connections", labels].append(scope.held_peak)
        if (
            scope.more is not None
            and scope.incidents
            and scope.error is None
            and any(each.kind == "lost_write" for each in scope.incidents)
        ):
            self.counts["lost_writes", (name, _status_class(scope.status))] += 1

    def _add_checkout(self, checkout: Checkout) -> None:
        self.checkouts.append(checkout)
        engine = (checkout.pooled.engine.name,)
        if checkout.ended_at is not None:
            self.values["connection_use_seconds", engine].append(checkout.ended_at - checkout.began_at)
        self.values["connection_wait_seconds", engine].append(checkout.waited)

    def _add_transaction(self, transaction: Transaction) -> None:
        seconds = (transaction.ended_at or transaction.began_at) - transaction.began_at
        kind = "none" if transaction.scope is None else transaction.scope.kind
        self.values["session_duration_seconds", (kind,)].append(seconds)
        if transaction.checkouts:
            name = transaction.checkouts[0].pooled.engine.name
            self.values["transaction_duration_seconds", (name,)].append(seconds)
            self.counts["transactions", (name, transaction.ending or "error")] += 1

    def _add_fact(self, kind: str, engine: EngineInfo, value: float) -> None:
        if kind == "created":
            self.values["connection_create_seconds", (engine.name,)].append(value)
        elif kind == "timeout":
            self.counts["connection_timeouts", (engine.name,)] += 1

    def _peaks(self) -> Tally[str]:
        """Replay check-outs and check-ins since the last look, for the most that were held at once."""
        moments = [(each.began_at, 1, each.pooled.engine.name) for each in (*self.checkouts, *self.live)]
        moments += [
            (each.ended_at, -1, each.pooled.engine.name)
            for each in self.checkouts
            if each.ended_at is not None
        ]
        held: Tally[str] = Tally()
        peaks: Tally[str] = Tally()
        for _, step, engine in sorted(moments):
            held[engine] += step
            if held[engine] > peaks[engine]:
                peaks[engine] = held[engine]
        return peaks


def _status_class(status: int | None) -> str:
    return "none" if status is None else f"{status // 100}xx"


class HarvestCounter(t.Protocol):
    """Somebody who counts what has ended, beside the metrics; never asked inside of a request."""

    def begin(self, ledger: Ledger) -> None:
        """Begin to count; *ledger* may be read from now on."""

    def take(self, harvest: Harvest) -> None:
        """Count what has ended since the last time."""

    def end(self) -> None:
        """Count no more."""
