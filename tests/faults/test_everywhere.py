"""Let the watcher fail at every line at which it may, one after the other: the application never notices.

The lines are not listed anywhere. A dry run finds those that the story reaches behind a guard, that is, below a
"try" of the watcher's own whose handler catches Exception; then each of them raises once.
"""

import collections
import concurrent.futures
import sys
import types
import typing as t
from pathlib import Path

import prometheus_client
import pytest

from flask_sessionwatch import SessionWatch
from flask_sessionwatch import extension
from flask_sessionwatch.observe.frames import Undisturbed
from flask_sessionwatch.observe.frames import undisturbed
from flask_sessionwatch.process import Process
from flask_sessionwatch.report.logs import logger
from tests.conftest import Servers
from tests.faults.guards import ELSEWHERE
from tests.faults.guards import PACKAGE
from tests.faults.guards import guard_of
from tests.story import Story

#: Files whose every line has to be survived: where everything is recorded, and where it is judged, told and published.
FRAGILE = {
    "recording": {str(path) for path in (PACKAGE / "observe").glob("*.py")},
    "judging": {
        str(path)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ("observe", *ELSEWHERE)
    },
}
#: Errors per step of the story: the watcher endures ten, and then steps aside.
ENDURED = 9

Line: t.TypeAlias = "tuple[str, int]"


class Provoked(Exception):
    """What every other line raises in its turn."""


#: What is raised, in turn.
RAISED = (Provoked, MemoryError)


class Saboteur:
    """Raises at lines of the watcher, each one once.

    :param files: those whose lines raise.
    :param pending: the lines that have still to raise; None finds out which there are.
    """

    def __init__(self, files: set[str], pending: set[Line] | None) -> None:
        self.files = files
        self.pending = pending
        self.found: set[Line] = set()
        self.struck: list[Line] = []
        self.to_be_counted = 0
        self._struck_before = 0
        self._before: t.Any = None

    def __enter__(self) -> "Saboteur":
        self._before = sys.gettrace(), sys.getprofile()
        self.lurk()
        return self

    def __exit__(self, *args: object) -> None:
        sys.setprofile(self._before[1])
        sys.settrace(self._before[0])

    def lurk(self) -> None:
        """Wait for the lines of the next step."""
        self._struck_before = len(self.struck)
        sys.settrace(self._called)
        sys.setprofile(self._profiled)

    def _profiled(self, frame: types.FrameType, event: str, arg: object) -> None:
        # Python stops tracing when a line has raised; the profiler's hook stays, and begins anew.
        if event == "call" and sys.gettrace() is None and not self._is_spent:
            sys.settrace(self._called)

    @property
    def _is_spent(self) -> bool:
        return len(self.struck) - self._struck_before >= ENDURED

    def _called(self, frame: types.FrameType, event: str, arg: object) -> t.Any:
        return self._reached if frame.f_code.co_filename in self.files and not self._is_spent else None

    def _reached(self, frame: types.FrameType, event: str, arg: object) -> t.Any:
        if event == "line":
            line = frame.f_code.co_filename, frame.f_lineno
            wanted = line not in self.found if self.pending is None else line in self.pending
            guard = guard_of(frame) if wanted else None
            if guard is not None:
                self._strike(line, guard)
        return self._reached

    def _strike(self, line: Line, guard: bool) -> None:
        if self.pending is None:
            self.found.add(line)
            return
        self.pending.discard(line)
        self.struck.append(line)
        self.to_be_counted += guard
        raise RAISED[len(self.struck) % 2](f"{Path(line[0]).name}:{line[1]}")


class Telling:
    """One telling of the story, with a saboteur in it."""

    def __init__(self, url: str, files: set[str], pending: set[Line] | None, process: Process) -> None:
        self.saboteur = Saboteur(files, pending)
        self.errors = 0
        self.told: list[str] = []
        self._ledger = process.ledger
        process.recorder.on_error = self.told.append
        story = Story(url)
        story.app.config["SESSIONWATCH_TICK"] = 3600.0
        story.app.config["SESSIONWATCH_MAX_COMMITS"] = 1
        story.app.config["SESSIONWATCH_IDLE_IN_TRANSACTION"] = 0.0
        story.app.config["SESSIONWATCH_LONG_CHECKOUT"] = 0.0
        self.watch = SessionWatch(story.app, registry=prometheus_client.CollectorRegistry())
        try:
            with self.saboteur:
                self.account = story.tell(self._between)
            self.errors += self._ledger.internal_errors
        finally:
            self.watch.close()
            story.close()

    def _between(self) -> None:
        self.watch.tick()
        # Errors of earlier steps are forgiven, so that every step may have its share.
        self.errors += self._ledger.internal_errors
        self._ledger.internal_errors = 0
        self.saboteur.lurk()


Tell: t.TypeAlias = "t.Callable[[set[str], set[Line] | None], Telling]"


@pytest.fixture
def tell(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Tell]:
    """Tell the story, each time in a runtime of its own."""
    server = servers.get("sqlite")
    url = server.create()
    # pytest keeps every record, and with a traceback what its frames hold: sessions that are to be collected.
    monkeypatch.setattr(logger, "disabled", True)

    def tell(files: set[str], pending: set[Line] | None) -> Telling:
        process = Process()
        monkeypatch.setattr(extension, "_process", process)
        # A tracer that raises between two lines of an except block keeps its exception handled on this thread for ever.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(Telling, url, files, pending, process).result()

    yield tell
    if isinstance(undisturbed, Undisturbed):
        undisturbed._after_fork()  # a line that failed in it has left a block unfinished
    server.drop(url)


#: A line may be out of reach since one before it has failed; a few, and never most of them.
OUT_OF_REACH = 20


@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", FRAGILE)
def test_every_line(tell: Tell, unwatched: list[str], part: str) -> None:
    """Whichever line fails: the application does as without a watch, and the failure is counted once and told once."""
    pending = tell(FRAGILE[part], None).saboteur.found
    reached = collections.Counter(Path(filename).name for filename, _ in pending)
    assert len(pending) > 500, f"the story reaches too little: {reached}"
    while len(pending) >= OUT_OF_REACH:
        telling = tell(FRAGILE[part], pending)
        struck = [f"{Path(filename).name}:{number}" for filename, number in telling.saboteur.struck]
        assert struck, f"out of reach: {pending}"
        assert telling.account == unwatched, f"the application noticed a failure at {struck}"
        assert telling.errors == telling.saboteur.to_be_counted, f"not every failure was counted: {struck}"
        assert len(telling.told) == telling.errors, f"not every failure was told once: {struck}"
    print(f"{part}: {sum(reached.values())} lines, of which {len(pending)} were out of reach")  # noqa: T201, for who counts them
