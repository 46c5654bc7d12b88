"""See where the application uses SQLAlchemy's legacy Query.

Query has an event of its own, which costs nothing where no Query runs. Only its ``get()`` has none.
"""

from __future__ import annotations

import functools
import os
import sys
import typing as t
from types import CodeType
from types import FrameType

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import orm

from .ledger import Ledger

_SQLALCHEMY = os.path.join(os.path.dirname(sa.__file__), "")
_FLASK_SQLALCHEMY = f"{os.sep}flask_sqlalchemy{os.sep}"
_DECORATORS = os.path.join(_SQLALCHEMY, "util", "deprecations.py")
_DYNAMIC = os.path.join(_SQLALCHEMY, "orm", "dynamic.py")
_QUERY = orm.Query.all.__code__.co_filename
#: Frames between a listener and where the ways to it part: behind the methods of Query.
_FORK = 4
#: Lines that are remembered as told.
_LINES_KEPT = 10_000
_EVENTS = ("before_compile", "before_compile_update", "before_compile_delete")


class Queries:
    """Tells once of each line of the application that runs a legacy Query.

    :param ledger: whose stacks know the application's frames.
    :param on_line: told of a query, the method that ran it and the application's frame that called that.
    :param failed: told of an error of our own.
    """

    def __init__(
        self,
        ledger: Ledger,
        on_line: t.Callable[[t.Any, str, FrameType], None],
        failed: t.Callable[[str], None],
    ) -> None:
        self._stacks = ledger.stacks
        self._on_line = on_line
        self._failed = failed
        self._told: set[tuple[CodeType, int]] = set()
        self._get: t.Any = None
        self.active: bool = False

    def attach(self) -> None:
        """Start to listen, and to tell of every line anew."""
        self._told.clear()
        self.active = True
        for name in _EVENTS:
            # Returning None leaves the query as it is; bake_ok leaves it as cacheable as it was.
            event.listen(orm.Query, name, self.on_query, retval=True, bake_ok=True)
        self._wrap_get()

    def detach(self) -> None:
        """Remove the listeners."""
        self.active = False
        for name in _EVENTS:
            if event.contains(orm.Query, name, self.on_query):
                event.remove(orm.Query, name, self.on_query)
        if self._get is not None and getattr(orm.Query._get_impl, "__wrapped__", None) is self._get:
            orm.Query._get_impl = self._get  # type: ignore[assignment,method-assign]
        self._get = None

    def _wrap_get(self) -> None:
        """Wrap what is behind ``Query.get()``; the method itself warns of the line that calls it."""
        original = self._get = getattr(orm.Query, "_get_impl", None)
        if original is None:
            return
        queries = self

        @functools.wraps(original)
        def _get_impl(query: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
            if queries.active and queries._get is original:
                queries.on_query(query)
            return original(query, *args, **kwargs)

        orm.Query._get_impl = _get_impl  # type: ignore[assignment,method-assign]

    def on_query(self, query: t.Any, update_context: t.Any = None) -> None:
        """Note which line runs *query*, unless it is known."""
        if not self.active:
            return
        try:
            frame = self._stacks.application_frame(_FORK, id(type(query)))
            if frame is None:
                return
            line = (frame.f_code, frame.f_lasti)
            if line in self._told:
                return
            if len(self._told) >= _LINES_KEPT:
                self._told.clear()
            self._told.add(line)
            method = _method_called_by(frame, sys._getframe(1))
            if method is not None:
                self._on_line(query, method, frame)
        except Exception:
            self._failed("before_compile")


def _method_called_by(application: FrameType, frame: FrameType | None) -> str | None:
    """Return the method of Query that the application itself called; None where a library came in between.

    SQLAlchemy makes a Query of its own for ``subqueryload()``; the application called no Query there.
    """
    method = entered = ""
    while frame is not None and frame is not application:
        filename = frame.f_code.co_filename
        if filename.startswith(_SQLALCHEMY):
            entered = filename
        elif entered and _FLASK_SQLALCHEMY not in filename and not filename.startswith("<"):
            return None
        if filename == _DYNAMIC:
            return None
        # Deprecated methods are called through a decorator, whose code has no file.
        if filename != _DECORATORS:
            method = frame.f_code.co_name
        frame = frame.f_back
    return method if entered in (_QUERY, _DECORATORS) else None
