"""An application that does a little of everything, right and wrong, for as long as it is asked: what soak.py serves.

Whatever it leaks it lets go of after a while, so that all that could grow without end would be the watch's. SOAK_URL and
SOAK_FOLDER in the environment set it up. ``/truth`` says what the watch should know.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import gc
import itertools
import os
import signal
import typing as t
from concurrent.futures import ThreadPoolExecutor

import flask
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch
from flask_sessionwatch import extension

ROWS = 20
#: What is leaked stays so long that the next few requests meet it.
_LEAKED = 3
#: Connections in use from which on those that were forgotten are collected.
_CROWDED = 15

db = SQLAlchemy()
executor = ThreadPoolExecutor(2)
kept: collections.deque[t.Any] = collections.deque()
#: Why answers had status 500, with their number; but for those of fail(), which is meant to.
excuses: collections.Counter[str] = collections.Counter()


class Row(db.Model):  # type: ignore[name-defined,misc]
    """Something to read and write; there are never more of them than at the start."""

    id = db.Column(sa.Integer, primary_key=True)
    name = db.Column(sa.String(50), unique=True)
    hits = db.Column(sa.Integer, default=0)


class Truth:
    """What has really happened, counted by listeners that know nothing of the watch."""

    def __init__(self) -> None:
        self._counts = {name: itertools.count() for name in ("checkouts", "transactions")}
        event.listen(sa.Pool, "checkout", lambda *_: next(self._counts["checkouts"]))
        event.listen(orm.Session, "after_transaction_create", self._begun)

    def _begun(self, session: orm.Session, transaction: orm.SessionTransaction) -> None:
        if transaction.parent is None:
            next(self._counts["transactions"])

    def told(self) -> dict[str, int]:
        """Return the counts."""
        # An iterator of this kind tells its next number without taking it.
        return {name: int(repr(count)[6:-1]) for name, count in self._counts.items()}


def create_app(folder: str, url: str) -> flask.Flask:
    """Build the application, watched, on a database at *url*."""
    app = flask.Flask(__name__, instance_path=folder)
    lite = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    narrow = {"url": url, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.005, **lite}
    app.config.update(
        SQLALCHEMY_DATABASE_URI=url,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 10, "max_overflow": 20, **lite},
        SQLALCHEMY_BINDS={"narrow": narrow},
        SESSIONWATCH_IDLE_IN_TRANSACTION=0.5,
    )
    db.init_app(app)
    watch = SessionWatch(app)
    for view in (read, page, write, lose, swallow, forget, leak, fail, nest, storm, hand, dry, engine, query):
        app.add_url_rule(f"/{view.__name__}", view.__name__, view)
    app.add_url_rule("/block/<int:number>", "block", block, defaults={"watch": watch})
    flask.got_request_exception.connect(_note_excuse, app)
    truth = Truth()
    app.add_url_rule("/truth", "truth", lambda: told(app, watch, truth))
    with app.app_context():
        if url.startswith("sqlite"):
            # Otherwise a forgotten cursor keeps everybody from writing.
            db.session.execute(sa.text("PRAGMA journal_mode=WAL"))
        db.drop_all()
        db.create_all()
        db.session.add_all([Row(name=f"row {number}") for number in range(ROWS)])
        db.session.commit()
    return app


def _note_excuse(sender: flask.Flask, exception: Exception, **_: t.Any) -> None:
    if flask.request.endpoint != "fail":
        excuses[
            f"/{flask.request.endpoint}: {type(exception).__name__}: {str(exception).partition(chr(10))[0]}"
        ] += 1


def told(app: flask.Flask, watch: SessionWatch, truth: Truth) -> dict[str, t.Any]:
    """Tell what is true now, and how large the watch has become."""
    while kept:
        kept.popleft().close()
    gc.collect()
    gc.collect()
    ledger = extension._process.ledger
    with app.app_context():
        pools = {key or "default": t.cast("sa.QueuePool", each.pool) for key, each in db.engines.items()}
    return {
        "pid": os.getpid(),
        "used": {name: pool.checkedout() for name, pool in pools.items()},
        "idle": {name: pool.checkedin() for name, pool in pools.items()},
        "counts": truth.told(),
        "excuses": excuses,
        "errors": ledger.internal_errors + extension._process._extension_errors,
        "ledger": sum(
            len(getattr(ledger, name))
            for name in ("checkouts", "transactions", "scopes", "waiting", "holders", "engines")
        ),
        # Of these there may be so many, and no more, at any time.
        "remembered": len(ledger.recent) + len(ledger.pooled) + len(ledger.incidents),
        "findings": len(watch.findings),
        "objects": len(gc.get_objects()),
    }


# The views


def read() -> str:
    return ",".join(db.session.scalars(sa.select(Row.name).order_by(Row.id)))


def page() -> flask.Response:
    """Stream, with a query between the lines."""

    def lines() -> t.Iterator[str]:
        for name in db.session.scalars(sa.select(Row.name).limit(10)).all():
            yield f"{name} of {db.session.scalar(sa.select(sa.func.count(Row.id)))}\n" + " " * 5_000

    return flask.Response(flask.stream_with_context(lines()))


def write() -> tuple[str, int]:
    db.session.execute(sa.update(Row).where(Row.id == 1).values(hits=Row.hits + 1))
    with db.session.begin_nested():
        db.session.execute(sa.update(Row).where(Row.id == 2).values(hits=Row.hits + 1))
    db.session.commit()
    return "written", 201


def lose() -> str:
    db.session.execute(sa.update(Row).where(Row.id == 3).values(hits=99))
    return "lost"


def swallow() -> str:
    db.session.add(Row(name="row 1"))
    with contextlib.suppress(sa.exc.IntegrityError):
        db.session.commit()
    return "swallowed"


def forget() -> str:
    """Forget a connection that is in a circle with its transaction; the collector returns it."""
    if t.cast("sa.QueuePool", db.engine.pool).checkedout() > _CROWDED:
        gc.collect()
    connection = db.engine.connect()
    connection.execute(sa.select(Row.id))
    return "forgotten"


def leak() -> str:
    session = orm.Session(db.engine)
    session.scalar(sa.select(Row.id))
    keep(session)
    return "leaked"


def fail() -> str:
    db.session.execute(sa.select(Row.id))
    raise ValueError("a bug of the application")


def nest() -> str:
    db.session.scalar(sa.select(Row.id))
    with orm.Session(db.engine) as session:
        return str(session.scalar(sa.select(Row.name)))


def storm() -> str:
    for number in range(12):
        db.session.execute(sa.update(Row).where(Row.id == number + 1).values(hits=number))
        db.session.commit()
    return "stormed"


def hand() -> str:
    """Let another thread work with a session of its own."""
    own = flask.current_app._get_current_object()  # type: ignore[attr-defined]

    def work() -> str:
        with own.app_context():
            return read()

    return executor.submit(work).result()


def dry() -> str:
    """Hold the only connection of a pool, and ask for another."""
    narrow = db.engines["narrow"]
    try:
        with narrow.connect(), narrow.connect():
            return "not dry"
    except sa.exc.TimeoutError:
        return "dry"


def engine() -> str:
    """Make an engine that nobody disposes of."""
    with sa.create_engine("sqlite://").connect() as connection:
        return str(connection.scalar(sa.text("SELECT 1")))


def query() -> str:
    row = db.session.query(Row).filter_by(id=1).one()
    return str(row.name)


def block(number: int, watch: SessionWatch) -> str:
    """Leave something in a block of one of many names: as many distinct findings."""
    with watch.scope(f"block {number}"):
        keep(db.engine.connect())
    return "left"


def keep(leaked: t.Any) -> None:
    """Keep what is leaked, and let go of what was kept for longest."""
    kept.append(leaked)
    while len(kept) > _LEAKED:
        with contextlib.suppress(IndexError):  # another thread was faster
            kept.popleft().close()


if "SOAK_FOLDER" in os.environ:
    # Whoever gets no answer may ask where everybody is.
    faulthandler.register(signal.SIGUSR2)
    app = create_app(os.environ["SOAK_FOLDER"], os.environ["SOAK_URL"])
