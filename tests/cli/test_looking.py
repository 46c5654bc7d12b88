"""Where commands look, and what they say when there is nothing to be seen."""

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.sqlite import SQLiteStore
from tests.cli.conftest import ROOT
from tests.cli.conftest import Shop
from tests.redis_servers import free_port
from tests.store import conftest as stores
from tests.store.conftest import redis_server  # noqa: F401, the fixture
from tests.web.conftest import TOKEN
from tests.web.test_prometheus import running
from tests.web.test_prometheus import wait_for

COMMANDS = [["status"], ["top", "--once"], ["findings"], ["requests"], ["baseline"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_store(shop: Shop, command: list[str]) -> None:
    """Before a worker has published anything that is said, and nothing is made."""
    result = shop.run(*command)
    assert result.exit_code == 2
    assert f"{shop.folder / 'store.db'}: there is no such file" in result.output
    assert not (shop.folder / "store.db").exists()


@pytest.mark.parametrize(
    "content", [b"", b"mine", b"SQLite format 3\0" + b"x" * 4096], ids=["empty", "foreign", "damaged"]
)
def test_a_file_that_is_no_store(shop: Shop, content: bytes) -> None:
    """A file that is no store is said to be none, and left as it is."""
    path = shop.folder / "store.db"
    path.write_bytes(content)
    result = shop.run("status")
    assert result.exit_code == 2
    assert str(path) in result.output
    assert path.read_bytes() == content
    assert [each.name for each in shop.folder.iterdir() if "store" in each.name] == ["store.db"]


def test_damaged_within(busy: Shop) -> None:
    """A store that is damaged in its midst is told, and not set aside: that is for the workers to do."""
    busy.watch.close()
    path = busy.folder / "store.db"
    with busy.store() as store:
        store.prune()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    result = run_flask(ROOT / "examples" / "minimal" / "app.py", busy.folder, "findings", "--store", busy.url)
    assert result.returncode == 2
    assert "malformed" in result.stderr
    assert "Traceback" not in result.stderr
    assert path.read_bytes() == content
    assert not path.with_suffix(".db.damaged").exists()


def run_flask(app: Path, folder: Path, *args: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of `flask sessionwatch` as a process of its own."""
    command = [sys.executable, "-m", "flask", "--app", str(app), "sessionwatch", *args]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("memory:", "nobody else can read the memory"),
        ("postgresql://shop:secret@host/shop", "it takes 'memory:', 'sqlite:///path'"),
        ("sqlite:///nowhere/store.db", "there is no such file"),
        ("redis://:secret@127.0.0.1:1/0", "The store cannot be read: redis://127.0.0.1:1/0"),
    ],
)
def test_a_store_that_is_none(shop: Shop, store: str, message: str) -> None:
    """A store that is named wrongly, or is away, is told in a line without its password."""
    result = shop.run("status", "--store", store)
    assert result.exit_code == 2
    assert message in result.output
    assert "secret" not in result.output


def test_store_in_redis(shop: Shop, redis_server: t.Any) -> None:  # noqa: F811, the fixture
    """A store that is named is looked into, whatever the application says."""
    url = f"{redis_server.url}?namespace=cli{os.getpid()}"
    store = open_store(url)
    store.publish(stores.worker(), {}, [stores.report(level="info", rule="x", site=None, scope=None)])
    store.close()
    assert len(shop.json("findings", "--store", url)["findings"]) == 1


def test_either_store_or_service(shop: Shop) -> None:
    """One cannot look in two places."""
    result = shop.run("status", "--store", shop.url, "--url", "http://127.0.0.1/")
    assert (result.exit_code, "Give either --store or --url." in result.output) == (2, True)


APPLICATION = """
import flask, sqlalchemy as sa, time
from flask_sessionwatch import SessionWatch

app = flask.Flask(__name__)
watch = SessionWatch(app)
engine = sa.create_engine("sqlite:///shop.sqlite")
kept = []

@app.get("/leak")
def leak():
    kept.append(engine.connect())
    return str(kept[-1].scalar(sa.select(1)))

with app.app_context():
    leak()
    time.sleep({seconds})
"""


def test_onlookers_are_no_workers(tmp_path: Path) -> None:
    """A command leaves nothing of itself in the store, even if loading the application took long and leaked."""
    (tmp_path / "shop.py").write_text(APPLICATION.format(seconds=1.5))
    url = f"sqlite:///{tmp_path / 'store.db'}"
    mine = stores.worker()
    store = SQLiteStore(str(tmp_path / "store.db"))
    store.publish(mine, {"live": stores.document(**_NOTHING)}, [])
    options = {"SESSIONWATCH_STORE": url, "SESSIONWATCH_TICK": "60"}
    done = run_flask(tmp_path / "shop.py", tmp_path, "status", **options)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "1 worker on 1 host")
    assert [each.worker for each in store.live()] == [mine]
    assert store.findings() == []
    # One that has published before it became clear what it is says good-bye.
    done = run_flask(tmp_path / "shop.py", tmp_path, "status", **{**options, "SESSIONWATCH_TICK": "0.1"})
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "1 worker on 1 host")
    assert [each.worker for each in store.live()] == [mine]
    store.close()


_NOTHING: dict[str, t.Any] = {
    "version": "1", "engines": [], "sessions": [], "checkouts": [], "omitted": {"sessions": 0, "checkouts": 0}
}  # fmt: skip


def test_the_instance_folder(tmp_path: Path) -> None:
    """Without SESSIONWATCH_STORE it is the file in the instance folder that is looked into."""
    (tmp_path / "shop.py").write_text(APPLICATION.format(seconds=0))
    environment = {"SESSIONWATCH_STORE": ""}
    missing = run_flask(tmp_path / "shop.py", tmp_path, "status", **environment)
    assert missing.returncode == 2
    assert f"{tmp_path / 'instance' / 'sessionwatch.db'}: there is no such file" in missing.stderr
    assert not (tmp_path / "instance").exists()
    (tmp_path / "instance").mkdir()
    store = SQLiteStore(str(tmp_path / "instance" / "sessionwatch.db"))
    store.publish(stores.worker(), {"live": stores.document(**_NOTHING)}, [])
    store.close()
    found = run_flask(tmp_path / "shop.py", tmp_path, "status", **environment)
    assert (found.returncode, found.stdout.splitlines()[0]) == (0, "1 worker on 1 host")


# A service


@pytest.fixture
def service(tmp_path: Path) -> t.Iterator[str]:
    """A running service with a leak, and no store to share; yields the address of its pages."""
    (tmp_path / "shop.py").write_text(APPLICATION.format(seconds=0))
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "shop", "run", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SESSIONWATCH_TOKEN": TOKEN}
    with running(command, tmp_path, env=environment):
        yield f"http://127.0.0.1:{port}/_sessionwatch"


def test_service(shop: Shop, service: str) -> None:
    """A running service is asked in place of a store; a wrong token and a wrong address are told in a line."""
    wait_for(lambda: shop.run("status", "--url", service, "--token", TOKEN).exit_code == 0)
    for command in COMMANDS:
        result = shop.run(*command, "--url", service, "--token", TOKEN)
        assert result.exit_code == 0, result.output
    refused = shop.run("findings", "--url", service, "--token", "a wrong one")
    assert (refused.exit_code, "401; is SESSIONWATCH_TOKEN right?" in refused.output) == (2, True)
    elsewhere = shop.run("findings", "--url", service.replace("_sessionwatch", "leak"))
    assert (elsewhere.exit_code, "is SESSIONWATCH_TOKEN right?" in elsewhere.output) == (2, True)


def test_no_service(shop: Shop) -> None:
    """A service that is away is told in a line."""
    result = shop.run("status", "--url", f"http://127.0.0.1:{free_port()}/_sessionwatch")
    assert (result.exit_code, "cannot be reached" in result.output) == (2, True)
