"""Run a command with a folder for the metrics of all its workers, and remove that when the command is over.

A script that imports little and stays small, for it is there for as long as the command:

    python supervise.py COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from types import FrameType

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: The name by which sitecustomize knows that the folder is of this program.
_METRICS = "flask_sessionwatch-metrics-"

#: What is passed on: whatever somebody may send to a server on purpose.
_PASSED_ON = (
    *("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU", "SIGWINCH"),
    *("SIGALRM", "SIGCONT"),
)
#: What a terminal sends to all processes of its foreground, the command included.
_OF_TERMINAL = ("SIGINT", "SIGQUIT", "SIGWINCH")


class Supervisor:
    """Runs one command, and passes on to it every signal that comes."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: list[int] = []

    def run(self) -> int:
        """Return the exit status of the command; negative if a signal has ended it."""
        for name in _PASSED_ON:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._pass_on)
        self._process = subprocess.Popen(self._command)
        for number in self._waiting:
            self._process.send_signal(number)
        return self._process.wait()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if signal.Signals(number).name in _OF_TERMINAL and _is_in_foreground():
            return
        if self._process is None:
            self._waiting.append(number)
        else:
            self._process.send_signal(number)


def _is_in_foreground() -> bool:
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def main(command: list[str]) -> int:
    """Run *command* and end as it has ended."""
    folder = tempfile.mkdtemp(prefix=_METRICS)
    os.environ[_VARIABLE] = folder
    try:
        status = Supervisor(command).run()
    except OSError as error:
        sys.stderr.write(f"Error: {command[0]} cannot be run ({error.strerror}).\n")
        status = 127 if isinstance(error, FileNotFoundError) else 126
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if status < 0:
        _die_of(-status)
    return status


def _die_of(number: int) -> None:
    """End by the signal that has ended the command, so that whoever started it can tell."""
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    # The first process of a container does not die of a signal.
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
