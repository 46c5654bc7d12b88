"""What the API answers: one picture of all workers, whichever of them is asked."""

from __future__ import annotations

import dataclasses
import typing as t

import flask

from ..rules import Rule
from ..store.picture import SPANS
from ..store.picture import Picture
from .openapi import document

#: What a list of findings can be narrowed by.
FILTERS = ("rule", "code", "level", "scope", "resolved")


def add_api(pages: flask.Blueprint, picture: t.Callable[[], Picture], rules: t.Sequence[Rule]) -> None:
    """Add the JSON API to *pages*.

    :param picture: makes the picture that one request is answered from.
    :param rules: the catalogue.
    """

    @pages.get("/api/v1/live")
    def live() -> flask.typing.ResponseReturnValue:
        now = picture()
        return _answer(now, **now.live())

    @pages.get("/api/v1/findings")
    def findings() -> flask.typing.ResponseReturnValue:
        now = picture()
        return _answer(now, findings=list(filter(_matches, now.findings())))

    @pages.get("/api/v1/findings/<fingerprint>")
    def finding(fingerprint: str) -> flask.typing.ResponseReturnValue:
        found = picture().finding(fingerprint)
        return flask.abort(404) if found is None else flask.jsonify(found)

    @pages.get("/api/v1/scopes")
    def scopes() -> flask.typing.ResponseReturnValue:
        now = picture()
        return _answer(now, **now.scopes())

    @pages.get("/api/v1/series")
    def series() -> flask.typing.ResponseReturnValue:
        span = flask.request.args.get("span", "15m")
        if span not in SPANS:
            return flask.abort(400)
        now = picture()
        return _answer(now, **now.series(span))

    @pages.get("/api/v1/rules")
    def catalogue() -> flask.typing.ResponseReturnValue:
        return flask.jsonify(rules=[_rule_as_json(rule) for rule in rules])

    @pages.get("/api/v1/openapi.json")
    def openapi() -> flask.typing.ResponseReturnValue:
        return flask.jsonify(document(flask.request.script_root))


def _answer(picture: Picture, **values: t.Any) -> flask.Response:
    """Answer with what was read, and say where that is not of all workers."""
    return flask.jsonify(**values, store={"problem": picture.problem})


def _matches(finding: t.Mapping[str, t.Any]) -> bool:
    """Whether *finding* passes the filters of the query."""
    wanted = flask.request.args
    values = {**finding, "scope": finding["scope"] or "", "resolved": str(finding["resolved"]).lower()}
    return all(values[name] == wanted[name] for name in FILTERS if name in wanted)


def _rule_as_json(rule: Rule) -> dict[str, t.Any]:
    """Return *rule* with its manual page; an option that is None follows the settings."""
    options = {each.name: getattr(rule, each.name) for each in dataclasses.fields(rule)}
    return {
        "code": rule.code,
        "rule": rule.name,
        "level": rule.level,
        "hint": rule.hint,
        "page": rule.page,
        "settings": options,
    }
