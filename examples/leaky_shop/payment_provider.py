"""A payment provider to practise with: it charges nobody, and takes its time like a real one."""

import collections.abc as cabc
import contextlib
import json
import secrets
import socketserver
import threading
import time
import typing as t
import wsgiref.simple_server as simple_server

CHARGE_SECONDS = 2.2
RATE_SECONDS = 0.15

Environ = dict[str, t.Any]
StartResponse = cabc.Callable[[str, list[tuple[str, str]]], object]


def application(environ: Environ, start_response: StartResponse) -> cabc.Iterable[bytes]:
    status, answer = _route(environ["REQUEST_METHOD"], environ["PATH_INFO"])
    _read(environ)
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def _route(method: str, path: str) -> tuple[str, dict[str, t.Any]]:
    if (method, path) == ("POST", "/charges"):
        time.sleep(CHARGE_SECONDS)  # the bank asks the customer's telephone
        return "201 Created", {"id": "ch_" + secrets.token_hex(6)}
    if method == "GET" and path.startswith("/rates/"):
        time.sleep(RATE_SECONDS)
        return "200 OK", {"rate": 1 + sum(path.encode()) % 97 / 100}
    return "404 Not Found", {"error": "unknown"}


def _read(environ: Environ) -> None:
    # A body left unread makes the kernel reset the connection, and the client lose the answer.
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True


class _Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Say nothing: the demo's findings are to be read."""


@contextlib.contextmanager
def serve() -> cabc.Iterator[str]:
    """Answer on a free loopback port for the length of the block, and give its URL."""
    with simple_server.make_server("127.0.0.1", 0, application, _Server, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, name="payment-provider", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    with simple_server.make_server("127.0.0.1", 5001, application, _Server) as server:
        server.serve_forever()
