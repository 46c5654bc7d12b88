"""The pytest plugin proper, once somebody has asked for it."""

from __future__ import annotations

import typing as t
import warnings
from dataclasses import dataclass

import flask
import pytest

from ..everywhere import Everywhere
from ..extension import SessionWatch
from ..extension import _process as process
from ..finding import LEVELS
from ..finding import Level
from ..observe.clock import clock
from ..observe.records import Scope
from ..report.metrics import CollectorRegistry
from ..settings import ConfigError
from .assertions import Assertions
from .dropping import Dropping
from .events import Events
from .scopes import TestScopes
from .summary import ATTRIBUTE
from .summary import Summary
from .told import Collector
from .told import Told
from .told import checked_names
from .told import rules_for_tests
from .warning import SessionWatchWarning


@dataclass(frozen=True)
class Asked:
    """What is asked of one test.

    :param mode: "off", "warn" or "error".
    :param allow: codes and names of rules that are not told.
    :param max_commits: how often each of its scopes may commit.
    :param events: whether it wants to know what happened in which order.
    """

    mode: str
    allow: frozenset[str] = frozenset()
    max_commits: int | None = None
    events: bool = False


class Plugin:
    """Makes each test a scope, has judged what it leaves open, and tells it.

    :param config: of the run.
    :param mode: "off" (only tests with the marker are told), "warn" or "error".
    """

    def __init__(self, config: pytest.Config, mode: str) -> None:
        self._mode = mode
        self._least_level = _level_of(config)
        self._collector = Collector()
        watch = SessionWatch(rules=rules_for_tests(), sinks=[self._collector], registry=CollectorRegistry())
        watch.store = "memory:"
        watch.serves_pages = False
        owner = watch.watch_process()
        process.stacks.add_paths([str(config.rootpath)])
        self._scopes = TestScopes(process, owner)
        self._events = Events(process)
        self._dropping = Dropping(process)
        self._asked: dict[str, Asked] = {}
        self._fixtures: dict[t.Any, Scope] = {}
        self._told: dict[str, list[Told]] = {}
        self._unwatched: list[str] = []
        self._everywhere = Everywhere(watch, [self._collector], self._not_watched)
        self._everywhere.start()

    def _not_watched(self, app: flask.Flask, error: Exception) -> None:
        self._unwatched.append(f"The application '{app.name}' is not watched: {error}")

    def assertions(self, item: pytest.Item) -> Assertions:
        """Return the fixture's value for a test."""
        if not self._asked_of(item).events:  # it came by request.getfixturevalue()
            self._events.start()
        return Assertions(self._events, process.ledger)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Begin while pytest does not capture."""
        self._dropping.open_terminal()
        config.pluginmanager.register(Summary(strict=self._mode != "warn"))

    def pytest_unconfigure(self) -> None:
        """Take every hook off."""
        self._events.stop()
        self._dropping.close()
        self._scopes.close()
        self._everywhere.stop()

    def pytest_report_header(self) -> str:
        """Say that there is a watch."""
        return f"sessionwatch: {self._mode if self._mode != 'off' else 'tests that are marked'}"

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn of the tests."""
        self.learn(session.items)

    def learn(self, items: t.Iterable[pytest.Item]) -> None:
        """Learn what is asked of each test."""
        for item in items:
            self._asked[item.nodeid] = _asked_of(item, self._mode)

    def _asked_of(self, item: pytest.Item) -> Asked:
        return self._asked.get(item.nodeid) or _asked_of(item, self._mode)

    # Tests

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> t.Generator[None, object, object]:
        """Make a test a scope, from the first fixture it sets up to the last it tears down."""
        self._collector.begin_test(item.nodeid, clock())
        self._scopes.begin_test(item.nodeid)
        if self._asked_of(item).events:
            self._events.start()
        try:
            return (yield)
        finally:
            self._scopes.end_test()
            self._events.stop()
            self._told.clear()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> t.Generator[None, None, None]:
        """Count what the test does, and not its fixtures."""
        asked = self._asked_of(item)
        if asked.events:
            self._events.start()
        try:
            yield
        finally:
            if asked.max_commits is not None:
                self._told[item.nodeid] = self._events.storms(item.nodeid, asked.max_commits)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> t.Generator[None, None, None]:
        """Judge the test once all of its fixtures are torn down, and tell it."""
        try:
            yield
        except BaseException:
            self._judge(item)
            raise
        self._tell(item, self._judge(item))

    def _judge(self, item: pytest.Item) -> list[Told]:
        self._scopes.end_test()
        process.tick()
        found = [
            *self._told.get(item.nodeid, ()),
            *self._collector.take(self._least_level),
        ]
        told = self._told[item.nodeid] = [each for each in found if self._is_wanted(each)]
        return told

    def _is_wanted(self, told: Told) -> bool:
        asked = self._asked.get(told.nodeid) or Asked(self._mode)
        return asked.mode != "off" and told.code not in asked.allow and told.rule not in asked.allow

    def _tell(self, item: pytest.Item, told: list[Told]) -> None:
        if self._asked_of(item).mode == "error":
            failing = [each for each in told if each.nodeid == item.nodeid]
        else:
            failing = [
                each for each in told if _is_raised(_warning_of(each, item), each.filename, each.lineno)
            ]
        refused = [each for each in self._unwatched if _is_raised(each, None, None)]
        self._unwatched.clear()
        texts = [each.text for each in failing] + refused
        if texts:
            pytest.fail("\n".join(texts), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> t.Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let the report carry what is told, also to another process."""
        report = yield
        in_the_way = self._dropping.failed if call.excinfo is not None else None
        if in_the_way is not None:
            report.sections.append(("sessionwatch", in_the_way))
        if call.when == "teardown":
            setattr(report, ATTRIBUTE, [each.as_json() for each in self._told.get(item.nodeid, ())])
        return report

    # Fixtures

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[t.Any]) -> t.Generator[None, object, object]:
        """Let what a fixture of more than one test begins be the fixture's."""
        if fixturedef.scope == "function":
            return (yield)
        with self._scopes.setting_up(f"fixture '{fixturedef.argname}'") as scope:
            self._fixtures[fixturedef] = scope
            return (yield)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[t.Any]) -> None:
        """Judge what a fixture of more than one test leaves open."""
        scope = self._fixtures.pop(fixturedef, None)
        if scope is not None:
            self._scopes.end_fixture(scope)


