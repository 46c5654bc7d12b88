"""What the API answers: one picture of all workers, whichever of them is asked."""

from __future__ import annotations

import typing as t
from collections.abc import Hashable

import flask

from ..rules import Rule
from ..settings import Settings
from ..store.base import Data
from ..store.listing import Query
from ..store.picture import SPANS
from ..store.picture import Picture
from .answers import Made
from .answers import answered
from .answers import made
from .answers import tagged
from .asking import flag
from .asking import query
from .catalogue import Catalogue
from .openapi import document
from .ready import EVERY
from .ready import Answers
from .ready import at_once

Answer: t.TypeAlias = flask.typing.ResponseReturnValue
#: Seconds after which an answer is worth making again: what is live; what workers tell every ten seconds or less often.
FAST = 0.5
SLOW = 2.5
#: What a list leaves out of a finding that is asked for in brief.
NOT_BRIEF = ("hint", "details", "stack")


def add_api(
    pages: flask.Blueprint,
    picture: t.Callable[[], Picture],
    rules: t.Sequence[Rule],
    settings: Settings | None = None,
    answers: Answers = at_once,
) -> None:
    """Add the JSON API to *pages*.

    :param picture: makes the picture that one request is answered from.
    :param rules: those that judge.
    :param settings: by which they do; None where only the workers know.
    :param answers: where what is asked for again and again comes from.
    """
    catalogue = Catalogue(rules, settings)
    kept = _Kept(picture, answers)
    _add_live(pages, kept)
    _add_held(pages, picture)
    _add_findings(pages, kept)
    _add_finding(pages, picture, catalogue)
    _add_totals(pages, kept)

    @pages.get("/api/v1/rules")
    def rules_() -> Answer:
        return kept("rules", lambda now: {"rules": catalogue.rows(now)}, every=SLOW)

    @pages.get("/api/v1/openapi.json")
    def openapi() -> Answer:
        return tagged(document(flask.request.script_root))


class _Kept:
    """Answers what many ask for.

    :param picture: makes the picture that one answer is made from.
    :param answers: where answers come from.
    """

    def __init__(self, picture: t.Callable[[], Picture], answers: Answers) -> None:
        self._picture = picture
        self._answers = answers

    def __call__(
        self,
        key: Hashable,
        read: t.Callable[[Picture], Data],
        *,
        clocked: bool = False,
        every: float = EVERY,
    ) -> Answer:
        def make() -> Made:
            now = self._picture()
            return made(now, read(now), clocked=clocked)

        return answered(self._answers(key, make, every))


def _add_live(pages: flask.Blueprint, kept: _Kept) -> None:
    @pages.get("/api/v1/live")
    def live() -> Answer:
        stacks = flag("stacks", default=True)
        return kept(("live", stacks), lambda now: now.live(stacks=stacks), clocked=True, every=FAST)

    @pages.get("/api/v1/series")
    def series() -> Answer:
        span = flask.request.args.get("span", "15m")
        if span not in SPANS:
            return flask.abort(400)
        return kept(("series", span), lambda now: now.series(span), every=SLOW)


def _add_held(pages: flask.Blueprint, picture: t.Callable[[], Picture]) -> None:
    @pages.get("/api/v1/sessions/<number>")
    def session(number: str) -> Answer:
        return held("sessions", number)

    @pages.get("/api/v1/checkouts/<number>")
    def checkout(number: str) -> Answer:
        return held("checkouts", number)

    def held(kind: str, number: str) -> Answer:
        now = picture()
        found = now.held(kind, number)
        return flask.abort(404) if found is None else answered(made(now, {"held": found}, clocked=True))


def _add_findings(pages: flask.Blueprint, kept: _Kept) -> None:
    @pages.get("/api/v1/findings")
    def findings() -> Answer:
        asked, brief = query(), flag("brief", default=False)
        return kept(("findings", repr(asked), brief), lambda now: _listing(now, asked, brief=brief))


def _listing(picture: Picture, asked: Query, *, brief: bool) -> Data:
    listing = picture.listing(asked)
    if brief:
        listing["findings"] = [_brief(each) for each in listing["findings"]]
    return listing


def _add_finding(pages: flask.Blueprint, picture: t.Callable[[], Picture], catalogue: Catalogue) -> None:
    @pages.get("/api/v1/findings/<fingerprint>")
    def finding(fingerprint: str) -> Answer:
        now = picture()
        found = now.finding(fingerprint)
        if found is None:
            return flask.abort(404)
        return answered(made(now, {**found, **catalogue.advice(found)}))


def _brief(finding: Data) -> Data:
    return {name: value for name, value in finding.items() if name not in NOT_BRIEF}


def _add_totals(pages: flask.Blueprint, kept: _Kept) -> None:
    @pages.get("/api/v1/scopes")
    def scopes() -> Answer:
        return kept("scopes", Picture.scopes, clocked=True, every=SLOW)

    @pages.get("/api/v1/pools")
    def pools() -> Answer:
        return kept("pools", lambda now: {"engines": now.pools()}, clocked=True)

    @pages.get("/api/v1/fleet")
    def fleet() -> Answer:
        return kept("fleet", lambda now: {"workers": now.fleet()}, clocked=True)
