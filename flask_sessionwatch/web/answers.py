"""Answer with JSON, and not again with what the reader has already."""

from __future__ import annotations

import hashlib
import json
import re
import time
import typing as t
from datetime import timedelta

import flask

from ..finding import stamp
from ..store.picture import Picture

#: What follows the clock alone: two answers that differ in nothing else are the same.
CLOCKED = frozenset(
    ("seen_at", "age_seconds", "idle_seconds", "oldest_age_seconds", "self_seconds", "cpu_seconds")
)
# In the text of an answer, where a quotation mark within a string has a backslash before it, so that only names match. Each
# pattern begins with what it always begins with, which Python looks for several times faster.
_CLOCK = re.compile(rf'"(?:{"|".join(sorted(CLOCKED))})":[^,}}\]]*')
#: To the second: the wall clock and the one that ages are counted by drift apart by microseconds.
_SINCE = re.compile(r'("since":"[^"]{19})[^"]*')
#: To the minute: what is held right now counts as well, and nobody lets this number age between two answers.
_HELD = re.compile(r'"hold_seconds":([0-9.]+)')


class Made(t.NamedTuple):
    """An answer that anybody may be given who is let in.

    :param body: JSON.
    :param tag: tells it from others.
    :param at: when it was made; monotonic seconds.
    """

    body: bytes
    tag: str
    at: float


def made(picture: Picture, values: t.Mapping[str, t.Any], *, clocked: bool = False) -> Made:
    """Make the answer of what was read from *picture*, and say where that is not of all workers.

    :param clocked: whether some of the values follow the clock.
    """
    told = {**values, "store": {"problem": picture.problem}}
    told.pop("now", None)
    text = _as_text(told)
    body = f'{{"now":{_as_text(stamp(time.time()))},{text[1:]}\n'
    return Made(body.encode(), _tag(_without_clock(text) if clocked else text), time.monotonic())


def answered(answer: Made) -> flask.Response:
    """Answer with what was made, or with 304 where the reader has it."""
    response = flask.Response(answer.body, mimetype="application/json")
    response.set_etag(answer.tag, weak=True)
    age = int(time.monotonic() - answer.at)
    if age:
        response.age = timedelta(seconds=age)
    return t.cast(flask.Response, response.make_conditional(flask.request))


def tagged(answer: t.Any) -> flask.Response:
    """Answer with JSON in which there is nothing of a picture."""
    text = _as_text(answer)
    return answered(Made(f"{text}\n".encode(), _tag(text), time.monotonic()))


def _as_text(value: t.Any) -> str:
    # The details of a rule of somebody's own may hold anything.
    return json.dumps(value, default=str, separators=(",", ":"))


def _tag(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _without_clock(text: str) -> str:
    text = _SINCE.sub(r"\1", _CLOCK.sub("", text))
    return _HELD.sub(lambda held: str(float(held[1]) // 60), text)
