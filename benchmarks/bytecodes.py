"""Count the bytecodes that flask_sessionwatch executes in a request, function by function.

    python benchmarks/bytecodes.py [CASE ...]

A quick look while one works on the hot path; what decides are the instructions that instructions.py counts.
"""

from __future__ import annotations

import collections
import os
import sys
import tempfile
import types
import typing as t

import watchers
import workload

import flask_sessionwatch

WARM_UP = 20
PACKAGE = os.path.dirname(flask_sessionwatch.__file__)


def count(case: str) -> collections.Counter[str]:
    """Return the bytecodes of one request by function."""
    counted: collections.Counter[str] = collections.Counter()

    def called(frame: types.FrameType, event: str, arg: object) -> t.Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        return executed

    def executed(frame: types.FrameType, event: str, arg: object) -> t.Any:
        if event == "opcode":
            # Before Python 3.11 code has no qualified name.
            counted[getattr(frame.f_code, "co_qualname", frame.f_code.co_name)] += 1
        return executed

    with tempfile.TemporaryDirectory() as folder:
        app = workload.create_app(folder)
        workload.fill(app)
        watchers.WATCHERS["sessionwatch"].attach(app)
        workload.serve(app, case, WARM_UP)
        sys.settrace(called)
        try:
            workload.serve(app, case, 1)
        finally:
            sys.settrace(None)
    return counted


def main() -> None:
    """Print the counts of the cases that are named, or of all."""
    for case in sys.argv[1:] or workload.CASES:
        counted = count(case)
        print(f"{case}: {sum(counted.values())} bytecodes")
        for name, number in counted.most_common():
            print(f"  {number:5} {name}")


if __name__ == "__main__":
    main()
