"""The rules for Prometheus, with the thresholds of an application."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Iterator

from ..settings import Settings
from ..store.base import Data

#: Which series are one pool.
_POOL = "job, instance, engine"
_FILLED = "instance_engine:sessionwatch_connections_used:ratio"


class Recording(t.NamedTuple):
    """A recording rule: what is asked for often, under a name."""

    name: str
    expr: str

    def as_json(self) -> Data:
        return {"record": self.name, "expr": self.expr}


class Alert(t.NamedTuple):
    """An alert rule.

    :param wait: how long it has to be true.
    :param severity: "critical" where requests fail or data are lost, "warning" where they are going to, "info" otherwise.
    """

    name: str
    expr: str
    wait: str
    severity: str
    summary: str
    description: str

    def as_json(self) -> Data:
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.wait,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary, "description": self.description},
        }


def rule_groups(settings: Settings) -> list[Data]:
    """Return the groups of a rule file, as plain data."""
    groups: dict[str, Iterable[Recording | Alert]] = {
        "sessionwatch.recorded": _RECORDED,
        "sessionwatch.leaks": _LEAKS,
        "sessionwatch.pools": _pools(settings),
        "sessionwatch.transactions": _transactions(settings),
        "sessionwatch.watcher": _WATCHER,
    }
    return [{"name": name, "rules": [each.as_json() for each in rules]} for name, rules in groups.items()]


_RECORDED = (
    Recording(
        _FILLED,
        f'sum by ({_POOL}) (sessionwatch_connections{{state="used"}}) / '
        f"sum by ({_POOL}) (sessionwatch_connections_max > 0)",
    ),
    Recording(
        "instance_engine:sessionwatch_connection_wait_seconds:p95_5m",
        f"histogram_quantile(0.95, sum by ({_POOL}, le) (rate(sessionwatch_connection_wait_seconds_bucket[5m])))",
    ),
    Recording(
        "instance_engine:sessionwatch_connection_use_seconds:p95_5m",
        f"histogram_quantile(0.95, sum by ({_POOL}, le) (rate(sessionwatch_connection_use_seconds_bucket[5m])))",
    ),
    Recording(
        "instance_engine:sessionwatch_transactions_failed:ratio_rate5m",
        f'sum by ({_POOL}) (rate(sessionwatch_transactions_total{{outcome="error"}}[5m])) / '
        f"sum by ({_POOL}) (rate(sessionwatch_transactions_total[5m]))",
    ),
)


def _held(code: str) -> str:
    """Say that something this rule has told of is held still."""
    return f'sessionwatch_findings_open{{code=~"{code}"}} > 0'


def _told(code: str) -> str:
    """Say that this rule has told of something in the last ten minutes.

    Its counter is there from the start, so that also the first one is an increase; counters by scope begin with it.
    """
    return f'sum by (job, instance, code, rule) (increase(sessionwatch_findings_total{{code="{code}"}}[10m])) > 0'


def _where(code: str) -> str:
    return f"'flask sessionwatch findings --rule {code}' names the line."


_LEAKS = (
    Alert(
        "SessionwatchLeakedSessions",
        "sessionwatch_leaked_sessions > 0",
        "1m",
        "warning",
        "{{ $labels.instance }} holds {{ $value }} leaked sessions.",
        f"Their scopes have ended, and they are still in a transaction. {_where('SW201')}",
    ),
    Alert(
        "SessionwatchLeakedConnections",
        _held("SW101"),
        "1m",
        "warning",
        "{{ $labels.instance }} holds connections that were leaked in {{ $value }} places.",
        f"Their scopes have ended without returning them to the pool. {_where('SW101')}",
    ),
)


def _pools(settings: Settings) -> Iterator[Alert]:
    yield Alert(
        "SessionwatchPoolNearLimit",
        f"{_FILLED} >= 0.8",
        "5m",
        "warning",
        "The pool of engine {{ $labels.engine }} on {{ $labels.instance }} is {{ $value | humanizePercentage }} full.",
        "'flask sessionwatch top' shows who holds its connections. Hold them for a shorter time, or give it more.",
    )
    yield Alert(
        "SessionwatchPoolExhausted",
        f"sum by ({_POOL}) (increase(sessionwatch_connection_timeouts_total[5m])) > 0",
        "0s",
        "critical",
        "Check-outs from the pool of engine {{ $labels.engine }} on {{ $labels.instance }} have timed out.",
        f"Requests fail for want of a connection. {_where('SW601')}",
    )
    yield Alert(
        "SessionwatchPoolStuck",
        f"sum by ({_POOL}) (sessionwatch_connections_pending) > 0 and {_FILLED} >= 1",
        "1m",
        "critical",
        "{{ $value }} threads on {{ $labels.instance }} wait for the pool of engine {{ $labels.engine }}, which is full.",
        "'flask sessionwatch top' shows who holds its connections, and what those threads are doing now.",
    )
    yield Alert(
        "SessionwatchLongCheckout",
        f"time() - sessionwatch_oldest_checkout_timestamp_seconds > {settings.long_checkout:g}",
        "1m",
        "warning",
        "A connection of engine {{ $labels.engine }} on {{ $labels.instance }} is out for {{ $value | humanizeDuration }}.",
        f"That is longer than SESSIONWATCH_LONG_CHECKOUT, {settings.long_checkout:g} s. {_where('SW103')}",
    )


def _transactions(settings: Settings) -> Iterator[Alert]:
    yield Alert(
        "SessionwatchLostWrites",
        _told("SW204"),
        "0s",
        "critical",
        "Requests of {{ $labels.instance }} have written something and never committed it.",
        f"What they wrote is gone, and nobody was told. {_where('SW204')}",
    )
    yield Alert(
        "SessionwatchFailedTransactions",
        _told("SW205"),
        "0s",
        "warning",
        "Transactions of {{ $labels.instance }} have failed and were used without a rollback.",
        f"An error was swallowed; what follows in such a transaction fails as well. {_where('SW205')}",
    )
    yield Alert(
        "SessionwatchCommitStorm",
        _told("SW501"),
        "0s",
        "warning",
        "Requests of {{ $labels.instance }} commit in a loop.",
        f"One of them has committed more than {settings.max_commits} times, which is SESSIONWATCH_MAX_COMMITS. "
        f"{_where('SW501')}",
    )
    yield Alert(
        "SessionwatchLongTransaction",
        _held("SW207"),
        "1m",
        "warning",
        "{{ $labels.instance }} has transactions that are open for long.",
        f"That is longer than SESSIONWATCH_LONG_TRANSACTION, {settings.long_transaction:g} s. {_where('SW207')}",
    )
    yield Alert(
        "SessionwatchIdleInTransaction",
        _held("SW202|SW203"),
        "1m",
        "warning",
        "{{ $labels.instance }} has transactions that do nothing ({{ $labels.rule }}).",
        f"No statement for longer than SESSIONWATCH_IDLE_IN_TRANSACTION, {settings.idle_in_transaction:g} s, while what they "
        f"have locked stays locked. {_where('SW202')}",
    )


_WATCHER = (
    Alert(
        "SessionwatchErrors",
        "increase(sessionwatch_internal_errors_total[10m]) > 0",
        "0s",
        "warning",
        "flask_sessionwatch has had errors of its own on {{ $labels.instance }}.",
        "They are in the log of the application. After ten it steps aside, and watches no more until the next start.",
    ),
    Alert(
        "SessionwatchFindingsDropped",
        "increase(sessionwatch_findings_dropped_total[10m]) > 0",
        "0s",
        "info",
        "flask_sessionwatch has dropped findings on {{ $labels.instance }}.",
        "There are too many of them, or its store is away: 'flask sessionwatch status' says whether it can be read.",
    ),
    Alert(
        "SessionwatchCostly",
        "rate(sessionwatch_self_seconds_total[5m]) > 0.1",
        "10m",
        "info",
        "flask_sessionwatch takes {{ $value | humanizePercentage }} of a processor on {{ $labels.instance }}.",
        "Its threads look at what is live once in SESSIONWATCH_TICK; a longer one costs less.",
    ),
    Alert(
        "SessionwatchAbsent",
        "absent(sessionwatch_sessions_open)",
        "5m",
        "warning",
        "No application brings metrics of flask_sessionwatch.",
        "Either none is scraped, or the token of the scrape is wrong, or SESSIONWATCH_ENABLED is off.",
    ),
)


def as_yaml(groups: Iterable[Data]) -> str:
    """Return a rule file."""
    lines = ["groups:"]
    for group in groups:
        lines.append(f"  - name: {group['name']}")
        lines.append("    rules:")
        for rule in group["rules"]:
            lines += _as_item(rule)
    return "\n".join(lines) + "\n"


def _as_item(rule: Data) -> Iterator[str]:
    mark = "-"
    for key, value in rule.items():
        before, mark = f"      {mark} {key}:", " "
        if isinstance(value, dict):
            yield before
            yield from (f"          {name}: {_quoted(text)}" for name, text in value.items())
        elif key == "expr":
            # As it is: an expression is full of what would have to be quoted.
            yield f"{before} |-"
            yield f"          {value}"
        else:
            yield f"{before} {value}"


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'" if not text.isalpha() else text
