"""An application whose workers publish to a file, and its command line."""

import json
import typing as t
from pathlib import Path

import flask
import prometheus_client
import pytest
import sqlalchemy as sa
from click.testing import Result
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch
from flask_sessionwatch.store import Store
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.base import StoreError
from tests.rules.conftest import until

ROOT = Path(__file__).parents[2]


class Shop:
    """A watched application in this process, which serves requests and publishes what it sees.

    :param folder: where its databases are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.engine = sa.create_engine(f"sqlite:///{folder / 'shop.db'}", pool_size=2, max_overflow=1)
        self.kept: list[t.Any] = []
        self.app = flask.Flask("shop", root_path=str(Path(__file__).parent))
        self.app.config.update(
            SESSIONWATCH_STORE=self.url, SESSIONWATCH_TICK=60.0, SESSIONWATCH_IGNORE=["SW703"]
        )
        self._add_views()
        self.watch = SessionWatch(self.app, registry=prometheus_client.CollectorRegistry(), sinks=[])

    def _add_views(self) -> None:
        @self.app.get("/leak")
        def leak() -> str:
            self.kept.append(self.engine.connect())
            return str(self.kept[-1].scalar(sa.select(1)))

        @self.app.get("/commits/<int:number>")
        def commit(number: int) -> str:
            with orm.Session(self.engine) as session:
                for _ in range(number):
                    session.scalar(sa.select(1))
                    session.commit()
            return ""

    def open(self, path: str) -> None:
        assert self.app.test_client().get(path).status_code == 200

    def publish(self) -> None:
        """Have what is known now published, and wait until it is."""
        self.watch.tick()
        with self.store() as store:
            until(lambda: self._is_published(store))

    def _is_published(self, store: Store) -> bool:
        try:
            return bool(store.live()) and len(store.findings()) == len(self.watch.findings)
        except StoreError:  # the file is being made, and SQLite locks it for that
            return False

    def publish_nothing(self) -> None:
        """Let it be seen as a worker that has found nothing."""
        self.open("/commits/1")
        self.publish()

    def run(self, *args: str) -> Result:
        """Run a command of the application; whatever goes wrong, there is no traceback."""
        result = self.app.test_cli_runner().invoke(args=["sessionwatch", *args])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    def json(self, *args: str) -> t.Any:
        result = self.run(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    def store(self) -> "Opened":
        return Opened(open_store(self.url))

    def close(self) -> None:
        for each in self.kept:
            each.close()
        self.watch.close()
        self.engine.dispose()


class Opened:
    """A store that is closed at the end of the block."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> Store:
        return self._store

    def __exit__(self, *args: object) -> None:
        self._store.close()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Shop]:
    """An application that publishes to a file of its own."""
    monkeypatch.delenv("SESSIONWATCH_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    shop = Shop(tmp_path)
    yield shop
    shop.close()


@pytest.fixture
def busy(shop: Shop) -> Shop:
    """That application with two leaked connections and a storm of commits, all of it published."""
    for path in ("/leak", "/leak", "/commits/12", "/commits/1"):
        shop.open(path)
    shop.publish()
    return shop
