"""``alerts``: rules for Prometheus, with the thresholds of the application."""

from __future__ import annotations

import click

from .alerting import as_yaml
from .alerting import rule_groups
from .looking import settings
from .output import as_json_option
from .output import echo_json


@click.command("alerts")
@as_json_option
def alerts(as_json: bool) -> None:
    """Print recording and alert rules for Prometheus, with the thresholds that the settings say.

    Write them to a file, and name that in rule_files of prometheus.yml. Prometheus reads the JSON as well.
    """
    groups = rule_groups(settings())
    if as_json:
        echo_json({"groups": groups})
    else:
        click.echo(as_yaml(groups), nl=False)
