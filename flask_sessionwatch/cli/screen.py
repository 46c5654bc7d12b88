"""The screen of ``top``, painted by the package rich."""

from __future__ import annotations

import types
import typing as t

from rich.console import Console
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..finding import printable
from ..store.base import Data
from .live import HOLDER_HEAD
from .live import POOL_HEAD
from .live import holders
from .live import pool_row
from .live import pools
from .live import workers_of
from .output import Cell
from .output import is_of_numbers
from .output import text_of

#: Shares of a pool in use from which it is painted in a colour.
_FULL, _NEARLY = 1.0, 0.8


class Screen:
    """Fills the terminal for as long as the block lasts, and gives it back as it was.

    :param limit: holders to show; None for as many as there is room for.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._live = Live(console=Console(), screen=True, auto_refresh=False)
        self._shown: Data | None = None

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._live.stop()

    def show(self, live: Data) -> None:
        self._shown = live
        self._paint(live)

    def complain(self, why: str) -> None:
        self._paint(self._shown, Text(printable(why), style="bold red"))

    def _paint(self, live: Data | None, *beside: Text) -> None:
        parts = [] if live is None else list(self._parts(live))
        self._live.update(Group(*beside, *parts), refresh=True)

    def _parts(self, live: Data) -> t.Iterator[Text | Table]:
        together = pools(live)
        yield Text(f"{workers_of(live)}   Ctrl-C ends", style="bold")
        yield _painted(POOL_HEAD, [pool_row(each) for each in together], [_style(each) for each in together])
        rows, left_out = holders(live, self._limit, together)
        yield _painted(HOLDER_HEAD, rows, ["red" if "leaked" in row else "" for row in rows])
        yield Text(left_out)


def _painted(head: t.Sequence[str], rows: list[list[Cell]], styles: list[str]) -> Table:
    painted = Table(box=None, pad_edge=False, header_style="reverse", expand=True)
    for place, name in enumerate(head):
        justify: t.Literal["left", "right"] = "right" if is_of_numbers(rows, place) else "left"
        painted.add_column(name, justify=justify, overflow="ellipsis", no_wrap=True)
    for row, style in zip(rows, styles, strict=True):
        # As texts, so that nothing in them is taken for markup.
        painted.add_row(*(Text(text_of(cell)) for cell in row), style=style)
    return painted


def _style(pool: Data) -> str:
    share = pool["used"] / pool["max"] if pool["max"] else 0.0
    return "bold red" if share >= _FULL else "yellow" if share >= _NEARLY else ""
