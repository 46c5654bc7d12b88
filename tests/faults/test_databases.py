"""A database that fails: what is told is true, nothing stays in the ledger, and the next request is as healthy as ever."""

import contextlib
import gc
import selectors
import socket
import threading
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import extension
from tests import databases
from tests.conftest import Servers
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import until
from tests.rules.conftest import world_of

#: How each server is told what it is to do here, by the name of its dialect.
NUMBER = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
END = {"postgresql": "SELECT pg_terminate_backend(:number)", "mysql": "KILL :number"}
IS_THERE = {
    "postgresql": "SELECT 1 FROM pg_stat_activity WHERE pid = :number",
    "mysql": "SELECT 1 FROM information_schema.processlist WHERE id = :number",
}
SHORT_IDLE = {
    "postgresql": "SET idle_in_transaction_session_timeout = '100ms'",
    "mysql": "SET SESSION idle_transaction_timeout = 1",
}
SHORT_LOCK = {"postgresql": "SET lock_timeout = '50ms'", "mysql": "SET SESSION innodb_lock_wait_timeout = 1"}
SHORT_STATEMENT = {
    "postgresql": "SET statement_timeout = '50ms'",
    "mysql": "SET SESSION max_statement_time = 0.05",
}
SLEEP = {"postgresql": "SELECT pg_sleep(5)", "mysql": "SELECT SLEEP(5)"}


