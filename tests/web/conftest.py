"""Watched applications whose pages are looked at."""

import contextlib
import typing as t

import flask
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from flask_sessionwatch import Rule
from flask_sessionwatch import SessionWatch

TOKEN = "correct horse battery staple"
PREFIX = "/_sessionwatch"
#: Addresses of one thing, which is not there.
MISSING = ("/api/v1/findings/0", "/api/v1/sessions/0", "/api/v1/checkouts/0")
PATHS = (
    *("/", "/metrics", "/api/v1/live", "/api/v1/findings", "/api/v1/scopes", "/api/v1/pools"),
    *("/api/v1/series", "/api/v1/fleet", "/api/v1/rules", "/api/v1/openapi.json", *MISSING),
    *("/healthz", "/readyz"),
)


class Watch(t.Protocol):
    def __call__(
        self,
        app: flask.Flask | None = None,
        *,
        token: str | None = TOKEN,
        rules: t.Sequence[Rule] | None = None,
        **config: t.Any,
    ) -> flask.Flask: ...


@pytest.fixture
def watch() -> t.Iterator[Watch]:
    """Watch an application with a registry of its own until the test ends."""
    with contextlib.ExitStack() as stack:

        def start(
            app: flask.Flask | None = None,
            *,
            token: str | None = TOKEN,
            rules: t.Sequence[Rule] | None = None,
            **config: t.Any,
        ) -> flask.Flask:
            app = app or flask.Flask("watched")
            app.config.update({"SESSIONWATCH_TOKEN": token, "SESSIONWATCH_TICK": 60.0, **config})
            stack.callback(SessionWatch(app, rules=rules, registry=CollectorRegistry()).close)
            return app

        yield start


@pytest.fixture
def client(watch: Watch) -> "Pages":
    """The pages of an application that needs a token, with the token."""
    return Pages(watch())


class Pages:
    """Somebody who knows the token and looks at the pages of *app*."""

    def __init__(self, app: flask.Flask, prefix: str = PREFIX) -> None:
        self.app = app
        self.prefix = prefix
        self.http = app.test_client()

    def get(self, path: str, **headers: str) -> t.Any:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.get(
            self.prefix + path, buffered=True, headers={"Authorization": f"Bearer {TOKEN}", **headers}
        )

    def json(self, path: str) -> t.Any:
        answer = self.get(path)
        assert answer.status_code == 200
        return answer.get_json()


@pytest.fixture
def engine(sqlite_url: str) -> t.Iterator[sa.Engine]:
    """An engine with a pool of two."""
    engine = sa.create_engine(sqlite_url, pool_size=2, max_overflow=0, pool_timeout=0.1)
    yield engine
    engine.dispose()
