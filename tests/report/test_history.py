"""Points of a process's history."""

from flask_sessionwatch.report.history import SERIES
from flask_sessionwatch.report.history import History


def test_gauges_keep_their_peak() -> None:
    """Between two points the highest value of a gauge counts, and what is counted adds up."""
    history = History(10, 6)
    for second, used in ((100, 1), (104, 7), (109, 2), (110, 3)):
        history.add(second, {"used": used}, {"scopes": 5})
    assert history.as_json() == {"first": 10, "columns": {"scopes": [15, 5], "used": [7, 3]}}


def test_gap() -> None:
    """Where nobody looked there is no value, not 0."""
    history = History(10, 6)
    history.add(100, {"used": 1}, {})
    history.add(130, {"used": 2, "new": 5}, {})
    assert history.as_json()["columns"] == {"used": [1, None, None, 2], "new": [None, None, None, 5]}


def test_bounded() -> None:
    """Only the last points are kept, whatever the clock does."""
    history = History(10, 6)
    for second in (*range(0, 1000, 10), 5_000, 100):
        history.add(second, {"used": second}, {})
    told = history.as_json()
    assert told["first"] == 495
    assert told["columns"]["used"] == [None] * 5 + [5_000]


def test_empty() -> None:
    """A history without points is empty, also after it was forgotten."""
    history = History(10, 6)
    assert history.as_json() == {"first": 0, "columns": {}}
    history.add(100, {"used": 1}, {})
    history.forget()
    assert history.as_json() == {"first": 0, "columns": {}}


def test_spans() -> None:
    """The histories reach back a quarter of an hour and six hours."""
    assert [step * points for step, points in SERIES.values()] == [15 * 60, 6 * 3600]
