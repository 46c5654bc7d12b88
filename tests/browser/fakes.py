"""Answers of the API as no shop gives them: too many, too long, or hostile. The OpenAPI document says what they look like."""

import datetime
import typing as t

Json = dict[str, t.Any]

NOW = datetime.datetime(2026, 5, 4, 10, 0, tzinfo=datetime.timezone.utc)
POINTS = 90


def ago(seconds: float) -> str:
    """The time so many seconds before now."""
    return (NOW - datetime.timedelta(seconds=seconds)).isoformat()


def answer(**values: t.Any) -> Json:
    return {**values, "now": ago(0), "store": {"problem": None}}


def site(name: str = "orders", lineno: int = 42) -> Json:
    return {"filename": f"/srv/shop/{name}.py", "lineno": lineno, "function": f"list_{name}"}


def source(of: Json, line: str = "    connection = engine.connect()") -> Json:
    """Lines around a site."""
    lines = [f"    # line {number}" for number in range(9)]
    lines[4] = line
    return {**{k: of[k] for k in ("filename", "lineno")}, "first_lineno": of["lineno"] - 4, "lines": lines}


def stack(of: Json) -> list[Json]:
    """A stack of two library calls inside of one of the application."""
    library = {"filename": "/lib/sqlalchemy/pool/base.py", "function": "connect", "application": False}
    return [{**library, "lineno": 10}, {**library, "lineno": 20}, {**of, "application": True}]


def held(number: int, **values: t.Any) -> Json:
    age = 30.5 - number * 0.05
    return {
        "id": f"web-1/4711/c{number}",
        "scope": f"GET /orders/<int:id>/{number % 7}",
        "scope_kind": "request",
        "site": site("orders", 40 + number % 9),
        "age_seconds": age,
        "since": ago(age),
        "thread": f"gthread-{number % 8}",
        "host": f"web-{number % 3 + 1}",
        "pid": 4711 + number % 4,
        "leaked": number % 50 == 0,
        "stack": [],
        "doing": "in an HTTP call",
        "now": [],
        **values,
    }


def checkout(number: int, **values: t.Any) -> Json:
    return {
        **held(number),
        "engine": "default",
        "session": number % 2 == 0,
        "session_id": None,
        "statements": number,
        "server_id": 10_000 + number,
        "idle_seconds": 0.5,
        **values,
    }


def session(number: int, **values: t.Any) -> Json:
    return {**held(number, id=f"web-1/4711/s{number}"), "writes": number % 3, "checkouts": 0, **values}


def one_held(row: Json) -> Json:
    """What is answered when a row is opened."""
    place = row["site"]
    here = stack(place)
    return answer(held={**row, "stack": here, "now": here, "sources": [source(place)]})


