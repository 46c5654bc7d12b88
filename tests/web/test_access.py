"""Who may see the pages: nobody by default."""

import hmac
import logging
import time
import types
import typing as t
from urllib.parse import quote_from_bytes

import flask
import pytest
from werkzeug.test import create_environ
from werkzeug.test import run_wsgi_app

from flask_sessionwatch.web import auth
from flask_sessionwatch.web import backoff
from tests.web.conftest import MISSING
from tests.web.conftest import PATHS
from tests.web.conftest import PREFIX
from tests.web.conftest import TOKEN
from tests.web.conftest import Watch

LOGIN = f"{PREFIX}/login"
GARBAGE = ["", "x", "\x00", "é", "日本", "\udcff", "a" * 3_000, "sessionwatch", "=;,=", '"\\"']


def status(app: flask.Flask, path: str = "/metrics", **arguments: t.Any) -> int:
    with app.test_client(use_cookies=False) as client:
        return client.get(PREFIX + path, buffered=True, **arguments).status_code


def log_in(app: flask.Flask, token: str, **arguments: t.Any) -> t.Any:
    return app.test_client(use_cookies=False).post(LOGIN, data={"token": token}, **arguments)


def with_bearer(app: flask.Flask, token: str = TOKEN, address: str = "192.0.2.1") -> t.Any:
    return app.test_client(use_cookies=False).get(
        f"{PREFIX}/metrics",
        buffered=True,
        headers={"Authorization": f"Bearer {token}"},
        environ_overrides={"REMOTE_ADDR": address},
    )


def with_cookie(app: flask.Flask, cookie: str) -> int:
    return status(app, headers={"Cookie": cookie})


def local(name: str = "localhost", address: str = "127.0.0.1") -> dict[str, t.Any]:
    return {"environ_overrides": {"REMOTE_ADDR": address, "HTTP_HOST": name}}


# Without a token


@pytest.mark.parametrize("path", [*PATHS, "", "/login", "/login.css", "/icon.svg", "/no-such-page"])
def test_closed_by_default(watch: Watch, path: str) -> None:
    """Without a token, and outside of debug and testing, every page answers 404, on loopback too."""
    assert status(watch(token=None), path, **local()) == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_closed_to_every_method(watch: Watch, method: str) -> None:
    """A closed page does not tell which methods it would take."""
    client = watch(token=None).test_client()
    assert client.open(f"{PREFIX}/metrics", method=method).status_code == 404


def test_closed_page_tells_how_to_open(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """The log says once, however often somebody asks, how the pages are opened."""
    app = watch(token=None)
    for path in PATHS:
        status(app, path)
    told = [each.getMessage() for each in caplog.records if "closed" in each.getMessage()]
    assert len(told) == 1
    assert "SESSIONWATCH_TOKEN" in told[0]


@pytest.mark.parametrize("mode", ["debug", "testing"])
@pytest.mark.parametrize("path", ["/metrics", "/api/v1/live", "/api/v1/findings", "/api/v1/rules"])
def test_open_locally(watch: Watch, mode: str, path: str) -> None:
    """Without a token the pages answer loopback while the application is in debug or testing."""
    app = watch(token=None)
    setattr(app, mode, True)
    assert status(app, path, **local()) == 200


def test_debug_is_read_when_asked(watch: Watch) -> None:
    """Turning debug off closes the pages at once."""
    app = watch(token=None)
    app.debug = True
    assert status(app, **local()) == 200
    app.debug = False
    assert status(app, **local()) == 404


@pytest.mark.parametrize(
    "name", ["localhost", "localhost:5000", "LOCALHOST", "127.0.0.1:80", "[::1]", "[::1]:1"]
)
def test_local_names(watch: Watch, name: str) -> None:
    """The usual names of this machine are local, with and without a port."""
    app = watch(token=None)
    app.debug = True
    assert status(app, **local(name)) == 200


@pytest.mark.parametrize(
    "name",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::1", "a b", "é", ":"],
)
def test_foreign_host_header(watch: Watch, name: str) -> None:
    """A foreign name that leads to 127.0.0.1 (DNS rebinding) is not local."""
    app = watch(token=None)
    app.debug = True
    # Not with a test client, which would read the name itself.
    environ = create_environ(f"{PREFIX}/metrics")
    environ.update(local(name)["environ_overrides"])
    _, answer, _ = run_wsgi_app(app.wsgi_app, environ)
    assert answer[:3] in ("400", "404")


@pytest.mark.parametrize("address", ["10.0.0.7", "192.0.2.1", "2001:db8::1", "", "127.0.0.1.example"])
def test_foreign_address(watch: Watch, address: str) -> None:
    """Debug does not open the pages to other machines."""
    app = watch(token=None)
    app.debug = True
    assert status(app, **local(address=address)) == 404


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "X-Forwarded-Host"])
def test_proxied_is_not_local(watch: Watch, header: str) -> None:
    """What came through a proxy on this machine may come from anywhere."""
    app = watch(token=None)
    app.debug = True
    assert status(app, headers={header: "127.0.0.1"}, **local()) == 404


