"""Capture call stacks cheaply, and render them only when somebody reads them.

A captured stack is a tuple of (code object, instruction offset) pairs, innermost frame first. The offset
is what a running frame knows for free; the line is looked up in the code object when it is asked for.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from types import CodeType
from types import FrameType

if sys.version_info >= (3, 11):
    #: Returns the exception that is being handled, at half the cost of ``sys.exc_info()``.
    handled: t.Callable[[], BaseException | None] = sys.exception
else:

    def handled() -> BaseException | None:
        """Return the exception that is being handled."""
        return sys.exc_info()[1]


Call: t.TypeAlias = "tuple[CodeType, int]"
Stack: t.TypeAlias = "tuple[Call, ...]"

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD_LIBRARY = os.path.join(sysconfig.get_path("stdlib"), "")
#: A script may have no ending.
_PYTHON_ENDINGS = ("", ".py", ".pyw", ".pyx")
_LIBRARY_PARTS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


#: Ways through the library to a listener that are remembered.
_WAYS_KEPT = 10_000


getframe: t.Callable[[int], FrameType] = sys._getframe


class Site(t.NamedTuple):
    """A place in the source: file, line and function."""

    filename: str
    lineno: int
    function: str

    def __str__(self) -> str:
        return f"{shortened(self.filename)}:{self.lineno} in {self.function}"


class Frame(t.NamedTuple):
    """One rendered frame of a stack, and whether it is the application's own."""

    filename: str
    lineno: int
    function: str
    application: bool


