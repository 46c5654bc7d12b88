"""The catalogue as the pages show it, and the advice that goes with a finding."""

import typing as t

import pytest

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import Finding
from flask_sessionwatch import Rule
from flask_sessionwatch import Site
from flask_sessionwatch.finding import ScopeName
from flask_sessionwatch.report.about import in_force
from flask_sessionwatch.report.dispatcher import Ignored
from flask_sessionwatch.settings import Settings
from flask_sessionwatch.store.base import ABOUT
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.picture import Picture
from flask_sessionwatch.web.catalogue import Catalogue
from flask_sessionwatch.web.catalogue import ignoring
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker
from tests.web.conftest import Pages
from tests.web.conftest import Watch
from tests.web.test_api import Leaky
from tests.web.test_api import pages as pages


class Own(Rule):
    """Tells nothing."""

    code = "X001"
    name = "own"


def rules(pages: Pages) -> dict[str, t.Any]:
    return {each["code"]: each for each in pages.json("/api/v1/rules")["rules"]}


def test_on_and_off(watch: Watch) -> None:
    """A rule is off where it was left out or is ignored everywhere; ignored in places it is on."""
    kept = [rule for rule in DEFAULT_RULES if rule.code != "SW404"]
    ignored = ["SW101", "SW103:jobs/*", "commit-storm@POST /import"]
    told = rules(Pages(watch(rules=[*kept, Own()], SESSIONWATCH_IGNORE=ignored)))
    assert {code for code, rule in told.items() if not rule["enabled"]} == {"SW101", "SW404"}
    assert told.keys() == {*(rule.code for rule in DEFAULT_RULES), "X001"}
    assert told["SW103"]["ignored"] == ["SW103:jobs/*"]
    assert told["SW501"]["ignored"] == ["commit-storm@POST /import"]


def test_thresholds(watch: Watch) -> None:
    """A rule tells the limit by which it judges, and the setting that changes it."""
    told = rules(Pages(watch(SESSIONWATCH_MAX_COMMITS=3)))
    assert told["SW501"]["thresholds"] == [
        {"option": "limit", "setting": "SESSIONWATCH_MAX_COMMITS", "value": 3}
    ]
    assert told["SW101"]["thresholds"] == []


def test_counts(pages: Leaky) -> None:
    """A rule tells how many findings there are of it."""
    pages.leak("/connection/1")
    assert rules(pages)["SW101"]["findings"] == {"open": 1, "total": 1}
    pages.close()
    pages.watch.tick()
    assert rules(pages)["SW101"]["findings"] == {"open": 0, "total": 1}
    assert rules(pages)["SW201"]["findings"] == {"open": 0, "total": 0}


def test_without_the_application() -> None:
    """Where only the workers know what is on, they are asked; until one has told, it is what is on by default."""
    store = MemoryStore()
    catalogue = Catalogue(DEFAULT_RULES, None)
    assert all(each["enabled"] for each in catalogue.rows(Picture(store)))
    force = in_force(DEFAULT_RULES, Settings(ignore=("SW101",), max_commits=3))
    store.publish(worker(), {ABOUT: document(in_force=force)}, [report()])
    told = {each["code"]: each for each in catalogue.rows(Picture(store))}
    assert [code for code, each in told.items() if not each["enabled"]] == ["SW101"]
    assert told["SW501"]["thresholds"][0]["value"] == 3
    assert told["SW101"]["findings"] == {"open": 1, "total": 1}


# Advice


def test_page(pages: Leaky) -> None:
    """A finding comes with its rule's manual page."""
    pages.leak("/connection/1")
    (row,) = pages.json("/api/v1/findings")["findings"]
    finding = pages.json(f"/api/v1/findings/{row['fingerprint']}")
    assert finding["page"] == rules(pages)["SW101"]["page"]


def test_page_of_an_unknown_rule() -> None:
    """A rule that is not known here, such as one of the application's own, has no page here."""
    advice = Catalogue(DEFAULT_RULES, None).advice({"code": "X001", "site": None, "scope": None})
    assert advice == {"page": None, "ignore": "SESSIONWATCH_IGNORE = ['X001']"}
    assert Catalogue((Own(),), None).advice({"code": "X001"})["page"] == "Tells nothing."


NAMES = ["GET /orders/<int:id>", "import [a-z] *?", "a@b", 'it\'s "quoted"', "c:\\d", "GET /a,b"]
FILES = ["/srv/shop/orders.py", "/srv/[old]/a*b?.py", "/srv/a@b:c.py", "relative.py"]


def finding(filename: str | None, scope: str | None) -> Finding:
    return Finding(
        code="SW101",
        rule="leaked-connection",
        level="error",
        message="Leaked.",
        site=None if filename is None else Site(filename, 1, "f"),
        stack=(),
        scope=None if scope is None else ScopeName(scope, "request"),
        hint="",
    )


@pytest.mark.parametrize("scope", [None, *NAMES])
@pytest.mark.parametrize("filename", [None, *FILES])
def test_ignoring(filename: str | None, scope: str | None) -> None:
    """The line of configuration keeps this finding back, and none of another file or scope."""
    one = finding(filename, scope)
    configuration: dict[str, t.Any] = {}
    exec(ignoring(one.as_json()), configuration)  # noqa: S102, it is to be pasted into a program
    ignored = Ignored(configuration["SESSIONWATCH_IGNORE"])
    assert ignored(one)
    for other in FILES:
        if filename not in (None, other):
            assert not ignored(finding(other, scope))
    for name in NAMES:
        if scope not in (None, name):
            assert not ignored(finding(filename, name))
