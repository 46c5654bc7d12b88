"""prometheus_client's multiprocess mode: one scrape shows every worker."""

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from prometheus_client import multiprocess
from prometheus_client import parser

from flask_sessionwatch.web.multiprocess import forget_dead

ROOT = Path(__file__).parents[2]
# A worker: a line on its standard input is what it does, a line on its standard output is the answer's length.
WORKER = """
import sys
import flask, sqlalchemy as sa
from sqlalchemy import orm
from flask_sessionwatch import SessionWatch

app = flask.Flask("watched")
app.config.update(SESSIONWATCH_TOKEN="a-token-for-tests", SESSIONWATCH_TICK=60.0)
watch = SessionWatch(app)
engine = sa.create_engine("sqlite:///" + sys.argv[1], pool_size=3, max_overflow=4)
kept = []

@app.get("/leak")
def leak():
    kept.append(orm.Session(engine))
    return str(kept[-1].scalar(sa.select(1)))

client = app.test_client()
for line in sys.stdin:
    answer = client.get(line.strip(), buffered=True, headers={"Authorization": "Bearer a-token-for-tests"})
    assert answer.status_code == 200, answer.text
    sys.stdout.write(f"{len(answer.data)}\\n{answer.text}")
    sys.stdout.flush()
"""


class Worker:
    """A process that answers one request after the other."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder / "shop.sqlite")],
            cwd=ROOT,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def get(self, path: str) -> str:
        stdin, stdout = t.cast(t.IO[bytes], self._process.stdin), t.cast(t.IO[bytes], self._process.stdout)
        stdin.write(f"{path}\n".encode())
        stdin.flush()
        return stdout.read(int(stdout.readline())).decode()

    def end(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture
def workers(tmp_path: Path) -> t.Iterator[tuple[Worker, Worker]]:
    """Two workers that share a folder for their metrics."""
    workers = Worker(tmp_path), Worker(tmp_path)
    yield workers
    for worker in workers:
        worker.end()


def metrics(worker: Worker) -> dict[tuple[str, ...], float]:
    """Return every value by the name and the values of the labels of its series."""
    families = parser.text_string_to_metric_families(worker.get("/_sessionwatch/metrics"))
    samples = [sample for family in families for sample in family.samples]
    assert not any("pid" in sample.labels for sample in samples)
    return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def test_workers_add_up(workers: tuple[Worker, Worker]) -> None:
    """Whichever worker is asked, its answer counts what happened in all of them."""
    one, other = workers
    one.get("/leak")
    other.get("/leak")
    other.get("/leak")
    metrics(other)  # until its watchdog or a scrape has counted, a worker's news are its own
    seen = metrics(one)
    assert seen["sessionwatch_leaked_sessions",] == 3
    assert seen["sessionwatch_connections", "shop.sqlite", "used"] == 3
    assert seen["sessionwatch_connections_max", "shop.sqlite"] == 14
    assert seen["sessionwatch_scopes_total", "GET /leak", "error", "request"] == 3
    assert seen["sessionwatch_findings_total", "SW201", "error", "leaked-session"] == 3


def test_dead_worker(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    """What a dead worker held is gone once prometheus_client is told of it; what it counted stays."""
    one, other = workers
    one.get("/leak")
    other.get("/leak")
    metrics(other)
    other.end()
    # As gunicorn's child_exit does.
    multiprocess.mark_process_dead(other.pid, str(tmp_path))  # type: ignore[no-untyped-call]
    seen = metrics(one)
    assert seen["sessionwatch_leaked_sessions",] == 1
    assert seen["sessionwatch_connections", "shop.sqlite", "used"] == 1
    assert seen["sessionwatch_findings_total", "SW201", "error", "leaked-session"] == 2


@pytest.mark.skipif(os.name == "nt", reason="processes cannot be asked for there")
def test_dead_worker_that_nobody_told_of(workers: tuple[Worker, Worker]) -> None:
    """What a killed worker held is gone at the next scrape, though the server tells prometheus_client nothing."""
    one, other = workers
    one.get("/leak")
    other.get("/leak")
    metrics(other)
    other.end()
    seen = metrics(one)
    assert seen["sessionwatch_leaked_sessions",] == 1
    assert seen["sessionwatch_findings_total", "SW201", "error", "leaked-session"] == 2


def test_files_by_other_numbers(tmp_path: Path) -> None:
    """Where the files are not named by the numbers of processes, as some set it up for uWSGI, none is taken away."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    file = tmp_path / f"gauge_livesum_{gone.pid}.db"
    file.touch()
    forget_dead(str(tmp_path))
    assert file.exists()
    (tmp_path / f"gauge_livesum_{os.getpid()}.db").touch()
    forget_dead(str(tmp_path))
    assert not file.exists()
