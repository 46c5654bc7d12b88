"""Run the tests of Flask-SQLAlchemy and Flask-SQLAlchemy-Lite without and with a watch: their outcomes must be the same.

    python scripts/foreign_suites.py [NAME ...]

Each NAME is a package that is installed; its source distribution of the same version is downloaded with pip, and its own
tests are run against the installed package: twice as they are, which tells the unsteady ones, and once with every Flask
application under watch. Exit status 1 if a test ends differently.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

PACKAGES = ["flask-sqlalchemy", "flask-sqlalchemy-lite"]
PLUGIN = "watch_every_app"


def download(package: str, folder: Path) -> Path:
    """Unpack the source distribution of an installed package, and return its root."""
    requirement = f"{package}=={importlib.metadata.version(package)}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), requirement], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        if hasattr(tarfile, "data_filter"):
            file.extractall(folder, filter="data")
        else:
            file.extractall(folder)
    return next(path for path in folder.iterdir() if path.is_dir())


def outcomes(root: Path, *, watched: bool) -> dict[str, str]:
    """Run the tests below *root*, and return how each of them ended."""
    report = root / f"outcomes-{'watched' if watched else 'plain'}.json"
    environ = dict(os.environ, WATCH_EVERY_APP_REPORT=str(report), WATCH_EVERY_APP="1" if watched else "")
    environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)
    if not report.exists():
        raise SystemExit(f"pytest did not run in {root}:\n{done.stdout}{done.stderr}")
    found: dict[str, str] = json.loads(report.read_text())
    return found


def compare(package: str) -> bool:
    """Print how the tests of *package* end; answer whether a watch made no difference."""
    with tempfile.TemporaryDirectory() as folder:
        root = download(package, Path(folder))
        if not (root / "tests").is_dir():
            print(f"{root.name}: its source distribution has no tests")
            return True
        first, second = outcomes(root, watched=False), outcomes(root, watched=False)
        watched = outcomes(root, watched=True)
    findings = watched.pop("findings", "")
    unsteady = {test for test in first if first[test] != second.get(test)}
    different = sorted(test for test in {*first, *watched} - unsteady if first.get(test) != watched.get(test))
    print(f"{root.name}: {counted(first)}; watched: {counted(watched)}; unsteady: {len(unsteady)}")
    print(f"  told meanwhile: {findings or 'nothing'}")
    for test in different:
        print(f"  DIFFERENT {test}: {first.get(test)}, watched: {watched.get(test)}")
    return not different


def counted(found: dict[str, str]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(Counter(found.values()).items()))


def main(packages: list[str]) -> int:
    same = [compare(package) for package in packages or PACKAGES]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
