"""Choose a store by its URL."""

from __future__ import annotations

import os
import typing as t

from ..settings import ConfigError
from .base import Store
from .memory import MemoryStore
from .sqlite import SQLiteStore

SETTING = "SESSIONWATCH_STORE"
MEMORY = "memory:"


def open_store(url: str) -> Store:
    """Return the store that *url* names; nothing is opened before its first use.

    :param url: ``memory:``, the memory of this process; ``sqlite:///path``, a file, with four slashes for an absolute path;
        ``redis://host:port/database``, or ``rediss://`` with TLS.
    :raises ConfigError: there is no such store.
    """
    kind, colon, _ = url.partition(":")
    make = _KINDS.get(kind) if colon else None
    if make is None:
        # What follows may hold a password.
        raise ConfigError(f"'{SETTING}' begins with {url[:8]!r}; it takes {CHOICES}.")
    return make(url)


def open_to_read(url: str) -> Store:
    """Return the store that *url* names, for somebody who is none of the workers: a file is neither made nor changed.

    :raises ConfigError: there is no such store, or it is the memory of somebody else.
    """
    store = open_store(url)
    if isinstance(store, MemoryStore):
        raise ConfigError(
            f"'{SETTING}' is 'memory:', and nobody else can read the memory of a worker. Let the application publish to a "
            "file, 'sqlite:////path/to/sessionwatch.db', or to a server, 'redis://host:port/database'."
        )
    store.remembers = True
    return SQLiteStore(store.path, read_only=True) if isinstance(store, SQLiteStore) else store


CHOICES = "'memory:', 'sqlite:///path' or 'redis://host:port/database'"


def _memory(url: str) -> Store:
    if url != MEMORY:
        raise ConfigError(
            f"'{SETTING}' is 'memory:' with something behind it; the memory of a process has no places."
        )
    return MemoryStore()


def _sqlite(url: str) -> Store:
    path = url.removeprefix("sqlite:///")
    if path in ("", url) or not {"?", "\0"}.isdisjoint(path):
        raise ConfigError(
            f"'{SETTING}' is {url!r}; it takes a file, such as 'sqlite:////var/lib/shop/sessionwatch.db', "
            "with four slashes for an absolute path, and no options."
        )
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and path.endswith(".db") and os.path.dirname(os.path.abspath(path)) == os.path.abspath(folder):
        raise ConfigError(
            f"'{SETTING}' is a file in PROMETHEUS_MULTIPROC_DIR, where prometheus_client takes every '*.db' for metrics, and "
            "each scrape would fail. Put it into another folder."
        )
    return SQLiteStore(os.path.abspath(path))


def _redis(url: str) -> Store:
    try:
        from .redis import RedisStore
    except ImportError:
        raise ConfigError(
            f"'{SETTING}' takes the package redis for this. Install it with: pip install 'flask-sessionwatch[redis]'"
        ) from None
    try:
        return RedisStore(url)
    except (ValueError, TypeError):
        # The message of the error may have the password in it.
        raise ConfigError(
            f"'{SETTING}' is no URL of a server; it takes 'redis://host:port/database', or 'rediss://' with TLS. A password "
            "goes before the host, as in 'redis://:password@host', with special characters written as %40 and the like."
        ) from None


_KINDS: dict[str, t.Callable[[str], Store]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
}
