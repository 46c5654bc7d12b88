"""Serve an application for a long time: nothing of the watch grows, and nothing that it counts is wrong.

    python benchmarks/soak.py [--seconds 1800] [--requests N] [--database sqlite] [--unwatched]

One gunicorn with eight threads serves soaked.py to eight clients, one in four of whose downloads is broken off. From time to time
they all pause: then memory, file descriptors, threads, the store's file and the ledger are measured, and every gauge and every
counter is compared with what pools and the application's own listeners say. In the end a line is fitted to each measure, from the first
quarter on. Exit status 1 if it rises by more than is allowed, or if anything was counted wrongly.

What is allowed is settled before the first request. Memory may rise by as much per request as the application alone was
found to add by the last run with --unwatched on the same database, and by 2 MB for the watch. The result, with a summary of
each measure, is in results/soak-DATABASE.json, and is printed as a table to be quoted.
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
#: What resident memory may rise by for the watch, however long it lasts.
_ALLOWED_BYTES = 2e6
#: Bytes that the application alone is taken to add with each request where nobody has measured it on that database.
_SUPPOSED_PER_REQUEST = 40.0
#: How a measure is shown: its name, its unit and how many of the smaller ones that is.
_SHOWN = {
    "resident": ("resident memory", "MB", 1e6),
    "descriptors": ("file descriptors", "", 1),
    "threads": ("threads", "", 1),
    "store": ("the store's files", "MB", 1e6),
    "ledger": ("records in the ledger", "", 1),
    "remembered": ("ended records that are remembered", "", 1),
    "findings": ("findings", "", 1),
    "objects": ("objects in the interpreter", "", 1),
}
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
        #: What the application said of its answers with status 500.
        self.excuses: dict[str, int] = {}
        self.began_at = time.monotonic()
        for client in self._clients:
            client.start()

    @property
    def requests(self) -> int:
        """How many requests were made by now, also to learn the truth."""
        return sum(each.requests for each in self._clients) + self._shop.asked

    @property
    def strange(self) -> list[str]:
        """What the clients were told and should not have been, and how the application accounts for it."""
        told = [each for client in self._clients for each in client.strange]
        return told + [reason for reason, number in self.excuses.items() for _ in range(number)]

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
        self.excuses = truth["excuses"]
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


class Allowance(t.NamedTuple):
    """What memory may rise by, and why.

    :param per_request: bytes that each request may add.
    :param reason: where that number is from.
    """

    per_request: float
    reason: str

    def of(self, requests: int) -> float:
        """Return the bytes that *requests* may add."""
        return _ALLOWED_BYTES + self.per_request * requests


def allowance(database: str) -> Allowance:
    """Settle what memory may rise by on *database*, by what the application alone was found to add."""
    alone = record.read(_name(database, watched=False))
    measured = ((alone or {}).get("summary") or {}).get("bytes_per_request")
    if measured is None:
        return Allowance(_SUPPOSED_PER_REQUEST, "supposed, since no run with --unwatched has measured it")
    return Allowance(max(0.0, measured), f"measured without a watch on {(alone or {})['about']['date']}")


def _name(database: str, *, watched: bool) -> str:
    return f"soak-{database}" + ("" if watched else "-unwatched")


def main() -> int:
    """Print each measure with its rise, and return 1 if one is too much or anything was counted wrongly."""
    options = _options()
    allowed = allowance(options.database)
    print(
        f"memory may rise by {_ALLOWED_BYTES / 1e6:.0f} MB and {allowed.per_request:.0f} bytes per request, {allowed.reason}"
    )
    samples, strange = _soaked(options)
    summary = _summary(samples, strange, allowed)
    about = record.about(["flask-sessionwatch", "flask-sqlalchemy", "gunicorn"])
    whole = {"about": about, "summary": summary, "samples": samples, "strange": strange}
    if (
        "measures" in summary or not options.unwatched
    ):  # what is to be compared with is not replaced by a short run
        record.write(_name(options.database, watched=not options.unwatched), whole)
    print(_told(summary))
    held = _has_held(summary, watched=not options.unwatched)
    print("held" if held else "BROKEN")
    return 0 if held else 1


def _soaked(options: argparse.Namespace) -> tuple[list[Sample], list[str]]:
    """Serve for as long as is asked, and return what was measured and what was strange."""
    with contextlib.ExitStack() as stack:
        made = tempfile.TemporaryDirectory(dir=workload.memory_folder(), ignore_cleanup_errors=True)
        folder = stack.enter_context(made)
        (database,) = stack.enter_context(databases([options.database]))
        url = database.create() or f"sqlite:///{folder}/rows.db"
        shop = Shop(folder, url, watched=not options.unwatched)
        stack.enter_context(shop.serve())
        soak = Soak(shop)
        pause = max(_LEAST_PAUSE, options.seconds / _SAMPLES)
        while not _is_over(soak, options):
            soak.go_on(pause)
            print(_line(soak.samples[-1]), flush=True)
        return soak.samples, soak.strange


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


def _summary(samples: list[Sample], strange: list[str], allowed: Allowance) -> dict[str, t.Any]:
    """Return what is to be said of a run; of its lines only where it was long enough for fitting them."""
    last = samples[-1]
    summary = {
        **{name: last[name] for name in ("seconds", "requests", "checkouts", "transactions")},
        "looks": len(samples),
        "wrong": sum(1 for each in samples if each["wrong"]),
        "strange": {text: strange.count(text) for text in dict.fromkeys(strange)},
        "allowance": allowed._asdict(),
    }
    if last["seconds"] < _LEAST_SECONDS:
        return summary
    rise = rises(samples)
    served = last["requests"] - samples[len(samples) // 4]["requests"]
    most = {"resident": allowed.of(served), **ALLOWED}
    measures = {
        name: {"end": last[name], "rise": rise[name], "allowed": most[name], "held": rise[name] <= most[name]}
        for name in _SHOWN
    }
    return {**summary, "bytes_per_request": rise["resident"] / served, "measures": measures}


def _has_held(summary: dict[str, t.Any], *, watched: bool) -> bool:
    """Whether all is as it should be; that the application alone needs more memory is what is to be found out."""
    grown = {name for name, each in summary.get("measures", {}).items() if not each["held"]}
    return (
        not summary["strange"] and not summary["wrong"] and not (grown if watched else grown - {"resident"})
    )


def _told(summary: dict[str, t.Any]) -> str:
    lines = [
        f"\n{summary['requests']:,} requests, {summary['checkouts']:,} check-outs, {summary['transactions']:,} transactions"
        f" in {summary['seconds']:,.0f} s:"
        f" {summary['wrong']} of {summary['looks']} looks found something counted wrongly",
        *(f"strange: {number} times {text}" for text, number in summary["strange"].items()),
    ]
    if "measures" not in summary:
        return "\n".join([*lines, f"too short for fitting lines: that takes {_LEAST_SECONDS:.0f} s"])
    lines += [f"resident memory: {summary['bytes_per_request']:+.1f} bytes per request", ""]
    lines += ["| measure | at the end | rises by | allowed |", "|---|---|---|---|"]
    lines += [_row(name, each) for name, each in summary["measures"].items()]
    return "\n".join(lines)


def _row(name: str, measure: dict[str, t.Any]) -> str:
    shown, unit, size = _SHOWN[name]
    end, rise, most = (measure[key] / size for key in ("end", "rise", "allowed"))
    unit = f" {unit}" if unit else ""
    verdict = "" if measure["held"] else " TOO MUCH"
    return f"| {shown} | {end:,.{1 if unit else 0}f}{unit} | {rise:+,.1f}{unit} | {most:,.{1 if unit else 0}f}{unit}{verdict} |"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long, if not --requests")
    parser.add_argument("--requests", type=int, default=0, help="go on until so many were answered")
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--unwatched", action="store_true", help="measure the application alone, to compare")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
