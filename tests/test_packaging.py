"""What is shipped: complete, importable, and the same from a clone and from a source distribution."""

import gzip
import importlib
import importlib.metadata
import os
import pkgutil
import re
import subprocess
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest

import flask_sessionwatch
import hatch_build

ROOT = Path(__file__).parent.parent
PACKAGE = "flask_sessionwatch"
MODULES = [
    PACKAGE,
    *(info.name for info in pkgutil.walk_packages(flask_sessionwatch.__path__, f"{PACKAGE}.")),
]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source distribution and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def wheel_names(distributions: Path) -> set[str]:
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return set(wheel.namelist())


@pytest.fixture(scope="module")
def sdist_names(distributions: Path) -> set[str]:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


def load(name: str) -> types.ModuleType:
    """Import a module, or skip the test if a neighbour that it is for is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith(PACKAGE):
            raise
        pytest.skip(f"{error.name} is not installed")


def version_of_project() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.timeout(300)
def test_wheel_is_complete(wheel_names: set[str]) -> None:
    """A wheel has the dashboard ready-made, the marker of its types, and every module."""
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/web/static/index.html"} <= wheel_names
    assert any(name.startswith(f"{PACKAGE}/web/static/assets/") for name in wheel_names)
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / PACKAGE).rglob("*.py")}
    assert sources <= wheel_names


@pytest.mark.timeout(300)
def test_wheel_is_clean(wheel_names: set[str]) -> None:
    """A wheel has nothing but the package, the entry point for pytest, and what is said about it."""
    assert {name.split("/")[0] for name in wheel_names} == {
        PACKAGE,
        f"_{PACKAGE}_pytest.py",
        f"{PACKAGE}-{version_of_project()}.dist-info",
    }


@pytest.mark.timeout(300)
def test_sdist_is_buildable(sdist_names: set[str]) -> None:
    """A source distribution has the dashboard's sources, and not what they are built with or into."""
    assert {"dashboard/package-lock.json", "hatch_build.py", "LICENSE"} <= sdist_names
    assert not [
        name for name in sdist_names if "node_modules" in name or name.startswith(f"{PACKAGE}/web/static")
    ]


def test_build_without_sources(tmp_path: Path) -> None:
    """A build without the dashboard's sources says what is missing, and where it is to be had."""
    with pytest.raises(hatch_build.DashboardError, match=r"package\.json is missing.*install the wheel"):
        hatch_build.Dashboard(tmp_path).build()


def test_dashboard_is_fresh(tmp_path: Path) -> None:
    """The dashboard is built again when a source is newer than what was built, and only then."""
    dashboard = hatch_build.Dashboard(tmp_path)
    source = dashboard.sources / "src" / "main.ts"
    tool = dashboard.sources / "node_modules" / "tool.js"
    for path, modified in (source, 1000), (dashboard.index, 2000), (tool, 3000):
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (modified, modified))
    assert dashboard.is_fresh()
    os.utime(source, (4000, 4000))
    assert not dashboard.is_fresh()


def test_dashboard_is_small() -> None:
    """All that a browser has to get for the dashboard is at most 90 kB, compressed."""
    static = ROOT / PACKAGE / "web" / "static"
    if not (static / "index.html").is_file():
        pytest.skip("the dashboard was not built; 'make dashboard' builds it")
    files = [path for path in static.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    assert len(files) >= 3
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) <= 90_000


def test_version() -> None:
    """The installed version is the one in pyproject.toml."""
    assert importlib.metadata.version("flask-sessionwatch") == version_of_project()


@pytest.mark.parametrize("name", MODULES)
def test_exports(name: str) -> None:
    """Every module can be imported, and what it exports exists, once."""
    module = load(name)
    exported = list(getattr(module, "__all__", ()))
    assert len(set(exported)) == len(exported)
    assert [name for name in exported if not hasattr(module, name)] == []


def test_package_exports_all_it_imports() -> None:
    """What the package's own module imports for its users is what it exports."""
    public = {
        name
        for name, value in vars(flask_sessionwatch).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert public == {name for name in flask_sessionwatch.__all__ if not name.startswith("_")}
