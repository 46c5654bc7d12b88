"""What a process looked like over the last hours, in a bounded number of points."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

Column: t.TypeAlias = "list[float | None]"

#: The histories a process keeps: of the last quarter of an hour, finely, and of the last hours.
RECENT = "recent"
LONG = "long"
#: Seconds between two points of each, and how many points it has.
SERIES = {RECENT: (10, 90), LONG: (60, 360)}
#: What the columns of ended transactions begin with, by outcome.
OUTCOME = "transactions."


class History:
    """Points at a fixed distance; of a time in which nobody looked there is none.

    A gauge keeps the highest value that was seen between two points, so that a short peak is not overlooked; what is
    counted adds up.

    :param step: seconds between two points.
    :param points: how many are kept.
    """

    def __init__(self, step: int, points: int) -> None:
        self.step = step
        self.points = points
        self._slots: dict[int, dict[str, float]] = {}

    def add(self, now: float, gauges: Mapping[str, float], counts: Mapping[str, float]) -> None:
        """Take in what is now.

        :param now: the time, in seconds since the epoch.
        :param gauges: sizes of what is live.
        :param counts: what was counted since the last time.
        """
        point = self._slots.setdefault(int(now // self.step), {})
        for name, value in gauges.items():
            point[name] = max(point.get(name, value), value)
        for name, value in counts.items():
            point[name] = point.get(name, 0) + value
        while len(self._slots) > self.points:
            del self._slots[min(self._slots)]

    def as_json(self) -> dict[str, t.Any]:
        """Return it as plain data, by column: a list of values from the first point on."""
        slots = self._slots.copy()
        if not slots:
            return {"first": 0, "columns": {}}
        last = max(slots)
        first = max(min(slots), last - self.points + 1)
        names = {name for point in slots.values() for name in point}
        return {
            "first": first,
            "columns": {name: _column(slots, name, first, last) for name in sorted(names)},
        }

    def forget(self) -> None:
        """Begin anew, as a child process must after a fork."""
        self._slots.clear()


def _column(slots: dict[int, dict[str, float]], name: str, first: int, last: int) -> Column:
    return [slots.get(slot, {}).get(name) for slot in range(first, last + 1)]
