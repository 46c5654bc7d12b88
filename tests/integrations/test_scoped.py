"""What the integrations have in common: nothing is imported unasked, and a scope is named by what runs in it."""

import functools
import logging
import subprocess
import sys
import typing as t

import pytest

from flask_sessionwatch.integrations.scoped import depart
from flask_sessionwatch.integrations.scoped import name_of
from tests.rules.conftest import World

NEIGHBOURS = ["apscheduler", "celery", "flask_executor", "opentelemetry", "rq", "sentry_sdk", "structlog"]


def test_nothing_is_imported() -> None:
    """The package imports none of its neighbours, and neither does the package of the integrations."""
    code = f"import sys, flask_sessionwatch.integrations; print([each for each in {NEIGHBOURS} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Job:
    """Something that can be called, by itself and by a method."""

    def __call__(self) -> None: ...

    def run(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (name_of, "flask_sessionwatch.integrations.scoped.name_of"),
        (
            functools.partial(functools.partial(name_of, 1), 2),
            "flask_sessionwatch.integrations.scoped.name_of",
        ),
        (Job, f"{__name__}.Job"),
        (Job(), f"{__name__}.Job"),
        (Job().run, f"{__name__}.Job.run"),
        ("".join, "str.join"),
        (len, "builtins.len"),
    ],
)
def test_name(function: t.Any, name: str) -> None:
    """A function is named by its module and name, and never by its arguments or its address."""
    assert name_of(function) == name


def test_depart(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At the end of a process an error of the watch goes to the log, and no further."""

    class Broken:
        scope = world.watch.scope

        def close(self) -> None:
            raise KeyError("no store")

    with caplog.at_level(logging.WARNING):
        depart(Broken())
    assert "no store" in caplog.text
