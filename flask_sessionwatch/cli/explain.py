"""``explain``: the manual page of a rule."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from ..rules import DEFAULT_RULES
from ..rules import Rule
from .looking import rule_named
from .output import as_json_option
from .output import echo_json


def _rule(ctx: click.Context, param: click.Parameter, value: str) -> Rule:
    return rule_named(value)


def _completed(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a code, or a name once that was begun."""
    by_code = [CompletionItem(rule.code, help=rule.name) for rule in DEFAULT_RULES]
    by_name = [CompletionItem(rule.name, help=rule.code) for rule in DEFAULT_RULES if incomplete]
    return [each for each in (*by_code, *by_name) if each.value.lower().startswith(incomplete.lower())]


@click.command("explain")
@click.argument("rule", callback=_rule, shell_complete=_completed)
@as_json_option
def explain(rule: Rule, as_json: bool) -> None:
    """Show the manual page of RULE, given by its code or name, such as SW101 or leaked-connection."""
    if as_json:
        names = ("code", "name", "level", "hint", "page")
        echo_json({name: getattr(rule, name) for name in names})
    else:
        click.echo(f"{rule.code} {rule.name} ({rule.level})\n\n{rule.page}\n\nHint: {rule.hint}")
