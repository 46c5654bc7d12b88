"""What workers tell of themselves, put together."""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

from ..finding import MINUTES_KEPT
from ..finding import stamp
from .base import Data
from .base import Published

#: Seconds for which a worker that is heard no more is shown.
GONE_SECONDS = 900.0
#: What a worker tells of itself; one that has told nothing yet, or speaks an older version, has None.
ABOUT_FIELDS = (
    *("version", "python", "sqlalchemy", "flask", "watching", "dropped", "internal_errors"),
    *("findings", "self_seconds", "cpu_seconds"),
)


def fleet_rows(live: Sequence[Published], about: Iterable[Published]) -> list[Data]:
    """Return a row for each worker: those that live, then those that were heard lately, the latest first.

    :param live: what is live, of each worker that lives.
    :param about: what workers tell of themselves, also those that are gone.
    """
    alive = {each.worker.id: each for each in live}
    told = {each.worker.id: each for each in about}
    oldest = time.time() - GONE_SECONDS
    gone = [told[each] for each in told.keys() - alive.keys() if told[each].seen_at >= oldest]
    gone.sort(key=lambda each: -each.seen_at)
    rows = [_fleet_row(alive[each], told.get(each, alive[each]).body, live=True) for each in sorted(alive)]
    return rows + [_fleet_row(each, each.body, live=False) for each in gone]


def _fleet_row(heard: Published, body: Data, *, live: bool) -> Data:
    worker = heard.worker
    return {
        "host": worker.host,
        "pid": worker.pid,
        "live": live,
        "started_at": stamp(worker.started_at),
        "seen_at": stamp(heard.seen_at),
        **{name: body.get(name) for name in ABOUT_FIELDS},
    }


def recent_counts(about: Iterable[Published], fingerprints: Iterable[str]) -> dict[str, list[int]]:
    """Return how often findings were seen in each minute of the last hour, the present one last."""
    counts = {each: [0] * MINUTES_KEPT for each in fingerprints}
    first = int(time.time() // 60) - MINUTES_KEPT + 1
    for each in about:
        recent: Mapping[str, Iterable[tuple[int, int]]] = each.body.get("recent", {})
        for fingerprint in counts.keys() & recent.keys():
            for minute, number in recent[fingerprint]:
                if 0 <= minute - first < MINUTES_KEPT:
                    counts[fingerprint][minute - first] += number
    return counts


def newest_in_force(about: Iterable[Published]) -> Data | None:
    """Return which rules and limits are in force, as the worker says that was started last."""
    telling = [each for each in about if each.body.get("in_force") is not None]
    latest = max(telling, key=lambda each: each.worker.started_at, default=None)
    return None if latest is None else _checked(latest.body["in_force"])


def _checked(force: Data) -> Data:
    """Raise TypeError or KeyError where *force* is something else."""
    entries = [entry for each in force["ignored"].values() for entry in each]
    if not all(isinstance(each, str) for each in (*force["codes"], *entries)):
        raise TypeError("codes")
    if not isinstance(force["limits"], dict):
        raise TypeError("limits")
    return force
