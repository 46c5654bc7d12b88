"""Servers, programs and worlds for the tests of the neighbours."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch import scope_ended
from flask_sessionwatch.observe.records import Scope
from flask_sessionwatch.store import open_store
from tests import redis_servers
from tests.rules.conftest import World
from tests.rules.conftest import world_of

#: Seconds after which waiting for a program is given up; it may share two processors with many others.
DEADLINE = 60.0

#: The application that the workers of task queues share: two tasks, and a sink that writes down what it is told.
SHOP = """
    import json
    import os

    import flask
    import sqlalchemy as sa

    from flask_sessionwatch import SessionWatch, member

    # So long may a process take to publish at its end; the machine may be busy.
    member.PARTING_SECONDS = 30.0
    FOLDER = os.path.dirname(os.path.abspath(__file__))
    app = flask.Flask("shop", instance_path=FOLDER)
    app.config["SESSIONWATCH_STORE"] = f"sqlite:///{FOLDER}/store.db"
    engine = sa.create_engine(f"sqlite:///{FOLDER}/shop.db", poolclass=sa.pool.QueuePool)
    held = []


    def write_down(finding):
        with open(f"{FOLDER}/findings", "a") as file:
            file.write(json.dumps({**finding.as_json(), "pid": os.getpid()}) + "\\n")


    write_down.immediate = True
    watch = SessionWatch(app, sinks=[write_down])


    def leak():
        held.append(engine.connect())  # guilty
        return os.getpid()


    def sound(number):
        with engine.connect() as connection:
            return connection.scalar(sa.text("SELECT :number * 2"), {"number": number})


    def fail():
        with engine.connect():
            raise KeyError("no such order")
"""


@pytest.fixture
def world(sqlite_url: str) -> t.Iterator[World]:
    """A watched application on SQLite."""
    with world_of(sqlite_url) as world:
        yield world


@pytest.fixture
def ended(world: World) -> t.Iterator[list[Scope]]:
    """The scopes that ended so far."""
    scopes: list[Scope] = []

    def hear(sender: object, scope: Scope) -> None:
        scopes.append(scope)

    with scope_ended.connected_to(hear):
        yield scopes


@pytest.fixture
def redis_server() -> t.Iterator[redis_servers.Server]:
    """A Redis of the test's own."""
    with redis_servers.running() as server:
        yield server


class Program:
    """An application in a folder of its own, and a worker that runs its tasks."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.redis_url = redis_url
        self.write("shop", SHOP)
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, module: str, text: str) -> None:
        (self.folder / f"{module}.py").write_text(textwrap.dedent(text))

    def environment(self) -> dict[str, str]:
        environment = {**os.environ, "REDIS_URL": self.redis_url, "PYTHONPATH": str(self.folder)}
        del environment["SESSIONWATCH_STORE"]  # the application has one
        return environment

    def start(self, *command: str) -> None:
        """Start a worker: a module of Python, and its arguments."""
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
            )

    def run(self, *command: str) -> None:
        """Run a worker to its end."""
        self.start(*command)
        self.end(None)

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> None:
        """Wait for the worker's end, after having asked for it."""
        process, self._process = self._process, None
        if process is None:
            return
        if number is not None:
            process.send_signal(number)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.log) from None
        finally:
            process.kill()
            process.wait()

    @property
    def findings(self) -> list[dict[str, t.Any]]:
        """What the worker's sink was told."""
        with contextlib.suppress(FileNotFoundError), open(self.folder / "findings") as file:
            return [json.loads(line) for line in file]
        return []

    @property
    def published(self) -> set[str]:
        """The fingerprints of what is in the store."""
        store = open_store(f"sqlite:///{self.folder}/store.db")
        try:
            return {each.fingerprint for each in store.findings()}
        finally:
            store.close()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def line(self, text: str, module: str = "shop") -> int:
        """Return the number of the line that contains *text*."""
        lines = (self.folder / f"{module}.py").read_text().splitlines()
        return next(number for number, each in enumerate(lines, 1) if text in each)


@pytest.fixture
def program(tmp_path: Path, redis_server: redis_servers.Server) -> t.Iterator[Program]:
    """An application and its worker, which is ended with the test."""
    program = Program(tmp_path, redis_server.url)
    yield program
    program.end()
