"""Two questions that programs ask: is the watch well, and can the application's pools give out connections?"""

from __future__ import annotations

import typing as t

import flask

from ..rules.pools import PoolStuck
from ..store.picture import Picture


def add_health(
    pages: flask.Blueprint,
    picture: t.Callable[[], Picture],
    problems: t.Callable[[], list[str]],
    host: t.Callable[[], str | None],
) -> None:
    """Add ``/healthz`` and ``/readyz`` to *pages*.

    :param picture: makes the picture that one request is answered from.
    :param problems: says what is wrong with the watch itself.
    :param host: answers whose pools are looked at, unless the query names a host; None stands for every host.
    """

    @pages.get("/healthz")
    def healthz() -> flask.typing.ResponseReturnValue:
        now = picture()
        workers = len(now.workers())
        found = problems()
        status = "failing" if found else "ok"
        store = {"problem": now.problem}
        return flask.jsonify(status=status, problems=found, workers=workers, store=store), _code(found)

    @pages.get("/readyz")
    def readyz() -> flask.typing.ResponseReturnValue:
        now = picture()
        stuck = now.lasting(PoolStuck.code, flask.request.args.get("host", host()))
        status = "stuck" if stuck else "ready"
        pools = [_pool(each) for each in stuck]
        return flask.jsonify(status=status, pools=pools, store={"problem": now.problem}), _code(stuck)


def _code(wrong: t.Sized) -> int:
    return 503 if wrong else 200


def _pool(finding: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return who holds a pool that is stuck, and where."""
    details = finding["details"]
    return {
        "engine": details.get("engine"),
        "message": finding["message"],
        "site": finding["site"],
        "holders": details.get("holders", []),
        "since": finding["first_seen"],
        "workers": [{"host": each["host"], "pid": each["pid"]} for each in finding["workers"]],
        "fingerprint": finding["fingerprint"],
    }
