"""Run other projects' own tests without and with a watch: their outcomes must be the same, test by test.

    python scripts/foreign_suites.py [--venvs FOLDER] [NAME ...]

Each suite is run in a virtual environment of its own, with the versions of its neighbours that it was written for: Flask-SQLAlchemy's
of 2023 fails with today's pytest by itself. Its source distribution is fetched with pip. The tests run twice as they are, which
tells the unsteady ones, and once with everything under watch. Exit status 1 if a test ends differently, or if a suite fails unwatched.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PLUGIN = "watch_every_app"
#: What the watch itself needs.
WATCH = ("blinker", "flask", "prometheus-client")


@dataclass(frozen=True)
class Suite:
    """A project's tests.

    :param package: the project at PyPI, with its version.
    :param neighbours: what else to install.
    :param tests: files or folders of tests in its source distribution.
    :param apps: whether to watch each Flask application; otherwise the process, with each test as a scope.
    :param expected: tests that must end differently under watch.
    """

    package: str
    neighbours: tuple[str, ...]
    tests: tuple[str, ...]
    apps: bool = False
    expected: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.package.replace("==", "-")


_OF_SQLALCHEMY = (
    "test/orm/test_session.py",
    "test/orm/test_transaction.py",
    "test/engine/test_pool.py",
    "test/engine/test_transaction.py",
)
#: It wants ConnectionPoolEntry.record_info to be empty at first, where the watch keeps its note of a connection.
_OF_RECORD_INFO = ("test/engine/test_pool.py::PoolTest::test_rec_info",)
SUITES = (
    Suite(
        "flask-sqlalchemy==3.1.1",
        ("flask==3.0.0", "werkzeug==3.0.0", "sqlalchemy==2.0.22", "pytest==7.4.2"),
        ("tests",),
        apps=True,
    ),
    Suite("flask-sqlalchemy-lite==0.2.1", ("pytest",), ("tests",), apps=True),
    Suite("sqlalchemy==2.0.58", ("greenlet", "pytest<9"), _OF_SQLALCHEMY, expected=_OF_RECORD_INFO),
    Suite("sqlalchemy==2.1.9", ("greenlet", "pytest<9"), _OF_SQLALCHEMY, expected=_OF_RECORD_INFO),
)


def download(suite: Suite, folder: Path) -> Path:
    """Unpack the source distribution of *suite*, and return its root."""
    name = suite.package.partition("==")[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
    subprocess.run([*command, "--dest", str(folder), suite.package], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        if hasattr(tarfile, "data_filter"):
            file.extractall(folder, filter="data")
        else:
            file.extractall(folder)
    return next(path for path in folder.iterdir() if path.is_dir())


def interpreter(suite: Suite, venvs: Path) -> Path:
    """Make the virtual environment of *suite* unless it is there, and return its Python."""
    folder = venvs / suite.name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    packages = [suite.package, *suite.neighbours, *WATCH]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def outcomes(suite: Suite, root: Path, python: Path, *, watched: bool) -> dict[str, str]:
    """Run the tests below *root*, and return how each of them ended."""
    report = root / f"outcomes-{'watched' if watched else 'plain'}.json"
    what = "" if not watched else "apps" if suite.apps else "process"
    environ = dict(os.environ, WATCH_EVERY_APP_REPORT=str(report), WATCH_EVERY_APP=what)
    environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent)])
    environ["PYTHONNOUSERSITE"] = "1"  # SQLAlchemy's tests would else run against their own copy
    environ["SESSIONWATCH_TICK"] = "0.02"
    environ["SESSIONWATCH_STORE"] = "memory:"  # they count files and threads
    command = [str(python), "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", *suite.tests]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    if not report.exists():
        raise SystemExit(f"pytest did not run in {root}:\n{done.stdout}{done.stderr}")
    found: dict[str, str] = json.loads(report.read_text())
    return found


def compare(suite: Suite, venvs: Path) -> bool:
    """Print how the tests of *suite* end; answer whether a watch made no difference."""
    with tempfile.TemporaryDirectory() as folder:
        root = download(suite, Path(folder))
        if not all((root / path).exists() for path in suite.tests):
            print(f"{suite.name}: its source distribution has no tests")
            return True
        python = interpreter(suite, venvs)
        first = outcomes(suite, root, python, watched=False)
        second = outcomes(suite, root, python, watched=False)
        watched = outcomes(suite, root, python, watched=True)
    told = watched.pop("findings")
    errors = watched.pop("errors")
    unsteady = {test for test in first if first[test] != second.get(test)}
    different = {test for test in {*first, *watched} - unsteady if first.get(test) != watched.get(test)}
    print(f"{suite.name}: {counted(first)}; watched: {counted(watched)}; unsteady: {len(unsteady)}")
    print(f"  told meanwhile: {told or 'nothing'}; errors of the watch: {errors}")
    for test in sorted(different):
        mark = "expected " if test in suite.expected else "DIFFERENT"
        print(f"  {mark} {test}: {first.get(test)}, watched: {watched.get(test)}")
    healthy = not any(outcome.startswith("failed") for outcome in first.values())
    return healthy and different == {*suite.expected} and errors == "0"


def counted(found: dict[str, str]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(Counter(found.values()).items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as sqlalchemy or sqlalchemy-2.0.58; all unless given")
    parser.add_argument("--venvs", type=Path, help="where to keep the virtual environments")
    options = parser.parse_args()
    wanted = [
        suite
        for suite in SUITES
        if not options.names or {suite.name, suite.name.rpartition("-")[0]} & {*options.names}
    ]
    with tempfile.TemporaryDirectory() as folder:
        venvs = (options.venvs or Path(folder)).absolute()
        same = [compare(suite, venvs) for suite in wanted]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
