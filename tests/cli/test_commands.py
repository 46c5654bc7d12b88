"""What the commands show of what the workers have published."""

import contextlib
import json
import typing as t

import flask
import prometheus_client
import pytest

from flask_sessionwatch import SessionWatch
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from tests.cli.conftest import Shop
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker

# status


def test_status(busy: Shop) -> None:
    """It says how many workers there are, how full the pools are, and what was found."""
    lines = busy.run("status").output.splitlines()
    assert lines[0] == "1 worker on 1 host"
    assert ["shop.db", "2", "3", "1", "0"] in [line.split()[:5] for line in lines]
    assert lines[-2:] == [
        "0 open sessions, 2 connections checked out, 2 leaked",
        "findings: 1 error, 1 warning, 0 info, 0 known",
    ]


def pool_of(answer: t.Any) -> t.Any:
    """The shop's pool; other tests in this process have theirs."""
    (pool,) = [each for each in answer["engines"] if each["name"] == "shop.db"]
    return pool


def test_status_of_several_workers(busy: Shop) -> None:
    """Pools of one name are one; of one without a limit the sum has none."""
    with busy.store() as store:
        ((_, _, body),) = store.live()
        store.publish(worker("beta"), {LIVE: document(**body)}, [])
        answer = busy.json("status")
        assert [len(answer["workers"]), answer["checkouts"], answer["leaked"]] == [2, 4, 4]
        pool = pool_of(answer)
        assert [pool[name] for name in ("used", "max", "idle", "workers")] == [4, 6, 2, 2]
        unlimited = [{**each, "max": None, "oldest_age_seconds": None} for each in body["engines"]]
        store.publish(worker("gamma"), {LIVE: document(**{**body, "engines": unlimited})}, [])
        pool = pool_of(busy.json("status"))
        assert (pool["max"], pool["workers"]) == (None, 3)
        assert pool["oldest_age_seconds"] > 0
        assert " - " in busy.run("status").output


def test_status_without_workers(busy: Shop) -> None:
    """When all workers are gone, their findings are there still."""
    with busy.store() as store:
        ((mine, _, _),) = store.live()
        store.leave(mine)
    output = busy.run("status").output
    assert output.startswith("No worker is seen")
    assert "findings: 1 error" in output


# findings


def test_findings(busy: Shop) -> None:
    """Each has its line, how often and by whom it was seen, and the beginning of what is known of it."""
    leak, storm = busy.run("findings").output.split("\n\n")
    assert leak.startswith("SW101 leaked-connection (error): GET /leak ended with")
    assert "  checked out at " in leak
    assert "conftest.py:" in leak
    assert "  2 times, last " in leak
    assert storm.startswith("SW501 commit-storm (warning): GET /commits/<int:number>")
    assert "1 time, " in storm


@pytest.mark.parametrize(
    ("args", "codes"),
    [
        ([], ["SW101", "SW501"]),
        (["--level", "error"], ["SW101"]),
        (["--rule", "SW501"], ["SW501"]),
        (["--rule", "leaked-connection", "--rule", "SW501"], ["SW101", "SW501"]),
        (["--scope", "GET /leak"], ["SW101"]),
        (["--open"], ["SW101", "SW501"]),
        (["--new"], ["SW101", "SW501"]),
        (["--rule", "SW102"], []),
        (["--rule", "sw501"], ["SW501"]),
    ],
)
def test_findings_filtered(busy: Shop, args: list[str], codes: list[str]) -> None:
    """They are narrowed by level, rule, scope and state."""
    assert [each["code"] for each in busy.json("findings", *args)["findings"]] == codes


def test_findings_resolved_and_known(shop: Shop) -> None:
    """What is resolved or in the baseline is said so, and can be left out."""
    body: dict[str, t.Any] = {"level": "error", "rule": "x", "scope": None, "site": None, "verb": "seen"}
    with shop.store() as store:
        reports = [report("f1", resolved=True, **body), report("f2", known=True, **body)]
        store.publish(worker(), {}, reports)
        output = shop.run("findings").output
        assert "resolved, fingerprint f1" in output
        assert "in the baseline, fingerprint f2" in output
        assert [each["fingerprint"] for each in shop.json("findings", "--open")["findings"]] == ["f2"]
        assert [each["fingerprint"] for each in shop.json("findings", "--new")["findings"]] == ["f1"]
        # What is known does not stop a pipeline.
        assert shop.run("findings", "--open", "--fail-on", "info").exit_code == 0


def test_findings_of_a_rule_that_does_not_exist(busy: Shop) -> None:
    """A mistyped rule does not let a pipeline pass."""
    result = busy.run("findings", "--fail-on", "error", "--rule", "SW100")
    assert result.exit_code == 2
    assert "There is no rule 'SW100'. Did you mean 'SW" in result.output


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["--fail-on", "error"], 1),
        (["--fail-on", "info"], 1),
        (["--fail-on", "error", "--rule", "SW501"], 0),
        (["--fail-on", "warning", "--rule", "SW501"], 1),
        (["--fail-on", "error", "--json"], 1),
        ([], 0),
    ],
)
def test_findings_in_a_pipeline(busy: Shop, args: list[str], status: int) -> None:
    """With --fail-on the status says whether something bad enough is shown; all is shown first."""
    result = busy.run("findings", *args)
    assert result.exit_code == status
    assert "SW" in result.output