def test_token_is_needed_locally_too(watch: Watch) -> None:
    """With a token set, loopback and debug open nothing."""
    app = watch()
    app.debug = app.testing = True
    assert status(app, **local()) == 401


# Bearer


@pytest.mark.parametrize("path", PATHS)
def test_bearer(watch: Watch, path: str) -> None:
    """The token as bearer opens every page."""
    answer = status(watch(), path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer == (404 if path in MISSING else 200)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  ", "Bearer\t"])
def test_bearer_scheme(watch: Watch, scheme: str) -> None:
    """The name of the scheme is not case-sensitive."""
    expected = 401 if scheme.endswith("\t") else 200
    assert expected == status(watch(), headers={"Authorization": f"{scheme} {TOKEN}"})


@pytest.mark.parametrize("path", [*PATHS[1:], "/no-such-page", "/assets/none.js"])
def test_stranger(watch: Watch, path: str) -> None:
    """A stranger gets 401, for pages that exist and for others."""
    assert status(watch(), path) == 401


def test_stranger_is_told_the_scheme(watch: Watch) -> None:
    """A 401 names the scheme, as HTTP asks for."""
    answer = watch().test_client().get(f"{PREFIX}/metrics")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_stranger_at_the_dashboard(watch: Watch) -> None:
    """A person who opens the dashboard is led to the login page."""
    answer = watch().test_client().get(f"{PREFIX}/")
    assert (answer.status_code, answer.location) == (302, LOGIN)


@pytest.mark.parametrize("value", GARBAGE)
@pytest.mark.parametrize("form", ["Bearer {}", "Basic {}", "{}", "Bearer {}x{}"])
def test_garbage_bearer(watch: Watch, form: str, value: str) -> None:
    """Whatever stands in the Authorization header, the answer is 401."""
    header = form.format(value, TOKEN).encode("utf-8", "surrogatepass").decode("latin-1")
    assert status(watch(), environ_overrides={"HTTP_AUTHORIZATION": header}) == 401


@pytest.mark.parametrize("token", ["pässwörter à", "日本語日本語日本語", "naïve-token"])
def test_bearer_beyond_ascii(watch: Watch, token: str) -> None:
    """A token beyond ASCII is taken as its UTF-8 bytes, as curl and Prometheus send it."""
    as_wsgi = f"Bearer {token}".encode().decode("latin-1")
    assert status(watch(token=token), environ_overrides={"HTTP_AUTHORIZATION": as_wsgi}) == 200


def test_token_that_is_no_text(watch: Watch) -> None:
    """A token of bytes that are no UTF-8, as an environment may hold it, works and breaks nothing."""
    app = watch(token="12345678\udcff")
    assert status(app) == 401
    assert log_in(app, "wrong").status_code == 403
    assert status(app, environ_overrides={"HTTP_AUTHORIZATION": "Bearer 12345678\xff"}) == 200


# Login


def test_login(watch: Watch) -> None:
    """The right token leads to the dashboard, and the cookie opens the pages."""
    app = watch()
    client = app.test_client()
    answer = client.post(LOGIN, data={"token": TOKEN})
    assert (303, f"{PREFIX}/") == (answer.status_code, answer.location)
    assert client.get(f"{PREFIX}/api/v1/live").status_code == 200


def test_cookie(watch: Watch) -> None:
    """The cookie is for these pages only, out of reach of scripts and of other sites."""
    cookie = log_in(watch(), TOKEN).headers["Set-Cookie"]
    attributes = {each.strip() for each in cookie.split(";")[1:]}
    assert {"HttpOnly", "SameSite=Strict", f"Path={PREFIX}"} == attributes


@pytest.mark.parametrize(
    "arguments", [{"base_url": "https://shop.example"}, {"headers": {"X-Forwarded-Proto": "https"}}]
)
def test_cookie_on_https(watch: Watch, arguments: dict[str, t.Any]) -> None:
    """On https, also when a proxy ends it, the cookie is Secure."""
    assert "; Secure" in log_in(watch(), TOKEN, **arguments).headers["Set-Cookie"]


def test_cookie_of_another_token(watch: Watch) -> None:
    """A new token makes the old cookies worthless."""
    old = log_in(watch(), TOKEN).headers["Set-Cookie"].partition(";")[0]
    assert status(watch(token="another token"), headers={"Cookie": old}) == 401


@pytest.mark.parametrize("value", GARBAGE)
def test_garbage_cookie(watch: Watch, value: str) -> None:
    """Whatever stands in the cookie, the answer is 401."""
    raw = value.encode("utf-8", "surrogatepass").decode("latin-1")
    for header in (f"{auth.COOKIE}={raw}", raw, f'{auth.COOKIE}="{raw}"'):
        assert status(watch(), environ_overrides={"HTTP_COOKIE": header}) == 401


def test_token_as_cookie(watch: Watch) -> None:
    """The token itself is no cookie."""
    assert status(watch(token="plain-token"), headers={"Cookie": f"{auth.COOKIE}=plain-token"}) == 401


@pytest.mark.parametrize("value", [*GARBAGE, TOKEN[:-1], f"{TOKEN} ", TOKEN.upper(), "a" * 2_000_000])
def test_wrong_token(watch: Watch, value: str) -> None:
    """A wrong token is answered with 403 and without a cookie."""
    raw = value.encode("utf-8", "surrogatepass").decode("latin-1")
    answer = log_in(watch(), raw)
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "arguments",
    [
        {"data": b"\xff\xfe=%ff%00&token=%ff", "content_type": "application/x-www-form-urlencoded"},
        {"data": b"--x\r\nnonsense", "content_type": "multipart/form-data; boundary=x"},
        {"data": b"x", "content_type": "multipart/form-data"},
        {"json": {"token": TOKEN}},
        {"data": {}},
        {"data": {f"field-{number}": "x" for number in range(5_000)}},
    ],
)
def test_garbage_form(watch: Watch, arguments: dict[str, t.Any]) -> None:
    """Whatever is posted, the answer is 403."""
    assert watch().test_client().post(LOGIN, **arguments).status_code == 403


