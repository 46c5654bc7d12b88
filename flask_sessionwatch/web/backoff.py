"""Slow down whoever guesses a secret."""

from __future__ import annotations

import ipaddress
import threading
import time

#: Wrong tries that are answered at once; each further one doubles the wait, up to about a minute.
_FREE_TRIES = 5
_DOUBLINGS = 6
#: Seconds without a wrong try after which the count begins anew: a guesser gains nothing by waiting for it.
_FORGOTTEN_AFTER = 600.0
#: Guessers that are remembered at once.
_MOST_GUESSERS = 1_000


class BackOff:
    """Counts the wrong tries of one guesser."""

    __slots__ = ("_closed_until", "_last", "_last_at", "_wrong")

    def __init__(self) -> None:
        self._wrong = 0
        self._closed_until = 0.0
        self._last: int | None = None
        self._last_at = 0.0

    @property
    def wait_seconds(self) -> float:
        """Seconds until the next try is looked at, after too many wrong ones."""
        return max(0.0, self._closed_until - time.monotonic())

    def is_repeated(self, value: str) -> bool:
        """Whether the last wrong try was *value* as well."""
        return self._last == hash(value)

    def wrong(self, value: str = "") -> None:
        """Count a wrong try."""
        now = time.monotonic()
        if now - self._last_at > _FORGOTTEN_AFTER:
            self._wrong = 0
        self._wrong += 1
        # A value may be long, and is a secret of somebody else perhaps.
        self._last, self._last_at = hash(value), now
        if self._wrong > _FREE_TRIES:
            self._closed_until = now + 2.0 ** min(self._wrong - _FREE_TRIES, _DOUBLINGS)

    def right(self) -> None:
        """Forget the wrong tries."""
        self._wrong = 0


class Guessers:
    """A back-off for each address, for as many as erred last.

    :param most: addresses that are remembered at once.
    """

    def __init__(self, most: int = _MOST_GUESSERS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: dict[str, BackOff] = {}

    def __len__(self) -> int:
        return len(self._known)

    def wait_seconds(self, address: str | None) -> float:
        """Seconds until *address* is heard again."""
        known = self._known.get(_network(address))
        return 0.0 if known is None else known.wait_seconds

    def is_repeated(self, address: str | None, value: str) -> bool:
        """Whether the last wrong try of *address* was *value* as well."""
        known = self._known.get(_network(address))
        return known is not None and known.is_repeated(value)

    def wrong(self, address: str | None, value: str) -> None:
        """Count a wrong try of *address*."""
        network = _network(address)
        with self._lock:
            back_off = self._known.pop(network, None) or BackOff()
            back_off.wrong(value)
            # Put in last, so that the first is who has been silent for longest.
            self._known[network] = back_off
            if len(self._known) > self._most:
                del self._known[next(iter(self._known))]

    def right(self, address: str | None) -> None:
        """Forget the wrong tries of *address*."""
        with self._lock:
            self._known.pop(_network(address), None)


def _network(address: str | None) -> str:
    """Return whom *address* belongs to: an IPv6 visitor has a whole /64 to call from.

    What is no address, as on a Unix socket, is one visitor.
    """
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if parsed.version == 4 or parsed.ipv4_mapped is not None:
        return str(parsed)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False))
