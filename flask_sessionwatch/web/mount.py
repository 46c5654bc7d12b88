"""Serve the watch's own pages in front of the application."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ..store.native import thread_seconds

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

#: Key of the environ: whether the address lacks the slash after the prefix.
WITHOUT_SLASH = "flask_sessionwatch.without_slash"


class Mount:
    """Shifts a request below *prefix* to *web*.

    The pages are no part of the application on purpose: its ``before_request`` functions, its login and its database
    have no say in them, so they answer while every connection of the pool is held.

    :param web: the WSGI application that shows the pages.
    :param prefix: the path, such as ``/_sessionwatch``.
    :param on_seconds: told of the CPU seconds that an answer took.
    """

    def __init__(
        self,
        web: WSGIApplication,
        prefix: str,
        on_seconds: t.Callable[[float], object] = lambda seconds: None,
    ) -> None:
        self.web = web
        self.prefix = prefix
        self._on_seconds = on_seconds

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self.prefix
        environ["PATH_INFO"] = path[len(self.prefix) :] or "/"
        environ[WITHOUT_SLASH] = path == self.prefix
        before = thread_seconds()
        try:
            return self.web(environ, start_response)
        finally:
            self._on_seconds(thread_seconds() - before)
