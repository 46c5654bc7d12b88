"""A process-wide runtime of the test's own, so that errors provoked in it are not counted against other tests."""

import typing as t

import prometheus_client
import pytest

from flask_sessionwatch import Rule
from flask_sessionwatch import SessionWatch
from flask_sessionwatch import extension
from flask_sessionwatch.process import Process
from flask_sessionwatch.report.dispatcher import Sink
from tests.story import Story


class Watched:
    """A story and its watch."""

    def __init__(self, url: str) -> None:
        self.story = Story(url)
        self.registry = prometheus_client.CollectorRegistry()
        self._watch: SessionWatch | None = None

    @property
    def watch(self) -> SessionWatch:
        assert self._watch is not None
        return self._watch

    def begin(
        self, rules: t.Sequence[Rule] | None = None, sinks: t.Sequence[Sink] | None = None, **settings: t.Any
    ) -> SessionWatch:
        """Begin to watch; settings are given without their prefix."""
        # No tick by itself: what fails, and when, is decided by the test.
        settings = {"tick": 3600.0, **settings}
        self.story.app.config.update(
            {f"SESSIONWATCH_{key.upper()}": value for key, value in settings.items()}
        )
        self._watch = SessionWatch(self.story.app, rules=rules, sinks=sinks, registry=self.registry)
        return self._watch

    def close(self) -> None:
        """Take everything away."""
        if self._watch is not None:
            self._watch.close()
        self.story.close()

    def errors(self) -> float:
        """Return how many errors of its own the watch has counted."""
        self.watch.tick()
        return self.registry.get_sample_value("sessionwatch_internal_errors_total") or 0.0


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A runtime as a fresh process would have it."""
    process = Process()
    monkeypatch.setattr(extension, "_process", process)
    return process


@pytest.fixture
def watched(sqlite_url: str) -> t.Iterator[Watched]:
    """A story on SQLite that is not watched yet."""
    watched = Watched(sqlite_url)
    yield watched
    watched.close()


@pytest.fixture
def unwatched(servers: t.Any) -> list[str]:
    """What the story is without a watch."""
    server = servers.get("sqlite")
    url = server.create()
    story = Story(url)
    try:
        return story.tell()
    finally:
        story.close()
        server.drop(url)
