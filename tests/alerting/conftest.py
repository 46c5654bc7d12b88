"""The shop that leaks, watched by a real Prometheus with the example's rules, which tells a real Alertmanager."""

import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import typing as t
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.redis_servers import free_port
from tests.web.test_prometheus import ROOT
from tests.web.test_prometheus import TOKEN
from tests.web.test_prometheus import fetch
from tests.web.test_prometheus import program
from tests.web.test_prometheus import running
from tests.web.test_prometheus import wait_for

EXAMPLES = ROOT / "examples" / "prometheus"
#: The early return of the shop's bug, and the line that was forgotten there.
BUG = '        return {"status": "not sent yet"}\n'
FIX = "        session.close()\n"


class Shop:
    """The leaky shop under gunicorn: a copy, so that its bug can be mended.

    :param folder: where it is copied to.
    """

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.folder = folder / "leaky_shop"
        shutil.copytree(ROOT / "examples" / "leaky_shop", self.folder)
        self._listener = listener
        self._visited_at = float("-inf")
        self.port: int = listener.getsockname()[1]
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SESSIONWATCH_TOKEN": TOKEN,
            "SHOP_DATABASE_URI": f"sqlite:///{folder / 'shop.db'}",
            "SHOP_INSTANCE_PATH": str(folder),
        }
        initialise = [sys.executable, "-m", "flask", "--app", "shop", "init-db"]
        subprocess.run(
            initialise, cwd=self.folder, env=self._environment, check=True, capture_output=True, timeout=60
        )

    @contextlib.contextmanager
    def serve(self) -> t.Iterator[None]:
        """Run it for the length of the block."""
        number = self._listener.fileno()
        command = [sys.executable, "-m", "gunicorn", f"--bind=fd://{number}", "shop.wsgi:app"]
        with running(command, self.folder, env=self._environment, pass_fds=[number]):
            yield

    def visit(self) -> bool:
        """Look at the front page, and ask for a parcel that was not sent, which is where the shop leaks.

        Twice in a second at most, or its pool runs dry.
        """
        if time.monotonic() < self._visited_at + 0.5:
            return True
        self._visited_at = time.monotonic()
        with contextlib.suppress(TimeoutError):
            return b"featured" in self._get("/") and b"not sent yet" in self._get("/orders/unknown/tracking")
        return False

    def _get(self, path: str) -> bytes:
        return fetch(f"http://127.0.0.1:{self.port}{path}")

    def mend(self) -> None:
        """Write the line that was forgotten."""
        path = self.folder / "shop" / "orders.py"
        text = path.read_text()
        assert text.count(BUG) == 1
        path.write_text(text.replace(BUG, FIX + BUG))


class Team:
    """Whom Alertmanager notifies."""

    def __init__(self) -> None:
        self.notified: list[tuple[str, str]] = []
        team = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                team.notified += [(each["labels"]["alertname"], each["status"]) for each in data["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    @contextlib.contextmanager
    def listening(self) -> t.Iterator["Team"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class Prometheus:
    """A Prometheus that scrapes the shop and judges it by the rules of the example, every second."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, query: str) -> list[t.Any]:
        """Return the series that a query finds; an error of the query is one."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query"
        request = urllib.request.Request(url, urllib.parse.urlencode({"query": query}).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])

    def names(self) -> set[str]:
        """Return the name of every metric there is."""
        data = fetch(f"http://127.0.0.1:{self.port}/api/v1/label/__name__/values")
        return set(json.loads(data)["data"])

    def problems(self) -> list[str]:
        """Return the rules that cannot be evaluated, with why not."""
        groups = json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/rules"))["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert rules
        return [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]


def _changed(name: str, folder: Path, changes: dict[str, str]) -> Path:
    """Copy one of the example's files, with other addresses and shorter times; each has to be in it."""
    text = (EXAMPLES / name).read_text()
    for pattern, replacement in changes.items():
        text, number = re.subn(pattern, replacement, text)
        assert number, pattern
    path = folder / name
    path.write_text(text)
    return path


@contextlib.contextmanager
def alertmanager(folder: Path, team: Team) -> t.Iterator[int]:
    """Run an Alertmanager with the example's configuration, and yield its port."""
    port = free_port()
    config = _changed(
        "alertmanager.yml",
        folder,
        {"127.0.0.1:5002": f"127.0.0.1:{team.port}", "group_wait: .*": "group_wait: 0s", "interval: 5m": "interval: 1s"},
    )  # fmt: skip
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={config}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        f"--storage.path={folder / 'alertmanager'}",
    ]
    with running(command, folder):
        yield port


@contextlib.contextmanager
def prometheus(folder: Path, shop: int, alertmanager: int) -> t.Iterator[Prometheus]:
    """Run a Prometheus with the example's configuration and rules."""
    port = free_port()
    _changed("sessionwatch-rules.yml", folder, {"for: 1m": "for: 1s"})
    (folder / "sessionwatch.token").write_text(TOKEN)
    config = _changed(
        "prometheus.yml",
        folder,
        {"interval: 15s": "interval: 1s", "127.0.0.1:8000": f"127.0.0.1:{shop}", "127.0.0.1:9093": f"127.0.0.1:{alertmanager}"},
    )  # fmt: skip
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
    ]
    with running(command, folder):
        yield Prometheus(port)


class Scene(t.NamedTuple):
    """All of it."""

    shop: Shop
    prometheus: Prometheus
    team: Team
    #: Ends the shop when it is closed.
    served: contextlib.ExitStack


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Scene]:
    """The shop, which serves and leaks as soon as somebody asks for a parcel; and those who watch it."""
    program("prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("alerting")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        shop = Shop(folder, listener)
        team = stack.enter_context(Team().listening())
        served = stack.enter_context(contextlib.ExitStack())
        served.enter_context(shop.serve())
        manager = stack.enter_context(alertmanager(folder, team))
        watching = stack.enter_context(prometheus(folder, shop.port, manager))
        wait_for(shop.visit)
        yield Scene(shop, watching, team, served)
