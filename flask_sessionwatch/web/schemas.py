"""The shapes of what the API answers, as JSON Schema."""

from __future__ import annotations

import typing as t

from ..finding import LEVELS
from ..report.harvest import OUTCOMES
from ..report.totals import VERDICTS
from ..store.listing import FACETS
from ..store.picture import SPANS

Schema: t.TypeAlias = dict[str, t.Any]

STRING: Schema = {"type": "string"}
_WHOLE: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_ANY: Schema = {}
LEVEL: Schema = {"enum": list(LEVELS)}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _record(**fields: Schema) -> Schema:
    """Return the schema of an object that has these fields and no others."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _map(schema: Schema) -> Schema:
    return {"type": "object", "additionalProperties": schema}


def ref(name: str) -> Schema:
    """Refer to one of :data:`SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


_COLUMN = _list(_maybe(_NUMBER))
_WORKER: Schema = {"host": STRING, "pid": _WHOLE}
_SITE: Schema = {"filename": STRING, "lineno": _WHOLE, "function": STRING}
_HELD: Schema = {
    **_WORKER,
    "id": STRING,
    "scope": _maybe(STRING),
    "scope_kind": _maybe(STRING),
    "site": _maybe(ref("Site")),
    "since": _TIME,
    "age_seconds": _NUMBER,
    "leaked": _FLAG,
    "thread": STRING,
    "doing": _maybe(STRING),
    "stack": _list(ref("Frame")),
    "now": _list(ref("Frame")),
}
_SESSION: Schema = {**_HELD, "writes": _WHOLE, "checkouts": _WHOLE}
_CHECKOUT: Schema = {
    **_HELD,
    "engine": STRING,
    "session": _FLAG,
    "session_id": _maybe(STRING),
    "statements": _WHOLE,
    "server_id": _maybe(_WHOLE),
    "idle_seconds": _NUMBER,
}
_HOLDING: Schema = {"site": ref("Site"), "hold_seconds": _NUMBER, "checkouts": _WHOLE}
_SUMMARY: Schema = {
    "code": STRING,
    "rule": STRING,
    "level": LEVEL,
    "message": STRING,
    "site": _maybe(ref("Site")),
    "scope": _maybe(STRING),
    "scope_kind": _maybe(STRING),
    "about": _maybe(STRING),
    "engine": _maybe(STRING),
    "verb": STRING,
    "fingerprint": STRING,
    "count": _WHOLE,
    "first_seen": _TIME,
    "last_seen": _TIME,
    "resolved": _FLAG,
    "known": _FLAG,
    "recent": _list(_WHOLE),
    "workers": _list(ref("SeenBy")),
    "worker_count": _WHOLE,
}
_EVIDENCE: Schema = {"hint": STRING, "details": _map(_ANY), "stack": _list(ref("Frame"))}
#: What every answer of the API says.
_ANSWER: Schema = {"now": _TIME, "store": ref("Store")}

SCHEMAS: dict[str, Schema] = {
    "Site": _record(**_SITE),
    "Frame": _record(**_SITE, application=_FLAG),
    "Worker": _record(**_WORKER, started_at=_TIME, seen_at=_TIME, version=_maybe(STRING)),
    "Engine": _record(
        **_WORKER,
        name=STRING,
        dialect=STRING,
        pool=STRING,
        size=_maybe(_WHOLE),
        max=_maybe(_WHOLE),
        overflow=_WHOLE,
        used=_WHOLE,
        idle=_WHOLE,
        waiting=_WHOLE,
        oldest_age_seconds=_maybe(_NUMBER),
    ),
    "Session": _record(**_SESSION),
    "Checkout": _record(**_CHECKOUT),
    "Source": _record(filename=STRING, lineno=_WHOLE, first_lineno=_WHOLE, lines=_list(STRING)),
    "OneSession": _record(held=_record(**_SESSION, sources=_list(ref("Source"))), **_ANSWER),
    "OneCheckout": _record(held=_record(**_CHECKOUT, sources=_list(ref("Source"))), **_ANSWER),
    "Store": _record(problem=_maybe(STRING)),
    "Live": _record(
        workers=_list(ref("Worker")),
        engines=_list(ref("Engine")),
        sessions=_list(ref("Session")),
        checkouts=_list(ref("Checkout")),
        omitted=_record(sessions=_WHOLE, checkouts=_WHOLE),
        **_ANSWER,
    ),
    "SeenBy": _record(**_WORKER, gone=_FLAG, count=_WHOLE, first_seen=_TIME, last_seen=_TIME, resolved=_FLAG),
    "Finding": _record(**_SUMMARY, **_EVIDENCE),
    "BriefFinding": _record(**_SUMMARY),
    "Findings": _record(
        findings=_list({"anyOf": [ref("Finding"), ref("BriefFinding")]}),
        total=_WHOLE,
        counts=_record(
            open=_record(**dict.fromkeys(LEVELS, _WHOLE)),
            resolved=_WHOLE,
            known=_WHOLE,
        ),
        facets=_record(**dict.fromkeys(FACETS, _list(_record(value=STRING, count=_WHOLE)))),
        **_ANSWER,
    ),
    "Event": _record(
        event=STRING,
        seconds=_maybe(_NUMBER),
        at=_maybe(_TIME),
        site=_maybe(ref("Site")),
        text=_maybe(STRING),
    ),
    "OneFinding": _record(
        **_SUMMARY,
        **_EVIDENCE,
        sources=_list(ref("Source")),
        timeline=_list(ref("Event")),
        page=_maybe(STRING),
        ignore=STRING,
        **_ANSWER,
    ),
    "BadScope": _record(
        **_WORKER,
        at=_TIME,
        verdict=LEVEL,
        status=_maybe(_WHOLE),
        error=_maybe(STRING),
        thread=STRING,
        commits=_WHOLE,
        connections_peak=_WHOLE,
        findings=_list(STRING),
    ),
    "Scope": _record(
        scope=STRING,
        kind=STRING,
        count=_WHOLE,
        verdicts=_record(**dict.fromkeys(VERDICTS, _WHOLE)),
        commits=_record(p50=_WHOLE, p95=_WHOLE, max=_WHOLE),
        sessions=_WHOLE,
        connections_peak=_WHOLE,
        hold_seconds=_NUMBER,
        hold_share=_NUMBER,
        wait_seconds=_NUMBER,
        lost_writes=_WHOLE,
        lost_writes_share=_NUMBER,
        bad=_list(ref("BadScope")),
    ),
    "HoldingSite": _record(engine=STRING, **_HOLDING),
    "Scopes": _record(scopes=_list(ref("Scope")), sites=_list(ref("HoldingSite")), **_ANSWER),
    "EngineSeries": _record(
        name=STRING,
        used=_COLUMN,
        idle=_COLUMN,
        max=_COLUMN,
        waiting=_COLUMN,
        connects=_COLUMN,
        timeouts=_COLUMN,
    ),
    "Series": _record(
        span={"enum": list(SPANS)},
        step_seconds=_WHOLE,
        start=_TIME,
        workers=_list(_WHOLE),
        sessions=_COLUMN,
        scopes=_COLUMN,
        findings=_COLUMN,
        transactions=_record(**dict.fromkeys(OUTCOMES, _COLUMN)),
        engines=_list(ref("EngineSeries")),
        **_ANSWER,
    ),
    "Histogram": _record(bounds=_list(_NUMBER), counts=_list(_WHOLE), sum=_NUMBER),
    "Pool": _record(
        name=STRING,
        dialect=_maybe(STRING),
        pool=_maybe(STRING),
        size=_maybe(_WHOLE),
        max=_maybe(_WHOLE),
        overflow=_WHOLE,
        used=_WHOLE,
        idle=_WHOLE,
        waiting=_WHOLE,
        workers=_WHOLE,
        oldest_age_seconds=_maybe(_NUMBER),
        peak=_WHOLE,
        hold=ref("Histogram"),
        wait=ref("Histogram"),
        connect=ref("Histogram"),
        checkouts=_WHOLE,
        timeouts=_WHOLE,
        connects=_WHOLE,
        sites=_list(_record(**_HOLDING)),
    ),
    "Pools": _record(engines=_list(ref("Pool")), **_ANSWER),
    "FleetWorker": _record(
        **_WORKER,
        live=_FLAG,
        started_at=_TIME,
        seen_at=_TIME,
        version=_maybe(STRING),
        python=_maybe(STRING),
        sqlalchemy=_maybe(STRING),
        flask=_maybe(STRING),
        watching=_maybe(_FLAG),
        dropped=_maybe(_WHOLE),
        internal_errors=_maybe(_WHOLE),
        findings=_maybe(_WHOLE),
        self_seconds=_maybe(_NUMBER),
        cpu_seconds=_maybe(_NUMBER),
    ),
    "Fleet": _record(workers=_list(ref("FleetWorker")), **_ANSWER),
    "Rule": _record(
        code=STRING,
        rule=STRING,
        level=LEVEL,
        hint=STRING,
        page=STRING,
        settings=_map(_ANY),
        enabled=_FLAG,
        ignored=_list(STRING),
        thresholds=_list(_record(option=_maybe(STRING), setting=STRING, value=_NUMBER)),
        findings=_record(open=_WHOLE, total=_WHOLE),
    ),
    "Rules": _record(rules=_list(ref("Rule")), **_ANSWER),
    "Error": _record(error=STRING),
}
