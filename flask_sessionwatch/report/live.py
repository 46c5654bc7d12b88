"""The live picture of this process, as plain data."""

from __future__ import annotations

import time
import typing as t

from ..finding import stamp
from ..observe.clock import clock
from ..observe.ledger import Ledger
from ..observe.present import Present
from ..observe.records import Checkout
from ..observe.records import Scope
from ..observe.records import Transaction
from ..observe.stack import Stack
from ..version import VERSION
from .metrics import idle_of
from .metrics import live_pools

#: Frames of a stack, and sessions and check-outs, that a process tells of itself to those who only read.
FRAMES_TOLD = 10
ROWS_TOLD = 50


class LivePicture:
    """Renders the ledger for one reader.

    :param ledger: the process's ledger.
    :param brief: whether it is to be sent away each second: of each stack only the application's own frames, and of too many
        sessions and check-outs those that are held for the longest.
    :param stacks: whether to render stacks at all.
    """

    def __init__(self, ledger: Ledger, *, brief: bool = False, stacks: bool = True) -> None:
        self._ledger = ledger
        self._brief = brief
        self._stacks = stacks
        self._present = Present(ledger.stacks)
        self._now = clock()
        self._wall = time.time() - self._now

    def as_json(self) -> dict[str, t.Any]:
        """Return engines, sessions and check-outs, how many of these were left out, and how many Sessions there are."""
        checkouts = sorted(self._ledger.checkouts.copy(), key=lambda each: each.began_at)
        transactions = sorted(self._ledger.transactions.copy().values(), key=lambda each: each.began_at)
        most = ROWS_TOLD if self._brief else None
        return {
            "version": VERSION,
            "engines": self._engines(checkouts),
            "sessions": [self._session(each) for each in transactions[:most]],
            "checkouts": [self._checkout(each) for each in checkouts[:most]],
            "omitted": {
                "sessions": len(transactions[most:]) if most else 0,
                "checkouts": len(checkouts[most:]) if most else 0,
            },
            "counts": {
                "sessions_open": len(transactions),
                "leaked_sessions": sum(each.leaked for each in transactions),
            },
        }

    def _engines(self, checkouts: list[Checkout]) -> list[dict[str, t.Any]]:
        waiting = [engine for engine, _ in self._ledger.waiting.copy().values()]
        engines = []
        for engine, pool in live_pools(self._ledger):
            used = [each for each in checkouts if each.engine is engine]
            size = getattr(pool, "size", None)
            engines.append(
                {
                    "name": engine.name,
                    "dialect": engine.dialect,
                    "pool": type(pool).__name__,
                    "size": size() if callable(size) else None,
                    "max": engine.capacity,
                    "overflow": _overflow_of(pool),
                    "used": len(used),
                    "idle": idle_of(pool),
                    "waiting": waiting.count(engine),
                    "oldest_age_seconds": self._age(used[0]) if used else None,
                }
            )
        return sorted(engines, key=lambda engine: str(engine["name"]))

    def _session(self, transaction: Transaction) -> dict[str, t.Any]:
        held = transaction.held
        user = held[0].user if held else transaction.holder
        over = transaction.scope is not None and transaction.scope.ended
        return {
            "id": _session_id(transaction),
            **self._common(transaction, leaked=transaction.leaked),
            "thread": transaction.holder.name,
            "writes": transaction.writes + (transaction.cursor is not None),
            "checkouts": len(held),
            "doing": None if over else self._present.doing(user).what,
            "now": self._frames(self._present.stack(user)),
        }

    def _checkout(self, checkout: Checkout) -> dict[str, t.Any]:
        owner = checkout.transaction
        return {
            "id": f"c{id(checkout):x}",
            "engine": checkout.engine.name,
            **self._common(checkout, leaked=checkout.leaked or (owner is not None and owner.leaked)),
            "thread": checkout.user.name,
            "session": owner is not None,
            "session_id": None if owner is None else _session_id(owner),
            "statements": checkout.statements,
            "server_id": checkout.pooled.server_id,
            "idle_seconds": round(self._now - checkout.used_at, 3),
            "doing": self._present.doing_with(checkout).what,
            "now": self._frames(self._present.stack(checkout.user)),
        }

    def _common(self, record: Checkout | Transaction, *, leaked: bool) -> dict[str, t.Any]:
        site = self._ledger.stacks.site(record.stack)
        return {
            **_scope(record.scope),
            "site": None if site is None else site._asdict(),
            "since": stamp(round(self._wall + record.began_at, 3)),
            "age_seconds": self._age(record),
            "leaked": leaked,
            "stack": self._frames(record.stack),
        }

    def _frames(self, stack: Stack) -> list[dict[str, t.Any]]:
        """Render a captured stack, innermost frame first."""
        if not self._stacks:
            return []
        if self._brief:
            stack = self._ledger.stacks.application_calls(stack)[:FRAMES_TOLD]
        return [frame._asdict() for frame in self._ledger.stacks.frames(stack)]

    def _age(self, record: Checkout | Transaction) -> float:
        return round(self._now - record.began_at, 3)


def _overflow_of(pool: t.Any) -> int:
    """Return how many connections *pool* has open beyond its size."""
    overflow = getattr(pool, "overflow", None)
    return max(overflow(), 0) if callable(overflow) else 0


def _session_id(transaction: Transaction) -> str:
    return f"s{id(transaction):x}"


def _scope(scope: Scope | None) -> dict[str, str | None]:
    if scope is None:
        return {"scope": None, "scope_kind": None}
    return {"scope": scope.name, "scope_kind": scope.kind}
