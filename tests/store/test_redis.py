"""The store on a server: its keys, its secrets, and what goes wrong with it."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
import redis

from flask_sessionwatch.settings import ConfigError
from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store import redis as redis_module
from flask_sessionwatch.store.base import FOLD_ABOVE
from flask_sessionwatch.store.base import FOLD_AFTER
from flask_sessionwatch.store.base import FOLDED
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import SCOPES
from flask_sessionwatch.store.opening import open_to_read
from flask_sessionwatch.store.redis import RedisStore
from tests import redis_servers
from tests.redis_servers import Server
from tests.store.conftest import document
from tests.store.conftest import report
from tests.store.conftest import worker

SECRET = "p@ss/wörd:?#"
QUOTED = "p%40ss%2Fw%C3%B6rd%3A%3F%23"


@pytest.fixture
def store(redis_url: str) -> t.Iterator[RedisStore]:
    store = RedisStore(redis_url)
    yield store
    store.close()


@pytest.fixture
def server() -> t.Iterator[Server]:
    """A server that the test may stop."""
    with redis_servers.running() as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up soon."""
    monkeypatch.setitem(redis_module._OPTIONS, "socket_timeout", 0.5)
    monkeypatch.setitem(redis_module._OPTIONS, "socket_connect_timeout", 0.5)


def works(store: RedisStore) -> bool:
    """Whether something can be published and read again."""
    mine = worker()
    store.publish(mine, {LIVE: document()}, [report()])
    return mine in [each.worker for each in store.live()] and len(store.findings()) == 1


def fails(store: RedisStore, why: str) -> bool:
    """Whether nothing can be published nor read."""
    for use in (lambda: store.publish(worker(), {LIVE: document()}, []), store.live, store.findings):
        with pytest.raises(StoreError, match=why):
            use()
    return True


# Reading again


def test_what_has_not_changed_is_not_decoded_again(redis_url: str, store: RedisStore) -> None:
    """Whoever reads again and again decodes what was published since, and keeps nothing of who is gone."""
    one, other = worker(), worker()
    reading = open_to_read(redis_url)
    store.publish(one, {LIVE: document(engines=[])}, [])
    store.publish(other, {LIVE: document(engines=[])}, [])
    first = {each.worker: each for each in reading.documents(LIVE)}
    store.publish(other, {LIVE: document(engines=[1])}, [])
    later = {each.worker: each for each in reading.documents(LIVE)}
    assert later[one] is first[one]
    assert later[other].body == {"engines": [1]}
    store.leave(one)
    assert [each.worker for each in reading.documents(LIVE)] == [other]
    assert len(t.cast(RedisStore, reading)._read[LIVE]) == 1
    reading.close()


def test_a_worker_keeps_nothing(store: RedisStore) -> None:
    """A process of the application has no room for what all the others have published."""
    store.publish(worker(), {LIVE: document(engines=[])}, [])
    assert store.documents(LIVE)[0] is not store.documents(LIVE)[0]
    assert store._read == {}


# Keys


def test_keys(redis_server: Server) -> None:
    """Every key names the service, is in the same slot as all others, and expires."""
    store = RedisStore(f"{redis_server.url}?namespace=shop")
    mine = worker()
    store.publish(mine, {LIVE: document(), SCOPES: document()}, [report()])
    store.prune()
    with redis_server.client(decode_responses=True) as client:
        keys = sorted(client.keys("*shop*"))
        assert len(keys) == 8
        assert all(key.startswith("{sessionwatch:shop}:") for key in keys)
        assert all(client.pttl(key) > 0 for key in keys)
    store.close()


def test_namespaces(redis_server: Server) -> None:
    """Services that share a server do not see each other."""
    shop, blog = (RedisStore(f"{redis_server.url}?namespace={name}") for name in ("one", "two"))
    shop.publish(worker(), {LIVE: document()}, [report()])
    assert (blog.live(), blog.findings()) == ([], [])
    assert works(blog)
    for each in (shop, blog):
        each.close()


def test_options_of_the_package(redis_server: Server) -> None:
    """Other options of the URL go to the package redis."""
    store = RedisStore(f"{redis_server.url}?namespace=options&health_check_interval=7")
    assert works(store)
    assert store._client.connection_pool.connection_kwargs["health_check_interval"] == 7
    store.close()


