"""``doctor``: whether the application is set up well, and what to change."""

from __future__ import annotations

import typing as t

import click
from flask.cli import ScriptInfo

from ..finding import LEVELS
from ..finding import printable
from ..observe.server import Server
from ..store.base import Data
from ..watched import CONFIGURATION
from .looking import application
from .looking import source_of
from .looking import understanding
from .looking import warn_of
from .looking import where
from .output import as_json_option
from .output import echo_json
from .output import is_at_least
from .output import place
from .output import plural
from .trouble import Trouble


@click.command("doctor")
@click.option(
    "--threads", type=click.IntRange(1), help="Threads for requests that each worker is going to have."
)
@click.option("--workers", type=click.IntRange(1), help="Worker processes that there are going to be.")
@click.option(
    "--fail-on",
    type=click.Choice(LEVELS),
    default="warning",
    show_default=True,
    help="End with status 1 if something of this level or a worse one is wrong.",
)
@where
@as_json_option
def doctor(
    threads: int | None,
    workers: int | None,
    fail_on: str,
    store: str | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Check how the application is set up, and say what to change.

    It loads the application, as every command of flask does, and looks at its options, listeners and engines without
    connecting to a database. What shows only at work, such as threads that exceed a pool, is asked of the workers that
    run now; with --threads and --workers it is told before they do.
    """
    server = Server("the server", workers or 1, threads or 1) if threads or workers else None
    own = _examined(server)
    theirs, number, asked = _of_workers(store, url, token)
    wrong = list({each["fingerprint"]: each for each in (*theirs, *own) if not each["known"]}.values())
    wrong.sort(key=lambda each: (each["code"], each["message"]))
    if as_json:
        echo_json({"findings": wrong, "workers": number})
    else:
        click.echo("\n\n".join((*map(_advice, wrong), f"{_summary(wrong)} {asked}")))
    if any(is_at_least(each["level"], fail_on) for each in wrong):
        raise click.exceptions.Exit(1)


def _examined(server: Server | None) -> list[Data]:
    application()
    app = click.get_current_context().ensure_object(ScriptInfo).load_app()
    found = app.extensions["sessionwatch"].examine(app, server)
    return [each.as_json() for each in found]


def _of_workers(store: str | None, url: str | None, token: str | None) -> tuple[list[Data], int | None, str]:
    """Ask the workers that run now what is wrong with their configuration.

    :return: what they say, how many they are, and that as a sentence; None for workers that cannot be seen.
    """
    try:
        source = source_of(store, url, token)
        with understanding(source):
            number, found = len(source.live()["workers"]), source.findings()
            alive = [each for each in found if not all(worker["gone"] for worker in each["workers"])]
        warn_of(source)
    except Trouble as trouble:
        if store is not None or url is not None:
            raise
        return [], None, f"Running workers were not asked: {trouble.format_message()}"
    who = f"{plural(number, 'running worker')} told what shows at work." if number else "No worker runs now."
    return [each for each in alive if each["code"].startswith(CONFIGURATION)], number, who


def _advice(finding: Data) -> str:
    lines = [f"{finding['code']} {finding['rule']} ({finding['level']}): {finding['message']}"]
    if finding["site"] is not None:
        lines.append(f"  {finding['verb']} at {place(finding['site'])}")
    lines += [f"  {line}" for line in finding["details"].get("lines", ())]
    lines.append(f"  change: {finding['hint']}")
    return "\n".join(map(printable, lines))


def _summary(wrong: t.Sized) -> str:
    return f"{plural(len(wrong), 'thing')} to change." if len(wrong) else "Nothing to change."
