"""The pages stand in front of the application, and the two leave each other alone."""

import typing as t

import flask
import pytest
import sqlalchemy as sa
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from tests.web.conftest import MISSING
from tests.web.conftest import PATHS
from tests.web.conftest import PREFIX
from tests.web.conftest import TOKEN
from tests.web.conftest import Pages
from tests.web.conftest import Watch

OPEN = [path for path in PATHS if path not in MISSING]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def forbid() -> t.NoReturn:
    flask.abort(403)


def fail(*_: object) -> t.NoReturn:
    raise AssertionError("the application was asked")


# The application has no say


@pytest.mark.parametrize("path", OPEN)
def test_application_has_no_say(watch: Watch, path: str) -> None:
    """No function, error handler or setting of the application touches a page."""
    app = flask.Flask("watched")
    app.before_request(fail)
    app.after_request(fail)
    app.teardown_request(fail)
    app.teardown_appcontext(fail)
    app.url_value_preprocessor(fail)
    app.register_error_handler(Exception, fail)
    app.config.update(SERVER_NAME="shop.example", APPLICATION_ROOT="/shop", PREFERRED_URL_SCHEME="https")
    assert Pages(watch(app)).get(path).status_code == 200


def test_login_of_the_application(watch: Watch) -> None:
    """The application's own login is not asked, and its rights open nothing here."""
    app = flask.Flask("watched")
    app.before_request(forbid)
    client = watch(app).test_client()
    assert client.get("/").status_code == 403
    assert client.get(f"{PREFIX}/metrics").status_code == 401
    assert client.get(f"{PREFIX}/metrics", headers=BEARER).status_code == 200


def test_catch_all_route(watch: Watch) -> None:
    """A route for every path does not hide the pages."""
    app = flask.Flask("watched")
    app.add_url_rule("/<path:path>", view_func=fail)
    assert Pages(watch(app)).get("/api/v1/live").status_code == 200


@pytest.mark.parametrize("path", OPEN)
def test_pages_while_the_pool_is_exhausted(watch: Watch, engine: sa.Engine, path: str) -> None:
    """The pages answer when the application cannot, because they need no connection."""
    app = flask.Flask("watched")
    held: list[sa.Connection] = []

    @app.get("/")
    def index() -> str:
        held.append(engine.connect())
        return "held"

    pages = Pages(watch(app))
    assert [pages.http.get("/").status_code for _ in range(3)] == [200, 200, 500]
    try:
        assert pages.get(path).status_code == 200
    finally:
        for connection in held:
            connection.close()


def test_outer_app_context(watch: Watch) -> None:
    """An app context that is pushed around the request, as tests do, changes nothing."""
    app = watch()
    with app.app_context():
        assert Pages(app).get("/api/v1/live").status_code == 200
        assert flask.current_app.name == "watched"


def test_pages_are_not_watched(client: Pages) -> None:
    """Looking at the pages is no scope: it is not counted as a request of the application."""
    client.http.get("/")
    for _ in range(3):
        text = client.get("/metrics").text
    counted = [line for line in text.splitlines() if line.startswith("sessionwatch_scopes_total{")]
    assert counted == [
        'sessionwatch_scopes_total{kind="request",scope="GET <unmatched>",verdict="clean"} 1.0'
    ]
    assert PREFIX not in text


# Where the pages are


@pytest.mark.parametrize(
    "path",
    [f"{PREFIX}{rest}" for rest in ("ing", ".txt", "-x/metrics", "2/", "é", "%00", " /", "ing/metrics")],
)
def test_route_that_begins_alike(watch: Watch, path: str) -> None:
    """A path that merely begins with the prefix is the application's."""
    app = flask.Flask("watched")
    app.add_url_rule("/<path:path>", view_func=lambda path: "the application's own")
    assert watch(app).test_client().get(path).text == "the application's own"


@pytest.mark.parametrize("prefix", ["/_sessionwatch", "/a/b/c", "/watch/", "/with space"])
def test_prefix(watch: Watch, prefix: str) -> None:
    """The pages are where SESSIONWATCH_URL_PREFIX says, and nowhere else."""
    pages = Pages(watch(SESSIONWATCH_URL_PREFIX=prefix), prefix.rstrip("/"))
    assert pages.get("/metrics").status_code == 200
    assert pages.http.get("/elsewhere/metrics", headers=BEARER).status_code == 404


@pytest.mark.parametrize(
    "settings", [{"SESSIONWATCH_ENABLED": False}, {"SESSIONWATCH_ENABLED": False, "token": None}]
)
def test_disabled(watch: Watch, settings: dict[str, t.Any]) -> None:
    """A watch that is off leaves the prefix to the application."""
    app = flask.Flask("watched")
    app.add_url_rule(f"{PREFIX}/metrics", view_func=lambda: "the application's own")
    assert Pages(watch(app, **settings)).get("/metrics").text == "the application's own"


def test_closed_watch(watch: Watch) -> None:
    """After close() the prefix is the application's again."""
    app = watch()
    app.extensions["sessionwatch"].close()
    assert Pages(app).get("/metrics").status_code == 404


def test_address_without_slash(client: Pages) -> None:
    """The address without its last slash leads to the dashboard, whose files are named relative to it."""
    answer = client.get("")
    assert (answer.status_code, answer.location) == (302, f"{PREFIX}/")


def mounted(app: flask.Flask, where: str) -> Client:
    return Client(DispatcherMiddleware(fail, {where: app.wsgi_app}), use_cookies=False)


@pytest.mark.parametrize("where", ["/shop", "/deep/er", "/é"])
def test_mounted(watch: Watch, where: str) -> None:
    """Below a SCRIPT_NAME every redirect, link and cookie carries it."""
    encoded = where.replace("é", "%C3%A9")
    home = f"{where}{PREFIX}"
    client = mounted(watch(), where.encode().decode("latin-1"))
    assert client.get(f"{home}/metrics", headers=BEARER).status_code == 200
    assert client.get(f"{home}/").location == f"{encoded}{PREFIX}/login"
    assert client.get(home, headers=BEARER).location == f"{encoded}{PREFIX}/"
    assert f'href="{home}/login.css"' in client.get(f"{home}/login").text
    answer = client.post(f"{home}/login", data={"token": TOKEN})
    assert answer.location == f"{encoded}{PREFIX}/"
    cookie, _, attributes = answer.headers["Set-Cookie"].partition(";")
    assert f"Path={encoded}{PREFIX}" in attributes
    assert client.get(f"{home}/api/v1/live", headers={"Cookie": cookie}).status_code == 200


def test_two_applications(watch: Watch) -> None:
    """Each application has its own token, and its cookie opens only its own pages."""
    one, other = watch(token="the first token"), watch(token="the second token")
    client = one.test_client()
    client.post(f"{PREFIX}/login", data={"token": "the first token"})
    assert client.get(f"{PREFIX}/api/v1/live").status_code == 200
    cookie = client.get_cookie("sessionwatch", path=PREFIX)
    assert cookie is not None
    answer = other.test_client().get(
        f"{PREFIX}/api/v1/live", headers={"Cookie": f"sessionwatch={cookie.value}"}
    )
    assert answer.status_code == 401
