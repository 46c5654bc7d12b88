"""A store in the memory of one process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence

from .base import FINDING_SECONDS
from .base import FINDINGS_KEPT
from .base import LIVE
from .base import Data
from .base import Document
from .base import Published
from .base import Report
from .base import Sighted
from .base import Sighting
from .base import Store
from .base import Worker


class MemoryStore(Store):
    """Keeps what is published for as long as the process lives."""

    def __init__(self) -> None:
        #: What was published and until when it counts, by kind and worker.
        self._documents: dict[tuple[str, str], tuple[Published, float]] = {}
        self._bodies: dict[str, Data] = {}
        self._sightings: dict[str, dict[str, Sighting]] = {}

    def __repr__(self) -> str:
        return "<MemoryStore>"

    def publish(self, worker: Worker, documents: Mapping[str, Document], reports: Sequence[Report]) -> int:
        now = time.time()
        for kind, document in documents.items():
            published = Published(worker, now, document.body)
            self._documents[kind, worker.id] = (published, now + document.lifetime)
        for report in reports:
            self._take_in(worker, report)
        return len(self._sightings)

    def _take_in(self, worker: Worker, report: Report) -> None:
        if report.body is not None:
            self._bodies[report.fingerprint] = report.body
        self._sightings.setdefault(report.fingerprint, {})[worker.id] = report.sighting

    def documents(self, kind: str) -> list[Published]:
        now = time.time()
        return [
            published
            for (each, _), (published, until) in self._documents.copy().items()
            if each == kind and until > now
        ]

    def findings(self) -> list[Sighted]:
        found = map(self.finding, list(self._bodies))
        return [each for each in found if each is not None]

    def finding(self, fingerprint: str) -> Sighted | None:
        body, sightings = self._bodies.get(fingerprint), self._sightings.get(fingerprint)
        return None if body is None or sightings is None else Sighted(fingerprint, body, sightings.copy())

    def leave(self, worker: Worker) -> None:
        self._documents.pop((LIVE, worker.id), None)

    def prune(self) -> None:
        now = time.time()
        over = [key for key, (_, until) in self._documents.copy().items() if until <= now]
        for key in over:
            self._documents.pop(key, None)
        seen = {each: _last_seen(sightings) for each, sightings in self._sightings.copy().items()}
        newest_first = sorted(seen, key=seen.__getitem__, reverse=True)
        for place, fingerprint in enumerate(newest_first):
            if place >= FINDINGS_KEPT or seen[fingerprint] < now - FINDING_SECONDS:
                self._bodies.pop(fingerprint, None)
                self._sightings.pop(fingerprint, None)

    def close(self) -> None:
        pass


def _last_seen(sightings: dict[str, Sighting]) -> float:
    return max(each.last_seen for each in sightings.copy().values()) if sightings else 0.0
