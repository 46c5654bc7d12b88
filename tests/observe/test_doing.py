"""What a thread is doing, in words: each way to be elsewhere, and what is not told apart."""

import concurrent.futures
import contextlib
import http.client
import linecache
import queue
import select
import socket
import subprocess
import sys
import threading
import time
import types
import typing as t
import weakref

import jinja2
import pytest
import sqlalchemy as sa

from flask_sessionwatch.observe import doing as doing_module
from flask_sessionwatch.observe.doing import NOTHING
from flask_sessionwatch.observe.doing import STATEMENT
from flask_sessionwatch.observe.doing import Doing
from flask_sessionwatch.observe.doing import called_builtin
from flask_sessionwatch.observe.doing import doing
from flask_sessionwatch.observe.stack import Stacks
from tests.rules.conftest import until

STACKS = Stacks()
STACKS.add_paths([__file__.rpartition("tests")[0]])


def at(frame: types.FrameType) -> t.Callable[[], types.FrameType]:
    """Answer *frame*, as a thread that stands still does."""
    return lambda: frame


class Elsewhere:
    """Threads that are kept busy in many ways, until the end of a test."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.stack = contextlib.ExitStack()
        self.silent, self.peer = socket.socketpair()
        for end in (self.silent, self.peer):
            self.stack.callback(end.close)

    def seen(self, work: t.Callable[[], object]) -> str | None:
        """Run *work* on a thread, and return what that is said to do once it does it for a while."""

        def run() -> None:
            with contextlib.suppress(Exception):
                work()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        said: list[str | None] = []

        def steady() -> bool:
            said.append(doing(lambda: sys._current_frames().get(thread.ident or 0), STACKS).what)
            return len(said) > 5 and len(set(said[-5:])) == 1

        until(steady)
        self.stack.callback(thread.join)
        return said[-1]

    def close(self) -> None:
        self.over.set()
        self.peer.sendall(b"x" * 100)
        self.peer.shutdown(socket.SHUT_RDWR)
        self.stack.close()


@pytest.fixture
def elsewhere() -> t.Iterator[Elsewhere]:
    elsewhere = Elsewhere()
    yield elsewhere
    elsewhere.close()


def test_asleep(elsewhere: Elsewhere) -> None:
    """time.sleep() has no frame of its own; the instruction of its caller tells."""
    assert elsewhere.seen(lambda: time.sleep(0.3)) == "asleep"


def test_asleep_under_other_names(elsewhere: Elsewhere) -> None:
    """The function is found behind its arguments, whatever they are made of."""
    nap = types.SimpleNamespace(sleep=time.sleep)
    seconds = {"nap": 0.1}
    assert elsewhere.seen(lambda: nap.sleep(max(seconds["nap"], sum([0.1, 0.2])))) == "asleep"


def test_in_the_argument_of_sleep(elsewhere: Elsewhere) -> None:
    """A call that only computes how long to sleep is not sleep."""
    assert elsewhere.seen(lambda: time.sleep(min(0, len(elsewhere.silent.recv(1))))) == "waiting on a socket"


def test_hard_to_tell() -> None:
    """Where an argument is chosen by a condition nothing is said, and nothing wrong."""
    frames: list[types.FrameType] = []

    def frame_of(_: object) -> None:
        frames.append(sys._getframe(1))

    frame_of(1 if frames else 2)
    assert called_builtin(frames[0].f_code, frames[0].f_lasti) in {None, "frame_of"}


def test_locks(elsewhere: Elsewhere) -> None:
    """Waiting for a lock is told, both for acquire() and in a 'with' block."""
    first, second = threading.Lock(), threading.Lock()

    def enter() -> None:
        with second:
            pass

    with first, second:
        assert elsewhere.seen(lambda: first.acquire(timeout=0.3)) == "waiting for a lock"
        assert elsewhere.seen(enter) == "waiting for a lock"


def test_threads(elsewhere: Elsewhere) -> None:
    """Events, queues and futures are told apart from locks."""
    waiting: queue.Queue[None] = queue.Queue()
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    assert elsewhere.seen(elsewhere.over.wait) == "waiting for another thread"
    assert elsewhere.seen(lambda: waiting.get(timeout=0.3)) == "waiting for a queue"
    assert elsewhere.seen(lambda: future.result(0.3)) == "waiting for a future"


def test_sockets(elsewhere: Elsewhere) -> None:
    """Reading from a socket, and waiting until one can be read, are told."""
    assert elsewhere.seen(lambda: elsewhere.silent.recv(1)) == "waiting on a socket"
    assert elsewhere.seen(lambda: select.select([elsewhere.silent], [], [], 0.3)) == "waiting for input"


def test_http_call(elsewhere: Elsewhere) -> None:
    """Whoever the application called has the first word, although a socket waits below."""
    client = http.client.HTTPConnection("nobody")
    client.sock = elsewhere.silent

    def call() -> None:
        client.request("GET", "/")
        client.getresponse()

    assert elsewhere.seen(call) == "in an HTTP call (http.client)"


def test_subprocess(elsewhere: Elsewhere) -> None:
    """Waiting for a program is told."""
    program = [sys.executable, "-c", "import time; time.sleep(0.5)"]
    assert elsewhere.seen(lambda: subprocess.run(program, check=True)) == "waiting for another process"


def test_template(elsewhere: Elsewhere) -> None:
    """Rendering is told, and the line is that of the view: a template's frames count other lines than its own."""
    loader = jinja2.FunctionLoader(
        lambda name: ("{{ nap() }}", f"{__file__.rpartition('tests')[0]}templates/{name}", None)
    )
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("page.html")
    seen: list[Doing] = []

    def nap() -> str:
        seen.append(doing(at(sys._getframe(1)), STACKS))
        return ""

    template.render(nap=nap)
    (said,) = seen
    assert said.what == "rendering a template"
    assert said.site is not None
    assert linecache.getline(said.site.filename, said.site.lineno).strip() == "template.render(nap=nap)"


