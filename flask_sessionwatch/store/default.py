"""The store of an application that names none: a file in its instance folder, or else in a private temporary one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile

from ..report.logs import logger
from .base import Store
from .sqlite import SQLiteStore

NAME = "sessionwatch.db"


def default_store(instance_path: str) -> Store:
    """Return the store of the application whose instance folder that is; the folder is made where it can be."""
    folder = _prepared(instance_path)
    if folder is None:
        folder = private_folder(instance_path)
        logger.warning(
            "the instance folder %s cannot be written to, so what the workers of flask_sessionwatch know of each other is kept "
            "in %s. Make it writable, or name another place in SESSIONWATCH_STORE",
            instance_path,
            folder,
        )
    return SQLiteStore(os.path.join(folder, NAME), own=True)


def default_store_to_read(instance_path: str) -> Store:
    """Return that store for somebody who is none of the workers; where there is none yet, using it says so."""
    file = os.path.join(instance_path, NAME)
    private = _name_of_private_folder(instance_path)
    # As above, the private one is used where the other one could not be made.
    if not os.path.lexists(file) and os.path.lexists(private) and _is_private(private, _user()):
        file = os.path.join(private, NAME)
    return SQLiteStore(file, read_only=True)


def _prepared(folder: str) -> str | None:
    """Return *folder* if a store can be kept in it."""
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
    file = os.path.join(folder, NAME)
    writable = os.access(folder, os.W_OK | os.X_OK)
    return folder if writable and (not os.path.lexists(file) or os.access(file, os.R_OK | os.W_OK)) else None


def private_folder(instance_path: str) -> str:
    """Return a folder that only this user can look into, the same for all workers of the application on this host.

    Everybody can tell its name, and may have made something of that name before: then it is another one, of this process
    alone.
    """
    folder = _name_of_private_folder(instance_path)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    if _is_private(folder, _user()):
        return folder
    logger.warning(
        "%s belongs to somebody else; the workers of this application cannot see each other", folder
    )
    return tempfile.mkdtemp(prefix="flask_sessionwatch-")


def _name_of_private_folder(instance_path: str) -> str:
    mark = hashlib.sha256(os.fsencode(instance_path)).hexdigest()[:16]
    return os.path.join(tempfile.gettempdir(), f"flask_sessionwatch-{_user()}-{mark}")


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _is_private(folder: str, user: int) -> bool:
    # Not what a link leads to.
    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077
