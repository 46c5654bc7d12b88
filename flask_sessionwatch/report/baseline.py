"""The baseline: known findings in a file, so that only new ones are told.

A known finding is recognised by its code, its file, its function and its scope, and by what it is about where that
is no line. It has no line number, so that an edit further up does not make it new.
"""

from __future__ import annotations

import difflib
import json
import os
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping

from ..finding import Finding
from ..observe.stack import absolute
from ..observe.stack import shortened
from ..settings import ConfigError

VERSION = 1
#: Characters of a baseline: room for a hundred thousand findings, and not for whatever was named by mistake.
_LONGEST = 32 * 1024 * 1024

#: Code, function, scope and subject; the path is compared by its end.
_Key: t.TypeAlias = "tuple[str, str | None, str | None, str | None]"


class Entry(t.NamedTuple):
    """One known finding."""

    code: str
    rule: str
    path: str | None
    function: str | None
    scope: str | None
    about: str | None

    @property
    def key(self) -> _Key:
        """What has to be equal; the path need only end alike."""
        return self.code, self.function, self.scope, self.about


class Baseline:
    """Recognises known findings.

    :param entries: what is known.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._paths: dict[_Key, set[str | None]] = {}
        for entry in entries:
            self._paths.setdefault(entry.key, set()).add(entry.path)

    def __call__(self, finding: Finding) -> bool:
        if not self._paths:  # as mostly
            return False
        site = None if finding.site is None else finding.site._asdict()
        scope = None if finding.scope is None else finding.scope.name
        about = finding.about
        return self.has(
            {"code": finding.code, "rule": finding.rule, "site": site, "scope": scope, "about": about}
        )

    def has(self, data: Mapping[str, t.Any]) -> bool:
        """Whether it recognises a finding that is given as JSON has it."""
        if not self._paths:
            return False
        entry = entry_of(data)
        known = self._paths.get(entry.key, ())
        return any(_same_path(each, entry.path) for each in known)


def _same_path(known: str | None, path: str | None) -> bool:
    """Whether both are the same file; a service may have been installed in another folder than it was written in."""
    if known is None or path is None:
        return known is path
    if os.path.isabs(path) or os.path.isabs(known):
        return f"/{path}".endswith(f"/{known}") or f"/{known}".endswith(f"/{path}")
    return known == path


def entry_of(data: Mapping[str, t.Any]) -> Entry:
    """Return the entry for a finding that is given as JSON has it.

    :raises KeyError: it has no code, so it is no finding.
    """
    site = data.get("site") or {}
    filename = site.get("filename")
    return Entry(
        code=data["code"],
        rule=data["rule"],
        path=None if filename is None else shortened(filename).replace("\\", "/"),
        function=site.get("function"),
        scope=data.get("scope"),
        about=data.get("about"),
    )


def read(path: str, known_rules: Iterable[str] | None = None) -> list[Entry]:
    """Read a baseline.

    :param known_rules: the codes that there are; None where an application may have rules of its own.
    :raises ConfigError: the file is missing, is no baseline, or was written by a later version.
    """
    try:
        data = json.loads(_text_of(path))
        version, found = data["version"], data["findings"]
        if isinstance(version, int) and version > VERSION:
            raise ConfigError(
                f"The baseline '{path}' has version {version}, and this flask_sessionwatch reads up to {VERSION}. "
                "Upgrade it, or write the baseline anew."
            )
        if version != VERSION:
            raise ValueError(f"its version is {version!r}")
        entries = [_entry(each) for each in found]
    except OSError as error:
        raise ConfigError(
            f"The baseline '{absolute(path)}' cannot be read ({error.strerror}). Write it with 'flask sessionwatch "
            "baseline', while SESSIONWATCH_BASELINE is empty in the environment."
        ) from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(
            f"The baseline '{path}' is damaged ({_reason(error)}). Write it anew with 'flask sessionwatch baseline'."
        ) from None
    if known_rules is not None:
        _check_codes(path, entries, known_rules)
    return entries


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} characters")
    return text


def _entry(data: Mapping[str, t.Any]) -> Entry:
    values = [data[name] for name in Entry._fields]
    if not all(isinstance(each, str) for each in values[:2]) or not all(
        each is None or isinstance(each, str) for each in values
    ):
        raise ValueError("an entry is no known finding")
    return Entry(*values)


def _reason(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def _check_codes(path: str, entries: Iterable[Entry], known_rules: Iterable[str]) -> None:
    known = sorted(set(known_rules))
    for entry in entries:
        if entry.code not in known:
            raise ConfigError(no_such_rule(f"The baseline '{path}'", entry.code, known))


def no_such_rule(who: str, name: str, known: t.Collection[str]) -> str:
    """Say that *who* names a rule that does not exist, and which one is nearest."""
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
    return f"{who} names {name!r}, which is no rule. Did you mean '{nearest}'?"


def render(entries: Iterable[Entry]) -> str:
    """Return the text of a baseline, sorted, so that two of them can be compared line by line."""
    rows = sorted(set(entries), key=lambda entry: [each or "" for each in entry])
    found = [entry._asdict() for entry in rows]
    return json.dumps({"version": VERSION, "findings": found}, indent=2, ensure_ascii=False) + "\n"
