"""A process that forks for each case of the zoo that is to be looked at: watched by a watch that fails, or not at all.

Reads lines of JSON, each the path of a module, the URL of its database and a file for its likeness; answers each when the
case is over. How the watch is to fail are arguments of the process; without any, nobody watches.
"""

import importlib
import importlib.util
import json
import os
import signal
import sys
import typing as t
from pathlib import Path

from tests.faults import sabotage
from tests.faults.guards import PACKAGE
from tests.faults.guards import guards
from tests.zoo import nursery
from tests.zoo import run as zoo

SECONDS = 60


def serve(fault: list[str]) -> None:
    """Fork for each line, one after the other."""
    for name in nursery.IMPORTED:
        importlib.import_module(name)
    saboteur = employed(*map(int, fault)) if fault else None
    for request in sys.stdin:
        path, url, output = json.loads(request)
        case = os.fork()
        if not case:
            live(path, url, Path(output), saboteur)
        os.waitpid(case, 0)
        sys.stdout.write("over\n")
        sys.stdout.flush()


def employed(every: int, endured: int, guarded: int) -> sabotage.Saboteur:
    """Import the watch, and return who lets it fail."""
    saboteur = sabotage.install(every, guarded=bool(guarded))
    importlib.import_module("flask_sessionwatch")
    recorder: t.Any = sys.modules["flask_sessionwatch.observe.recorder"]
    recorder.ERRORS_ENDURED = endured
    for path in PACKAGE.rglob("*.py"):
        guards(str(path))  # once, and not in each case
    return saboteur


def live(path: str, url: str, output: Path, saboteur: sabotage.Saboteur | None) -> t.NoReturn:
    """Be the process of one case."""
    from tests.faults.likeness import Likeness

    signal.alarm(SECONDS)
    silence = os.open(os.devnull, os.O_RDWR)
    for each in range(3):
        os.dup2(silence, each)
    parent, failed = os.getpid(), None
    likeness = Likeness(url)
    watch = None
    try:
        module = _imported(path)
        app = module.create_app(url)
        if saboteur is not None:
            from flask_sessionwatch import SessionWatch

            app.config.update(zoo.SETTINGS)
            watch = SessionWatch(app)
            saboteur.lurk()
        outcome = _outcome(module.drive, app)
        ticked = _outcome(watch.tick) if watch is not None else ""
        drawn = {"outcome": outcome, "refused": ticked.startswith("raised"), **likeness.draw()}
    except BaseException as error:
        drawn, failed = {}, repr(error)
    if os.getpid() == parent:
        struck = next(saboteur.struck) if saboteur is not None else 0
        made = {"likeness": drawn, "failed": failed, "struck": struck}
        output.write_text(json.dumps(made, default=repr))
    os._exit(0)


def _imported(path: str) -> t.Any:
    sys.path.insert(0, os.path.dirname(path))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _outcome(function: t.Callable[..., object], *args: object) -> str:
    try:
        return f"answered {function(*args)!r}"
    except BaseException as error:  # the bug itself may surface here
        return f"raised {error!r}"


if __name__ == "__main__":
    serve(sys.argv[1:])
