"""What drivers know of their connections. All of it is answered from memory: no network, no lock, no SQL."""

from __future__ import annotations

import sys
import typing as t

#: libpq's PQTRANS_IDLE, PQTRANS_INERROR and PQTRANS_UNKNOWN, which psycopg and psycopg2 share.
_POSTGRES_IDLE = 0
_POSTGRES_IN_ERROR = 3
_POSTGRES_UNKNOWN = 4
#: MySQL's SERVER_STATUS_IN_TRANS and SERVER_STATUS_AUTOCOMMIT.
_MYSQL_IN_TRANSACTION = 1
_MYSQL_AUTOCOMMIT = 2
_MYSQL = ("mysql", "mariadb")
#: Whether sqlite3 has an autocommit beside its isolation level.
_SQLITE_AUTOCOMMITS = sys.version_info >= (3, 12)


def server_id(dbapi_connection: t.Any, dialect: str) -> int | None:
    """Return the number under which the server lists this connection.

    It is the pid of PostgreSQL's backend in pg_stat_activity, or the id in MySQL's process list.
    """
    connection = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    try:
        if dialect == "postgresql":
            number = connection.info.backend_pid
        elif dialect in _MYSQL:
            # mysql-connector and MariaDB's own driver have it as an attribute.
            asked = getattr(connection, "thread_id", None)
            number = asked() if callable(asked) else connection.connection_id
        else:
            return None
    except Exception:  # some other driver
        return None
    return number if isinstance(number, int) and number > 0 else None


def server_id_key(dialect: str) -> str:
    """Return what :func:`server_id` is called in the plain data of a finding."""
    return "server_pid" if dialect == "postgresql" else "connection_id"


def named_on_server(number: int, dialect: str) -> str:
    """Name a connection in the words of its server."""
    return f"PostgreSQL backend {number}" if dialect == "postgresql" else f"MySQL connection {number}"


def has_failed(dbapi_connection: t.Any) -> bool | None:
    """Whether the transaction on *dbapi_connection* takes nothing but a rollback; None where it is not told."""
    status = _postgres_status(dbapi_connection)
    return None if status is None else status == _POSTGRES_IN_ERROR


def driver_autocommits(dbapi_connection: t.Any) -> bool:
    """Whether the driver was told to commit each statement by itself."""
    level = getattr(dbapi_connection, "isolation_level", None)
    if not _SQLITE_AUTOCOMMITS and isinstance(level, str):
        return False  # sqlite3 has no other switch there
    asked = getattr(dbapi_connection, "get_autocommit", None)
    if callable(asked):
        return bool(asked())
    if getattr(dbapi_connection, "autocommit", None) is True:
        return True
    # sqlite3 without an isolation level begins nothing by itself; somebody else may have sent BEGIN.
    return level is None and not getattr(dbapi_connection, "in_transaction", True)


def opens_in_autocommit(dialect: t.Any) -> bool:
    """Whether an engine was made with ``isolation_level="AUTOCOMMIT"``."""
    return getattr(dialect, "_on_connect_isolation_level", None) == "AUTOCOMMIT"


def begins_by_itself(dbapi_connection: t.Any) -> bool:
    """Whether the driver begins a transaction at a write, and only a setting that is made anew can change that."""
    try:
        level = getattr(dbapi_connection, "isolation_level", None)
        if level is None and hasattr(dbapi_connection, "in_transaction"):
            return False  # sqlite3, where somebody may send BEGIN, or may not
        return not driver_autocommits(dbapi_connection)
    except Exception:  # a dead connection
        return False


def is_in_transaction(dbapi_connection: t.Any) -> bool | None:
    """Whether *dbapi_connection* is in a transaction; None where the driver does not tell."""
    status = _postgres_status(dbapi_connection)
    if status is not None:
        return status != _POSTGRES_IDLE
    connection = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    try:
        server_status = getattr(connection, "server_status", None)
        if isinstance(server_status, int):
            return _mysql_in_transaction(server_status)
        # sqlite3 without an isolation level begins nothing by itself.
        by_hand = getattr(connection, "isolation_level", "") is None
        if by_hand or getattr(connection, "autocommit", None) is True:
            return bool(connection.in_transaction)
    except Exception:  # a connection that is being closed meanwhile answers with any error it likes
        return None
    return None


def _postgres_status(dbapi_connection: t.Any) -> int | None:
    connection = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    try:
        status = int(connection.info.transaction_status)
    except Exception:  # another driver, or a connection that is being closed meanwhile
        return None
    return None if status == _POSTGRES_UNKNOWN else status


def _mysql_in_transaction(server_status: int) -> bool | None:
    # PyMySQL reads the status from answers without rows only: after a SELECT it is still the one before.
    if server_status & _MYSQL_IN_TRANSACTION:
        return True
    return False if server_status & _MYSQL_AUTOCOMMIT else None


def cursor_is_closed(cursor: t.Any) -> bool | None:
    """Whether *cursor* was closed; None where the driver does not tell."""
    closed = getattr(cursor, "closed", None)
    if isinstance(closed, (bool, int)):
        return bool(closed)
    # PyMySQL and mysqlclient let go of their connection.
    return cursor.connection is None if hasattr(cursor, "_result") else None
