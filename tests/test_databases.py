"""The tests' own databases: empty, disposable, and gone afterwards."""

import psycopg
import pytest
import sqlalchemy as sa

from tests import databases
from tests.conftest import Servers


def test_database_is_empty(database_url: str) -> None:
    """What a test gets has no tables."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    assert sa.inspect(engine).get_table_names() == []


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb"])
def test_drop_in_use(servers: Servers, name: str) -> None:
    """A database can be dropped while a leaked connection still holds a lock in it."""
    server = servers.get(name)
    url = server.create()
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE leak (id INTEGER)"))
    leak = engine.connect()
    leak.execute(sa.text("SELECT * FROM leak"))
    server.drop(url)
    leak.invalidate()
    leak.close()


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb"])
def test_dropped_is_gone(servers: Servers, name: str) -> None:
    """Whoever gets a database after it was dropped finds nothing in it."""
    server = servers.get(name)
    for _ in range(2):
        url = server.create()
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE page (id INTEGER)"))
        server.drop(url)


def test_unreachable_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was named on purpose is not replaced by another one."""
    monkeypatch.setenv("SESSIONWATCH_TEST_POSTGRES", "postgresql://someone:secret@127.0.0.1:1/none")
    with pytest.raises(RuntimeError, match="does not answer") as caught, databases.postgresql():
        pass
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.Error)
