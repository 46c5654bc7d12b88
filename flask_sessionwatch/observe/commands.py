"""Name the command that runs."""

from __future__ import annotations

import os

import click
from flask.cli import ScriptInfo


def command_name(context: click.Context) -> str:
    """Return the command as it is called, without its arguments: ``flask users purge``, or ``manage.py load``."""
    names: list[str] = []
    program = context
    while program.parent is not None:
        names.insert(0, program.info_name or "")
        program = program.parent
    root = os.path.basename(program.info_name or program.command.name or "command")
    if context.find_object(ScriptInfo) is not None:
        # A single command has no program around it when it is called by a test.
        root = "flask" if names else f"flask {root}"
    return " ".join([root, *names])
