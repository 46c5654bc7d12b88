"""``drop_all()`` at the end of a test: who is in its way."""

import subprocess
import sys
import time

import pytest

from .conftest import FIXTURES
from .conftest import SHOP

pytest_plugins = ["pytester"]

#: A session that reads and is never closed keeps the table from being dropped.
BLOCKING = """
@pytest.fixture
def session(app):
    with app.app_context():
        session = orm.Session(db.engine)
    yield session


def test_reading(session):
    assert session.scalars(sa.select(Order)).all() == []
    test_reading.session = session
"""


def test_drop_all_that_waits(
    pytester: pytest.Pytester, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL it waits for ever: who is in its way is told while it waits, past pytest's capture."""
    monkeypatch.setenv("SHOP_DATABASE", postgresql_url)
    pytester.makepyfile(shop=SHOP, test_shop=FIXTURES + BLOCKING)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--sessionwatch"]
    with (pytester.path / "stderr").open("w+b") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, cwd=pytester.path)
        try:
            told = _until_told(errors.name)
        finally:
            process.kill()
            process.wait()
    assert "sessionwatch: drop_all() has been waiting for 2 s" in told
    assert "called at test_shop.py:" in told
    assert (
        "in its way, perhaps: a session's connection of engine 'default', checked out at test_shop.py:"
        in told
    )
    assert ", by test_shop.py::test_reading, held for " in told


def _until_told(path: str) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with open(path, errors="replace") as file:
            text = file.read()
        if "held for" in text:
            return text
        time.sleep(0.1)
    raise AssertionError(f"nothing was told: {text}")
