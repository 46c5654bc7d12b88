"""What drivers know of their connections, asked without a word to the server."""

import typing as t
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from flask_sessionwatch.observe import driver

OWN_NUMBER = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
DRIVERS = ["postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql"]


@pytest.fixture(params=DRIVERS)
def connection(request: pytest.FixtureRequest) -> t.Iterator[sa.Connection]:
    """A connection by each driver in turn."""
    kind = "mariadb" if "mysql" in request.param else "postgresql"
    url = sa.make_url(request.getfixturevalue(f"{kind}_url")).set(drivername=request.param)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_server_id(connection: sa.Connection) -> None:
    """A connection has the number under which its server lists it."""
    dialect = connection.dialect.name
    number = driver.server_id(connection.connection.dbapi_connection, dialect)
    assert number == connection.scalar(sa.text(OWN_NUMBER[dialect]))


def test_server_id_of_others(sqlite_url: str) -> None:
    """SQLite has no server, and a driver that is not known tells nothing."""
    engine = sa.create_engine(sqlite_url)
    with engine.connect() as sqlite:
        assert driver.server_id(sqlite.connection.dbapi_connection, "sqlite") is None
        assert driver.server_id(sqlite.connection.dbapi_connection, "postgresql") is None
        assert driver.server_id(None, "mysql") is None
    engine.dispose()
    assert driver.server_id(SimpleNamespace(connection_id=7), "mariadb") == 7
    assert driver.server_id(SimpleNamespace(connection_id="7"), "mysql") is None
    assert driver.server_id(SimpleNamespace(connection_id=0), "mysql") is None


def test_names() -> None:
    """A number is called what its server calls it."""
    assert driver.named_on_server(7, "postgresql") == "PostgreSQL backend 7"
    assert driver.named_on_server(7, "mariadb") == "MySQL connection 7"
    assert [driver.server_id_key(each) for each in ("postgresql", "mysql")] == ["server_pid", "connection_id"]


@pytest.mark.parametrize("drivername", DRIVERS[:2])
def test_has_failed(postgresql_url: str, drivername: str) -> None:
    """PostgreSQL's drivers know whether a transaction takes nothing but a rollback."""
    engine = sa.create_engine(sa.make_url(postgresql_url).set(drivername=drivername))
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert driver.has_failed(raw) is False
        assert driver.is_in_transaction(raw) is False
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(sa.text("SELECT nothing"))
        assert driver.has_failed(raw) is True
        assert driver.is_in_transaction(raw) is True
        connection.rollback()
        assert driver.has_failed(raw) is False
        connection.invalidate()
    assert driver.has_failed(raw) is None
    assert driver.is_in_transaction(raw) is None
    engine.dispose()


def test_has_failed_elsewhere(sqlite_url: str) -> None:
    """Other drivers do not tell, and neither does one that is gone."""
    engine = sa.create_engine(sqlite_url)
    with engine.connect() as connection:
        assert driver.has_failed(connection.connection.dbapi_connection) is None
    engine.dispose()
    assert driver.has_failed(None) is None
