"""The lines of source that are shown around the application's frames, and no others."""

import os
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch.report.sources import EXCERPTS_TOLD
from flask_sessionwatch.report.sources import HELD_SECONDS
from flask_sessionwatch.report.sources import LINES_AROUND
from flask_sessionwatch.report.sources import LONGEST_LINE
from flask_sessionwatch.report.sources import excerpts
from flask_sessionwatch.report.sources import places_of
from flask_sessionwatch.report.sources import sources_of


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A file whose lines are numbered."""
    path = tmp_path / "shop.py"
    path.write_text("".join(f"line {number}\n" for number in range(1, 21)))
    return str(path)


def frame(filename: str, lineno: int = 1, *, application: bool = True) -> dict[str, t.Any]:
    return {"filename": filename, "lineno": lineno, "function": "f", "application": application}


@pytest.mark.parametrize(
    ("lineno", "first", "last"),
    [(10, 10 - LINES_AROUND, 10 + LINES_AROUND), (1, 1, 1 + LINES_AROUND), (20, 20 - LINES_AROUND, 20)],
)
def test_lines_around(file: str, lineno: int, first: int, last: int) -> None:
    """A few lines before and behind, as far as there are any."""
    (excerpt,) = excerpts([(file, lineno)])
    assert excerpt == {
        "filename": file,
        "lineno": lineno,
        "first_lineno": first,
        "lines": [f"line {number}" for number in range(first, last + 1)],
    }


def test_what_cannot_be_read(file: str, tmp_path: Path) -> None:
    """A file that is gone, and a line that it no longer has, are left out."""
    places = [(str(tmp_path / "gone.py"), 1), (file, 21), (str(tmp_path), 1), ("a\0b.py", 1), (file, 3)]
    assert [each["lineno"] for each in excerpts(places)] == [3]


def test_file_that_changes(file: str) -> None:
    """A file that was changed is read again."""
    excerpts([(file, 1)])
    Path(file).write_text("another line\n")
    os.utime(file, (1, 1))
    assert [each["lines"] for each in excerpts([(file, 1)])] == [["another line"]]


def test_bounded(file: str) -> None:
    """A place is shown once, of very many the first ones, and of a very long line its beginning."""
    places = [(file, number) for number in range(1, 21)]
    assert len(excerpts(places)) == EXCERPTS_TOLD
    assert len(excerpts([(file, 1)] * 3)) == 1
    Path(file).write_text("x" * 10_000)
    assert [len(each["lines"][0]) for each in excerpts([(file, 1)])] == [LONGEST_LINE]


def test_only_the_application(file: str) -> None:
    """Frames of libraries are not shown."""
    frames = [frame(file, 3, application=False), frame(file, 7)]
    assert places_of(frames) == [(file, 7)]


def test_of_what_is_held(file: str) -> None:
    """What is held for a while is shown, of sessions and of check-outs; what comes and goes is not."""

    def row(lineno: int, age: float) -> dict[str, t.Any]:
        return {"age_seconds": age, "stack": [frame(file, lineno)], "now": [frame(file, lineno + 1)]}

    live = {"checkouts": [row(1, HELD_SECONDS), row(10, 0.1)], "sessions": [row(5, 60.0)]}
    assert [each["lineno"] for each in sources_of(live)] == [1, 2, 5, 6]
