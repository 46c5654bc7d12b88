"""How commands show things: as JSON, or as plain tables that are easy to read and to cut."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterable
from collections.abc import Sequence
from datetime import datetime
from datetime import timezone

import click

from ..finding import LEVELS
from ..finding import printable
from ..observe.stack import shortened
from ..store.base import Data

Cell: t.TypeAlias = "str | int | float | None"

_Command = t.TypeVar("_Command", bound="t.Callable[..., t.Any] | click.Command")


def as_json_option(command: _Command) -> _Command:
    """Give *command* the option ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")(command)


def echo_json(data: t.Any) -> None:
    """Print plain data as JSON."""
    click.echo(json.dumps(data, indent=2, default=str))


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return a table: text to the left, numbers to the right, and what is not known as a dash."""
    rows = list(rows)
    cells = [list(map(text_of, row)) for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    to_right = [is_of_numbers(rows, place) for place in range(len(head))]
    lines = (
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, to_right, strict=True)
        )
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def is_of_numbers(rows: Sequence[Sequence[Cell]], place: int) -> bool:
    """Whether a column has no text in it, so that it is read best from the right."""
    return bool(rows) and all(not isinstance(row[place], str) for row in rows)


def text_of(cell: Cell) -> str:
    """Return what a cell shows, on one line whatever is in it."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.1f}" if cell >= 1 else f"{cell:.3f}"
    return printable(str(cell))


def place(site: Data | None) -> str | None:
    """Return a site as the log shows it."""
    return None if site is None else f"{shortened(site['filename'])}:{site['lineno']} in {site['function']}"


def ago(stamp: str) -> str:
    """Say how long ago a time was, as JSON has it."""
    seconds = (datetime.now(timezone.utc) - datetime.fromisoformat(stamp)).total_seconds()
    return f"{span(max(seconds, 0.0))} ago"


def span(seconds: float) -> str:
    """Say how long something took, in the unit that suits it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_at_least(level: str, least: str) -> bool:
    """Whether a level is *least* or a worse one."""
    return LEVELS.index(t.cast(t.Any, level)) >= LEVELS.index(t.cast(t.Any, least))