def test_workers_that_are_long_gone_are_added_together(store: RedisStore) -> None:
    """Of a finding that very many workers saw, those that are gone for long are one; the sum stays the same."""
    old = time.time() - FOLD_AFTER - 60
    alive, silent = worker(), worker()
    store.publish(alive, {LIVE: document()}, [report(count=1000, first=old, last=old, resolved=True)])
    store.publish(silent, {}, [report(count=100)])
    for _ in range(2 * FOLD_ABOVE):
        store.publish(worker(), {}, [report(count=1, first=old - 5, last=old)])
    for _ in range(2):
        with store._using() as client:
            client.delete(store._key("pruned"))
        store.prune()
        (finding,) = store.findings()
        assert set(finding.sightings) == {alive.id, silent.id, FOLDED}
        folded = finding.sightings[FOLDED]
        assert [folded.occurrences, folded.resolved, folded.known] == [2 * FOLD_ABOVE, False, False]
        assert [folded.first_seen, folded.last_seen] == [old - 5, old]


def test_one_worker_prunes_for_all(store: RedisStore) -> None:
    """Of many workers one prunes, and the next one only after a while."""
    old = report("old", last=1.0)
    store.prune()
    store.publish(worker(), {}, [old])
    store.prune()
    assert [each.fingerprint for each in store.findings()] == ["old"]


# Secrets


def test_password() -> None:
    """A password comes with the URL, and is never shown; neither when it is right nor when it is wrong."""
    with redis_servers.running("--requirepass", SECRET) as server:
        store = RedisStore(f"redis://:{QUOTED}@127.0.0.1:{server.port}/0")
        assert works(store)
        store.close()
        wrong = RedisStore(f"redis://somebody:{QUOTED}x@127.0.0.1:{server.port}/0")
        with pytest.raises(StoreError, match="invalid username-password") as caught:
            wrong.live()
        wrong.close()
    for shown in (repr(store), repr(wrong), str(caught.value), repr(caught.value)):
        assert SECRET not in shown
        assert QUOTED not in shown
    assert caught.value.__cause__ is None


def test_password_in_an_error(store: RedisStore) -> None:
    """Whatever an error says, the password is taken out of it."""
    store._secrets = [SECRET, QUOTED]
    for shown in (SECRET, QUOTED):
        with pytest.raises(StoreError, match=r"cannot use '\*\*\*'"), store._using():
            raise redis.RedisError(f"cannot use '{shown}'")


@pytest.mark.parametrize(
    "url", ["redis://:hidden@host:port/0", "redis://:hidden@[::1/0", "redis://:hidden@host/0?db=x"]
)
def test_url_that_makes_no_sense(url: str) -> None:
    """A URL that cannot be read is an error that does not repeat it."""
    with pytest.raises(ConfigError, match="'SESSIONWATCH_STORE'") as caught:
        open_store(url)
    assert "hidden" not in str(caught.value)


def test_without_the_package() -> None:
    """Without the package redis it is said how to get it."""
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from flask_sessionwatch.store import open_store\n"
        "try: open_store('redis://:hidden@host')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ConfigError" in done.stdout
    assert "pip install 'flask-sessionwatch[redis]'" in done.stdout
    assert "hidden" not in done.stdout + done.stderr


