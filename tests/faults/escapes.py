"""A plugin of pytest's that lets the watch fail below its guards, and fails a test only where such a failure gets out.

    python -m pytest -n0 -p tests.faults.escapes -p no:unraisableexception -p no:threadexception tests/rules

What is not told any more is no matter here: a test's own assertions are forgiven, waiting is cut short, and what
tests that were given up leave behind is nobody's concern.
"""

import os
import sys
import threading
import traceback
import typing as t

import pytest

from tests.faults import sabotage

_EVERY = int(os.environ.get("SESSIONWATCH_TEST_EVERY", "3"))
_saboteur = sabotage.install(_EVERY, guarded="SESSIONWATCH_TEST_UNGUARDED" not in os.environ)
_escaped: list[str] = []
_STATUS = pytest.StashKey[int]()


def pytest_configure() -> None:
    recorder: t.Any = __import__("flask_sessionwatch.observe.recorder", fromlist=["recorder"])
    recorder.ERRORS_ENDURED = 10**9
    conftest: t.Any = __import__("tests.rules.conftest", fromlist=["conftest"])
    conftest.DEADLINE = 0.3
    threading.excepthook = lambda args: _look(args.exc_value, "a thread")
    sys.unraisablehook = lambda args: _look(args.exc_value, "the collector")


def _look(error: BaseException | None, where: str) -> None:
    """Note an error that the saboteur has raised, or that has one in its chain."""
    while error is not None:
        if isinstance(error, sabotage.Provoked) or (isinstance(error, MemoryError) and ".py:" in str(error)):
            _escaped.append(f"{where}: {''.join(traceback.format_exception(error))}")
            return
        error = error.__cause__ or error.__context__


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without the threads of tests that were given up in the middle."""
    sys.stdout.flush()
    os._exit(int(config.stash[_STATUS]))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_STATUS] = int(session.exitstatus)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> t.Generator[None, None, None]:
    _saboteur.lurk()
    try:
        yield
    except Exception as error:
        _look(error, item.nodeid)
    finally:
        _saboteur.rest()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> t.Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "setup" and call.excinfo is not None:
        _look(call.excinfo.value, item.nodeid)
    if call.when == "teardown":
        report.outcome = "failed" if _escaped else "passed"
        report.longrepr = "\n".join(_escaped) or None
        _escaped.clear()
    return report
