"""Stacks: captured raw, rendered on demand, and which of their frames are the application's."""

import os
import site
import sys
import types
import typing as t
from pathlib import Path

import pytest

import flask_sessionwatch
from flask_sessionwatch import Site
from flask_sessionwatch.observe.stack import Stack
from flask_sessionwatch.observe.stack import Stacks
from flask_sessionwatch.observe.stack import shortened

HERE = os.path.abspath(__file__)


@pytest.fixture
def stacks() -> Stacks:
    """Stacks to which this folder is the application."""
    stacks = Stacks()
    stacks.add_paths([os.path.dirname(HERE)])
    return stacks


def line_here() -> int:
    """Return the number of the line that calls this."""
    frame = sys._getframe(1)
    assert frame.f_lineno is not None
    return frame.f_lineno


def capture_through(stacks: Stacks, filename: str, levels: int = 1) -> Stack:
    """Capture a stack inside functions that seem to come from the file *filename*."""
    source = (
        "def called(function, levels):\n    return called(function, levels - 1) if levels > 1 else function()"
    )
    module = types.ModuleType("elsewhere")
    code = compile(source, filename, "exec")
    types.FunctionType(code, vars(module))()
    stack: Stack = vars(module)["called"](lambda: stacks.capture(sys._getframe(1)), levels)
    return stack


# Capture and render


def test_site_is_the_line_that_runs(stacks: Stacks) -> None:
    """The site is the very line, file and function that was running."""
    stack, line = stacks.capture(sys._getframe()), line_here()
    assert Site(HERE, line, "test_site_is_the_line_that_runs") == stacks.site(stack)


def test_line_is_that_of_the_capture(stacks: Stacks) -> None:
    """What runs on after the capture does not move the line."""
    frame = sys._getframe()
    stack, line = stacks.capture(frame), line_here()
    for _ in range(3):
        pass
    site = stacks.site(stack)
    assert site is not None
    assert line == site.lineno


def test_line_of_a_statement_of_several_lines(stacks: Stacks) -> None:
    """In a call that spans lines the site lies within it."""
    first = line_here() + 1
    stack = stacks.capture(
        sys._getframe(
            0,
        ),
    )
    site = stacks.site(stack)
    assert site is not None
    assert first <= site.lineno <= first + 4


def test_innermost_first(stacks: Stacks) -> None:
    """Frames are rendered from the innermost outward."""

    def inner() -> Stack:
        return stacks.capture(sys._getframe())

    def outer() -> Stack:
        return inner()

    frames = stacks.frames(outer())
    assert [frame.function for frame in frames[:3]] == ["inner", "outer", "test_innermost_first"]
    assert all(frame.application for frame in frames[:3])
    assert not frames[-1].application


def test_site_skips_libraries(stacks: Stacks) -> None:
    """A library between the event and the application is passed over."""
    folder = site.getsitepackages()[0]
    stack = capture_through(stacks, os.path.join(folder, "sqlalchemy", "pool.py"), levels=3)
    found = stacks.site(stack)
    assert found is not None
    assert found.function == "capture_through"
    assert [frame.application for frame in stacks.frames(stack)[:3]] == [False] * 3


def test_no_site(stacks: Stacks) -> None:
    """Where no frame is the application's there is no site."""
    elsewhere = Stacks()
    stack = stacks.capture(sys._getframe())
    assert elsewhere.site(stack) is None
    assert not any(frame.application for frame in elsewhere.frames(stack))


def test_nothing_captured(stacks: Stacks) -> None:
    """An empty stack renders to nothing."""
    assert stacks.site(()) is None
    assert stacks.frames(()) == []
    assert stacks.capture(None) == ()


def test_captured_stack_can_be_a_key(stacks: Stacks) -> None:
    """Two captures of the same place are equal, however often it is passed."""
    captured = {stacks.capture(sys._getframe()) for _ in range(3)}
    assert len(captured) == 1


def test_capture_keeps_no_frame(stacks: Stacks) -> None:
    """A captured stack keeps no local variable of the application alive."""

    def types_in(value: object) -> set[type]:
        if isinstance(value, tuple):
            return set().union(*map(types_in, value))
        return {type(value)}

    assert {types.CodeType, int} == types_in(stacks.capture(sys._getframe()))


# Depth


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_depth(depth: int) -> None:
    """No more frames are kept than asked for, the innermost ones."""
    stacks = Stacks(depth=depth)
    frames = stacks.frames(stacks.capture(sys._getframe()))
    assert depth == len(frames)
    assert frames[0].function == "test_depth"


def test_depth_zero() -> None:
    """Depth 0 keeps no frame and knows no site."""
    stacks = Stacks(depth=0)
    stacks.add_paths([os.path.dirname(HERE)])
    stack = stacks.capture(sys._getframe())
    assert stack == ()
    assert stacks.site(stack) is None


