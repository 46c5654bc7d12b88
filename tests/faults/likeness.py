"""What a case of the zoo was seen to do from outside of it: whatever its users, its database or its log might notice.

What several threads do at once comes in any order, so all of it is counted, not listed.
"""

import collections
import gc
import hashlib
import re
import sqlite3
import sys
import threading
import typing as t
import warnings

import sqlalchemy as sa
from flask.testing import FlaskClient
from sqlalchemy import event

_ADDRESS = re.compile("0x[0-9a-f]+")
_POOL_EVENTS = ("connect", "checkout", "checkin", "reset", "invalidate", "detach", "close", "close_detached")


class Likeness:
    """Looks on while a case runs.

    :param url: its database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self._engines: list[sa.Engine] = []
        self._listen()
        self._follow_answers()
        threading.excepthook = lambda args: self._count("thread", args.exc_value)
        sys.unraisablehook = lambda args: self._count("unraisable", type(args.exc_value).__name__)
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *rest, **more: self._count(
            "warnings", f"{category.__name__} {message}"
        )

    def _count(self, kind: str, what: object) -> None:
        text = what if isinstance(what, str) else repr(what)
        self._counts[kind][_ADDRESS.sub("0x", text)] += 1

    def _listen(self) -> None:
        for name in _POOL_EVENTS:
            event.listen(sa.Pool, name, lambda *args, name=name: self._count("pool", name))
        event.listen(sa.Engine, "before_cursor_execute", lambda *args: self._count("statements", args[2]))
        for name in ("begin", "commit", "rollback", "savepoint"):
            event.listen(sa.Engine, name, lambda *args, name=name: self._count("statements", name))
        event.listen(sa.Engine, "engine_connect", lambda connection: self._meet(connection.engine))

    def _meet(self, engine: sa.Engine) -> None:
        if not any(each is engine for each in self._engines):
            self._engines.append(engine)

    def _follow_answers(self) -> None:
        ask = FlaskClient.open

        def asked(client: FlaskClient, *args: t.Any, **options: t.Any) -> t.Any:
            try:
                answer = ask(client, *args, **options)
            except BaseException as error:
                self._count("answers", error)
                raise
            body = hashlib.sha256(b"" if answer.is_streamed else answer.data).hexdigest()
            self._count("answers", f"{args[:1]} {answer.status} {answer.headers} {body}")
            return answer

        setattr(FlaskClient, "open", asked)  # noqa: B010, its type says more than is needed

    def draw(self) -> dict[str, t.Any]:
        """Return all that was seen, and how things stand, as plain data."""
        gc.collect()
        gc.collect()
        return {
            **{kind: dict(sorted(counts.items())) for kind, counts in self._counts.items()},
            "pools": [_ADDRESS.sub("0x", each.pool.status()) for each in self._engines],
            "rows": self._rows(),
        }

    def _rows(self) -> object:
        connection = sqlite3.connect(sa.make_url(self._url).database or "", timeout=0.1)
        try:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            return {
                name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}")))
                for (name,) in tables.fetchall()
            }
        except sqlite3.OperationalError as error:  # somebody holds a lock still
            return str(error)
        finally:
            connection.close()
