"""What ends a command that could not do its work."""

from __future__ import annotations

import click


class Trouble(click.ClickException):
    """The command could not look; the text says why. Status 1 is for what it has found."""

    exit_code = 2