def _level_of(config: pytest.Config) -> Level:
    level: Level = config.getini("sessionwatch_level")
    if level not in LEVELS:
        raise pytest.UsageError(f"'sessionwatch_level' is {level!r}; it takes {', '.join(LEVELS)}.")
    return level


def _asked_of(item: pytest.Item, mode: str) -> Asked:
    markers = list(item.iter_markers("sessionwatch"))  # the closest comes first
    events = "sessionwatch" in getattr(item, "fixturenames", ())
    if not markers:
        return Asked(mode, events=events)
    allow: set[str] = set()
    for marker in markers:
        if marker.args or marker.kwargs.keys() - {"max_commits", "allow"}:
            raise pytest.UsageError(
                f"The marker 'sessionwatch' of {item.nodeid} takes max_commits and allow, by their names."
            )
        try:
            allow |= checked_names(marker.kwargs.get("allow", ()), f"The marker of {item.nodeid}")
        except ConfigError as error:
            raise pytest.UsageError(str(error)) from None
    limits = (marker.kwargs["max_commits"] for marker in markers if "max_commits" in marker.kwargs)
    most = next(limits, None)
    return Asked("error" if mode == "off" else mode, frozenset(allow), most, events or most is not None)


def _warning_of(told: Told, item: pytest.Item) -> str:
    return told.text if told.nodeid == item.nodeid else f"In {told.nodeid}: {told.text}"


def _is_raised(text: str, filename: str | None, lineno: int | None) -> bool:
    """Warn, at the line that it is about; answer whether that is an error, as ``-W error`` says."""
    try:
        warnings.warn_explicit(text, SessionWatchWarning, filename or __file__, lineno or 1)
    except SessionWatchWarning:
        return True
    return False
