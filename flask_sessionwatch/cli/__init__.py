"""The command line: ``flask sessionwatch ...``."""

from __future__ import annotations

from flask.cli import AppGroup

from .alerts import alerts
from .baseline import baseline
from .doctor import doctor
from .explain import explain
from .findings import findings
from .requests import requests
from .status import status
from .top import top

#: The commands that need no application, but only what its workers have published, or its service.
COMMANDS = (status, top, findings, requests, explain, baseline, alerts)

sessionwatch: AppGroup = AppGroup(
    "sessionwatch",
    commands=(*COMMANDS, doctor),
    help="See how SQLAlchemy sessions and connections are used.",
)
