"""The API's own description, as an OpenAPI document."""

from __future__ import annotations

import typing as t

from ..finding import LEVELS
from ..report.totals import VERDICTS
from ..store.picture import SPANS
from ..version import VERSION

Schema: t.TypeAlias = dict[str, t.Any]

_STRING: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_ANY: Schema = {}
_LEVEL: Schema = {"enum": list(LEVELS)}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _record(**fields: Schema) -> Schema:
    """Return the schema of an object that has these fields and no others."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _map(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_COLUMN = _list(_maybe(_NUMBER))
_WORKER: Schema = {"host": _STRING, "pid": _WHOLE}
_SITE: Schema = {"filename": _STRING, "lineno": _WHOLE, "function": _STRING}
_HELD: Schema = {
    **_WORKER,
    "id": _STRING,
    "scope": _maybe(_STRING),
    "scope_kind": _maybe(_STRING),
    "site": _maybe(_ref("Site")),
    "age_seconds": _NUMBER,
    "leaked": _FLAG,
    "stack": _list(_ref("Frame")),
    "thread": _STRING,
}

_SCHEMAS: dict[str, Schema] = {
    "Site": _record(**_SITE),
    "Frame": _record(**_SITE, application=_FLAG),
    "Worker": _record(**_WORKER, started_at=_TIME, seen_at=_TIME, version=_maybe(_STRING)),
    "Engine": _record(
        **_WORKER,
        name=_STRING,
        dialect=_STRING,
        pool=_STRING,
        size=_maybe(_WHOLE),
        max=_maybe(_WHOLE),
        used=_WHOLE,
        idle=_WHOLE,
        waiting=_WHOLE,
        oldest_age_seconds=_maybe(_NUMBER),
    ),
    "Session": _record(**_HELD, writes=_WHOLE, checkouts=_WHOLE),
    "Checkout": _record(
        **_HELD,
        engine=_STRING,
        session=_FLAG,
        session_id=_maybe(_STRING),
        statements=_WHOLE,
        server_id=_maybe(_WHOLE),
        idle_seconds=_NUMBER,
        doing=_maybe(_STRING),
        now=_list(_ref("Frame")),
    ),
    "Store": _record(problem=_maybe(_STRING)),
    "Live": _record(
        now=_TIME,
        workers=_list(_ref("Worker")),
        engines=_list(_ref("Engine")),
        sessions=_list(_ref("Session")),
        checkouts=_list(_ref("Checkout")),
        omitted=_record(sessions=_WHOLE, checkouts=_WHOLE),
        store=_ref("Store"),
    ),
    "SeenBy": _record(**_WORKER, gone=_FLAG, count=_WHOLE, first_seen=_TIME, last_seen=_TIME, resolved=_FLAG),
    "Finding": _record(
        code=_STRING,
        rule=_STRING,
        level=_LEVEL,
        message=_STRING,
        site=_maybe(_ref("Site")),
        scope=_maybe(_STRING),
        scope_kind=_maybe(_STRING),
        about=_maybe(_STRING),
        hint=_STRING,
        verb=_STRING,
        details=_map(_ANY),
        stack=_list(_ref("Frame")),
        fingerprint=_STRING,
        count=_WHOLE,
        first_seen=_TIME,
        last_seen=_TIME,
        resolved=_FLAG,
        known=_FLAG,
        workers=_list(_ref("SeenBy")),
        worker_count=_WHOLE,
    ),
    "Findings": _record(findings=_list(_ref("Finding")), store=_ref("Store")),
    "Scope": _record(
        scope=_STRING,
        kind=_STRING,
        count=_WHOLE,
        verdicts=_record(**dict.fromkeys(VERDICTS, _WHOLE)),
        commits=_record(p50=_WHOLE, p95=_WHOLE, max=_WHOLE),
        sessions=_WHOLE,
        connections_peak=_WHOLE,
        hold_seconds=_NUMBER,
        wait_seconds=_NUMBER,
        lost_writes=_WHOLE,
    ),
    "HoldingSite": _record(engine=_STRING, site=_ref("Site"), hold_seconds=_NUMBER, checkouts=_WHOLE),
    "Scopes": _record(scopes=_list(_ref("Scope")), sites=_list(_ref("HoldingSite")), store=_ref("Store")),
    "EngineSeries": _record(name=_STRING, used=_COLUMN, idle=_COLUMN, max=_COLUMN, waiting=_COLUMN),
    "Series": _record(
        span={"enum": list(SPANS)},
        step_seconds=_WHOLE,
        start=_TIME,
        workers=_list(_WHOLE),
        sessions=_COLUMN,
        scopes=_COLUMN,
        findings=_COLUMN,
        engines=_list(_ref("EngineSeries")),
        store=_ref("Store"),
    ),
    "Rule": _record(
        code=_STRING, rule=_STRING, level=_LEVEL, hint=_STRING, page=_STRING, settings=_map(_ANY)
    ),
    "Rules": _record(rules=_list(_ref("Rule"))),
    "Error": _record(error=_STRING),
}


def _parameter(name: str, where: str, schema: Schema, description: str) -> Schema:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "schema": schema,
        "description": description,
    }


_FILTERS = [
    _parameter("code", "query", _STRING, "Only those of the rule with this code, such as SW101."),
    _parameter("rule", "query", _STRING, "Only those of the rule with this name."),
    _parameter("level", "query", _LEVEL, "Only those of this level."),
    _parameter("scope", "query", _STRING, "Only those of scopes with this name."),
    _parameter("resolved", "query", {"enum": ["true", "false"]}, "Only those that are, or are not, over."),
]
_FINGERPRINT = [_parameter("fingerprint", "path", _STRING, "The finding's fingerprint.")]
_SPAN = [_parameter("span", "query", {"enum": list(SPANS), "default": "15m"}, "How far back it reaches.")]


def _get(summary: str, answer: str, *refusals: int, parameters: t.Sequence[Schema] = ()) -> Schema:
    responses = {"200": _response("The answer.", answer)}
    for status in (401, *refusals):
        responses[str(status)] = _response(_REFUSALS[status], "Error")
    return {"get": {"summary": summary, "parameters": list(parameters), "responses": responses}}


_REFUSALS = {
    400: "There is no such span.",
    401: "The token is missing or wrong.",
    404: "There is no such finding.",
}


def _response(description: str, schema: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


#: Paths are relative to SESSIONWATCH_URL_PREFIX.
_PATHS: dict[str, Schema] = {
    "/api/v1/live": _get("What is live in every worker.", "Live"),
    "/api/v1/findings": _get(
        "Every finding; those of all workers are added up.", "Findings", parameters=_FILTERS
    ),
    "/api/v1/findings/{fingerprint}": _get(
        "One finding, with every worker that saw it.", "Finding", 404, parameters=_FINGERPRINT
    ),
    "/api/v1/scopes": _get("What scopes have used, by name, and the sites that held connections.", "Scopes"),
    "/api/v1/series": _get("The history, for charts.", "Series", 400, parameters=_SPAN),
    "/api/v1/rules": _get("The catalogue of rules, with their manual pages.", "Rules"),
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
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
