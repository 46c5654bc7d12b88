"""What is live now: scopes, sessions' transactions, check-outs; and what just happened to them.

The recorder and the scopes write here, rules and reports read. Events may come from the garbage collector,
on any thread and inside another event, so everything is one atomic operation on a dict, set or deque, and
nothing takes a lock. No record holds a Session, a Connection or a mapped object strongly.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import typing as t
import weakref
from collections import deque
from contextvars import ContextVar
from types import FrameType

from . import greenlets
from .identity import session_of
from .stack import Call
from .stack import Stack
from .stack import Stacks

clock: t.Callable[[], float] = time.monotonic

Ref: t.TypeAlias = t.Callable[[], t.Any]
T = t.TypeVar("T")

#: Ended records kept until the watchdog has counted them; older ones are dropped beyond that.
CLOSED_KEPT = 100_000
INCIDENTS_KEPT = 10_000
RECENT_KEPT = 500
#: Engines of one kind, and kinds of engines, that are remembered for having been left behind.
ENGINES_KEPT = 100
#: Distinct reads that are followed in one transaction that others have overtaken.
_READS_KEPT = 1_000

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))


class Record(t.Protocol):
    """A check-out or a transaction."""

    ended_at: float | None


R = t.TypeVar("R", bound=Record)


def _with(present: R | set[R] | None, record: R) -> R | set[R]:
    """Return what stands for *present* and *record*: a record for itself, a set for several."""
    if present is None:
        return record
    if isinstance(present, set):
        present.add(record)
        return present
    return {present, record}


def _without(present: R | set[R] | None, record: R) -> R | set[R] | None:
    """Return what stands for *present* without *record*; a set stays one, since somebody may be adding to it."""
    if isinstance(present, set):
        present.discard(record)
    return None if present is record else present


def _open_among(present: R | set[R] | None) -> set[R]:
    if present is None:
        return set()
    records = present.copy() if isinstance(present, set) else {present}
    return {record for record in records if record.ended_at is None}


class Owner:
    """Has connections checked out: mostly one at a time, so that a set is made for a second one only."""

    __slots__ = ("held",)

    held: Checkout | set[Checkout] | None

    @property
    def checkouts(self) -> set[Checkout]:
        """What it has checked out now."""
        return _open_among(self.held)

    def take(self, checkout: Checkout) -> None:
        """Enter *checkout* as its own."""
        self.held = _with(self.held, checkout)

    def let_go(self, checkout: Checkout) -> None:
        """Take *checkout* off, if it is its own."""
        self.held = _without(self.held, checkout)


class Holder(Owner):
    """A thread, or a greenlet, that uses sessions; remembered for as long as a record names it."""

    __slots__ = (
        "__weakref__",
        "greenlet_ref",
        "ident",
        "latest",
        "noted",
        "scope",
        "sessionless",
        "thread",
        "thread_ident",
        "waited",
    )

    ident: int
    thread_ident: int

    def __init__(self) -> None:
        greenlet = greenlets.current()
        #: The key of the thread in ``sys._current_frames()``.
        self.thread_ident = self.ident = greenlets.thread_ident()
        #: None for a greenlet that is not the one its thread began with.
        self.thread: threading.Thread | None = None
        self.greenlet_ref: Ref | None = None
        if greenlet is not None:
            self.belongs_to(greenlet)
        if greenlet is None or greenlet.parent is None:
            self.thread = threading.current_thread()
        else:
            self.ident = id(greenlet)
        #: The check-out this thread used last, until it is returned.
        self.latest: Checkout | None = None
        #: Whether there is something to be known of the check-out that it is making.
        self.noted: bool = False
        #: Seconds it has waited for that connection.
        self.waited: float = 0.0
        #: Whether that is not for a Session.
        self.sessionless: bool = False
        #: The request this thread served last, which may be over.
        self.scope: Scope | None = None
        # What this thread has checked out outside of any scope.
        self.held: Checkout | set[Checkout] | None = None

    def belongs_to(self, greenlet: t.Any) -> None:
        """Remember the greenlet, once there are greenlets at all."""
        if self.greenlet_ref is None:
            self.greenlet_ref = weakref.ref(greenlet)

    @property
    def name(self) -> str:
        if self.thread is not None:
            return self.thread.name
        name = getattr(self._greenlet, "name", None)
        return name if isinstance(name, str) else f"greenlet-{self.ident:x}"

    @property
    def is_alive(self) -> bool:
        if self.thread is not None:
            return self.thread.is_alive()
        greenlet = self._greenlet
        return greenlet is not None and not greenlet.dead

    @property
    def _greenlet(self) -> t.Any:
        return None if self.greenlet_ref is None else self.greenlet_ref()

    def frame(self) -> FrameType | None:
        """Return the innermost frame of this thread or greenlet, or None when it is over.

        Nobody may keep it, nor one outside of it, for longer than it takes to go on to the next: what its function has in variables
        outlives the function until then, and an open cursor among that would meet the next user of its connection.
        """
        if not self.is_alive:
            return None
        suspended: FrameType | None = getattr(self._greenlet, "gr_frame", None)
        return sys._current_frames().get(self.thread_ident) if suspended is None else suspended


class Spell:
    """A stretch of time in which something was wrong with a pool."""

    __slots__ = ("began_at", "ended_at", "told")

    def __init__(self, began_at: float) -> None:
        self.began_at: float = began_at
        self.ended_at: float | None = None
        #: The highest level at which each rule has told of it, by the rule's code.
        self.told: dict[str, int] | None = None


class EngineInfo:
    """An engine as the ledger knows it: its name, and its pool for as long as that lives."""

    __slots__ = (
        "__weakref__",
        "crowded",
        "dialect",
        "engine_ref",
        "ignored",
        "name",
        "named",
        "pool_ref",
        "reused",
        "stuck",
        "used_in",
    )

    def __init__(self, name: str, dialect: str, pool: t.Any, *, named: bool) -> None:
        self.name: str = name
        #: False while the name is only derived from the URL, and a bind key may still be found.
        self.named: bool = named
        self.dialect: str = dialect
        #: Leads to the engine itself, once that was seen.
        self.engine_ref: Ref = _nothing
        self.ignored: bool = False
        #: Leads to the scope that used it first, and whether another one did since.
        self.used_in: Ref | None = None
        self.reused: bool = False
        #: Since when its pool is nearly or wholly used, and since when it is stuck.
        self.crowded: Spell | None = None
        self.stuck: Spell | None = None
        self.pool_ref: t.Callable[[], t.Any] = weakref.ref(pool) if pool is not None else _nothing

    @property
    def pool(self) -> t.Any:
        return self.pool_ref()

    def end(self) -> None:
        """End what was wrong with its pool: that is gone."""
        for spell in (self.crowded, self.stuck):
            if spell is not None:
                spell.ended_at = clock()
        self.crowded = self.stuck = None

    @property
    def port(self) -> int | None:
        """The port of its URL."""
        engine = self.engine_ref()
        return None if engine is None else engine.url.port

    @property
    def is_replaced(self) -> bool:
        """Whether the engine was disposed of, and has another pool since."""
        engine, pool = self.engine_ref(), self.pool
        return pool is None or (engine is not None and engine.pool is not pool)

    @property
    def capacity(self) -> int | None:
        """The most connections the pool can have checked out; None when it has no limit."""
        return capacity_of(self.pool)


def _nothing() -> None:
    return None


def capacity_of(pool: t.Any) -> int | None:
    """Return ``pool_size + max_overflow`` of *pool*, or None for a pool without a limit.

    Pools other than SQLAlchemy's QueuePool, and those with ``max_overflow=-1``, have none.
    """
    size = getattr(pool, "size", None)
    most_overflow = getattr(pool, "_max_overflow", None)
    if size is None or most_overflow is None or most_overflow < 0:
        return None
    return int(size()) + int(most_overflow)


class Pooled:
    """What is remembered of one pooled connection: its engine and who has it checked out."""

    __slots__ = (
        "__weakref__",
        "also",
        "checkout",
        "connected_at",
        "engine",
        "fresh",
        "foreign_to",
        "pid",
        "record_ref",
        "server_id",
        "settled",
        "transactional",
    )

    def __init__(
        self, engine: EngineInfo, record: t.Any, pid: int, server_id: int | None, connected_at: float | None
    ) -> None:
        self.engine: EngineInfo = engine
        #: Leads to the pool's own record of it.
        self.record_ref: Ref = weakref.ref(record)
        #: The process that opened it.
        self.pid: int = pid
        #: The number under which the server lists it, where the driver tells.
        self.server_id: int | None = server_id
        #: When it was opened, or None if that was before the watch.
        self.connected_at: float | None = connected_at
        #: Whether nobody has checked it out yet.
        self.fresh: bool = connected_at is not None
        #: The process in which its engine is known by name and watched, so that nothing has to be looked up.
        self.settled: int = 0
        #: Whether it begins a transaction at a write unless it is told otherwise, so that nobody has to ask each time.
        self.transactional: bool = False
        #: The process other than its own that has checked it out.
        self.foreign_to: int = 0
        self.checkout: Checkout | None = None
        #: Further check-outs of the same connection, which a StaticPool hands out.
        self.also: list[Checkout] | None = None


class Failure:
    """A statement or flush that failed, and the database transaction it failed in."""

    __slots__ = ("again", "error", "in_flush", "stack", "transaction_ref", "used")

    def __init__(self, error: str, stack: Stack, transaction_ref: Ref, *, in_flush: bool) -> None:
        self.error: str = error
        self.stack: Stack = stack
        self.in_flush: bool = in_flush
        self.transaction_ref: Ref = transaction_ref
        #: Whether the failed transaction was used again without a rollback.
        self.used: bool = False
        #: Where it was used again and refused that; empty where nobody has tried.
        self.again: Stack = ()


class Reads:
    """What others have written since a transaction began, and what it has read again since then."""

    __slots__ = ("fresh", "latest", "number", "objects", "tables", "times")

    def __init__(self) -> None:
        self.number: int = 0
        #: By table: the number of the latest commit that wrote it. The table "" stands for anything, anywhere.
        self.tables: dict[str, int] = {}
        #: The same of tables whose changed rows the transaction has loaded as objects.
        self.objects: dict[str, int] = {}
        #: By statement and values: after which commit it was run last, and after how many different ones.
        self.latest: dict[int, int] = {}
        self.times: dict[int, int] = {}
        #: Whether something was loaded anew on purpose.
        self.fresh: bool = False

    def repeated(self, statement: str, parameters: t.Any, written: int) -> int:
        """Return how often the same read came after a commit that it had not come after yet."""
        key = hash((statement, repr(parameters)))
        if self.latest.get(key, 0) < written and len(self.latest) < _READS_KEPT:
            self.latest[key] = written
            self.times[key] = self.times.get(key, 0) + 1
            return self.times[key]
        return 0


# The records below are made and dropped with every request, and have no __init__: a call costs more than their attributes.
# What a healthy request reads or writes has a slot, which is written when a record is made. The rest is Rare.


class Rare(t.Generic[T]):
    """An attribute that hardly any record ever has; those that do keep it in a dict that the others never make.

    :param default: what it is for all the others.
    """

    def __init__(self, default: T) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: t.Any, owner: type | None = None) -> T:
        more = record.more
        found: T = self._default if more is None else more.get(self._name, self._default)
        return found

    def __set__(self, record: t.Any, value: T) -> None:
        more = {self._name: value}
        if record.more is None:
            record.more = more
        else:
            record.more.update(more)


class Writes:
    """What a Session's transaction, or a Core connection, has written so far."""

    __slots__ = (
        "__weakref__",
        "more",
        "scope",
        "stack",
    )

    more: dict[str, t.Any] | None
    scope: Scope | None
    #: Where it was begun or checked out.
    stack: Stack
    writes: int
    #: The cursor of the latest write, whose row count is read when the next one comes.
    cursor: t.Any
    #: The application's call that wrote first.
    wrote_at: Call | None
    #: ``id()`` of the exception that was being handled already when this began or first wrote; 0 where none was.
    handled: Rare[int] = Rare(0)
    failure: Rare[Failure | None] = Rare(None)
    lost: Rare[bool] = Rare(False)
    leaked: Rare[bool] = Rare(False)
    #: Whether a tick has found that it has ended, though nothing had told so.
    unheard: Rare[bool] = Rare(False)
    #: The scope that opened it, where it was handed on to the one around that.
    origin: Rare[Scope | None] = Rare(None)
    #: When its thread was first seen doing something else entirely.
    suspected: Rare[float | None] = Rare(None)
    #: The highest level at which each rule has told of it, by the rule's code.
    told: Rare[dict[str, int] | None] = Rare(None)

    def left_by(self, raised: BaseException | None) -> bool:
        """Whether *raised* is on its way out, and not merely handled around the whole of it."""
        return raised is not None and id(raised) != self.handled

    def count_write(self, cursor: t.Any) -> None:
        """Count the previous write, now that its row count is known, and remember *cursor* as the next."""
        previous = self.cursor
        if previous is not None and getattr(previous, "rowcount", -1) != 0:
            self.writes += 1  # type: ignore[misc]  # each kind of record has it in its own way
        self.cursor = cursor


