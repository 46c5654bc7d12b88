"""The catalogue: fixed names, a manual page for every rule, and a test for every rule."""

import copy
import dataclasses
import inspect
import pickle
import re
from pathlib import Path

import pytest

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import Rule
from flask_sessionwatch.finding import LEVELS
from flask_sessionwatch.rules import base

#: Codes and names are fixed: ignore lists, metrics and alert rules of users rely on them.
CATALOGUE = {
    "SW101": "leaked-connection",
    "SW102": "abandoned-connection",
    "SW103": "long-checkout",
    "SW104": "nested-checkout",
    "SW105": "forked-pool",
    "SW106": "open-cursor",
    "SW107": "stale-pooled-connection",
    "SW108": "checkout-churn",
    "SW201": "leaked-session",
    "SW202": "idle-in-transaction",
    "SW203": "lock-held",
    "SW204": "uncommitted-changes",
    "SW205": "failed-transaction",
    "SW206": "partial-commit",
    "SW207": "long-transaction",
    "SW208": "savepoint-escape",
    "SW209": "collateral-rollback",
    "SW210": "mid-request-close",
    "SW211": "isolation-ignored",
    "SW212": "sql-in-after-commit",
    "SW213": "refetch-after-commit",
    "SW214": "extra-transaction",
    "SW215": "premature-autoflush",
    "SW301": "session-outside-scope",
    "SW302": "session-after-teardown",
    "SW303": "cross-thread-session",
    "SW304": "stale-session",
    "SW305": "context-leak",
    "SW306": "nested-context",
    "SW307": "identity-map-growth",
    "SW308": "cross-session-object",
    "SW309": "detached-access",
    "SW310": "no-app-context",
    "SW401": "reentrant-flush",
    "SW402": "double-begin",
    "SW403": "closed-transaction-in-context",
    "SW404": "legacy-query",
    "SW501": "commit-storm",
    "SW601": "pool-exhausted",
    "SW602": "pool-near-limit",
    "SW603": "pool-stuck",
    "SW604": "engine-churn",
    "SW701": "track-modifications",
    "SW702": "record-queries",
    "SW703": "duplicate-listeners",
    "SW704": "pool-smaller-than-threads",
    "SW705": "removed-option",
    "SW706": "connected-before-fork",
    "SW707": "no-liveness-check",
    "SW708": "scoped-session-without-teardown",
    "SW709": "single-process-metrics",
}
LEVEL_OF = {
    "SW101": "error",
    "SW102": "warning",
    "SW103": "warning",
    "SW104": "warning",
    "SW105": "error",
    "SW106": "warning",
    "SW107": "warning",
    "SW108": "info",
    "SW201": "error",
    "SW202": "warning",
    "SW203": "error",
    "SW204": "error",
    "SW205": "error",
    "SW206": "warning",
    "SW207": "info",
    "SW208": "warning",
    "SW209": "warning",
    "SW213": "info",
    "SW214": "info",
    "SW301": "warning",
    "SW302": "warning",
    "SW303": "error",
    "SW304": "warning",
    "SW305": "error",
    "SW306": "info",
    "SW307": "warning",
    "SW404": "info",
    "SW501": "warning",
    "SW601": "error",
    "SW602": "warning",
    "SW603": "error",
    "SW604": "warning",
    "SW701": "warning",
    "SW702": "warning",
    "SW703": "warning",
    "SW704": "warning",
    "SW705": "error",
    "SW706": "warning",
    "SW707": "info",
    "SW708": "error",
    "SW709": "warning",
}
SECTIONS = ["What it does", "Why it matters", "Example", "Instead", "Options"]

every_rule = pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.code)


def test_codes_are_unique() -> None:
    """No two rules share a code or a name."""
    codes = [rule.code for rule in DEFAULT_RULES]
    names = [rule.name for rule in DEFAULT_RULES]
    assert len(set(codes)) == len(codes)
    assert len(set(names)) == len(names)
    assert len(set(CATALOGUE.values())) == len(CATALOGUE)


@every_rule
def test_code_and_name(rule: Rule) -> None:
    """A rule bears the code and the name that the catalogue fixes."""
    assert CATALOGUE[rule.code] == rule.name
    assert re.fullmatch("SW[1-9][0-9]{2}", rule.code)
    assert re.fullmatch("[a-z]+(-[a-z]+)+", rule.name)


