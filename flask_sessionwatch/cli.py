"""The command line: ``flask sessionwatch ...``."""

from __future__ import annotations

import difflib
import http.client
import json
import typing as t
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import click
from flask.cli import AppGroup

from .report.baseline import Entry
from .report.baseline import entry_of
from .report.baseline import read
from .report.baseline import render
from .rules import DEFAULT_RULES
from .rules import Rule
from .settings import ConfigError

#: Seconds to wait for the service.
_PATIENCE = 10

sessionwatch = AppGroup("sessionwatch", help="See how SQLAlchemy sessions and connections are used.")


@sessionwatch.command("explain", with_appcontext=False)
@click.argument("rule")
def explain(rule: str) -> None:
    """Show the manual page of RULE, given by its code or name, such as SW101 or leaked-connection."""
    found = _find(rule)
    click.echo(f"{found.code} {found.name} ({found.level})\n\n{found.page}\n\nHint: {found.hint}")


def _find(wanted: str) -> Rule:
    by_name = {name.lower(): rule for rule in DEFAULT_RULES for name in (rule.code, rule.name)}
    rule = by_name.get(wanted.lower())
    if rule is None:
        nearest = difflib.get_close_matches(wanted.lower(), sorted(by_name), n=1, cutoff=0.0)[0]
        raise click.UsageError(f"There is no rule {wanted!r}. Did you mean '{by_name[nearest].code}'?")
    return rule


@sessionwatch.command("baseline", with_appcontext=False)
@click.argument("log", type=click.File(encoding="utf-8", errors="replace"), required=False)
@click.option("--url", help="Ask a running service: the address of its pages, with the prefix.")
@click.option(
    "--token", envvar="SESSIONWATCH_TOKEN", help="Its SESSIONWATCH_TOKEN; better from the environment."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False),
    default="sessionwatch-baseline.json",
    show_default=True,
    help="The file to write.",
)
def baseline(log: t.TextIO | None, url: str | None, token: str | None, output: str) -> None:
    """Write known findings to a file, so that only new ones are told.

    The findings come from LOG, a log written with SESSIONWATCH_LOG_FORMAT=json ("-" reads the standard input), or
    with --url from a running service, such as http://127.0.0.1:5000/_sessionwatch. A service answers with what all
    workers have found that share its SESSIONWATCH_STORE, in the last seven days.

    What the file has already stays in it. To begin anew, delete it. Point SESSIONWATCH_BASELINE to it afterwards.
    """
    if (log is None) == (url is None):
        raise click.UsageError("Give either a LOG or --url.")
    found = _of_log(log) if log is not None else _of_service(url or "", token)
    known = _known(output)
    together = {*known, *found}
    try:
        Path(output).write_text(render(together), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"'{output}' cannot be written ({error.strerror}).") from None
    click.echo(f"{output}: {len(together)} known findings, {len(together.difference(known))} of them new.")


def _known(output: str) -> list[Entry]:
    """Return what the file has already."""
    if not Path(output).exists():
        return []
    try:
        return read(output)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def _of_log(lines: Iterable[str]) -> set[Entry]:
    """Return the findings in the lines of a log, wherever the object begins in its line."""
    found = {entry for line in lines for entry in _of_line(line)}
    if not found:
        raise click.ClickException(
            "There is no finding in this log. Is SESSIONWATCH_LOG_FORMAT set to 'json'?"
        )
    return found


def _of_line(line: str) -> list[Entry]:
    start = line.find('{"code"')
    if start < 0:
        return []
    try:
        data, _ = json.JSONDecoder().raw_decode(line[start:])
        return [entry_of(data)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # some other line, or one that was cut off


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to be sent elsewhere: the token is meant for this address only."""

    def redirect_request(self, *args: t.Any, **kwargs: t.Any) -> None:
        return None


def _of_service(url: str, token: str | None) -> set[Entry]:
    if not url.startswith(("http://", "https://")):
        raise click.UsageError("--url takes an address such as http://127.0.0.1:5000/_sessionwatch.")
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url.rstrip('/')}/api/v1/findings", headers=headers)
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=_PATIENCE) as answer:
            data = json.load(answer)
        return {entry_of(each) for each in data["findings"]}
    except urllib.error.HTTPError as error:
        error.close()
        why = (
            "is SESSIONWATCH_TOKEN right?"
            if error.code in (401, 404)
            else "is this the address of the pages?"
        )
        raise click.ClickException(f"{url} answered {error.code}; {why}") from None
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"{url} cannot be reached ({getattr(error, 'reason', error)}).") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.ClickException(
            f"{url} answered something else; is this the address of the pages?"
        ) from None
