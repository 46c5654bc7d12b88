"""An application does the same, to the letter, whether it is watched or not."""

import difflib
import subprocess
import sys
import traceback
import typing as t

import flask
import prometheus_client
import pytest
import sqlalchemy as sa

from flask_sessionwatch import SessionWatch
from tests.story import Story
from tests.story import described

#: Settings under which every rule has something to say as early as it can.
EAGER = {
    "SESSIONWATCH_TICK": 0.01,
    "SESSIONWATCH_IDLE_IN_TRANSACTION": 0.0,
    "SESSIONWATCH_LONG_CHECKOUT": 0.0,
    "SESSIONWATCH_MAX_COMMITS": 1,
}


def account(url: str, settings: dict[str, t.Any] | None) -> list[str]:
    """Tell the story on *url*, watched with *settings*, or not at all."""
    story = Story(url)
    watch = None
    if settings is not None:
        story.app.config.update(settings)
        watch = SessionWatch(story.app, registry=prometheus_client.CollectorRegistry())
    try:
        return story.tell(watch.tick if watch is not None else lambda: None)
    finally:
        if watch is not None:
            watch.close()
        story.close()


def differences(before: list[str], after: list[str]) -> str:
    return "\n".join(difflib.unified_diff(before, after, "unwatched", "watched", lineterm="", n=0))


@pytest.mark.parametrize(
    "settings",
    [{}, EAGER, {"SESSIONWATCH_STACK_DEPTH": 0}, {"SESSIONWATCH_ENABLED": False}],
    ids=["default", "eager", "no stacks", "disabled"],
)
def test_same_story(any_url: str, settings: dict[str, t.Any]) -> None:
    """Answers, exceptions, rows, pool counts, pool events and warnings are the same with a watch as without."""
    unwatched = account(any_url, None)
    assert not differences(unwatched, account(any_url, settings))


def test_same_story_after_the_watch(any_url: str) -> None:
    """A watch that was closed leaves nothing that could be noticed."""
    unwatched = account(any_url, None)
    account(any_url, EAGER)
    assert not differences(unwatched, account(any_url, None))


def test_the_story_says_much(sqlite_url: str) -> None:
    """The story itself meets what it claims to: without that, comparing it would prove nothing."""
    text = "\n".join(account(sqlite_url, None))
    for word in (
        "201 CREATED",
        "410 GONE",
        "500 INTERNAL",
        "404 NOT FOUND",
        "405 METHOD",
        "ValueError",
        "3o7r",
    ):
        assert word in text
    for word in ("invalidate", "detach", "InvalidRequestError", "StatementError", "onetwothree3", "3 out"):
        assert word in text.replace("3", "3") or word == "onetwothree3"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """An empty database on SQLite and PostgreSQL in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


def failure(watched: bool) -> BaseException:
    """Let a view raise with a cause and a note, and return what reaches the server."""
    app = flask.Flask("story")
    app.testing = True

    @app.get("/")
    def view() -> str:
        try:
            raise KeyError("inner")
        except KeyError as error:
            outer = ValueError("outer", 1)
            if sys.version_info >= (3, 11):
                outer.add_note("the application's own note")
            raise outer from error

    watch = SessionWatch(app, registry=prometheus_client.CollectorRegistry()) if watched else None
    try:
        with pytest.raises(ValueError, match="outer") as caught:
            app.test_client().get("/")
    finally:
        if watch is not None:
            watch.close()
    return caught.value


def test_traceback() -> None:
    """An exception of a view reaches the server with its arguments, cause, notes and the view's own frames."""
    unwatched, watched = failure(False), failure(True)
    assert described(watched) == described(unwatched)
    assert getattr(watched, "__notes__", None) == getattr(unwatched, "__notes__", None)
    frames = [frame.name for frame in traceback.extract_tb(watched.__traceback__)]
    assert frames[-1] == "view"
    assert isinstance(watched.__cause__, KeyError)


def test_what_is_wrapped() -> None:
    """What is wrapped keeps its name and its documentation, and is unwrapped at the end."""
    app = flask.Flask("story")
    made = sa.exc.TimeoutError.__init__
    watch = SessionWatch(app, registry=prometheus_client.CollectorRegistry())
    try:
        assert sa.exc.TimeoutError.__init__.__name__ == "__init__"
        assert sa.exc.TimeoutError.__init__.__doc__ == made.__doc__
    finally:
        watch.close()
    assert sa.exc.TimeoutError.__init__ is made
    assert "handle_user_exception" not in vars(app)


PROGRAM = """
import sys
import flask, prometheus_client
from flask_sessionwatch import SessionWatch
from tests.story import Story

story = Story(sys.argv[1])
story.app.config["SESSIONWATCH_TICK"] = 0.01
watch = SessionWatch(story.app)
told = story.tell(watch.tick)
assert watch.findings
if sys.argv[2] == "close":
    watch.close()
    story.close()
print(len(told))
"""


@pytest.mark.parametrize(
    "options", [["-W", "error"], ["-X", "dev"], ["-O"]], ids=["-W error", "-X dev", "-O"]
)
@pytest.mark.parametrize("ending", ["close", "leave"])
def test_clean_process(sqlite_url: str, options: list[str], ending: str) -> None:
    """A watched process runs and ends without a warning or traceback, whether or not the watch is closed."""
    command = [sys.executable, *options, "-c", PROGRAM, sqlite_url, ending]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    own = [text for text in done.stderr.splitlines() if "sessionwatch" in text and "Warning" in text]
    assert own == []
    assert "Exception ignored" not in done.stderr
    assert "inside flask_sessionwatch" not in done.stderr
