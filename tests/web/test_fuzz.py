"""Whatever is sent, it is answered in good order: requests made from the API's own description, and bytes that are none."""

import contextlib
import socket
import typing as t
from pathlib import Path
from urllib.parse import quote

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_sessionwatch.store import open_store
from flask_sessionwatch.web.openapi import document as described_api
from tests.servers.conftest import deployed
from tests.servers.conftest import gunicorn
from tests.servers.conftest import standalone
from tests.store.conftest import report
from tests.store.conftest import worker
from tests.web.conftest import PREFIX
from tests.web.conftest import TOKEN
from tests.web.conftest import Pages
from tests.web.test_api import Leaky
from tests.web.test_api import pages as pages
from tests.web.test_openapi import check

#: Every refusal is one of these, and is meant.
REFUSALS = (304, 400, 401, 404, 405, 414, 429, 431)
API = described_api(PREFIX)
PATHS = sorted(API["paths"])

bounded = settings(
    max_examples=80,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TEXT = st.text(max_size=20) | st.sampled_from(
    ["", "0", "-1", "1e9", "\u0661", "9" * 5_000, "true", "\x00", "%", "../.."]
)


def _values(schema: dict[str, t.Any]) -> st.SearchStrategy[str]:
    """Values that a parameter takes, and others."""
    if "items" in schema:
        return _values(schema["items"])
    meant = st.sampled_from(schema["enum"]) if "enum" in schema else st.integers(0, 100).map(str)
    return meant | TEXT


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, list[tuple[str, str]]]:
    """A path as it is described, the one that is asked for, and its query."""
    path = draw(st.sampled_from(PATHS))
    asked, query = path, []
    for each in API["paths"][path]["get"]["parameters"]:
        if each["in"] == "path":
            value = draw(TEXT.filter(bool))
            asked = asked.replace(f"{{{each['name']}}}", quote(value, safe="", errors="surrogatepass"))
        else:
            query += [(each["name"], value) for value in draw(st.lists(_values(each["schema"]), max_size=2))]
    query += draw(st.lists(st.tuples(TEXT, TEXT), max_size=2))
    return path, asked, query


@bounded
@given(request=requests())
def test_queries(pages: Leaky, request: tuple[str, str, list[tuple[str, str]]]) -> None:
    """Any value of any parameter is answered as described, or refused."""
    path, asked, query = request
    text = "&".join(
        f"{quote(name, errors='replace')}={quote(value, errors='replace')}" for name, value in query
    )
    answer = pages.get(f"{asked}?{text}")
    assert answer.status_code in (200, *REFUSALS), (asked, text)
    if answer.status_code == 200 and answer.mimetype == "application/json":
        check(API, path, answer.get_json())


HEADERS = (
    "If-None-Match",
    "If-Match",
    "If-Modified-Since",
    "Accept",
    "Range",
    "Content-Type",
    "Cookie",
    "Host",
)
#: Headers are bytes, which WSGI hands over as Latin-1.
VALUES = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60)


@bounded
@given(
    path=st.sampled_from(
        ["/", "/metrics", "/api/v1/findings", "/api/v1/live", "/login", "/assets/x", "/healthz"]
    ),
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "TRACE", "x"]),
    headers=st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=4),
    body=st.binary(max_size=200),
)
def test_headers(client: Pages, path: str, method: str, headers: dict[str, str], body: bytes) -> None:
    """Any header and any body are answered or refused, to whoever has the token and to others."""
    environ = {
        "CONTENT_TYPE" if name == "Content-Type" else f"HTTP_{name.upper().replace('-', '_')}": value
        for name, value in headers.items()
    }
    for bearer in ({}, {"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}):
        answer = client.app.test_client(use_cookies=False).open(
            PREFIX + path,
            method=method,
            data=body,
            environ_overrides={**environ, **bearer},
            buffered=True,
        )
        assert answer.status_code in (200, 206, 302, 303, 403, 412, 416, 501, 503, *REFUSALS)
        assert "Access-Control-Allow-Origin" not in answer.headers


def garbage(prefix: str) -> list[bytes]:
    """What is no request, or hardly one."""
    path = f"{prefix}/api/v1/findings".encode()
    head = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n"
    return [
        b"\r\n\r\n",
        bytes(range(256)) * 8 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET " + path + b"\r\n\r\n",
        b"GET " + path + b" HTTP/9.9\r\n\r\n",
        b"GET " + path + b"?%ff%00%zz=%&&;;== HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET " + path + b"/%2e%2e%2f%2e%2e%2fetc%2fpasswd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET " + path + b"/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET " + path + b"?" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        head + b"X: " + b"a" * 300_000 + b"\r\n\r\n",
        head + b"Host: y\r\nHost: z\r\n\r\n",
        head + b"No colon\r\n\r\n",
        head + b"Authorization: Bearer\r\nAuthorization: Bearer x\r\n\r\n",
        head + b"Authorization: Bearer \xff\xfe\r\nCookie: sessionwatch=\x01\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: 99999999999999999999\r\n\r\n",
        head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    ]


def sent(address: str, data: bytes) -> bytes:
    """Send bytes, and return all that is answered."""
    with contextlib.closing(_connected(address)) as connection:
        answer = b""
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                answer += part
        return answer


def _connected(address: str) -> socket.socket:
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(address)
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def bombard(address: str, prefix: str) -> None:
    for data in garbage(prefix):
        answer = sent(address, data)
        assert b"Traceback" not in answer, data[:100]
        assert answer[:12] not in (b"HTTP/1.0 500", b"HTTP/1.1 500"), (data[:100], answer)
        assert b" 200 " not in answer[:20], data[:100]


def test_garbage_at_the_standalone_server(tmp_path: Path) -> None:
    """The server of its own refuses what is no request, and goes on."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with contextlib.closing(open_store(url)) as store:
        store.publish(worker(), {}, [report()])
    with standalone(url) as site:
        bombard(site.address, "")
        assert site.get("/api/v1/findings").status == 200


def test_garbage_at_the_application() -> None:
    """The pages in an application under gunicorn do so, too; no traceback is in the log."""
    with deployed(gunicorn(workers=1)) as server:
        bombard(server.address, PREFIX)
        assert server.get(f"{PREFIX}/api/v1/findings").status == 200
        assert "Traceback" not in server.log
