"""structlog: findings as events with bound values."""

from __future__ import annotations

import typing as t

import structlog

from ..finding import Finding


class StructlogSink:
    """Logs each finding as the event ``sessionwatch.finding_reported``, and its end as ``sessionwatch.finding_resolved``.

    What it is about is bound: ``code``, ``rule``, ``fact``, ``site``, ``scope``, ``scope_kind``, ``hint``, ``count`` and
    ``fingerprint``.

    :param logger: where to log, ``structlog.get_logger("flask_sessionwatch")`` unless given.
    """

    immediate = True

    def __init__(self, logger: t.Any = None) -> None:
        self._logger = structlog.get_logger("flask_sessionwatch") if logger is None else logger

    def __call__(self, finding: Finding) -> None:
        # By the method of its level, which processors such as add_log_level take the level from.
        log = getattr(self._logger, finding.level)
        log("sessionwatch.finding_reported", fact=finding.message, hint=finding.hint, **_identity_of(finding))

    def resolved(self, finding: Finding, seconds: float) -> None:
        """Log that what a finding was about has been returned."""
        held = round(seconds, 3)
        self._logger.info("sessionwatch.finding_resolved", held_seconds=held, **_identity_of(finding))


def _identity_of(finding: Finding) -> dict[str, t.Any]:
    return {
        "code": finding.code,
        "rule": finding.rule,
        "site": None if finding.site is None else str(finding.site),
        "scope": None if finding.scope is None else finding.scope.name,
        "scope_kind": None if finding.scope is None else finding.scope.kind,
        "count": finding.count,
        "fingerprint": finding.fingerprint,
    }