class Checkout(Writes):
    """A connection that is, or was, checked out of its pool."""

    __slots__ = (
        "began_at",
        "ended_at",
        "holder",
        "last_at",
        "pooled",
        "proxy",
        "statements",
        "transaction",
    )

    pooled: Pooled
    #: Leads to the proxied connection, until a Session owns it; dead at check-in only when the garbage collector
    #: returned it.
    proxy: Ref
    #: The thread that checked it out.
    holder: Holder
    began_at: float
    ended_at: float | None
    statements: int
    #: When its latest statement began.
    last_at: float
    #: The Session transaction that owns it; None for a Core connection.
    transaction: Transaction | None

    # Only one without a Session has written by itself.
    writes: t.Any = Rare(0)
    cursor: t.Any = Rare(None)
    wrote_at: t.Any = Rare(None)
    #: The thread that used it last, where that is another one.
    handed_to: Rare[Holder | None] = Rare(None)
    #: Whether its statements are to be looked at closely: after a failure or a commit, or when others have
    #: overtaken its reads.
    closer: Rare[bool] = Rare(False)
    #: Seconds its thread had to wait until the pool had a connection.
    waited: Rare[float] = Rare(0.0)
    #: Leads to the database transaction of a Core connection's latest statement.
    latest_ref: Rare[Ref | None] = Rare(None)
    #: How it ended: "checkin", "collected" (by the garbage collector) or "detach".
    ending: Rare[str] = Rare("checkin")
    #: When it was last seen inside a statement.
    busy_at: Rare[float] = Rare(0.0)
    #: Leads to the database transaction of a Core connection's latest write.
    written_ref: Rare[Ref | None] = Rare(None)
    #: Whether each commit on it is listened to, because its scope has written by Core before.
    followed: Rare[bool] = Rare(False)
    #: Its latest streaming result.
    stream: Rare[Stream | None] = Rare(None)
    #: Whether it was checked out before the watch was attached.
    early: Rare[bool] = Rare(False)
    #: Whether it was the first to check out its connection, which was opened for it.
    opened: Rare[bool] = Rare(False)
    reads: Rare[Reads | None] = Rare(None)
    #: How many objects were loaded again by themselves after a commit; None while nobody counts.
    reloads: Rare[int | None] = Rare(None)
    #: The Core transaction that the watchdog saw on it last, and when it saw that one first.
    seen_ref: Rare[Ref | None] = Rare(None)
    seen_at: Rare[float] = Rare(0.0)

    @property
    def user(self) -> Holder:
        """The thread that used it last."""
        return self.handed_to or self.holder

    @property
    def engine(self) -> EngineInfo:
        """The engine it was checked out of."""
        return self.pooled.engine

    @property
    def connection(self) -> t.Any:
        """The proxied connection, or None when it was returned or collected."""
        proxy = self.proxy()
        if proxy is None and self.transaction is not None and self.ended_at is None:
            record = self.pooled.record_ref()
            ref = None if record is None or self.pooled.checkout is not self else record.fairy_ref
            proxy = None if ref is None else ref()
        return proxy

    @property
    def is_open(self) -> bool:
        """Whether it is checked out still; who closes a Core connection may keep its proxy, and nothing tells then."""
        if self.ended_at is not None:
            return False
        transaction = self.transaction
        if transaction is not None:
            return session_of(transaction.session_key) is not None or self.connection is not None
        proxy = self.proxy()
        return proxy is not None and bool(proxy.is_valid)

    @property
    def used_at(self) -> float:
        """When it was last known to be in use."""
        return self.last_at if self.more is None else max(self.last_at, self.busy_at)


