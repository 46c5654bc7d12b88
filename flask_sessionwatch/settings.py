"""Read the SESSIONWATCH_* settings into one validated, immutable value."""

from __future__ import annotations

import difflib
import math
import os
import re
import threading
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields

PREFIX = "SESSIONWATCH_"

#: What an environment variable says for no.
FALSE_WORDS = ("", "0", "false", "no", "off")

#: A path that arrives in PATH_INFO as it is written here. Anything beyond ASCII does not, since WSGI hands over bytes as
#: Latin-1; and steps such as ".." are resolved on the way.
_URL_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9 ._~!$&'()*+,:=@-]+)+")


class ConfigError(ValueError):
    """A SESSIONWATCH_* setting is unknown or has a value that makes no sense."""


@dataclass(frozen=True)
class Settings:
    """Every setting, with its default. All times are seconds.

    :param enabled: False attaches no listener and starts no thread.
    :param tick: seconds between two looks of the watchdog.
    :param long_checkout: seconds after which a checked-out connection is told (SW103).
    :param long_transaction: seconds after which an open transaction is told.
    :param idle_in_transaction: seconds without a statement inside a transaction that are told (SW202).
    :param max_commits: commits that one scope may make (SW501).
    :param max_checkouts: check-outs that one scope may make.
    :param max_identity_map: objects that one long-lived session may keep.
    :param stack_depth: frames kept of each captured stack; 0 keeps none.
    :param app_paths: folders whose code is "the application"; empty means its root path and the working folder.
    :param ignore: rules not to tell: ``"SW103"``, ``"SW103:jobs/*"`` or ``"commit-storm@POST /import"``.
    :param baseline: a file of known findings, which are kept but not told.
    :param raise_: names or codes of rules that raise when a scope ends, for tests.
    :param store: where workers publish what they know: ``memory:``, ``sqlite:///path`` or ``redis://host``; None is an SQLite
        file in the instance folder, or ``memory:`` in tests.
    :param host: what this host is called on the pages; None is its own name.
    :param url_prefix: where the dashboard, the API and ``/metrics`` are mounted.
    :param token: who may see them; None lets in only loopback, and only in debug or testing.
    :param log_format: ``text`` or ``json``.
    """

    enabled: bool = True
    tick: float = field(default=1.0, metadata={"above": 0.0, "most": threading.TIMEOUT_MAX})
    long_checkout: float = field(default=30.0, metadata={"least": 0.0})
    long_transaction: float = field(default=30.0, metadata={"least": 0.0})
    idle_in_transaction: float = field(default=5.0, metadata={"least": 0.0})
    max_commits: int = field(default=10, metadata={"least": 1})
    max_checkouts: int = field(default=10, metadata={"least": 1})
    max_identity_map: int = field(default=10_000, metadata={"least": 1})
    stack_depth: int = field(default=40, metadata={"least": 0})
    app_paths: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    baseline: str | None = None
    raise_: tuple[str, ...] = ()
    store: str | None = field(default=None, repr=False)
    host: str | None = None
    url_prefix: str = "/_sessionwatch"
    token: str | None = field(default=None, repr=False)
    log_format: str = field(default="text", metadata={"choices": ("text", "json")})

    @classmethod
    def load(cls, config: Mapping[str, t.Any], environ: Mapping[str, str] | None = None) -> Settings:
        """Take the settings from an application's config; the environment has the last word.

        :param config: the application's ``app.config``; keys of other libraries are passed over.
        :param environ: the environment, ``os.environ`` unless told otherwise.
        :raises ConfigError: a key in *config* that is no setting, or a value that makes no sense.
        """
        environ = os.environ if environ is None else environ
        values = {}
        for key, value in config.items():
            if key.startswith(PREFIX):
                name = _field_name(key)
                values[name] = _checked(key, name, value)
        for name in _FIELDS:
            key = key_of(name)
            if key in environ:
                values[name] = _checked(key, name, _parsed(key, name, environ[key]))
        return cls(**values)


_FIELDS = {each.name: each for each in fields(Settings)}
_KINDS: dict[str, type] = {
    name: type(each.default) if each.default is not None else str for name, each in _FIELDS.items()
}


