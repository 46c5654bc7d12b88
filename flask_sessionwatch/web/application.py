"""The small Flask application behind SESSIONWATCH_URL_PREFIX."""

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path

import flask
from prometheus_client import CollectorRegistry
from prometheus_client import exposition
from prometheus_client import multiprocess
from prometheus_client.metrics_core import Metric
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import TooManyRequests

from ..finding import Finding
from ..observe.ledger import Ledger
from ..observe.setup import Setup
from ..report.dispatcher import Dispatcher
from ..report.metrics import Metrics
from ..rules import Rule
from ..settings import Settings
from .auth import Doorkeeper
from .live import LivePicture
from .live import this_worker
from .login import OPEN_TO_ALL
from .login import add_login
from .mount import WITHOUT_SLASH

STATIC = Path(__file__).parent / "static"
#: Strangers may send a token, and not more.
_LONGEST_BODY = 16 * 1024

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
    def dispatcher(self) -> Dispatcher: ...

    @property
    def registry(self) -> CollectorRegistry: ...

    @property
    def setup(self) -> Setup: ...


class Counts(t.Protocol):
    """What brings the metrics up to date."""

    @property
    def ledger(self) -> Ledger: ...

    def count(self) -> None: ...

    def metrics(self, registry: CollectorRegistry) -> Metrics: ...


def create_web(app: flask.Flask, source: Source, process: Counts) -> flask.Flask:
    """Build the web application that shows what *source* knows.

    :param app: the watched application, of which only ``debug`` and ``testing`` are read.
    :param source: settings, rules and findings of the watched application.
    :param process: the ledger and the metrics of the process.
    """
    web = flask.Flask("flask_sessionwatch.web", static_folder=None)
    # FLASK_DEBUG is meant for the watched application.
    web.config.update(MAX_CONTENT_LENGTH=_LONGEST_BODY, PROPAGATE_EXCEPTIONS=False)
    web.json.sort_keys = False  # type: ignore[attr-defined]
    # The details of a rule of somebody's own may hold anything.
    web.json.default = str  # type: ignore[attr-defined]
    door = Doorkeeper(source.settings.token, app)
    # On the application and not on the blueprint, so that addresses that do not exist are closed as well.
    web.before_request(lambda: _check_access(door))
    web.register_blueprint(_blueprint(door, source, process))
    web.after_request(_harden)
    web.register_error_handler(HTTPException, _plain_error)
    return web


def _blueprint(door: Doorkeeper, source: Source, process: Counts) -> flask.Blueprint:
    pages = flask.Blueprint("sessionwatch", __name__)
    _add_pages(pages)
    add_login(pages, door)
    _add_api(pages, source, process)
    return pages


def _check_access(door: Doorkeeper) -> flask.typing.ResponseReturnValue | None:
    endpoint = flask.request.endpoint or ""
    if door.has_token and endpoint.endswith(OPEN_TO_ALL):
        return None
    if door.lets_in(flask.request):
        return None
    if not door.has_token:
        door.tell_how_to_open()
        flask.abort(404)
    if endpoint.endswith(".dashboard"):
        return flask.redirect(flask.url_for("sessionwatch.login"))
    return flask.abort(401)


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


def _add_api(pages: flask.Blueprint, source: Source, process: Counts) -> None:
    @pages.get("/metrics")
    def metrics() -> flask.typing.ResponseReturnValue:
        process.count()
        encode, content_type = exposition.choose_encoder(flask.request.headers.get("Accept", ""))
        registry = _registry(source.registry)
        try:
            body = encode(registry)
        except UnicodeEncodeError:
            body = encode(t.cast(CollectorRegistry, Encodable(registry)))
        process.metrics(source.registry).scraped()
        source.setup.scraped = True
        return flask.Response(body, content_type=content_type)

    @pages.get("/api/v1/live")
    def live() -> flask.typing.ResponseReturnValue:
        return flask.jsonify(LivePicture(process.ledger).as_json())

    @pages.get("/api/v1/findings")
    def findings() -> flask.typing.ResponseReturnValue:
        found = filter(_matches, source.dispatcher.findings)
        return flask.jsonify(findings=[_finding_as_json(finding) for finding in found])

    @pages.get("/api/v1/findings/<fingerprint>")
    def finding(fingerprint: str) -> flask.typing.ResponseReturnValue:
        for each in source.dispatcher.findings:
            if each.fingerprint == fingerprint:
                return flask.jsonify(_finding_as_json(each))
        return flask.abort(404)

    @pages.get("/api/v1/rules")
    def rules() -> flask.typing.ResponseReturnValue:
        return flask.jsonify(rules=[_rule_as_json(rule) for rule in source.rules])


def _registry(registry: CollectorRegistry) -> CollectorRegistry:
    """Return the registry to show: the files of all workers where prometheus_client keeps such."""
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return registry
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together


class Encodable:
    """A registry whose labels are UTF-8, though a scope was named after a file whose name is not.

    :param registry: the registry to read.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> t.Iterator[Metric]:
        """Yield every metric, with what cannot be encoded escaped."""
        for metric in self._registry.collect():
            metric.samples = [
                sample._replace(labels={name: _encodable(value) for name, value in sample.labels.items()})
                for sample in metric.samples
            ]
            yield metric


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _matches(finding: Finding) -> bool:
    """Whether *finding* passes the filters of the query: rule, code, level, scope, resolved."""
    wanted = flask.request.args
    values = {
        "rule": finding.rule,
        "code": finding.code,
        "level": finding.level,
        "scope": "" if finding.scope is None else finding.scope.name,
        "resolved": str(finding.resolved).lower(),
    }
    return all(value == wanted[name] for name, value in values.items() if name in wanted)


def _finding_as_json(finding: Finding) -> dict[str, t.Any]:
    return {**finding.as_json(), "workers": [this_worker()]}


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


def _harden(response: flask.Response) -> flask.Response:
    headers = response.headers
    headers["Content-Security-Policy"] = _POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
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
The API is here: api/v1/live, api/v1/findings, api/v1/rules and metrics.
"""
