"""What a process tells of itself."""

import dataclasses
import importlib.metadata
import platform
import re
from datetime import timedelta

import flask
import pytest
import sqlalchemy as sa

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import Rule
from flask_sessionwatch.finding import MINUTES_KEPT
from flask_sessionwatch.finding import now
from flask_sessionwatch.report.about import in_force
from flask_sessionwatch.report.about import recently
from flask_sessionwatch.report.about import versions
from flask_sessionwatch.settings import Settings
from flask_sessionwatch.version import VERSION
from tests.report.test_dispatcher import finding


def test_versions() -> None:
    """It names what it runs on, as that names itself."""
    told = versions()
    assert (told["version"], told["python"]) == (VERSION, platform.python_version())
    assert told["sqlalchemy"] == sa.__version__
    assert told["flask"].startswith("3.") == hasattr(flask.Flask, "aborter_class")


def test_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that was frozen into one file may not know what it consists of."""

    def unknown(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", unknown)
    assert set(versions.__wrapped__()) == {"version", "python"}


def test_limits() -> None:
    """A rule judges by its option where that was given, and by the settings where it was not."""
    settings = Settings(long_checkout=7.0, max_commits=3)
    changed = [
        dataclasses.replace(each, threshold=2.5) if each.code == "SW202" else each  # type: ignore[call-arg]
        for each in DEFAULT_RULES
    ]
    limits = in_force(changed, settings)["limits"]
    told = {code: (each["option"], each["setting"], each["value"]) for code, (each,) in limits.items()}
    assert told["SW103"] == ("threshold", "SESSIONWATCH_LONG_CHECKOUT", 7.0)
    assert told["SW202"] == ("threshold", "SESSIONWATCH_IDLE_IN_TRANSACTION", 2.5)
    assert told["SW501"] == ("limit", "SESSIONWATCH_MAX_COMMITS", 3)
    assert told["SW108"] == (None, "SESSIONWATCH_MAX_CHECKOUTS", 10)


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.code)
def test_limits_are_those_of_the_page(rule: Rule) -> None:
    """Every setting that a rule's manual page names as its limit is told, and so is the option that wins over it."""
    options = rule.page.partition("Options\n")[2]
    told = rule.limits_in_force(Settings())
    named = set(re.findall("SESSIONWATCH_[A-Z_]+", options)) - {"SESSIONWATCH_IGNORE"}
    assert {each["setting"] for each in told} == named
    fields = {each.name for each in dataclasses.fields(rule)}
    assert {each["option"] for each in told} <= {None, *fields}


def test_ignored() -> None:
    """An entry of SESSIONWATCH_IGNORE belongs to the rule it names by code or name."""
    entries = ("SW103:jobs/*", "commit-storm@POST /import", "long-checkout")
    ignored = in_force(DEFAULT_RULES, Settings(ignore=entries))["ignored"]
    assert ignored == {"SW103": ["SW103:jobs/*", "long-checkout"], "SW501": ["commit-storm@POST /import"]}


def test_recently() -> None:
    """Occurrences are told minute by minute, for an hour."""
    minute = int(now().timestamp() // 60)
    one, old = finding(1), finding(2, last_seen=now() - timedelta(minutes=MINUTES_KEPT + 1))
    for each in (one, one, old):
        each.occurred()
    assert recently({"one": one, "old": old}) == {"one": [(minute, 2)]}


def test_minutes_are_bounded() -> None:
    """A finding that is seen for days keeps the minutes of its last hour."""
    one = finding(1)
    for number in range(200):
        one.last_seen = now() + timedelta(minutes=number)
        one.occurred()
    assert len(one.recent) == MINUTES_KEPT
    assert max(one.recent) - min(one.recent) == MINUTES_KEPT - 1
