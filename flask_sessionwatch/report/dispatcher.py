"""Pass findings to their sinks: one bug is one finding, told at its 1st, 10th, 100th occurrence."""

from __future__ import annotations

import fnmatch
import threading
import typing as t
from collections import deque

from ..finding import LEVELS
from ..finding import Finding
from ..finding import now
from ..observe.stack import shortened

#: Distinct findings that are kept; beyond that the oldest resolved one, or else the oldest, is dropped.
FINDINGS_KEPT = 1_000
#: Findings that may wait for slow sinks.
QUEUE_KEPT = 1_000

Sink: t.TypeAlias = t.Callable[[Finding], None]


class Ignored:
    """What SESSIONWATCH_IGNORE says: rules, optionally limited to a path pattern or to a scope.

    ``"SW103"`` or ``"long-checkout"`` everywhere; ``"SW103:jobs/*"`` where the site's path matches;
    ``"commit-storm@POST /import"`` in the scope of that name, or of that pattern.
    """

    def __init__(self, entries: t.Iterable[str]) -> None:
        self._entries = [split_entry(entry) for entry in entries]

    def __call__(self, finding: Finding) -> bool:
        return any(
            rule in (finding.code, finding.rule)
            and _matches_path(path, finding)
            and _matches_scope(scope, finding)
            for rule, path, scope in self._entries
        )


def split_entry(entry: str) -> tuple[str, str, str]:
    """Return the rule, the pattern of paths and the pattern of scopes that an entry of SESSIONWATCH_IGNORE names."""
    rule, _, scope = entry.partition("@")
    rule, _, path = rule.partition(":")
    return rule.strip(), path.strip(), scope.strip()


def _matches_path(pattern: str, finding: Finding) -> bool:
    if not pattern:
        return True
    if finding.site is None:
        return False
    paths = (finding.site.filename, shortened(finding.site.filename))
    return any(fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(path, f"*/{pattern}") for path in paths)


def _matches_scope(pattern: str, finding: Finding) -> bool:
    if not pattern:
        return True
    name = "" if finding.scope is None else finding.scope.name
    return name == pattern or fnmatch.fnmatch(name, pattern)


