"""Choose a store by its URL."""

from __future__ import annotations

import os
import typing as t

from ..settings import ConfigError
from .base import Store
from .memory import MemoryStore
from .sqlite import SQLiteStore

SETTING = "SESSIONWATCH_STORE"


def open_store(url: str) -> Store:
    """Return the store that *url* names; nothing is opened before its first use.

    :param url: ``memory:``, the memory of this process; ``sqlite:///path``, a file, with four slashes for an absolute path.
    :raises ConfigError: there is no such store.
    """
    kind, colon, rest = url.partition(":")
    make = _KINDS.get(kind) if colon else None
    if make is None:
        # What follows may hold a password.
        raise ConfigError(f"'{SETTING}' begins with {url[:8]!r}; it takes {CHOICES}.")
    return make(rest)


CHOICES = "'memory:' or 'sqlite:///path'"


def _memory(rest: str) -> Store:
    if rest:
        raise ConfigError(
            f"'{SETTING}' is 'memory:' with something behind it; the memory of a process has no places."
        )
    return MemoryStore()


def _sqlite(rest: str) -> Store:
    if not rest.startswith("///") or rest == "///" or "?" in rest:
        raise ConfigError(
            f"'{SETTING}' is 'sqlite:{rest}'; it takes a file, such as 'sqlite:////var/lib/shop/sessionwatch.db', "
            "with four slashes for an absolute path, and no options."
        )
    return SQLiteStore(os.path.abspath(rest[3:]))


_KINDS: dict[str, t.Callable[[str], Store]] = {"memory": _memory, "sqlite": _sqlite}
