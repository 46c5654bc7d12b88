"""Read the application's own source, to name a line that no captured stack leads to.

Nothing here runs while a request is served: a finding is being made, which is rare, and source may be missing.
"""

from __future__ import annotations

import ast
import re
import sys
import typing as t
from types import CodeType

from .stack import Site
from .stack import Stacks

#: Larger files are data rather than code.
_LONGEST_SOURCE = 2_000_000
_LISTEN = ("listen", "listens_for")

Function: t.TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"


def read(filename: str) -> str:
    """Return the source in *filename*; empty where there is none to be read."""
    try:
        with open(filename, encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_SOURCE)
    except (OSError, ValueError):
        return ""


def parsed(filename: str) -> ast.Module | None:
    """Return the syntax tree of *filename*, or None where it cannot be had."""
    try:
        return ast.parse(read(filename))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def setting_site(name: str, stacks: Stacks) -> Site | None:
    """Return the application's line that gives the setting *name* its value, where its source shows one."""
    assignment = re.compile(rf"""^[^#]*\b{re.escape(name)}\b["']?\s*(?:\]\s*)?(?::[^=]*)?[=:](?!=)""")
    keyword = re.compile(rf"""^[^#]*\b{re.escape(name)}\b["']?\s*,""")
    for pattern in (assignment, keyword):
        for filename in _files_of(stacks):
            source = read(filename)
            if name not in source:
                continue
            for lineno, line in enumerate(source.splitlines(), 1):
                if pattern.search(line):
                    return Site(filename, lineno, function_at(filename, lineno))
    return None


def _files_of(stacks: Stacks) -> list[str]:
    """Return the source files of every module of the application that was imported."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({each for each in files if isinstance(each, str) and stacks.is_application(each)})


def function_at(filename: str, lineno: int) -> str:
    """Return the name of the innermost function around a line, or "<module>"."""
    around = [
        each for each in _functions(parsed(filename)) if each.lineno <= lineno <= (each.end_lineno or 0)
    ]
    return max(around, key=lambda each: each.lineno).name if around else "<module>"


def enclosing_function(filename: str, lineno: int) -> tuple[int, int] | None:
    """Return the first and last line of the innermost function around a line; None where it is in none."""
    around = [
        each for each in _functions(parsed(filename)) if each.lineno <= lineno <= (each.end_lineno or 0)
    ]
    innermost = max(around, key=lambda each: each.lineno, default=None)
    return None if innermost is None else (innermost.lineno, innermost.end_lineno or innermost.lineno)


def _functions(tree: ast.Module | None) -> list[Function]:
    if tree is None:
        return []
    return [each for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]


def registration_site(code: CodeType) -> Site:
    """Return where a listener is registered: its decorator, the call that names it, or its first line."""
    filename, first = code.co_filename, code.co_firstlineno
    tree = parsed(filename)
    calls = [] if tree is None else [each.lineno for each in ast.walk(tree) if _registers(each, code.co_name)]
    # A decorator is where the code begins. Otherwise the nearest call that follows.
    following = [lineno for lineno in calls if lineno >= first]
    lineno = min(following) if following else max(calls, default=first)
    return Site(filename, lineno, function_at(filename, lineno))


def _registers(node: ast.AST, name: str) -> t.TypeGuard[ast.Call]:
    if not isinstance(node, ast.Call) or _name_of(node.func) not in _LISTEN:
        return False
    named = [_name_of(each) for each in (*node.args, *(keyword.value for keyword in node.keywords))]
    return name in named


def _name_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def with_block(filename: str, lineno: int) -> tuple[int, int] | None:
    """Return the first and last line of the innermost ``with`` that is entered at *lineno*; None where none is."""
    tree = parsed(filename)
    blocks = (
        []
        if tree is None
        else [each for each in ast.walk(tree) if isinstance(each, (ast.With, ast.AsyncWith))]
    )
    entered = [each for each in blocks if each.lineno <= lineno <= _end_of_items(each)]
    if not entered:
        return None
    innermost = max(entered, key=lambda each: each.lineno)
    return innermost.lineno, innermost.end_lineno or innermost.lineno


def _end_of_items(block: ast.With | ast.AsyncWith) -> int:
    return max(each.context_expr.end_lineno or 0 for each in block.items)
