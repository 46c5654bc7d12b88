"""The program ``flask-sessionwatch``: what is done without the application's code."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import typing as t

import click

from .cli import COMMANDS
from .settings import ConfigError
from .settings import Settings
from .store.reader import read_store
from .version import VERSION
from .web.standalone import create_standalone

#: Holds what is put into and around the command of ``run``.
_LAUNCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch")
_PREFORKING = ("gunicorn", "uwsgi")

#: Names and addresses that only this machine can reach.
_LOCAL = ("localhost", "127.0.0.1", "::1")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="flask-sessionwatch")
def main() -> None:
    """See how SQLAlchemy sessions and connections are used."""


for _command in COMMANDS:
    main.add_command(_command)


@main.command()
@click.option(
    "--store",
    envvar="SESSIONWATCH_STORE",
    show_envvar=True,
    required=True,
    help="Where the workers publish: sqlite:////path/to/sessionwatch.db or redis://host:port/database.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--token",
    envvar="SESSIONWATCH_TOKEN",
    show_envvar=True,
    help="Who may see the pages; better from the environment. Without one, only this machine may.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Requests that are answered at once.",
)
def serve(store: str, host: str, port: int, token: str | None, threads: int) -> None:
    """Show dashboard, API and metrics from the store alone.

    The application's code is not needed, and it answers when every worker is stuck.
    """
    try:
        settings = _settings(token)
        reader = read_store(store)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    if settings.token is None and host not in _LOCAL:
        raise click.UsageError(
            f"Others can reach {host}, so a token is needed: set SESSIONWATCH_TOKEN to a long random value."
        )
    server = _server(create_standalone(reader, settings.token, settings.url_prefix), host, port, threads)
    # What a fleet publishes is read into a million objects, of which none is part of a cycle.
    gc.set_threshold(50_000, 20, 50)
    where = f"[{host}]" if ":" in host else host
    click.echo(f"flask_sessionwatch: http://{where}:{_port(server)}/")
    # Without a handler the first process of a container would not notice.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    server.run()


@main.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARGUMENT]...")
def run(command: tuple[str, ...]) -> None:
    """Run COMMAND, and watch every Flask application in it without a change in its code.

    Settings are those of the application, or come from the environment: SESSIONWATCH_TOKEN, SESSIONWATCH_STORE and so on.
    With gunicorn or uWSGI, PROMETHEUS_MULTIPROC_DIR is set for as long as the command runs, unless it is set already.
    """
    program = shutil.which(command[0]) or shutil.which(command[0], path=os.path.dirname(sys.executable))
    if program is None:
        click.echo(f"Error: There is no command {command[0]!r}.", err=True)
        sys.exit(127)
    paths = [_LAUNCH, os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    words = [program, *command[1:]]
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ and _has_workers(command):
        words = [sys.executable, "-IS", os.path.join(_LAUNCH, "supervise.py"), *words]
    if os.name == "nt":
        sys.exit(subprocess.call(words))
    # In place of this process, so that signals and the exit status are the command's own.
    os.execv(words[0], words)


def _has_workers(command: t.Sequence[str]) -> bool:
    """Whether the command is a server that forks workers, also behind another program such as ``python -m``."""
    return any(os.path.basename(each) in _PREFORKING for each in command)


def _settings(token: str | None) -> Settings:
    """Return the settings of the pages, with the same checks as in the application."""
    config = {} if token is None else {"SESSIONWATCH_TOKEN": token}
    key = "SESSIONWATCH_URL_PREFIX"
    return Settings.load(config, {key: os.environ[key]} if key in os.environ else {})


def _server(pages: t.Any, host: str, port: int, threads: int) -> t.Any:
    try:
        from waitress.server import create_server
    except ImportError:
        raise click.ClickException(
            "'serve' takes the package waitress. Install it with: pip install 'flask-sessionwatch[serve]'"
        ) from None
    try:
        return create_server(
            pages,
            host=host,
            port=port,
            threads=threads,
            ident="flask_sessionwatch",
            # Neither is read beyond that: a page takes a query, a login a token.
            max_request_header_size=64 * 1024,
            max_request_body_size=64 * 1024,
            # What a proxy adds tells that a visitor only seems to come from this machine.
            clear_untrusted_proxy_headers=False,
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{host}:{port} cannot be listened on ({why}).") from None


def _port(server: t.Any) -> int:
    """Return the port that was taken; a name may stand for two addresses."""
    listening = getattr(server, "effective_listen", None)
    return int(server.effective_port if listening is None else listening[0][1])