class Dispatcher:
    """Keeps one finding per bug and tells the sinks of it.

    Sinks marked ``immediate`` are told before :meth:`report` returns; all others wait for :meth:`drain`, which the
    watchdog calls, so that a slow one never holds up a request. Those marked ``every_time`` are told at once of each
    occurrence, as it was found.

    :param sinks: who is told; each is a callable that takes a finding.
    :param ignored: which findings are not told at all.
    :param on_error: told of an exception inside a sink.
    :param known: which findings are kept but not told: those of the baseline.
    """

    def __init__(
        self,
        sinks: t.Iterable[Sink],
        ignored: t.Callable[[Finding], bool],
        on_error: t.Callable[[str], None],
        known: t.Callable[[Finding], bool] = lambda finding: False,
    ) -> None:
        self.sinks: list[Sink] = list(sinks)
        self.dropped: int = 0
        #: Occurrences by (code, rule, level), also of findings that are no longer kept.
        self.occurrences: dict[tuple[str, str, str], int] = {}
        self._ignored = ignored
        self._known = known
        self._on_error = on_error
        self._findings: dict[str, Finding] = {}
        self._subjects: dict[str, list[t.Any]] = {}
        self._queue: deque[Finding] = deque()
        #: Findings that were taken from the queue, and which not every sink has heard of yet.
        self._telling = 0
        self._lock = threading.Lock()

    @property
    def findings(self) -> list[Finding]:
        """Every finding of this process, newest last."""
        with self._lock:
            return list(self._findings.values())

    @property
    def by_fingerprint(self) -> dict[str, Finding]:
        """Every finding of this process by its fingerprint."""
        with self._lock:
            return self._findings.copy()

    def has_found(self, code: str) -> bool:
        """Whether there is a finding of the rule *code*, told or known."""
        return any(finding.code == code for finding in self.findings)

    def recognises(self, finding: Finding) -> bool:
        """Note whether *finding* is known, and say whether it would be kept; it is not counted."""
        finding.known = self._known(finding)
        return not self._ignored(finding)

    def report(self, finding: Finding) -> Finding | None:
        """Take in an occurrence of a bug and tell of it when it is due.

        :return: the finding as it is kept, or None when it is ignored.
        """
        if self._ignored(finding):
            return None
        finding.known = self._known(finding)
        for sink in self.sinks:
            annotate = getattr(sink, "annotate", None)
            if annotate is not None:
                self.attempt(annotate, finding)
        with self._lock:
            kept, due = self._merge(finding)
        if not finding.known:
            for sink in self.sinks:
                if getattr(sink, "every_time", False):
                    self.attempt(sink, finding)
            if due:
                self._tell(kept)
        return kept

    def _merge(self, finding: Finding) -> tuple[Finding, bool]:
        if not finding.known:  # alerts on what is known would be told after all
            key = (finding.code, finding.rule, finding.level)
            self.occurrences[key] = self.occurrences.get(key, 0) + 1
        fingerprint = finding.fingerprint
        kept = self._findings.get(fingerprint)
        if kept is None:
            self._make_room()
            kept = self._findings[fingerprint] = finding
            due = True
        else:
            due = _update(kept, finding)
        kept.occurred()
        if finding.subject is not None:
            self._subjects.setdefault(fingerprint, []).append(finding.subject)
        return kept, due

    def _make_room(self) -> None:
        if len(self._findings) < FINDINGS_KEPT:
            return
        oldest = next((each for each, finding in self._findings.items() if finding.resolved), None)
        if oldest is None:
            oldest = next(iter(self._findings))
        del self._findings[oldest]
        self._subjects.pop(oldest, None)
        self.dropped += 1

    def resolve(self) -> list[tuple[Finding, t.Any]]:
        """Mark the findings whose subjects have all ended, and return each with the last of them."""
        resolved = []
        with self._lock:
            for fingerprint, subjects in list(self._subjects.items()):
                finding = self._findings.get(fingerprint)
                open_still = [subject for subject in subjects if subject.ended_at is None]
                if open_still:
                    self._subjects[fingerprint] = open_still
                    continue
                del self._subjects[fingerprint]
                if finding is not None and not finding.resolved:
                    finding.resolved = True
                    finding.last_seen = now()
                    resolved.append((finding, subjects[-1]))
        return resolved

    def open_findings(self) -> list[Finding]:
        """Return the findings on something that is still held, less those that are known."""
        with self._lock:
            found = [self._findings[each] for each in self._subjects if each in self._findings]
        return [finding for finding in found if not finding.known]

    def _tell(self, finding: Finding) -> None:
        for sink in self.sinks:
            if getattr(sink, "immediate", False):
                self.attempt(sink, finding)
        if any(_waits(sink) for sink in self.sinks):
            if len(self._queue) >= QUEUE_KEPT:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(finding)

    @property
    def waiting(self) -> int:
        """How many findings the sinks that are not immediate have not heard of yet."""
        return len(self._queue) + self._telling

    def drain(self, is_enough: t.Callable[[], bool] = lambda: False) -> None:
        """Tell the sinks that are not immediate of everything that waits for them.

        :param is_enough: asked before each finding whether the others have to go on waiting.
        """
        while not is_enough() and (finding := self._next()) is not None:
            try:
                for sink in filter(_waits, self.sinks):
                    self.attempt(sink, finding)
            finally:
                with self._lock:
                    self._telling -= 1

    def _next(self) -> Finding | None:
        with self._lock:  # somebody else may drain it, too
            if not self._queue:
                return None
            self._telling += 1
            return self._queue.popleft()

    def attempt(self, sink: t.Callable[..., object], *args: t.Any) -> None:
        """Call *sink*; an error in it is counted and goes no further."""
        try:
            sink(*args)
        except Exception:
            self._on_error(f"the sink {_name_of(sink)}")

    def forget(self) -> None:
        """Drop everything, as a child process must after a fork."""
        self._lock = threading.Lock()
        self._findings.clear()
        self._subjects.clear()
        self._queue.clear()
        self._telling = 0
        self.occurrences.clear()
        self.dropped = 0


def _waits(sink: Sink) -> bool:
    return not getattr(sink, "immediate", False) and not getattr(sink, "every_time", False)


def _name_of(sink: t.Callable[..., object]) -> str:
    try:
        return repr(sink)
    except Exception:
        return f"of type {type(sink).__name__}"


def _update(kept: Finding, latest: Finding) -> bool:
    """Merge *latest* into *kept*; answer whether that is worth telling."""
    kept.count += 1
    kept.last_seen = latest.last_seen
    kept.message, kept.details, kept.stack = latest.message, latest.details, latest.stack
    kept.timeline = latest.timeline
    reopened, kept.resolved = kept.resolved, False
    raised = LEVELS.index(latest.level) > LEVELS.index(kept.level)
    if raised or reopened:
        kept.level = latest.level
    return raised or _is_power_of_ten(kept.count)


def _is_power_of_ten(number: int) -> bool:
    while number % 10 == 0:
        number //= 10
    return number == 1
