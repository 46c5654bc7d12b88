"""Choose a store by its URL."""

from __future__ import annotations

import typing as t

from ..settings import ConfigError
from .base import Store
from .memory import MemoryStore

SETTING = "SESSIONWATCH_STORE"


def open_store(url: str) -> Store:
    """Return the store that *url* names; nothing is opened before its first use.

    :param url: ``memory:``, the memory of this process.
    :raises ConfigError: there is no such store.
    """
    kind, colon, rest = url.partition(":")
    make = _KINDS.get(kind) if colon else None
    if make is None:
        raise ConfigError(f"'{SETTING}' begins with {kind[:20]!r}; it takes {_choices()}.")
    return make(rest)


def _memory(rest: str) -> Store:
    if rest:
        raise ConfigError(f"'{SETTING}' is 'memory:' with something behind it; the memory has no places.")
    return MemoryStore()


_KINDS: dict[str, t.Callable[[str], Store]] = {"memory": _memory}


def _choices() -> str:
    return "'memory:'"
