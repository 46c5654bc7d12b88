"""Blinker signals, for code that wants to know at once. The sender is the Flask application."""

from __future__ import annotations

import typing as t
import weakref

from blinker import NamedSignal
from blinker import Namespace

from ..finding import Finding

_signals = Namespace()

finding_reported: NamedSignal = _signals.signal("finding-reported")
"""Sent when a finding is told: at its 1st, 10th, 100th... occurrence. Receives ``finding``."""

finding_resolved: NamedSignal = _signals.signal("finding-resolved")
"""Sent when what a finding is about has been returned. Receives ``finding`` and ``seconds`` it was held."""

scope_ended: NamedSignal = _signals.signal("scope-ended")
"""Sent when a scope ends. Receives ``scope``, with ``name``, ``kind``, ``status``, ``commits`` and ``verdict``."""


class SignalSink:
    """Sends :data:`finding_reported`.

    :param sender: the Flask application, or None.
    """

    immediate = True

    def __init__(self, sender: t.Any) -> None:
        # Weak, because a watch outlives an application that is dropped without being closed.
        self._sender_ref = weakref.ref(sender) if sender is not None else _nobody

    def __call__(self, finding: Finding) -> None:
        finding_reported.send(self._sender_ref(), finding=finding)


def _nobody() -> None:
    return None
