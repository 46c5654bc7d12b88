"""The WSGI middleware: a request is a scope from its first line to the last byte of its body."""

from __future__ import annotations

import functools
import sys
import typing as t
from collections.abc import Iterable

import flask
from werkzeug.exceptions import HTTPException

from .identity import next_session_number
from .records import Scope
from .records import current_scope
from .scopes import Judge
from .scopes import Scopes

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment


def hook_in(app: flask.Flask, pages: WSGIApplication, prefix: str, scopes: Scopes, owner: Judge) -> None:
    """Make every request of *app* a scope, and serve *pages* below *prefix*."""
    rule_of = functools.partial(url_rule_of, app)
    middleware = Middleware(app.wsgi_app, pages, prefix, scopes, owner, rule_of)
    # Its method, because a call of an object takes Python longer.
    app.wsgi_app = middleware.serve  # type: ignore[method-assign]
    # An exception that an error handler turns into an answer is seen nowhere else.
    handler = functools.partial(_handle_user_exception, scopes, owner, app.handle_user_exception)
    app.handle_user_exception = handler  # type: ignore[method-assign]


def _handle_user_exception(
    scopes: Scopes, owner: Judge, original: t.Callable[..., t.Any], *args: t.Any
) -> t.Any:
    """See every exception that leaves a view, also one that an error handler turns into an answer."""
    if owner.watching:
        scopes.note_exception(args[-1])
    try:
        return original(*args)
    finally:
        # An error handler may raise an error of its own, which does not come here again.
        error = sys.exc_info()[1]
        if error is not None and error is not args[-1] and owner.watching:
            scopes.recorder.on_error_left(error)


def unhook(app: flask.Flask, owner: Judge) -> None:
    """Take our hooks off *app*; one that somebody has wrapped in turn stays, and passes everything through."""
    middleware = getattr(app.wsgi_app, "__self__", None)
    if isinstance(middleware, Middleware) and middleware.owner is owner:
        _restore(app, "wsgi_app", middleware.application)
    handler: t.Any = app.handle_user_exception
    if isinstance(handler, functools.partial) and handler.args[1:2] == (owner,):
        _restore(app, "handle_user_exception", handler.args[2])


def _restore(app: flask.Flask, name: str, original: t.Any) -> None:
    if getattr(original, "__func__", None) is getattr(type(app), name):
        vars(app).pop(name, None)
    else:
        setattr(app, name, original)


def url_rule_of(app: flask.Flask, environ: WSGIEnvironment) -> t.Any:
    """Match the URL of *environ* again, for a request that a BaseException cut short."""
    try:
        rule, _ = app.url_map.bind_to_environ(environ).match(return_rule=True)
        return rule
    except HTTPException:
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
        self._recorder = scopes.recorder
        self._ledger = scopes.ledger

    def serve(  # noqa: C901, PLR0915, each call that is saved here is saved in every request
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Let the application answer a request, in a scope of its own."""
        owner = self.owner
        try:
            is_own = self.prefix in environ["PATH_INFO"] and self._is_own(environ)
        except KeyError:  # an empty path may be left out
            is_own = False
        if is_own:
            return self.web(environ, start_response)
        if not owner.watching:
            return self.application(environ, start_response)
        try:
            recorder = self._recorder
            if not recorder.awake:
                recorder.wake()
            try:
                holder = recorder.local.holder
            except AttributeError:
                holder = recorder.holder()
            # What is written here is None or nothing now, and something else later.
            scope: t.Any = Scope()
            scope.owner = owner
            scope.holder = holder
            scope.environ = environ
            scope.method = environ["REQUEST_METHOD"]
            scope.start_response = start_response
            scope.answer = scope.rule = scope.more = scope.last_transaction = scope.held = scope.begun = None
            scope.ended = scope.measured = False
            scope.commits = scope.held_peak = 0
            parent = current_scope.get()
            if parent is not None and parent.ended:
                parent = None
            scope.parent = parent
            holder.scope = scope
            # What this thread used last belongs to earlier work: if it is used again, that is to be looked at.
            holder.latest = None
        except KeyError:  # no request: Flask tells best what is missing
            return self.application(environ, start_response)
        except Exception:
            self.scopes.recorder.failed("the beginning of a request")
            return self.application(environ, start_response)
        token = current_scope.set(scope)
        try:
            body = self.application(environ, scope.start)
        except BaseException as error:
            current_scope.reset(token)
            self._failed(scope, error)
            raise
        if scope.measured and scope.held is None and scope.begun is None:
            # Nothing is open and the length is known: a generator that still sends needs no watching.
            # A failure after a commit is to be judged; without one it has left nothing.
            try:
                # From a second commit on there is more to be known.
                if scope.more is None and not owner.ears and (not scope.commits or scope.answer < "4"):
                    scope.ended = True
                    scope.environ = scope.start_response = None
                    ledger = self._ledger
                    ledger.serving = True
                    ledger.closed.append(scope)
                else:
                    self.end(scope)
            except TypeError:  # no status that a server would take
                self.end(scope)
            if parent is not None:
                # Without one it may stay: who finds a scope that has ended looks elsewhere.
                current_scope.reset(token)
            return body
        current_scope.reset(token)
        if _is_whole(body, environ) or (scope.measured and _is_sequence(body)):
            self.end(scope)
            return body
        scope.session_number = next_session_number()
        return Body(body, scope, self)

    def _failed(self, scope: Scope, error: BaseException) -> None:
        scope.error = type(error).__name__
        token = current_scope.set(scope)
        try:
            self.scopes.recorder.on_error_left(error)
        finally:
            current_scope.reset(token)
        if scope.rule is None and scope.environ is not None:
            scope.note_rule()
            scope.rule = self.rule_of(scope.environ)
        self.end(scope)

    def _is_own(self, environ: WSGIEnvironment) -> bool:
        """Whether a path that has the prefix in it is the watch's, and not one that is merely alike."""
        path = environ["PATH_INFO"]
        return self.owner.active and (path == self.prefix or path.startswith(f"{self.prefix}/"))

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
            self._middleware.scopes.recorder.on_error_left(error)
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
        del self._next, self._body
        self._middleware.end(scope)
