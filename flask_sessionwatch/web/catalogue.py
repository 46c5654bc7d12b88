"""The rules as the pages show them: what they say, whether they are on, and by which limits they judge."""

from __future__ import annotations

import dataclasses
import typing as t

from ..observe.stack import shortened
from ..report.about import in_force
from ..report.dispatcher import split_entry
from ..rules import DEFAULT_RULES
from ..rules import Rule
from ..settings import Settings
from ..store.base import Data
from ..store.picture import Picture


class Catalogue:
    """Every rule there is.

    :param rules: those that judge.
    :param settings: by which they do; None where only the workers know.
    """

    def __init__(self, rules: t.Sequence[Rule], settings: Settings | None) -> None:
        by_code = {rule.code: rule for rule in DEFAULT_RULES}
        by_code.update((rule.code, rule) for rule in rules)
        self._rules = [by_code[code] for code in sorted(by_code)]
        self._by_code = by_code
        self._in_force = None if settings is None else in_force(rules, settings)

    def rows(self, picture: Picture) -> list[Data]:
        """Return every rule, with how many findings there are of it."""
        force = self._in_force or picture.in_force() or in_force(self._rules, Settings())
        counts = picture.counts_by_code()
        return [
            {
                **_as_json(rule),
                **_force_of(rule, force),
                "findings": counts.get(rule.code, {"open": 0, "total": 0}),
            }
            for rule in self._rules
        ]

    def advice(self, finding: Data) -> Data:
        """Return what helps whoever reads of *finding*: the rule's manual page, and how not to be told again."""
        rule = self._by_code.get(str(finding.get("code")))
        return {"page": None if rule is None else rule.page, "ignore": ignoring(finding)}


def _as_json(rule: Rule) -> Data:
    """Return *rule* with its manual page; an option that is None follows the settings."""
    options = {each.name: getattr(rule, each.name) for each in dataclasses.fields(rule)}
    return {
        "code": rule.code,
        "rule": rule.name,
        "level": rule.level,
        "hint": rule.hint,
        "page": rule.page,
        "settings": options,
    }


def _force_of(rule: Rule, force: Data) -> Data:
    ignored = force["ignored"].get(rule.code, [])
    everywhere = any(not any(split_entry(each)[1:]) for each in ignored)
    return {
        "enabled": rule.code in force["codes"] and not everywhere,
        "ignored": ignored,
        "thresholds": force["limits"].get(rule.code, []),
    }


def ignoring(finding: Data) -> str:
    """Return the line of configuration by which *finding* and its like are not told any more."""
    # What an older version published may lack something.
    entry, site, scope = str(finding.get("code")), finding.get("site"), finding.get("scope")
    if site is not None:
        # An @ begins the scope.
        entry += ":" + _escaped(shortened(site["filename"])).replace("@", "?")
    if scope:
        entry += f"@{_escaped(scope)}"
    return f"SESSIONWATCH_IGNORE = [{entry!r}]"


def _escaped(text: str) -> str:
    """Return the pattern that matches *text* alone."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)
