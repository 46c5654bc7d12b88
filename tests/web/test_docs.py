"""What is written is what is so: rules, settings, metrics, and the snippets of README.md."""

import ast
import dataclasses
import re
import runpy
import subprocess
from pathlib import Path

import flask
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.cli import sessionwatch
from flask_sessionwatch.cli.alerting import rule_groups
from flask_sessionwatch.report.metrics import Metrics
from flask_sessionwatch.settings import Settings
from flask_sessionwatch.store.listing import SORTS
from flask_sessionwatch.web import stored
from flask_sessionwatch.web.asking import FILTERS
from flask_sessionwatch.web.openapi import _PATHS
from tests.web.test_prometheus import program

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BESIDE = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
PAGES = sorted([*BESIDE, *(ROOT / "docs").glob("*.md")])


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def rows(text: str, start: str) -> list[list[str]]:
    """Return the cells of the rows of tables that begin with *start*."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def snippets(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_rules_page_is_made_from_the_docstrings() -> None:
    """docs/rules.md is what scripts/rule_pages.py makes of the rules as they are."""
    made = runpy.run_path(str(ROOT / "scripts" / "rule_pages.py"))["render"]()
    assert made == page("rules.md"), "run: python scripts/rule_pages.py"


def test_examples_of_rules_are_python() -> None:
    """Every example and its repair can be read by Python, apart from where it is cut out."""
    for code in snippets(page("rules.md"), "python"):
        whole = (
            re.sub(r"^(\s*)except", r"\1try:\n\1    pass\n\1except", code)
            if code.startswith("except")
            else code
        )
        ast.parse(f"def example():\n{re.sub('^', '    ', whole, flags=re.MULTILINE)}")


def test_readme_lists_the_rules() -> None:
    """README.md names every rule with the first sentence of its manual page, and no other."""
    told = [tuple(row) for row in rows(README, "SW")]
    assert [(rule.code, rule.name, rule.page.partition("\n")[0]) for rule in DEFAULT_RULES] == told


def test_changelog_names_the_rules() -> None:
    """CHANGELOG.md names every rule."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased = re.sub(r"\s+", " ", changelog.partition("## [Unreleased]")[2])
    missing = [rule.code for rule in DEFAULT_RULES if f"{rule.code} {rule.name}" not in unreleased]
    assert missing == []


def test_settings_page() -> None:
    """docs/settings.md has every setting with its default."""
    told = {
        key: ast.literal_eval(default.strip("`"))
        for key, default, _ in rows(page("settings.md"), "SESSIONWATCH_")
    }
    defaults = {
        f"SESSIONWATCH_{each.name.rstrip('_').upper()}": each.default for each in dataclasses.fields(Settings)
    }
    assert defaults == told


def test_readme_settings() -> None:
    """README.md lists every setting, with the same defaults."""
    defaults = {
        f"SESSIONWATCH_{each.name.rstrip('_').upper()}": str(each.default)
        for each in dataclasses.fields(Settings)
    }
    assert defaults == {key: default for key, default, _ in rows(README, "SESSIONWATCH_")}


def test_metrics_page() -> None:
    """docs/metrics.md has every metric with its type and its labels, and no other."""
    metrics = Metrics(CollectorRegistry())
    exist = set()
    for metric in [*metrics._metrics.values(), metrics._oldest]:
        kind = "histogram" if isinstance(metric, Histogram) else metric._type
        name = f"{metric._name}_total" if kind == "counter" else metric._name
        exist.add((name, kind, ", ".join(metric._labelnames)))
    told = {(name, kind, labels) for name, kind, labels, _ in rows(page("metrics.md"), "sessionwatch_")}
    assert exist == told


def test_metrics_of_the_server() -> None:
    """docs/server.md has every metric that the standalone server makes of a store, and no other."""
    exist = {
        (f"sessionwatch_{name}", "gauge", ", ".join(labels)) for name, (_, labels) in stored.GAUGES.items()
    }
    exist |= {
        (f"sessionwatch_{name}_total", "counter", ", ".join(labels))
        for name, (_, labels) in stored.COUNTERS.items()
    }
    told = {(name, kind, labels) for name, kind, labels, _ in rows(page("server.md"), "sessionwatch_")}
    assert exist == told


def test_api_page() -> None:
    """docs/api.md has every path of the API, every filter and every order, and no other."""
    told = [path.strip("`") for path, _ in rows(page("api.md"), "`/api/")]
    assert sorted(told) == sorted(_PATHS)
    section = page("api.md").partition("## Findings")[2].partition("\n\n`recent`")[0]
    assert {*FILTERS, *SORTS, "q", "sort", "offset", "limit"} <= set(re.findall(r"`([a-z_]+)`", section))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_names_exist(path: Path) -> None:
    """Every metric, setting and rule that a page mentions exists."""
    text = path.read_text(encoding="utf-8")
    pages = page("metrics.md") + page("server.md")
    metrics = {name for name, *_ in rows(pages, "sessionwatch_")}
    beside = {"sessionwatch_", "sessionwatch_level"}  # the prefix, and an option of pytest
    assert set(re.findall(r"\bsessionwatch_[a-z_]+", text)) - beside <= metrics
    settings = {f"SESSIONWATCH_{each.name.rstrip('_').upper()}" for each in dataclasses.fields(Settings)}
    assert set(re.findall(r"SESSIONWATCH_[A-Z_]*[A-Z]", text)) <= settings
    assert set(re.findall(r"\bSW\d{3}\b", text)) <= {rule.code for rule in DEFAULT_RULES}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link leads to a file, and its anchor to a heading."""
    for target in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.is_file(), target  # a folder is no page of the site
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings]


def test_python_of_the_readme() -> None:
    """The lines that switch the watch on work as they stand."""
    (code,) = snippets(README, "python")
    names: dict[str, object] = {"app": flask.Flask("watched")}
    exec(code, names)  # noqa: S102, a snippet of our own
    watch = names["watch"]
    assert isinstance(watch, SessionWatch)
    watch.close()


def test_python_of_the_settings() -> None:
    """So do those that give a rule an option of its own, and those that allow what it tells."""
    allowing, options = snippets(page("settings.md"), "python")
    names: dict[str, object] = {"app": flask.Flask("watched"), "export_everything": lambda: None}
    exec(options, names)  # noqa: S102, a snippet of our own
    watch = names["watch"]
    assert isinstance(watch, SessionWatch)
    exec(allowing, names)  # noqa: S102, another one
    watch.close()


def test_prometheus_takes_the_readme(tmp_path: Path) -> None:
    """Prometheus takes the scrape configuration as it stands."""
    promtool = program("promtool")
    (scrape,) = snippets(README, "yaml")
    (tmp_path / "prometheus.yml").write_text(scrape)
    (tmp_path / "sessionwatch.token").write_text("a long random value")
    done = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_documented() -> None:
    """Every alert is in the documentation, with its severity and for how long it has to be true, and nothing else is."""
    documented = {name: cells for name, *cells in rows(page("alerting.md"), "Sessionwatch")}
    alerts = [rule for group in rule_groups(Settings()) for rule in group["rules"] if "alert" in rule]
    assert list(documented) == [rule["alert"] for rule in alerts]
    for rule in alerts:
        wait = {"0s": "at once"}.get(rule["for"], rule["for"].replace("m", " min"))
        assert documented[rule["alert"]][:2] == [wait, rule["labels"]["severity"]]


def test_every_command_is_documented() -> None:
    """Every command is in the documentation."""
    documented = [row[0].strip("`").partition(" ")[0] for row in rows(page("cli.md"), "`")]
    assert set(sessionwatch.commands) <= set(documented)
