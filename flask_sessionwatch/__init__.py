"""See how SQLAlchemy sessions and connections are really used in Flask applications."""

from .extension import SessionWatch as SessionWatch
from .finding import Finding as Finding
from .observe.scopes import FindingRaised as FindingRaised
from .observe.stack import Site as Site
from .report.logs import LogSink as LogSink
from .report.signals import finding_reported as finding_reported
from .report.signals import finding_resolved as finding_resolved
from .report.signals import scope_ended as scope_ended
from .rules import DEFAULT_RULES as DEFAULT_RULES
from .rules import Rule as Rule
from .settings import ConfigError as ConfigError

__all__ = [
    "DEFAULT_RULES",
    "ConfigError",
    "Finding",
    "FindingRaised",
    "LogSink",
    "Rule",
    "SessionWatch",
    "Site",
    "finding_reported",
    "finding_resolved",
    "scope_ended",
]
