"""Answer with JSON, and not again with what the reader has already."""

from __future__ import annotations

import hashlib
import json
import time
import typing as t

import flask

from ..finding import stamp
from ..store.picture import Picture

#: What follows the clock alone: two answers that differ in nothing else are the same.
CLOCKED = frozenset(
    ("seen_at", "age_seconds", "idle_seconds", "oldest_age_seconds", "self_seconds", "cpu_seconds")
)
_TO_THE_SECOND = len("2026-01-31T23:59:59")


def answered(picture: Picture, values: t.Mapping[str, t.Any], *, clocked: bool = False) -> flask.Response:
    """Answer with what was read from *picture*, and say where that is not of all workers.

    :param clocked: whether some of the values follow the clock.
    """
    told = {**values, "store": {"problem": picture.problem}}
    told.pop("now", None)
    return tagged({"now": stamp(time.time()), **told}, _without_clock(told) if clocked else told)


def tagged(answer: t.Any, identity: t.Any) -> flask.Response:
    """Answer with JSON, or with 304 where the reader has it.

    :param identity: what tells the answer from others.
    """
    response = flask.jsonify(answer)
    text = json.dumps(identity, default=str, separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12)
    response.set_etag(digest.hexdigest(), weak=True)
    return t.cast(flask.Response, response.make_conditional(flask.request))


def _without_clock(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {
            # The wall clock and the one that ages are counted by drift apart by microseconds.
            name: each[:_TO_THE_SECOND]
            if name == "since"
            # Most are neither, and there are a hundred thousand in the answer of a large fleet.
            else (_without_clock(each) if isinstance(each, (dict, list)) else each)
            for name, each in value.items()
            if name not in CLOCKED
        }
    return [_without_clock(each) for each in value] if isinstance(value, list) else value
