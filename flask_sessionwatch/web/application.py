"""The small Flask application behind SESSIONWATCH_URL_PREFIX."""

from __future__ import annotations

import typing as t
from pathlib import Path

import flask
from prometheus_client import CollectorRegistry
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import TooManyRequests

from ..observe.setup import Setup
from ..report.metrics import Metrics
from ..rules import Rule
from ..settings import Settings
from ..store import Worker
from ..store.picture import Picture
from .api import add_api
from .auth import Doorkeeper
from .exposition import exposed
from .health import add_health
from .login import OPEN_TO_ALL
from .login import add_login
from .mount import WITHOUT_SLASH
from .multiprocess import shown_registry
from .ready import Answers
from .ready import at_once

STATIC = Path(__file__).parent / "static"
#: Strangers may send a token, and not more.
_LONGEST_BODY = 16 * 1024
#: Characters of a query string, and of each header that is looked into: some are parsed in time that grows with their square.
_LONGEST_TEXT = 8 * 1024
_LOOKED_INTO = (
    *("Authorization", "Cookie", "Content-Type", "Accept", "Host", "Range", "If-Range"),
    *("If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"),
)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Source(t.Protocol):
    """Where the pages get what they show."""

    @property
    def settings(self) -> Settings: ...

    @property
    def rules(self) -> t.Sequence[Rule]: ...

    @property
    def registry(self) -> CollectorRegistry: ...

    @property
    def setup(self) -> Setup: ...


class Counts(t.Protocol):
    """What brings the metrics up to date, and knows how the watch itself is."""

    def count(self) -> None: ...

    def metrics(self, registry: CollectorRegistry) -> Metrics: ...

    def problems(self) -> list[str]: ...


class Contents(t.NamedTuple):
    """What the pages show.

    :param picture: makes the picture of all workers for one request.
    :param rules: those that judge.
    :param settings: by which they do; None where only the workers know.
    :param metrics: answers a scrape: the body and its type, by what the scraper accepts.
    :param problems: says what is wrong with the watch itself.
    :param host: answers whose pools are meant by "ready"; None stands for every host.
    :param answers: where the answers of the API come from.
    """

    picture: t.Callable[[], Picture]
    rules: t.Sequence[Rule]
    settings: Settings | None
    metrics: t.Callable[[str], tuple[bytes, str]]
    problems: t.Callable[[], list[str]]
    host: t.Callable[[], str | None]
    answers: Answers = at_once


def create_web(
    app: flask.Flask, source: Source, process: Counts, picture: t.Callable[[], Picture]
) -> flask.Flask:
    """Build the web application that shows what *source* knows.

    :param app: the watched application, of which only ``debug`` and ``testing`` are read.
    :param source: settings, rules and metrics of the watched application.
    :param process: the metrics of the process.
    :param picture: makes the picture of all workers for one request.
    """
    door = Doorkeeper(source.settings.token, lambda: app.debug or app.testing)
    contents = Contents(
        picture,
        source.rules,
        source.settings,
        lambda accept: _scraped(source, process, accept),
        process.problems,
        lambda: Worker.this().host,
    )
    return create_pages(door, contents)


def create_pages(door: Doorkeeper, contents: Contents) -> flask.Flask:
    """Build the web application that shows *contents* to those whom *door* lets in."""
    web = flask.Flask("flask_sessionwatch.web", static_folder=None)
    # FLASK_DEBUG is meant for the watched application.
    web.config.update(MAX_CONTENT_LENGTH=_LONGEST_BODY, PROPAGATE_EXCEPTIONS=False)
    web.json.sort_keys = False  # type: ignore[attr-defined]
    # The details of a rule of somebody's own may hold anything.
    web.json.default = str  # type: ignore[attr-defined]
    # On the application and not on the blueprint, so that addresses that do not exist are closed as well.
    web.before_request(lambda: _check_access(door))
    web.register_blueprint(_blueprint(door, contents))
    web.after_request(_harden)
    web.register_error_handler(HTTPException, _plain_error)
    return web