def library(module: str, function: str) -> t.Any:
    """Make a library that is not installed here, and whose function calls back."""
    source = f"def {function}(work):\n    return work()\n"
    namespace: dict[str, t.Any] = {"__name__": module}
    code = compile(source, f"/usr/lib/python3/site-packages/{module.replace('.', '/')}.py", "exec")
    types.FunctionType(code, namespace)()
    return namespace[function]


@pytest.mark.parametrize(
    ("module", "function", "words"),
    [
        ("requests.sessions", "send", "in an HTTP call (requests)"),
        ("httpx._client", "send", "in an HTTP call (httpx)"),
        ("urllib3.connectionpool", "urlopen", "in an HTTP call (urllib3)"),
        ("redis.client", "execute_command", "in a call to Redis"),
        ("gevent.hub", "sleep", "asleep"),
        ("werkzeug.serving", "write", "sending the body to the client"),
        ("gunicorn.http.wsgi", "write", "sending the body to the client"),
        ("sqlalchemy.pool.impl", "_do_get", "waiting for a connection from the pool"),
        ("sqlalchemy.engine.default", "do_execute", STATEMENT),
        ("werkzeug.serving", "run_wsgi", None),
        ("requests_of_somebody", "send", None),
        ("concurrent.futures.thread", "_worker", None),
    ],
)
def test_libraries(module: str, function: str, words: str | None) -> None:
    """Modules are known by their names, whole packages or single functions of them."""
    nobody = Stacks()  # to which nothing here is the application
    assert library(module, function)(lambda: doing(at(sys._getframe(1)), nobody).what) == words


def test_server_around_the_application() -> None:
    """Frames behind the boundary are the server's, and say nothing about the application."""
    send = library("werkzeug.serving", "write")
    dispatch = library("flask.app", "full_dispatch_request")
    stacks = Stacks(boundary=dispatch.__code__)
    view = library("plain", "view")
    assert send(lambda: dispatch(lambda: view(lambda: doing(at(sys._getframe(1)), stacks)))) == NOTHING


def test_waiting_for_the_pool(elsewhere: Elsewhere) -> None:
    """Who waits for a connection runs no statement, although SQLAlchemy's own queue does the waiting."""
    engine = sa.create_engine(
        "sqlite://", poolclass=sa.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.3
    )
    with engine.connect():
        assert elsewhere.seen(engine.connect) == "waiting for a connection from the pool"
    elsewhere.stack.callback(engine.dispose)


def test_nobody() -> None:
    """Of a thread that is over nothing is said."""
    assert doing(lambda: None, STACKS) == NOTHING
    assert not NOTHING


def test_as_text() -> None:
    """As text, only what is known is named."""
    said = doing(at(sys._getframe()), STACKS)
    assert said.site is not None
    assert str(said) == f"now at {said.site}"
    assert str(Doing("asleep", said.site)) == f"now asleep at {said.site}"
    assert str(Doing("asleep", None)) == "now asleep"


class _Kept:
    """What a function has in a variable, like an open cursor."""


def _work(inside: threading.Event, go_on: threading.Event, kept: list[weakref.ref[_Kept]]) -> None:
    """Wait with something in a variable."""
    own = _Kept()
    kept.append(weakref.ref(own))
    inside.set()
    go_on.wait()


def test_variables_do_not_outlive_their_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a function has in variables ends with it, also while somebody thinks about what it was doing."""
    inside, go_on, kept = threading.Event(), threading.Event(), list[weakref.ref[_Kept]]()
    thread = threading.Thread(target=_work, args=(inside, go_on, kept))
    thread.start()
    assert inside.wait(10)
    thought = []

    def think(*_: object) -> None:
        go_on.set()
        thread.join(10)
        thought.append(kept[0]())

    monkeypatch.setattr(doing_module, "_meaning", think)
    doing(lambda: sys._current_frames().get(thread.ident or 0), STACKS)
    assert thought == [None]
