"""The command line: ``flask sessionwatch ...``."""

from __future__ import annotations

import difflib

import click
from flask.cli import AppGroup

from .rules import DEFAULT_RULES
from .rules import Rule

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
