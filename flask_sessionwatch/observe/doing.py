"""Say in words what a thread or greenlet is doing, from the frames of its stack."""

from __future__ import annotations

import dis
import typing as t
from types import CodeType
from types import FrameType

from .frames import undisturbed
from .stack import Call
from .stack import Site
from .stack import Stacks
from .stack import site_of

#: In SQLAlchemy or below it, in the driver.
STATEMENT = "running a statement"
_WAITING = "waiting for a connection from the pool"
_ASLEEP = "asleep"
_LOCK = "waiting for a lock"
_THREAD = "waiting for another thread"
_SOCKET = "waiting on a socket"
_SENDING = "sending the body to the client"
_PROCESS = "waiting for another process"

_Functions: t.TypeAlias = "frozenset[str] | None"


def _entry(module: str, words: str, functions: str = "") -> tuple[str, tuple[_Functions, str]]:
    return module, (frozenset(functions.split()) or None, words)


#: Modules, or packages with all that is in them, and what it means to be in one, or in those functions of it.
_MEANING: dict[str, tuple[_Functions, str]] = dict(
    [
        _entry("requests", "in an HTTP call (requests)"),
        _entry("httpx", "in an HTTP call (httpx)"),
        _entry("aiohttp.client", "in an HTTP call (aiohttp)"),
        _entry("botocore", "in an HTTP call (botocore)"),
        _entry("urllib3", "in an HTTP call (urllib3)"),
        _entry("urllib.request", "in an HTTP call (urllib)"),
        _entry("http.client", "in an HTTP call (http.client)"),
        _entry("grpc", "in a remote call (grpc)"),
        _entry("redis", "in a call to Redis"),
        _entry("pymongo", "in a call to MongoDB"),
        _entry("elasticsearch", "in a call to Elasticsearch"),
        _entry("kombu", "publishing a message (kombu)"),
        _entry("smtplib", "sending mail (smtplib)"),
        _entry("ftplib", "in an FTP call"),
        _entry("paramiko", "in an SSH call"),
        _entry("jinja2", "rendering a template"),
        _entry("mako", "rendering a template"),
        _entry("subprocess", _PROCESS),
        _entry("gevent.subprocess", _PROCESS),
        _entry("multiprocessing", _PROCESS, "get wait join recv recv_bytes poll _recv"),
        _entry("concurrent.futures", "waiting for a future", "result exception wait as_completed shutdown"),
        _entry("queue", "waiting for a queue", "get put join"),
        _entry("threading", _THREAD, "wait wait_for join"),
        _entry("gevent.thread", _LOCK, "acquire __enter__"),
        _entry("gevent.hub", _ASLEEP, "sleep"),
        _entry("eventlet.greenthread", _ASLEEP, "sleep"),
        _entry("werkzeug.serving", _SENDING, "write"),
        _entry("gunicorn.http.wsgi", _SENDING, "write write_file sendfile"),
        _entry("gevent.pywsgi", _SENDING, "write _write _sendall"),
        _entry("waitress.task", _SENDING, "write"),
        _entry("cheroot", _SENDING, "write"),
        _entry("socket", _SOCKET),
        _entry("ssl", _SOCKET),
        _entry("gevent._socket3", _SOCKET),
        _entry("gevent._socketcommon", _SOCKET),
        _entry("gevent.ssl", _SOCKET),
        _entry("eventlet.hubs", _SOCKET, "trampoline"),
        _entry("selectors", "waiting for input", "select"),
    ]
)
#: Functions written in C have no frame; their callers know them by name.
_BUILTIN_MEANING = {
    "sleep": _ASLEEP,
    "acquire": _LOCK,
    **dict.fromkeys(("recv", "recv_into", "recvfrom", "send", "sendall", "accept"), _SOCKET),
    **dict.fromkeys(("select", "poll"), "waiting for input"),
    **dict.fromkeys(("waitpid", "wait4", "waitid"), _PROCESS),
}
_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
#: Entering a 'with' block in C takes time only for a lock.
_ENTERING = frozenset(("BEFORE_WITH", "SETUP_WITH"))
_LOADING = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF")


