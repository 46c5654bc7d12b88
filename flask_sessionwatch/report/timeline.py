"""The history of a Session's transaction or a check-out, from what its record holds already.

Of some moments only the place is known: nothing is added to what a request does so that the time would be known as well.
"""

from __future__ import annotations

import time
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator

from ..finding import stamp
from ..observe.clock import clock
from ..observe.records import Checkout
from ..observe.records import Transaction
from ..observe.records import Writes
from ..observe.stack import Call
from ..observe.stack import Site
from ..observe.stack import Stacks
from ..observe.stack import site_of

#: What is said of the end of a transaction, and of a check-out, by its ending.
_ENDS = {
    "commit": ("committed", None),
    "rollback": ("rolled back", None),
    "rollback_on_close": ("closed", "without a commit"),
    "error": ("rolled back", "after an error"),
    "garbage_collected": ("collected", "by the garbage collector"),
    None: ("closed", None),
}
_RETURNS = {
    "checkin": ("returned", None),
    "collected": ("collected", "by the garbage collector"),
    "detach": ("returned", "detached from the pool"),
}
#: Check-outs of one transaction that are told of.
_CHECKOUTS_TOLD = 5


class Event(t.NamedTuple):
    """Something that happened to a Session or a connection.

    :param event: what happened, in SQLAlchemy's words.
    :param at: when, by the ledger's clock; None where only the order is known.
    :param site: where in the application.
    :param text: what else is known of it.
    """

    event: str
    at: float | None = None
    site: Site | None = None
    text: str | None = None


def timeline(record: t.Any, stacks: Stacks) -> list[dict[str, t.Any]]:
    """Return the history of *record* as plain data, in order; empty where it is neither a transaction nor a check-out.

    :param record: what a finding is about.
    :param stacks: knows which frames are the application's.
    """
    if isinstance(record, Checkout) and record.transaction is not None:
        record = record.transaction
    if isinstance(record, Transaction):
        events = _of_transaction(record, stacks)
    elif isinstance(record, Checkout):
        events = _of_checkout(record, stacks)
    else:
        return []
    return _rendered(list(events))


def _of_transaction(transaction: Transaction, stacks: Stacks) -> Iterator[Event]:
    checkouts = transaction.checkouts[:_CHECKOUTS_TOLD]
    yield Event("began", transaction.began_at, stacks.site(transaction.stack))
    for each in checkouts:
        yield from _checked_out(each, stacks)
    yield from _used(transaction, checkouts, stacks)
    if transaction.ended_at is not None:
        event, text = _ENDS.get(transaction.ending, _ENDS[None])
        yield Event(event, transaction.ended_at, _site_of(transaction.ended_by), text)
    for each in checkouts:
        yield from _checked_in(each)


def _of_checkout(checkout: Checkout, stacks: Stacks) -> Iterator[Event]:
    yield from _checked_out(checkout, stacks)
    yield from _used(checkout, (checkout,), stacks)
    yield from _checked_in(checkout)


def _checked_out(checkout: Checkout, stacks: Stacks) -> Iterator[Event]:
    engine = f"engine '{checkout.engine.name}'"
    if checkout.opened:
        yield Event("opened", checkout.pooled.connected_at, None, f"a connection of {engine}")
    waited = f", waited {checkout.waited:.3f} s" if checkout.waited >= 0.001 else ""
    yield Event("checked out", checkout.began_at, stacks.site(checkout.stack), f"{engine}{waited}")


def _used(record: Writes, checkouts: Iterable[Checkout], stacks: Stacks) -> Iterator[Event]:
    """Tell of writes, of a failure and of the latest statement."""
    if record.wrote_at is not None:
        yield Event("wrote", None, site_of(record.wrote_at), "for the first time")
    failure = record.failure
    if failure is not None:
        text = f"{failure.error} in a flush" if failure.in_flush else failure.error
        yield Event("failed", None, stacks.site(failure.stack), text)
    for each in checkouts:
        if each.statements:
            yield Event("statement", each.last_at, None, f"the last of {each.statements}")


def _checked_in(checkout: Checkout) -> Iterator[Event]:
    if checkout.ended_at is not None:
        event, text = _RETURNS.get(checkout.ending, ("returned", None))
        yield Event(event, checkout.ended_at, None, text)


def _rendered(events: list[Event]) -> list[dict[str, t.Any]]:
    """Render *events*; those whose time is not known stay behind those that they come after."""
    placed: list[tuple[float, Event]] = []
    at = float("-inf")
    for event in events:
        at = at if event.at is None else event.at
        placed.append((at, event))
    placed.sort(key=lambda each: each[0])
    began = next(each.at for _, each in placed if each.at is not None)
    wall = time.time() - clock()
    return [_as_json(event, began, wall) for _, event in placed]


def _as_json(event: Event, began: float, wall: float) -> dict[str, t.Any]:
    return {
        "event": event.event,
        "seconds": None if event.at is None else round(event.at - began, 3),
        "at": None if event.at is None else stamp(wall + event.at),
        "site": None if event.site is None else event.site._asdict(),
        "text": event.text,
    }


def _site_of(call: Call | None) -> Site | None:
    return None if call is None else site_of(call)


def engine_of(record: t.Any) -> str | None:
    """Return the name of the engine that *record* is about."""
    engine = getattr(record, "engine", None)
    return None if engine is None else str(engine.name)
