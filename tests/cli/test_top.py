"""`top`: a table in a pipe, a screen on a terminal."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch.store.base import LIVE
from tests.cli.conftest import ROOT
from tests.cli.conftest import Shop
from tests.store.conftest import document
from tests.store.conftest import worker

#: Runs top without the package rich.
WITHOUT_RICH = "import sys; sys.modules['rich'] = None; "
#: Where the tests run in the background of a shell, Ctrl-C is ignored by all that they start.
LISTENING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
MAIN = LISTENING + "import sys; sys.argv[0] = 'flask'; from flask.cli import main; main()"
DEADLINE = 40.0


def test_once(busy: Shop) -> None:
    """Looked at once it is a table of pools and one of holders, the oldest first."""
    output = busy.run("top", "--once").output
    workers, pools, holders = output.strip().split("\n\n")
    assert workers == "1 worker on 1 host"
    assert "\nshop.db " in pools
    _, oldest, youngest = holders.splitlines()
    assert float(oldest.split()[0]) >= float(youngest.split()[0])
    assert "GET /leak" in oldest
    assert "in leak" in oldest
    assert "leaked" in oldest


def test_limit(busy: Shop) -> None:
    """Those for whom there is no room are counted."""
    assert "and 1 other\n" in busy.run("top", "--once", "--limit", "1").output


def test_as_json(busy: Shop) -> None:
    """With --json each look is an object on a line of its own, as the API has it."""
    (line,) = busy.run("top", "--once", "--json").output.splitlines()
    assert len(json.loads(line)["checkouts"]) == 2


@contextlib.contextmanager
def started(shop: Shop, before: str = "", **options: t.Any) -> t.Iterator["subprocess.Popen[bytes]"]:
    """Start `flask sessionwatch top` for the length of the block."""
    app = str(ROOT / "examples" / "minimal" / "app.py")
    arguments = ["--app", app, "sessionwatch", "top", "--interval", "0.2", "--store", shop.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "150", "LINES": "40"}
    process = subprocess.Popen(
        [sys.executable, "-c", before + MAIN, *arguments], env=environment, cwd=shop.folder, **options
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Output:
    """What a process has said so far."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.text = ""

    def wait_for(self, pattern: str) -> None:
        """Read on until *pattern* is there; what was read before it is forgotten."""
        deadline = time.monotonic() + DEADLINE
        while (found := re.search(pattern, self.text)) is None:
            assert time.monotonic() < deadline, self.text
            if select.select([self._descriptor], [], [], 1)[0]:
                self.text += os.read(self._descriptor, 65536).decode()
        self.text = self.text[found.end() :]


def test_in_a_pipe(busy: Shop) -> None:
    """In a pipe one table follows the other, and Ctrl-C ends it well."""
    with started(busy, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        output = Output(process.stdout.fileno())
        for _ in range(3):
            output.wait_for("1 worker on 1 host\n\nengine")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0


@pytest.mark.parametrize("before", ["", WITHOUT_RICH], ids=["rich", "plain"])
def test_on_a_terminal(busy: Shop, before: str) -> None:
    """On a terminal it shows what is new in place of what was, with the package rich and without."""
    master, slave = pty.openpty()
    with started(busy, before, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        output = Output(master)
        output.wait_for("1 worker on 1 host")
        output.wait_for("GET /leak")
        with busy.store() as store:
            ((_, _, body),) = store.live()
            store.publish(worker("beta"), {LIVE: document(**body)}, [])
        output.wait_for("2 workers on 2 hosts")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
    os.close(master)


def test_store_that_comes_back(busy: Shop) -> None:
    """While the store cannot be read it says so, and goes on when it can."""
    path = Path(busy.folder / "store.db")
    aside = path.with_name("aside.db")
    with started(busy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        output = Output(process.stdout.fileno())
        output.wait_for("GET /leak")
        path.rename(aside)
        output.wait_for("The store cannot be read: .*there is no such file")
        aside.rename(path)
        output.wait_for("engine  ")
