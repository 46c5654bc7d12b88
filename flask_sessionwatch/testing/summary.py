"""The summary at the end of a test run, also of one that pytest-xdist has spread over processes."""

from __future__ import annotations

import typing as t

import pytest

from ..finding import printable
from ..observe.stack import Site
from .told import Told

#: Tests that are named below each finding.
_TESTS_NAMED = 3
#: The attribute of a report that carries what was told.
ATTRIBUTE = "sessionwatch"


class Summary:
    """Collects what the reports of tests carry, wherever the tests ran.

    :param strict: whether what is found too late for the report of its test is to fail the run.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._told: list[Told] = []
        self._late = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a report carries."""
        for data in getattr(report, ATTRIBUTE, ()):
            told = Told(**data)
            self._told.append(told)
            self._late = self._late or told.nodeid != report.nodeid

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run for what came too late to fail its test."""
        if self._strict and self._late and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show each bug once, with the tests in which it was seen."""
        if not self._told:
            return
        terminalreporter.section("sessionwatch")
        for told, nodeids in self._by_bug():
            terminalreporter.line(printable(_headline(told)))
            for nodeid in nodeids[:_TESTS_NAMED]:
                terminalreporter.line(f"  {nodeid}")
            if len(nodeids) > _TESTS_NAMED:
                terminalreporter.line(f"  and {len(nodeids) - _TESTS_NAMED} more tests")

    def _by_bug(self) -> t.Iterable[tuple[Told, list[str]]]:
        bugs: dict[tuple[t.Any, ...], tuple[Told, list[str]]] = {}
        for told in self._told:
            key = told.code, told.filename, told.lineno
            _, nodeids = bugs.setdefault(key, (told, []))
            if told.nodeid not in nodeids:
                nodeids.append(told.nodeid)
        return bugs.values()


def _headline(told: Told) -> str:
    if told.filename is None or told.lineno is None:
        return f"{told.code} {told.rule}"
    return f"{told.code} {told.rule}: {Site(told.filename, told.lineno, told.function or '?')}"