class Stream:
    """A result whose rows are fetched while they are used, as ``yield_per`` and ``stream_results`` ask for."""

    __slots__ = ("checkout_ref", "context_ref", "stack")

    def __init__(self, checkout: Checkout, context: t.Any, stack: Stack) -> None:
        self.checkout_ref: weakref.ref[Checkout] = weakref.ref(checkout)
        #: Leads to the execution context, which lives as long as its result; the result itself has no references.
        self.context_ref: weakref.ref[t.Any] = weakref.ref(context)
        self.stack: Stack = stack


class Transaction(Writes):
    """A Session's root transaction: begun by autobegin, ended by commit, rollback or close."""

    __slots__ = (
        "began_at",
        "checkouts",
        "cursor",
        "ended_at",
        "ending",
        "holder",
        "identity_ref",
        "session_key",
        "writes",
        "wrote_at",
    )

    #: The number that SQLAlchemy gave the Session.
    session_key: int
    holder: Holder
    began_at: float
    ended_at: float | None
    #: How it ends: "commit", "rollback", "rollback_on_close", "error" or "garbage_collected".
    ending: str | None
    #: Its connections: one, or one per bind.
    checkouts: tuple[Checkout, ...]
    #: The weak reference to its Session's identity map, by which the objects it loaded are known.
    identity_ref: Ref

    rolled_back: Rare[bool] = Rare(False)
    #: The tables it has written while long ones were open, with the primary keys of the rows; None where any row may be.
    tables: Rare[dict[str, set[tuple[t.Any, ...]] | None] | None] = Rare(None)
    #: The application's call that ended it, where it was begun by begin() or closed in the middle of a request.
    ended_by: Rare[Call | None] = Rare(None)
    #: Whether it runs on a connection that somebody else began and ends.
    external: Rare[bool] = Rare(False)
    #: How much was written before each open savepoint.
    savepoints: Rare[list[int] | None] = Rare(None)
    #: Where a savepoint was released that nothing can undo any more.
    escaped: Rare[Stack] = Rare(())
    #: Whether its commit succeeded on one of its connections and failed on another.
    halved: Rare[bool] = Rare(False)
    #: Class names of objects that were thrown away unsaved, with their number.
    dropped: Rare[dict[str, int] | None] = Rare(None)
    lost_how: Rare[str] = Rare("")
    adopted: Rare[bool] = Rare(False)
    #: How many objects its session kept, and how many statements it had run, when that was seen to have grown last.
    objects: Rare[int] = Rare(0)
    objects_at: Rare[int] = Rare(0)
    #: How often it was seen to have grown.
    growths: Rare[int] = Rare(0)
    #: Whether a request has changed what it has loaded.
    overtaken: Rare[bool] = Rare(False)
    #: When its thread was first seen to have left the function that pushed its app context.
    left_at: Rare[float | None] = Rare(None)
    #: "teardown" or "stream", where it was begun when the teardown of its scope had closed such sessions already.
    late: Rare[str | None] = Rare(None)
    #: Leads to the scoped_session that was told to remove() it.
    registry_ref: Rare[Ref | None] = Rare(None)

    def session(self) -> t.Any:
        """Return its Session, or None when that is gone."""
        return session_of(self.session_key)

    @property
    def committed(self) -> bool:
        """Whether its commit has succeeded."""
        return self.ending == "commit"

    @property
    def engine(self) -> EngineInfo | None:
        """The engine of its first connection."""
        return self.checkouts[0].engine if self.checkouts else None

    @property
    def held(self) -> list[Checkout]:
        """Its connections that are still checked out."""
        return [checkout for checkout in self.checkouts if checkout.ended_at is None]