def test_tls(tmp_path: Path) -> None:
    """With rediss:// the server is spoken to by TLS, and has to prove who it is."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request: list[t.Any] = ["-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, "req", *request, *subject], check=True, capture_output=True)
    tls_port = redis_servers.free_port()
    files = [
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        str(key),
        "--tls-ca-cert-file",
        str(certificate),
    ]
    options = ["--tls-port", str(tls_port), "--tls-auth-clients", "no", *files]
    if not redis_servers.speaks_tls():
        pytest.skip("this server was built without TLS")
    with redis_servers.running(*options):
        trusting = RedisStore(f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate}")
        assert works(trusting)
        suspicious = RedisStore(f"rediss://127.0.0.1:{tls_port}/0")
        with pytest.raises(StoreError, match="certificate verify failed"):
            suspicious.live()
        for each in (trusting, suspicious):
            each.close()


# Failures


@pytest.mark.parametrize("query", ["", "?cluster=true"])
def test_absent(query: str) -> None:
    """Where nobody listens nothing can be published or read."""
    store = RedisStore(f"redis://127.0.0.1:{redis_servers.free_port()}/0{query}")
    assert fails(store, "127.0.0.1")
    store.close()


@pytest.mark.usefixtures("impatient")
def test_silent(server: Server) -> None:
    """A server that does not answer is given up, and used again when it does."""
    store = RedisStore(server.url)
    assert works(store)
    server.pause()
    assert fails(store, "[Tt]imeout|timed out")
    server.resume()
    assert works(store)
    store.close()


def test_restarted(server: Server) -> None:
    """A server that was restarted has lost everything, and takes new things at once."""
    store = RedisStore(server.url)
    assert works(store)
    server.kill()
    assert fails(store, "127.0.0.1")
    server.start()
    assert store.findings() == []
    assert works(store)
    store.close()


def test_full() -> None:
    """A server that has no room and may drop nothing refuses what is published; what it has can be read."""
    with redis_servers.running("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        store = RedisStore(server.url)
        assert works(store)
        _fill(server)
        with pytest.raises(StoreError, match="maxmemory"):
            store.publish(worker(), {}, [report("new", text=os.urandom(100_000).hex())])
        assert [each.fingerprint for each in store.findings()] == ["f1"]
        store.close()


def _fill(server: Server) -> None:
    with contextlib.suppress(redis.RedisError), server.client() as client:
        for number in range(100):
            client.set(f"large {number}", os.urandom(100_000))


def test_evicting() -> None:
    """A server that drops what it likes may lose any key; what is left of a finding is not shown as a whole."""
    with redis_servers.running("--maxmemory", "4mb", "--maxmemory-policy", "allkeys-random") as server:
        store = RedisStore(server.url)
        store.publish(worker(), {LIVE: document()}, [report(f"f{number}") for number in range(50)])
        _fill(server)
        with server.client() as client:
            assert client.info("stats")["evicted_keys"] > 0
        assert all(each.body and each.sightings for each in store.findings())
        assert [each.body for each in store.live()] in ([{}], [])
        assert store.publish(worker(), {}, [report("again")]) >= 1
        assert "again" in {each.fingerprint for each in store.findings()}
        store.close()


def test_replica_that_may_only_be_read(server: Server) -> None:
    """A server that has become a replica refuses what is published; what it has can be read."""
    store = RedisStore(server.url)
    assert works(store)
    with server.client() as client:
        client.replicaof("127.0.0.1", redis_servers.free_port())
    with pytest.raises(StoreError, match="read only"):
        store.publish(worker(), {LIVE: document()}, [])
    assert len(store.findings()) == 1
    store.close()


class Proxy:
    """A network between a client and a server that can be cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        #: How many bytes of answers it lets through before it cuts the connection; None lets all through.
        self.limit: int | None = None
        #: Whether it cuts the connection then, or merely lets nothing more through.
        self.cuts = True
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                threading.Thread(target=self._carry, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and self.limit is not None:
                    data, self.limit = data[: self.limit], max(self.limit - len(data), 0)
                    target.sendall(data)
                    if self.limit == 0:
                        if self.cuts:
                            break
                        continue
                else:
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
            source.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        for each in self._sockets:
            each.close()


@pytest.fixture
def proxy(redis_server: Server) -> t.Iterator[Proxy]:
    proxy = Proxy(redis_server.port)
    yield proxy
    proxy.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("cuts", [True, False])
@pytest.mark.parametrize("limit", [0, 3, 40])
def test_network_that_is_cut(proxy: Proxy, cuts: bool, limit: int) -> None:
    """An answer that ends in its middle is no answer, and the next one is not taken for the rest of it."""
    store = RedisStore(f"redis://127.0.0.1:{proxy.port}/0?namespace=cut{cuts}{limit}")
    mine = worker()
    store.publish(mine, {LIVE: document(text="x" * 500)}, [report(count=1)])
    proxy.cuts, proxy.limit = cuts, limit
    with pytest.raises(StoreError):
        store.live()
    proxy.limit = limit
    with pytest.raises(StoreError):
        store.publish(mine, {LIVE: document(text="y" * 500)}, [report(count=2), report("f2"), report("f3")])
    proxy.limit = None
    assert (
        store.publish(mine, {LIVE: document(text="y" * 500)}, [report(count=2), report("f2"), report("f3")])
        == 3
    )
    counts = {each.fingerprint: each.sightings[mine.id].occurrences for each in store.findings()}
    assert counts == {"f1": 2, "f2": 1, "f3": 1}
    assert [each.body for each in store.live()] == [{"text": "y" * 500}]
    store.close()


def test_entry_of_somebody_else(store: RedisStore) -> None:
    """An entry that is not ours is an error, and no nonsense."""
    mine = worker()
    store.publish(mine, {LIVE: document()}, [])
    with store._using() as client:
        client.set(store._key(LIVE, mine.id), b"what is this?")
    with pytest.raises(StoreError, match="damaged"):
        store.live()
