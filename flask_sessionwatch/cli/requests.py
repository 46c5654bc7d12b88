"""``requests``: what each kind of request costs."""

from __future__ import annotations

import typing as t

import click

from ..store.base import Data
from .looking import Source
from .looking import looks
from .output import Cell
from .output import as_json_option
from .output import echo_json
from .output import table

#: What the rows can be ordered by.
_ORDERS: dict[str, t.Callable[[Data], float]] = {
    "count": lambda row: row["count"],
    "commits": lambda row: row["commits"]["p95"],
    "connections": lambda row: row["connections_peak"],
    "held": lambda row: row["hold_seconds"] / max(row["count"], 1),
    "waited": lambda row: row["wait_seconds"],
    "lost": lambda row: row["lost_writes"],
    "errors": lambda row: row["verdicts"]["error"],
}
_HEAD = ("scope", "kind", "count", "warnings", "errors", "commits p50", "p95", "max", "connections", "held s", "waited s", "lost")  # fmt: skip


@click.command("requests")
@click.option(
    "--sort", type=click.Choice(list(_ORDERS)), default="count", show_default=True, help="Most first."
)
@click.option("--kind", help="Only scopes of this kind, such as request or command.")
@click.option("--limit", type=click.IntRange(1), default=30, show_default=True, help="Rows to show.")
@as_json_option
@looks
def requests(source: Source, sort: str, kind: str | None, limit: int, as_json: bool) -> None:
    """Show what requests, commands and other scopes use: commits, connections, time.

    Counted over all workers, in each since it was started. "held s" is how long one of them holds connections on
    average, "waited s" how long all of them together have waited for one, "lost" how many lost what they had written.
    """
    answer = source.scopes()
    rows = [each for each in answer["scopes"] if kind in (None, each["kind"])]
    rows = sorted(rows, key=_ORDERS[sort], reverse=True)[:limit]
    if as_json:
        echo_json({"scopes": rows, "sites": answer["sites"]})
    elif rows:
        click.echo(table(_HEAD, map(_row, rows)))
    else:
        click.echo("Nothing was counted yet.")


def _row(scope: Data) -> list[Cell]:
    commits, verdicts = scope["commits"], scope["verdicts"]
    return [
        *(scope[name] for name in ("scope", "kind", "count")),
        *(verdicts[name] for name in ("warning", "error")),
        *(commits[name] for name in ("p50", "p95", "max")),
        scope["connections_peak"],
        round(scope["hold_seconds"] / max(scope["count"], 1), 3),
        scope["wait_seconds"],
        scope["lost_writes"],
    ]
