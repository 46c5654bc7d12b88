"""Who may see the pages: a bearer token, or the cookie of the login page; nobody by default."""

from __future__ import annotations

import hashlib
import hmac
import math
import typing as t

import flask
from werkzeug.exceptions import TooManyRequests

from ..report.logs import logger
from .backoff import BackOff
from .backoff import Guessers

COOKIE = "sessionwatch"
_LOOPBACK = frozenset(("127.0.0.1", "::1", "::ffff:127.0.0.1"))
_LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "[::1]"))
#: What a proxy adds: behind one, every visitor seems to come from this machine.
_OF_PROXIES = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


class Doorkeeper:
    """Decides who may see the pages.

    :param token: the secret; None lets in only loopback.
    :param is_open: answers whether loopback is let in without a token.
    """

    def __init__(self, token: str | None, is_open: t.Callable[[], bool]) -> None:
        self.token = token
        self._is_open = is_open
        # One for all visitors: whoever logs in is a person, and can wait.
        self._logins = BackOff()
        # Apart from each other, so that a scraper with a stale token does not close somebody's dashboard.
        self._bearers = Guessers()
        self._cookies = Guessers()
        self._told = False

    @property
    def has_token(self) -> bool:
        return self.token is not None

    def lets_in(self, request: flask.Request) -> bool:
        """Whether *request* may see the pages.

        :raises TooManyRequests: its address sent too many wrong tokens; this one was not looked at.
        """
        if self.token is None:
            return self._is_local(request)
        return self._has_bearer(request) or self._has_cookie(request)

    def _has_bearer(self, request: flask.Request) -> bool:
        kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return False
        _check_wait(self._bearers, request)
        # A right one does not end the back-off: behind a proxy it may be somebody else's.
        if _same(_as_sent(bearer), self.token or ""):
            return True
        self._bearers.wrong(request.remote_addr, bearer)
        return False

    def _has_cookie(self, request: flask.Request) -> bool:
        cookie = request.cookies.get(COOKIE)
        if cookie is None:
            return False
        _check_wait(self._cookies, request)
        if _same(cookie, self.cookie_value):
            return True
        # Browsers send a stale cookie again and again, and that guesses nothing.
        if not self._cookies.is_repeated(request.remote_addr, cookie):
            self._cookies.wrong(request.remote_addr, cookie)
        return False

    def _is_local(self, request: flask.Request) -> bool:
        # The Host header is checked as well: a foreign page may lead its own name to 127.0.0.1.
        host = request.host.rsplit(":", 1)[0] if not request.host.endswith("]") else request.host
        local = request.remote_addr in _LOOPBACK and host.lower() in _LOCAL_NAMES
        proxied = any(name in request.headers for name in _OF_PROXIES)
        return local and not proxied and self._is_open()

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

    def accepts(self, token: str, address: str | None) -> bool:
        """Check the token of a login from *address*; call it only when :attr:`wait_seconds` is 0."""
        if self.token is not None and _same(token, self.token):
            self._logins.right()
            self._cookies.right(address)
            return True
        self._logins.wrong()
        return False

    @property
    def wait_seconds(self) -> float:
        """Seconds until the next login is looked at, after too many wrong ones."""
        return self._logins.wait_seconds


def retry_after(seconds: float) -> int:
    """Return what the header Retry-After says of a wait."""
    return math.floor(seconds) + 1


def _check_wait(guessers: Guessers, request: flask.Request) -> None:
    seconds = guessers.wait_seconds(request.remote_addr)
    if seconds > 0:
        raise TooManyRequests(retry_after=retry_after(seconds))


def _as_sent(value: str) -> str:
    """Return a header's value as text: WSGI hands over its bytes as Latin-1, and tokens are UTF-8."""
    return value.strip(" \t").encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(_bytes(given), _bytes(expected))


def _bytes(text: str) -> bytes:
    # Neither what is sent nor what stands in the environment has to be valid UTF-8.
    return text.encode("utf-8", "surrogatepass")
