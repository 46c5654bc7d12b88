"""Sentry: findings as events."""

from __future__ import annotations

import typing as t

import sentry_sdk

from ..finding import Finding


class SentrySink:
    """Sends each finding that is told to Sentry, as an event whose fingerprint is the finding's.

    The event holds what the log holds: the fact, the stack as files, lines and functions, the scope's name. It has no
    values of variables. What else your set-up of ``sentry_sdk`` adds to every event, it adds to this one.

    :param level: the lowest level that is sent: "info", "warning" or "error".
    """

    immediate = True

    def __init__(self, level: t.Literal["info", "warning", "error"] = "warning") -> None:
        self._levels = _LEVELS[_LEVELS.index(level) :]

    def __call__(self, finding: Finding) -> None:
        if finding.level in self._levels:
            sentry_sdk.capture_event(t.cast(t.Any, _event_of(finding)))


_LEVELS = ("info", "warning", "error")


def _event_of(finding: Finding) -> dict[str, t.Any]:
    scope = None if finding.scope is None else finding.scope.name
    event: dict[str, t.Any] = {
        "level": finding.level,
        "logger": "flask_sessionwatch",
        "fingerprint": ["flask_sessionwatch", finding.fingerprint],
        "exception": {"values": [_exception_of(finding)]},
        "tags": {"sessionwatch.code": finding.code, "sessionwatch.rule": finding.rule},
        "contexts": {"sessionwatch": {"hint": finding.hint, "count": finding.count, "scope": scope}},
    }
    if finding.site is not None:
        event["contexts"]["sessionwatch"]["site"] = f"{finding.verb} at {finding.site}"
    if scope is not None:
        event["transaction"] = scope
    return event


def _exception_of(finding: Finding) -> dict[str, t.Any]:
    """Return the finding in the form that Sentry shows best: with its own title, and a stack, the outermost call first."""
    exception: dict[str, t.Any] = {
        "type": f"{finding.code} {finding.rule}",
        "value": finding.message,
        "mechanism": {"type": "flask_sessionwatch", "handled": True},
    }
    frames = [
        {
            "abs_path": frame.filename,
            "filename": frame.filename,
            "function": frame.function,
            "lineno": frame.lineno,
            "in_app": frame.application,
        }
        for frame in reversed(finding.stack)
    ]
    if frames:  # Sentry refuses an empty list
        exception["stacktrace"] = {"frames": frames}
    return exception
