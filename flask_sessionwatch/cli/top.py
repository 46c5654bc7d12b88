"""``top``: who holds connections, and how full the pools are, again and again."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import typing as t
from collections.abc import Iterator

import click

from ..finding import printable
from ..store.base import Data
from .live import as_tables
from .looking import Source
from .looking import looks
from .looking import understanding
from .output import as_json_option
from .trouble import Trouble


class Display(t.Protocol):
    """Shows what is live now, in place of what it showed before."""

    def show(self, live: Data) -> None: ...

    def complain(self, why: str) -> None: ...


@click.command("top")
@click.option(
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look once, and end.")
@click.option(
    "--limit", type=click.IntRange(1), help="Holders to show; by default as many as there is room for."
)
@as_json_option
@looks
def top(source: Source, interval: float, once: bool, limit: int | None, as_json: bool) -> None:
    """Show who holds connections, and how full the pools are, over all workers; ends on Ctrl-C.

    In a pipe each look is a table of its own, and with --json an object on a line of its own.
    """
    if once:
        _plain(as_json, limit).show(source.live())
        return
    with _display(as_json, limit) as display, contextlib.suppress(KeyboardInterrupt):
        while True:
            _look(source, display)
            time.sleep(interval)


def _look(source: Source, display: Display) -> None:
    """Look once; a store that is away may come back."""
    try:
        with understanding(source):
            display.show(source.live())
        why = source.warning
    except Trouble as trouble:
        why = trouble.format_message()
    if why is not None:
        display.complain(why)


@contextlib.contextmanager
def _display(as_json: bool, limit: int | None) -> Iterator[Display]:
    """Choose a screen where there is one, and where the package rich can paint it."""
    if as_json or not sys.stdout.isatty():
        yield _plain(as_json, limit)
        return
    try:
        from .screen import Screen
    except ImportError:
        yield _Cleared(limit)
        return
    with Screen(limit) as screen:
        yield screen


def _plain(as_json: bool, limit: int | None) -> Display:
    return _Lines() if as_json else _Tables(limit)


class _Tables:
    """One table after the other."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit

    def show(self, live: Data) -> None:
        click.echo(f"{as_tables(live, self._limit)}\n")

    def complain(self, why: str) -> None:
        click.echo(printable(why), err=True)


class _Cleared(_Tables):
    """One table in place of the other, on a terminal."""

    def show(self, live: Data) -> None:
        click.clear()
        super().show(live)


class _Lines:
    """One object per line."""

    def show(self, live: Data) -> None:
        click.echo(json.dumps(live, default=str))

    def complain(self, why: str) -> None:
        click.echo(printable(why), err=True)
