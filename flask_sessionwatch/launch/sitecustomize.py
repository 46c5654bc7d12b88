"""Found by each Python that a command under ``flask-sessionwatch run`` starts, since its folder is on PYTHONPATH.

It waits until Flask is imported, and has its applications watched from then on. A Python that never imports Flask is left
as it is. What goes wrong here is told, and the command goes on without the watch.
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False  # importing typing would take longer than all the rest
if TYPE_CHECKING:
    import typing as t
    from importlib.machinery import ModuleSpec

#: How the folder that ``run`` makes for the metrics of all workers is called.
METRICS = "flask_sessionwatch-metrics-"
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_HERE = os.path.dirname(os.path.abspath(__file__))


def _import_hidden() -> None:
    """Import the ``sitecustomize`` that would have been found without this one."""
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or os.curdir) != _HERE]
    this = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if this is not None:
            sys.modules.setdefault("sitecustomize", this)


def _prepare_metrics() -> None:
    """Have a folder for the metrics that this process can write to, or none."""
    folder = os.environ.get(_VARIABLE, "")
    if not os.path.basename(folder).startswith(METRICS):
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        del os.environ[_VARIABLE]
    elif hasattr(os, "geteuid") and os.geteuid() == 0:
        _hand_over_with_user(folder)


def _hand_over_with_user(folder: str) -> None:
    """When root becomes the user of the workers, as gunicorn's do, let the folder become that user's."""
    setuid = os.setuid

    def handing_over(uid: int) -> None:
        try:
            for each in (folder, *(entry.path for entry in os.scandir(folder))):
                os.chown(each, uid, -1)
        except OSError:
            pass
        setuid(uid)

    os.setuid = handing_over


class _WaitForFlask:
    """Sees Flask being imported. The import system asks it for each module until then."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where Flask is, with a loader that starts the watch."""
        if name != "flask":
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            _after(spec.loader, _watch)
        return spec


def _after(loader: t.Any, call: t.Callable[[], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: object) -> None:
        execute(module)
        call()

    loader.exec_module = exec_module


def _watch() -> None:
    try:
        from flask_sessionwatch.everywhere import watch_every_app

        watch_every_app()
    except Exception as error:
        _tell(error)


def _tell(error: Exception) -> None:
    what = f"{type(error).__name__}: {error}"
    sys.stderr.write(f"flask_sessionwatch does not watch this process ({sys.executable}): {what}\n")


def _begin() -> None:
    try:
        _prepare_metrics()
        sys.meta_path.insert(0, _WaitForFlask())
    except Exception as error:
        _tell(error)
    _import_hidden()


if __name__ == "sitecustomize":
    _begin()
