"""Threads of the operating system, with and without gevent."""

import subprocess
import sys
import threading
import time

import pytest

from flask_sessionwatch.store.native import Answer
from flask_sessionwatch.store.native import Signal
from flask_sessionwatch.store.native import is_patched
from flask_sessionwatch.store.native import start_thread
from tests.rules.conftest import until


def test_nothing_is_patched_here() -> None:
    """Without gevent a thread is one of the module threading, with a name, and ends with the process."""
    names: list[tuple[str, bool]] = []
    start_thread(
        lambda: names.append((threading.current_thread().name, threading.current_thread().daemon)), "named"
    )
    until(lambda: names == [("named", True)])
    assert not is_patched()


def test_signal_is_remembered() -> None:
    """A signal that is given while nobody waits, once or twice, wakes the next who does, once."""
    signal = Signal()
    signal.set()
    signal.set()
    signal.wait(3600)
    signal.wait(0.01)


def test_signal_wakes() -> None:
    """Whoever waits is woken."""
    signal, woken = Signal(), threading.Event()

    def wait() -> None:
        signal.wait(3600)
        woken.set()

    start_thread(wait, "waits")
    signal.set()
    assert woken.wait(10)


@pytest.mark.parametrize("brings", [True, False])
def test_answer(brings: bool) -> None:
    """An answer is there once it was brought; nobody waits for longer than he wants to."""
    answer = Answer()
    if brings:
        threading.Timer(0.01, answer.bring).start()
    assert answer.wait(10 if brings else 0.01) is brings


#: A store that takes a third of a second each time, as a slow disk does: without letting greenlets go on.
GEVENT = """
from gevent import monkey
monkey.patch_all()
import threading, time
from flask_sessionwatch.store import Document, Worker
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.native import is_patched
from flask_sessionwatch.store.publisher import Publisher, View

really_sleep = monkey.get_original("time", "sleep")

class Slow(MemoryStore):
    def publish(self, *args):
        really_sleep(0.3)
        return super().publish(*args)

    def live(self):
        really_sleep(0.3)
        return super().live()

steps, over = [], threading.Event()

def go_on():
    while not over.is_set():
        steps.append(1)
        time.sleep(0.01)

assert is_patched()
threading.Thread(target=go_on, daemon=True).start()
publisher = Publisher(Slow, print)
publisher.offer(Worker.this(), {"live": Document({"number": 1}, 60)}, [])
seen = []
while not seen:
    seen = View(publisher).live()
assert [each.body for each in seen] == [{"number": 1}], seen
publisher.stop(5)
over.set()
assert len(steps) > 10, steps
print("well done")
"""


def test_gevent() -> None:
    """Under gevent neither publishing nor reading holds up other greenlets."""
    done = subprocess.run(
        [sys.executable, "-c", GEVENT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("well done\n", "")


def test_wait_is_not_busy() -> None:
    """Waiting takes no CPU time."""
    before = time.thread_time()
    Signal().wait(0.2)
    assert time.thread_time() - before < 0.1
