"""Open and close scopes: requests, bare app contexts, CLI commands and explicit blocks."""

from __future__ import annotations

import contextlib
import functools
import sys
import typing as t
import weakref
from collections.abc import Iterable
from collections.abc import Iterator

import click
import flask
import flask.globals
from werkzeug.exceptions import HTTPException

from .ledger import Incident
from .ledger import Ledger
from .ledger import Scope
from .ledger import Transaction
from .ledger import current_scope
from .ledger import new_scope
from .recorder import Recorder

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

F = t.TypeVar("F", bound=t.Callable[..., t.Any])


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
        self._by_context: weakref.WeakKeyDictionary[t.Any, Scope] = weakref.WeakKeyDictionary()
        #: Whether the watchdog runs in this process, and how to start it.
        self.awake = False
        self.wake: t.Callable[[], None] = lambda: None
        recorder.find_scope = self.of_context
        recorder.name_engine = bind_key_of

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
        if scope.transactions or scope.checkouts:
            self._settle(scope)
        scope.ended = True
        left = scope.transactions or scope.checkouts
        if left or scope.incidents is not None or scope.commits > 1 or scope.owner.ears:
            scope.owner.judge(scope)
        self.ledger.closed.append(scope)

    def _settle(self, scope: Scope) -> None:
        """Let go of what other threads still use, and of what belongs to the scope around this one."""
        # Whoever uses what is left is to be looked at closely.
        scope.holder.latest = None
        for checkout in scope.checkouts.copy():
            self.recorder.end_if_closed(checkout)
        self._release_background(scope)
        outer = self._outer(scope)
        if outer is None:
            return
        for transaction in scope.transactions.copy():
            self._note_uncommitted(transaction, scope)
            transaction.origin = transaction.origin or scope
            transaction.scope = outer
            outer.transactions.add(transaction)
            scope.transactions.discard(transaction)
        for checkout in scope.checkouts.copy():
            checkout.origin = checkout.origin or scope
            checkout.scope = outer
            outer.checkouts.add(checkout)
            scope.checkouts.discard(checkout)

    def _release_background(self, scope: Scope) -> None:
        for transaction in scope.transactions.copy():
            if transaction.holder is not scope.holder and transaction.holder.is_alive:
                transaction.scope = None
                scope.transactions.discard(transaction)
        for checkout in scope.checkouts.copy():
            if checkout.user is not scope.holder and checkout.user.is_alive:
                checkout.scope = None
                checkout.holder.checkouts.add(checkout)
                scope.checkouts.discard(checkout)

    def _outer(self, scope: Scope) -> Scope | None:
        """Return the scope that owns the app context which was current before *scope* began."""
        context = _current_context()
        if context is None or (scope.context_ref is not None and scope.context_ref() is context):
            return None
        if scope.parent is not None and not scope.parent.ended:
            return scope.parent
        return self._begin_for(context)

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

    # App contexts

    def of_context(self) -> Scope | None:
        """Return the scope of the app context that is current, opening it at its first use."""
        if not self.awake:
            self.wake()
        context = _current_context()
        if context is None:
            return None
        scope = self._by_context.get(context)
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
        self._by_context[context] = scope
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
        if not self.awake:
            self.wake()
        parent = current_scope.get()
        if parent is not None and parent.ended:
            parent = None
        scope = new_scope(kind, name, owner, parent, self.recorder.holder())
        token = current_scope.set(scope)
        try:
            yield scope
        except BaseException as error:
            scope.error = type(error).__name__
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


def _context_collected(scope_ref: weakref.ref[Scope], _: object) -> None:
    scope = scope_ref()
    if scope is not None:
        scope.ended = True


def _command_or_context() -> tuple[str, str]:
    command = click.get_current_context(silent=True)
    if command is None:
        return "app_context", "app context"
    return "command", f"flask {command.info_name or command.command.name}"


def url_rule_of(app: flask.Flask, environ: WSGIEnvironment) -> t.Any:
    """Match the URL of *environ* again, for a request that a BaseException cut short."""
    try:
        rule, _ = app.url_map.bind_to_environ(environ).match(return_rule=True)
        return rule
    except HTTPException:
        return None


def bind_key_of(engine: t.Any) -> str | None:
    """Name an engine by its Flask-SQLAlchemy bind key; ``None`` where no app context tells."""
    if not flask.has_app_context():
        return None
    extension = flask.current_app.extensions.get("sqlalchemy")
    engines = getattr(extension, "engines", None)
    for key, each in engines.items() if engines is not None else ():
        if each is engine or each.pool is engine.pool:
            return key or "default"
    return None


