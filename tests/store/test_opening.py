"""Stores are chosen by URL."""

from pathlib import Path

import pytest

from flask_sessionwatch.settings import ConfigError
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.opening import open_to_read
from flask_sessionwatch.store.sqlite import SQLiteStore


def test_memory() -> None:
    """memory: is a store of this object's own."""
    assert isinstance(open_store("memory:"), MemoryStore)
    assert open_store("memory:") is not open_store("memory:")


@pytest.mark.parametrize(
    "url", ["", "memory", "mongodb://u:secret@host/0", "/var/lib/app.db", "memory:x", "memory://"]
)
def test_errors_name_the_setting(url: str) -> None:
    """A URL that is none names the setting, and gives nothing away of what may be a password."""
    with pytest.raises(ConfigError, match="'SESSIONWATCH_STORE'") as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_reader_of_a_memory() -> None:
    """The memory of another process cannot be read."""
    with pytest.raises(ConfigError, match="nobody else can read the memory"):
        open_to_read("memory:")


def test_file_among_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that prometheus_client would take for metrics is refused; one with another name or elsewhere is not."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="Put it into another folder"):
        open_store(f"sqlite:///{tmp_path}/sessionwatch.db")
    for healthy in (f"{tmp_path}/sessionwatch.sqlite", f"{tmp_path}/store/sessionwatch.db"):
        assert isinstance(open_store(f"sqlite:///{healthy}"), SQLiteStore)
