"""Who publishes: one process on one host."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
import typing as t
from dataclasses import dataclass
from dataclasses import field

#: States of a process that is over, though its parent has not asked for its exit status yet.
_OVER = (b"Z", b"X")


@dataclass(frozen=True)
class Worker:
    """One process on one host; a later process that is given the same number is another worker.

    :param host: the name of the host.
    :param pid: the number of the process there.
    :param started_at: when it was started, in seconds since the epoch.
    :param space: which processes its number tells apart: those of this boot of this machine, or of this container.
        Empty where that is not known.
    :param birth: when it was started, by the kernel's own count.
    """

    host: str
    pid: int
    started_at: float
    space: str = field(default="", compare=False)
    birth: int = field(default=0, compare=False)

    @classmethod
    def this(cls) -> Worker:
        """Return the calling process."""
        pid = os.getpid()
        worker = _known.get(pid)
        if worker is None:
            _known.clear()  # after a fork, its parent
            worker = _known[pid] = _made(pid)
        return worker

    @classmethod
    def from_json(cls, data: t.Mapping[str, t.Any]) -> Worker:
        """Return the worker that :meth:`as_json` has described.

        :raises TypeError: one of the values is of another kind.
        :raises KeyError: one of them is missing.
        """
        for name, kinds in _KINDS.items():
            # The number is made a path of, among others.
            if type(data[name]) not in kinds:
                raise TypeError(f"{name} is {data[name]!r:.100}")
        return cls(**{name: data[name] for name in _KINDS})

    @classmethod
    def from_id(cls, text: str) -> Worker:
        """Return the worker of that :attr:`id`; its space is not known."""
        host, pid, started = text.rsplit(":", 2)
        return cls(host, int(pid), int(started) / 1000)

    @property
    def id(self) -> str:
        """What tells it from every other worker."""
        return f"{self.host}:{self.pid}:{round(self.started_at * 1000)}"

    def as_json(self) -> dict[str, t.Any]:
        """Return it as plain data."""
        return {
            "host": self.host,
            "pid": self.pid,
            "started_at": self.started_at,
            "space": self.space,
            "birth": self.birth,
        }

    @property
    def is_dead(self) -> bool:
        """Whether it is certain that it has ended; False for a process that cannot be seen from here."""
        if not self.space or self.space != Worker.this().space:
            return False
        return _birth(self.pid) != self.birth


_KINDS: dict[str, tuple[type, ...]] = {
    "host": (str,),
    "pid": (int,),
    "started_at": (float, int),
    "space": (str,),
    "birth": (int,),
}

_known: dict[int, Worker] = {}
#: What this host is called here, if not by its own name.
_host: str | None = None


def name_host(name: str) -> None:
    """Call this host *name* from now on."""
    global _host
    if name != _host:
        _host = name
        _known.clear()


def is_over(pid: int) -> bool:
    """Whether it is certain that there is no such process on this host, or that it has ended."""
    if os.name == "nt":  # there, asking would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _birth(os.getpid()) is not None and _birth(pid) is None


def _made(pid: int) -> Worker:
    birth = _birth(pid)
    started_at = time.time() if birth is None else _epoch(birth)
    space = "" if birth is None else _space()
    return Worker(_host or socket.gethostname(), pid, round(started_at, 3), space, birth or 0)


def _birth(pid: int) -> int | None:
    """Return when *pid* was started, in ticks since the boot; None where it is over, or not to be known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program comes first, in parentheses, and may be anything.
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in _OVER else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def _epoch(birth: int) -> float:
    ticks = os.sysconf("SC_CLK_TCK")
    with contextlib.suppress(OSError, AttributeError, ValueError):
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - birth / ticks)
    return time.time()


def _space() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return hashlib.sha256(f"{boot} {namespace}".encode()).hexdigest()[:16]