class Middleware:
    """The WSGI middleware that makes every request a scope.

    :param application: the wrapped ``app.wsgi_app``.
    :param web: what answers below *prefix*, in front of the application and not watched.
    :param prefix: the path, such as ``/_sessionwatch``.
    :param scopes: the process's scopes.
    :param owner: the watch that judges these requests.
    :param rule_of: finds the URL rule of a request that ended without Flask having named it.
    """

    def __init__(
        self,
        application: WSGIApplication,
        web: WSGIApplication,
        prefix: str,
        scopes: Scopes,
        owner: Judge,
        rule_of: t.Callable[[WSGIEnvironment], t.Any],
    ) -> None:
        self.application = application
        self.web = web
        self.prefix = prefix
        self.scopes = scopes
        self.owner = owner
        self.rule_of = rule_of
        self._local = scopes.recorder.local

    def __call__(  # noqa: C901, PLR0915, each call that is saved here is saved in every request
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        owner = self.owner
        if environ.get("PATH_INFO", "").startswith(self.prefix) and self._is_own(environ):
            return self.web(environ, start_response)
        if not owner.watching:
            return self.application(environ, start_response)
        try:
            if not self.scopes.awake:
                self.scopes.wake()
            scope = Scope()
            scope.owner = owner
            scope.environ = environ
            scope.start_response = start_response
            scope.transactions = set()
            scope.checkouts = set()
            parent = current_scope.get()
            if parent is not None and not parent.ended:
                scope.parent = parent
            try:
                holder = self._local.holder
            except AttributeError:
                holder = self.scopes.recorder.holder()
            scope.holder = holder
            # What this thread used last belongs to earlier work: if it is used again, that is to be looked at.
            holder.latest = None
        except Exception:
            self.scopes.recorder.failed("the beginning of a request")
            return self.application(environ, start_response)
        token = current_scope.set(scope)
        try:
            body = self.application(environ, scope)
        except BaseException as error:
            current_scope.reset(token)
            self._failed(scope, error)
            raise
        current_scope.reset(token)
        if scope.measured and not scope.transactions and not scope.checkouts:
            # Nothing is open and the length is known: a generator that still sends needs no watching.
            if scope.incidents is None and scope.commits < 2 and not owner.ears:
                scope.ended = True
                scope.environ = scope.start_response = None
                ledger = self.scopes.ledger
                ledger.serving = True
                ledger.closed.append(scope)
            else:
                self.end(scope)
            return body
        if _is_whole(body, environ) or (scope.measured and _is_sequence(body)):
            self.end(scope)
            return body
        return Body(body, scope, self)

    def _failed(self, scope: Scope, error: BaseException) -> None:
        scope.error = type(error).__name__
        token = current_scope.set(scope)
        try:
            self.scopes.recorder.on_application_error(error)
        finally:
            current_scope.reset(token)
        if scope.rule is None and scope.environ is not None:
            scope.note_rule()
            scope.rule = self.rule_of(scope.environ)
        self.end(scope)

    def _is_own(self, environ: WSGIEnvironment) -> bool:
        """Whether a path that begins with the prefix is the watch's, and not one that is merely alike."""
        rest = environ["PATH_INFO"][len(self.prefix) :]
        return self.owner.active and (not rest or rest[0] == "/")

    def end(self, scope: Scope) -> None:
        """End the scope of a request."""
        self.scopes.ledger.serving = True
        self.scopes.end(scope)


def _is_whole(body: object, environ: WSGIEnvironment) -> bool:
    """Whether *body* must reach the server untouched: a complete one, or a file the server sends itself."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(body, (list, tuple)) or (isinstance(wrapper, type) and isinstance(body, wrapper))


def _is_sequence(body: object) -> bool:
    """Whether *body* only hands out a list that Werkzeug's response holds, and runs no code of the application."""
    try:
        encoder = body._next.args[0]  # type: ignore[attr-defined]
        return isinstance(encoder.gi_frame.f_locals["iterable"], (list, tuple))
    except Exception:  # some other body: it may be a stream
        return False


class Body:
    """A streamed body, whose scope lasts until the server calls ``close()``."""

    def __init__(self, body: Iterable[bytes], scope: Scope, middleware: Middleware) -> None:
        self._body = body
        self._next = iter(body).__next__
        self._scope = scope
        self._middleware = middleware

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        token = current_scope.set(self._scope)
        try:
            return self._next()
        except StopIteration:
            raise
        except BaseException as error:
            self._scope.error = type(error).__name__
            raise
        finally:
            current_scope.reset(token)

    def close(self) -> None:
        """Close the wrapped body, then end the scope."""
        token = current_scope.set(self._scope)
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            current_scope.reset(token)
            self._middleware.end(self._scope)

    def __del__(self) -> None:
        scope = getattr(self, "_scope", None)
        if scope is None or scope.ended:
            return
        # The server dropped the body without close(). Its frames go first, as they would have without us.
        scope.abandoned = True
        del self._next, self._body
        self._middleware.end(scope)
