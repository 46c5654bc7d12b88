"""What a statement does, and what becomes of its result."""

from __future__ import annotations

import gc
import re
import typing as t

import sqlalchemy as sa

from .driver import cursor_is_closed

_WRITING_WORDS = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE ", "REPLAC"))
#: A writing statement inside a WITH clause, or behind it.
_WRITING_CTE = re.compile(r"[()]\s*(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)


def writes(statement: str) -> bool:
    """Whether a statement given as text writes rows, by its first word or within its WITH clause."""
    text = statement.lstrip()
    word = text[:6].upper()
    if word.startswith("WITH"):
        return _WRITING_CTE.search(text) is not None
    return word in _WRITING_WORDS


def has_open_result(context: t.Any) -> bool:
    """Whether the result of an execution *context* was neither exhausted nor closed."""
    closed = cursor_is_closed(context.cursor)
    return _result_is_open(context) if closed is None else not closed


def _result_is_open(context: t.Any) -> bool:
    # sqlite3 does not tell whether a cursor is closed. The result knows, and cannot be referred to weakly.
    for referrer in gc.get_referrers(context):
        if isinstance(referrer, sa.CursorResult):
            return referrer.cursor is not None
        if isinstance(referrer, dict) and "cursor_strategy" in referrer:
            return referrer.get("cursor") is not None
    return False


class RowCount:
    """Keeps the row count of a write whose driver forgets it when the cursor is closed, as psycopg 3 does."""

    rowcount: int = -1

    def read(self, context_ref: t.Callable[[], t.Any], cursor: t.Any) -> None:
        """Read the count right after the statement, in place of the context's ``post_exec``, and call that."""
        context = context_ref()
        if context is not None:
            vars(context).pop("post_exec", None)
            self.rowcount = cursor.rowcount
            context.post_exec()