class Doing(t.NamedTuple):
    """What somebody is doing: in words where they are known, and the application's line where one is running."""

    what: str | None
    site: Site | None

    def __str__(self) -> str:
        return " ".join(
            ["now", *([self.what] if self.what else []), *([f"at {self.site}"] if self.site else [])]
        )

    def __bool__(self) -> bool:
        return self.what is not None or self.site is not None


#: What is said of somebody who is gone.
NOTHING = Doing(None, None)


def doing(innermost: t.Callable[[], FrameType | None], stacks: Stacks) -> Doing:
    """Say what is going on in a thread or greenlet.

    :param innermost: answers its innermost frame.
    """
    with undisturbed:
        steps, call = _look(innermost, stacks)
    latest = steps[0].call if steps else call
    return Doing(_meaning(steps, latest), None if call is None else site_of(call))


class _Step(t.NamedTuple):
    """A call of the library, and the module whose it is."""

    call: Call
    module: str


def _look(innermost: t.Callable[[], FrameType | None], stacks: Stacks) -> tuple[list[_Step], Call | None]:
    """Write down the library's calls from the innermost one outward, and the application's call in front of them.

    Each frame is let go of when the next one is looked at, and thought about later: see :meth:`Holder.frame`.
    """
    steps: list[_Step] = []
    frame = innermost()
    while frame is not None and frame.f_code is not stacks.boundary:
        call = frame.f_code, frame.f_lasti
        if stacks.is_application(call[0].co_filename):
            return steps, call if stacks.depth else None
        steps.append(_Step(call, str(frame.f_globals.get("__name__", ""))))
        frame = frame.f_back
    return steps, None


def _meaning(steps: list[_Step], latest: Call | None) -> str | None:
    """Read the calls between the application and the *latest*; whoever the application called has the first word."""
    modules = [each.module for each in steps]
    if any(module.startswith("sqlalchemy.pool.") for module in modules):
        return _WAITING
    if any(module.startswith("sqlalchemy.") for module in modules):
        return STATEMENT
    for (code, _), module in reversed(steps):
        words = _words_for(module, code.co_name)
        if words is not None:
            return words
    return None if latest is None else _BUILTIN_MEANING.get(called_builtin(*latest) or "")


def _words_for(module: str, function: str) -> str | None:
    while module:
        functions, words = _MEANING.get(module, (None, None))
        if words is not None:
            return words if functions is None or function in functions else None
        module = module.rpartition(".")[0]
    return None


def called_builtin(code: CodeType, offset: int) -> str | None:
    """Name the function that is called at *offset* of *code*, or None where that is hard to tell.

    It is only asked of an innermost call: what that calls has no frame, so it is written in C.
    """
    try:
        return _called(code, offset)
    except Exception:  # a stack machine that is not known yet
        return None


def _called(code: CodeType, offset: int) -> str | None:
    instructions = list(dis.get_instructions(code))
    at = next(n for n, each in enumerate(instructions) if each.offset == offset)
    if instructions[at].opname in _ENTERING:
        return "acquire"
    if instructions[at].opname == "PRECALL":
        at += 1
    if not instructions[at].opname.startswith("CALL"):
        return None
    # Back to the instruction that pushed the callable: from there on the stack has grown by the call's result alone.
    height = 0
    begin = at
    while True:
        each = instructions[begin]
        if each.opcode in _JUMPS:
            return None
        height += dis.stack_effect(each.opcode, each.arg if each.opcode >= dis.HAVE_ARGUMENT else None)
        if height == 1:
            return _name_loaded(instructions, begin)
        begin -= 1


def _name_loaded(instructions: list[dis.Instruction], begin: int) -> str | None:
    name = None
    for each in instructions[begin:]:
        if each.opname in ("PUSH_NULL", "CACHE", "EXTENDED_ARG"):
            continue
        if (each.opname.startswith(_LOADING) and name is None) or each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            name = each.argval
        else:
            break
    return name if isinstance(name, str) else None
