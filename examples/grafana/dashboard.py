"""Makes the dashboard for Grafana.

    python dashboard.py > sessionwatch.json

It takes Python 3.11 and the package grafana-foundation-sdk. The result is committed, so that one need not run this.
"""

import itertools
import json
import sys
import typing as t

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.builders import stat
from grafana_foundation_sdk.builders import timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.common import BigValueGraphMode
from grafana_foundation_sdk.models.common import LegendDisplayMode
from grafana_foundation_sdk.models.common import LegendPlacement
from grafana_foundation_sdk.models.common import TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.dashboard import Threshold
from grafana_foundation_sdk.models.dashboard import VariableRefresh

#: What every query is narrowed to.
CHOSEN = 'job=~"$job", instance=~"$instance"'
SOURCE = DataSourceRef("prometheus", "${datasource}")
USED = ', state="used"'
#: The widths of panels: two, three or four of them beside each other.
HALF, THIRD, QUARTER = 12, 8, 6


def made() -> str:
    """Return the dashboard as JSON."""
    built = (
        board.Dashboard("SQLAlchemy sessions and connections")
        .uid("flask-sessionwatch")
        .description("What flask_sessionwatch sees: sessions, transactions, pools and findings.")
        .tags(["flask", "sqlalchemy"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(board.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("job", "sessionwatch_sessions_open"))
        .with_variable(_variable("instance", 'sessionwatch_sessions_open{job=~"$job"}'))
    )
    numbers = itertools.count(1)
    for title, panels in ROWS.items():
        built.with_row(board.Row(title).id(next(numbers)))
        for panel in panels:
            built.with_panel(panel.id(next(numbers)))
    return _as_text(json.loads(json.dumps(built.build(), cls=JSONEncoder)))


def _as_text(data: dict[str, t.Any]) -> str:
    """Return JSON with each panel on a line of its own, so that one sees what has changed."""
    panels = ",\n".join(json.dumps(each, sort_keys=True) for each in data.pop("panels"))
    return f'{json.dumps(data, sort_keys=True)[:-1]}, "panels": [\n{panels}\n]}}\n'


def _variable(name: str, metric: str) -> board.QueryVariable:
    return (
        board.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _query(expr: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).range()


def _number(title: str, expr: str, *, unit: str = "short", red_from: float | None = None) -> stat.Panel:
    """Make a panel of one number.

    :param red_from: from where on it is red; None: never.
    """
    steps = [Threshold(None, "green")] + ([] if red_from is None else [Threshold(red_from, "red")])
    return (
        stat.Panel()
        .title(title)
        .datasource(SOURCE)
        .with_target(prometheus.Dataquery().expr(expr).instant().ref_id("A"))
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .thresholds(board.ThresholdsConfig().steps(steps))
        .unit(unit)
        .no_value("0")
        .span(QUARTER)
        .height(4)
    )


def _lines(
    title: str, *queries: prometheus.Dataquery, unit: str = "short", width: int = THIRD, description: str = ""
) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(title)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .fill_opacity(10)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if description:
        panel.description(description)
    for name, query in zip("ABC", queries, strict=False):
        panel.with_target(query.ref_id(name))
    return panel


def _gauge(name: str, *by: str, more: str = "") -> str:
    """Add up a gauge over the workers that were chosen."""
    return f"sum by ({', '.join(by)}) (sessionwatch_{name}{{{CHOSEN}{more}}})"


def _rate(name: str, *by: str) -> str:
    """Return how much a counter grows in a second."""
    return f"sum by ({', '.join(by)}) (rate(sessionwatch_{name}{{{CHOSEN}}}[$__rate_interval]))"


def _quantile(share: float, name: str, *by: str) -> str:
    """Return what *share* of what a histogram has seen stays below."""
    return f"histogram_quantile({share}, {_rate(f'{name}_bucket', *by, 'le')})"


ROWS: dict[str, list[t.Any]] = {
    "Now": [
        _number("Leaked sessions", f"sum(sessionwatch_leaked_sessions{{{CHOSEN}}})", red_from=1),
        _number("Held against a rule", f"sum(sessionwatch_findings_open{{{CHOSEN}}})", red_from=1),
        _number(
            "Fullest pool",
            f'max({_gauge("connections", "instance", "engine", more=USED)}'
            f" / ({_gauge('connections_max', 'instance', 'engine')} > 0))",
            unit="percentunit",
            red_from=0.8,
        ),
        _number(
            "Errors found in an hour",
            f'sum(increase(sessionwatch_findings_total{{{CHOSEN}, level="error"}}[1h]))',
            red_from=1,
        ),
    ],
    "Pools": [
        _lines(
            "Connections",
            _query(_gauge("connections", "engine", "state"), "{{engine}} {{state}}"),
            _query(_gauge("connections_max", "engine"), "{{engine}} at most"),
            _query(_gauge("connections_pending", "engine"), "{{engine}} waited for"),
            width=HALF,
        ),
        _lines("Check-outs that timed out, per second", _query(_rate("connection_timeouts_total", "engine"), "{{engine}}"), width=HALF),
        _lines("How long a check-out takes, 95 %", _query(_quantile(0.95, "connection_wait_seconds", "engine"), "{{engine}}"), unit="s"),
        _lines("How long a connection is out, 95 %", _query(_quantile(0.95, "connection_use_seconds", "engine"), "{{engine}}"), unit="s"),
        _lines(
            "How long the oldest check-out is out",
            _query(
                f"time() - min by (engine) (sessionwatch_oldest_checkout_timestamp_seconds{{{CHOSEN}}})", "{{engine}}"
            ),
            unit="s",
        ),
    ],
    "Sessions and transactions": [
        _lines(
            "Sessions in a transaction",
            _query(_gauge("sessions_open", "instance"), "{{instance}}"),
            _query(_gauge("leaked_sessions", "instance"), "{{instance}} leaked"),
        ),
        _lines("Transactions per second, by how they end", _query(_rate("transactions_total", "outcome"), "{{outcome}}")),
        _lines("How long a transaction is open, 95 %", _query(_quantile(0.95, "transaction_duration_seconds", "engine"), "{{engine}}"), unit="s"),
    ],
    "Requests and other scopes": [
        _lines(
            "Commits, 95 %",
            _query(f"topk(10, {_quantile(0.95, 'scope_commits', 'scope')})", "{{scope}}"),
            description="Of the ten scopes that commit most.",
        ),
        _lines(
            "Connections held at once, 95 %",
            _query(f"topk(10, {_quantile(0.95, 'scope_connections', 'scope')})", "{{scope}}"),
            description="Of the ten scopes that hold most; two at once can deadlock a pool.",
        ),
        _lines("Scopes per second, by verdict", _query(_rate("scopes_total", "verdict"), "{{verdict}}")),
    ],
    "Findings": [
        _lines(
            "Found per minute",
            _query(f"60 * {_rate('findings_total', 'code', 'rule')} > 0", "{{code}} {{rule}}"),
        ),
        _lines("Held against a rule", _query(_gauge("findings_open", "code", "rule"), "{{code}} {{rule}}")),
        _lines("Scopes that lose writes, per minute", _query(f"60 * {_rate('lost_writes_total', 'scope')}", "{{scope}}")),
    ],
    "The watcher": [
        _lines("Share of a processor", _query(_rate("self_seconds_total", "instance"), "{{instance}}"), unit="percentunit", width=HALF),
        _lines(
            "Errors and findings dropped, per second",
            _query(_rate("internal_errors_total", "instance"), "{{instance}} errors"),
            _query(_rate("findings_dropped_total", "instance"), "{{instance}} dropped"),
            width=HALF,
        ),
    ],
}  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(made())
