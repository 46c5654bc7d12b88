"""click: each command is a scope of kind "command", also one that needs no app context."""

from __future__ import annotations

import typing as t

import click

from ..observe.commands import command_name
from .scoped import Watch

C = t.TypeVar("C", bound=click.Command)


def watch_click(watch: Watch, command: C) -> C:
    """Make a scope of *command*, or of each command of a group, and return it; ``@group.command()`` may follow.

    Commands of ``flask`` that use an app context need none of this: the context is their scope.

    :param watch: the :class:`~flask_sessionwatch.SessionWatch`; it may be given its application later.
    """
    if "invoke" in vars(command) or "resolve_command" in vars(command):
        return command
    if isinstance(command, click.Group):
        _watch_group(watch, command)
    else:
        _watch_command(watch, command)
    return command


def _watch_group(watch: Watch, group: t.Any) -> None:
    resolve = group.resolve_command

    def resolve_watched(ctx: click.Context, args: list[str]) -> t.Any:
        name, command, rest = resolve(ctx, args)
        return name, None if command is None else watch_click(watch, command), rest

    group.resolve_command = resolve_watched


def _watch_command(watch: Watch, command: t.Any) -> None:
    invoke = command.invoke

    def invoke_watched(ctx: click.Context) -> t.Any:
        with watch.scope(command_name(ctx), "command"):
            try:
                return invoke(ctx)
            except click.exceptions.Exit as error:
                if error.exit_code:
                    raise
                done = error
        # ctx.exit() is a way to be done, and no failure.
        raise done

    command.invoke = invoke_watched
