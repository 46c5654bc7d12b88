"""Holds what was found against what is expected."""

import collections.abc as cabc
import dataclasses
import pathlib
import typing as t

import expected
from expected import Bug

# Told about a pool or about the configuration, not about the endpoint that happened to be running.
OF_THE_PROCESS = ("SW602", "SW603", "SW7")
# The pool that is meant to be too small, and so to be talked about.
SMALL_POOL = "reporting"


@dataclasses.dataclass(frozen=True)
class Told:
    """A finding, as the watcher's API and its JSON log give it.

    :param verb: what happened at the line: "checked out", "begun", ...
    """

    code: str
    rule: str
    level: str
    message: str
    filename: str
    line: int
    function: str
    scope: str
    hint: str
    verb: str
    count: int
    fingerprint: str

    @classmethod
    def from_json(cls, data: dict[str, t.Any]) -> "Told":
        site = data.get("site") or {}
        return cls(
            code=data["code"],
            rule=data["rule"],
            level=data["level"],
            message=data["message"],
            filename=site.get("filename") or "",
            line=site.get("lineno") or 0,
            function=site.get("function") or "",
            scope=data.get("scope") or "",
            hint=data.get("hint") or "",
            verb=data.get("verb") or "seen",
            count=data["count"],
            fingerprint=data["fingerprint"],
        )

    @property
    def site(self) -> str:
        """The file from the shop's folder on, and the line."""
        path = pathlib.PurePath(self.filename)
        if path.is_relative_to(expected.HERE):
            path = path.relative_to(expected.HERE)
        return f"{path}:{self.line}" if self.filename else ""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of every bug and of every finding.

    :param seen: each bug with the finding at its very line, or None.
    :param elsewhere: the right rule, but in another scope or at another line.
    :param beside: other rules about the scopes that have bugs.
    :param process: pools and configuration.
    :param false: findings on what is healthy.
    """

    seen: dict[Bug, Told | None]
    elsewhere: list[Told]
    beside: list[Told]
    process: list[Told]
    false: list[Told]

    @property
    def is_good(self) -> bool:
        return None not in self.seen.values() and not self.false

    @property
    def codes_seen(self) -> set[str]:
        return {bug.code for bug, told in self.seen.items() if told}


def judge(findings: cabc.Iterable[Told]) -> Verdict:
    """Sort the findings."""
    verdict = Verdict(dict.fromkeys(expected.BUGS), [], [], [], [])
    for told in findings:
        _place(told, verdict)
    return verdict


def _place(told: Told, verdict: Verdict) -> None:
    in_scope = [bug for bug in expected.BUGS if _runs(bug, told.scope)]
    named = [bug for bug in expected.BUGS if bug.code == told.code]
    at_line = [bug for bug in named if bug.is_at(told.filename, told.line)]
    exact = [bug for bug in at_line if bug in in_scope]
    if exact:
        verdict.seen[exact[0]] = told
    elif at_line or any(bug in in_scope for bug in named):
        verdict.elsewhere.append(told)
    elif in_scope:
        verdict.beside.append(told)
    elif told.code.startswith(OF_THE_PROCESS) and _is_meant(told):
        verdict.process.append(told)
    else:
        verdict.false.append(told)


def _runs(bug: Bug, scope: str) -> bool:
    # A command's scope may have its kind in front: "flask import-stock".
    return any(scope == name or scope.endswith(f" {name}") for name in bug.scopes)


def _is_meant(told: Told) -> bool:
    return told.code.startswith("SW7") or SMALL_POOL in told.message