class Scope(Owner):
    """A stretch of work that should leave nothing behind.

    A request's scope stands for the ``start_response`` that the application is given: so it learns status and
    length of the answer.
    """

    __slots__ = (
        "__weakref__",
        "answer",
        "begun",
        "commits",
        "ended",
        "environ",
        "first_commit",
        "held_peak",
        "holder",
        "last_transaction",
        "measured",
        "method",
        "more",
        "owner",
        "parent",
        "rule",
        "start_response",
    )

    more: dict[str, t.Any] | None
    #: The watch that judges it.
    owner: t.Any
    holder: Holder
    parent: Scope | None
    ended: bool
    #: The root transactions of Sessions that were begun in it and are open: mostly one at a time.
    begun: Transaction | set[Transaction] | None
    held_peak: int
    commits: int
    #: Whose commit was the first one; written by that.
    first_commit: Checkout | Transaction | None
    last_transaction: Transaction | None
    #: The status line, once a response was built.
    answer: str | None
    #: Whether the answer has a length, so that its body is no open stream.
    measured: bool
    environ: dict[str, t.Any] | None
    start_response: t.Any
    method: str
    rule: t.Any

    incidents: Rare[list[Incident] | None] = Rare(None)
    kind: Rare[str] = Rare("request")
    label: Rare[str | None] = Rare(None)
    #: How often each line committed, counted from the second commit on.
    commit_calls: Rare[dict[Call | None, int] | None] = Rare(None)
    #: How often each line checked out a connection after the scope had returned one, and how often that was in all.
    checkout_calls: Rare[dict[Call | None, int] | None] = Rare(None)
    checkouts_again: Rare[int] = Rare(0)
    #: The streaming results it asked for.
    streams: Rare[list[Stream] | None] = Rare(None)
    #: The name of the exception that left the view, the command or the block.
    error: Rare[str | None] = Rare(None)
    #: Whether it failed before its first commit, and whether it did so by abort().
    failed_early: Rare[bool] = Rare(False)
    #: The transaction that had ended last when it failed.
    failed_after: Rare[Transaction | None] = Rare(None)
    aborted: Rare[bool] = Rare(False)
    #: Once its body is streamed: Sessions with a lower number than this are older than the stream.
    session_number: Rare[int | None] = Rare(None)
    context_ref: Rare[Ref | None] = Rare(None)
    #: How many requests have left something to it because they ran inside its app context.
    guests: Rare[int] = Rare(0)
    verdict: Rare[str] = Rare("clean")
    #: When it was found to be worse than that, in seconds since the epoch, and the fingerprints of what was found.
    found: Rare[tuple[float, tuple[str, ...]] | None] = Rare(None)
    #: Codes and names of the rules that were allowed in it, by watch.allow().
    allowed: Rare[frozenset[str] | None] = Rare(None)
    #: The text of a finding that is to be raised, for SESSIONWATCH_RAISE.
    told: Rare[str | None] = Rare(None)

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: t.Any = None) -> t.Any:
        """Start the response, and remember what it says of itself."""
        try:
            self.answer = status
            # Where Werkzeug puts it, and then anywhere.
            if headers[1][0] == "Content-Length" or _have_length(headers):
                self.measured = True
            self.rule = self.environ["werkzeug.request"].url_rule  # type: ignore[index]
        except Exception:
            self._note_oddly(headers)
        if exc_info is None:
            return self.start_response(status, headers)
        return self.start_response(status, headers, exc_info)

    def _note_oddly(self, headers: list[tuple[str, str]]) -> None:
        """Note an answer that is not as Werkzeug makes them, or that comes when Flask has taken its request away."""
        with contextlib.suppress(Exception):  # headers that no server would take either
            self.measured = _have_length(headers)
            self.note_rule()

    @property
    def status(self) -> int | None:
        """The HTTP status, once a response was built."""
        try:
            return None if self.answer is None else int(self.answer[:3])
        except (ValueError, TypeError):  # one that no server would take either
            return None

    @property
    def is_done(self) -> bool:
        """Whether nothing that was opened in it is open any more."""
        return not self.checkouts and not self.transactions

    @property
    def transactions(self) -> set[Transaction]:
        """What was begun in it and is open now."""
        return _open_among(self.begun)

    def enter(self, transaction: Transaction) -> None:
        """Enter *transaction* as begun in it."""
        self.begun = _with(self.begun, transaction)

    def leave(self, transaction: Transaction) -> None:
        """Take *transaction* off, if it was begun in it."""
        self.begun = _without(self.begun, transaction)

    @property
    def name(self) -> str:
        """Its name: method and URL rule for a request, never the raw path."""
        if self.label is not None:
            return self.label
        self.note_rule()
        method = self.method if self.method in _METHODS else "OTHER"
        return f"{method} {'<unmatched>' if self.rule is None else self.rule.rule}"

    def note_rule(self) -> None:
        """Remember the URL rule of a request; Flask takes the request off the environ at its end."""
        environ = self.environ
        if environ is not None and self.rule is None:
            request = environ.get("werkzeug.request", self)
            if request is None:
                # So does the end of a copy of its context, in the midst of it.
                self.rule = self.owner.rule_of(environ)
            elif request is not self:
                self.rule = request.url_rule

    def add_incident(self, incident: Incident) -> None:
        """Remember something to be judged when this scope ends."""
        incidents = self.incidents
        if incidents is None:
            incidents = self.incidents = []
        if len(incidents) < INCIDENTS_KEPT:
            incidents.append(incident)

    @property
    def lost_writes(self) -> bool:
        """Whether it threw away what it had written, though no exception left it."""
        return self.error is None and any(each.kind == "lost_write" for each in self.incidents or ())

    @property
    def succeeded(self) -> bool:
        """Whether its caller was told that all went well."""
        return self.error is None and (self.status is None or self.status < 400)


