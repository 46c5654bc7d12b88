"""Serve an application for a long time: nothing of the watch grows, and nothing that it counts is wrong.

    python benchmarks/soak.py [--seconds 1800] [--requests N] [--database sqlite] [--unwatched]

One gunicorn with eight threads serves soaked.py to eight clients, one in four of whose downloads is broken off. From time to time
they all pause: then memory, file descriptors, threads, the store's file and the ledger are measured, and every gauge and every
counter is compared with what pools and the application's own listeners say. In the end a line is fitted to each measure, from the first
quarter on. Exit status 1 if it rises by more than is allowed, or if anything was counted wrongly.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import secrets
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import record
import workload
from servers import databases

HERE = Path(__file__).parent
HOST = "127.0.0.1"
CLIENTS = 8
#: How often each view is asked for, in relation to the others.
VIEWS = {
    "read": 30,
    "write": 15,
    "page": 8,
    "hand": 4,
    "lose": 3,
    "swallow": 3,
    "forget": 3,
    "leak": 3,
    "fail": 3,
    "nest": 3,
    "query": 3,
    "block": 3,
    "storm": 1,
    "dry": 1,
    "engine": 1,
}
#: Names of blocks; each makes a finding of its own, and of those the watch keeps 1,000.
BLOCKS = 1_200
#: What each measure may rise by, by the fitted line, from the first quarter to the end.
ALLOWED = {
    "descriptors": 2,
    "threads": 1,
    "store": 512e3,
    "ledger": 10,
    "remembered": 200,
    "findings": 10,
    "objects": 5_000,
}
#: Bytes of resident memory that each request may add. Without the watch the application adds as much: see --unwatched.
ALLOWED_PER_REQUEST = 40
_START_SECONDS = 30.0
#: It takes that long on a crowded machine; more is a deadlock.
_ANSWER_SECONDS = 120.0
_SETTLE_SECONDS = 15.0
_SAMPLES = 90
#: A look takes a moment, in which nobody is served.
_LEAST_PAUSE = 2.0
#: In less time caches are still filling.
_LEAST_SECONDS = 600.0

Sample: t.TypeAlias = "dict[str, t.Any]"


class Client(threading.Thread):
    """Somebody who asks for one page after the other.

    :param shop: who is asked.
    :param resume: not set while everybody has to pause.
    """

    def __init__(self, shop: Shop, resume: threading.Event, number: int) -> None:
        super().__init__(daemon=True)
        self.turn = threading.Lock()
        self.requests = 0
        self.strange: list[str] = []
        self._shop = shop
        self._resume = resume
        self._chance = random.Random(number)
        self._connection = http.client.HTTPConnection(HOST, shop.port, timeout=_ANSWER_SECONDS)
        # Every block once, so that what they leave is there before the first quarter is over.
        self._first = iter(range(number, BLOCKS, CLIENTS))

    def run(self) -> None:
        while True:
            self._resume.wait()
            with self.turn:
                try:
                    self._request(self._next())
                except (OSError, http.client.HTTPException) as error:
                    self.strange.append(repr(error))
                    self._connection.close()

    def _next(self) -> str:
        number = next(self._first, None)
        if number is not None:
            return f"block/{number}"
        view = self._chance.choices(list(VIEWS), list(VIEWS.values()))[0]
        return f"block/{self._chance.randrange(BLOCKS)}" if view == "block" else view

    def _request(self, path: str) -> None:
        if path == "page" and self._chance.random() < 0.25:
            self._leave_midway(path)
        else:
            self._connection.request("GET", f"/{path}")
            response = self._connection.getresponse()
            response.read()
            if response.status >= 400 and path != "fail":
                self.strange.append(f"{path}: {response.status}")
        self.requests += 1

    def _leave_midway(self, path: str) -> None:
        with socket.create_connection((HOST, self._shop.port), _ANSWER_SECONDS) as connection:
            # Closing it tells the server so at once.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            connection.recv(512)


class Shop:
    """The application under gunicorn.

    :param folder: where it and its watch may leave files.
    :param url: its database.
    :param watched: whether it is watched.
    """

    def __init__(self, folder: str, url: str, *, watched: bool = True) -> None:
        self.folder = Path(folder)
        self._watched = watched
        self._token = secrets.token_urlsafe(16)
        self._environ = {
            **os.environ,
            "SOAK_FOLDER": folder,
            "SOAK_URL": url,
            "SESSIONWATCH_ENABLED": str(watched),
            "SESSIONWATCH_TOKEN": self._token,
            "SESSIONWATCH_STORE": f"sqlite:///{folder}/store.db",
        }
        self.port = 0
        #: How often it was asked what is true.
        self.asked = 0
        self._worker = 0

    @contextlib.contextmanager
    def serve(self) -> Iterator[None]:
        """Run gunicorn for the length of the block."""
        # Gunicorn ends a worker that hangs by a signal at which faulthandler writes down where it does.
        command = [sys.executable, "-X", "faulthandler", "-m", "gunicorn", "--chdir", str(HERE)]
        command += ["--worker-class", "gthread", "--threads", str(CLIENTS), "--timeout", "300"]
        command += ["--keep-alive", "600", "--log-level", "warning"]
        with socket.create_server((HOST, 0)) as listener, (self.folder / "log").open("wb") as log:
            self.port = listener.getsockname()[1]
            given = listener.fileno()
            server = subprocess.Popen(
                [*command, "--bind", f"fd://{given}", "soaked:app"],
                env=self._environ,
                pass_fds=[given],
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_for(server)
            yield
        finally:
            server.terminate()
            server.wait(30)

    def _wait_for(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.truth()
                return
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"the application did not start:\n{(self.folder / 'log').read_text()[-2000:]}"
                )
            time.sleep(0.1)

    def _get(self, path: str) -> str:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=_ANSWER_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
            try:
                return connection.getresponse().read().decode()
            except TimeoutError:
                raise RuntimeError(f"no answer in {_ANSWER_SECONDS:.0f} s:\n{self._whereabouts()}") from None

    def _whereabouts(self) -> str:
        """Say where every thread of the worker is."""
        size = (self.folder / "log").stat().st_size
        os.kill(self._worker, signal.SIGUSR2)
        time.sleep(2)
        return (self.folder / "log").read_text(errors="replace")[size:]

    def truth(self) -> Sample:
        """Ask the application what is true."""
        truth: Sample = json.loads(self._get("/truth"))
        self.asked += 1
        self._worker = truth["pid"]
        return truth

    def metrics(self) -> dict[str, float]:
        """Ask the watch what it has counted: the value of each series."""
        lines = [
            line for line in self._get("/_sessionwatch/metrics").splitlines() if not line.startswith("#")
        ]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def differences(self, truth: Sample, requests: int) -> dict[str, float]:
        """Return what the watch counts wrongly; nothing where nobody watches."""
        return differences(truth, self.metrics(), requests) if self._watched else {}

    def sizes(self, pid: int) -> dict[str, float]:
        """Measure the process from outside, and the store's files."""
        process = Path("/proc") / str(pid)
        pages = int((process / "statm").read_text().split()[1])
        return {
            "resident": pages * os.sysconf("SC_PAGE_SIZE"),
            "descriptors": len(list((process / "fd").iterdir())),
            "threads": len(list((process / "task").iterdir())),
            "store": sum(each.stat().st_size for each in self.folder.glob("store.db*")),
        }


