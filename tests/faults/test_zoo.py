"""The zoo's applications under a watch that fails, again and again or altogether: they do what they do without it.

Bugs and healthy twins alike, and the applications of the rules' tests. Here each fault meets a share of them; with
SESSIONWATCH_TEST_ALL_FAULTS set, each meets all.
"""

import contextlib
import difflib
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from tests.faults import stable
from tests.zoo.test_zoo import CASES
from tests.zoo.test_zoo import ROOT

#: Flask-SQLAlchemy knows a session by the address of its app context, which a later one may get, or may not.
UNSTEADY = {
    "context-id-reuse-adopts-foreign-session/buggy.py",
    "teardown-function-raises/buggy.py",
    "teardown-registered-before-init-app/buggy.py",
}
MODULES = [
    path
    for path in sorted(CASES.glob("*/*.py"))
    if path.name in ("buggy.py", "healthy.py") and f"{path.parent.name}/{path.name}" not in UNSTEADY
]
#: As if the watch endured whatever comes, so that it fails from the first to the last.
FOR_EVER = 10**9


class Fault(t.NamedTuple):
    """How the watch fails.

    :param every: every so-manieth call that may fail does.
    :param endured: errors after which the watch steps aside.
    """

    every: int
    endured: int


FAULTS = {
    "all, and it steps aside": Fault(1, 10),
    "all, for ever": Fault(1, FOR_EVER),
    "every third": Fault(3, FOR_EVER),
    "every eleventh": Fault(11, FOR_EVER),
}
#: How many of the modules one of the faults meets.
SHARE = 1 if os.environ.get("SESSIONWATCH_TEST_ALL_FAULTS") else 12


class Stable:
    """Where cases run, one after the other, all under the same fault.

    :param process: runs them.
    :param folder: a place for their databases and for what is told of them.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def run(self, path: Path) -> dict[str, t.Any]:
        """Return the likeness of a case, and how often something failed in it."""
        database, output = self._folder / "case.db", self._folder / "likeness"
        for each in self._folder.iterdir():
            each.unlink()
        print(
            json.dumps([str(path), f"sqlite:///{database}", str(output)]),
            file=self._process.stdin,
            flush=True,
        )
        assert t.cast(t.IO[str], self._process.stdout).readline(), "the stable is gone"
        assert output.exists(), f"{path}: no answer in {stable.SECONDS} s"
        told = t.cast("dict[str, t.Any]", json.loads(output.read_text()))
        assert told["failed"] is None, f"{path}: {told['failed']}"
        return told


@contextlib.contextmanager
def stabled(folder: Path, *fault: int) -> t.Iterator[Stable]:
    """Run cases under a fault, or unwatched, for the length of the block."""
    folder.mkdir()
    command = [sys.executable, "-m", stable.__name__, *map(str, fault)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        yield Stable(process, folder)


def differences(unwatched: dict[str, t.Any], watched: dict[str, t.Any]) -> list[str]:
    """Return what is not the same, line by line."""
    before, after = (_lines(each) for each in (unwatched, watched))
    return list(difflib.unified_diff(before, after, "unwatched", "watched", lineterm="", n=0))


def _lines(told: dict[str, t.Any]) -> list[str]:
    return json.dumps(told["likeness"], indent=1, sort_keys=True).splitlines()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAULTS)
def test_same(name: str, tmp_path: Path) -> None:
    """Answers, exceptions, statements, rows, warnings, pool events and pools are the same as without a watch."""
    share = MODULES[list(FAULTS).index(name) % SHARE :: SHARE]
    noticed, struck = {}, 0
    with stabled(tmp_path / "unwatched") as plain, stabled(tmp_path / "watched", *FAULTS[name], 1) as failing:
        for path in share:
            unwatched, watched = plain.run(path), failing.run(path)
            assert watched["struck"], f"{path}: nothing failed"
            struck += watched["struck"]
            found = differences(unwatched, watched)
            if found:
                noticed[f"{path.parent.name}/{path.name}"] = found
    assert not noticed, noticed
    print(f"{len(share)} modules, {struck} failures, none was noticed")  # noqa: T201, for who counts them


def test_it_would_be_noticed(tmp_path: Path) -> None:
    """A failure that no guard keeps from the application is seen: without that, comparing would prove nothing."""
    path = CASES / "commit-in-loop" / "healthy.py"
    with stabled(tmp_path / "unwatched") as plain, stabled(tmp_path / "watched", 3, FOR_EVER, 0) as failing:
        assert differences(plain.run(path), plain.run(path)) == []
        assert differences(plain.run(path), failing.run(path))


SUITES = "tests/rules" if SHARE == 1 else "tests/rules/test_transactions.py"
#: What tests that were given up in the middle leave behind is no matter.
FORGIVING = ("-p", "no:unraisableexception", "-p", "no:threadexception", "-p", "no:cacheprovider")


def suites(path: str, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run tests while every third call fails that may, and judge only what failures come to them."""
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "tests.faults.escapes", *FORGIVING]
    return subprocess.run(
        [*command, path, "-k", "not postgresql and not mariadb", *options],
        env={**os.environ, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(900)
def test_rules() -> None:
    """No failure reaches the applications of the rules' tests, nor their threads, nor the garbage collector."""
    done = suites(SUITES)
    assert done.returncode == 0, done.stdout[-4000:]


def test_it_would_reach_them() -> None:
    """A failure that no guard keeps from the application fails such a test."""
    done = suites("tests/rules/test_misuse.py", "-x", SESSIONWATCH_TEST_UNGUARDED="1")
    assert "Provoked" in done.stdout
    assert done.returncode == 1
