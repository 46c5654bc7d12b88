"""Who may see the pages: a bearer token, or the cookie of the login page; nobody by default."""

from __future__ import annotations

import hashlib
import hmac
import time

import flask

from ..report.logs import logger

COOKIE = "sessionwatch"
_LOOPBACK = frozenset(("127.0.0.1", "::1", "::ffff:127.0.0.1"))
_LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))
#: What a proxy adds: behind one, every visitor seems to come from this machine.
_OF_PROXIES = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
#: Wrong tokens that are answered at once; each further one doubles the wait, up to about a minute.
_FREE_TRIES = 5
_DOUBLINGS = 6


class Doorkeeper:
    """Decides who may see the pages.

    :param token: the secret; None lets in only loopback, and only while *app* is in debug or testing.
    :param app: the watched application.
    """

    def __init__(self, token: str | None, app: flask.Flask) -> None:
        self.token = token
        self._app = app
        self._wrong = 0
        self._closed_until = 0.0
        self._told = False

    @property
    def has_token(self) -> bool:
        return self.token is not None

    def lets_in(self, request: flask.Request) -> bool:
        """Whether *request* may see the pages."""
        if self.token is None:
            return self._is_local(request)
        kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(_as_sent(bearer), self.token):
            return True
        return _same(request.cookies.get(COOKIE, ""), self.cookie_value)

    def _is_local(self, request: flask.Request) -> bool:
        # The Host header is checked as well: a foreign page may lead its own name to 127.0.0.1.
        host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        local = request.remote_addr in _LOOPBACK and host.lower() in _LOCAL_NAMES
        proxied = any(name in request.headers for name in _OF_PROXIES)
        return local and not proxied and (self._app.debug or self._app.testing)

    @property
    def cookie_value(self) -> str:
        """What the cookie holds: proof of the token, from which the token cannot be read."""
        return hmac.new(_bytes(self.token or ""), b"sessionwatch login", hashlib.sha256).hexdigest()

    def tell_how_to_open(self) -> None:
        """Say once in the log why the pages answer 404."""
        if not self._told:
            self._told = True
            logger.warning(
                "the pages of flask_sessionwatch are closed: set SESSIONWATCH_TOKEN to a long random value to open them"
            )

    def accepts(self, token: str) -> bool:
        """Check the token of a login; call it only when :attr:`wait_seconds` is 0."""
        if self.token is not None and _same(token, self.token):
            self._wrong = 0
            return True
        self._wrong += 1
        if self._wrong > _FREE_TRIES:
            doublings = min(self._wrong - _FREE_TRIES, _DOUBLINGS)
            self._closed_until = time.monotonic() + 2.0**doublings
        return False

    @property
    def wait_seconds(self) -> float:
        """Seconds until the next login is looked at, after too many wrong ones."""
        return max(0.0, self._closed_until - time.monotonic())


def _as_sent(value: str) -> str:
    """Return a header's value as text: WSGI hands over its bytes as Latin-1, and tokens are UTF-8."""
    return value.strip(" \t").encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(_bytes(given), _bytes(expected))


def _bytes(text: str) -> bytes:
    # Neither what is sent nor what stands in the environment has to be valid UTF-8.
    return text.encode("utf-8", "surrogatepass")
