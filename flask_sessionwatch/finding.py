"""What a rule has found: a fact, a site, a hint, a code."""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from datetime import timezone

from .observe.stack import Frame
from .observe.stack import Site
from .observe.stack import shortened

Level: t.TypeAlias = t.Literal["info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("info", "warning", "error")
#: Minutes of which the occurrences of a finding are counted one by one.
MINUTES_KEPT = 60


class ScopeName(t.NamedTuple):
    """Which scope a finding belongs to: its name and its kind."""

    name: str
    kind: str

    def __str__(self) -> str:
        return self.name


def now() -> datetime:
    """Return the present time, in UTC."""
    return datetime.now(timezone.utc)


def stamp(seconds: float) -> str:
    """Return a time in seconds since the epoch as JSON has it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def printable(text: str) -> str:
    """Escape control characters: what came from the application must not forge a line of a log."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(eq=False)
class Finding:
    """One bug, as often as it was seen.

    :param code: the rule's code, such as "SW101".
    :param rule: the rule's name, such as "leaked-connection".
    :param level: "info", "warning" or "error".
    :param message: one sentence that states the fact.
    :param site: the application's own line, or None where no frame is the application's.
    :param stack: the rendered stack the site comes from, innermost frame first.
    :param scope: name and kind of the scope, or None for work outside of any scope.
    :param hint: what to do instead.
    :param verb: what happened at the site, in the words of the log: "checked out", "begun", ...
    :param details: plain data that differs by rule; times in seconds.
    :param about: what it is about where no line tells, such as an engine or an option.
    :param engine: the name of the engine it is about, where it is about one.
    :param known: whether the baseline has it, so that it is kept but not told.
    :param timeline: what happened to the session or connection it is about, as plain data.
    :param recent: how often it was seen in each of the last minutes, by the minute since the epoch.
    :param subject: the live record this finding is about; it is resolved when the record ends.
    """

    code: str
    rule: str
    level: Level
    message: str
    site: Site | None
    stack: tuple[Frame, ...]
    scope: ScopeName | None
    hint: str
    verb: str = "seen"
    details: dict[str, t.Any] = field(default_factory=dict)
    first_seen: datetime = field(default_factory=now)
    last_seen: datetime = field(default_factory=now)
    count: int = 1
    resolved: bool = False
    about: str | None = None
    engine: str | None = None
    known: bool = False
    timeline: list[dict[str, t.Any]] = field(default_factory=list, repr=False)
    recent: dict[int, int] = field(default_factory=dict, repr=False)
    subject: t.Any = field(default=None, repr=False)

    def occurred(self) -> None:
        """Count it in the minute in which it was seen last."""
        minute = int(self.last_seen.timestamp() // 60)
        self.recent[minute] = self.recent.get(minute, 0) + 1
        while len(self.recent) > MINUTES_KEPT:
            del self.recent[min(self.recent)]

    @property
    def fingerprint(self) -> str:
        """Identify the bug: the same code, site, scope name and subject are the same bug."""
        place = "" if self.site is None else f"{self.site.filename}:{self.site.lineno}"
        scope = "" if self.scope is None else self.scope.name
        # A file name that is no UTF-8 has surrogates.
        identity = f"{self.code}|{place}|{scope}" + ("" if self.about is None else f"|{self.about}")
        return hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:16]

    @property
    def text(self) -> str:
        """The finding as the log shows it."""
        lines = [f"{self.code} {self.rule}: {self.message}"]
        if self.site is not None:
            place = f"{shortened(self.site.filename)}:{self.site.lineno} in {self.site.function}"
            lines.append(f"  {self.verb} at {place}")
        lines += [f"  {line}" for line in self.details.get("lines", ())]
        lines.append(f"  hint: {self.hint}   explain: flask sessionwatch explain {self.code}")
        return "\n".join(map(printable, lines))

    def as_json(self) -> dict[str, t.Any]:
        """Return the finding as plain data, for JSON."""
        return {
            "code": self.code,
            "rule": self.rule,
            "level": self.level,
            "message": self.message,
            "site": None if self.site is None else self.site._asdict(),
            "scope": None if self.scope is None else self.scope.name,
            "scope_kind": None if self.scope is None else self.scope.kind,
            "about": self.about,
            "engine": self.engine,
            "hint": self.hint,
            "count": self.count,
            "first_seen": self.first_seen.isoformat(),
            "last_seen": self.last_seen.isoformat(),
            "resolved": self.resolved,
            "known": self.known,
            "verb": self.verb,
            "fingerprint": self.fingerprint,
            "details": self.details,
            "stack": [frame._asdict() for frame in self.stack],
        }
