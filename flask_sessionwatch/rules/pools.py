"""SW6xx: pools that run dry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..observe.ledger import EngineInfo
from ..observe.ledger import Incident
from .base import Moment
from .base import Rule
from .base import in_scope


@dataclass(frozen=True)
class PoolExhausted(Rule):
    """Checking out a connection timed out because every connection of the pool was held.

    What it does
        Lists every holder at that moment, with its scope, age, site and present line: in the log, in the finding,
        and as a note on the TimeoutError itself (on Python 3.10, in its text).

    Why it matters
        The one who fails is rarely the one at fault. Who holds the connections is the question, and a moment
        later it can no longer be answered.

    Example
        ::

            create_engine(url, pool_size=5, max_overflow=0)   # served by 16 threads

    Instead
        ::

            create_engine(url, pool_size=16, max_overflow=4)  # or hold connections for shorter

    Options
        None.
    """

    code = "SW601"
    name = "pool-exhausted"
    level = "error"
    hint = "shorten what the holders do with their connection, close what leaks, or raise pool_size or max_overflow."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "pool_timeout":
            return
        engine: EngineInfo = incident.details["engine"]
        holders: list[str] = incident.details["holders"]
        message = (
            f"{in_scope(incident.scope)} got no connection from the pool of engine '{engine.name}': "
            f"{len(holders)} of {engine.capacity or len(holders)} were held."
        )
        yield self.finding(
            moment,
            message,
            incident.stack,
            incident.scope,
            verb="asked for",
            details={
                "engine": engine.name,
                "holders": holders,
                "lines": [f"held by {line}" for line in holders],
            },
        )