def test_one_finding(busy: Shop) -> None:
    """By the beginning of its fingerprint a finding is shown with stack, hint and workers."""
    (leak,) = busy.json("findings", "--rule", "SW101")["findings"]
    output = busy.run("findings", leak["fingerprint"][:6]).output
    for expected in ("hint: use", "stack, innermost frame first:", "in leak", "workers:", "2 times"):
        assert expected in output
    assert busy.json("findings", leak["fingerprint"])["findings"][0]["code"] == "SW101"


def test_no_such_finding(busy: Shop) -> None:
    """A fingerprint that is none, or the beginning of several, is said."""
    assert "There is no finding 'zzz'." in (result := busy.run("findings", "zzz")).output
    assert result.exit_code == 2
    several = busy.run("findings", "")
    assert (several.exit_code, "There are 2 findings" in several.output) == (2, True)


def test_nothing_found(shop: Shop) -> None:
    """Where nothing was found, that is said, and nothing fails."""
    shop.open("/commits/1")
    shop.publish()
    result = shop.run("findings", "--fail-on", "info")
    assert (result.exit_code, result.output) == (0, "Nothing was found.\n")


def test_terminals_are_safe(shop: Shop) -> None:
    """What came from the application cannot write to the terminal by itself."""
    hostile = "\x1b[31m\r\n\udcff"
    body: dict[str, t.Any] = {
        "level": "error",
        "rule": hostile,
        "scope": None,
        "site": None,
        "message": hostile,
    }
    with shop.store() as store:
        store.publish(worker(), {}, [report(**body)])
    output = shop.run("findings").output
    assert "\x1b" not in output
    assert "\\x1b[31m\\r\\n" in output


# requests


def test_requests(busy: Shop) -> None:
    """Scopes are shown with what they use, those that are the most frequent first."""
    head, *rows = busy.run("requests").output.splitlines()
    assert head.startswith("scope ")
    assert {row.split()[1] for row in rows} >= {"/leak", "/commits/<int:number>"}


@pytest.mark.parametrize(
    ("order", "first"), [("commits", "GET /commits/<int:number>"), ("errors", "GET /leak")]
)
def test_requests_sorted(busy: Shop, order: str, first: str) -> None:
    """They are sorted by what is asked for, and limited."""
    answer = busy.json("requests", "--sort", order, "--limit", "1", "--kind", "request")
    assert [each["scope"] for each in answer["scopes"]] == [first]
    assert "sites" in answer


def test_requests_of_a_kind_that_is_not_there(busy: Shop) -> None:
    """Without a scope to show, that is said."""
    assert busy.run("requests", "--kind", "task").output == "Nothing was counted yet.\n"


# Data of another shape


@pytest.mark.parametrize("command", [["status"], ["top", "--once"], ["requests"], ["findings"]])
def test_data_of_another_shape(shop: Shop, command: list[str]) -> None:
    """What another version has published is told in a line, and is no traceback."""
    bodies: dict[str, t.Any] = {
        LIVE: document(engines=[{"name": 1}], sessions=[], checkouts=[{"age_seconds": "old"}]),
        SCOPES: document(scopes=[["GET /", "request", 1]], sites=[]),
    }
    with shop.store() as store:
        store.publish(worker(), bodies, [report()])
    result = shop.run(*command)
    assert result.exit_code == 2
    assert "has something in it that is not understood here" in result.output


def test_baseline_of_the_store(busy: Shop) -> None:
    """Without a log the baseline is what the workers have published."""
    answer = busy.json("baseline")
    assert answer == {"file": "sessionwatch-baseline.json", "known": 2, "new": 2}
    entries = json.loads((busy.folder / answer["file"]).read_text())["findings"]
    assert [each["code"] for each in entries] == ["SW101", "SW501"]
    assert "2 known findings, 0 of them new." in busy.run("baseline", "--store", busy.url).output


def test_baseline_holds_for_what_was_found_before(busy: Shop) -> None:
    """What was found before there was a baseline is known from then on, and stops no pipeline."""
    busy.run("baseline")
    app = flask.Flask("afterwards")
    app.config.update(SESSIONWATCH_STORE=busy.url, SESSIONWATCH_BASELINE="sessionwatch-baseline.json")
    with contextlib.closing(SessionWatch(app, registry=prometheus_client.CollectorRegistry(), sinks=[])):
        for args, status in (["--fail-on", "info"], 0), (["--new", "--fail-on", "info"], 0):
            result = app.test_cli_runner().invoke(args=["sessionwatch", "findings", *args])
            assert result.exit_code == status, result.output
            assert ("in the baseline" in result.output) == ("--new" not in args)
