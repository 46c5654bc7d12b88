"""Workers that are none: each publishes, as a real one does, what a worker of the leaky shop has published, with figures of its own.

    python benchmarks/crowd.py URL PATTERNS.json --workers 1000 --hosts 100 --part 0/2

A few threads stand for many workers; each of those has a connection of its own to the store, and its own moment in every second.
It ends when its standard input does, and then prints how long each publication took.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import random
import sys
import threading
import time
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flask_sessionwatch.member import _PERIODS
from flask_sessionwatch.report.history import SERIES
from flask_sessionwatch.store import Document
from flask_sessionwatch.store import Store
from flask_sessionwatch.store import StoreError
from flask_sessionwatch.store import Worker
from flask_sessionwatch.store import open_store
from flask_sessionwatch.store.base import ABOUT
from flask_sessionwatch.store.base import KINDS
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.base import LIVE_SECONDS
from flask_sessionwatch.store.base import Data
from flask_sessionwatch.store.base import Report
from flask_sessionwatch.store.base import Sighting

#: Findings that each worker has seen before the simulation begins.
SEEN = 20
#: No system has such numbers, so nobody takes a simulated worker for a process of this machine.
_FIRST_PID = 10_000_000


@dataclass
class Patterns:
    """What a real worker has published.

    :param documents: bodies by kind, at different moments.
    :param findings: bodies by fingerprint.
    """

    documents: dict[str, list[Data]]
    findings: dict[str, Data]

    @classmethod
    def load(cls, file: Path) -> Patterns:
        return cls(**json.loads(file.read_text()))

    def save(self, file: Path) -> None:
        file.write_text(json.dumps({"documents": self.documents, "findings": self.findings}))


class SimulatedWorker:
    """One process of a service that there is not.

    :param number: tells it from the others.
    :param hosts: on how many they all are.
    :param store: its own connection to the store.
    """

    def __init__(self, number: int, hosts: int, patterns: Patterns, store: Store) -> None:
        self.chance = random.Random(number)
        host = f"web-{number % hosts:03d}"
        self.worker = Worker(host, _FIRST_PID + number, round(time.time() - 3600 - number, 3))
        self.store = store
        self.counts: dict[str, int] = {}
        self._patterns = patterns
        chosen = {kind: self.chance.choice(patterns.documents[kind]) for kind in KINDS}
        self._bodies: dict[str, Data] = copy.deepcopy(chosen)
        self._due = {kind: self.chance.uniform(0, period) for kind, (period, _) in _PERIODS.items()}
        self._began_at = time.time()

    def begin(self) -> None:
        """Publish everything, as a worker does that was just started."""
        findings = self.chance.sample(
            sorted(self._patterns.findings), min(SEEN, len(self._patterns.findings))
        )
        everything = {kind: self._document(kind) for kind in KINDS}
        self.store.publish(self.worker, everything, [self.report(each) for each in findings])

    def publish(self, reports: Sequence[Report]) -> None:
        """Publish what is live, and what else is due."""
        since = time.time() - self._began_at
        documents = {LIVE: self._document(LIVE)}
        for kind in [kind for kind, due in self._due.items() if since >= due]:
            self._due[kind] = since + _PERIODS[kind][0] * self.chance.uniform(0.8, 1)
            documents[kind] = self._document(kind)
        self.store.publish(self.worker, documents, reports)

    def find(self) -> Report:
        """See one of the shop's bugs once more."""
        return self.report(self.chance.choice(sorted(self._patterns.findings)))

    def report(self, fingerprint: str) -> Report:
        self.counts[fingerprint] = self.counts.get(fingerprint, 0) + 1
        sighting = Sighting(self.counts[fingerprint], self._began_at, time.time(), False, False)
        return Report(fingerprint, sighting, self._patterns.findings[fingerprint])

    def _document(self, kind: str) -> Document:
        body = self._bodies[kind]
        if kind == LIVE:
            self._age(body)
            return Document(body, LIVE_SECONDS)
        if kind in SERIES:
            _fill(body, *SERIES[kind])
        elif kind == ABOUT:
            minute = int(time.time() // 60)
            body["recent"] = {each: [[minute, count]] for each, count in self.counts.items()}
        return Document(body, _PERIODS[kind][1])

    def _age(self, body: Data) -> None:
        """Let what is held become older by a second; sometimes it is returned, and something else takes its place."""
        for row in (*body["checkouts"], *body["sessions"]):
            returned = self.chance.random() < 0.1
            row["age_seconds"] = round(self.chance.random() if returned else row["age_seconds"] + 1.0, 3)


def _fill(body: Data, step: float, points: int) -> None:
    """Let a short history be one of a worker that runs for long."""
    body["first"] = int(time.time() // step) - points + 1
    for name, values in body["columns"].items():
        known = [value for value in values if value is not None] or [0]
        body["columns"][name] = [known[place % len(known)] for place in range(points)]


class Crowd:
    """Some of the workers, driven by a few threads.

    :param numbers: which they are.
    :param findings_per_second: of these workers together.
    """

    def __init__(
        self, url: str, patterns: Patterns, numbers: Sequence[int], hosts: int, findings_per_second: float
    ) -> None:
        self.workers = [SimulatedWorker(each, hosts, patterns, open_store(url)) for each in numbers]
        self.published: list[tuple[float, float]] = []
        self.failures: list[str] = []
        self._likely = findings_per_second / len(numbers)
        self._over = threading.Event()

    @contextlib.contextmanager
    def publishing(self, threads: int = 8) -> t.Iterator[None]:
        """Let the workers publish once a second for as long as the block lasts; all have begun when it is entered."""
        for each in self.workers:
            each.begin()
        running = [
            threading.Thread(target=self._drive, args=(self.workers[number::threads],))
            for number in range(min(threads, len(self.workers)))
        ]
        for thread in running:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in running:
                thread.join()
            for each in self.workers:
                each.store.close()

    def _drive(self, workers: Sequence[SimulatedWorker]) -> None:
        step = 1 / len(workers)
        due = time.monotonic()
        while True:
            for each in workers:
                # A crowd that is late does not make up for it with a rush.
                due = max(due + step, time.monotonic() - 1)
                if self._over.wait(max(due - time.monotonic(), 0)):
                    return
                self._publish(each)

    def _publish(self, worker: SimulatedWorker) -> None:
        reports = [worker.find()] if worker.chance.random() < self._likely else []
        began = time.perf_counter()
        try:
            worker.publish(reports)
        except StoreError as error:
            self.failures.append(str(error))
        else:
            self.published.append((time.time(), time.perf_counter() - began))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("patterns", type=Path)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--findings", type=float, default=20.0, metavar="N", help="a second, of all workers")
    parser.add_argument("--part", default="0/1", metavar="K/N", help="which of how many parts this is")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    numbers = range(options.workers)[part::parts]
    crowd = Crowd(
        options.url, Patterns.load(options.patterns), numbers, options.hosts, options.findings / parts
    )
    with crowd.publishing():
        print("publishing", flush=True)
        sys.stdin.read()
    print(json.dumps({"published": crowd.published, "failures": crowd.failures}))


if __name__ == "__main__":
    main()
