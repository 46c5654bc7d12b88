"""A real Prometheus scrapes a real server."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOKEN = "a token for prometheus"
APPLICATION = """
import flask, sqlalchemy as sa
from flask_sessionwatch import SessionWatch

app = flask.Flask(__name__)
watch = SessionWatch(app)
engine = sa.create_engine("sqlite:///shop.sqlite", pool_size=3, max_overflow=4)
kept = []

@app.get("/leak")
def leak():
    kept.append(engine.connect())
    return str(kept[-1].scalar(sa.select(1)))
"""


def program(name: str) -> str:
    """Find a program of the Debian packages of Prometheus, or skip the test; with CI set, it may not be missing."""
    path = shutil.which(name)
    if path is None:
        reason = (
            f"'{name}' is not here; the Debian packages 'prometheus' and 'prometheus-alertmanager' have such"
        )
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return path


@contextlib.contextmanager
def running(command: list[str], folder: Path, **options: t.Any) -> t.Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of the block; what it says goes to a file beside it."""
    with (folder / f"{Path(command[-1]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **options)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def served(folder: Path) -> t.Iterator[int]:
    """Serve the application under gunicorn, and yield its port."""
    (folder / "leaky.py").write_text(APPLICATION)
    # Newer gunicorns would put a socket into the home folder; older ones skip what they do not know.
    (folder / "gunicorn.conf.py").write_text("control_socket_disable = True\n")
    environment = {**os.environ, "SESSIONWATCH_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        command = [sys.executable, "-m", "gunicorn", "--threads=2", f"--bind=fd://{number}", "leaky:app"]
        with running(command, folder, env=environment, pass_fds=[number]):
            yield listener.getsockname()[1]


@contextlib.contextmanager
def scraping(folder: Path, target: int) -> t.Iterator[int]:
    """Let a Prometheus of its own scrape *target*, and yield its port."""
    (folder / "prometheus.yml").write_text(f"""
scrape_configs:
  - job_name: sessionwatch
    scrape_interval: 1s
    metrics_path: /_sessionwatch/metrics
    authorization:
      credentials: {TOKEN}
    static_configs:
      - targets: ["127.0.0.1:{target}"]
""")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    command = [
        program("prometheus"),
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--config.file={folder / 'prometheus.yml'}",
    ]
    with running(command, folder):
        yield port


def fetch(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        content: bytes = answer.read()
        return content


def wait_for(ask: t.Callable[[], t.Any]) -> t.Any:
    """Ask until there is an answer that is not empty."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            found = ask()
            if found:
                return found
        time.sleep(0.2)
    pytest.fail("there was no answer in time")


def values(port: int, query: str) -> list[tuple[dict[str, str], str]]:
    """Ask Prometheus, and return the labels and the value of each series."""
    answer = json.loads(fetch(f"http://127.0.0.1:{port}/api/v1/query?query={query}"))
    return [(each["metric"], each["value"][1]) for each in answer["data"]["result"]]


def test_prometheus_scrapes(tmp_path: Path) -> None:
    """With the token as bearer the target is up, and what leaks is seen by a query."""
    program("prometheus")
    with served(tmp_path) as shop:
        wait_for(lambda: fetch(f"http://127.0.0.1:{shop}/leak"))
        with scraping(tmp_path, shop) as prometheus:
            ((_, up),) = wait_for(lambda: values(prometheus, "up==1"))
            ((labels, most),) = wait_for(lambda: values(prometheus, "sessionwatch_connections_max"))
            ((_, leaked),) = wait_for(lambda: values(prometheus, "sessionwatch_findings_open"))
    assert (up, most, leaked) == ("1", "7", "1")
    assert (labels["engine"], labels["job"]) == ("shop.sqlite", "sessionwatch")


def test_promtool_accepts_the_metrics(tmp_path: Path) -> None:
    """`promtool check metrics` finds nothing wrong with what is served."""
    promtool = program("promtool")
    with served(tmp_path) as shop:
        wait_for(lambda: fetch(f"http://127.0.0.1:{shop}/leak"))
        metrics = fetch(f"http://127.0.0.1:{shop}/_sessionwatch/metrics", Authorization=f"Bearer {TOKEN}")
    done = subprocess.run([promtool, "check", "metrics"], input=metrics, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