def differences(truth: Sample, metrics: t.Mapping[str, float], requests: int) -> dict[str, float]:
    """Return what the watch counts wrongly, and by how much."""
    shown = {
        "check-outs": _total(metrics, "connection_use_seconds_count")
        + _total(metrics, "connections", 'state="used"'),
        "transactions": _total(metrics, "session_duration_seconds_count") + _total(metrics, "sessions_open"),
        "requests": _total(metrics, "scopes_total", 'kind="request"'),
        "errors of the watch": _total(metrics, "internal_errors_total"),
    }
    real = {
        "check-outs": truth["counts"]["checkouts"],
        "transactions": truth["counts"]["transactions"],
        "requests": requests,
        "errors of the watch": 0,
    }
    for state in ("used", "idle"):
        for engine, number in truth[state].items():
            key = f"{state} of {engine}"
            shown[key] = _total(metrics, "connections", f'engine="{engine}"', f'state="{state}"')
            real[key] = number
    return {key: shown[key] - real[key] for key in real if shown[key] != real[key]}


def _total(metrics: t.Mapping[str, float], name: str, *labels: str) -> float:
    pattern = re.compile(rf"sessionwatch_{name}($|{{)")
    return sum(
        value for key, value in metrics.items() if pattern.match(key) and all(each in key for each in labels)
    )


