"""Let calls inside the watch raise, on any thread: every function of it asks a saboteur first.

The functions are changed as they are imported, so this has to be there before flask_sessionwatch is. A call raises only
where a guard is around it, as an error of the watch's own would have to.
"""

import ast
import builtins
import importlib.abc
import importlib.machinery
import itertools
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import CodeType
from types import ModuleType

from tests.faults.guards import ELSEWHERE
from tests.faults.guards import PACKAGE
from tests.faults.guards import guard_of

_NAME = "__sabotage__"


class Provoked(Exception):
    """What every other call raises in its turn."""


RAISED = (Provoked, MemoryError)


class Saboteur:
    """Raises at every so-manieth guarded call of a thread, once begun.

    :param every: 1 lets every call fail.
    :param guarded: whether it leaves alone what would come to the application.
    """

    def __init__(self, every: int, *, guarded: bool = True) -> None:
        self._every = every
        self._guarded = guarded
        #: How often it has raised, on whichever thread.
        self.struck = itertools.count()
        self.is_lurking = False
        self._local = threading.local()

    def lurk(self) -> None:
        """Begin."""
        self.is_lurking = True

    def rest(self) -> None:
        """Leave off."""
        self.is_lurking = False

    def ask(self) -> None:
        """Raise, or do not."""
        if not self.is_lurking:
            return
        frame = sys._getframe(1)
        if self._guarded and guard_of(frame) is None:
            return
        number = self._local.number = getattr(self._local, "number", -1) + 1
        if number % self._every == self._every - 1:
            place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            raise RAISED[next(self.struck) % 2](place)


def install(every: int, *, guarded: bool = True) -> Saboteur:
    """Have whatever is imported of the watch from now on ask a saboteur."""
    assert not any(name.startswith("flask_sessionwatch.observe") for name in sys.modules)
    saboteur = Saboteur(every, guarded=guarded)
    setattr(builtins, _NAME, saboteur.ask)
    sys.meta_path.insert(0, _Finder())
    return saboteur


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != PACKAGE.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path or [str(PACKAGE.parent)], target)
        if spec is not None and spec.origin and _may_fail(Path(spec.origin)):
            spec.loader = _Loader(fullname, spec.origin)
        return spec


def _may_fail(path: Path) -> bool:
    return path.is_relative_to(PACKAGE) and path.relative_to(PACKAGE).parts[0] not in ELSEWHERE


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compile it each time: what is changed here must not be cached as the module's bytecode."""
        tree = ast.parse(Path(self.path).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("__"):
                _let_ask(node)
        return compile(tree, self.path, "exec")


def _let_ask(function: ast.FunctionDef) -> None:
    first = 1 if ast.get_docstring(function) is not None else 0
    before: ast.stmt = function.body[min(first, len(function.body) - 1)]
    asking = ast.Expr(ast.Call(ast.Name(_NAME, ast.Load()), [], []))
    for node in ast.walk(asking):
        if isinstance(node, (ast.stmt, ast.expr)):
            ast.copy_location(node, before)
    function.body.insert(first, asking)