def new_scope(kind: str, label: str | None, owner: t.Any, parent: Scope | None, holder: Holder) -> Scope:
    """Make a scope that is no request; the middleware makes those itself."""
    scope = Scope()
    scope.more = {"kind": kind, "label": label}
    scope.owner = owner
    scope.parent = parent
    scope.holder = holder
    scope.environ = scope.start_response = scope.answer = scope.rule = None
    scope.held = scope.begun = scope.last_transaction = None
    scope.ended = scope.measured = False
    scope.commits = scope.held_peak = 0
    scope.method = ""
    return scope


def _have_length(headers: list[tuple[str, str]]) -> bool:
    return any(name == "Content-Length" for name, _ in headers)


class Incident:
    """Something that happened and that a rule may have to judge.

    :param kind: "abandoned", "pool_timeout", "lost_write", "failed", "overlap", "adopted", "nested" or another one that a
        rule knows.
    :param subject: the checkout or transaction it happened to, if there is one.
    :param stack: where it happened.
    """

    __slots__ = ("details", "holder", "kind", "scope", "stack", "subject")

    def __init__(
        self,
        kind: str,
        stack: Stack,
        holder: Holder,
        scope: Scope | None,
        subject: Checkout | Transaction | None = None,
        **details: t.Any,
    ) -> None:
        self.kind: str = kind
        self.stack: Stack = stack
        self.holder: Holder = holder
        self.scope: Scope | None = scope
        self.subject: Checkout | Transaction | None = subject
        self.details: dict[str, t.Any] = details


