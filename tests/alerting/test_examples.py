"""The examples for Prometheus, Alertmanager and Grafana are what the code makes, and hold for what they are for."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.cli.alerting import as_yaml
from flask_sessionwatch.cli.alerting import rule_groups
from flask_sessionwatch.program import main
from flask_sessionwatch.settings import Settings
from tests.cli.conftest import Shop
from tests.cli.conftest import shop  # noqa: F401, the fixture
from tests.web.test_prometheus import ROOT
from tests.web.test_prometheus import program

EXAMPLES = ROOT / "examples" / "prometheus"
GRAFANA = ROOT / "examples" / "grafana"
ALERTS = [rule["alert"] for group in rule_groups(Settings()) for rule in group["rules"] if "alert" in rule]


def run(*arguments: str, **environment: str) -> str:
    unset = dict.fromkeys(name for name in os.environ if name.startswith("SESSIONWATCH_"))
    result = CliRunner().invoke(main, ["alerts", *arguments], env={**unset, **environment})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_file_is_what_the_command_prints() -> None:
    """The rules of the example are those of the command, with the defaults of the settings."""
    assert (EXAMPLES / "sessionwatch-rules.yml").read_text() == run()


def test_thresholds_of_the_environment() -> None:
    """Thresholds are those of the settings, in expressions and in what is said to people."""
    text = run(
        SESSIONWATCH_LONG_CHECKOUT="7.5", SESSIONWATCH_MAX_COMMITS="99", SESSIONWATCH_LONG_TRANSACTION="123"
    )
    assert "sessionwatch_oldest_checkout_timestamp_seconds > 7.5\n" in text
    assert "more than 99 times" in text
    assert "SESSIONWATCH_LONG_TRANSACTION, 123 s" in text


def test_thresholds_of_the_application(shop: Shop) -> None:  # noqa: F811, the fixture
    """Those of an application are in its configuration."""
    shop.watch.close()
    shop.app.config["SESSIONWATCH_LONG_CHECKOUT"] = 0.25
    shop.watch = SessionWatch(shop.app, sinks=[])
    assert "sessionwatch_oldest_checkout_timestamp_seconds > 0.25\n" in shop.run("alerts").output


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["yaml", "json"])
def test_prometheus_accepts_the_rules(tmp_path: Path, arguments: list[str]) -> None:
    """Prometheus takes the rules as YAML and as JSON, which say the same."""
    path = tmp_path / "rules.yml"
    path.write_text(run(*arguments))
    done = subprocess.run(
        [program("promtool"), "check", "rules", path], capture_output=True, text=True, check=True
    )
    number = sum(len(group["rules"]) for group in rule_groups(Settings()))
    assert f"{number} rules found" in done.stdout
    assert as_yaml(json.loads(run("--json"))["groups"]) == run()


def test_unit_tests_of_the_rules() -> None:
    """The unit tests of the rules pass, and there is one for every alert: that it is silent, and that it is not."""
    tests = EXAMPLES / "sessionwatch-test.yml"
    subprocess.run([program("promtool"), "test", "rules", tests], capture_output=True, check=True)
    text = tests.read_text()
    for alert in ALERTS:
        cases = re.findall(rf"alertname: {alert}\n +exp_alerts:(.*)", text)
        assert " []" in cases, alert
        assert "" in cases, alert


def test_the_configurations_hold(tmp_path: Path) -> None:
    """Prometheus and Alertmanager take their configurations."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "sessionwatch.token").touch()
    for command in (
        ["promtool", "check", "config", "prometheus.yml"],
        ["amtool", "check-config", "alertmanager.yml"],
    ):
        subprocess.run([program(command[0]), *command[1:]], cwd=tmp_path, capture_output=True, check=True)


def test_alerts_are_about_rules_and_metrics_that_there_are() -> None:
    """Every code in a rule is that of a rule, and every metric is in the documentation."""
    text = run()
    assert set(re.findall(r"SW\d{3}", text)) <= {rule.code for rule in DEFAULT_RULES}
    documented = (ROOT / "docs" / "metrics.md").read_text()
    for metric in set(re.findall(r"(?<!:)\bsessionwatch_\w+", text)):
        assert f"| {re.sub('_bucket$', '', metric)} |" in documented, metric


@pytest.mark.skipif(sys.version_info < (3, 11), reason="grafana-foundation-sdk takes Python 3.11")
def test_the_dashboard_is_what_the_script_makes() -> None:
    """The dashboard for Grafana is the one that the script makes."""
    pytest.importorskip("grafana_foundation_sdk")
    made = runpy.run_path(str(GRAFANA / "dashboard.py"))["made"]()
    assert (GRAFANA / "sessionwatch.json").read_text() == made
    data = json.loads(made)
    numbers = [panel["id"] for panel in data["panels"]]
    assert len(set(numbers)) == len(numbers)
