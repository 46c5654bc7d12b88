"""The pages without the application: what is in a store, shown by a server that is none of the workers.

It answers when every thread of every worker waits for a connection, which is when it is needed.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ..rules import DEFAULT_RULES
from ..store.picture import Picture
from ..store.reader import Reader
from .application import Contents
from .application import create_pages
from .auth import Doorkeeper
from .exposition import exposed
from .mount import WITHOUT_SLASH
from .mount import Mount
from .ready import Ready
from .stored import StoredMetrics

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse
    from _typeshed.wsgi import WSGIApplication
    from _typeshed.wsgi import WSGIEnvironment

#: Seconds without the store after which the server calls itself ill; one that is restarted is back sooner.
AWAY_SECONDS = 15.0


def create_standalone(store: Reader, token: str | None, prefix: str) -> WSGIApplication:
    """Build the web application that shows what is in *store*.

    :param token: who may see it; None lets in whoever comes from this machine, and nobody else.
    :param prefix: where the pages are as well, besides ``/``, so that what is set up for those of the application fits.
    """
    metrics = StoredMetrics(store)
    contents = Contents(
        lambda: Picture(store),
        DEFAULT_RULES,
        None,
        lambda accept: exposed(metrics.registry, accept),
        lambda: _problems(store),
        lambda: None,
        Ready(),
    )
    web = create_pages(Doorkeeper(token, lambda: True), contents)
    return _Standalone(web, prefix)


def _problems(store: Reader) -> list[str]:
    if store.away_seconds < AWAY_SECONDS:
        return []
    return [f"the store cannot be read for {store.away_seconds:.0f} s: {store.problem}"]


class _Standalone:
    """Answers at ``/``, and at *prefix*."""

    def __init__(self, web: WSGIApplication, prefix: str) -> None:
        self._web = web
        self._mount = Mount(web, prefix)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if path == self._mount.prefix or path.startswith(self._mount.prefix + "/"):
            return self._mount(environ, start_response)
        environ[WITHOUT_SLASH] = False
        return self._web(environ, start_response)