def key_of(name: str) -> str:
    """Return the key of ``app.config`` for a field of :class:`Settings`."""
    return PREFIX + name.rstrip("_").upper()


def _field_name(key: str) -> str:
    for name in _FIELDS:
        if key_of(name) == key:
            return name
    known = [key_of(name) for name in _FIELDS]
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
    raise ConfigError(f"'{key}' is not a setting of flask_sessionwatch. Did you mean '{nearest}'?")


def _parsed(key: str, name: str, text: str) -> t.Any:
    """Turn the text of an environment variable into the setting's own type."""
    kind = _KINDS[name]
    if kind is bool:
        return _parsed_bool(key, text)
    if kind is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"'{key}' is {text!r}; it takes a number.") from None


def _parsed_bool(key: str, text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in FALSE_WORDS:
        return False
    raise ConfigError(f"'{key}' is {text!r}; it takes true or false.")


def _checked(key: str, name: str, value: t.Any) -> t.Any:
    kind = _KINDS[name]
    if kind is tuple:
        return _checked_names(key, value)
    if kind is float:
        value = _checked_seconds(key, value)
    elif value is None and _FIELDS[name].default is None:
        return None
    elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        shown = repr(value) if _FIELDS[name].repr else f"of type {type(value).__name__}"
        raise ConfigError(f"'{key}' is {shown}; it takes a value of type {kind.__name__}.")
    _check_bounds(key, value, _FIELDS[name].metadata)
    return _CHECKS[name](key, value) if name in _CHECKS else value


def _checked_seconds(key: str, value: t.Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"'{key}' is {value!r}; it takes a number of seconds.")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise ConfigError(f"'{key}' is {seconds!r}; it takes a finite number of seconds.")
    return seconds


def _checked_names(key: str, value: t.Any) -> tuple[str, ...]:
    items = _items(key, value)
    if isinstance(value, str) or not all(isinstance(each, str) for each in items):
        raise ConfigError(f"'{key}' is {value!r}; it takes a list of strings. Did you forget the brackets?")
    return items


def _items(key: str, value: t.Any) -> tuple[t.Any, ...]:
    try:
        return tuple(value)
    except TypeError:
        raise ConfigError(f"'{key}' is {value!r}; it takes a list of strings.") from None


def _check_bounds(key: str, value: t.Any, bounds: Mapping[str, t.Any]) -> None:
    if "least" in bounds and value < bounds["least"]:
        raise ConfigError(f"'{key}' is {value!r}; it must be {bounds['least']} or more.")
    if "above" in bounds and value <= bounds["above"]:
        raise ConfigError(f"'{key}' is {value!r}; it must be greater than {bounds['above']:g}.")
    if "most" in bounds and value > bounds["most"]:
        raise ConfigError(f"'{key}' is {value!r}; it must be {bounds['most']:g} or less.")
    if "choices" in bounds and value not in bounds["choices"]:
        raise ConfigError(f"'{key}' is {value!r}; it must be one of {', '.join(bounds['choices'])}.")


def _check_url_prefix(key: str, value: str) -> str:
    prefix = value.rstrip("/")
    if not _URL_PREFIX.fullmatch(prefix):
        raise ConfigError(
            f"'{key}' is {value!r}; it must be a path such as '/_sessionwatch', "
            "and must consist of ASCII letters, digits, spaces and any of -._~!$&'()*+,:=@ between slashes."
        )
    return prefix


def _check_store(key: str, value: str) -> str | None:
    return value or None  # what it names is checked by those who know stores


def _check_host(key: str, value: str) -> str | None:
    if not value.isprintable() or len(value) > 253:
        raise ConfigError(f"'{key}' is {value[:300]!r}; it takes a name, of 253 characters at most.")
    return value or None


def _check_baseline(key: str, value: str) -> str | None:
    return value or None  # empty in the environment: none, so that a first one can be written


def _check_token(key: str, value: str) -> str:
    if len(value) < 8:
        raise ConfigError(f"'{key}' is shorter than 8 characters; take a long random value.")
    return value


_CHECKS: dict[str, t.Callable[[str, t.Any], t.Any]] = {
    "url_prefix": _check_url_prefix,
    "store": _check_store,
    "host": _check_host,
    "token": _check_token,
    "baseline": _check_baseline,
}