class Stacks:
    """Captures stacks and knows which of their frames belong to the application.

    :param depth: frames to keep of each stack; 0 keeps none.
    :param boundary: the code of the function behind which nothing is the application's (Flask's dispatch), so
        that the frames of the server are not walked.
    :param inner: the code of a function in front of it that most stacks reach first (Flask's call of the view).
    :param hooks: the code of the functions that call an application's hooks, with what such hooks are called.
    """

    def __init__(
        self,
        depth: int = 40,
        boundary: CodeType | None = None,
        inner: CodeType | None = None,
        hooks: Mapping[CodeType, str] | None = None,
    ) -> None:
        self.depth: int = 1
        self.keep(depth)
        self.boundary = boundary
        self.inner = inner
        self._hooks = hooks or {}
        self._paths: tuple[str, ...] = ()
        self._known: dict[str, bool] = {}
        #: By the way to a listener: how deep below it was what the application had called, and the code of both.
        self._depths: dict[int, tuple[int, CodeType, CodeType]] = {}
        #: By fork: the code of which one lies on a way that is remembered, and what to do at any other.
        self._marks: dict[int, tuple[t.Container[CodeType], t.Callable[[], None]]] = {}

    def keep(self, depth: int) -> None:
        """Keep *depth* frames of each stack from now on; 0 keeps none."""
        # Set and deleted only where that changes anything: the method is called faster while no instance has one of that name.
        if not depth:
            self.capture_application = self._capture_nothing  # type: ignore[method-assign]
        elif not self.depth:
            self.depth = depth
            del self.capture_application
        self.depth = depth

    def mark_ways(self, fork: int, marks: t.Container[CodeType], strayed: t.Callable[[], None]) -> None:
        """Call *strayed* at each capture behind *fork* whose way through the library leads past all *marks*."""
        self._marks[fork] = marks, strayed
        self._depths = {}

    def add_paths(self, paths: Iterable[str]) -> None:
        """Count the code below *paths* as the application's, less installed libraries."""
        added = {os.path.join(absolute(path), "") for path in paths}
        self._paths = tuple(sorted(added.union(self._paths)))
        self._known = {}
        self._depths = {}

    def is_application(self, filename: str) -> bool:
        """Whether *filename* is the application's own code."""
        known = self._known.get(filename)
        if known is None:
            known = self._known[filename] = self._belongs(filename)
        return known

    def _belongs(self, filename: str) -> bool:
        # A compiled template bears its own file's name, and line numbers of the Python that was made from it.
        if filename.startswith("<") or os.path.splitext(filename)[1] not in _PYTHON_ENDINGS:
            return False
        path = absolute(filename)
        if path.startswith((_OWN_FOLDER, _STANDARD_LIBRARY)):
            return False
        return path.startswith(self._paths) and not any(part in path for part in _LIBRARY_PARTS)

    def capture(self, frame: FrameType | None) -> Stack:
        """Keep the calls from *frame* outward, innermost first."""
        return tuple(self._calls(frame, self.depth))

    def capture_of(self, innermost: t.Callable[[], FrameType | None]) -> Stack:
        """Keep the calls of another thread.

        :param innermost: answers its innermost frame, of which nothing is kept for as long as its function may end.
        """
        return tuple(self._calls(innermost(), self.depth))

    def _calls(self, frame: FrameType | None, left: int) -> list[Call]:
        inner, boundary = self.inner, self.boundary
        calls: list[Call] = []
        while left and frame is not None:
            code = frame.f_code
            if code is inner or code is boundary:
                break
            calls.append((code, frame.f_lasti))
            frame = frame.f_back
            left -= 1
        return calls

    def capture_application(self, fork: int) -> Stack:
        """Keep the calls from the application's innermost one outward, without the library's in between.

        :param fork: how many frames above the caller the ways through the library part.
        """
        # This is application_frame() and capture() once more: two calls cost as much as what they do.
        way = 0
        frame: t.Any = None
        try:
            way = id(getframe(fork + 1).f_code)
            depth, before, found = self._depths[way]
            frame = getframe(depth)
            if frame.f_code is before:
                frame = frame.f_back
                code = frame.f_code
                if code is not found and not self._known[code.co_filename]:
                    frame = None
            else:
                frame = None
        except (KeyError, ValueError, AttributeError):
            frame = None
        if frame is None:
            walked = self._walk_to_application(getframe(1), way, *self._marks.get(fork, ()))
            return self.capture(getframe(1) if walked is None else walked)
        first = (code, frame.f_lasti)
        frame = frame.f_back
        # Most views use their session themselves.
        if frame is None or frame.f_code is self.inner:
            return (first,)
        return (first, *self._calls(frame, self.depth - 1))

    def _capture_nothing(self, fork: int) -> Stack:
        if fork in self._marks:
            self._marks[fork][1]()
        return ()

    def application_frame(self, fork: int, hint: int) -> FrameType | None:
        """Return the application's innermost frame below the caller.

        Python makes a frame object for every frame that is looked at, which costs more than anything else here. So
        this jumps to where the application was the last time the library came the same way, looks whether it is
        there again, and walks only when it is not.

        :param fork: how many frames above the caller the ways through the library part.
        :param hint: tells ways apart that part further out; never 0, under which those of captures are known.
        """
        way = hint
        try:
            way ^= id(getframe(fork + 1).f_code)
            depth, before, _ = self._depths[way]
            frame: t.Any = getframe(depth)
            # Behind the same function of the library as the last time, it is the application's innermost frame.
            if frame.f_code is before:
                frame = frame.f_back
                if self._known[frame.f_code.co_filename]:
                    return frame  # type: ignore[no-any-return]
        except (KeyError, ValueError, AttributeError):  # not come this way before, or not that deep
            pass
        return self._walk_to_application(getframe(1), way)

    def _walk_to_application(
        self,
        frame: FrameType | None,
        way: int,
        marks: t.Container[CodeType] | None = None,
        strayed: t.Callable[[], None] | None = None,
    ) -> FrameType | None:
        depth = 1
        before: CodeType | None = None
        astray = marks is not None
        while frame is not None and not self.is_application(frame.f_code.co_filename):
            before = frame.f_code
            if marks is not None and before in marks:
                astray = False
            frame = frame.f_back
            depth += 1
        if astray and strayed is not None:
            strayed()
        elif frame is not None and before is not None:
            if len(self._depths) >= _WAYS_KEPT:
                self._depths.clear()
            self._depths[way] = depth - 1, before, frame.f_code
        if frame is not None:
            return frame
        awaiting = awaiting_frame()
        while awaiting is not None and not self.is_application(awaiting.f_code.co_filename):
            awaiting = awaiting.f_back
        return awaiting

    def application_call(self, frame: FrameType | None) -> Call | None:
        """Return the innermost call of the application from *frame* outward."""
        known = self._known
        left = self.depth
        while left and frame is not None:
            code = frame.f_code
            if code is self.boundary:
                break
            filename = code.co_filename
            if known[filename] if filename in known else self.is_application(filename):
                return code, frame.f_lasti
            frame = frame.f_back
            left -= 1
        return None

    def first_application_call(self, stack: Stack) -> Call | None:
        """Return the innermost call of the application in a captured *stack*."""
        return next((call for call in stack if self.is_application(call[0].co_filename)), None)

    def application_calls(self, stack: Stack) -> Stack:
        """Return the calls of *stack* that are the application's, innermost first."""
        return tuple(call for call in stack if self.is_application(call[0].co_filename))

    def hook(self, stack: Stack) -> str | None:
        """Return the kind of hook that *stack* runs in, such as "after_request"; None for a view's own work."""
        return next((self._hooks[code] for code, _ in stack if code in self._hooks), None)

    def application_codes(self, stack: Stack) -> list[CodeType]:
        """Return the code of every application frame in *stack*, innermost first."""
        return [code for code, _ in stack if self.is_application(code.co_filename)]

    def site(self, stack: Stack) -> Site | None:
        """Return the application's innermost line in *stack*, or None if it has none there."""
        call = self.first_application_call(stack)
        return None if call is None else site_of(call)

    def frames(self, stack: Stack) -> list[Frame]:
        """Render *stack*, innermost frame first."""
        return [
            Frame(site.filename, site.lineno, site.function, self.is_application(site.filename))
            for site in map(site_of, stack)
        ]


def awaiting_frame() -> FrameType | None:
    """Return the frame that awaits the running call of an asyncio session: SQLAlchemy runs that on a greenlet."""
    library = sys.modules.get("greenlet")
    running = None if library is None else library.getcurrent()
    if running is None or not type(running).__module__.startswith("sqlalchemy."):
        return None
    return getattr(running.parent, "gr_frame", None)


def site_of(call: Call) -> Site:
    """Render one captured call."""
    code, offset = call
    return Site(code.co_filename, line_of(code, offset), code.co_name)


def line_of(code: CodeType, offset: int) -> int:
    """Return the source line of an instruction; the function's first line where the compiler gave none."""
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno


def shortened(filename: str) -> str:
    """Return *filename* relative to the working folder when it lies below it."""
    folder = os.path.join(absolute(os.curdir), "")
    return filename[len(folder) :] if filename.startswith(folder) else filename


def absolute(path: str) -> str:
    """Return *path* as an absolute one; as it is where the working folder was deleted, as by a deployment."""
    try:
        return os.path.abspath(path)
    except OSError:
        return path


def runs(frame: FrameType | None, codes: t.Container[CodeType]) -> bool:
    """Whether one of *codes* is running from *frame* outward."""
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False
