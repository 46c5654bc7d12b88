"""The API's own description, as an OpenAPI document."""

from __future__ import annotations

import typing as t

from ..store.listing import SORTS
from ..store.picture import SPANS
from ..version import VERSION
from .asking import MOST
from .schemas import LEVEL
from .schemas import SCHEMAS
from .schemas import STRING
from .schemas import Schema
from .schemas import ref


def _parameter(name: str, where: str, schema: Schema, description: str) -> Schema:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": schema,
        "description": description,
    }


_EITHER: Schema = {"enum": ["true", "false"]}


def _filter(name: str, schema: Schema, description: str) -> Schema:
    several = {"type": "array", "items": schema}
    return _parameter(name, "query", several, f"{description} It may be repeated: any of the values.")


_FILTERS = [
    _filter("code", STRING, "Only those of the rule with this code, such as SW101."),
    _filter("rule", STRING, "Only those of the rule with this name."),
    _filter("level", LEVEL, "Only those of this level."),
    _filter("engine", STRING, "Only those about this engine."),
    _filter("scope", STRING, "Only those of scopes with this name; empty for work outside of any."),
    _filter(
        "worker", STRING, "Only those that this worker saw, given by host and process id as in web-1:4711."
    ),
    _filter("resolved", _EITHER, "Only those that are, or are not, over."),
    _filter("known", _EITHER, "Only those that the baseline has, or has not."),
    _parameter("q", "query", STRING, "Only those with this text in what they say, whatever the case."),
]
_ORDERS = [f"{sign}{name}" for name in SORTS for sign in ("", "-")]
_NUMBER_OF: Schema = {"type": "integer", "minimum": 0, "maximum": MOST}
_PAGING = [
    _parameter(
        "sort",
        "query",
        {"enum": _ORDERS, "default": "first_seen"},
        "In which order; with a -, the largest first.",
    ),
    _parameter("offset", "query", {**_NUMBER_OF, "default": 0}, "How many to pass over."),
    _parameter("limit", "query", _NUMBER_OF, "How many to answer with; all unless given."),
    _parameter(
        "brief", "query", {**_EITHER, "default": "false"}, "Whether to leave out hint, details and stack."
    ),
]
_FINGERPRINT = [_parameter("fingerprint", "path", STRING, "The finding's fingerprint.")]
_HELD = [_parameter("id", "path", STRING, "Its id, as in the list of what is live.")]
_STACKS = [
    _parameter(
        "stacks", "query", {**_EITHER, "default": "true"}, "Whether with stacks, which are most of it."
    )
]
_SPAN = [_parameter("span", "query", {"enum": list(SPANS), "default": "15m"}, "How far back it reaches.")]


def _get(summary: str, answer: str, *refusals: int, parameters: t.Sequence[Schema] = ()) -> Schema:
    responses = {
        "200": {**_response("The answer.", answer), "headers": {"ETag": {"schema": STRING}}},
        "304": {
            "description": "Nothing but time has passed since the answer whose ETag If-None-Match names."
        },
    }
    for status in (401, *refusals, 414, 429, 431):
        responses[str(status)] = _response(_REFUSALS[status], "Error")
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


_REFUSALS = {
    400: "A parameter has a value that it does not take.",
    401: "The token is missing or wrong.",
    404: "There is no such thing, or no more.",
    414: "The query string is too long.",
    429: "This address has sent too many wrong tokens; Retry-After says how long to wait.",
    431: "A header is too long.",
}


def _response(description: str, schema: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


#: Paths are relative to SESSIONWATCH_URL_PREFIX.
_PATHS: dict[str, Schema] = {
    "/api/v1/live": _get("What is live in every worker.", "Live", 400, parameters=_STACKS),
    "/api/v1/sessions/{id}": _get(
        "One live session, with the source around its frames.", "OneSession", 404, parameters=_HELD
    ),
    "/api/v1/checkouts/{id}": _get(
        "One live check-out, with the source around its frames.", "OneCheckout", 404, parameters=_HELD
    ),
    "/api/v1/findings": _get(
        "Findings; those of all workers are added up.", "Findings", 400, parameters=[*_FILTERS, *_PAGING]
    ),
    "/api/v1/findings/{fingerprint}": _get(
        "One finding, with every worker that saw it, its history, and the source around its frames.",
        "OneFinding",
        404,
        parameters=_FINGERPRINT,
    ),
    "/api/v1/scopes": _get("What scopes have used, by name, and the sites that held connections.", "Scopes"),
    "/api/v1/pools": _get("How pools are used, and were since the workers began, by engine.", "Pools"),
    "/api/v1/series": _get("The history, for charts.", "Series", 400, parameters=_SPAN),
    "/api/v1/fleet": _get("Every worker that lives, or was heard in the last 15 minutes.", "Fleet"),
    "/api/v1/rules": _get("Every rule: its manual page, whether it is on, and its limits.", "Rules"),
}


def document(prefix: str) -> Schema:
    """Return the OpenAPI document.

    :param prefix: where the pages are mounted.
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": "flask_sessionwatch", "version": VERSION},
        "servers": [{"url": prefix or "/"}],
        "security": [{"token": []}],
        "paths": _PATHS,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
