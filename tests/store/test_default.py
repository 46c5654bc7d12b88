"""Where the store is when nobody says where."""

import os
import stat
import tempfile
import typing as t
from pathlib import Path

import pytest

from flask_sessionwatch.store.default import NAME
from flask_sessionwatch.store.default import default_store
from flask_sessionwatch.store.default import default_store_to_read
from flask_sessionwatch.store.default import private_folder
from flask_sessionwatch.store.sqlite import SQLiteStore


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of all users."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instance folders cannot be written to; root may write everywhere, so it is only said."""
    monkeypatch.setattr(os, "access", lambda path, mode: "instance" not in str(path))


def path_of(instance: Path) -> Path:
    store = default_store(str(instance))
    assert isinstance(store, SQLiteStore)
    return Path(store.path)


def test_instance_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is a file in the instance folder, which is made where it is missing."""
    assert path_of(tmp_path / "shop" / "instance") == tmp_path / "shop" / "instance" / NAME
    assert (tmp_path / "shop" / "instance").is_dir()
    assert caplog.records == []


@pytest.mark.usefixtures("read_only")
def test_folder_that_may_not_be_written(
    tmp_path: Path, temporary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where that cannot be written to, it is a private folder, the same for all workers; the log says so."""
    path = path_of(tmp_path / "instance")
    assert (path.parent.parent, path.name) == (temporary, NAME)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path == path_of(tmp_path / "instance") != path_of(tmp_path / "instance of another one")
    for expected in (str(tmp_path / "instance"), str(path.parent), "SESSIONWATCH_STORE"):
        assert expected in caplog.records[0].getMessage()


def test_folder_that_cannot_be_made(tmp_path: Path, temporary: Path) -> None:
    """An instance folder may not even be possible."""
    (tmp_path / "file").touch()
    assert path_of(tmp_path / "file" / "instance").parent.parent == temporary


def test_file_of_somebody_else(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that another user has made there is theirs."""
    (tmp_path / NAME).touch()
    monkeypatch.setattr(os, "access", lambda path, mode: NAME not in str(path))
    assert path_of(tmp_path).parent.parent == temporary


def _link(folder: Path, elsewhere: Path) -> None:
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)


def _open_to_all(folder: Path, elsewhere: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def _of_another_user(folder: Path, elsewhere: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)


def _file(folder: Path, elsewhere: Path) -> None:
    folder.touch(mode=0o600)


@pytest.mark.parametrize("prepare", [_link, _open_to_all, _of_another_user, _file])
def test_trap(
    tmp_path: Path, temporary: Path, caplog: pytest.LogCaptureFixture, prepare: t.Callable[[Path, Path], None]
) -> None:
    """A folder that somebody else has prepared under the name that can be guessed is not used."""
    guessed = Path(private_folder("/srv/shop/instance"))
    guessed.rmdir()
    prepare(guessed, tmp_path / "elsewhere")
    taken = Path(private_folder("/srv/shop/instance"))
    assert taken != guessed
    assert stat.S_IMODE(taken.stat().st_mode) == 0o700
    assert (taken.parent, list(taken.iterdir())) == (temporary, [])
    assert "cannot see each other" in caplog.text


def read_at(instance: Path) -> Path:
    store = default_store_to_read(str(instance))
    assert isinstance(store, SQLiteStore)
    return Path(store.path)


def test_reader_looks_where_workers_publish(tmp_path: Path, temporary: Path) -> None:
    """Who only looks does so in the instance folder, or in the private one if only that is there, and makes neither."""
    instance = tmp_path / "instance"
    assert read_at(instance) == instance / NAME
    assert list(temporary.iterdir()) == []
    assert not instance.exists()
    private = Path(private_folder(str(instance)))
    assert read_at(instance) == private / NAME
    private.chmod(0o755)  # somebody else's, perhaps
    assert read_at(instance) == instance / NAME
    private.chmod(0o700)
    instance.mkdir()
    (instance / NAME).touch()
    assert read_at(instance) == instance / NAME
