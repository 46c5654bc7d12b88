"""Short runs of what benchmarks/stress.py and benchmarks/soak.py do for long: nothing is lost, and nothing hangs."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, seconds: float = 110) -> str:
    """Run a program of the benchmarks, which has to succeed; return what it prints."""
    program = [sys.executable, *command]
    done = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, timeout=seconds, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.parametrize(
    "phase", ["threads", "executors", "signals", "forks", "collections", "async_views", "greenlets"]
)
def test_stress(phase: str) -> None:
    """Whoever checks out connections, and whatever interrupts them: as many are counted as there were."""
    # A greenlet does some work each, before all of them look whether it is enough.
    events = 10_000 if phase == "greenlets" else 100_000
    result = json.loads(run("benchmarks/stress.py", "--one", phase, "--events", str(events)))
    assert result["made"]["checkout"] > 100
    assert (result["lost"], result["left"], result["errors"]) == ({}, 0, 0)


def test_soak() -> None:
    """A server that is asked for everything by eight clients at once counts each request and each check-out, and errs in none."""
    printed = run("benchmarks/soak.py", "--seconds", "12")
    assert "0 of" in printed
    assert "WRONG" not in printed


#: Threads that work until the interpreter is gone.
ENDING = """
    import threading, time
    import flask, sqlalchemy as sa
    from sqlalchemy import orm
    from flask_sessionwatch import SessionWatch

    engine = sa.create_engine("sqlite://", poolclass=sa.QueuePool, pool_size=8, connect_args={"check_same_thread": False})
    app = flask.Flask("ending")
    app.config["SESSIONWATCH_TICK"] = 0.01
    watch = SessionWatch(app)
    kept = []

    def work():
        while True:
            with watch.scope("job"), orm.Session(engine) as session:
                session.execute(sa.text("SELECT 1"))
            with watch.scope("leaky job"):
                kept.append(engine.connect())
            kept.pop().close()

    for _ in range(8):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.3)
    kept.append(engine.connect())
    print("done", flush=True)
"""


def test_interpreter_ends() -> None:
    """An interpreter ends, and says nothing, while threads work in scopes and the watchdog ticks."""
    for _ in range(3):
        command = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", textwrap.dedent(ENDING)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr
        assert "Traceback" not in done.stderr
        assert "Fatal" not in done.stderr


#: A request at every distance from the recursion limit, and how each of them ends.
DEEP = """
    import sys
    import flask, sqlalchemy as sa
    from sqlalchemy import orm
    from flask_sessionwatch import SessionWatch, extension

    engine = sa.create_engine("sqlite://", poolclass=sa.QueuePool, connect_args={"check_same_thread": False})
    watch = SessionWatch(flask.Flask("deep")) if sys.argv[1] == "watched" else None
    LIMIT = 400

    def descend(left):
        if left:
            return descend(left - 1)
        with orm.Session(engine) as session:
            return session.scalar(sa.text("SELECT 1"))

    descend(0)
    sys.setrecursionlimit(LIMIT)
    good = 0
    for depth in range(LIMIT):
        try:
            descend(depth)
        except RecursionError:
            break
        good += 1
        assert engine.pool.checkedout() == 0
    sys.setrecursionlimit(1000)
    if watch is not None:
        assert watch.tick() is not None
        assert extension._process.ledger.internal_errors == 0
        assert not extension._process.ledger.checkouts
    print(good)
"""


def test_recursion_limit() -> None:
    """A session works as deep below the recursion limit as without a watch, but for the few frames that the watch needs."""
    plain, watched = (int(run("-c", textwrap.dedent(DEEP), how, seconds=60)) for how in ("plain", "watched"))
    assert plain - 5 <= watched <= plain
