"""Choose among all findings those that somebody asks for."""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

from ..finding import LEVELS
from .base import FOLDED
from .base import Data
from .base import Sighted
from .base import Sighting
from .base import merged

#: What findings can be filtered by; those of the second group are counted for whoever wants to choose.
FLAGS = ("resolved", "known")
FACETS = ("code", "rule", "level", "engine", "scope", "worker")
#: Values of one facet that are named at most.
FACET_VALUES = 100


class Listed(t.NamedTuple):
    """A finding before anything of it is rendered: as the store has it, and what its workers say together."""

    sighted: Sighted
    together: Sighting

    def values(self, name: str) -> Iterable[str]:
        """Return what a filter of that *name* compares."""
        if name == "worker":
            return (worker_of(each) for each in self.sighted.sightings if each != FOLDED)
        if name in FLAGS:
            return (str(getattr(self.together, name)).lower(),)
        return (self.sighted.body.get(name) or "",)

    def contains(self, text: str) -> bool:
        """Whether *text*, in lower case, is in what people read of it."""
        body = self.sighted.body
        site = body.get("site") or {}
        read = (body.get(name) for name in ("code", "rule", "message", "scope", "about", "engine"))
        return any(text in str(each).lower() for each in (*read, site.get("filename"), site.get("function")))


def worker_of(worker_id: str) -> str:
    """Return host and number of a worker, as filters name it: "web-1:4711"."""
    return worker_id.rpartition(":")[0]


Key: t.TypeAlias = "t.Callable[[Listed], t.Any]"

#: What findings can be sorted by.
SORTS: dict[str, Key] = {
    "first_seen": lambda each: each.together.first_seen,
    "last_seen": lambda each: each.together.last_seen,
    "count": lambda each: each.together.occurrences,
    "level": lambda each: LEVELS.index(level) if (level := each.sighted.body.get("level")) in LEVELS else -1,
    "code": lambda each: each.sighted.body.get("code") or "",
    "scope": lambda each: each.sighted.body.get("scope") or "",
}


@dataclass(frozen=True)
class Query:
    """Which findings somebody asks for, and in which order.

    :param wanted: by the name of a filter the values of which one has to match.
    :param text: what has to be in what people read of them, whatever the case.
    :param sort: one of :data:`SORTS`.
    :param descending: whether the largest comes first.
    :param offset: how many to pass over.
    :param limit: how many to return at most; None for all.
    """

    wanted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    text: str = ""
    sort: str = "first_seen"
    descending: bool = False
    offset: int = 0
    limit: int | None = None

    def matches(self, listed: Listed) -> bool:
        """Whether *listed* is asked for."""
        for name, values in self.wanted.items():
            if not any(each in values for each in listed.values(name)):
                return False
        return not self.text or listed.contains(self.text.lower())

    def chosen(self, found: Iterable[Listed]) -> list[Listed]:
        """Return those that are asked for, in order."""
        matching = sorted(filter(self.matches, found), key=lambda each: each.sighted.fingerprint)
        matching.sort(key=SORTS[self.sort], reverse=self.descending)
        return matching

    def page(self, chosen: Sequence[Listed]) -> Sequence[Listed]:
        """Return the part of the *chosen* that is asked for."""
        end = None if self.limit is None else self.offset + self.limit
        return chosen[self.offset : end]


EVERYTHING = Query()


def listed(sighted: Sighted) -> Listed:
    """Return a finding with what all of its workers say together."""
    return Listed(sighted, merged(sighted.sightings.values()))


def counted(found: Iterable[Listed]) -> Data:
    """Return how many findings are open, by level, how many are over, and how many are known."""
    counts = Counter(_state(each) for each in found)
    return {
        "open": {level: counts[level] for level in LEVELS},
        "resolved": counts["resolved"],
        "known": counts["known"],
    }


def _state(each: Listed) -> str:
    if each.together.known:
        return "known"
    return "resolved" if each.together.resolved else str(each.sighted.body.get("level"))


def facets(found: Sequence[Listed]) -> Data:
    """Return by facet which values there are, and how many findings have each, the most first."""
    return {name: _facet(name, found) for name in FACETS}


def _facet(name: str, found: Sequence[Listed]) -> list[Data]:
    counts = Counter(value for each in found for value in set(each.values(name)))
    if name == "engine":
        del counts[""]  # what is about no engine cannot be asked for by one
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"value": value, "count": count} for value, count in ordered[:FACET_VALUES]]
