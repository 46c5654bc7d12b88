"""Keep the garbage collector away while the frames of other threads are looked at.

CPython 3.11 makes a frame's object when somebody asks for it, and to make an object may start a collection there. What that
finalizes may let other threads run: then the frame that was asked for is gone, and ``f_back`` leads anywhere; before 3.11.9,
``sys._current_frames()`` even ends in a deadlock (https://github.com/python/cpython/issues/106883). Older versions have those
objects already, and newer ones collect between two instructions only.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading


class Undisturbed:
    """A block in which no thread starts a collection by itself. Blocks may overlap, on several threads as well."""

    def __init__(self) -> None:
        # Not a plain lock, for a signal's handler may come here in the midst of it.
        self._lock = threading.RLock()
        self._blocks = 0
        self._restore = False
        os.register_at_fork(after_in_child=self._after_fork)

    def __enter__(self) -> None:
        with self._lock:
            self._blocks += 1
            if self._blocks == 1:
                self._restore = gc.isenabled()
                gc.disable()

    def __exit__(self, *args: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks and self._restore:
                gc.enable()

    def _after_fork(self) -> None:
        """End the blocks of the threads that did not come along."""
        self._lock = threading.RLock()
        if self._blocks and self._restore:
            gc.enable()
        self._blocks = 0


#: A block in which frames of other threads may be looked at.
undisturbed: contextlib.AbstractContextManager[None, None] = (
    Undisturbed() if sys.version_info[:2] == (3, 11) else contextlib.nullcontext()
)
