"""What a process tells of itself, for those who look at all processes: who it is, what the watch costs it, what is in force."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import time
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import lru_cache

from ..finding import MINUTES_KEPT
from ..finding import Finding
from ..rules import Rule
from ..settings import Settings
from ..version import VERSION
from .dispatcher import split_entry

#: Findings whose latest occurrences are told minute by minute.
RECENT_TOLD = 200


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of what runs here."""
    told = {"version": VERSION, "python": platform.python_version()}
    for name in ("sqlalchemy", "flask"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            told[name] = importlib.metadata.version(name)
    return told


def in_force(rules: Iterable[Rule], settings: Settings) -> dict[str, t.Any]:
    """Return which rules are on, what of them is ignored, and by which limits they judge.

    :param rules: those of an application.
    :param settings: its settings.
    """
    rules = tuple(rules)
    ignored = {rule.code: _ignored(rule, settings.ignore) for rule in rules}
    return {
        "codes": [rule.code for rule in rules],
        "ignored": {code: entries for code, entries in ignored.items() if entries},
        "limits": {rule.code: rule.limits_in_force(settings) for rule in rules if rule.limits},
    }


def _ignored(rule: Rule, entries: Sequence[str]) -> list[str]:
    """Return the entries of SESSIONWATCH_IGNORE that name *rule*."""
    names = (rule.code, rule.name)
    return [each for each in entries if split_entry(each)[0] in names]


def recently(findings: Mapping[str, Finding]) -> dict[str, list[tuple[int, int]]]:
    """Return how often findings were seen in each minute of the last hour, by fingerprint and by the minute since the epoch."""
    oldest = time.time() // 60 - MINUTES_KEPT
    latest = sorted(findings, key=lambda each: findings[each].last_seen, reverse=True)[:RECENT_TOLD]
    minutes = {
        each: [item for item in findings[each].recent.copy().items() if item[0] > oldest] for each in latest
    }
    return {each: items for each, items in minutes.items() if items}
