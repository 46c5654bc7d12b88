"""What has ended since the last look, sorted by kind once for everybody who counts it or learns from it.

One request leaves three records, and several consumers read each of them: what is done per record here costs a process more than
what is done in the request. So consumers take whole lists, and group before they look anything up.
"""

from __future__ import annotations

import typing as t
from collections import defaultdict
from collections.abc import Iterable

from .once import Once
from .pooled import EngineInfo
from .records import Checkout
from .records import Scope
from .records import Transaction

#: Name and kind of a scope.
Label: t.TypeAlias = tuple[str, str]


class Ended:
    """Records of the ledger that have ended, in the order in which they did.

    :param records: those that the ledger calls closed.
    """

    def __init__(self, records: Iterable[t.Any] = ()) -> None:
        self.scopes: list[Scope] = []
        self.checkouts: list[Checkout] = []
        self.transactions: list[Transaction] = []
        #: What else has happened: a word for it, the engine, and a number.
        self.facts: list[tuple[str, EngineInfo, float]] = []
        self._labels: dict[Scope, Label] = {}
        self._labels_of_rules: dict[tuple[str, int], Label] = {}
        for record in records:
            kind = type(record)
            if kind is Scope:
                self.scopes.append(record)
            elif kind is Transaction:
                # Its connections end with it; one that had ended before has a record of its own.
                ended_at = record.ended_at
                for checkout in record.checkouts:
                    if checkout.ended_at is ended_at:
                        self.checkouts.append(checkout)
                self.transactions.append(record)
            elif kind is Checkout:
                self.checkouts.append(record)
            else:
                self.facts.append(record)

    def __add__(self, later: Ended) -> Ended:
        """Return what has ended by now and *later*."""
        both = Ended()
        both.scopes = self.scopes + later.scopes
        both.checkouts = self.checkouts + later.checkouts
        both.transactions = self.transactions + later.transactions
        both.facts = self.facts + later.facts
        return both

    def label_of(self, scope: Scope) -> Label:
        """Return name and kind of *scope*."""
        if scope not in self._labels:
            self._labels[scope] = self._new_label(scope)
        return self._labels[scope]

    def _new_label(self, scope: Scope) -> Label:
        if scope.more is not None or scope.rule is None:
            return scope.name, scope.kind
        # One rule's requests have the same one.
        key = scope.method, id(scope.rule)
        label = self._labels_of_rules.get(key)
        if label is None:
            label = self._labels_of_rules[key] = scope.name, scope.kind
        return label

    @Once
    def scopes_by_label(self) -> dict[Label, list[Scope]]:
        """The scopes by name and kind."""
        found: defaultdict[Label, list[Scope]] = defaultdict(list)
        for scope in self.scopes:
            found[self.label_of(scope)].append(scope)
        return found

    @Once
    def checkouts_by_engine(self) -> dict[EngineInfo, list[Checkout]]:
        """The check-outs by engine."""
        found: defaultdict[EngineInfo, list[Checkout]] = defaultdict(list)
        for checkout in self.checkouts:
            found[checkout.pooled.engine].append(checkout)
        return found


def seconds_waited(checkouts: Iterable[Checkout]) -> list[float]:
    """Return how long each of *checkouts* waited for its connection."""
    return [0.0 if each.more is None else each.waited for each in checkouts]


def seconds_held(checkouts: Iterable[Checkout]) -> list[float]:
    """Return how long each of *checkouts* was checked out."""
    return [each.ended_at - each.began_at for each in checkouts if each.ended_at is not None]
