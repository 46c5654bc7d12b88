"""Arguments that make no sense: a line that says so, and never a traceback."""

import os

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_sessionwatch.program import main

#: Every command that looks, with what it needs.
LOOKING = [["status"], ["top", "--once"], ["findings"], ["requests"], ["baseline"]]
#: A command line has no null characters, but neither is all of it text.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=()), max_size=30)


def refused(*arguments: str) -> str:
    """Return what is said of arguments that are refused."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith("SESSIONWATCH_"))
    result = CliRunner().invoke(main, arguments, env=unset)
    assert isinstance(result.exception, SystemExit), (arguments, result.exception)
    assert result.exit_code == 2
    return result.output


def is_printable(output: str) -> bool:
    return all(line.isprintable() for line in output.splitlines())


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
@pytest.mark.parametrize(
    "url",
    [
        *("", "http://", "http://[", "http://a b", "http://:x", "http://127.0.0.1:99999", "http://\udcff"),
        *("ftp://127.0.0.1", "file:///etc/passwd", "http://127.0.0.1:1/\n\x1b[2J", "https://" + "a" * 300),
    ],
)
def test_addresses(command: list[str], url: str) -> None:
    """An address that is none, or that nobody answers at."""
    assert is_printable(refused(*command, "--url", url))


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
@pytest.mark.parametrize(
    "store",
    [
        *(
            "",
            "memory:",
            "sqlite:",
            "sqlite:///",
            "sqlite:////",
            "sqlite:////dev/null",
            "sqlite:////dev/zero",
        ),
        *("sqlite:///\udcff\n", "sqlite:////" + "a" * 5_000, "redis://:x:y", "redis://localhost:port"),
        *("redis://localhost:1", "redis://" + "a" * 300, "postgresql://localhost", "rediss://[::1"),
    ],
)
def test_stores(command: list[str], store: str) -> None:
    """A store that is none, or that is not there."""
    assert is_printable(refused(*command, "--store", store))


@settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    command=st.sampled_from(["findings", "requests", "top", "status", "baseline", "serve", "explain", "x"]),
    option=st.sampled_from(
        ["--limit", "--sort", "--level", "--fail-on", "--interval", "--port", "--host", ""]
    ),
    value=WORDS,
)
def test_options(command: str, option: str, value: str) -> None:
    """A value that an option does not take, and an option that there is not."""
    words = [each for each in (command, option, value) if each]
    # Without a store nothing is looked at, whatever else is said.
    if "--help".startswith(value[:2] or "x") or value == "-h":
        return
    if command == "explain" and not option:
        return
    assert refused(*words)
