"""A store in Redis or Valkey, for the processes of many hosts.

Every key has the same hash tag, so that all of them are in one slot of a Redis Cluster and may be asked for together; and
every key expires, so that a store nobody uses any more is gone by itself.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from urllib.parse import parse_qsl
from urllib.parse import unquote
from urllib.parse import urlencode
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from .base import FINDING_SECONDS
from .base import FINDINGS_KEPT
from .base import FOLD_ABOVE
from .base import FOLD_AFTER
from .base import FOLDED
from .base import KINDS
from .base import LIVE
from .base import STRANGE
from .base import Document
from .base import Published
from .base import Report
from .base import Sighted
from .base import Sighting
from .base import Store
from .base import StoreError
from .base import Worker
from .base import decode
from .base import decoded_finding
from .base import encode
from .base import not_understood
from .base import stored_document

#: Seconds to wait for the server, each time.
PATIENCE = 1.0
#: Seconds between two prunings, whichever worker does it.
PRUNE_SECONDS = 60
#: How far the clocks of two hosts may be apart, in seconds, before one drops what another has just published.
_SKEW = 3600.0
#: Documents that are asked for at once.
_BATCH = 500

#: Adds sightings together in one step: a worker that publishes meanwhile must not be counted twice, nor be lost.
_FOLD = """
local total, first, last, resolved, known = 0, nil, 0, 1, 1
for _, text in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV))) do
    if text then
        local n, f, l, r, k = string.match(text, '(%S+) (%S+) (%S+) (%S+) (%S+)')
        total = total + tonumber(n)
        if not first or tonumber(f) < tonumber(first) then first = f end
        if tonumber(l) > tonumber(last) then last = l end
        resolved = math.min(resolved, tonumber(r))
        known = math.min(known, tonumber(k))
    end
end
if first then
    redis.call('HDEL', KEYS[1], unpack(ARGV))
    redis.call('HSET', KEYS[1], '', string.format('%d %s %s %d %d', total, first, last, resolved, known))
