"""What is written down of scopes, sessions' transactions and check-outs, and of what happened to them.

No record holds a Session, a Connection or a mapped object strongly. Scopes, transactions and check-outs are made and dropped with
every request, and have no __init__: a call costs more than their attributes. What a healthy request reads or writes has a slot, which
is written when a record is made. The rest is Rare.
"""

from __future__ import annotations

import contextlib
import typing as t
import weakref
from contextvars import ContextVar

from .holder import Holder
from .holder import Owner
from .holder import Ref
from .holder import added
from .holder import open_among
from .holder import without
from .identity import session_of
from .pooled import EngineInfo
from .pooled import Pooled
from .stack import Call
from .stack import Stack

T = t.TypeVar("T")

INCIDENTS_KEPT = 10_000
#: Distinct reads that are followed in one transaction that others have overtaken.
_READS_KEPT = 1_000

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))


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
    #: Whether that exception had left the scope before: an error handler writes.
    in_handler: Rare[bool] = Rare(False)
    failure: Rare[Failure | None] = Rare(None)
    lost: Rare[bool] = Rare(False)
    leaked: Rare[bool] = Rare(False)
    #: How much was written before each savepoint that was made by SQL, by its name.
    marks: Rare[dict[str, int] | None] = Rare(None)
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
    #: Whether that was no refusal, but an answer below 400, as ``abort(redirect(...))`` gives it.
    redirected: Rare[bool] = Rare(False)
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
        return open_among(self.begun)

    def enter(self, transaction: Transaction) -> None:
        """Enter *transaction* as begun in it."""
        self.begun = added(self.begun, transaction)

    def leave(self, transaction: Transaction) -> None:
        """Take *transaction* off, if it was begun in it."""
        self.begun = without(self.begun, transaction)

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
    def failed(self) -> bool:
        """Whether an exception left it that is no answer like any other."""
        return self.error is not None and not self.redirected

    @property
    def lost_writes(self) -> bool:
        """Whether it threw away what it had written, though no exception left it."""
        return not self.failed and any(each.kind == "lost_write" for each in self.incidents or ())

    @property
    def succeeded(self) -> bool:
        """Whether its caller was told that all went well."""
        return not self.failed and (self.status is None or self.status < 400)


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


#: The scope that the running code is in.
current_scope: ContextVar[Scope | None] = ContextVar("sessionwatch_scope", default=None)
