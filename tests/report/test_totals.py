"""What scopes and sites have used, counted from what has ended."""

import threading
import time
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
from flask_sessionwatch.report.totals import BAD_KEPT
from flask_sessionwatch.report.totals import COMMIT_BUCKETS
from flask_sessionwatch.report.totals import OTHER
from flask_sessionwatch.report.totals import BadScope
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
    assert [total.most_commits, total.sessions, total.peak, total.lost_writes] == [3, 1, 2, 0]
    assert total.held > 0


def test_sessions(shop: Shop) -> None:
    """A session is one however often it commits, also over several looks; another one is another, and so it is in the next scope."""
    for _ in range(2):
        with shop.watch.scope("import"), orm.Session(shop.engine) as one, orm.Session(shop.engine) as other:
            for session in (one, other, one):
                session.execute(sa.text("SELECT 1"))
                session.commit()
                shop.watch.tick()
    assert shop.scope("import").sessions == 4


def test_sessions_are_told_apart_within_bounds(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sessions a scope works with, each new one counts, and few are remembered."""
    monkeypatch.setattr(module, "SESSIONS_KNOWN", 3)
    with shop.watch.scope("import") as scope:
        for _ in range(10):
            with orm.Session(shop.engine) as session:
                session.execute(sa.text("SELECT 1"))
        assert shop.scope("import").sessions == 10
        assert len(shop.totals._sessions[scope]) == 3
    assert len(shop.totals._sessions) == 0


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


def leak(shop: Shop, name: str) -> None:
    """Leave a connection checked out at the end of a scope."""
    with shop.watch.scope(name):
        connection = shop.engine.connect()
    connection.close()


def test_bad_scopes(shop: Shop) -> None:
    """A scope in which something was found is remembered, with what that was; a clean one is not."""
    with shop.watch.scope("import"):
        pass
    leak(shop, "import")
    (row,) = shop.totals.as_json()["bad"]
    bad = BadScope(*row[2:])
    assert row[:2] == ["import", "explicit"]
    assert (bad.verdict, bad.status, bad.error, bad.peak) == ("error", None, None, 1)
    assert abs(bad.at - time.time()) < 60
    assert bad.thread == threading.current_thread().name
    assert bad.findings == tuple(each.fingerprint for each in shop.watch.findings)


def test_failed_scope(shop: Shop) -> None:
    """A scope that was left by an exception names it."""
    kept: list[sa.Connection] = []

    @shop.watch.scope("broken")
    def fail() -> None:
        kept.append(shop.engine.connect())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    kept.pop().close()
    (row,) = shop.totals.as_json()["bad"]
    assert BadScope(*row[2:]).error == "ZeroDivisionError"


def test_bad_scopes_are_bounded(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each name the latest are remembered, and of all of these the latest are told, the newest first."""
    monkeypatch.setattr(module, "BAD_TOLD", 4)
    for number in range(BAD_KEPT + 2):
        leak(shop, "import")
        leak(shop, f"once {number}")
    totals = shop.totals
    assert len(totals.bad["import", "explicit"]) == BAD_KEPT
    told = totals.as_json()["bad"]
    assert len(told) == 4
    assert [row[2] for row in told] == sorted((row[2] for row in told), reverse=True)
    assert {row[0] for row in told} == {"import", f"once {BAD_KEPT}", f"once {BAD_KEPT + 1}"}


def test_known_findings_are_not_bad(shop: Shop) -> None:
    """What is ignored makes no scope bad."""
    shop.app.config["SESSIONWATCH_IGNORE"] = ["SW101"]
    shop.watch.close()
    shop.watch = SessionWatch(shop.app, registry=CollectorRegistry())
    leak(shop, "import")
    assert shop.totals.as_json()["bad"] == []


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