def test_constant_answer(watch: Watch) -> None:
    """A wrong token is answered with the same page, however wrong it is."""
    app = watch()
    assert len({log_in(app, value).data for value in ("x", TOKEN[:-1], "<script>", "é")}) == 1


def test_login_page_asks_nothing_of_the_application(watch: Watch) -> None:
    """All that the login page needs is its own, so that a browser asks the application for no icon."""
    client = watch().test_client()
    page = client.get(LOGIN).text
    assert f'<link rel="icon" type="image/svg+xml" href="{PREFIX}/icon.svg">' in page
    answers = [client.get(f"{PREFIX}/{name}") for name in ("icon.svg", "login.css")]
    assert [each.status_code for each in answers] == [200, 200]
    assert [each.mimetype for each in answers] == ["image/svg+xml", "text/css"]


# The comparison


class Guarded(str):
    """A secret that cannot be compared as text is, which takes the longer the more of it was guessed."""

    __slots__ = ()
    __hash__ = str.__hash__

    def _refuse(self, *args: object) -> t.NoReturn:
        raise AssertionError("compared as text")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __contains__ = startswith = endswith = find = index = count = _refuse


def sent(app: flask.Flask, way: str, secret: str) -> int:
    """Send *secret* in one of the ways in which one may come, as the bytes of UTF-8 that a client sends."""
    raw = secret.encode("utf-8", "surrogatepass").decode("latin-1")
    if way == "form":
        data = b"token=" + quote_from_bytes(secret.encode("utf-8", "surrogatepass")).encode()
        return (
            app.test_client(use_cookies=False)
            .post(LOGIN, data=data, content_type="application/x-www-form-urlencoded")
            .status_code
        )
    header = {
        "header": ("HTTP_AUTHORIZATION", f"Bearer {raw}"),
        "cookie": ("HTTP_COOKIE", f"{auth.COOKIE}={raw}"),
    }
    name, value = header[way]
    return status(app, environ_overrides={name: value})


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[t.Any, t.Any]]:
    """What hmac.compare_digest is given."""
    pairs: list[tuple[t.Any, t.Any]] = []

    def compare(given: t.Any, expected: t.Any) -> bool:
        pairs.append((given, expected))
        return bool(given == expected)

    monkeypatch.setattr(auth, "hmac", types.SimpleNamespace(compare_digest=compare, new=hmac.new))
    return pairs


