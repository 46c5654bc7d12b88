"""What every answer carries, whatever it answers."""

import typing as t
from unittest import mock

import flask
import pytest

from flask_sessionwatch import member
from flask_sessionwatch.web import application
from tests.web.conftest import MISSING
from tests.web.conftest import PATHS
from tests.web.conftest import PREFIX
from tests.web.conftest import TOKEN
from tests.web.conftest import Pages
from tests.web.conftest import Watch

HARDENED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def check(answer: t.Any, status: int) -> None:
    assert status == answer.status_code
    assert {name: answer.headers[name] for name in HARDENED} == HARDENED
    assert policy(answer)["default-src"] == {"'none'"}
    assert "Set-Cookie" not in answer.headers or status == 303


def policy(answer: t.Any) -> dict[str, set[str]]:
    parts = [part.split() for part in answer.headers["Content-Security-Policy"].split(";")]
    return {name: set(values) for name, *values in parts}


@pytest.mark.parametrize("path", [*PATHS, "/login", "/login.css", "/icon.svg"])
def test_headers(client: Pages, path: str) -> None:
    """Every page carries every header."""
    check(client.get(path), 404 if path in MISSING else 200)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 401),
        ("GET", "/", 302),
        ("GET", "/no-such-page", 401),
        ("POST", "/metrics", 401),
        ("POST", "/login", 403),
        ("GET", "", 302),
    ],
)
def test_headers_for_strangers(watch: Watch, method: str, path: str, status: int) -> None:
    """Strangers are answered with the same headers."""
    check(watch().test_client().open(PREFIX + path, method=method), status)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/no-such-page", 404),
        ("GET", "/assets/none.js", 404),
        ("GET", "/assets/../application.py", 404),
        ("GET", "/assets/%2e%2e/index.html", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/api/v1/findings", 405),
        ("GET", "", 302),
        ("HEAD", "/metrics", 200),
        ("OPTIONS", "/metrics", 200),
    ],
)
def test_headers_of_errors(client: Pages, method: str, path: str, status: int) -> None:
    """Errors and redirects carry the same headers."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    check(client.http.open(PREFIX + path, method=method, headers=headers, buffered=True), status)


def test_headers_when_closed(watch: Watch) -> None:
    """Closed pages carry the same headers."""
    check(watch(token=None).test_client().get(f"{PREFIX}/metrics"), 404)


def test_headers_of_back_off(watch: Watch) -> None:
    """So does the answer to too many wrong tokens."""
    client = watch().test_client()
    answers = [client.post(f"{PREFIX}/login", data={"token": "wrong"}) for _ in range(7)]
    check(answers[-1], 429)


@pytest.mark.parametrize("debug", [False, True])
def test_headers_of_a_failure(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    """An error of the pages themselves is a plain 500 that tells the reader nothing and the log everything."""

    class Broken:
        def __init__(self, *args: object, **options: object) -> None:
            raise ZeroDivisionError("a detail")

    monkeypatch.setattr(member, "LivePicture", Broken)
    monkeypatch.setenv("FLASK_DEBUG", str(int(debug)))
    answer = Pages(watch()).get("/api/v1/live")
    check(answer, 500)
    assert answer.get_json() == {"error": "Internal Server Error"}
    assert "a detail" in caplog.text


def test_policy(client: Pages) -> None:
    """The policy allows this origin's own files, and no script or style inside a page."""
    allowed = policy(client.get("/"))
    assert {"'self'", "'none'"} == set().union(*allowed.values())
    closed = {name for name, values in allowed.items() if values == {"'none'"}}
    assert closed == {"default-src", "base-uri", "frame-ancestors"}


@pytest.mark.parametrize("path", ["/", "/login"])
def test_pages_keep_their_policy(client: Pages, path: str) -> None:
    """No page contains what its own policy forbids."""
    page = client.get(path).text
    for forbidden in ("<style", " style=", " onclick=", "javascript:", "data:", "http://", "https://"):
        assert forbidden not in page


def test_assets(client: Pages) -> None:
    """Files whose name carries a hash of their content may be kept for ever."""
    folder = application.STATIC / "assets"
    if not folder.is_dir():
        pytest.skip("the dashboard was not built; 'make dashboard' builds it")
    for path in folder.iterdir():
        answer = client.get(f"/assets/{path.name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_only_get_and_login(client: Pages) -> None:
    """Nothing can be changed over HTTP: only the login takes a POST."""
    app = flask.Flask(__name__)
    nothing: t.Any = mock.Mock(rules=())
    app.register_blueprint(application._blueprint(nothing, nothing))
    changing = {
        rule.rule for rule in app.url_map.iter_rules() if set(rule.methods or ()) - {"GET", "HEAD", "OPTIONS"}
    }
    assert changing == {"/login"}
