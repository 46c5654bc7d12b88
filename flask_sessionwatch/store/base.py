"""What a store is: a place where workers publish plain data, and where anybody reads that of all of them.

A worker publishes *documents*, one of each kind, each with a lifetime: what is live in it, what its scopes counted, its
history. Publishing one again replaces it. And it publishes *findings*: the finding itself is kept once, and beside it a
*sighting* for each worker that saw it, with absolute counts. So a publication that is lost or repeated changes nothing
that the next one does not put right.
"""

from __future__ import annotations

import abc
import json
import typing as t
import zlib
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass

from ..report.history import LONG
from ..report.history import RECENT
from .worker import Worker as Worker

Data: t.TypeAlias = dict[str, t.Any]

#: The kinds of documents: what is live, what its scopes and pools counted, what it tells of itself, and its history.
LIVE = "live"
SCOPES = "scopes"
ABOUT = "about"
KINDS = (LIVE, SCOPES, ABOUT, RECENT, LONG)

#: Stands for all the workers that are gone for so long that nobody asks which they were.
FOLDED = ""
#: Seconds of silence after which a worker's sighting is added to theirs, once a finding has more than so many.
FOLD_AFTER = 3600.0
FOLD_ABOVE = 100

#: Seconds after which what a worker said of itself is true no more, where it speaks once a second.
LIVE_SECONDS = 4.5
#: Seconds for which a finding is kept after it was seen last.
FINDING_SECONDS = 7 * 24 * 3600.0
#: Distinct findings in one store; beyond that those that were seen last the longest ago are dropped.
FINDINGS_KEPT = 1_000
#: How large one entry may be when it is unpacked: a small one that is made for it could fill the memory.
MOST_BYTES = 16 * 1024 * 1024

#: What becomes of code that reads data of another shape than it knows.
STRANGE = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)


class StoreError(Exception):
    """The store cannot be used now; the message names it, without a password."""


class Document(t.NamedTuple):
    """What a worker publishes of itself.

    :param body: plain data.
    :param lifetime: seconds after which it counts no more, unless it is published again.
    """

    body: Data
    lifetime: float


class Published(t.NamedTuple):
    """A document as it is read: whose it is, and when it was published, in seconds since the epoch."""

    worker: Worker
    seen_at: float
    body: Data


class Sighting(t.NamedTuple):
    """What one worker says of a finding; times in seconds since the epoch."""

    occurrences: int
    first_seen: float
    last_seen: float
    resolved: bool
    known: bool


@dataclass(frozen=True)
class Sighted:
    """A finding as a store keeps it.

    :param fingerprint: identifies the bug.
    :param body: what the worker that saw it last says of it, as JSON has it.
    :param sightings: what each worker counted, by the worker's id.
    """

    fingerprint: str
    body: Data
    sightings: Mapping[str, Sighting]


class Report(t.NamedTuple):
    """What one worker publishes of a finding.

    :param body: the finding as JSON has it; None where only the counts have changed since it was sent.
    """

    fingerprint: str
    sighting: Sighting
    body: Data | None


class Store(abc.ABC):
    """Where workers publish and anybody reads.

    Every method may raise :class:`StoreError`, and no other exception. One thread at a time may use a store; whoever
    reads while another one writes opens one of his own. A child process may use its parent's.
    """

    #: Whether it is read again and again by somebody who has the room to keep what was read, so that what has not changed
    #: since need not be decoded again.
    remembers: bool = False

    @abc.abstractmethod
    def publish(self, worker: Worker, documents: Mapping[str, Document], reports: Sequence[Report]) -> int:
        """Take in what *worker* has to say.

        :param documents: what has changed, by its kind.
        :param reports: the findings that have changed.
        :return: how many distinct findings there are now, so that a worker notices that its own were lost.
        """

    @abc.abstractmethod
    def documents(self, kind: str) -> list[Published]:
        """Return the documents of one kind that count still, in no order."""

    @abc.abstractmethod
    def findings(self) -> list[Sighted]:
        """Return every finding, in no order."""

    @abc.abstractmethod
    def finding(self, fingerprint: str) -> Sighted | None:
        """Return one finding, or None where there is none."""

    @abc.abstractmethod
    def leave(self, worker: Worker) -> None:
        """Forget what is live in *worker*, which ends; all else stays."""

    @abc.abstractmethod
    def prune(self) -> None:
        """Drop what is too old, and what is too much."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of files and sockets. The next use opens them again."""

    def live(self) -> list[Published]:
        """Return what is live in every worker that lives."""
        return [each for each in self.documents(LIVE) if not each.worker.is_dead]


def merged(sightings: Iterable[Sighting]) -> Sighting:
    """Return what several workers say of one finding as one; it is resolved when it is so everywhere."""
    each = list(sightings)
    return Sighting(
        sum(one.occurrences for one in each),
        min(one.first_seen for one in each),
        max(one.last_seen for one in each),
        all(one.resolved for one in each),
        all(one.known for one in each),
    )


def encode(data: t.Any) -> bytes:
    """Return plain data in few bytes."""
    # Level 1 takes a third of the time of the default, and a tenth more room.
    return zlib.compress(json.dumps(data, separators=(",", ":"), default=str).encode(), 1)


def decode(stored: bytes) -> t.Any:
    """Return what :func:`encode` was given.

    :raises StoreError: it is something else.
    """
    try:
        return json.loads(_unpacked(stored))
    except (TypeError, ValueError, RecursionError, zlib.error) as error:
        raise StoreError(f"an entry is damaged ({error})") from None


def _unpacked(stored: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(stored, MOST_BYTES)
    if not unpacker.eof:
        raise ValueError(f"it is cut off, or larger than {MOST_BYTES // 1024**2} MiB")
    return unpacked


def decoded_finding(stored: bytes) -> Data:
    """Return the body of a finding.

    :raises StoreError: it is something else.
    """
    return _checked_body(decode(stored))


def stored_document(seen_at: float, worker: t.Any, body: t.Any) -> Published:
    """Return a document as it was stored.

    :raises TypeError: it is none.
    """
    return Published(Worker.from_json(worker), float(seen_at), _checked_body(body))


def _checked_body(body: t.Any) -> Data:
    if not isinstance(body, dict):
        raise StoreError(f"an entry is damaged (it is of type {type(body).__name__})")
    return body


def not_understood(name: object, error: Exception) -> StoreError:
    """Return what to say of a store in which there is what no worker of this version has put there."""
    return StoreError(
        f"{name} has something in it that is not understood here ({type(error).__name__}); is it of another version?"
    )
