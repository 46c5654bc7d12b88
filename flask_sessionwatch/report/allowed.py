"""``watch.allow(...)``: code that does on purpose what a rule would tell."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import typing as t
from types import CodeType
from types import FrameType
from types import TracebackType

from ..finding import Finding
from ..observe.present import Present
from ..observe.records import Scope
from ..observe.source import enclosing_function
from ..observe.source import with_block
from ..observe.stack import Stacks

_Called = t.TypeVar("_Called", bound=t.Callable[..., t.Any])


class Block(t.NamedTuple):
    """A ``with`` block, or a decorated function, and the rules that are allowed in it."""

    filename: str
    #: The line that enters it; its last line is looked up when a finding asks for it.
    entered: int
    #: First and last line of its function.
    function: tuple[int, int]
    is_function: bool
    names: frozenset[str]

    def holds(self, filename: str, lineno: int) -> bool:
        """Whether a line is inside of the block."""
        if filename != self.filename:
            return False
        first, last = _extent(self)
        return first <= lineno <= last


@functools.lru_cache(maxsize=1_000)
def _extent(block: Block) -> tuple[int, int]:
    """Return the first and last line of *block*: of its whole function where no ``with`` is found."""
    if block.is_function:
        return block.function
    found = with_block(block.filename, block.entered)
    return found or enclosing_function(block.filename, block.entered) or block.function


class Allowed:
    """Remembers which code is allowed to do what.

    An allow block is remembered by its lines, and a finding is compared with them when it is made. So it costs the
    code inside nothing, and it covers what is still held when the block is left.
    """

    def __init__(self) -> None:
        self._blocks: set[Block] = set()

    def add(self, code: CodeType, entered: int, names: frozenset[str], *, is_function: bool = False) -> None:
        """Remember that *names* are allowed in a block that is entered at a line of *code*."""
        self._blocks.add(Block(code.co_filename, entered, _lines_of(code), is_function, names))

    def covers(self, finding: Finding, stacks: Stacks, scope: Scope | None = None) -> bool:
        """Whether *finding* is about code that is allowed to do this.

        :param scope: the scope it judges as a whole, so that it is enough that the block was entered in it.
        """
        names = {finding.code, finding.rule}
        if scope is not None and scope.allowed is not None and not names.isdisjoint(scope.allowed):
            return True
        blocks = [each for each in self._blocks.copy() if not names.isdisjoint(each.names)]
        if not blocks:
            return False
        return any(block.holds(*place) for place in _places(finding, stacks) for block in blocks)


def _lines_of(code: CodeType) -> tuple[int, int]:
    last = max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
    inner = (_lines_of(each)[1] for each in code.co_consts if isinstance(each, CodeType))
    return code.co_firstlineno, max((last, *inner))


def _places(finding: Finding, stacks: Stacks) -> t.Iterator[tuple[str, int]]:
    """Yield the lines that *finding* is about: where it began, where it wrote, and where its holder is now."""
    if finding.site is not None:
        yield finding.site.filename, finding.site.lineno
    for frame in finding.stack:
        yield frame.filename, frame.lineno
    subject = finding.subject
    if subject is not None and subject.ended_at is None:
        present = Present(stacks).stack(getattr(subject, "user", subject.holder))
        for frame in stacks.frames(present):
            yield frame.filename, frame.lineno


class Allowing:
    """What ``watch.allow(...)`` returns: a context manager, and a decorator.

    :param allowed: where the block is remembered.
    :param names: codes and names of the rules that are allowed.
    :param scope: answers the scope that the calling code is in.
    :param on_error: told of an error of our own, which never reaches the application.
    """

    def __init__(
        self,
        allowed: Allowed,
        names: frozenset[str],
        scope: t.Callable[[], Scope | None],
        on_error: t.Callable[[str], None],
    ) -> None:
        self._allowed = allowed
        self._names = names
        self._scope = scope
        self._on_error = on_error

    def __enter__(self) -> None:
        try:
            frame = _caller(sys._getframe(1))
            self._allowed.add(frame.f_code, frame.f_lineno, self._names)
            self._mark()
        except Exception:
            self._on_error("the beginning of an allow block")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def __call__(self, function: _Called) -> _Called:
        """Allow it in *function* and in whatever that calls."""
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is None:
            raise TypeError(f"'allow' decorates functions, and {function!r} is none.")
        self._allowed.add(code, code.co_firstlineno, self._names, is_function=True)
        if inspect.iscoroutinefunction(function):
            return t.cast(_Called, self._around_coroutine(function))

        @functools.wraps(function)
        def allowing(*args: t.Any, **kwargs: t.Any) -> t.Any:
            self._mark_safely()
            return function(*args, **kwargs)

        return t.cast(_Called, allowing)

    def _around_coroutine(self, function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        @functools.wraps(function)
        async def allowing(*args: t.Any, **kwargs: t.Any) -> t.Any:
            self._mark_safely()
            return await function(*args, **kwargs)

        return allowing

    def _mark_safely(self) -> None:
        try:
            self._mark()
        except Exception:
            self._on_error("the beginning of an allowed function")

    def _mark(self) -> None:
        scope = self._scope()
        if scope is not None:
            scope.allowed = self._names if scope.allowed is None else scope.allowed | self._names


def _caller(frame: FrameType) -> FrameType:
    """Return the frame that enters the block, behind an ExitStack or another helper of contextlib's."""
    while frame.f_code.co_filename == contextlib.__file__ and frame.f_back is not None:
        frame = frame.f_back
    return frame
