"""Test suites to run under watch, of an application that knows nothing of it."""

import typing as t
from collections.abc import Callable

import flask_sqlalchemy  # noqa: F401, once for all: pytester forgets what a suite imports
import pytest

import flask_sessionwatch.testing.plugin  # noqa: F401

SHOP = """
import os

import flask
import flask_sqlalchemy
import sqlalchemy as sa
from sqlalchemy import orm

db = flask_sqlalchemy.SQLAlchemy()
held = []


class Order(db.Model):
    id = db.mapped_column(sa.Integer, primary_key=True)
    name = db.mapped_column(sa.String(20), unique=True)


def place(session, name):
    session.add(Order(name=name))
    session.flush()


def create_app():
    app = flask.Flask(__name__)
    url = os.environ.get("SHOP_DATABASE", "sqlite:///shop.db")
    app.config.update(TESTING=True, SQLALCHEMY_DATABASE_URI=url)
    db.init_app(app)

    @app.get("/")
    def index():
        return str(db.session.scalar(sa.select(sa.func.count(Order.id))))

    @app.get("/leak")
    def leak():
        held.append(db.engine.connect())
        return "leaked"

    @app.post("/orders")
    def order():
        db.session.add(Order())
        db.session.commit()
        return "placed"

    @app.post("/twice")
    def twice():
        for _ in range(2):
            db.session.add(Order())
            db.session.commit()
        return "placed"

    @app.post("/lost")
    def lost():
        db.session.add(Order())
        db.session.flush()
        return "lost"

    return app
"""

FIXTURES = """
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from shop import Order, create_app, db, held, place


@pytest.fixture
def app():
    app = create_app()
    with app.app_context():
        db.create_all()
    yield app
    while held:
        held.pop().close()
    with app.app_context():
        db.session.remove()
        db.drop_all()


@pytest.fixture
def client(app):
    return app.test_client()
"""

Suite: t.TypeAlias = Callable[..., pytest.RunResult]


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """Runs the tests in a text, after those fixtures, in this process."""
    monkeypatch.delenv("SESSIONWATCH_STORE", raising=False)
    pytester.makepyfile(shop=SHOP)

    def run(tests: str, *options: str, fixtures: str = FIXTURES) -> pytest.RunResult:
        pytester.makepyfile(test_shop=fixtures + tests)
        return pytester.runpytest_inprocess(
            "-W", "always", "-p", "no:cacheprovider", "-p", "no:xdist", *options
        )

    return run