def test_stacks_are_kept_from_now_on() -> None:
    """What was found while no stacks were kept is no way that a capture takes later, past a mark."""
    strayed: list[str] = []
    stacks = Stacks(depth=0)
    stacks.mark_ways(0, frozenset(), lambda: strayed.append("strayed"))
    stacks.add_paths([os.path.dirname(HERE)])
    library: dict[str, t.Any] = {}
    types.FunctionType(
        compile("def ask(what, *how):\n    return what(*how)", "library.py", "exec"), library
    )()
    frame = library["ask"](stacks.application_frame, 0, 1)
    assert frame is not None
    assert frame.f_code.co_name == "test_stacks_are_kept_from_now_on"
    assert library["ask"](stacks.capture_application, 0) == ()
    stacks.keep(5)
    assert stacks.frames(library["ask"](stacks.capture_application, 0))
    assert strayed == ["strayed", "strayed"]
    stacks.keep(0)
    assert library["ask"](stacks.capture_application, 0) == ()


def test_depth_beyond_the_stack() -> None:
    """A depth beyond what there is keeps what there is."""
    stacks = Stacks(depth=10**30)
    count = 0
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        count += 1
        frame = frame.f_back
    assert count == len(stacks.capture(sys._getframe()))


def test_deep_recursion(stacks: Stacks) -> None:
    """Endless recursion in the application costs no more than the depth."""

    def deeper(levels: int) -> Stack:
        return deeper(levels - 1) if levels else stacks.capture(sys._getframe())

    assert len(deeper(500)) == 40


# Whose code it is


@pytest.mark.parametrize(
    "filename",
    [
        os.path.join(os.path.dirname(flask_sessionwatch.__file__), "extension.py"),
        os.path.join(os.path.dirname(flask_sessionwatch.__file__), "observe", "recorder.py"),
        os.__file__,
        "<string>",
        "<frozen importlib._bootstrap>",
        "/srv/shop/.venv/lib/python3.11/site-packages/flask/app.py",
        "/usr/lib/python3/dist-packages/flask/app.py",
        "/elsewhere/shop/orders.py",
        "/srv/shopping/orders.py",
        "",
    ],
)
def test_not_the_application(filename: str) -> None:
    """Libraries, the standard library, this package, generated code and other folders are not the application."""
    stacks = Stacks()
    stacks.add_paths(["/srv/shop", os.path.dirname(os.path.dirname(flask_sessionwatch.__file__))])
    if filename:
        assert not stacks.is_application(filename)
    else:
        assert stacks.is_application(filename) in (True, False)


@pytest.mark.parametrize(
    "filename",
    ["/srv/shop/orders.py", "/srv/shop/a/b/c.py", "/srv/shop/../shop/x.py", "/srv/shop/ünï/x y.py"],
)
def test_the_application(filename: str) -> None:
    """All that lies below the given folders is the application."""
    stacks = Stacks()
    stacks.add_paths(["/srv/shop/"])
    assert stacks.is_application(filename)


def test_paths_add_up() -> None:
    """Several applications of one process each bring their own folders."""
    stacks = Stacks()
    stacks.add_paths(["/srv/a"])
    assert not stacks.is_application("/srv/b/x.py")
    stacks.add_paths(["/srv/b"])
    assert stacks.is_application("/srv/a/x.py")
    assert stacks.is_application("/srv/b/x.py")


def test_relative_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder may be given relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    stacks = Stacks()
    stacks.add_paths(["shop"])
    assert stacks.is_application(str(tmp_path / "shop" / "orders.py"))
    assert not stacks.is_application(str(tmp_path / "other.py"))


def test_without_paths_nothing_is_the_application() -> None:
    """Before a folder is known no code is the application's."""
    assert not Stacks().is_application(HERE)


def test_generated_code_is_no_site(stacks: Stacks) -> None:
    """Code without a file, as dataclasses and templates make it, is passed over."""
    found = stacks.site(capture_through(stacks, "<template>"))
    assert found is not None
    assert found.function == "capture_through"


# Text


def test_site_as_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A site reads as file, line and function, relative to the working folder."""
    monkeypatch.chdir(tmp_path)
    below = Site(str(tmp_path / "shop" / "orders.py"), 42, "list_orders")
    assert str(below) == "shop/orders.py:42 in list_orders"
    assert str(below._replace(filename="/srv/orders.py")) == "/srv/orders.py:42 in list_orders"


def test_shortened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what lies below the working folder is shortened, and not its neighbours."""
    monkeypatch.chdir(tmp_path)
    assert shortened(str(tmp_path / "a.py")) == "a.py"
    assert f"{tmp_path}er/a.py" == shortened(f"{tmp_path}er/a.py")
    assert shortened("a.py") == "a.py"
    assert shortened("") == ""


def test_working_folder_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When the working folder was deleted, as under a daemon, paths are shown in full."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert shortened("/srv/shop/a.py") == "/srv/shop/a.py"
    assert str(Site("/srv/shop/a.py", 1, "f")) == "/srv/shop/a.py:1 in f"


def test_templates_are_no_code(stacks: Stacks) -> None:
    """A compiled template bears its own file's name but not its lines, so it is no site."""
    folder = os.path.dirname(HERE)
    assert not stacks.is_application(os.path.join(folder, "templates", "page.html"))
    assert stacks.is_application(os.path.join(folder, "views.py"))
    assert stacks.is_application(os.path.join(folder, "manage"))
