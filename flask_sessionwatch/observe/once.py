"""Attributes that are computed once, when they are first asked for."""

from __future__ import annotations

import typing as t

T = t.TypeVar("T")


class Once(t.Generic[T]):
    """What ``functools.cached_property`` is from Python 3.12 on.

    Before, that has a lock, for all instances together: a child that is forked while another thread has it waits for ever.

    :param compute: answers the value; two threads that ask at once may both compute it.
    """

    def __init__(self, compute: t.Callable[[t.Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: t.Any, owner: type | None = None) -> T:
        value: T = self._compute(instance)
        vars(instance)[self._name] = value
        return value
