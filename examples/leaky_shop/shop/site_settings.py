"""Settings that the staff may change: texts of the footer pages, limits.

One session for the whole process, made at import, with a lock around it, since sessions are not thread-safe. So no
two threads ever use it at once, and yet every request reads inside the transaction that another one began.
"""

import threading

import sqlalchemy as sa
import sqlalchemy.orm as orm

from .models import Setting

_session = orm.Session()
_lock = threading.Lock()


def bind(engine: sa.Engine) -> None:
    _session.bind = engine


def get(key: str) -> str:
    with _lock:
        query = sa.select(Setting.value).where(Setting.key == key)
        return _session.scalar(query) or ""  # SW301 session-outside-scope: a request in another's transaction


def put(key: str, value: str) -> None:
    with _lock:
        _session.merge(Setting(key=key, value=value))
        _session.commit()
