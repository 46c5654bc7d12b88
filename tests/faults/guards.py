"""Where the watch may fail: what it runs below a guard, that is, a "try" of its own whose handler catches Exception.

Nothing is listed here; the guards are read from the source.
"""

import ast
import functools
import importlib.util
import types
import typing as t
from pathlib import Path

# Found, and not imported: who fails may want to be there before.
PACKAGE = Path(t.cast(str, t.cast(t.Any, importlib.util.find_spec("flask_sessionwatch")).origin)).parent
#: What is not on the path of a record: it answers those who look, or is run by hand.
ELSEWHERE = ("web", "testing", "integrations", "cli", "extension.py", "program.py", "settings.py")


@functools.cache
def guards(filename: str) -> dict[int, bool]:
    """Map the lines of a file that lie below a try whose handler catches Exception to whether it counts among the ten."""
    lines: dict[int, bool] = {}
    idle: set[int] = set()
    for node in ast.walk(ast.parse(Path(filename).read_text())):  # outer ones first
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                if isinstance(handler.type, ast.Name) and handler.type.id == "Exception":
                    body = range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1)
                    # extension_failed() counts, too, but not among the ten.
                    told = ast.unparse(handler).replace("extension_failed(", "")
                    lines.update(dict.fromkeys(body, "failed(" in told))
        if isinstance(node, (ast.Try, ast.Pass, ast.Continue, ast.Break)) or _is_bare_return(node):
            idle.add(t.cast(ast.stmt, node).lineno)  # nothing runs there that could fail
    return {number: counts for number, counts in lines.items() if number not in idle}


def _is_bare_return(node: ast.AST) -> bool:
    return isinstance(node, ast.Return) and isinstance(node.value, (ast.Constant, types.NoneType))


def guard_of(frame: types.FrameType | None) -> bool | None:
    """Say whether the guard around *frame* counts errors; None if they would come to the application."""
    while frame is not None and frame.f_code.co_filename.startswith(str(PACKAGE)):
        counts = guards(frame.f_code.co_filename).get(frame.f_lineno)
        if counts is not None:
            return counts
        frame = frame.f_back
    return None