def _blueprint(door: Doorkeeper, contents: Contents) -> flask.Blueprint:
    pages = flask.Blueprint("sessionwatch", __name__)
    _add_pages(pages)
    add_login(pages, door)
    _add_metrics(pages, contents.metrics)
    add_health(pages, contents.picture, contents.problems, contents.host)
    add_api(pages, contents.picture, contents.rules, contents.settings, contents.answers)
    return pages


def _check_access(door: Doorkeeper) -> flask.typing.ResponseReturnValue | None:
    if not door.has_token:
        _check_place(door)
        return None
    _check_sizes(flask.request)
    endpoint = flask.request.endpoint or ""
    if endpoint.endswith(OPEN_TO_ALL) or door.lets_in(flask.request):
        return None
    if endpoint.endswith(".dashboard"):
        return flask.redirect(flask.url_for("sessionwatch.login"))
    return flask.abort(401)


def _check_place(door: Doorkeeper) -> None:
    if not door.lets_in(flask.request):
        door.tell_how_to_open()
        flask.abort(404)
    _check_sizes(flask.request)


def _check_sizes(request: flask.Request) -> None:
    if len(request.query_string) > _LONGEST_TEXT:
        flask.abort(414)
    if any(len(request.headers.get(name, "")) > _LONGEST_TEXT for name in _LOOKED_INTO):
        flask.abort(431)


def _add_pages(pages: flask.Blueprint) -> None:
    @pages.get("/")
    def dashboard() -> flask.typing.ResponseReturnValue:
        # The page names its files relative to itself.
        if flask.request.environ[WITHOUT_SLASH]:
            return flask.redirect(flask.url_for("sessionwatch.dashboard"))
        if not (STATIC / "index.html").is_file():
            return flask.Response(_NOT_BUILT, mimetype="text/plain")
        return flask.send_from_directory(STATIC, "index.html", max_age=0)

    @pages.get("/assets/<path:filename>")
    def asset(filename: str) -> flask.typing.ResponseReturnValue:
        # The names carry a hash of the content, so they may be kept for ever.
        response = flask.send_from_directory(STATIC / "assets", filename, max_age=31_536_000)
        response.cache_control.immutable = True
        return response


def _add_metrics(pages: flask.Blueprint, answer: t.Callable[[str], tuple[bytes, str]]) -> None:
    @pages.get("/metrics")
    def metrics() -> flask.typing.ResponseReturnValue:
        body, content_type = answer(flask.request.headers.get("Accept", ""))
        return flask.Response(body, content_type=content_type)


def _scraped(source: Source, process: Counts, accept: str) -> tuple[bytes, str]:
    """Answer a scrape of the watched application."""
    process.count()
    answer = exposed(shown_registry(source.registry), accept)
    process.metrics(source.registry).scraped()
    source.setup.scraped = True
    return answer


def _harden(response: flask.Response) -> flask.Response:
    headers = response.headers
    headers["Content-Security-Policy"] = _POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    if response.status_code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if "Cache-Control" not in headers or "immutable" not in headers["Cache-Control"]:
        headers["Cache-Control"] = "no-store"
    return response


def _plain_error(error: HTTPException) -> flask.typing.ResponseReturnValue:
    """Answer an error as JSON, with nothing of the request in it."""
    response = flask.jsonify(error=error.name)
    response.status_code = error.code or 500
    if isinstance(error, TooManyRequests):
        response.retry_after = error.retry_after
    return response


_NOT_BUILT = """The dashboard was not built. 'make dashboard' builds it in a checkout; wheels contain it.
The API is here: api/v1/live, api/v1/findings, api/v1/scopes, api/v1/pools, api/v1/series, api/v1/fleet, api/v1/rules, metrics, healthz and readyz.
"""
