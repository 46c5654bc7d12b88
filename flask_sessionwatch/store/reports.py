"""What a process has to say of its findings, and which of it is news."""

from __future__ import annotations

import json
import time
import typing as t
from collections.abc import Mapping

from ..finding import Finding
from ..report.sources import excerpts
from ..report.sources import places_of
from .base import FINDING_SECONDS
from .base import Data
from .base import Report
from .base import Sighting

#: Seconds between two publications of a finding's message, details and stack; its counts go out at once.
BODY_SECONDS = 10.0
#: Seconds after which a finding is published again though it is the same, in case that the store has lost it.
REFRESH_SECONDS = 300.0

#: What is counted for each worker, and not part of the body.
_COUNTED = ("count", "first_seen", "last_seen", "resolved", "known", "fingerprint")


class Reports:
    """Remembers what was published of each finding."""

    def __init__(self) -> None:
        self._sent: dict[str, _Sent] = {}

    def __len__(self) -> int:
        return len(self._sent)

    def changed(self, findings: Mapping[str, Finding]) -> list[Report]:
        """Return what is to be published, and take it for published.

        :param findings: the findings of the process by fingerprint.
        """
        for fingerprint in self._sent.keys() - findings.keys():
            del self._sent[fingerprint]
        now, oldest = time.monotonic(), time.time() - FINDING_SECONDS
        reports = (self._changed(fingerprint, each, now) for fingerprint, each in findings.items())
        return [each for each in reports if each is not None and each.sighting.last_seen > oldest]

    def _changed(self, fingerprint: str, finding: Finding, now: float) -> Report | None:
        sighting = sighting_of(finding)
        sent = self._sent.setdefault(fingerprint, _Sent())
        news = sighting != sent.sighting
        sent.is_stale |= news
        due = sent.is_stale and now >= sent.body_at + BODY_SECONDS
        if not (news or due or now >= sent.body_at + REFRESH_SECONDS):
            return None
        turned = sent.sighting is None or sent.sighting.resolved != sighting.resolved
        body = body_of(finding) if due or turned or not news else None
        sent.sighting = sighting
        if body is not None:
            sent.body_at, sent.is_stale = now, False
        return Report(fingerprint, sighting, body)

    def forget(self) -> None:
        """Take nothing for published any more."""
        self._sent.clear()


class _Sent:
    """What was published of one finding, and when its body was."""

    __slots__ = ("body_at", "is_stale", "sighting")

    def __init__(self) -> None:
        self.sighting: Sighting | None = None
        self.body_at = float("-inf")
        #: Whether the body has changed since.
        self.is_stale = False


def sighting_of(finding: Finding) -> Sighting:
    """Return what is counted of *finding*."""
    first, last = finding.first_seen.timestamp(), finding.last_seen.timestamp()
    return Sighting(finding.count, first, last, finding.resolved, finding.known)


def body_of(finding: Finding) -> Data:
    """Return all else of *finding*, with its history and the lines of source that it names."""
    site = [] if finding.site is None else [(finding.site.filename, finding.site.lineno)]
    frames = places_of(frame._asdict() for frame in finding.stack)
    return {**summary_of(finding), "timeline": finding.timeline, "sources": excerpts([*site, *frames])}


def summary_of(finding: Finding) -> Data:
    """Return what a list tells of *finding*, as plain data: a rule of somebody's own may have put anything into its details."""
    body = finding.as_json()
    for name in _COUNTED:
        del body[name]
    try:
        return t.cast(Data, json.loads(json.dumps(body, default=str), parse_constant=str))
    except Exception:  # also what the str() of a stranger's object raises
        return {**body, "details": {"omitted": "these details are no plain data"}}
