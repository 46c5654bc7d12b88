"""Who publishes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flask_sessionwatch.store import Worker
from flask_sessionwatch.store import worker as workers
from tests.rules.conftest import until

WITH_PROC = pytest.mark.skipif(not Worker.this().space, reason="processes cannot be told apart here")


def test_this_worker() -> None:
    """A process names itself the same way each time."""
    this = Worker.this()
    assert (this.pid, this is Worker.this()) == (os.getpid(), True)
    assert this.started_at <= time.time()
    assert not this.is_dead


def test_id_and_json_lead_back() -> None:
    """From its id and from its JSON a worker is made again."""
    this = Worker.this()
    assert (this, this) == (Worker.from_id(this.id), Worker.from_json(this.as_json()))
    assert Worker.from_json(this.as_json()).space == this.space


def test_host_with_colons() -> None:
    """A host may be called anything."""
    odd = Worker("fe80::1", 7, 1700000000.123)
    assert odd == Worker.from_id(odd.id)


def test_child_is_another_worker() -> None:
    """A forked child is not its parent."""
    parent = Worker.this()
    child = os.fork()
    if not child:
        os._exit(0 if Worker.this().pid == os.getpid() != parent.pid else 1)
    assert os.waitpid(child, 0)[1] == 0


@WITH_PROC
def test_killed_process_is_dead() -> None:
    """A process that was killed is dead, also before its parent has noticed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    this = Worker.this()
    birth = workers._birth(process.pid)
    assert birth is not None
    other = Worker(this.host, process.pid, time.time(), this.space, birth)
    assert not other.is_dead
    process.send_signal(signal.SIGKILL)
    until(lambda: other.is_dead)
    process.communicate()
    assert other.is_dead


@WITH_PROC
def test_reused_number() -> None:
    """A process that was given a dead one's number is not taken for it."""
    this = Worker.this()
    earlier = Worker(this.host, this.pid, this.started_at - 60, this.space, this.birth - 1)
    assert earlier.is_dead


def test_process_that_cannot_be_seen() -> None:
    """Of a process on another machine, or in another container, nobody says that it is dead."""
    this = Worker.this()
    assert not Worker(this.host, 2**22 + 1, 1.0, "elsewhere", 1).is_dead
    assert not Worker(this.host, 2**22 + 1, 1.0).is_dead


@WITH_PROC
def test_process_that_is_over() -> None:
    """A process is over once it was killed, though its parent has not noticed; another user's is not."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not any(map(workers.is_over, (process.pid, os.getpid(), 1)))
    process.kill()
    until(lambda: workers.is_over(process.pid))
    process.communicate()
    assert workers.is_over(process.pid)


def test_named_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host is called what somebody has called it."""
    monkeypatch.setattr(workers, "_host", None)
    before = Worker.this()
    workers.name_host("web-1")
    assert Worker.this().host == "web-1"
    assert Worker.this().pid == before.pid
    monkeypatch.undo()
    workers._known.clear()
    assert Worker.this() == before