end
"""


class RedisStore(Store):
    """Keeps what is published on a server.

    :param url: ``redis://`` or, with TLS, ``rediss://``, with the options of the package redis. Besides these it takes
        ``namespace``, which keeps services apart that share a server, and ``cluster=true`` for a Redis Cluster.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query))
        namespace = options.pop("namespace", "default")
        self._cluster = options.pop("cluster", "false").lower() in ("1", "true", "yes")
        self._url = parts._replace(query=urlencode(options)).geturl()
        self._secrets = [each for each in (parts.password, unquote(parts.password or "")) if each]
        self._prefix = f"{{sessionwatch:{namespace}}}"
        self._name = f"{parts.scheme}://{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path}, {namespace!r}"
        # A cluster's client asks the server for its slots as soon as it is made.
        self._client: t.Any = None if self._cluster else redis.Redis.from_url(self._url, **_OPTIONS)
        #: What was read last, by kind and then by what was stored, which has its time in it.
        self._read: dict[str, dict[bytes, Published]] = {}

    def __repr__(self) -> str:
        return f"<RedisStore {self._name}>"

    # Writing

    def publish(self, worker: Worker, documents: Mapping[str, Document], reports: Sequence[Report]) -> int:
        with self._using() as client:
            together = client.pipeline(transaction=False)
            for kind, document in documents.items():
                self._put_document(together, worker, kind, document)
            for report in reports:
                self._put_report(together, worker, report)
            together.expire(self._key("findings"), int(FINDING_SECONDS))
            together.zcard(self._key("findings"))
            return int(together.execute()[-1])

    def _put_document(self, client: t.Any, worker: Worker, kind: str, document: Document) -> None:
        now, lifetime = time.time(), document.lifetime
        client.set(
            self._key(kind, worker.id),
            encode([worker.as_json(), now, document.body]),
            px=round(lifetime * 1000),
        )
        client.zadd(self._key("index", kind), {worker.id: now + lifetime})
        client.expire(self._key("index", kind), round(lifetime + _SKEW))

    def _put_report(self, client: t.Any, worker: Worker, report: Report) -> None:
        fingerprint, sighting, body = report
        finding, seen = self._key("finding", fingerprint), self._key("seen", fingerprint)
        if body is None:
            client.expire(finding, int(FINDING_SECONDS))
        else:
            client.set(finding, encode(body), ex=int(FINDING_SECONDS))
        client.hset(seen, worker.id, _as_text(sighting))
        client.expire(seen, int(FINDING_SECONDS))
        client.zadd(self._key("findings"), {fingerprint: sighting.last_seen}, gt=True)

    def leave(self, worker: Worker) -> None:
        with self._using() as client:
            client.delete(self._key(LIVE, worker.id))
            client.zrem(self._key("index", LIVE), worker.id)

    def prune(self) -> None:
        with self._using() as client:
            if not client.set(self._key("pruned"), b"", nx=True, ex=PRUNE_SECONDS):
                return
            now = time.time()
            for kind in KINDS:
                client.zremrangebyscore(self._key("index", kind), "-inf", now - _SKEW)
            findings = self._key("findings")
            self._drop(client, client.zrangebyscore(findings, "-inf", now - FINDING_SECONDS))
            self._drop(client, client.zrange(findings, 0, -FINDINGS_KEPT - 1))
            self._fold(client, now)

    def _drop(self, client: t.Any, fingerprints: Sequence[bytes]) -> None:
        for each in map(bytes.decode, fingerprints):
            client.delete(self._key("finding", each), self._key("seen", each))
            client.zrem(self._key("findings"), each)

    def _fold(self, client: t.Any, now: float) -> None:
        """Add the sightings of workers that are long gone together, where there are too many."""
        keys = [self._key("seen", each.decode()) for each in client.zrange(self._key("findings"), 0, -1)]
        together = client.pipeline(transaction=False)
        for key in keys:
            together.hlen(key)
        crowded = [key for key, number in zip(keys, together.execute(), strict=True) if number > FOLD_ABOVE]
        alive = {each.worker.id for each in self.documents(LIVE)} if crowded else set()
        for key in crowded:
            gone = [
                worker
                for worker, sighting in _sightings(client.hgetall(key)).items()
                if worker == FOLDED or (sighting.last_seen < now - FOLD_AFTER and worker not in alive)
            ]
            for start in range(0, len(gone), _BATCH):
                client.eval(_FOLD, 1, key, *{*gone[start : start + _BATCH], FOLDED})

    # Reading

    def documents(self, kind: str) -> list[Published]:
        with self._using() as client:
            workers = client.zrange(self._key("index", kind), 0, -1)
            keys = [self._key(kind, each.decode()) for each in workers]
            found = [
                each
                for start in range(0, len(keys), _BATCH)
                for each in client.mget(keys[start : start + _BATCH])
                if each is not None
            ]
            return self._published(kind, found)

    def _published(self, kind: str, stored: Sequence[bytes]) -> list[Published]:
        if not self.remembers:
            return [_published(each) for each in stored]
        before = self._read.get(kind, {})
        # One after the other, so that nothing is kept of those that are gone.
        self._read[kind] = {each: before.get(each) or _published(each) for each in stored}
        return list(self._read[kind].values())

    def findings(self) -> list[Sighted]:
        with self._using() as client:
            return self._sighted(
                client, [each.decode() for each in client.zrange(self._key("findings"), 0, -1)]
            )

    def finding(self, fingerprint: str) -> Sighted | None:
        with self._using() as client:
            return next(iter(self._sighted(client, [fingerprint])), None)

    def _sighted(self, client: t.Any, fingerprints: Sequence[str]) -> list[Sighted]:
        together = client.pipeline(transaction=False)
        for each in fingerprints:
            together.get(self._key("finding", each))
            together.hgetall(self._key("seen", each))
        answers = iter(together.execute() if fingerprints else ())
        return [
            Sighted(each, decoded_finding(body), _sightings(seen))
            for each, body, seen in zip(fingerprints, answers, answers, strict=True)
            if body is not None and seen
        ]

    # The server

    def close(self) -> None:
        if self._client is not None:
            with contextlib.suppress(*_ERRORS):
                self._client.close()

    @contextlib.contextmanager
    def _using(self) -> Iterator[t.Any]:
        """Hand out the client; what goes wrong with it is a StoreError."""
        try:
            if self._client is None:
                self._client = RedisCluster.from_url(self._url, **_OPTIONS)
            yield self._client
        except _ERRORS as error:
            self.close()
            raise StoreError(f"{self._name}: {self._without_secrets(error)}") from None
        except STRANGE as error:
            raise not_understood(self._name, error) from None

    def _without_secrets(self, error: Exception) -> str:
        text = str(error) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))


#: What goes wrong with a server; a cluster that has no node is no RedisError.
_ERRORS = (redis.RedisError, redis.exceptions.RedisClusterException, OSError, UnicodeError)

#: It is tried again at the next publication, and not before.
_OPTIONS: dict[str, t.Any] = {
    "socket_timeout": PATIENCE,
    "socket_connect_timeout": PATIENCE,
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
}


def _published(stored: bytes) -> Published:
    worker, seen_at, body = decode(stored)
    return stored_document(seen_at, worker, body)


def _as_text(sighting: Sighting) -> str:
    occurrences, first_seen, last_seen, resolved, known = sighting
    return f"{occurrences} {first_seen!r} {last_seen!r} {resolved:d} {known:d}"


def _sightings(stored: Mapping[bytes, bytes]) -> dict[str, Sighting]:
    return {worker.decode(): _sighting(text) for worker, text in stored.items()}


def _sighting(text: bytes) -> Sighting:
    occurrences, first_seen, last_seen, resolved, known = text.split()
    return Sighting(int(occurrences), float(first_seen), float(last_seen), resolved == b"1", known == b"1")