class Broken:
    """A world, and what can be done to its server.

    :param world: the application under watch.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.dialect = world.engine.dialect.name

    def tell_server(self, statements: dict[str, str], **values: t.Any) -> t.Any:
        """Run a statement on a connection of nobody's."""
        engine = sa.create_engine(self.world.url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            return connection.execute(sa.text(statements[self.dialect]), values).scalar()

    def number(self, session: orm.Session) -> int:
        """Return by which number the server knows a session's connection."""
        return int(session.scalar(sa.text(NUMBER[self.dialect])))

    def end(self, number: int) -> None:
        """Let the server end a connection, and wait until it has."""
        engine = sa.create_engine(self.world.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(END[self.dialect].replace(":number", str(number))))
        self.wait_for_end(number)

    def wait_for_end(self, number: int) -> None:
        """Wait until the server knows a connection no more."""
        until(lambda: self.tell_server(IS_THERE, number=number) is None)

    def limited(self, statements: dict[str, str]) -> sa.Engine:
        """Make an engine whose connections begin with a setting."""
        engine = self.world.make_engine()

        @sa.event.listens_for(engine, "connect")
        def limit(connection: t.Any, record: object) -> None:
            with contextlib.closing(connection.cursor()) as cursor:
                cursor.execute(statements[self.dialect])
            connection.commit()

        return engine

    def is_clean(self) -> None:
        """See that nothing is left, neither in the ledger nor in a pool, and that a request finds all in order."""
        self.world.ticks()
        ledger = extension._process.ledger
        assert not ledger.checkouts
        assert not ledger.transactions
        assert not ledger.waiting
        for engine in self.world._engines:
            assert t.cast("sa.QueuePool", engine.pool).checkedout() == 0
        assert self.world.metric("sessionwatch_sessions_open") == 0
        assert self.world.metric("sessionwatch_leaked_sessions") == 0
        assert all(
            each.resolved for each in self.world.watch.findings if each.code in ("SW103", "SW203", "SW603")
        )
        before = self.world.heard
        with self.world.watch.scope("afterwards"), orm.Session(self.world.engine) as session:
            session.add(Item(name="afterwards"))
            session.commit()
        self.world.ticks()
        assert self.world.heard == before
        assert "afterwards" in self.world.names()


@pytest.fixture(params=["postgresql", "postgresql_psycopg2", "mariadb"])
def broken(request: pytest.FixtureRequest) -> t.Iterator[Broken]:
    """A watched application on each server that can fail, by each driver."""
    with world_of(request.getfixturevalue(f"{request.param}_url")) as world:
        yield Broken(world)


def test_ended_in_the_pool(broken: Broken) -> None:
    """SW107: a connection that the server ended while nobody used it costs one request, which is told, and nothing else."""
    world = broken.world

    @world.view()
    def read() -> str:
        with orm.Session(world.engine) as session:
            return str(session.scalar(sa.select(Item.name)))

    with orm.Session(world.engine) as session:
        number = broken.number(session)
    broken.end(number)
    assert world.open().status_code == 500
    assert world.open().status_code == 200
    world.only("SW107")
    broken.is_clean()


def test_ended_in_the_middle(broken: Broken) -> None:
    """A connection that the server ends in the middle of a transaction: the request fails, and nobody is to blame."""
    world = broken.world

    @world.view()
    def write() -> str:
        with orm.Session(world.engine) as session:
            session.add(Item(name="lost with its connection"))
            session.flush()
            broken.end(broken.number(session))
            session.commit()
        return "ok"

    assert world.open().status_code == 500
    assert world.heard == []
    assert world.names() == ["ann", "bob"]
    broken.is_clean()


def test_ended_and_tried_again(broken: Broken) -> None:
    """Who rolls back and tries again has done right."""
    world = broken.world

    @world.view()
    def write() -> str:
        with orm.Session(world.engine) as session:
            session.add(Item(name="at last"))
            session.flush()
            broken.end(broken.number(session))
            try:
                session.commit()
            except sa.exc.DBAPIError:
                session.rollback()
                session.add(Item(name="at last"))
                session.commit()
        return "ok"

    assert world.open().status_code == 200
    assert world.heard == []
    assert world.names() == ["ann", "bob", "at last"]
    broken.is_clean()


def test_ended_and_swallowed(broken: Broken) -> None:
    """SW204: a request that answers well although the connection took its writes away has lost them."""
    world = broken.world

    @world.view()
    def write() -> str:
        with orm.Session(world.engine) as session:
            session.add(Item(name="lost in silence"))
            session.flush()
            broken.end(broken.number(session))
            with contextlib.suppress(sa.exc.DBAPIError):
                session.commit()
        return "ok"

    assert world.open().status_code == 200
    assert world.names() == ["ann", "bob"]
    assert {finding.code for finding in world.watch.findings} == {"SW204"}
    broken.is_clean()


def test_idle_in_transaction_timeout(broken: Broken) -> None:
    """SW203: an idle transaction is told while its server still waits, and resolved once that has ended it."""
    world = broken.world
    engine = broken.limited(SHORT_IDLE)
    with world.watch.scope("import"), orm.Session(engine) as session:
        number = broken.number(session)
        session.add(Item(name="too late"))
        session.flush()
        world.tick_after(61)
        assert not world.only("SW203").resolved
        broken.wait_for_end(number)
        with pytest.raises(sa.exc.DBAPIError):
            session.execute(sa.select(Item.id))
        session.rollback()
    world.ticks()
    assert world.only("SW203").resolved
    assert world.names() == ["ann", "bob"]
    broken.is_clean()


LIMITS = {"lock": SHORT_LOCK, "statement": SHORT_STATEMENT}


def run_into(broken: Broken, limit: str, session: orm.Session) -> None:
    """Run a statement that takes longer than is allowed."""
    if limit == "lock":
        session.execute(sa.update(Item).where(Item.id == 1).values(hits=1))
    else:
        session.execute(sa.text(SLEEP[broken.dialect]))


@contextlib.contextmanager
def locked(broken: Broken, limit: str) -> t.Iterator[None]:
    """Hold the lock that is waited for in vain, where that is what the test is about."""
    with orm.Session(broken.world.engine) as session:
        if limit == "lock":
            session.execute(sa.update(Item).where(Item.id == 1).values(hits=2))
        yield
        session.rollback()


@pytest.mark.parametrize("limit", LIMITS)
def test_time_out(broken: Broken, limit: str) -> None:
    """A time-out of a statement, or of a lock it waits for, that fails its request is nobody's mistake."""
    world = broken.world
    engine = broken.limited(LIMITS[limit])

    @world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.execute(sa.select(Item.id))
            run_into(broken, limit, session)
            session.commit()
        return "ok"

    with world.watch.scope("beside"), locked(broken, limit):
        assert world.open().status_code == 500
    assert world.heard == []
    broken.is_clean()


@pytest.mark.parametrize("limit", LIMITS)
def test_time_out_swallowed(broken: Broken, limit: str) -> None:
    """SW205: committing after such an error is told, whether it is refused in silence or saves the rest of the work."""
    world = broken.world
    engine = broken.limited(LIMITS[limit])

    @world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.add(Item(name="before"))
            session.flush()
            with contextlib.suppress(sa.exc.DBAPIError):
                run_into(broken, limit, session)
            session.commit()
        return "ok"

    with world.watch.scope("beside"), locked(broken, limit):
        assert world.open().status_code == 200
    world.only("SW205")
    saved = {"postgresql": [], "mysql": ["before"]}
    assert world.names() == ["ann", "bob", *saved[broken.dialect]]
    broken.is_clean()


# A server that goes away


@pytest.fixture(params=["postgresql", "mariadb"])
def private(request: pytest.FixtureRequest) -> t.Iterator[databases.Private]:
    """A server that nobody else uses."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(databases.private(request.param))
        except databases.Unavailable as error:
            Servers.refuse(str(error))
        yield server


# PyMySQL leaves the socket of a connection that broke to the collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_restart(private: databases.Private) -> None:
    """A server that breaks down in the middle of transactions fails them, and those that come while it is away; no more."""
    with world_of(private.server.create()) as world:
        broken = Broken(world)
        world.app.logger.disabled = True  # pytest would keep the tracebacks, and they the sockets
        ready, broke_down = threading.Barrier(4), threading.Event()

        @world.view(rule="/write/<name>")
        def write(name: str) -> str:
            with orm.Session(world.engine) as session:
                session.add(Item(name=name))
                session.flush()
                ready.wait()
                broke_down.wait()
                session.commit()
            return "ok"

        @world.view(rule="/read")
        def read() -> str:
            with orm.Session(world.engine) as session:
                return str(session.scalar(sa.select(Item.name)))

        statuses: list[int] = []
        crew = [
            threading.Thread(target=lambda n=n: statuses.append(world.open(f"/write/{n}").status_code))
            for n in range(3)
        ]
        for thread in crew:
            thread.start()
        ready.wait()
        private.break_down()
        broke_down.set()
        for thread in crew:
            thread.join()
        statuses += [world.open("/read").status_code for _ in range(3)]
        assert statuses == [500] * 6
        private.start()
        assert world.open("/read").status_code == 200
        assert world.heard == []
        assert world.names() == ["ann", "bob"]
        broken.is_clean()
    gc.collect()


# A network that stalls


class Proxy:
    """Hands on what a client and its server say to each other, until it is told to stop.

    :param server: where the server is: an address, or the path of a socket.
    """

    def __init__(self, server: tuple[str, int] | str) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._flows = threading.Event()
        self._flows.set()
        self._over = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stall(self) -> None:
        """Let nothing pass any more."""
        self._flows.clear()

    def resume(self) -> None:
        """Let everything pass again, what waits included."""
        self._flows.set()

    def close(self) -> None:
        """Hang up."""
        self._over = True
        self.resume()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            t.cast("socket.socket", key.fileobj).close()
        self._selector.close()

    def _run(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.02):
                self._flows.wait()
                self._serve(t.cast("socket.socket", key.fileobj), key.data)

    def _serve(self, source: socket.socket, target: socket.socket | None) -> None:
        if target is None:
            self._accept()
            return
        with contextlib.suppress(OSError):
            data = source.recv(65_536)
            if data:
                target.sendall(data)
                return
        for each in (source, target):
            self._selector.unregister(each)
            each.close()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if isinstance(self._server, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
        else:
            server = socket.create_connection(self._server)
        self._selector.register(client, selectors.EVENT_READ, server)
        self._selector.register(server, selectors.EVENT_READ, client)


def address(url: sa.URL) -> tuple[str, int] | str:
    """Return where the server of *url* listens."""
    if "unix_socket" in url.query:
        return str(url.query["unix_socket"])
    if "host" in url.query:
        return str(Path(str(url.query["host"])) / ".s.PGSQL.5432")
    return str(url.host), url.port or (3306 if url.drivername.startswith("mysql") else 5432)


@pytest.fixture
def proxy(broken: Broken) -> t.Iterator[Proxy]:
    proxy = Proxy(address(sa.make_url(broken.world.url)))
    yield proxy
    proxy.close()


def through(broken: Broken, port: int, **options: t.Any) -> sa.Engine:
    """Make an engine that speaks to its server by a port of this host."""
    url = sa.make_url(broken.world.url)
    query = {key: value for key, value in url.query.items() if key not in ("unix_socket", "host")}
    url = url.set(host="127.0.0.1", port=port, query=query)
    return broken.world.make_engine(url.render_as_string(hide_password=False), max_overflow=0, **options)


def test_network_stalls(broken: Broken, proxy: Proxy) -> None:
    """SW103, SW601: who waits for an answer is not idle, and holds on to its connection; when it comes, all is resolved."""
    world = broken.world
    engine = through(broken, proxy.port, pool_size=1, pool_timeout=0.5)
    ready, stalled = threading.Event(), threading.Event()

    @world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            session.add(Item(name="in the end"))
            session.flush()
            ready.set()
            stalled.wait()
            session.execute(sa.select(Item.id))
            session.commit()
        return "ok"

    with beginning(world, ready):
        proxy.stall()
        stalled.set()
        try:
            until(lambda: any(each.statements > 1 for each in extension._process.ledger.checkouts))
            with world.watch.scope("another"), pytest.raises(sa.exc.TimeoutError):
                engine.connect()
            world.tick_after(61)
            told = {finding.code: finding for finding in world.watch.findings}
            assert set(told) - {"SW602"} == {"SW103", "SW207", "SW601"}
            assert told["SW103"].details["doing"] == "running a statement"
            assert not told["SW103"].resolved
        finally:
            proxy.resume()
    assert "in the end" in world.names()
    broken.is_clean()


@contextlib.contextmanager
def beginning(world: World, ready: threading.Event) -> t.Iterator[None]:
    """Begin a request, and see at the end of the block that it succeeds."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(world.open().status_code))
    thread.start()
    assert ready.wait(20)
    try:
        yield
    finally:
        thread.join()
    assert statuses == [200]


#: How long each driver waits for a server that says nothing.
PATIENCE = {"postgresql": {"connect_timeout": 2}, "mysql": {"connect_timeout": 2, "read_timeout": 2}}


@pytest.mark.parametrize("way", ["refused", "silent"])
def test_server_away(broken: Broken, proxy: Proxy, way: str) -> None:
    """A server that cannot be connected to fails the request, and leaves nothing behind."""
    world = broken.world
    port = proxy.port
    if way == "refused":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
    else:
        proxy.stall()
    engine = through(broken, port, pool_size=1, connect_args=PATIENCE[broken.dialect])

    @world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            return str(session.scalar(sa.select(Item.name)))

    assert world.open().status_code == 500
    assert world.heard == []
    broken.is_clean()
