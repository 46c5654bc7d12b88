"""Exceptions on their way: where they came through, what they were raised from, and what is added to them."""

from __future__ import annotations

import contextlib
import sys
import typing as t

from .stack import Stack


def chain(error: BaseException | None) -> t.Iterator[BaseException]:
    """Walk from *error* to what it was raised from, or while handling what."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def stack_of(error: BaseException) -> Stack:
    """Return the calls through which *error* came, innermost first."""
    calls = []
    traceback = error.__traceback__
    while traceback is not None:
        calls.append((traceback.tb_frame.f_code, traceback.tb_lasti))
        traceback = traceback.tb_next
    return tuple(reversed(calls))


def add_hint(error: BaseException, text: str) -> None:
    """Add a note of one line to an exception, whose own text stays as it is: before Python 3.11, nothing."""
    if sys.version_info >= (3, 11):
        # An exception class may forbid new attributes.
        with contextlib.suppress(AttributeError):
            error.add_note(f"flask_sessionwatch: {text}")


def add_note(error: BaseException, title: str, lines: list[str]) -> None:
    """Append to an exception as PEP 678 does; before Python 3.11, to its text."""
    note = "\n".join([title, *(f"  {line}" for line in lines)])
    if sys.version_info >= (3, 11):
        error.add_note(note)
    elif error.args:
        error.args = (f"{error.args[0]}\n{note}", *error.args[1:])
