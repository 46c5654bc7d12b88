"""One process of the benchmark: an application, called directly, N times.

    python workload.py CASE WATCHER REQUESTS

No server and no test client: what is counted is the application and the watcher. Garbage collection is off.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import typing as t

import flask
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from werkzeug.test import EnvironBuilder

WATCHERS = ("nothing", "floor", "sessionwatch", "nostacks")
CASES = ("noquery", "one", "ten", "write", "stream")

db = SQLAlchemy()


class Item(db.Model):  # type: ignore[name-defined,misc]
    """A row to read or write."""

    id = db.Column(sa.Integer, primary_key=True)
    name = db.Column(sa.String(50))


def create_app(url: str) -> flask.Flask:
    """Build the application with an endpoint for each case."""
    app = flask.Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
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


def watch(app: flask.Flask, watcher: str) -> None:
    """Attach *watcher* to *app*."""
    if watcher == "floor":
        attach_floor()
    elif watcher in ("sessionwatch", "nostacks"):
        from flask_sessionwatch import SessionWatch

        if watcher == "nostacks":
            app.config["SESSIONWATCH_STACK_DEPTH"] = 0
        app.config["SESSIONWATCH_TICK"] = 3600.0
        SessionWatch(app)


def attach_floor() -> None:
    """Listen to the same events as flask_sessionwatch does, and do nothing: what no watcher can go below."""

    def nothing(*args: t.Any) -> None:
        return None

    for name in ("checkout", "checkin", "reset"):
        sa.event.listen(sa.pool.Pool, name, nothing)
    sa.event.listen(sa.Engine, "do_execute", nothing)
    for name in (
        "after_transaction_create",
        "after_begin",
        "after_commit",
        "after_rollback",
        "after_transaction_end",
    ):
        sa.event.listen(sa.orm.Session, name, nothing)


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
        body = app.wsgi_app(dict(environ), lambda status, headers, exc_info=None: lambda data: None)
        for _ in body:
            pass
        close = getattr(body, "close", None)
        if close is not None:
            close()


def shift_layout(layout: int) -> list[type]:
    """Give the classes that follow other version tags, and with them other places in CPython's method cache.

    Which methods share a place there is chance, and moves the count of a request by several percent.
    """
    return [type(f"Unused{number}", (), {"used": None}) for number in range(layout * 37)]


def main(case: str, watcher: str, requests: int) -> None:
    """Serve *requests* requests of *case*, with *watcher* attached."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(os.environ.get("BENCH_URL", f"sqlite:///{folder}/bench.db"))
        watch(app, watcher)
        fill(app)
        gc.collect()
        gc.disable()
        serve(app, case, requests)
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    unused = shift_layout(int(os.environ.get("BENCH_LAYOUT", "0")))
    assert all(each.used is None for each in unused)  # type: ignore[attr-defined]
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
