"""What an application can see of its engines, Sessions, objects and errors is the same under watch: text, copies, pickles, attributes."""

import copy
import inspect
import pickle
import re
import subprocess
import sys
import textwrap
import typing as t

import flask
import prometheus_client
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from flask_sessionwatch import SessionWatch
from tests.story import Page
from tests.story import Story

_ADDRESS = re.compile("0x[0-9a-f]+")
#: Public callables that the watch stands in front of, or might.
_CALLABLES: tuple[t.Any, ...] = (
    orm.Session.execute,
    orm.Session.commit,
    orm.Session.close,
    orm.Session.begin,
    orm.Query.get,
    sa.Engine.connect,
    sa.Engine.raw_connection,
    sa.Connection.execute,
    sa.exc.TimeoutError,
    sa.exc.InvalidRequestError,
    flask.Flask.full_dispatch_request,
)


def portrait(story: Story) -> dict[str, object]:
    """Return what can be seen, as plain data."""
    pool = story.engine.pool
    assert isinstance(pool, sa.QueuePool)
    with orm.Session(story.engine) as session:
        page = session.scalars(sa.select(Page).where(Page.id == 1)).one()
        transaction = session.get_transaction()
        connection = session.connection()
        seen: dict[str, object] = {
            "reprs": [repr(each) for each in (story.engine, session, transaction, page, connection.engine)],
            "texts": [str(story.engine.url), pool.status(), str(sa.select(Page))],
            "attributes": {
                type(each).__name__: sorted(vars(each)) for each in (story.engine, session, connection, page)
            },
            "info": [session.info, connection.info.get("mine")],
            "copied session": sorted(vars(copy.copy(session))),
            "copied engine": repr(copy.copy(story.engine)),
            "pickled page": _unpickled(page),
            "pickled rows": _unpickled(session.execute(sa.select(Page.title).order_by(Page.id)).all()),
        }
    seen["pickled errors"] = [
        _pickled_error(story.engine, text) for text in ("SELECT nonsense", "SELECT :missing")
    ]
    seen["pickled time-out"] = _pickled_timeout(story.engine)
    seen["signatures"] = [f"{each.__qualname__}{inspect.signature(each)}" for each in _CALLABLES]
    seen["modules"] = [(each.__module__, each.__name__, each.__doc__) for each in _CALLABLES]
    seen["pool"] = (repr(type(pool)), sorted(vars(pool)), repr(pool.recreate()).partition(" at ")[0])
    return {key: _ADDRESS.sub("0x", repr(value)) for key, value in seen.items()}


def _unpickled(thing: t.Any) -> object:
    made = pickle.loads(pickle.dumps(thing))
    return (
        {key: value for key, value in vars(made).items() if key[0] != "_"} if isinstance(made, Page) else made
    )


def _pickled_error(engine: sa.Engine, text: str) -> object:
    with engine.connect() as connection, pytest.raises(sa.exc.StatementError) as caught:
        connection.execute(sa.text(text))
    made = pickle.loads(pickle.dumps(caught.value))
    return type(made), str(made), made.args, sorted(vars(made))


def _pickled_timeout(engine: sa.Engine) -> object:
    """Run a pool dry. Its error has a note with the holders under watch; all else is as it was."""
    held = [engine.connect() for _ in range(3)]
    with pytest.raises(sa.exc.TimeoutError) as caught:
        engine.connect()
    for connection in held:
        connection.close()
    made = pickle.loads(pickle.dumps(caught.value))
    return type(made), made.code, made.args[0].splitlines()[0], sorted({*vars(made)} - {"__notes__"})


def test_portrait(sqlite_url: str) -> None:
    """Texts, attributes, copies, pickles and signatures are those that there are without a watch."""
    portraits = []
    for watched in (False, True):
        story = Story(sqlite_url)
        watch = SessionWatch(story.app, registry=prometheus_client.CollectorRegistry()) if watched else None
        try:
            portraits.append(portrait(story))
        finally:
            if watch is not None:
                watch.close()
            story.close()
    for key, seen in portraits[0].items():
        assert portraits[1][key] == seen, key


#: A story whose warnings and output are looked at from outside.
PROGRAM = """
    import sys, warnings
    import flask, sqlalchemy as sa
    from sqlalchemy import orm
    from tests.story import Page, Story

    story = Story(sys.argv[1])
    story.app.logger.disabled = True  # its records bear the time of day
    if sys.argv[2] == "watched":
        from flask_sessionwatch import SessionWatch
        story.app.config["SESSIONWATCH_TICK"] = 0.01
        SessionWatch(story.app, sinks=[])

    @story.app.get("/warn")
    def warn():
        warnings.warn("a warning of the application's", DeprecationWarning)
        with orm.Session(story.engine) as session:
            session.query(Page).get(1)  # SQLAlchemy warns of the line that calls it
            return str(session.query(Page).count())

    for path in ("/warn", "/read", "/leak", "/fail", "/warn"):
        print(story.get(path))
    print(warnings.filters)
"""


@pytest.mark.parametrize("options", [[], ["-W", "always"], ["-X", "dev"], ["-OO"]], ids=" ".join)
def test_warnings(sqlite_url: str, options: list[str]) -> None:
    """An application prints and warns to the letter what it does without a watch, however Python was started."""
    told = []
    for how in ("unwatched", "watched"):
        command = [sys.executable, *options, "-c", textwrap.dedent(PROGRAM), sqlite_url, how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        told.append((done.stdout, done.stderr))
    assert "LegacyAPIWarning" in told[0][1] or not options or options == ["-OO"]
    assert told[1] == told[0]
