"""What passes through an application under test is in nothing that the plugin prints, in whichever mode."""

import typing as t

import pytest

from .conftest import Suite

pytest_plugins = ["pytester"]

BIRD = "quetzal"

#: pytest shows lines of source itself, so none of them names it.
TESTS = """
import os
import sqlite3
import threading

SECRET = os.environ["SHOP_SECRET"]


@pytest.fixture
def shop(app):
    far = sa.create_engine(
        f"postgresql+psycopg://{SECRET}-user:{SECRET}-password@{SECRET}-host/shop?options={SECRET}-option",
        creator=lambda: sqlite3.connect(":memory:", check_same_thread=False),
        poolclass=sa.pool.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05, _initialize=False,
    )

    @app.post("/spill")
    def spill():
        db.session.execute(sa.select(Order).where(Order.name == SECRET)).all()
        held.append(far.raw_connection())
        try:
            far.raw_connection()
        except sa.exc.TimeoutError:
            pass
        held.append(db.engine.connect())
        held[-1].execute(sa.text(f"SELECT :value -- {SECRET}"), {"value": SECRET})
        return SECRET

    @app.post("/lose")
    def lose():
        place(db.session, SECRET)
        return SECRET

    @app.post("/swallow")
    def swallow():
        for _ in range(2):
            try:
                place(db.session, SECRET)
            except sa.exc.IntegrityError:
                pass
        return SECRET

    client = app.test_client()
    client.set_cookie("session", SECRET)
    return client


@pytest.mark.parametrize("path", ["/spill", "/lose", "/swallow"])
def test_spilling(shop, path):
    secret = {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET, "User-Agent": SECRET}
    assert SECRET in shop.post(path, query_string={"q": SECRET}, data={"form": SECRET}, headers=secret).text


def test_session(app):
    with app.app_context():
        session = orm.Session(db.engine, info={"secret": SECRET})
        session.add(Order(name=SECRET))
        session.flush()
        held.append(session)
"""


@pytest.mark.parametrize(
    "options",
    [
        ["--sessionwatch=warn", "-rA", "-vv", "--showlocals"],
        ["--sessionwatch=error", "-rA", "-vv", "--showlocals"],
        ["--sessionwatch=warn", "-W", "error::flask_sessionwatch.testing.SessionWatchWarning", "-rA"],
    ],
    ids=["warn", "error", "warnings as errors"],
)
def test_nothing_is_printed(suite: Suite, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    """Neither parameters, SQL, rows, requests, cookies, passwords of URLs nor anything from the environment."""
    monkeypatch.setenv("SHOP_SECRET", BIRD)
    result = suite(TESTS, *options, "-o", "sessionwatch_level=info")
    printed = f"{result.stdout.str()}\n{result.stderr.str()}"
    assert _codes_in(printed) >= {"SW101", "SW201", "SW204", "SW601"}, printed
    assert result.parseoutcomes()["passed"] == 4
    assert BIRD not in printed.lower()


def _codes_in(text: str) -> set[t.Any]:
    return {word.rstrip(":") for word in text.split() if word.startswith("SW") and word[2:5].isdigit()}