WRONG = ["", "x", "x" * 8_000, "é", "日本", "\x00", "%", "\udcff"]


@pytest.mark.parametrize("way", ["header", "cookie", "form"])
@pytest.mark.parametrize("token", [TOKEN, "schlüssel-日本-" * 3, "k" * 5_000])
def test_compared_in_constant_time(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, compared: list[tuple[t.Any, t.Any]], way: str, token: str
) -> None:
    """Whatever comes, and however: its bytes are compared to the secret's by hmac.compare_digest, and by nothing else."""
    doors: list[auth.Doorkeeper] = []
    make = auth.Doorkeeper.__init__

    def made(door: auth.Doorkeeper, *args: t.Any) -> None:
        doors.append(door)
        make(door, *args)

    monkeypatch.setattr(auth.Doorkeeper, "__init__", made)
    app = watch(token=token)
    status(app)
    (door,) = doors
    right = door.cookie_value if way == "cookie" else token
    door.token = Guarded(token)
    proof = Guarded(door.cookie_value)
    monkeypatch.setattr(auth.Doorkeeper, "cookie_value", proof)
    refused = 403 if way == "form" else 401
    for given in (*WRONG, right[:-1], f"{right}x"):
        compared.clear()
        monkeypatch.setattr(door, "_bearers", backoff.Guessers())
        monkeypatch.setattr(door, "_cookies", backoff.Guessers())
        monkeypatch.setattr(door, "_logins", backoff.BackOff())
        assert sent(app, way, given) == refused
        assert len(compared) == 1, given
        assert compared[0][1] == str.encode(right)
        assert isinstance(compared[0][0], bytes)
    compared.clear()
    assert sent(app, way, right) == (303 if way == "form" else 200)
    assert compared == [(str.encode(right), str.encode(right))]


# Sizes

LONG = "a" * (8 * 1024 + 1)


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/findings", "/login", "/login.css", "/no-such-page"])
def test_long_query(watch: Watch, path: str) -> None:
    """A query string has a limit, whoever sends it and wherever to."""
    assert status(watch(), path, query_string=LONG) == 414
    assert status(watch(), path, query_string=LONG, headers={"Authorization": f"Bearer {TOKEN}"}) == 414


@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "Cookie", "Content-Type", "Accept", "Range", "If-Range"),
        *("If-None-Match", "If-Match", "If-Modified-Since", "If-Unmodified-Since"),
    ],
)
def test_long_header(watch: Watch, name: str) -> None:
    """So has every header that is looked into, for strangers too."""
    assert status(watch(), headers={name: LONG}) == 431
    app = watch(token=None)
    app.debug = True
    assert status(app, headers={name: LONG}, **local()) == 431
    assert status(app, headers={name: LONG}, **local(address="192.0.2.1")) == 404


def test_spaces_in_a_tag(watch: Watch) -> None:
    """What takes time that grows with the square of a header's length is stopped by its limit."""
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {TOKEN}", "If-None-Match": '"a"' + " " * 1_000_000}
    assert status(watch(), "/api/v1/findings", headers=headers) == 431
    assert time.monotonic() - began < 20


# Back-off


class Clock(types.SimpleNamespace):
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(backoff, "time", clock)
    return clock


def test_backs_off(watch: Watch, clock: Clock) -> None:
    """After some wrong tokens nobody's token is looked at for a moment, the right one's neither."""
    app = watch()
    assert [log_in(app, "wrong").status_code for _ in range(6)] == [403] * 6
    refused = log_in(app, TOKEN)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    clock.now += 3
    assert log_in(app, TOKEN).status_code == 303


def test_backs_off_longer(watch: Watch, clock: Clock) -> None:
    """The wait doubles up to about a minute, and no number of wrong tokens breaks it."""
    app = watch()
    waits: list[str] = []
    while len(waits) < 1_100:
        answer = log_in(app, "wrong")
        if answer.status_code == 429:
            waits.append(answer.headers["Retry-After"])
            clock.now += 120
    assert waits[:6] == ["3", "5", "9", "17", "33", "65"]
    assert {"65"} == set(waits[6:])


def test_login_ends_back_off(watch: Watch, clock: Clock) -> None:
    """After a right token the count begins anew."""
    app = watch()
    for _ in range(5):
        log_in(app, "wrong")
    assert log_in(app, TOKEN).status_code == 303
    assert [log_in(app, "wrong").status_code for _ in range(6)] == [403] * 6


