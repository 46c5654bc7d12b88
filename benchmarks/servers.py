"""The databases of the benchmarks: those of the tests."""

from __future__ import annotations

import contextlib
import sys
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests import databases as disposable


class Database(t.NamedTuple):
    """A kind of database."""

    name: str
    #: Makes an empty one and returns its URL, or nothing where the process makes a file of its own.
    create: t.Callable[[], str]


@contextlib.contextmanager
def databases(names: Iterable[str]) -> Iterator[list[Database]]:
    """Give the databases that can be had; whatever was made in them is dropped in the end."""
    with contextlib.ExitStack() as stack:
        found = [_database(name, stack) for name in names]
        yield [each for each in found if each is not None]


def _database(name: str, stack: contextlib.ExitStack) -> Database | None:
    if name == "sqlite":
        return Database(name, lambda: "")
    try:
        server = stack.enter_context(disposable.SERVERS[name]())
    except (disposable.Unavailable, KeyError) as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return None

    def create() -> str:
        url = server.create()
        stack.callback(server.drop, url)
        return url

    return Database(name, create)
