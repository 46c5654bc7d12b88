"""The application of the benchmark, and how it is called: as a server calls it, but with no server and no test client."""

from __future__ import annotations

import os
import typing as t

import flask
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from werkzeug.test import EnvironBuilder

#: What a request does, in the words of the tables.
CASES = {
    "noquery": "no query",
    "one": "one query",
    "ten": "ten queries",
    "write": "one write",
    "stream": "a streamed body",
}

db = SQLAlchemy()


class Item(db.Model):  # type: ignore[name-defined,misc]
    """A row to read or write."""

    id = db.Column(sa.Integer, primary_key=True)
    name = db.Column(sa.String(50))


def create_app(folder: str, url: str = "", engine_options: dict[str, t.Any] | None = None) -> flask.Flask:
    """Build the application with an endpoint for each case.

    :param folder: where it may leave files.
    :param url: its database; a file in that folder unless given.
    """
    app = flask.Flask(__name__, instance_path=folder)
    app.config["SQLALCHEMY_DATABASE_URI"] = url or f"sqlite:///{folder}/bench.db"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options or {}
    db.init_app(app)

    @app.get("/noquery")
    def noquery() -> str:
        return "ok"

    @app.get("/one")
    def one() -> str:
        item = db.session.get(Item, 1)
        assert item is not None
        return str(item.name)

    @app.get("/ten")
    def ten() -> str:
        return ",".join(
            str(db.session.scalars(sa.select(Item).where(Item.id == i)).one().name) for i in range(1, 11)
        )

    @app.post("/write")
    def write() -> str:
        db.session.add(Item(name="x"))
        db.session.commit()
        return "ok"

    @app.get("/stream")
    def stream() -> flask.Response:
        def rows() -> t.Iterator[str]:
            for item in db.session.scalars(sa.select(Item).limit(10)):
                yield f"{item.name}\n"

        return flask.Response(flask.stream_with_context(rows()))

    return app


def fill(app: flask.Flask) -> None:
    """Make the table and its rows."""
    with app.app_context():
        db.create_all()
        db.session.add_all([Item(name=f"item {i}") for i in range(20)])
        db.session.commit()


def serve(app: flask.Flask, case: str, requests: int) -> None:
    """Call *app* as a server does."""
    environ = EnvironBuilder(path=f"/{case}", method="POST" if case == "write" else "GET").get_environ()
    for _ in range(requests):
        body = app(dict(environ), lambda status, headers, exc_info=None: lambda data: None)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()


def memory_folder() -> str | None:
    """Return where files cost no writing to a disk, or None where there is no such place."""
    folder = "/dev/shm"
    return folder if os.access(folder, os.W_OK) else None