def test_bearer_during_back_off_of_the_login(watch: Watch, clock: Clock) -> None:
    """Somebody's wrong logins do not keep Prometheus out."""
    app = watch()
    for _ in range(10):
        log_in(app, "wrong")
    assert with_bearer(app).status_code == 200


def test_bearer_backs_off(watch: Watch, clock: Clock) -> None:
    """After some wrong bearers none of that address is looked at for a moment, the right one neither."""
    app = watch()
    assert [with_bearer(app, "wrong").status_code for _ in range(6)] == [401] * 6
    refused = with_bearer(app)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    assert refused.get_json() == {"error": "Too Many Requests"}
    clock.now += 3
    assert with_bearer(app).status_code == 200


def test_right_bearer_does_not_end_back_off(watch: Watch, clock: Clock) -> None:
    """Behind a proxy a guesser has the address of those who know the token, and gains nothing by it."""
    app = watch()
    answers = []
    for _ in range(6):
        answers += [with_bearer(app, "wrong").status_code, with_bearer(app).status_code]
    assert answers == [401, 200] * 5 + [401, 429]


def test_wrong_bearers_are_forgotten(watch: Watch, clock: Clock) -> None:
    """Who errs now and then is never refused."""
    app = watch()
    for _ in range(10):
        assert [with_bearer(app, "wrong").status_code for _ in range(5)] == [401] * 5
        clock.now += 601


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "2001:db8::1", False),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("no address", "", True),
    ],
)
def test_back_off_by_address(watch: Watch, clock: Clock, one: str, other: str, together: bool) -> None:
    """Another visitor is not kept out; of IPv6, a visitor has a whole network."""
    app = watch()
    for _ in range(6):
        with_bearer(app, "wrong", one)
    assert with_bearer(app, address=one).status_code == 429
    assert with_bearer(app, address=other).status_code == (429 if together else 200)


def test_stranger_without_a_bearer_is_not_counted(watch: Watch, clock: Clock) -> None:
    """Who sends no token guesses nothing, and is told what is missing."""
    app = watch()
    assert [status(app) for _ in range(20)] == [401] * 20
    assert [status(app, headers={"Authorization": "Basic eDp5"}) for _ in range(20)] == [401] * 20


def test_cookies_back_off(watch: Watch, clock: Clock) -> None:
    """The cookie follows from the token, so that guessing cookies is guessing tokens; a login ends the wait."""
    app = watch()
    right = log_in(app, TOKEN).headers["Set-Cookie"].partition(";")[0]
    assert [with_cookie(app, f"{auth.COOKIE}={number}") for number in range(6)] == [401] * 6
    assert with_cookie(app, right) == 429
    assert with_bearer(app).status_code == 200
    assert log_in(app, TOKEN).status_code == 303
    assert with_cookie(app, right) == 200


def test_stale_cookie_is_no_guess(watch: Watch, clock: Clock) -> None:
    """A dashboard that was left open asks for ever with the same cookie, and may log in again at once."""
    app = watch()
    stale = log_in(watch(token="another token"), "another token").headers["Set-Cookie"].partition(";")[0]
    assert [with_cookie(app, stale) for _ in range(20)] == [401] * 20


def test_memory_of_guessers_is_bounded() -> None:
    """However many addresses err, only those that erred last are remembered."""
    guessers = backoff.Guessers(most=3)
    for number in range(50):
        for _ in range(6):
            guessers.wrong(f"192.0.2.{number}", "x" * 1_000)
    assert len(guessers) == 3
    assert [guessers.wait_seconds(f"192.0.2.{number}") > 0 for number in (0, 46, 47, 49)] == [
        False,
        False,
        True,
        True,
    ]


def test_who_goes_on_guessing_is_remembered() -> None:
    """The places of those who fell silent are taken first."""
    guessers = backoff.Guessers(most=2)
    for number in range(1, 20):
        guessers.wrong("192.0.2.0", "x")
        guessers.wrong(f"192.0.2.{number}", "x")
    assert guessers.wait_seconds("192.0.2.0") > 0


# The token stays where it is


def test_token_is_never_told(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """No page, header, cookie or log record holds the token."""
    caplog.set_level(logging.DEBUG)
    app = watch()
    client = app.test_client()
    answers = [client.post(LOGIN, data={"token": value}) for value in ("wrong", TOKEN)]
    answers += [client.get(PREFIX + path, buffered=True) for path in (*PATHS, "/login")]
    told = (
        "".join(f"{answer.headers}{answer.text}" for answer in answers) + caplog.text + repr(app.extensions)
    )
    assert TOKEN not in told
