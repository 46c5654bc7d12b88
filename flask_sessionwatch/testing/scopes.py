"""Which test or fixture the running code belongs to, and what a test leaves to those that live longer."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ..observe.records import Checkout
from ..observe.records import Scope
from ..observe.records import Transaction
from ..observe.records import current_scope
from ..observe.records import new_scope
from ..observe.scopes import FindingRaised
from ..observe.scopes import contexts
from ..observe.scopes import owns
from ..process import Process
from ..watched import Watched


class TestScopes:
    """Makes scopes of tests and of the fixtures that outlive them.

    What runs in a request, a command or an app context of its own belongs to that. All the rest belongs to the test that
    runs, on any thread; but what a fixture of a module or of the whole run begins while it is set up is the fixture's.

    :param process: the process that is watched.
    :param owner: judges tests and fixtures.
    """

    __test__ = False

    def __init__(self, process: Process, owner: Watched) -> None:
        self._process = process
        self._owner = owner
        self._test: Scope | None = None
        self._setting_up: list[Scope] = []
        self._thread = threading.get_ident()
        self._of_context = process.recorder.find_scope
        process.recorder.find_scope = self.find

    def close(self) -> None:
        """Find scopes as before."""
        self._process.recorder.find_scope = self._of_context

    def find(self) -> Scope | None:
        """Return the scope of work that runs outside of any request."""
        if self._setting_up and threading.get_ident() == self._thread:
            return self._setting_up[-1]
        return self._of_context() or self._test

    def _new(self, kind: str, name: str) -> Scope:
        recorder = self._process.recorder
        if not recorder.awake:
            recorder.wake()
        return new_scope(kind, name, self._owner, None, recorder.holder())

    # Tests

    def begin_test(self, name: str) -> None:
        """Open the scope of a test."""
        self._thread = threading.get_ident()
        self._test = scope = self._new("test", name)
        current_scope.set(None)
        self._lend_contexts(scope)
        for transaction in self._process.ledger.transactions.copy().values():
            if self._is_lent(transaction, scope):
                _hand_over(transaction, scope)

    def end_test(self) -> None:
        """Close the scope of the test, and have judged what it leaves open.

        A session that belongs to an app context which was pushed around the test is not the test's to close.
        """
        scope, self._test = self._test, None
        if scope is None:
            return
        for transaction in scope.transactions:
            if self._is_lent(transaction, scope):
                _let_go(transaction)
        self._take_from_contexts(scope)
        self._lend_contexts(scope)  # or what is left would be handed to them
        self._end(scope)

    def _take_from_contexts(self, scope: Scope) -> None:
        """Take over what is open in app contexts that the test has pushed and not popped."""
        by_context = self._process.scopes.by_context
        for context in contexts():
            left = by_context.get(context, scope)
            if left is scope:
                continue
            for transaction in left.transactions:
                _hand_over(transaction, scope)
            for checkout in left.checkouts:
                _hand_over_connection(checkout, scope)

    def _end(self, scope: Scope) -> None:
        with contextlib.suppress(FindingRaised):  # it is told as what it is
            self._process.scopes.end(scope)

    def _lend_contexts(self, scope: Scope) -> None:
        """Let *scope* have what happens from now on in the app contexts that are pushed already."""
        for context in contexts():
            self._process.scopes.by_context[context] = scope

    def _is_lent(self, transaction: Transaction, scope: Scope) -> bool:
        """Whether the session of *transaction* belongs to an app context that was pushed around *scope*."""
        session = transaction.session()
        lent = [each for each in contexts() if self._process.scopes.by_context.get(each) is scope]
        return session is not None and any(owns(each, session) for each in lent)

    # Fixtures

    @contextlib.contextmanager
    def setting_up(self, name: str) -> Iterator[Scope]:
        """Let what a block begins belong to a fixture that outlives the test."""
        scope = self._new("fixture", name)
        self._setting_up.append(scope)
        before = current_scope.get()
        current_scope.set(None)
        try:
            yield scope
        finally:
            current_scope.set(before)
            self._setting_up.remove(scope)
            around = self._setting_up[-1] if self._setting_up else self._test
            if around is not None:
                self._lend_contexts(around)

    def end_fixture(self, scope: Scope) -> None:
        """Close the scope of a fixture, and have judged what it leaves open."""
        self._end(scope)


def _hand_over(transaction: Transaction, scope: Scope) -> None:
    _let_go(transaction)
    transaction.scope = scope
    scope.enter(transaction)
    for checkout in transaction.held:
        _hand_over_connection(checkout, scope)


def _hand_over_connection(checkout: Checkout, scope: Scope) -> None:
    (checkout.scope or checkout.holder).let_go(checkout)
    checkout.scope = scope
    scope.take(checkout)


def _let_go(transaction: Transaction) -> None:
    if transaction.scope is not None:
        transaction.scope.leave(transaction)
    for checkout in transaction.held:
        (checkout.scope or checkout.holder).let_go(checkout)
