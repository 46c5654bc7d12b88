"""What has ended since the last look, added up once for everybody who counts."""

from __future__ import annotations

import bisect
import functools
import itertools
import operator
import typing as t
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence

from ..observe.ended import Ended
from ..observe.ended import Label
from ..observe.ended import seconds_held
from ..observe.ended import seconds_waited
from ..observe.ledger import Ledger
from ..observe.pooled import EngineInfo
from ..observe.records import Checkout
from ..observe.records import Scope
from ..observe.records import Transaction

#: The upper bounds of the buckets that durations are counted in.
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: How a Session's transaction may end.
OUTCOMES = ("commit", "rollback", "rollback_on_close", "error", "garbage_collected")

#: A metric's name and the values of its labels.
Key: t.TypeAlias = "tuple[str, tuple[str, ...]]"


class Harvest:
    """What has ended, added up by series, so that each of them is looked up and locked once and not for every request.

    :param ended: records of the ledger.
    :param live: what is checked out still, which it keeps for those who count that.
    """

    def __init__(self, ended: Ended, live: Iterable[Checkout] = ()) -> None:
        self.counts: defaultdict[Key, int] = defaultdict(int)
        self.values: defaultdict[Key, list[float]] = defaultdict(list)
        self.live: list[Checkout] = list(live)
        for label, scopes in ended.scopes_by_label.items():
            self._add_scopes(label, scopes)
        for engine, checkouts in ended.checkouts_by_engine.items():
            self._add_checkouts(engine.name, checkouts)
        self._add_transactions(ended.transactions)
        for fact in ended.facts:
            self._add_fact(*fact)
        #: The most connections of each engine that were checked out at once.
        self.peaks: dict[str, int] = _peaks(ended.checkouts, self.live)

    def _add_scopes(self, label: Label, scopes: list[Scope]) -> None:
        self.values["scope_commits", label] += [each.commits for each in scopes]
        self.values["scope_connections", label] += [each.held_peak for each in scopes]
        notable = [each for each in scopes if each.more is not None]
        verdicts = Tally(each.verdict for each in notable)
        verdicts["clean"] += len(scopes) - len(notable)
        for verdict, number in verdicts.items():
            if number:
                self.counts["scopes", (*label, verdict)] += number
        for each in notable:
            if each.lost_writes:
                self.counts["lost_writes", (label[0], _status_class(each.status))] += 1

    def _add_checkouts(self, engine: str, checkouts: list[Checkout]) -> None:
        self.values["connection_use_seconds", (engine,)] += seconds_held(checkouts)
        self.values["connection_wait_seconds", (engine,)] += seconds_waited(checkouts)

    def _add_transactions(self, transactions: list[Transaction]) -> None:
        seconds: defaultdict[tuple[str, EngineInfo | None, str], list[float]] = defaultdict(list)
        for each in transactions:
            scope = each.scope
            kind = "none" if scope is None else "request" if scope.more is None else scope.kind
            engine = each.checkouts[0].pooled.engine if each.checkouts else None
            lasted = (each.ended_at or each.began_at) - each.began_at
            seconds[kind, engine, each.ending or "error"].append(lasted)
        for (kind, engine, ending), values in seconds.items():
            self.values["session_duration_seconds", (kind,)] += values
            if engine is not None:
                self.values["transaction_duration_seconds", (engine.name,)] += values
                self.counts["transactions", (engine.name, ending)] += len(values)

    def _add_fact(self, kind: str, engine: EngineInfo, value: float) -> None:
        if kind == "created":
            self.values["connection_create_seconds", (engine.name,)].append(value)
        elif kind == "timeout":
            self.counts["connection_timeouts", (engine.name,)] += 1


def _peaks(ended: Iterable[Checkout], live: Iterable[Checkout]) -> dict[str, int]:
    """Replay check-outs and check-ins since the last look, for the most that were held at once."""
    steps: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
    for each in ended:
        moments = steps[each.pooled.engine.name]
        moments.append((each.began_at, 1))
        if each.ended_at is not None:
            moments.append((each.ended_at, -1))
    for each in live:
        steps[each.pooled.engine.name].append((each.began_at, 1))
    step = operator.itemgetter(1)
    return {name: max(itertools.accumulate(map(step, sorted(moments)))) for name, moments in steps.items()}


def buckets_of(bounds: Sequence[float], values: Iterable[float]) -> Tally[int]:
    """Return how many of *values* fall into which bucket: the first one whose upper bound they do not exceed.

    :param bounds: the upper bounds, ascending.
    """
    return Tally(map(functools.partial(bisect.bisect_left, bounds), values))


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
