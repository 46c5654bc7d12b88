"""Sessions that keep more objects from commit to commit."""

from __future__ import annotations

import typing as t
import weakref

#: A session is followed from this part of the limit on.
_FOLLOWED_FROM = 4
#: What is loaded once and kept makes a session grow once.
_GROWTHS = 3


class Growths:
    """Follows sessions."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[t.Any, Growth] = weakref.WeakKeyDictionary()

    def past(self, limit: int, session: t.Any) -> int:
        """Return how many objects *session* keeps, if it has grown past *limit* again and again; else 0."""
        count = len(session.identity_map)
        if count * _FOLLOWED_FROM <= limit:
            return 0
        growth = self._of.get(session)
        if growth is None:
            growth = self._of[session] = Growth(limit)
        return count if growth.has_passed(count) else 0


class Growth:
    """How a session has grown: the most objects it kept, and how often it came to keep more."""

    __slots__ = ("__weakref__", "limit", "most", "times")

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.most: int = 0
        self.times: int = 0

    def has_passed(self, count: int) -> bool:
        """Whether a session that grows again and again has passed the limit, or has doubled since it did."""
        if count > self.most:
            self.most = count
            self.times += 1
        if count <= self.limit or self.times < _GROWTHS:
            return False
        self.limit = 2 * count
        return True
