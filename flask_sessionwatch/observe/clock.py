"""The clock by which the watch tells what lasts: it never goes back."""

from __future__ import annotations

import time
import typing as t

#: Answers seconds since some moment in the past.
clock: t.Callable[[], float] = time.monotonic
