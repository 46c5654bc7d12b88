"""The pytest plugin ``sessionwatch``, as long as nobody has asked for it.

pytest imports it in every run in which the package is installed. It is no module of the package because importing that
imports Flask and SQLAlchemy, too.
"""

from __future__ import annotations

import argparse
import typing as t

import pytest

if t.TYPE_CHECKING:
    from flask_sessionwatch.testing.assertions import Assertions
    from flask_sessionwatch.testing.plugin import Plugin

MODES = ("off", "warn", "error")
#: The name under which the plugin proper is registered.
_NAME = "sessionwatch_run"
_HELP = "tell what a test leaves open or does wrong with SQLAlchemy sessions and connections"
_MARKER = (
    "sessionwatch(max_commits=None, allow=()): watch this test, and fail it for what is found. max_commits: how often a "
    "request, a command or the test itself may commit; allow: codes or names of rules that are not told."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer the ways to ask for it."""
    group = parser.getgroup("sessionwatch", "SQLAlchemy sessions and connections (flask_sessionwatch)")
    group.addoption(
        "--sessionwatch",
        nargs="?",
        const="warn",
        type=_mode,
        metavar="warn|error",
        help=f"{_HELP}: as warnings, or as errors",
    )
    parser.addini("sessionwatch", f"{_HELP}: off, warn or error", default="off")
    parser.addini(
        "sessionwatch_level", "the least level that is told: info, warning or error", default="warning"
    )


def _mode(text: str) -> str:
    if text not in MODES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of {', '.join(MODES)}. Write '--sessionwatch=warn' in front of a path."
        )
    return text


def _mode_of(config: pytest.Config) -> str:
    asked = config.known_args_namespace.sessionwatch or config.getini("sessionwatch")
    if asked not in MODES:
        raise pytest.UsageError(f"'sessionwatch' is {asked!r}; it takes {', '.join(MODES)}.")
    return str(asked)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Begin before a conftest.py makes an application."""
    if _mode_of(early_config) != "off":
        _run_of(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Begin, where that was not possible earlier."""
    config.addinivalue_line("markers", _MARKER)
    if _mode_of(config) != "off":
        _run_of(config)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin when a test asks for it."""
    for item in session.items:
        if item.get_closest_marker("sessionwatch") or "sessionwatch" in getattr(item, "fixturenames", ()):
            _run_of(session.config, session.items)
            return


@pytest.fixture
def sessionwatch(request: pytest.FixtureRequest) -> Assertions:
    """Assertions on the connections that are checked out and the commits that are made."""
    return _run_of(request.config).assertions(request.node)


def _run_of(config: pytest.Config, items: t.Sequence[pytest.Item] = ()) -> Plugin:
    """Return the plugin proper, which is registered when it is first asked for.

    :param items: the tests, where they are collected already.
    """
    plugin: Plugin | None = config.pluginmanager.get_plugin(_NAME)
    if plugin is None:
        from flask_sessionwatch.testing.plugin import Plugin

        plugin = Plugin(config, _mode_of(config))
        config.pluginmanager.register(plugin, _NAME)
        plugin.learn(items)
    return plugin
