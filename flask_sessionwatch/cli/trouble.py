"""What ends a command that could not do its work."""

from __future__ import annotations

import click

from ..finding import printable


class Trouble(click.ClickException):
    """The command could not look; the text says why. Status 1 is for what it has found."""

    exit_code = 2

    def format_message(self) -> str:
        """Return the text as it is shown; what a service has answered may be a part of it."""
        return printable(self.message)
