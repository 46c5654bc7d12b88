"""Which code is SQLAlchemy's, by which a stack tells what it was asked to do."""

from __future__ import annotations

import os
from types import CodeType
from types import FrameType

import sqlalchemy as sa
from sqlalchemy import orm

#: Below this folder is SQLAlchemy.
LIBRARY = os.path.join(os.path.dirname(sa.__file__), "")


def session_codes(*names: str) -> frozenset[CodeType]:
    """Return the code of methods of Session and SessionTransaction, behind their decorators."""
    methods = [
        getattr(owner, name, None) for owner in (orm.Session, orm.SessionTransaction) for name in names
    ]
    methods += [getattr(method, "__wrapped__", None) for method in methods]
    codes = (getattr(method, "__code__", None) for method in methods)
    return frozenset(code for code in codes if code is not None)


def is_library(filename: str) -> bool:
    """Whether *filename* is SQLAlchemy's, or made by it."""
    return filename.startswith((LIBRARY, "<"))


def passes(frame: FrameType | None, filename: str) -> bool:
    """Whether one of the calls from *frame* outward is in *filename*."""
    while frame is not None:
        if frame.f_code.co_filename == filename:
            return True
        frame = frame.f_back
    return False