@every_rule
def test_level(rule: Rule) -> None:
    """A rule has a level that exists, and the one the catalogue states where it states one."""
    assert rule.level in LEVELS
    assert LEVEL_OF.get(rule.code, rule.level) == rule.level


@every_rule
def test_hint(rule: Rule) -> None:
    """A hint says what to do, in one line without begging."""
    assert rule.hint
    assert rule.hint.isprintable()
    assert "please" not in rule.hint.lower()
    assert rule.hint.endswith(".")


@every_rule
def test_manual_page(rule: Rule) -> None:
    """A rule's docstring is its manual page: one sentence, then five sections in a fixed order, each with text."""
    assert inspect.cleandoc(type(rule).__doc__ or "") == rule.page
    parts = re.split(r"^(\w[\w ]+)$", rule.page, flags=re.MULTILINE)
    assert parts[0].strip().endswith(".")
    assert len(parts[0].strip().splitlines()) == 1
    assert parts[1::2] == SECTIONS
    assert all(part.strip() for part in parts[2::2])


@every_rule
def test_example_and_remedy_are_code(rule: Rule) -> None:
    """Example and Instead each show code, and not the same."""
    example, instead = (
        rule.page.partition(f"\n{name}\n")[2].partition(f"\n{following}\n")[0]
        for name, following in (("Example", "Instead"), ("Instead", "Options"))
    )
    assert "::" in example
    assert "::" in instead
    assert example != instead


@every_rule
def test_options_are_described(rule: Rule) -> None:
    """Every option is described on the manual page, and all of them have a default."""
    options = rule.page.partition("\nOptions\n")[2]
    for field in dataclasses.fields(rule):
        assert f"``{field.name}``" in options
    assert type(rule)() == rule


@every_rule
def test_immutable(rule: Rule) -> None:
    """A rule is a value: it cannot be changed once it was chosen."""
    for name in ("code", "level", *(field.name for field in dataclasses.fields(rule)), "another"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(rule, name, "changed")


@every_rule
def test_value(rule: Rule) -> None:
    """A rule equals one with the same options, can be a key, and survives being copied."""
    assert len({rule, type(rule)(), copy.deepcopy(rule), pickle.loads(pickle.dumps(rule))}) == 1


def test_rules_are_a_tuple() -> None:
    """Nobody turns a rule off for everybody by removing it from the list."""
    assert isinstance(DEFAULT_RULES, tuple)


@every_rule
def test_overrides_a_moment(rule: Rule) -> None:
    """A rule judges at some moment at least, and through nothing but the moments that there are."""
    moments = {name for name in vars(Rule) if name.startswith("at_")}
    assert moments == {"at_start", "at_scope_end", "at_tick", "at_incident"}
    own = {name for name in vars(type(rule)) if name.startswith("at_")}
    assert own
    assert own <= moments


@every_rule
def test_has_a_test(rule: Rule) -> None:
    """Every rule has a module beside this one that tests it by its code."""
    modules = [path for path in Path(__file__).parent.glob("test_*.py") if path.name != Path(__file__).name]
    assert any(rule.code in path.read_text() for path in modules)


@every_rule
def test_is_exported_by_its_family(rule: Rule) -> None:
    """A rule can be imported by its class name, to be given options."""
    module = inspect.getmodule(type(rule))
    assert module is not None
    assert getattr(module, type(rule).__name__) is type(rule)


def test_rule_without_moments() -> None:
    """A subclass overrides what it needs; the moments it leaves out find nothing."""

    @dataclasses.dataclass(frozen=True)
    class Silent(Rule):
        """Says nothing."""

        code = "X1"
        name = "silent"

    silent = Silent()
    nothing: list[object] = [
        *silent.at_start(None),  # type: ignore[arg-type]
        *silent.at_tick(None),  # type: ignore[arg-type]
        *silent.at_scope_end(None, None),  # type: ignore[arg-type]
        *silent.at_incident(None, None),  # type: ignore[arg-type]
    ]
    assert nothing == []
    assert silent.page == "Says nothing."
    assert silent.level == "warning"
    assert base.Rule.every_scope is False
