"""Read which listeners of SQLAlchemy's events the application has registered, and which of them several times.

SQLAlchemy has no public list of its listeners. Its register is read here and nowhere else, never written, and when
it looks different in another version, nothing is found.
"""

from __future__ import annotations

import functools
import os
import types
import typing as t
from collections import Counter
from types import CodeType

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy.event import registry

from .stack import Stacks

_SQLALCHEMY = os.path.join(os.path.dirname(sa.__file__), "")
_PLAIN = (str, bytes, int, float, bool, type(None))
#: Whose objects an application makes once for itself: a closure over another one is the same listener again.
_ONE_PER_APPLICATION = ("flask", "flask_sqlalchemy", "flask_sqlalchemy_lite")
#: Wrappers that SQLAlchemy puts around a listener, one in another.
_DEEPEST = 5
#: How often a listener that may be several has to be registered before it counts as one that multiplies.
_GROWN = 3

_Place: t.TypeAlias = "tuple[int, str, CodeType]"


class Repeated(t.NamedTuple):
    """One listener that is registered several times for one event of one target."""

    identifier: str
    code: CodeType
    times: int


class Listeners:
    """Knows the listeners that are registered, and how many there were at the first look.

    :param stacks: tells the application's functions from those of libraries.
    """

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self._size = -1
        self._first: dict[_Place, int] = {}
        self._repeated: list[Repeated] = []

    def look(self) -> list[Repeated]:
        """Return what is registered several times; cheap as long as nothing was registered since the last look."""
        size = len(registry._key_to_collection)
        if size != self._size:
            self._size = size
            self._repeated = list(self._search())
        return self._repeated

    def _search(self) -> t.Iterator[Repeated]:
        same: dict[_Place, Counter[t.Any]] = {}
        unsure: Counter[_Place] = Counter()
        for target, identifier, listener in _registered():
            code = getattr(_function_of(listener), "__code__", None)
            if code is None or not self._stacks.is_application(code.co_filename):
                continue
            place = target, identifier, code
            held = _held_by(listener)
            if held is None:
                unsure[place] += 1
            else:
                same.setdefault(place, Counter())[held] += 1
        for (_, identifier, code), counts in same.items():
            most = max(counts.values())
            if most > 1:
                yield Repeated(identifier, code, most)
        for place, count in unsure.items():
            # Closures over different things may be meant; but nobody means them to become ever more.
            if count >= max(_GROWN, self._first.setdefault(place, count) + 1):
                yield Repeated(place[1], place[2], count)


def _registered() -> t.Iterator[tuple[int, str, t.Any]]:
    """Yield target, event and function of every listener, each registration once."""
    for key, collections in dict(registry._key_to_collection).items():
        for listener_ref in list(collections.values())[:1]:
            listener = listener_ref()
            if listener is not None:
                yield key[0], key[1], _unwrapped(listener)


def _unwrapped(listener: t.Any) -> t.Any:
    """Return the function that was registered, from within SQLAlchemy's wrappers for it."""
    for _ in range(_DEEPEST):
        code = getattr(listener, "__code__", None)
        if code is None or not code.co_filename.startswith(_SQLALCHEMY):
            break
        cells = dict(zip(code.co_freevars, listener.__closure__ or (), strict=False))
        cell = next((cells[name] for name in ("fn", "orig_fn") if name in cells), None)
        if cell is None or not callable(cell.cell_contents):
            break
        listener = cell.cell_contents
    return listener


def _function_of(listener: t.Any) -> t.Any:
    if isinstance(listener, functools.partial):
        return _function_of(listener.func)
    return listener.__func__ if isinstance(listener, types.MethodType) else listener


def _held_by(listener: t.Any) -> t.Any:
    """Return what a listener works with, so that two that do the same can be told from two that do not; None unsure."""
    held: list[t.Any] = []
    if isinstance(listener, functools.partial):
        held += [*listener.args, *listener.keywords.values()]
        listener = listener.func
    if isinstance(listener, types.MethodType):
        held.append(listener.__self__)
        listener = listener.__func__
    held += [_content(cell) for cell in listener.__closure__ or ()]
    held += [*(listener.__defaults__ or ()), *(listener.__kwdefaults__ or {}).values()]
    marks = [_mark(each) for each in held]
    return None if None in marks else tuple(marks)


def _content(cell: t.Any) -> t.Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _mark(held: t.Any) -> t.Any:
    """Stand for *held*: equal for things that are the same, or the same made again; None where that is unknown."""
    kind = type(held)
    if kind in _PLAIN:
        return kind, held
    if isinstance(held, type):
        return held.__module__, held.__qualname__
    if isinstance(held, types.FunctionType):
        return held.__code__
    if isinstance(held, types.ModuleType):
        return held.__name__
    if any(each.__module__.partition(".")[0] in _ONE_PER_APPLICATION for each in kind.__mro__):
        return kind.__module__, kind.__qualname__
    return None


def is_listening(target: t.Any, identifier: str, listener: t.Any) -> bool:
    """Whether *listener* is registered for an event of *target*."""
    try:
        return listener is not None and event.contains(target, identifier, listener)
    except sa_exc.InvalidRequestError:  # an engine that a test put in the place of one
        return False
