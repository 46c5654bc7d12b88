"""Real servers, each with a shop that has bugs, reached through a socket of its own."""

import contextlib
import http.client
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import parser

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
TOKEN = "a-token-for-tests"
PREFIX = "/_sessionwatch"
#: Seconds after which waiting is given up; a server starts slowly on a machine that is busy.
DEADLINE = 60.0


def until(condition: Callable[[], t.Any], seconds: float = DEADLINE) -> t.Any:
    """Wait until *condition* holds, and return what it answered."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = condition()
            if answer:
                return answer
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class Connection(http.client.HTTPConnection):
    """Speaks HTTP over a socket that is a file, or with a port."""

    def __init__(self, address: str, timeout: float) -> None:
        is_file = address.startswith("/")
        super().__init__("localhost" if is_file else address, timeout=timeout)
        self._path = address if is_file else None

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Answer(t.NamedTuple):
    status: int
    text: str


class Site:
    """Somebody who knows the token and asks a server.

    :param address: the path of its socket, or a host and a port.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str, timeout: float = 20.0) -> Answer:
        connection = Connection(self.address, timeout)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode())
        finally:
            connection.close()

    def json(self, path: str) -> t.Any:
        answer = self.get(PREFIX + path)
        assert answer.status == 200, answer
        return json.loads(answer.text)

    def workers(self) -> set[int]:
        """Return the numbers of the workers that are told to live."""
        return {each["pid"] for each in self.json("/api/v1/live")["workers"]}

    def hosts(self) -> set[str]:
        return {each["host"] for each in self.json("/api/v1/live")["workers"]}

    def holders(self) -> set[int]:
        """Return the numbers of the workers that hold a session."""
        return {each["pid"] for each in self.json("/api/v1/live")["sessions"]}

    def finding(self, code: str) -> t.Any:
        """Return the one finding of a rule, or None where there is none yet."""
        found = self.json(f"/api/v1/findings?code={code}")["findings"]
        assert len(found) < 2, found
        return found[0] if found else None

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Return every value by the name and the values of the labels of its series."""
        text = self.get(f"{PREFIX}/metrics").text
        samples = [each for family in parser.text_string_to_metric_families(text) for each in family.samples]
        return {(each.name, *sorted(each.labels.values())): each.value for each in samples}


class Deployment(Site):
    """A server that runs.

    :param command: starts it; ``{socket}`` stands for where it listens.
    :param environ: what it has in its environment, beside what it needs.
    """

    def __init__(self, command: t.Sequence[str], folder: Path, environ: dict[str, str]) -> None:
        super().__init__(str(folder / "socket"))
        self.log_file = folder / "log"
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [each.format(socket=self.address) for each in command],
                cwd=HERE,
                env=_environ(folder, environ),
                stdout=log,
                stderr=log,
                # So that all of it can be killed at once.
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def start(self) -> None:
        """Wait until it answers."""
        until(lambda: self.process.poll() is not None or self.get("/pid").status == 200)
        assert self.process.poll() is None, self.log

    def on_each(self, path: str, number: int) -> set[int]:
        """Ask for *path* until so many workers have answered, and return their numbers."""
        seen: set[int] = set()
        with ThreadPoolExecutor(2 * number) as threads:

            def ask() -> bool:
                seen.update(int(each.text) for each in threads.map(self.get, [path] * 2 * number))
                return len(seen) >= number

            until(ask)
        return seen

    def end(self) -> int:
        """End it in good order and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


def _environ(folder: Path, environ: dict[str, str]) -> dict[str, str]:
    ours = ("SESSIONWATCH_", "PROMETHEUS_", "PYTHONPATH")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **inherited,
        # gunicorn keeps files there.
        "HOME": str(folder),
        "SHOP_DATABASE": f"sqlite:///{folder / 'shop.db'}",
        "SHOP_INSTANCE": str(folder / "instance"),
        "SHOP_WATCHED": "yes",
        "SESSIONWATCH_TOKEN": TOKEN,
        "SESSIONWATCH_TICK": "0.3",
        "PYTHONWARNINGS": "default",
        **environ,
    }


@contextlib.contextmanager
def deployed(command: t.Sequence[str], **environ: str) -> Iterator[Deployment]:
    """A server for as long as the block lasts; its log is shown when the block fails."""
    # A short path, since a socket's may have 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="sw-server-", dir="/tmp"))
    server = Deployment(command, folder, environ)
    try:
        server.start()
        yield server
    except BaseException:
        sys.stderr.write(server.log[-5000:])
        raise
    finally:
        _end(server.process)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def standalone(store: str) -> Iterator[Site]:
    """The server that is none of the workers, with what is in *store*."""
    command = [str(BIN / "flask-sessionwatch"), "serve", "--store", store, "--port", "0"]
    environ = {**os.environ, "SESSIONWATCH_TOKEN": TOKEN}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = t.cast(t.IO[str], process.stdout).readline()
            yield Site(line.partition("http://")[2].strip().rstrip("/"))
        finally:
            process.terminate()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def gunicorn(*options: str, workers: int = 2) -> list[str]:
    """Return the command of gunicorn with the shop."""
    return [
        str(BIN / "gunicorn"),
        *("--bind", "unix:{socket}", "--workers", str(workers), "--graceful-timeout", "3"),
        *options,
        "shop:app",
    ]


def uwsgi(*options: str, workers: int = 2) -> list[str]:
    """Return the command of uWSGI with the shop, or skip the test where there is none.

    With CI set that fails, where there is a wheel of it to be had.
    """
    if importlib.util.find_spec("pyuwsgi") is None:
        missing = "no uWSGI: the package 'pyuwsgi' is not installed"
        if os.environ.get("CI") and (sys.platform, platform.machine()) == ("linux", "x86_64"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return [
        str(BIN / "pyuwsgi"),
        *("--http-socket", "{socket}", "--module", "shop:app", "--master", "--processes", str(workers)),
        *("--threads", "4", "--die-on-term", "--need-app", "--worker-reload-mercy", "3", *options),
    ]
