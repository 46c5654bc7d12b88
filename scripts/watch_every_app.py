"""A pytest plugin for foreign test suites: write down how each test ends, and watch every Flask application if asked to.

WATCH_EVERY_APP_REPORT names the file of outcomes; with WATCH_EVERY_APP set, each application is watched from its creation
to the end of the test that made it.
"""

import functools
import json
import os
import typing as t
from collections import Counter
from pathlib import Path

import flask
import prometheus_client
import pytest

from flask_sessionwatch import SessionWatch

_outcomes: dict[str, str] = {}
_watches: list[SessionWatch] = []
_told: Counter[str] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    """Watch every application that is made from now on."""
    if not os.environ.get("WATCH_EVERY_APP"):
        return
    original = flask.Flask.__init__

    @functools.wraps(original)
    def init(app: flask.Flask, *args: t.Any, **kwargs: t.Any) -> None:
        original(app, *args, **kwargs)
        if not app.import_name.startswith("flask_sessionwatch"):  # its own pages are an application too
            app.config["SESSIONWATCH_TICK"] = 0.02
            _watches.append(SessionWatch(app, sinks=[], registry=prometheus_client.CollectorRegistry()))

    flask.Flask.__init__ = init  # type: ignore[method-assign,assignment]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> t.Generator[None, object, object]:
    """End the watches of a test with the test."""
    result = yield
    while _watches:
        watch = _watches.pop()
        watch.tick()
        _told.update(f"{finding.code} {finding.level}" for finding in watch.findings)
        watch.close()
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the outcome of the worst phase of each test."""
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid] = (
            report.outcome if report.when == "call" else f"{report.outcome} in {report.when}"
        )


def pytest_sessionfinish() -> None:
    """Write down what was seen."""
    if os.environ.get("WATCH_EVERY_APP"):
        _outcomes["findings"] = ", ".join(f"{number} x {code}" for code, number in sorted(_told.items()))
    Path(os.environ["WATCH_EVERY_APP_REPORT"]).write_text(json.dumps(_outcomes))
