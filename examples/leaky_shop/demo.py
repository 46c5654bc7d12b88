"""The leaky shop with customers in it: every bug is found while you watch.

    python demo.py [--seconds 60] [--check]

Runs until Ctrl-C, or for that many seconds (also from DEMO_SECONDS). With --check, the exit status is 1 unless every
bug was told at its line and nothing was told about healthy code.
"""

import argparse
import collections.abc as cabc
import contextlib
import http.client
import importlib.util
import json
import os
import pathlib
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing as t

import payment_provider
from console import Console
from traffic import HOST
from traffic import Traffic
from traffic import stock_list
from verdict import Told
from verdict import judge

HERE = pathlib.Path(__file__).resolve().parent
PREFIX = "/_sessionwatch/"
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
# Long enough for what is still running to be judged and published.
LAST_TICKS = 3.0
CHECK_SECONDS = 45.0
COMMAND_EVERY = 20.0

Environment = dict[str, str]


class Failed(Exception):
    """The demo cannot go on; the text says why."""


class Stop:
    """Becomes true at Ctrl-C, at SIGTERM, or when the time is over. Nothing is interrupted half-way."""

    def __init__(self, seconds: float | None) -> None:
        self._end = time.monotonic() + seconds if seconds else float("inf")
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked or time.monotonic() >= self._end

    def pause(self, seconds: float) -> None:
        """Sleep, but not longer than until the stop."""
        end = time.monotonic() + seconds
        while not self and time.monotonic() < end:
            time.sleep(0.1)


class Shop:
    """The server process, and how to talk to its watcher."""

    def __init__(self, environment: Environment, folder: pathlib.Path) -> None:
        self._environment = environment
        self._log = folder / "gunicorn.log"
        self.port = 0

    @contextlib.contextmanager
    def serve(self) -> cabc.Iterator[None]:
        """Run gunicorn for the length of the block."""
        # The socket is opened here and inherited, so that no other program can take the port in between.
        with socket.create_server((HOST, 0)) as listener, self._log.open("wb") as log:
            self.port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--bind", f"fd://{listener.fileno()}", "shop.wsgi:app"],
                cwd=HERE,
                env=self._environment,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                # A Ctrl-C is for the demo, which then ends the server in good order.
                start_new_session=True,
            )
        try:
            yield
        finally:
            end(self._process)

    def wait_until_open(self, stop: Stop) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not stop and self._get("/healthz") is None:
            if time.monotonic() > deadline:
                raise Failed(f"The shop did not open within {START_TIMEOUT:.0f} s.\n{self.tail()}")
            stop.pause(0.2)

    def findings(self) -> list[Told]:
        """What the watcher has found so far; nothing when there was no answer in time."""
        content = self._get(PREFIX + "api/v1/findings") or b'{"findings": []}'
        return [Told.from_json(data) for data in json.loads(content)["findings"]]

    def _get(self, path: str) -> bytes | None:
        if self._process.poll() is not None:
            raise Failed(f"gunicorn ended with status {self._process.returncode}.\n{self.tail()}")
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            response = connection.getresponse()
            return response.read() if response.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    @property
    def token(self) -> str:
        return self._environment["SESSIONWATCH_TOKEN"]

    def tail(self, lines: int = 25) -> str:
        """The last lines of the server's log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


class NightlyCommand:
    """`flask --app shop import-stock FILE`, again and again: somebody's crontab.

    It is a process of its own, so what the watcher finds in it is read from its log.
    """

    def __init__(self, environment: Environment, folder: pathlib.Path) -> None:
        self._environment = {**environment, "SESSIONWATCH_LOG_FORMAT": "json"}
        self._file = folder / "stock.csv"
        self._log = folder / "import-stock.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._due = time.monotonic()

    def run_if_due(self) -> None:
        if time.monotonic() < self._due or (self._process and self._process.poll() is None):
            return
        self._due = time.monotonic() + COMMAND_EVERY
        self._file.write_text(stock_list(random.Random()))
        with self._log.open("ab") as log:
            self._process = flask(self._environment, "import-stock", str(self._file), stderr=log)

    def findings(self) -> list[Told]:
        """What the watcher has logged so far, in all runs."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        # The last line may still be in the writing.
        lines = text.rpartition("\n")[0].splitlines()
        return [Told.from_json(json.loads(line)) for line in lines if line.startswith('{"code"')]

    def end(self) -> None:
        if self._process:
            end(self._process)


def main() -> int:
    options = _options()
    console = Console()
    if importlib.util.find_spec("gunicorn") is None:
        console.say("The demo needs gunicorn: pip install gunicorn")
        return 2
    stop = Stop(options.seconds)
    try:
        return run(console, stop, options.check)
    except Failed as error:
        console.say(console.paint(str(error), "error"))
        return 1


def run(console: Console, stop: Stop, check: bool) -> int:
    """Open the shop, let people in, tell what is found, close everything."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="leaky-shop-")))
        environment = _environment(folder, stack.enter_context(payment_provider.serve()))
        prepare(environment)
        shop = Shop(environment, folder)
        stack.enter_context(shop.serve())
        shop.wait_until_open(stop)
        if stop:
            return 0
        url = f"http://{HOST}:{shop.port}/"
        console.addresses(url, url + PREFIX[1:], shop.token)
        command = NightlyCommand(environment, folder)
        stack.callback(command.end)
        traffic = Traffic(shop.port)
        traffic.start()
        stack.callback(traffic.stop)
        told = watch(console, stop, shop, command)
        traffic.stop()
        time.sleep(LAST_TICKS)
        told.update(news(console, shop, command, told))
        verdict = judge(told.values())
        console.summary(verdict, traffic.tally)
    return 1 if check and not verdict.is_good else 0


def watch(console: Console, stop: Stop, shop: Shop, command: NightlyCommand) -> dict[str, Told]:
    """Tell findings once a second until the stop."""
    told: dict[str, Told] = {}
    while not stop:
        command.run_if_due()
        told.update(news(console, shop, command, told))
        stop.pause(1.0)
    return told


def news(
    console: Console, shop: Shop, command: NightlyCommand, known: cabc.Container[str]
) -> dict[str, Told]:
    """Ask once, print what is new, and give back everything by fingerprint."""
    findings = {told.fingerprint: told for told in [*command.findings(), *shop.findings()]}
    for fingerprint, told in findings.items():
        if fingerprint not in known:
            console.finding(told)
    return findings


def prepare(environment: Environment) -> None:
    process = flask(environment, "init-db", stderr=subprocess.PIPE)
    _, errors = process.communicate()
    if process.returncode:
        raise Failed(f"The database could not be made.\n{errors.decode(errors='replace')}")


def flask(environment: Environment, *command: str, stderr: int | t.BinaryIO) -> subprocess.Popen[bytes]:
    """Start one of the shop's commands."""
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "shop", *command],
        cwd=HERE,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and insist after a while; its children belong to it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(folder: pathlib.Path, provider_url: str) -> Environment:
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "SHOP_INSTANCE_PATH": str(folder),
        "SHOP_PROVIDER_URL": provider_url,
        "SESSIONWATCH_TOKEN": os.environ.get("SESSIONWATCH_TOKEN") or secrets.token_urlsafe(16),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 unless everything is as expected")
    parser.add_argument("--seconds", type=float, default=os.environ.get("DEMO_SECONDS"))
    options = parser.parse_args()
    if options.check and not options.seconds:
        options.seconds = CHECK_SECONDS
    return options


if __name__ == "__main__":
    sys.exit(main())
