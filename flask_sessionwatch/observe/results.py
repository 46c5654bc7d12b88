"""What a statement does, and what becomes of its result."""

from __future__ import annotations

import gc
import re
import typing as t

import sqlalchemy as sa

from .driver import cursor_is_closed

#: What may stand in front of a statement.
_COMMENTS = re.compile(r"(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.DOTALL)
_WRITING_WORDS = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE ", "REPLAC"))
#: A writing statement inside a WITH clause, or behind it.
_WRITING_CTE = re.compile(r"[()]\s*(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)


def writes(statement: str) -> bool:
    """Whether a statement given as text writes rows, by its first word or within its WITH clause."""
    comments = _COMMENTS.match(statement)
    text = statement if comments is None else statement[comments.end() :]
    word = text[:6].upper()
    if word.startswith("WITH"):
        return _WRITING_CTE.search(text) is not None
    return word in _WRITING_WORDS


#: Words of SQL that end a transaction or undo a part of it, as far as they are told apart by their first four letters.
_CONTROLLING = frozenset(("SAVE", "ROLL", "COMM", "END", "END;", "ABOR"))
_TEMPORARY = frozenset(("TEMP", "TEMPORARY"))
_CONTROL = re.compile(
    r"(?P<mark>SAVEPOINT)\s+(?P<marked>\S+)"
    r"|ROLLBACK(\s+(WORK|TRANSACTION))?\s+(?P<back>TO)(\s+SAVEPOINT)?\s+(?P<undone>[^\s;]+)"
    r"|(?P<end>COMMIT|ROLLBACK|END|ABORT)\b",
    re.IGNORECASE,
)


class Control(t.NamedTuple):
    """What a statement does to its transaction.

    :param word: "mark" for a savepoint, "back" for a rollback to one, "end" for all that ends it.
    :param savepoint: the savepoint's name; "" where it ends.
    """

    word: str
    savepoint: str


def control_of(statement: str) -> Control | None:
    """Return what *statement* does to its transaction; None for most, which do nothing of that kind."""
    text = statement.lstrip()
    if text[:4].upper() not in _CONTROLLING:
        return None
    found = _CONTROL.match(text)
    if found is None:
        return None
    word = next(each for each in ("mark", "back", "end") if found[each])
    return Control(word, found["marked"] or found["undone"] or "")


def is_temporary(context: t.Any) -> bool:
    """Whether a compiled statement writes to a temporary table, whose rows nobody misses."""
    table = None if context.compiled is None else getattr(context.compiled.statement, "table", None)
    prefixes = getattr(table, "_prefixes", ())
    return bool(prefixes) and any(str(each).upper() in _TEMPORARY for each in prefixes)


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
