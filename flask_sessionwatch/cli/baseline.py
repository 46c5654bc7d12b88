"""``baseline``: write down what is known, so that only what is new is told."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterable
from pathlib import Path

import click

from ..report.baseline import Entry
from ..report.baseline import entry_of
from ..report.baseline import read
from ..report.baseline import render
from ..settings import ConfigError
from ..store.base import STRANGE
from .looking import Source
from .looking import source_of
from .looking import understanding
from .looking import warn_of
from .looking import where
from .output import as_json_option
from .output import echo_json
from .output import plural
from .trouble import Trouble


@click.command("baseline")
@click.argument("log", type=click.File(encoding="utf-8", errors="replace"), required=False)
@where
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    default="sessionwatch-baseline.json",
    show_default=True,
    help="The file to write.",
)
@as_json_option
def baseline(
    log: t.TextIO | None,
    store: str | None,
    url: str | None,
    token: str | None,
    output: str,
    as_json: bool,
) -> None:
    """Write known findings to a file, so that only new ones are told.

    The findings are what the workers have published to the store in the last seven days. Or they come from LOG, a log
    written with SESSIONWATCH_LOG_FORMAT=json ("-" reads the standard input), or with --url from a running service, such
    as http://127.0.0.1:5000/_sessionwatch.

    What the file has already stays in it. To begin anew, delete it. Point SESSIONWATCH_BASELINE to it afterwards.
    """
    if log is not None and (url is not None or store is not None):
        raise click.UsageError("Give either a LOG, or --store or --url.")
    found = _of_source(source_of(store, url, token)) if log is None else _of_log(log)
    known = _known(output)
    together = {*known, *found}
    try:
        Path(output).write_text(render(together), encoding="utf-8")
    except OSError as error:
        raise Trouble(f"'{output}' cannot be written ({error.strerror}).") from None
    new = len(together.difference(known))
    if as_json:
        echo_json({"file": output, "known": len(together), "new": new})
    else:
        click.echo(f"{output}: {plural(len(together), 'known finding')}, {new} of them new.")


def _known(output: str) -> list[Entry]:
    """Return what the file has already."""
    if not Path(output).exists():
        return []
    try:
        return read(output)
    except ConfigError as error:
        raise Trouble(str(error)) from None


def _of_source(source: Source) -> set[Entry]:
    with understanding(source):
        found = {entry_of(each) for each in source.findings()}
    warn_of(source)
    return found


def _of_log(lines: Iterable[str]) -> set[Entry]:
    """Return the findings in the lines of a log, wherever the object begins in its line."""
    found = {entry for line in lines for entry in _of_line(line)}
    if not found:
        raise Trouble("There is no finding in this log. Is SESSIONWATCH_LOG_FORMAT set to 'json'?")
    return found


def _of_line(line: str) -> list[Entry]:
    start = line.find('{"code"')
    if start < 0:
        return []
    try:
        data, _ = json.JSONDecoder().raw_decode(line[start:])
        return [entry_of(data)]
    except STRANGE:
        return []  # some other line, or one that was cut off
