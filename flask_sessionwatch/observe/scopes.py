"""Open and close scopes: requests, bare app contexts, CLI commands and explicit blocks."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import typing as t
import weakref
from collections.abc import Iterator
from types import FrameType

import click
import flask
import flask.globals
from werkzeug.exceptions import HTTPException

from .commands import command_name
from .frames import undisturbed
from .holder import Holder
from .ledger import Ledger
from .recorder import Recorder
from .records import Incident
from .records import Scope
from .records import Transaction
from .records import current_scope
from .records import new_scope


class Judge(t.Protocol):
    """Who is asked about a scope that ended with something to be said."""

    #: Whether its pages are served.
    active: bool
    #: Whether its application is watched; False once the recorder has stepped aside.
    watching: bool
    #: Not empty while a scope that left nothing behind is to be judged as well.
    ears: t.Mapping[t.Any, t.Any]

    def judge(self, scope: Scope) -> None:
        """Judge a scope at its end."""

    def rule_of(self, environ: t.Any) -> t.Any:
        """Find the URL rule of a request that is named nowhere else any more."""


_EVENT_LOOP = f"{os.sep}asyncio{os.sep}"
#: Who calls an application in a test, and may hold an app context around it.
_TEST_RUNNERS = re.compile(r"[/\\](_pytest|unittest|nose2?|behave|robot)[/\\]")


class FindingRaised(AssertionError):
    """A finding of a rule that SESSIONWATCH_RAISE names, raised where its scope ended."""


class Scopes:
    """Knows which scope the running code is in, and what a scope leaves behind.

    :param ledger: the process's ledger.
    :param recorder: the process's recorder, which is told how to find a scope.
    """

    def __init__(self, ledger: Ledger, recorder: Recorder) -> None:
        self.ledger = ledger
        self.recorder = recorder
        self.judges: weakref.WeakKeyDictionary[flask.Flask, Judge] = weakref.WeakKeyDictionary()
        #: The scope of each app context in which something has happened; a test's may stand in for it.
        self.by_context: weakref.WeakKeyDictionary[t.Any, Scope] = weakref.WeakKeyDictionary()
        recorder.find_scope = self.of_context
        recorder.notice.in_context = flask.has_app_context
        recorder.notice.in_nested_context = in_nested_context
        recorder.engines.bind_key = bind_key_of

    def end(self, scope: Scope) -> None:
        """Close *scope*; whatever it leaves behind is judged or handed to the scope around it.

        :raises FindingRaised: a rule named in SESSIONWATCH_RAISE has found something.
        """
        if scope.ended:
            return
        try:
            self._close(scope)
        except Exception:
            self.recorder.failed("the end of a scope")
        finally:
            scope.ended = True
        if scope.told is not None:
            raise FindingRaised(scope.told)

    def _close(self, scope: Scope) -> None:
        if scope.environ is not None:
            scope.note_rule()
            # The environ holds cookies and secrets: it is not kept longer than needed.
            scope.environ = scope.start_response = None
        if not scope.is_done:
            self._settle(scope)
        scope.ended = True
        left = not scope.is_done
        failed = scope.commits and not scope.succeeded
        if left or scope.incidents is not None or scope.commits > 1 or failed or scope.owner.ears:
            scope.owner.judge(scope)
        self.ledger.closed.append(scope)

    def _settle(self, scope: Scope) -> None:
        """Let go of what other threads still use, and of what belongs to the scope around this one."""
        # Whoever uses what is left is to be looked at closely.
        scope.holder.latest = None
        for checkout in scope.checkouts:
            self.recorder.end_if_closed(checkout)
        self._release_background(scope)
        outer = self._outer(scope)
        if outer is None:
            return
        for transaction in scope.transactions:
            self._note_uncommitted(transaction, scope)
            transaction.origin = transaction.origin or scope
            transaction.scope = outer
            scope.leave(transaction)
            outer.enter(transaction)
            if outer.kind != "request":
                self.ledger.long.add(transaction)
        for checkout in scope.checkouts:
            checkout.origin = checkout.origin or scope
            checkout.scope = outer
            scope.let_go(checkout)
            outer.take(checkout)

    def _release_background(self, scope: Scope) -> None:
        for transaction in scope.transactions:
            if transaction.holder is not scope.holder and self._is_busy(transaction.holder):
                transaction.scope = None
                scope.leave(transaction)
                self.ledger.long.add(transaction)
        for checkout in scope.checkouts:
            if checkout.user is not scope.holder and self._is_busy(checkout.user):
                checkout.scope = None
                scope.let_go(checkout)
                checkout.holder.take(checkout)

    def _is_busy(self, holder: Holder) -> bool:
        """Whether *holder* still runs code of the application, or an event loop that may.

        An async view runs on a thread of its own, which is done with it by now and about to end.
        """
        with undisturbed:
            frame = holder.frame()
            while frame is not None:
                filename = frame.f_code.co_filename
                if self.ledger.stacks.is_application(filename) or _EVENT_LOOP in filename:
                    return True
                frame = frame.f_back
        return False

    def _outer(self, scope: Scope) -> Scope | None:
        """Return the scope that owns the app context which was current before *scope* began."""
        context = _current_context()
        if context is None or (scope.context_ref is not None and scope.context_ref() is context):
            return None
        if scope.parent is not None:
            # One that is over, while a task with a copy of its context goes on, takes nothing any more.
            return None if scope.parent.ended else scope.parent
        outer = self.by_context.get(context)
        if outer is None or outer.ended:
            outer = self._begin_for(context)
        if outer is not None and scope.kind == "request":
            outer.guests += 1
            self._note_leaked_context(scope, sys._getframe(1))
        return outer

    def _note_leaked_context(self, scope: Scope, frame: FrameType | None) -> None:
        """Note an app context around a request that nobody on this thread can pop: only the server is below it."""
        while frame is not None:
            filename = frame.f_code.co_filename
            if self.ledger.stacks.is_application(filename) or _TEST_RUNNERS.search(filename):
                return
            frame = frame.f_back
        stacks = [each.stack for each in scope.transactions] + [each.stack for each in scope.checkouts]
        self.ledger.happened(
            Incident("context_leak", stacks[0] if stacks else (), scope.holder, scope, None, left_by=None)
        )

    def _note_uncommitted(self, transaction: Transaction, scope: Scope) -> None:
        """Note a request that answered well and left its writes to an app context pushed around it."""
        if scope.kind != "request" or not scope.succeeded or transaction.committed:
            return
        session = transaction.session()
        pending = session is not None and bool(session.new or session.deleted or session.dirty)
        if pending or transaction.cursor is not None or transaction.writes:
            holder = self.recorder.holder()
            details = {"used": (), "opener": None, "outer": True}
            self.ledger.happened(
                Incident("adopted", transaction.stack, holder, scope, transaction, **details)
            )

    def note_exception(self, error: BaseException) -> None:
        """Remember that an exception left the view, whatever an error handler makes of it."""
        try:
            scope = current_scope.get()
            if scope is not None and not scope.ended:
                scope.note_rule()
                scope.failed_early = scope.failed_early or not scope.commits
                scope.failed_after = scope.failed_after or scope.last_transaction
                scope.aborted = isinstance(error, HTTPException)
                scope.redirected = isinstance(error, HTTPException) and _status_of(error) < 400
                scope.error = type(error).__name__
            self.recorder.on_error_left(error)
        except Exception:
            self.recorder.failed("an exception of the application")

    # App contexts

    def of_context(self) -> Scope | None:
        """Return the scope of the app context that is current, opening it at its first use."""
        if not self.recorder.awake:
            self.recorder.wake()
        context = _current_context()
        if context is None:
            return None
        scope = self.by_context.get(context)
        if scope is None or scope.ended:  # a context may be pushed again
            scope = self._begin_for(context)
        if scope is not None and not scope.ended:
            current_scope.set(scope)
        return scope

    def _begin_for(self, context: t.Any) -> Scope | None:
        owner = self.judges.get(context.app)
        if owner is None or not owner.watching:
            return None
        kind, label = _command_or_context()
        scope = new_scope(kind, label, owner, None, self.recorder.holder())
        # A context that is never popped ends when it is collected: its scope must not outlive it.
        scope.context_ref = weakref.ref(context, functools.partial(_context_collected, weakref.ref(scope)))
        self.by_context[context] = scope
        self.ledger.scopes.add(scope)
        # On this one context, because a teardown function would be called at the end of every request.
        context.pop = functools.partial(self._pop, weakref.ref(context), scope)
        return scope

    def _pop(self, context_ref: t.Callable[[], t.Any], scope: Scope, *args: t.Any) -> None:
        """Pop the app context as it would have been, then end its scope."""
        context = context_ref()
        vars(context).pop("pop", None)
        error = args[0] if args and isinstance(args[0], BaseException) else sys.exc_info()[1]
        try:
            context.pop(*args)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end_context(scope, error)

    def _end_context(self, scope: Scope, error: BaseException | None) -> None:
        if error is not None:
            scope.error = type(error).__name__
            self.recorder.on_error_left(error)
        self.ledger.scopes.discard(scope)
        if current_scope.get() is scope:
            current_scope.set(None)
        self.end(scope)

    def end_collected(self) -> None:
        """End the scopes of app contexts that were collected without having been popped."""
        for scope in self.ledger.scopes.copy():
            if scope.context_ref is not None and scope.context_ref() is None:
                self.ledger.scopes.discard(scope)
                self._close(scope)

    # Blocks

    @contextlib.contextmanager
    def explicit(self, name: str, owner: Judge, kind: str = "explicit") -> Iterator[Scope]:
        """Run a block as a scope of its own."""
        if not self.recorder.awake:
            self.recorder.wake()
        parent = current_scope.get()
        if parent is not None and parent.ended:
            parent = None
        scope = new_scope(kind, name, owner, parent, self.recorder.holder())
        token = current_scope.set(scope)
        try:
            yield scope
        except BaseException as error:
            scope.error = type(error).__name__
            self.recorder.on_error_left(error)
            raise
        finally:
            # A generator may be closed in another context than it was begun in, by the collector for one.
            with contextlib.suppress(ValueError):
                current_scope.reset(token)
            self.end(scope)


def _current_context() -> t.Any:
    if not flask.has_app_context():
        return None
    return flask.globals.app_ctx._get_current_object()  # type: ignore[attr-defined]


def in_nested_context(session: t.Any, other: t.Any) -> bool:
    """Whether *session* belongs to the current app context, and *other* to one that was pushed before it."""
    current = contexts()
    return bool(current) and owns(current[0], session) and any(owns(each, other) for each in current[1:])


def contexts() -> list[t.Any]:
    """Return the app contexts that are pushed here, the current one first."""
    found = []
    context = _current_context()
    while context is not None:
        found.append(context)
        context = _context_around(context)
    return found


def owns(context: t.Any, session: t.Any) -> bool:
    """Whether the database extension keeps *session* for an app context. Nothing is created by asking."""
    extension = context.app.extensions.get("sqlalchemy")
    registry = getattr(vars(extension).get("session"), "registry", None) if extension is not None else None
    if isinstance(getattr(registry, "registry", None), dict):  # Flask-SQLAlchemy's
        return registry.registry.get(id(context)) is session  # type: ignore[union-attr]
    kept = vars(context.g)  # Flask-SQLAlchemy-Lite's
    sessions = [*kept.get("_sqlalchemy_sessions", {}).values()]
    sessions += [
        getattr(each, "sync_session", None) for each in kept.get("_sqlalchemy_async_sessions", {}).values()
    ]
    return any(each is session for each in sessions)


def _context_around(context: t.Any) -> t.Any:
    """Return the app context that was current when *context* was pushed."""
    tokens = getattr(context, "_cv_tokens", None) or [getattr(context, "_cv_token", None)]
    around = getattr(tokens[-1], "old_value", None)
    return around if hasattr(around, "app") else None


def _context_collected(scope_ref: weakref.ref[Scope], _: object) -> None:
    scope = scope_ref()
    if scope is not None:
        scope.ended = True


def _command_or_context() -> tuple[str, str]:
    command = click.get_current_context(silent=True)
    if command is None:
        return "app_context", "app context"
    return "command", command_name(command)


def bind_key_of(pool: t.Any) -> str | None:
    """Name a pool by the Flask-SQLAlchemy bind key of its engine; ``None`` where no app context tells."""
    if not flask.has_app_context():
        return None
    extension = flask.current_app.extensions.get("sqlalchemy")
    engines = getattr(extension, "engines", None)
    for key, engine in engines.items() if engines is not None else ():
        if engine.pool is pool:
            return key or "default"
    return None


def _status_of(error: HTTPException) -> int:
    """Return the status that *error* stands for; 500 where it does not say."""
    status = error.code if error.response is None else getattr(error.response, "status_code", None)
    return status if isinstance(status, int) else 500
