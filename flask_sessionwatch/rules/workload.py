"""SW5xx: more work than needed."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType

from ..finding import Finding
from ..observe.records import Scope
from ..observe.stack import site_of
from .base import Limits
from .base import Moment
from .base import Rule


@dataclass(frozen=True)
class CommitStorm(Rule):
    """One scope committed more often than SESSIONWATCH_MAX_COMMITS.

    What it does
        Counts the commits of each scope and names the line that commits most, and whether it is a loop. The
        release of a savepoint is no commit. A request is told as a warning; a command, a task or a long-lived
        context, where a commit per job is usual, as info.

    Why it matters
        Every commit waits for the disk, ends the transaction, returns the connection and expires every loaded
        object, which is then loaded again one by one.

    Example
        ::

            for row in rows:
                db.session.add(Item(**row))
                db.session.commit()

    Instead
        ::

            db.session.add_all(Item(**row) for row in rows)
            db.session.commit()

    Options
        ``limit``: commits; SESSIONWATCH_MAX_COMMITS unless given.
    """

    code = "SW501"
    name = "commit-storm"
    hint = "commit once after the loop, or in batches; if this is intended, raise SESSIONWATCH_MAX_COMMITS."
    limits: t.ClassVar[Limits] = MappingProxyType({"max_commits": "limit"})

    limit: int | None = None

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        limit = moment.settings.max_commits if self.limit is None else self.limit
        if scope.commits <= limit or scope.commit_calls is None:
            return
        call, most = max(scope.commit_calls.items(), key=lambda item: item[1])
        # The first commit is not located: it costs nothing as long as it stays the only one.
        in_loop = most >= scope.commits / 2
        where = ", nearly all from one line in a loop" if in_loop else ""
        yield self.finding(
            moment,
            f"{scope.name} committed {scope.commits} times{where}; the limit is {limit}.",
            () if call is None else (call,),
            scope,
            level="warning" if scope.kind == "request" else "info",
            site=None if call is None else site_of(call),
            verb="committed",
            details={"commits": scope.commits, "limit": limit},
        )
