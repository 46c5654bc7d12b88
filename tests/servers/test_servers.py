"""Servers with several workers: whichever answers shows all, also after one was killed, replaced or told to go."""

import os
import signal
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.conftest import BIN
from tests.servers.conftest import Deployment
from tests.servers.conftest import deployed
from tests.servers.conftest import gunicorn
from tests.servers.conftest import until
from tests.servers.conftest import uwsgi

GTHREAD = ("--worker-class", "gthread", "--threads", "4")
#: Seconds after which nothing of a dead worker may be told to live.
GONE = 5.0


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["lazily", "preload"])
@pytest.mark.parametrize(
    "options", [(), GTHREAD, ("--worker-class", "gevent")], ids=["sync", "gthread", "gevent"]
)
def test_gunicorn(options: tuple[str, ...], preload: tuple[str, ...]) -> None:
    """gunicorn with each kind of worker, with and without --preload."""
    with deployed(gunicorn(*options, *preload)) as server:
        story(server)


@pytest.mark.parametrize("options", [(), ("--lazy-apps",)], ids=["preload", "lazily"])
def test_uwsgi(options: tuple[str, ...]) -> None:
    """uWSGI, which loads the application before it forks unless it is told otherwise."""
    # Told to reload by a signal, it starts the program anew, and that of the wheel then lacks its virtual environment.
    with deployed(uwsgi(*options, "--touch-workers-reload", "{socket}.reload")) as server:
        story(server, Path(f"{server.address}.reload").touch)


def story(server: Deployment, reload: Callable[[], None] | None = None) -> None:
    """Leak in two workers; kill one of them; reload the server; end it."""
    workers = server.on_each("/leak-once", 2)
    until(lambda: server.workers() == server.holders() == workers)
    finding = until(lambda: seen_by(server.finding("SW201"), workers))
    assert finding["site"]["function"] == "leak_once"
    assert not any(each["gone"] for each in finding["workers"])

    killed, left = workers
    os.kill(killed, signal.SIGKILL)
    until(lambda: killed not in server.workers() | server.holders(), GONE)
    until(lambda: gone(server.finding("SW201")) == {killed}, GONE)

    (successor,) = server.on_each("/pid", 2) - workers
    until(lambda: server.workers() == {left, successor})
    server.process.send_signal(signal.SIGHUP) if reload is None else reload()
    until(lambda: not {left, successor} & (server.workers() | server.holders()))
    until(lambda: gone(server.finding("SW201")) == workers, GONE)
    assert server.finding("SW201")["count"] == 2
    assert server.end() == 0
    assert "Traceback" not in server.log
    assert "SW105" not in server.log


def seen_by(finding: t.Any, workers: set[int]) -> t.Any:
    """Return *finding* once all of the workers have told of it."""
    return finding and {each["pid"] for each in finding["workers"]} == workers and finding


def gone(finding: t.Any) -> set[int]:
    """Return the workers that saw *finding* and are no more; a new worker may not know of it yet."""
    return {each["pid"] for each in finding["workers"] if each["gone"]} if finding else set()


def test_recycling() -> None:
    """A worker that gunicorn replaces after some requests takes leave, and its findings stay."""
    with deployed(gunicorn(*GTHREAD, "--max-requests", "3", workers=1)) as server:
        (first,) = server.on_each("/leak-once", 1)
        until(lambda: server.get("/pid").text not in ("", str(first)))
        until(lambda: server.workers() and first not in server.workers(), GONE)
        assert first in gone(until(lambda: server.finding("SW201")))


def test_waitress() -> None:
    """waitress, a single process with threads."""
    command = [str(BIN / "waitress-serve"), "--unix-socket", "{socket}", "--threads", "4", "shop:app"]
    with deployed(command) as server:
        (worker,) = server.on_each("/leak-once", 1)
        until(lambda: server.finding("SW201"))
        assert server.workers() == server.holders() == {worker}


def test_development_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Flask's own server, whose reloader starts a new process when a file has changed."""
    extra = tmp_path_factory.mktemp("extra") / "changed.txt"
    extra.touch()
    command = [
        *(str(BIN / "flask"), "--app", "shop:app", "run", "--host", "unix://{socket}", "--debug"),
        *("--extra-files", str(extra)),
    ]
    with deployed(command) as server:
        (first,) = server.on_each("/leak-once", 1)
        until(lambda: server.holders() == {first})
        extra.write_text("changed")
        until(lambda: server.get("/pid").text not in ("", str(first)))
        until(lambda: first not in server.workers(), GONE)
        assert gone(server.finding("SW201")) == {first}
