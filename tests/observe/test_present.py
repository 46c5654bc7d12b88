"""What a tick looks at on other threads' stacks stays theirs."""

import gc
import threading
import typing as t
import weakref

import pytest

from tests.rules.conftest import World
from tests.rules.conftest import world_of


@pytest.fixture
def world(sqlite_url: str) -> t.Iterator[World]:
    """A watched application with a rule that asks what each holder of a connection is doing now."""
    with world_of(sqlite_url) as world:
        world.configure(tick=3600.0, long_checkout=0.0)
        yield world


@pytest.fixture
def no_collections() -> t.Iterator[None]:
    """No collection happens, so that what goes away does so because nobody refers to it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Local:
    """What a function of the application has in a variable."""


def test_tick_keeps_no_frame(world: World, no_collections: None) -> None:
    """What a function had in its variables when a tick looked goes away with it, not at a later collection."""
    ready, seen = threading.Event(), threading.Event()
    refs: list[weakref.ref[Local]] = []

    def work() -> None:
        local = Local()
        refs.append(weakref.ref(local))
        with world.engine.connect():
            ready.set()
            assert seen.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(10)
    world.watch.tick()
    seen.set()
    thread.join()
    assert [finding.code for finding in world.watch.findings] == ["SW103"]
    assert refs[0]() is None