def live(checkouts: int = 3, sessions: int = 1, **values: t.Any) -> Json:
    workers = [
        {
            "host": "web-1",
            "pid": 4711 + number,
            "started_at": ago(4000),
            "seen_at": ago(0.4),
            "version": "0.1.0",
        }
        for number in range(4)
    ]
    engine = {
        "dialect": "postgresql",
        "pool": "QueuePool",
        "size": 5,
        "max": 200,
        "overflow": 0,
        "idle": 2,
        "waiting": 0,
        "oldest_age_seconds": 30.5,
    }
    engines = [
        {**engine, "name": "default", "host": each["host"], "pid": each["pid"], "used": checkouts // 4}
        for each in workers
    ]
    return answer(
        workers=workers,
        engines=engines,
        sessions=[session(number) for number in range(sessions)],
        checkouts=[checkout(number) for number in range(checkouts)],
        omitted={"sessions": 0, "checkouts": 0},
    ) | dict(values)


LEVELS = ("error", "warning", "info")
RULES = (("SW101", "leaked-connection"), ("SW202", "idle-in-transaction"), ("SW404", "legacy-query"))


def finding(number: int = 0, **values: t.Any) -> Json:
    """A finding as the list has it."""
    code, rule = RULES[number % 3]
    seen_by = {"gone": False, "count": 3, "first_seen": ago(900), "last_seen": ago(5), "resolved": False}
    return {
        "code": code,
        "rule": rule,
        "level": LEVELS[number % 3],
        "message": f"GET /orders/{number} ended with a connection of engine 'default' still checked out (held 0.8 s).",
        "site": site("orders", 1 + number % 500),
        "scope": f"GET /orders/{number}",
        "scope_kind": "request",
        "about": None,
        "engine": "default",
        "verb": "checked out",
        "fingerprint": f"{number:016x}",
        "count": 1 + number * 7 % 100,
        "first_seen": ago(1000 + number),
        "last_seen": ago(5 + number),
        "resolved": number % 4 == 3,
        "known": False,
        "recent": [(minute * number) % 5 for minute in range(60)],
        "workers": [{"host": "web-1", "pid": 4711, **seen_by}],
        "worker_count": 1,
        **values,
    }


def findings(rows: list[Json], total: int | None = None) -> Json:
    return answer(
        findings=rows,
        total=len(rows) if total is None else total,
        counts={"open": {"error": 2, "warning": 1, "info": 0}, "resolved": 1, "known": 0},
        facets={
            name: [{"value": value, "count": 3} for value in dict.fromkeys(str(row[name]) for row in rows)][
                :100
            ]
            for name in ("rule", "code", "level", "engine", "scope")
        }
        | {"worker": [{"value": "web-1:4711", "count": 3}]},
    )


def one_finding(row: Json, text: str = "waited 0.3 s") -> Json:
    """A finding as its own page has it."""
    place = row["site"]
    events = ("opened", "began", "checked out", "flushed", "failed", "rolled back", "found")
    return answer() | {
        **row,
        "hint": "use 'with engine.connect() as connection:', which returns it.",
        "details": {"held_seconds": 0.8, "engine": "default"},
        "stack": stack(place),
        "sources": [source(place)],
        "timeline": [
            {
                "event": event,
                "seconds": 0.21 * at,
                "at": ago(10 - at),
                "site": place if at % 2 else None,
                "text": text,
            }
            for at, event in enumerate(events)
        ],
        "page": PAGE,
        "ignore": 'SESSIONWATCH_IGNORE = ["SW101:shop/orders.py@GET /orders"]',
    }


PAGE = """A scope ended with a connection still checked out.

What it does
    Looks at the end of every scope for ``Core`` connections.

Example
    ::

        conn = engine.connect()

        return render(conn)    # nobody closes conn
"""


def series() -> Json:
    def column(at: int) -> list[int | None]:
        return [None if 30 <= point < 40 else (point * at) % 9 for point in range(POINTS)]

    outcomes = ("commit", "rollback", "rollback_on_close", "error", "garbage_collected")
    columns = ("used", "idle", "max", "waiting", "connects", "timeouts")
    return answer(
        span="15m",
        step_seconds=10,
        start=ago(POINTS * 10),
        workers=[4] * POINTS,
        **{name: column(at) for at, name in enumerate(("sessions", "scopes", "findings"), 2)},
        transactions={name: column(at) for at, name in enumerate(outcomes, 1)},
        engines=[{"name": "default", **{name: column(at) for at, name in enumerate(columns, 1)}}],
    )


def scope(name: str = "GET /orders/<int:id>", **values: t.Any) -> Json:
    bad = {
        "at": ago(12),
        "verdict": "error",
        "status": 500,
        "error": "ValueError",
        "thread": "gthread-1",
        "commits": 2,
        "connections_peak": 2,
        "findings": ["0" * 16],
        "host": "web-1",
        "pid": 4711,
    }
    return {
        "scope": name,
        "kind": "request",
        "count": 1200,
        "verdicts": {"clean": 1100, "info": 0, "warning": 60, "error": 40},
        "commits": {"p50": 1, "p95": 2, "max": 12},
        "sessions": 1210,
        "connections_peak": 2,
        "hold_seconds": 88.4,
        "wait_seconds": 0.4,
        "lost_writes": 3,
        "hold_share": 0.31,
        "lost_writes_share": 0.0025,
        "bad": [bad],
        **values,
    }


def scopes(rows: list[Json]) -> Json:
    place = {"engine": "default", "site": site(), "hold_seconds": 88.4, "checkouts": 1210}
    return answer(scopes=rows, sites=[place])


def histogram(*counts: int) -> Json:
    return {"bounds": [0.001, 0.01, 0.1, 1.0][: len(counts) - 1], "counts": list(counts), "sum": 12.5}


def pool(name: str = "default", **values: t.Any) -> Json:
    return {
        "name": name,
        "dialect": "postgresql",
        "pool": "QueuePool",
        "size": 20,
        "max": 60,
        "overflow": 0,
        "used": 3,
        "idle": 9,
        "waiting": 0,
        "workers": 4,
        "oldest_age_seconds": 1.2,
        "peak": 7,
        "hold": histogram(4, 300, 120, 9, 1),
        "wait": histogram(430, 3, 1, 0, 0),
        "connect": histogram(0, 10, 2, 0, 0),
        "checkouts": 434,
        "timeouts": 2,
        "connects": 12,
        "sites": [{"site": site(), "hold_seconds": 88.4, "checkouts": 210}],
        **values,
    }


def pools(rows: list[Json]) -> Json:
    return answer(engines=rows)


def worker(number: int = 0, **values: t.Any) -> Json:
    return {
        "host": "web-1",
        "pid": 4711 + number,
        "live": True,
        "started_at": ago(4000),
        "seen_at": ago(0.4),
        "version": "0.1.0",
        "python": "3.12.4",
        "sqlalchemy": "2.1.0",
        "flask": "3.1.0",
        "dropped": 0,
        "internal_errors": 0,
        "watching": True,
        "self_seconds": 1.25,
        "cpu_seconds": 300.0,
        "findings": 3,
        **values,
    }


def fleet(rows: list[Json]) -> Json:
    return answer(workers=rows)


def rule(number: int = 0, **values: t.Any) -> Json:
    code, name = RULES[number % 3]
    return {
        "code": code,
        "rule": name,
        "level": LEVELS[number % 3],
        "hint": "use 'with engine.connect() as connection:', which returns it.",
        "page": PAGE,
        "settings": {"threshold": None},
        "enabled": number != 2,
        "ignored": ["SW404:jobs/*"] if number == 2 else [],
        "thresholds": [{"option": "threshold", "setting": "SESSIONWATCH_LONG_CHECKOUT", "value": 30.0}],
        "findings": {"open": 1, "total": 3},
        **values,
    }


def rules(rows: list[Json]) -> Json:
    return answer(rules=rows)


def everything() -> dict[str, Json]:
    """An answer for each address below ``api/v1/``."""
    row = finding()
    return {
        "live": live(),
        "series": series(),
        "findings": findings([finding(number) for number in range(30)]),
        f"findings/{row['fingerprint']}": one_finding(row),
        "scopes": scopes([scope(), scope("POST /orders", lost_writes=0)]),
        "pools": pools([pool(), pool("reporting", max=None, size=None)]),
        "fleet": fleet([worker(), worker(1), worker(2, live=False, host="web-2")]),
        "rules": rules([rule(number) for number in range(3)]),
    }
