"""What a test is told: which findings are its own, and in which form they travel to pytest's reports."""

from __future__ import annotations

import typing as t
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from dataclasses import dataclass

from ..finding import LEVELS
from ..finding import Finding
from ..finding import Level
from ..rules import DEFAULT_RULES
from ..rules import Rule
from ..settings import ConfigError

#: The set-up of a test run, which makes pools and engines as it needs them, is not that of a service.
_OF_SERVICES = ("SW602", "SW604", "SW7")
#: What is told of tests, of their fixtures and of what they call, which may commit, roll back and throw away as the test
#: likes: what they leave open, what they share between threads, and their style.
_OF_TESTS = frozenset(("SW101", "SW102", "SW105", "SW106", "SW201", "SW303", "SW404", "SW601", "SW603"))
#: Tests that are remembered, to know whose a late finding is.
_TESTS_KEPT = 10_000


def rules_for_tests() -> list[Rule]:
    """Return the rules that make sense in a test run."""
    return [rule for rule in DEFAULT_RULES if not rule.code.startswith(_OF_SERVICES)]


def checked_names(names: Iterable[str], where: str) -> frozenset[str]:
    """Return *names* of rules.

    :raises ConfigError: one of them is no rule.
    """
    known = {name for rule in DEFAULT_RULES for name in (rule.code, rule.name)}
    for name in names:
        if name not in known:
            raise ConfigError(f"{where} names {name!r}, which is no rule. Rules are named as 'SW404'.")
    return frozenset(names)


@dataclass(frozen=True)
class Told:
    """A finding as a test is told of it: plain data, which pytest-xdist can send to another process."""

    nodeid: str
    code: str
    rule: str
    level: str
    text: str
    filename: str | None
    lineno: int | None
    function: str | None

    def as_json(self) -> dict[str, t.Any]:
        return asdict(self)


class Collector:
    """A sink that keeps each occurrence of a finding until the test that is running asks for it."""

    every_time = True

    def __init__(self) -> None:
        self._waiting: deque[Finding] = deque()
        #: When each test began, oldest first; by the ledger's clock.
        self._began: deque[tuple[float, str]] = deque(maxlen=_TESTS_KEPT)

    def __call__(self, finding: Finding) -> None:
        self._waiting.append(finding)

    def begin_test(self, nodeid: str, now: float) -> None:
        """Remember that a test has begun."""
        self._began.append((now, nodeid))

    def take(self, least_level: Level) -> list[Told]:
        """Return what was found and concerns a test, each bug once per test.

        :param least_level: the least level that is told.
        """
        told: dict[tuple[str, str], Told] = {}
        while self._waiting:
            finding = self._waiting.popleft()
            loud = LEVELS.index(finding.level) >= LEVELS.index(least_level)
            if loud and concerns_tests(finding):
                nodeid = self._test_of(finding)
                told.setdefault((nodeid, finding.fingerprint), told_of(finding, nodeid))
        return list(told.values())

    def _test_of(self, finding: Finding) -> str:
        """Name the test in which it began: what is held, or was, may be found when others run."""
        if finding.scope is not None and finding.scope.kind == "test":
            return finding.scope.name
        if finding.scope is not None and finding.scope.kind == "fixture":
            return self._began[-1][1]
        began_at = getattr(finding.subject, "began_at", None)
        for began, nodeid in reversed(self._began):
            if began_at is None or began <= began_at:
                return nodeid
        return self._began[0][1]


def concerns_tests(finding: Finding) -> bool:
    """Whether a test run should tell of *finding*."""
    in_full = finding.scope is not None and finding.scope.kind in ("request", "command")
    return in_full or finding.code in _OF_TESTS


def told_of(finding: Finding, nodeid: str) -> Told:
    """Return *finding* as the test *nodeid* is told of it."""
    site = finding.site
    return Told(
        nodeid,
        finding.code,
        finding.rule,
        finding.level,
        finding.text,
        None if site is None else site.filename,
        None if site is None else site.lineno,
        None if site is None else site.function,
    )
