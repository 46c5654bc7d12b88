"""What scopes and sites have used, counted from what has ended."""

import typing as t
from pathlib import Path

import flask
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch
from flask_sessionwatch import extension
from flask_sessionwatch.process import Process
from flask_sessionwatch.report import totals as module
from flask_sessionwatch.report.totals import COMMIT_BUCKETS
from flask_sessionwatch.report.totals import OTHER
from flask_sessionwatch.report.totals import ScopeTotal
from flask_sessionwatch.report.totals import Totals


class Shop:
    """An application whose scopes are counted."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url, pool_size=3)
        self.app = flask.Flask("shop", root_path=str(Path(__file__).parent))
        self.app.config.update(SESSIONWATCH_TICK=3600.0)
        self.watch = SessionWatch(self.app, registry=CollectorRegistry())
        with self.engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE item (name TEXT)"))

    @property
    def totals(self) -> Totals:
        self.watch.tick()
        return extension._process.account.totals

    def scope(self, name: str) -> ScopeTotal:
        return self.totals.scopes[name, "explicit"]


@pytest.fixture
def shop(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Shop]:
    monkeypatch.setattr(extension, "_process", Process())
    shop = Shop(sqlite_url)
    yield shop
    shop.watch.close()
    shop.engine.dispose()


def test_scope(shop: Shop) -> None:
    """A scope counts its verdict, its commits, its sessions and the most connections it held at once."""
    with shop.watch.scope("import"), orm.Session(shop.engine) as session, shop.engine.connect():
        for _ in range(3):
            session.execute(sa.text("INSERT INTO item VALUES ('x')"))
            session.commit()
    total = shop.scope("import")
    assert total.verdicts == [1, 0, 0, 0]
    assert total.commits[COMMIT_BUCKETS.index(3)] == sum(total.commits) == 1
    assert [total.most_commits, total.sessions, total.peak, total.lost_writes] == [3, 3, 2, 0]
    assert total.held > 0


def test_scopes_of_one_name(shop: Shop) -> None:
    """Scopes of the same name are counted together; of peaks the highest is kept."""
    for commits in (0, 60, 200):
        with shop.watch.scope("import"), orm.Session(shop.engine) as session:
            for _ in range(commits):
                session.execute(sa.text("SELECT 1"))
                session.commit()
    total = shop.scope("import")
    assert [total.commits[0], total.commits[COMMIT_BUCKETS.index(100)], total.commits[-1]] == [1, 1, 1]
    assert [sum(total.verdicts), total.most_commits] == [3, 200]


def test_lost_writes_and_verdict(shop: Shop) -> None:
    """A scope whose writes were thrown away says so."""
    with shop.watch.scope("forgetful"), orm.Session(shop.engine) as session:
        session.execute(sa.text("INSERT INTO item VALUES ('x')"))
    total = shop.scope("forgetful")
    assert [total.lost_writes, total.verdicts[0]] == [1, 0]


def test_many_scopes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of names, all others are counted under one."""
    monkeypatch.setattr(module, "SCOPES_KEPT", 3)
    for number in range(10):
        with shop.watch.scope(f"scope {number}"):
            pass
    totals = shop.totals.scopes
    assert len(totals) == 4
    assert sum(totals[OTHER, "explicit"].verdicts) == 7


def test_sites(shop: Shop) -> None:
    """A site counts how often and for how long connections that were checked out there were held."""
    for _ in range(2):
        with shop.engine.connect():
            pass
    (row,) = [each for each in shop.totals.as_json()["sites"] if each[3] == "test_sites"]
    assert [row[1], row[5]] == [__file__, 2]
    assert row[4] > 0


def test_site_that_holds_still(shop: Shop) -> None:
    """What is held still counts until now, and is not counted again later."""
    connection = shop.engine.connect()
    totals = shop.totals
    for _ in range(2):
        told = totals.as_json(extension._process.ledger.checkouts.copy())["sites"]
        assert [each[5] for each in told if each[3] == "test_site_that_holds_still"] == [1]
    connection.close()
    assert [
        each[5] for each in shop.totals.as_json()["sites"] if each[3] == "test_site_that_holds_still"
    ] == [1]


def test_many_sites(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of sites those that used the least make room."""
    monkeypatch.setattr(module, "SITES_KEPT", 4)
    lines = "\n".join("engine.connect().close()" for _ in range(20))
    code = compile(lines, str(Path(__file__).parent / "generated.py"), "exec")
    exec(code, {"engine": shop.engine})  # noqa: S102, many lines are wanted
    assert 1 <= len(shop.totals.sites) <= 4


def test_forget(shop: Shop) -> None:
    """After a fork there is nothing yet."""
    with shop.watch.scope("import"), shop.engine.connect():
        pass
    totals = shop.totals
    totals.forget()
    assert totals.as_json() == {"scopes": [], "sites": [], "bad": []}
