"""Know a Session by the number that SQLAlchemy gives it, which no other Session of the process ever has."""

from __future__ import annotations

import typing as t
import weakref

from sqlalchemy import orm

#: SQLAlchemy's own register of the Sessions that are alive.
_known: t.Any = getattr(orm.session, "_sessions", None)
#: Whether there is none, so that one has to be kept here.
UNKNOWN = _known is None
_sessions: t.MutableMapping[int, t.Any] = weakref.WeakValueDictionary() if UNKNOWN else _known


def session_of(key: int) -> t.Any:
    """Return the Session with the number *key*, or None when it is gone."""
    return _sessions.get(key)


def remember(session: t.Any) -> None:
    """Enter *session*; needed only where SQLAlchemy does not do it."""
    _sessions[session.hash_key] = session


def next_session_number() -> int:
    """Return a number that is above that of every Session which exists; 0 where SQLAlchemy does not count them."""
    count = getattr(orm.session, "_new_sessionid", None)
    return 0 if count is None else int(count())
