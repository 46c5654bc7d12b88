"""The program ``flask-sessionwatch``, as it is installed."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from click.testing import Result

from flask_sessionwatch.program import main
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.base import LIVE
from tests.store.conftest import document
from tests.store.conftest import worker

PROGRAM = Path(sys.executable).with_name("flask-sessionwatch")
TOKEN = "a-token-for-tests"


def run(*arguments: str) -> Result:
    """Run the program to its end, inside of this process."""
    unset = dict.fromkeys(name for name in os.environ if name.startswith("SESSIONWATCH_"))
    return CliRunner().invoke(main, arguments, env=unset)


def _environ(changed: dict[str, str]) -> dict[str, str]:
    without = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")}
    return {**without, **changed}


class Server:
    """A server that was started with ``serve``, at a port of its own."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--port", "0", *arguments],
            env=_environ(environ),
            stdout=subprocess.PIPE,
            text=True,
        )
        line = t.cast(t.IO[str], self.process.stdout).readline()
        found = re.fullmatch(r"flask_sessionwatch: (http://\S+:\d+)/\n", line)
        assert found, line
        self.url = found[1]

    def get(self, path: str, **headers: str) -> t.Any:
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        self.process.communicate(timeout=10)
        return self.process.returncode


@contextlib.contextmanager
def serving(*arguments: str, **environ: str) -> t.Iterator[Server]:
    server = Server(*arguments, **environ)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store to which one worker has published."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_store(url)
    store.publish(worker("alpha"), {LIVE: document(engines=[], sessions=[], checkouts=[])}, [])
    store.close()
    return url


def test_version_and_help() -> None:
    """It names its version and its commands."""
    assert re.fullmatch(r"flask-sessionwatch, version \S+\n", run("--version").output)
    assert "serve" in run("--help").output


def test_serve(url: str) -> None:
    """It says where it is, shows what is in the store, and ends in good order when it is told to."""
    with serving("--store", url) as server:
        assert [each["host"] for each in server.get("/api/v1/live")["workers"]] == ["alpha"]
        assert server.end() == 0


def test_serve_by_the_environment(url: str) -> None:
    """Store, token and prefix may come from the environment, as for the application."""
    settings = {
        "SESSIONWATCH_STORE": url,
        "SESSIONWATCH_TOKEN": TOKEN,
        "SESSIONWATCH_URL_PREFIX": "/watch",
    }
    with serving("--host", "0.0.0.0", **settings) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        for prefix in ("", "/watch"):
            answer = server.get(f"{prefix}/healthz", Authorization=f"Bearer {TOKEN}")
            assert (answer["status"], answer["workers"]) == ("ok", 1)
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            server.get("/healthz")
        refused.value.close()
        assert server.end(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ((), 2, "Missing option '--store'"),
        (("--store", "memory:"), 1, "nobody else can read the memory of a worker"),
        (("--store", "postgresql://host"), 1, "it takes 'memory:', 'sqlite:///path' or 'redis://host"),
        (("--store", "sqlite:///s.db", "--token", "short"), 1, "shorter than 8 characters"),
        (
            ("--store", "sqlite:///s.db", "--host", "0.0.0.0"),
            2,
            "so a token is needed: set SESSIONWATCH_TOKEN",
        ),
        (("--store", "sqlite:///s.db", "--port", "99999"), 2, "99999 is not in the range"),
    ],
    ids=["no store", "memory", "no such store", "short token", "open to all", "no such port"],
)
def test_mistakes(arguments: tuple[str, ...], status: int, told: str) -> None:
    """A mistake on its command line ends it with one sentence that tells the repair."""
    done = run("serve", *arguments)
    assert done.exit_code == status
    assert told in re.sub(r"\s+", " ", done.output)


def test_port_is_taken(url: str) -> None:
    """A port that somebody else has is an error that names it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        # In a process of its own, for waitress does not close what it could not use.
        command = [str(PROGRAM), "serve", "--store", url, "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (
        1,
        f"Error: 127.0.0.1:{port} cannot be listened on (Address already in use).\n",
    )


# The commands of `flask sessionwatch`, without the application


def test_commands(tmp_path: Path) -> None:
    """The commands that only look take the store from the command line or from the environment."""
    store = open_store(url := f"sqlite:///{tmp_path / 'store.db'}")
    omitted = {"sessions": 0, "checkouts": 0}
    store.publish(worker(), {LIVE: document(engines=[], sessions=[], checkouts=[], omitted=omitted)}, [])
    store.close()
    for command in (
        ["status"],
        ["top", "--once"],
        ["findings"],
        ["requests"],
        ["explain", "SW101"],
        ["alerts"],
    ):
        named = ["--store", url] if command[0] not in ("explain", "alerts") else []
        result = run(*command, *named)
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["status"], env={"SESSIONWATCH_STORE": url})
    assert result.output.startswith("1 worker on 1 host")


def test_commands_without_a_store() -> None:
    """Without an application and without a store it is said how to name one."""
    result = run("status")
    assert result.exit_code == 2
    assert "Say where to look: with --store, with SESSIONWATCH_STORE, or with --url." in result.output


def test_commands_with_a_setting_that_makes_no_sense() -> None:
    """A setting of the environment that makes no sense is told in a line."""
    result = CliRunner().invoke(main, ["alerts"], env={"SESSIONWATCH_MAX_COMMITS": "many"})
    assert result.exit_code == 2
    assert "'SESSIONWATCH_MAX_COMMITS' is 'many'; it takes a number." in result.output
