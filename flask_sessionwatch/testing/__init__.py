"""The pytest plugin ``sessionwatch``: a test is a scope that should leave nothing behind."""

from .assertions import Assertions as Assertions
from .warning import SessionWatchWarning as SessionWatchWarning

__all__ = ["Assertions", "SessionWatchWarning"]
