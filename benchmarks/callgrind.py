"""Speak to valgrind's callgrind from inside the process that it runs, to count a stretch of code and nothing around it.

valgrind recognises a request by a sequence of instructions that does nothing elsewhere; ``valgrind.h`` defines it. As it
is reached by ctypes, no Python has to be built for this, and everything but the counted stretch runs uncounted and fast.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import typing as t
from pathlib import Path

MACHINES = ("x86_64", "AMD64")

#: long request(long answer_elsewhere, long *arguments)
_REQUEST = bytes.fromhex(
    "4889fa"  # mov rdx, rdi: the answer where there is no valgrind
    "4889f0"  # mov rax, rsi: where the arguments are
    "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi by 3, 13, 61 and 51: by nothing in all
    "4887db"  # xchg rbx, rbx: this is the request
    "4889d0 c3"  # mov rax, rdx; ret
)
#: What CPython does when its method cache does not know an attribute of a class.
_ON_MISS = "find_name_in_mro"
_CALLGRIND = ord("C") << 24 | ord("T") << 16
_DUMP = _CALLGRIND + 0
_ZERO = _CALLGRIND + 1
_START = _CALLGRIND + 4
_STOP = _CALLGRIND + 5


class Counter:
    """Counts the instructions of stretches of this process; without valgrind it does nothing."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_REQUEST)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._call = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_void_p)(address)
        self._arguments = {code: (ctypes.c_ulong * 6)(code) for code in (_DUMP, _ZERO, _START, _STOP)}

    def start(self) -> None:
        """Instrument the process from here on; until then it runs uncounted and faster."""
        self._ask(_START)

    def stop(self) -> None:
        """Run uncounted again."""
        self._ask(_STOP)

    def zero(self) -> None:
        """Begin a stretch."""
        self._ask(_ZERO)

    def dump(self) -> None:
        """End a stretch and write down what it took."""
        self._ask(_DUMP)

    def _ask(self, code: int) -> None:
        self._call(0, ctypes.addressof(self._arguments[code]))


class Total(t.NamedTuple):
    """The instructions of a stretch, and how many of them looked up what CPython's method cache had no place for."""

    instructions: int
    missing: int


def count(command: t.Sequence[str], environ: t.Mapping[str, str]) -> list[Total]:
    """Run a Python program under callgrind and return the instructions of each of its stretches.

    Only what the program's main thread does is counted; what other threads do meanwhile is none of its stretches.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
        options += [f"--callgrind-out-file={folder}/out"]
        program = ["valgrind", *options, sys.executable, *command]
        done = subprocess.run(program, capture_output=True, text=True, env={**environ}, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed under valgrind:\n{done.stderr}")
        # out.STRETCH-THREAD
        dumps = sorted(Path(folder).glob("out.*-01"), key=lambda path: int(path.suffix[1:-3]))
        return [_total(path) for path in dumps]


def _total(path: Path) -> Total:
    text = path.read_text()
    found = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    assert found is not None, path
    named = re.search(rf"^c?fn=\((\d+)\) {_ON_MISS}$", text, re.MULTILINE)
    if named is None:
        return Total(int(found[1]), 0)
    # A call's own line is followed by one with the place and the instructions of all that was called.
    calls = re.compile(rf"^cfn=\({named[1]}\).*\ncalls=.*\n\S+ (\d+)$", re.MULTILINE)
    return Total(int(found[1]), sum(map(int, calls.findall(text))))


def problem() -> str | None:
    """Say why nothing can be counted here, or return None."""
    if shutil.which("valgrind") is None:
        return "valgrind does the counting and is not here; on Debian and Ubuntu it is the package 'valgrind'"
    if platform.machine() not in MACHINES:
        return f"requests to valgrind are known for {MACHINES[0]} only, and this is {platform.machine()}"
    return None
