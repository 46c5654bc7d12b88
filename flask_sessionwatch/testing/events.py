"""What a test does to the database, in order: for assertions, and to show when one fails."""

from __future__ import annotations

import sys
import typing as t
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import orm
from sqlalchemy import pool as sa_pool

from ..observe.engines import KEY
from ..observe.engines import pooled_of
from ..observe.records import Scope
from ..observe.stack import Site
from ..process import Process
from .told import Told

COMMITTED = "committed"
CHECKED_OUT = "checked out"


@dataclass(frozen=True)
class Event:
    """Something that happened, where, and in which scope."""

    what: str
    engine: str | None
    site: Site | None
    scope: Scope | None

    def __str__(self) -> str:
        engine = "" if self.engine is None else f" on engine '{self.engine}'"
        place = "" if self.site is None else f" at {self.site}"
        scope = "" if self.scope is None or self.scope.kind == "test" else f", in {self.scope.name}"
        return f"{self.what}{engine}{place}{scope}"


class Events:
    """Writes down each check-out, check-in, commit and rollback while it is on.

    The ledger counts them for all; this keeps them. It listens to the engines' own events, which cost too much anywhere
    but in a test that asks for it.

    :param process: the process that is watched.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._on = False
        self.seen: list[Event] = []

    def start(self) -> None:
        """Begin anew."""
        self.seen = []
        if not self._on:
            self._on = True
            for target, name, listener in self._listeners():
                event.listen(target, name, listener)

    def stop(self) -> None:
        """Listen no more. What was seen is kept."""
        if self._on:
            self._on = False
            for target, name, listener in self._listeners():
                event.remove(target, name, listener)

    def storms(self, nodeid: str, most: int) -> list[Told]:
        """Return the scopes that have committed more often than *most*, as a test is told of them."""
        commits: dict[Scope | None, list[Event]] = {}
        for each in self.seen:
            if each.what == COMMITTED:
                commits.setdefault(each.scope, []).append(each)
        return [_storm(nodeid, most, each) for each in commits.values() if len(each) > most]

    def _listeners(self) -> list[tuple[t.Any, str, t.Any]]:
        return [
            (sa_pool.Pool, "checkout", self._on_checkout),
            (sa_pool.Pool, "checkin", self._on_checkin),
            (sa.Engine, "commit", self._on_core_commit),
            (sa.Engine, "rollback", self._on_core_rollback),
            (orm.Session, "after_commit", self._on_commit),
            (orm.Session, "after_rollback", self._on_rollback),
        ]

    def _note(self, what: str, engine: str | None) -> None:
        stacks = self._process.stacks
        site = stacks.site(stacks.capture(sys._getframe(1)))
        self.seen.append(Event(what, engine, site, self._process.recorder.scope()))

    def _on_checkout(self, connection: object, record: t.Any, proxy: object) -> None:
        self._note(CHECKED_OUT, _engine_of(record))

    def _on_checkin(self, connection: object, record: t.Any) -> None:
        self._note("returned", _engine_of(record))

    def _on_core_commit(self, connection: t.Any) -> None:
        self._note_core(COMMITTED, connection)

    def _on_core_rollback(self, connection: t.Any) -> None:
        self._note_core("rolled back", connection)

    def _note_core(self, what: str, connection: t.Any) -> None:
        pooled = pooled_of(connection)
        checkout = None if pooled is None else pooled.checkout
        if checkout is not None and checkout.transaction is None:  # otherwise the Session tells
            self._note(what, checkout.engine.name)

    def _on_commit(self, session: t.Any) -> None:
        # The release of a savepoint is no commit. That of a Session which has joined a test's transaction is one.
        if not session.in_nested_transaction() and self._has_connection(session):
            self._note(COMMITTED, self._engine_of(session))

    def _on_rollback(self, session: t.Any) -> None:
        if not session.in_nested_transaction():
            self._note("rolled back", self._engine_of(session))

    def _engine_of(self, session: t.Any) -> str | None:
        transaction = self._process.ledger.transactions.get(session.hash_key)
        engine = None if transaction is None else transaction.engine
        return None if engine is None else engine.name

    def _has_connection(self, session: t.Any) -> bool:
        transaction = self._process.ledger.transactions.get(session.hash_key)
        return transaction is not None and bool(transaction.checkouts or transaction.external)


def _engine_of(record: t.Any) -> str | None:
    pooled = record.record_info.get(KEY)
    return None if pooled is None else pooled.engine.name


def counted(number: int, noun: str) -> str:
    """Return "1 commit" or "2 commits"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _storm(nodeid: str, most: int, commits: list[Event]) -> Told:
    scope, site = commits[0].scope, commits[most].site
    subject = "The test" if scope is None or scope.kind == "test" else scope.name
    made, may = counted(len(commits), "commit"), counted(most, "commit")
    lines = [f"SW501 commit-storm: {subject} made {made}, and {may} at most were allowed by its marker."]
    lines += [f"  {each}" for each in commits]
    return Told(
        nodeid,
        "SW501",
        "commit-storm",
        "warning",
        "\n".join(lines),
        None if site is None else site.filename,
        None if site is None else site.lineno,
        None if site is None else site.function,
    )
