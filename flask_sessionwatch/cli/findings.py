"""``findings``: what was found, and whether that is to stop a pipeline."""

from __future__ import annotations

import functools

import click

from ..finding import LEVELS
from ..finding import printable
from ..store.base import Data
from .looking import Source
from .looking import looks
from .looking import rule_named
from .output import ago
from .output import as_json_option
from .output import echo_json
from .output import is_at_least
from .output import place
from .output import plural
from .trouble import Trouble

_levels = click.Choice(LEVELS)


@click.command("findings")
@click.argument("fingerprint", required=False)
@click.option("--level", type=_levels, default="info", help="Show what is of this level or a worse one.")
@click.option(
    "--rule", multiple=True, help="Show what this rule has found, by code or name; may be repeated."
)
@click.option("--scope", help="Show what was found in the scope of this name, such as 'GET /orders'.")
@click.option("--open", "only_open", is_flag=True, help="Show what is not resolved.")
@click.option("--new", "only_new", is_flag=True, help="Show what is not in the baseline.")
@click.option(
    "--fail-on",
    type=_levels,
    help="End with status 1 if something of this level or a worse one is shown that is not in the baseline.",
)
@as_json_option
@looks
def findings(
    source: Source,
    fingerprint: str | None,
    level: str,
    rule: tuple[str, ...],
    scope: str | None,
    only_open: bool,
    only_new: bool,
    fail_on: str | None,
    as_json: bool,
) -> None:
    """Show what was found in the last seven days, the newest last.

    With the FINGERPRINT of a finding, or with its beginning, show all that is known of that one.
    """
    all_found = source.findings()
    codes = {_code(name, all_found) for name in rule}
    wanted = functools.partial(
        _is_wanted, level=level, codes=codes, scope=scope, only_open=only_open, only_new=only_new
    )
    found = [each for each in all_found if wanted(each)]
    if fingerprint is not None:
        found = [_whole(source, fingerprint, found)]
    if as_json:
        echo_json({"findings": found})
    else:
        describe = _brief if fingerprint is None else _in_full
        click.echo("\n\n".join(map(describe, found)) or "Nothing was found.")
    if fail_on is not None and any(
        is_at_least(each["level"], fail_on) for each in found if not each["known"]
    ):
        raise click.exceptions.Exit(1)


def _code(name: str, found: list[Data]) -> str:
    """Return the code of a rule; one that only another application has is known by what it has found."""
    told = (each["code"] for each in found if name in (each["code"], each["rule"]))
    return next(told, None) or rule_named(name).code


def _is_wanted(
    finding: Data, *, level: str, codes: set[str], scope: str | None, only_open: bool, only_new: bool
) -> bool:
    return (
        is_at_least(finding["level"], level)
        and (not codes or finding["code"] in codes)
        and scope in (None, finding["scope"])
        and not (only_open and finding["resolved"])
        and not (only_new and finding["known"])
    )


def _whole(source: Source, fingerprint: str, found: list[Data]) -> Data:
    """Return the one finding that is meant, with every worker that saw it."""
    meant = [each["fingerprint"] for each in found if each["fingerprint"].startswith(fingerprint)]
    if len(meant) > 1:
        raise click.UsageError(
            f"There are {len(meant)} findings whose fingerprint begins so: {', '.join(meant)}."
        )
    finding = source.finding(meant[0]) if meant else None
    if finding is None:
        raise Trouble(f"There is no finding {fingerprint!r}.")
    return finding


def _brief(finding: Data) -> str:
    lines = [f"{finding['code']} {finding['rule']} ({finding['level']}): {finding['message']}"]
    if finding["site"] is not None:
        lines.append(f"  {finding['verb']} at {place(finding['site'])}")
    lines.append(f"  {_history(finding)}")
    return "\n".join(map(printable, lines))


def _history(finding: Data) -> str:
    states = {"resolved": finding["resolved"], "in the baseline": finding["known"]}
    return ", ".join(
        (
            plural(finding["count"], "time"),
            f"last {ago(finding['last_seen'])}",
            f"seen by {plural(finding['worker_count'], 'worker')}",
            *(state for state, is_so in states.items() if is_so),
            f"fingerprint {finding['fingerprint']}",
        )
    )


def _in_full(finding: Data) -> str:
    details = finding["details"]
    lines = [
        *(f"  {line}" for line in details.get("lines", ())),
        f"  hint: {finding['hint']}   explain: {finding['code']}",
        *(f"  {name}: {value}" for name, value in details.items() if name != "lines" and value is not None),
        "  stack, innermost frame first:",
        *(f"    {place(frame)}" for frame in finding["stack"]),
        "  workers:",
        *(f"    {_worker(each)}" for each in finding["workers"]),
    ]
    return "\n".join((_brief(finding), *map(printable, lines)))


def _worker(seen: Data) -> str:
    gone = ", gone" if seen["gone"] else ""
    return (
        f"{seen['host']}:{seen['pid']}{gone}: {plural(seen['count'], 'time')}, last {ago(seen['last_seen'])}"
    )