class Soak:
    """A run.

    :param shop: what is served.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._resume = threading.Event()
        self._clients = [Client(shop, self._resume, number) for number in range(CLIENTS)]
        self.samples: list[Sample] = []
        self.began_at = time.monotonic()
        for client in self._clients:
            client.start()

    @property
    def requests(self) -> int:
        """How many requests were made by now, also to learn the truth."""
        return sum(each.requests for each in self._clients) + self._shop.asked

    @property
    def strange(self) -> list[str]:
        """What the clients were told and should not have been."""
        return [each for client in self._clients for each in client.strange]

    def go_on(self, seconds: float) -> None:
        """Let the clients ask for a while, and then measure."""
        self._resume.set()
        time.sleep(seconds)
        self._resume.clear()
        with contextlib.ExitStack() as turns:
            for client in self._clients:
                turns.enter_context(client.turn)
            self.samples.append(self._sample())

    def _sample(self) -> Sample:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:  # a body that was broken off may still be on its way
            truth = self._shop.truth()
            wrong = self._shop.differences(truth, self.requests)
            if not wrong or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return {
            "seconds": time.monotonic() - self.began_at,
            "requests": self.requests,
            "checkouts": truth["counts"]["checkouts"],
            "transactions": truth["counts"]["transactions"],
            **{name: truth[name] for name in ("ledger", "remembered", "findings", "objects")},
            **self._shop.sizes(truth["pid"]),
            "wrong": wrong,
        }


def rises(samples: list[Sample]) -> dict[str, float]:
    """Return by how much the line fitted to each measure rises from the first quarter to the end."""
    late = samples[len(samples) // 4 :]
    requests = [each["requests"] for each in late]
    slopes = {
        name: statistics.linear_regression(requests, [each[name] for each in late]).slope
        for name in ("resident", *ALLOWED)
    }
    return {name: slope * (requests[-1] - requests[0]) for name, slope in slopes.items()}


def main() -> int:
    """Print each measure with its rise, and return 1 if one is too much or anything was counted wrongly."""
    options = _options()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=workload.memory_folder()))
        (database,) = stack.enter_context(databases([options.database]))
        url = database.create() or f"sqlite:///{folder}/rows.db"
        shop = Shop(folder, url, watched=not options.unwatched)
        stack.enter_context(shop.serve())
        soak = Soak(shop)
        pause = max(_LEAST_PAUSE, options.seconds / _SAMPLES)
        while not _is_over(soak, options):
            soak.go_on(pause)
            print(_line(soak.samples[-1]), flush=True)
    about = record.about(["flask-sessionwatch", "flask-sqlalchemy", "gunicorn"])
    record.write("soak", {"about": about, "samples": soak.samples, "strange": soak.strange})
    held = _judge(soak.samples, soak.strange)
    print("held" if held else "BROKEN")
    return 0 if held else 1


def _is_over(soak: Soak, options: argparse.Namespace) -> bool:
    if options.requests:
        return bool(soak.requests >= options.requests)
    return bool(time.monotonic() - soak.began_at >= options.seconds)


def _line(sample: Sample) -> str:
    text = (
        f"{sample['seconds']:6.0f} s  {sample['requests']:>9,} requests  {sample['resident'] / 1e6:6.1f} MB"
    )
    text += f"  {sample['descriptors']} descriptors  {sample['threads']} threads  store {sample['store'] / 1e3:,.0f} kB"
    text += f"  ledger {sample['ledger']}  {sample['findings']} findings  {sample['objects']:,} objects"
    return text + (f"  WRONG {sample['wrong']}" if sample["wrong"] else "")


def _judge(samples: list[Sample], strange: list[str]) -> bool:
    last = samples[-1]
    wrong = sum(1 for each in samples if each["wrong"])
    print(
        f"\n{last['requests']:,} requests, {last['checkouts']:,} check-outs, {last['transactions']:,} transactions:"
        f" {wrong} of {len(samples)} looks found something counted wrongly"
    )
    for text in dict.fromkeys(strange):
        print(f"strange: {strange.count(text)} times {text}")
    if last["seconds"] < _LEAST_SECONDS:
        print(f"too short for fitting lines: that takes {_LEAST_SECONDS:.0f} s")
        return not strange and not wrong
    rise = rises(samples)
    served = last["requests"] - samples[len(samples) // 4]["requests"]
    allowed = {"resident": ALLOWED_PER_REQUEST * served, **ALLOWED}
    for name, most in allowed.items():
        verdict = "" if rise[name] <= most else "  TOO MUCH"
        print(f"{name:12} {last[name]:>13,}  rises by {rise[name]:>+12,.1f} of {most:,.0f}{verdict}")
    return not strange and not wrong and all(rise[name] <= most for name, most in allowed.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long, if not --requests")
    parser.add_argument("--requests", type=int, default=0, help="go on until so many were answered")
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--unwatched", action="store_true", help="measure the application alone, to compare")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
