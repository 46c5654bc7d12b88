"""`explain`: the manual page of a rule."""

import json
import os
import subprocess
import sys

import flask
import flask.testing
import pytest

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import Rule
from flask_sessionwatch import SessionWatch


@pytest.fixture
def runner(app: flask.Flask) -> flask.testing.FlaskCliRunner:
    return app.test_cli_runner()


@pytest.fixture
def app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.config["SESSIONWATCH_ENABLED"] = False
    SessionWatch(app)
    return app


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.code)
def test_explain(runner: flask.testing.FlaskCliRunner, rule: Rule) -> None:
    """Every rule is explained by its code and by its name, in any case, with its whole manual page."""
    by_code = runner.invoke(args=["sessionwatch", "explain", rule.code.lower()])
    by_name = runner.invoke(args=["sessionwatch", "explain", rule.name.upper()])
    assert by_code.exit_code == by_name.exit_code == 0
    assert by_code.output == by_name.output
    assert rule.page in by_code.output
    assert rule.hint in by_code.output


def test_explain_unknown_rule(runner: flask.testing.FlaskCliRunner) -> None:
    """A rule that does not exist is an error that names the nearest."""
    result = runner.invoke(args=["sessionwatch", "explain", "leaked-conection"])
    assert result.exit_code == 2
    assert "There is no rule 'leaked-conection'. Did you mean 'SW101'?" in result.output


def test_explain_as_json(runner: flask.testing.FlaskCliRunner) -> None:
    """As JSON it is the rule as data."""
    result = runner.invoke(args=["sessionwatch", "explain", "SW101", "--json"])
    answer = json.loads(result.output)
    assert (answer["code"], answer["name"], answer["level"]) == ("SW101", "leaked-connection", "error")
    assert answer["page"].startswith("A scope ended")


@pytest.mark.parametrize(
    ("begun", "expected"), [("sw10", "SW101"), ("leaked-c", "leaked-connection"), ("", "SW709")]
)
def test_completion(begun: str, expected: str) -> None:
    """The shell completes codes, and names once they are begun."""
    environment = {
        **os.environ,
        "_FLASK_COMPLETE": "bash_complete",
        "COMP_WORDS": f"flask sessionwatch explain {begun}",
        "COMP_CWORD": "3",
        "FLASK_APP": "examples/minimal/app.py",
    }
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'flask'; from flask.cli import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    completed = [line.partition(",")[2] for line in done.stdout.splitlines()]
    assert expected in completed
    assert all(each.lower().startswith(begun) for each in completed)
