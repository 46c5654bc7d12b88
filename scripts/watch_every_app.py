"""A pytest plugin for foreign test suites: write down how each test ends, and watch what runs if asked to.

WATCH_EVERY_APP_REPORT names the file of outcomes. With WATCH_EVERY_APP=apps each Flask application is watched, from its
creation to the end of the test that made it; with WATCH_EVERY_APP=process the process is, and each test is a scope.
"""

import functools
import json
import os
import typing as t
from collections import Counter
from pathlib import Path

import pytest

_outcomes: dict[str, str] = {}
_watches: list[t.Any] = []
_told: Counter[str] = Counter()
_errors = 0
_mode = os.environ.get("WATCH_EVERY_APP", "")


def pytest_configure(config: pytest.Config) -> None:
    """Watch every application that is made from now on."""
    if _mode == "apps":
        _watch_apps()


def _watch_apps() -> None:
    import flask

    original = flask.Flask.__init__

    @functools.wraps(original)
    def init(app: flask.Flask, *args: t.Any, **kwargs: t.Any) -> None:
        original(app, *args, **kwargs)
        if not app.import_name.startswith("flask_sessionwatch"):  # its own pages are an application too
            _watches.append(_watch(app))

    flask.Flask.__init__ = init  # type: ignore[method-assign,assignment]


def _watch(app: t.Any = None) -> t.Any:
    # Only now: unwatched, nothing of ours is to be imported.
    import prometheus_client

    from flask_sessionwatch import SessionWatch

    return SessionWatch(app, sinks=[], registry=prometheus_client.CollectorRegistry())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> t.Generator[None, object, object]:
    """End the watches of a test with the test."""
    if _mode == "process":
        # Anew for each test, for SQLAlchemy's own fixtures remove every listener of sessions.
        watch = _watch()
        _watches.append(watch)
        with watch.scope(item.name, "test"):
            result = yield
    else:
        result = yield
    while _watches:
        _end(_watches.pop())
    return result


def _end(watch: t.Any) -> None:
    global _errors
    from flask_sessionwatch import extension

    watch.tick()
    _told.update(f"{finding.code} {finding.level}" for finding in watch.findings)
    watch.close()
    _errors = extension._process.ledger.internal_errors + extension._process._extension_errors


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the outcome of the worst phase of each test."""
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid] = (
            report.outcome if report.when == "call" else f"{report.outcome} in {report.when}"
        )


def pytest_sessionfinish() -> None:
    """Write down what was seen."""
    if _mode:
        _outcomes["findings"] = ", ".join(f"{number} x {code}" for code, number in sorted(_told.items()))
        _outcomes["errors"] = str(_errors)
    Path(os.environ["WATCH_EVERY_APP_REPORT"]).write_text(json.dumps(_outcomes))
