"""The login page: trades the token for a cookie, and asks the watched application for nothing."""

from __future__ import annotations

import typing as t

import flask
from werkzeug.exceptions import RequestEntityTooLarge

from .auth import COOKIE
from .auth import Doorkeeper
from .auth import retry_after

#: Names of the pages that strangers see.
OPEN_TO_ALL = (".login", ".log_in", ".style", ".icon")


def add_login(pages: flask.Blueprint, door: Doorkeeper) -> None:
    """Add the login page and the files it needs."""

    @pages.get("/login")
    def login() -> flask.typing.ResponseReturnValue:
        return _page("")

    @pages.post("/login")
    def log_in() -> flask.typing.ResponseReturnValue:
        if door.wait_seconds > 0:
            page = _page("Too many wrong tokens. Wait a moment.", 429)
            page.retry_after = retry_after(door.wait_seconds)
            return page
        if not door.accepts(_given_token(), flask.request.remote_addr):
            return _page("This is not the token.", 403)
        return _let_in(door)

    @pages.get("/login.css")
    def style() -> flask.typing.ResponseReturnValue:
        return flask.Response(_STYLE, mimetype="text/css")

    @pages.get("/icon.svg")
    def icon() -> flask.typing.ResponseReturnValue:
        return flask.Response(_ICON, mimetype="image/svg+xml")


def _given_token() -> str:
    try:
        return flask.request.form.get("token", "")
    except RequestEntityTooLarge:
        return ""


def _let_in(door: Doorkeeper) -> flask.Response:
    request = flask.request
    response = t.cast(flask.Response, flask.redirect(flask.url_for("sessionwatch.dashboard"), 303))
    response.set_cookie(
        COOKIE,
        door.cookie_value,
        path=request.script_root or "/",
        # Whoever invents this header makes but their own cookie safer.
        secure=request.is_secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https",
        httponly=True,
        samesite="Strict",
    )
    return response


def _page(message: str, status: int = 200) -> flask.Response:
    text = flask.render_template_string(
        _LOGIN,
        message=message,
        style=flask.url_for("sessionwatch.style"),
        # Without it a browser asks the watched application for /favicon.ico.
        icon=flask.url_for("sessionwatch.icon"),
    )
    return flask.Response(text, status=status, mimetype="text/html")


_LOGIN = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>flask_sessionwatch</title>
<link rel="icon" type="image/svg+xml" href="{{ icon }}">
<link rel="stylesheet" href="{{ style }}">
</head>
<body>
<main>
<h1><img src="{{ icon }}" alt="" width="28" height="28"> flask_sessionwatch</h1>
<form method="post">
<input name="username" value="sessionwatch" autocomplete="username" hidden>
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<p role="alert">{{ message }}</p>
<button>Open</button>
</form>
<p class="note">The token is the value of <code>SESSIONWATCH_TOKEN</code>.</p>
</main>
</body>
</html>
"""

_STYLE = """:root {
  color-scheme: light dark;
  --ground: #f5f6f8; --surface: #fff; --ink: #1b2430; --quiet: #566274; --line: #dde2ea; --field: #8792a2;
  --accent: #1f5fbf; --on-accent: #fff; --bad: #a8201a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #11151b; --surface: #191f28; --ink: #e3e8ef; --quiet: #9caabb; --line: #2c3643; --field: #69778a;
    --accent: #86b6ff; --on-accent: #11151b; --bad: #ff9d94;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main {
  width: min(24rem, calc(100vw - 2rem)); padding: 1.75rem 2rem; border: 1px solid var(--line); border-radius: .75rem;
  background: var(--surface);
}
h1 { margin: 0 0 1.25rem; display: flex; gap: .6rem; align-items: center; font-size: 1.125rem; font-weight: 650; }
form { display: grid; gap: .5rem; }
label { color: var(--quiet); font-size: .875rem; }
input, button { width: 100%; padding: .55rem .75rem; border-radius: .5rem; font: inherit; }
input { border: 1px solid var(--field); background: var(--ground); color: inherit; }
button { border: 0; background: var(--accent); color: var(--on-accent); font-weight: 600; cursor: pointer; }
input:focus-visible, button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
p[role=alert] { margin: 0; min-height: 1.5em; color: var(--bad); }
.note { margin: 1.25rem 0 0; color: var(--quiet); font-size: .875rem; }
"""

_ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="8" fill="#1f5fbf"/>
<path d="M5 17h5l3-8 6 15 3-7h5" fill="none" stroke="#fff" stroke-width="3" stroke-linecap="round"
 stroke-linejoin="round"/>
</svg>
"""
