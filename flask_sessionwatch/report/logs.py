"""Tell the log: logger ``flask_sessionwatch``, as text or as one JSON object per line."""

from __future__ import annotations

import json
import logging
import typing as t

from ..finding import Finding
from ..finding import printable
from ..observe.pools import lasting

logger: logging.Logger = logging.getLogger("flask_sessionwatch")

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogSink:
    """Writes each finding as one log record, which carries it as its attribute ``finding``.

    :param format: ``text``, or ``json`` for one object per line.
    """

    immediate = True

    def __init__(self, format: str = "text") -> None:  # noqa: A002, as in SESSIONWATCH_LOG_FORMAT
        self.format = format

    def __call__(self, finding: Finding) -> None:
        self._log(_LEVELS[finding.level], finding, _as_text)

    def resolved(self, finding: Finding, seconds: float) -> None:
        """Write the closing twin of a finding on something that was held."""
        self._log(logging.INFO, finding, lambda finding: _as_closing_text(finding, seconds))

    def _log(self, level: int, finding: Finding, as_text: t.Callable[[Finding], str]) -> None:
        if logger.isEnabledFor(level):
            message = _as_json(finding) if self.format == "json" else as_text(finding)
            logger.log(level, "%s", message, extra={"finding": finding})


def _as_text(finding: Finding) -> str:
    return f"{finding.text}  (seen {finding.count} times)" if finding.count > 1 else finding.text


def _as_closing_text(finding: Finding, seconds: float) -> str:
    scope = None if finding.scope is None else finding.scope.name
    site = None if finding.site is None else f"{finding.verb} at {finding.site}"
    place = ", ".join(filter(None, (scope, site)))
    text = f"{finding.code} {finding.rule}: returned after {lasting(seconds)}."
    return printable(f"{text} ({place})" if place else text)


def _as_json(finding: Finding) -> str:
    data = finding.as_json()
    try:
        return json.dumps(data, default=str, allow_nan=False)
    except ValueError:
        # NaN and Infinity, which JSON does not know, are written as text.
        return json.dumps(json.loads(json.dumps(data, default=str), parse_constant=str))
