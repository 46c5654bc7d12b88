"""``status``: what there is to know on one page."""

from __future__ import annotations

import time
from collections import Counter

import click

from ..finding import LEVELS
from ..finding import stamp
from ..store.base import Data
from .live import POOL_HEAD
from .live import pool_row
from .live import pools
from .live import workers_of
from .looking import Source
from .looking import looks
from .output import as_json_option
from .output import echo_json
from .output import plural
from .output import table


@click.command("status")
@as_json_option
@looks
def status(source: Source, as_json: bool) -> None:
    """Show workers, pools, sessions and findings on one page."""
    live, found = source.live(), source.findings()
    summary = _summary(live, found)
    if as_json:
        echo_json(summary)
    else:
        click.echo(_text(live, summary))


def _summary(live: Data, findings: list[Data]) -> Data:
    omitted = live["omitted"]
    news = [each for each in findings if not each["known"]]
    counts = Counter(each["level"] for each in news)
    return {
        "now": stamp(time.time()),
        "workers": live["workers"],
        "engines": pools(live),
        "sessions": len(live["sessions"]) + omitted["sessions"],
        "checkouts": len(live["checkouts"]) + omitted["checkouts"],
        "leaked": sum(each["leaked"] for each in (*live["sessions"], *_without_session(live))),
        "findings": {
            **{level: counts[level] for level in reversed(LEVELS)},
            "known": len(findings) - len(news),
        },
    }


def _without_session(live: Data) -> list[Data]:
    """Return the check-outs that are no part of a Session, which would be counted twice."""
    return [each for each in live["checkouts"] if not each["session"]]


def _text(live: Data, summary: Data) -> str:
    numbers = summary["findings"]
    return "\n".join(
        (
            workers_of(live),
            "",
            table(POOL_HEAD, map(pool_row, summary["engines"])),
            "",
            f"{plural(summary['sessions'], 'open session')}, "
            f"{plural(summary['checkouts'], 'connection')} checked out, {summary['leaked']} leaked",
            f"findings: {plural(numbers['error'], 'error')}, {plural(numbers['warning'], 'warning')}, "
            f"{numbers['info']} info, {numbers['known']} known",
        )
    )