class Ledger:
    """Everything that is live in this process."""

    def __init__(self, stacks: Stacks) -> None:
        self.stacks = stacks
        self.engines: dict[int, EngineInfo] = {}
        #: Engines that a scope used first and left behind, by who judges it and by what they have in common.
        self.engines_left: weakref.WeakKeyDictionary[t.Any, dict[t.Any, deque[EngineInfo]]] = (
            weakref.WeakKeyDictionary()
        )
        #: Every pooled connection that this process has checked out, for as long as its pool keeps it.
        self.pooled: set[weakref.ref[Pooled]] = set()
        #: Sessions' root transactions by the number of the Session.
        self.transactions: dict[int, Transaction] = {}
        #: Those of them that last: a request's are entered at a tick, or when its answer is begun, all others at once.
        self.long: set[Transaction] = set()
        #: The numbers of Sessions that a thread was refused because another one was using them.
        self.contested: set[int] = set()
        #: Scopes that are open; only those that may outlive their thread's attention are kept here.
        self.scopes: set[Scope] = set()
        #: Every thread or greenlet that has used a session or served a request, for as long as it lives.
        self.holders: set[weakref.ref[Holder]] = set()
        #: Who waits for a connection, of which engine, and since when.
        self.waiting: dict[Holder, tuple[EngineInfo, float]] = {}
        #: What happened outside of an open scope, to be judged at the next tick.
        self.incidents: deque[Incident] = deque(maxlen=INCIDENTS_KEPT)
        #: Ended scopes, transactions, check-outs and other facts, to be counted by the watchdog.
        self.closed: deque[t.Any] = deque(maxlen=CLOSED_KEPT)
        #: Transactions that were counted already, for the history of an object that is used after its session.
        self.recent: deque[Transaction] = deque(maxlen=RECENT_KEPT)
        #: The objects in one session from which on its growth is followed; the smallest limit of all applications.
        self.most_objects = 10_000
        #: Whether a request was served yet.
        self.serving = False
        self.internal_errors: int = 0
        #: How many of them were made before the present watch was begun.
        self.errors_forgiven: int = 0
        self.attached_at: float = clock()
        #: The process this is about.
        self.pid: int = os.getpid()
        #: The process that forked this one, and when by the clock on the wall; None unless it was forked.
        self.forked: tuple[int, float] | None = None
        #: Leads to the scope that was open when this process was forked; it ends in the parent only.
        self.inherited: Ref = _nothing

    def forget(self) -> None:
        """Drop all that is live, as a child process must after a fork: it is its parent's."""
        for live in (
            self.pooled,
            self.transactions,
            self.long,
            self.scopes,
            self.waiting,
            self.incidents,
            self.closed,
            self.recent,
        ):
            live.clear()
        for ref in self.holders.copy():
            holder = ref()
            if holder is not None:
                holder.held = holder.latest = holder.scope = None

    @property
    def checkouts(self) -> set[Checkout]:
        """What is checked out now."""
        return {checkout for checkout in self._entered() if checkout.is_open}

    def closed_unheard(self) -> set[Checkout]:
        """Return what is closed already, and still entered as checked out."""
        return {checkout for checkout in self._entered() if not checkout.is_open}

    def _entered(self) -> t.Iterator[Checkout]:
        for ref in self.pooled.copy():
            pooled = ref()
            if pooled is None:
                continue
            checkout, also = pooled.checkout, pooled.also
            if checkout is not None:
                yield checkout
            yield from also or ()

    def enter(self, pooled: Pooled) -> None:
        """Follow what is checked out of *pooled* from now on."""
        self.pooled.add(weakref.ref(pooled, self.pooled.discard))

    def fork(self) -> None:
        """Begin anew in a child process."""
        self.forked = (self.pid, time.time())
        self.pid = os.getpid()
        scope = current_scope.get()
        self.inherited = _nothing if scope is None else weakref.ref(scope)
        self.internal_errors = self.errors_forgiven = 0
        self.forget()

    def engine_left(self, scope: Scope, engine: EngineInfo, alike: t.Hashable) -> list[EngineInfo]:
        """Remember that *scope* made *engine* and left it behind; return those it is alike to, and it.

        :param alike: what they have in common.
        """
        kinds = self.engines_left.setdefault(scope.owner, {})
        if len(kinds) >= ENGINES_KEPT and alike not in kinds:
            kinds.clear()
        left = kinds.setdefault(alike, deque(maxlen=ENGINES_KEPT))
        left.append(engine)
        return [each for each in left if not each.reused]

    def new_holder(self) -> Holder:
        """Make the record of the calling thread."""
        holder = Holder()
        self.holders.add(weakref.ref(holder, self.holders.discard))
        return holder

    def lender_of(self, session: t.Any) -> Scope | None:
        """Return the open request that used *session* before, and has lent it to the calling thread."""
        for ref in self.holders.copy():
            holder = ref()
            scope = None if holder is None else holder.scope
            last = None if scope is None or scope.ended else scope.last_transaction
            if last is not None and last.session() is session:
                return scope
        return None

    def contend(self, session_key: int) -> None:
        """Remember that several threads were seen using a Session at once."""
        if len(self.contested) >= RECENT_KEPT:
            self.contested.clear()
        self.contested.add(session_key)

    def is_contested(self, transaction: Transaction) -> bool:
        """Whether several threads were seen using the Session of *transaction* at once."""
        return transaction.session_key in self.contested

    def happened(self, incident: Incident) -> None:
        """File *incident* with its scope, or for the next tick where that is over or unknown."""
        scope = incident.scope
        if scope is None or scope.ended:
            self.incidents.append(incident)
        else:
            scope.add_incident(incident)

    def used(self, engine: EngineInfo) -> int:
        """Return how many connections of *engine* are checked out."""
        return sum(1 for checkout in self.checkouts if checkout.engine is engine)


#: The scope that the running code is in.
current_scope: ContextVar[Scope | None] = ContextVar("sessionwatch_scope", default=None)
