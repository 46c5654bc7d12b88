"""What the API answers: one picture of all workers, whichever of them is asked."""

from __future__ import annotations

import typing as t

import flask

from ..rules import Rule
from ..settings import Settings
from ..store.base import Data
from ..store.picture import SPANS
from ..store.picture import Picture
from .answers import answered
from .answers import tagged
from .asking import flag
from .asking import query
from .catalogue import Catalogue
from .openapi import document

Answer: t.TypeAlias = flask.typing.ResponseReturnValue
#: What a list leaves out of a finding that is asked for in brief.
NOT_BRIEF = ("hint", "details", "stack")


def add_api(
    pages: flask.Blueprint,
    picture: t.Callable[[], Picture],
    rules: t.Sequence[Rule],
    settings: Settings | None = None,
) -> None:
    """Add the JSON API to *pages*.

    :param picture: makes the picture that one request is answered from.
    :param rules: those that judge.
    :param settings: by which they do; None where only the workers know.
    """
    catalogue = Catalogue(rules, settings)
    _add_live(pages, picture)
    _add_findings(pages, picture, catalogue)
    _add_totals(pages, picture)

    @pages.get("/api/v1/rules")
    def rules_() -> Answer:
        now = picture()
        return answered(now, {"rules": catalogue.rows(now)})

    @pages.get("/api/v1/openapi.json")
    def openapi() -> Answer:
        described = document(flask.request.script_root)
        return tagged(described, described)


def _add_live(pages: flask.Blueprint, picture: t.Callable[[], Picture]) -> None:
    @pages.get("/api/v1/live")
    def live() -> Answer:
        now = picture()
        return answered(now, now.live(stacks=flag("stacks", default=True)), clocked=True)

    @pages.get("/api/v1/sessions/<number>")
    def session(number: str) -> Answer:
        return held("sessions", number)

    @pages.get("/api/v1/checkouts/<number>")
    def checkout(number: str) -> Answer:
        return held("checkouts", number)

    def held(kind: str, number: str) -> Answer:
        now = picture()
        found = now.held(kind, number)
        return flask.abort(404) if found is None else answered(now, {"held": found}, clocked=True)

    @pages.get("/api/v1/series")
    def series() -> Answer:
        span = flask.request.args.get("span", "15m")
        if span not in SPANS:
            return flask.abort(400)
        now = picture()
        return answered(now, now.series(span))


def _add_findings(pages: flask.Blueprint, picture: t.Callable[[], Picture], catalogue: Catalogue) -> None:
    @pages.get("/api/v1/findings")
    def findings() -> Answer:
        now = picture()
        listing = now.listing(query())
        if flag("brief", default=False):
            listing["findings"] = [_brief(each) for each in listing["findings"]]
        return answered(now, listing)

    @pages.get("/api/v1/findings/<fingerprint>")
    def finding(fingerprint: str) -> Answer:
        now = picture()
        found = now.finding(fingerprint)
        if found is None:
            return flask.abort(404)
        return answered(now, {**found, **catalogue.advice(found)})


def _brief(finding: Data) -> Data:
    return {name: value for name, value in finding.items() if name not in NOT_BRIEF}


def _add_totals(pages: flask.Blueprint, picture: t.Callable[[], Picture]) -> None:
    @pages.get("/api/v1/scopes")
    def scopes() -> Answer:
        now = picture()
        return answered(now, now.scopes())

    @pages.get("/api/v1/pools")
    def pools() -> Answer:
        now = picture()
        return answered(now, {"engines": now.pools()}, clocked=True)

    @pages.get("/api/v1/fleet")
    def fleet() -> Answer:
        now = picture()
        return answered(now, {"workers": now.fleet()}, clocked=True)
