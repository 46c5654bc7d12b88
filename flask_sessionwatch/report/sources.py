"""The application's own lines around the frames that are shown, so that nobody has to look for them.

Only frames of captured stacks are read, and of these only the application's: nothing that somebody asks for over the network
ever names a file.
"""

from __future__ import annotations

import functools
import os
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping

from ..observe.source import read

#: Lines shown before and behind the one that is meant, and characters of each.
LINES_AROUND = 4
LONGEST_LINE = 200
#: Excerpts that are shown with one stack.
EXCERPTS_TOLD = 5
#: Excerpts that a process tells of what is live, where that is held for so many seconds.
MOST_TOLD = 30
HELD_SECONDS = 1.0

#: A file and a line.
Place: t.TypeAlias = "tuple[str, int]"


def places_of(frames: Iterable[Mapping[str, t.Any]]) -> list[Place]:
    """Return where the application's frames are in a rendered stack."""
    return [(each["filename"], each["lineno"]) for each in frames if each["application"]]


def excerpts(places: Iterable[Place], most: int = EXCERPTS_TOLD) -> list[dict[str, t.Any]]:
    """Return the lines around the first *most* of these places, less those whose source cannot be read."""
    found = (_excerpt(*place, _changed_at(place[0])) for place in list(dict.fromkeys(places))[:most])
    return [each for each in found if each is not None]


def sources_of(live: Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """Return the lines around the frames of what is held for so long that somebody may look at it.

    :param live: what is live, with stacks.
    """
    held = [each for each in (*live["checkouts"], *live["sessions"]) if each["age_seconds"] >= HELD_SECONDS]
    return excerpts(
        (place for each in held for place in places_of((*each["stack"], *each["now"]))), MOST_TOLD
    )


def _changed_at(filename: str) -> int:
    try:
        return os.stat(filename).st_mtime_ns
    except (OSError, ValueError):
        return 0


@functools.lru_cache(maxsize=500)
def _excerpt(filename: str, lineno: int, changed_at: int) -> dict[str, t.Any] | None:
    """Return the lines around one place.

    :param changed_at: when the file was changed last, so that it is read again then.
    """
    first = max(lineno - LINES_AROUND, 1)
    lines = read(filename).splitlines()[first - 1 : lineno + LINES_AROUND]
    if len(lines) <= lineno - first:
        return None
    shown = [line[:LONGEST_LINE] for line in lines]
    return {"filename": filename, "lineno": lineno, "first_lineno": first, "lines": shown}
