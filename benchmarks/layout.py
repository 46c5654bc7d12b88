"""Give the classes that are imported after this other version tags, and with them other places in CPython's method cache.

Which methods share a place there is chance, and moves the count of a request by several percent.
"""

from __future__ import annotations

import os

UNUSED = [
    type(f"Unused{number}", (), {"used": None})
    for number in range(37 * int(os.environ.get("BENCH_LAYOUT", "0")))
]
# A class takes its tag when it is first looked at.
assert all(each.used is None for each in UNUSED)  # type: ignore[attr-defined]
