"""See the errors for which SQLAlchemy has no event, and find out how it came to them.

The ``__init__`` of a few exception classes is wrapped while the recorder is attached. That costs nothing until such an
error is made, and it sees errors that somebody swallows, or that are raised on a thread nobody looks after. The frame
that makes the error knows the session or object it is about; nothing is kept of it but what the ledger may hold.
"""

from __future__ import annotations

import concurrent.futures
import functools
import sys
import threading
import typing as t
import weakref
from types import FrameType

from sqlalchemy import exc as sa_exc
from sqlalchemy import orm
from sqlalchemy.orm import exc as orm_exc

from .engines import pooled_of
from .frames import undisturbed
from .holder import Holder
from .ledger import Ledger
from .library import is_library
from .library import session_codes
from .notice import Noticer
from .notice import closed_midway
from .raised import add_hint
from .records import Checkout
from .records import Incident
from .records import Scope
from .records import Transaction
from .stack import Stack

#: Errors filed for one scope, or between two ticks: a loop that swallows them must not fill the memory.
_FILED_AT_MOST = 100
#: Frames between SQLAlchemy's code for warnings and the one that warns.
_FRAMES_OF_WARNING = 5
#: What changes the state of a Session, and must not be entered again before it is done.
_CHANGING = session_codes(
    "flush", "commit", "rollback", "close", "prepare", "_prepare_impl", "_connection_for_bind"
)
_FLUSHING = session_codes("flush")
_SPEAKING = frozenset(("__repr__", "__str__", "__format__"))

Record: t.TypeAlias = "Checkout | Transaction"
Story: t.TypeAlias = "t.Callable[[BaseException, FrameType], None]"


class Errors:
    """Files an incident for each error that SQLAlchemy raises for a misuse of its sessions.

    :param ledger: where the history is.
    :param notice: files incidents.
    :param on_left: told of every exception that ends a thread or the job of an executor; it never raises.
    :param failed: told of an error of our own.
    """

    def __init__(
        self,
        ledger: Ledger,
        notice: Noticer,
        on_left: t.Callable[[BaseException], None],
        failed: t.Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._notice = notice
        self._on_left = on_left
        self.failed = failed
        #: Our wrappers by what they stand for; one that is no longer here passes everything through.
        self._wrappers: dict[t.Any, t.Any] = {}
        #: Who tells of an error, by its class and a part of its text.
        self._stories: dict[type[BaseException], tuple[tuple[str, Story], ...]] = {
            orm_exc.DetachedInstanceError: (("", self._detached),),
            sa_exc.PendingRollbackError: (("", self._pending),),
            sa_exc.IllegalStateChangeError: (("", self._refused),),
            sa_exc.ResourceClosedError: (("This transaction is closed", self._ended_in_flush),),
            sa_exc.SAWarning: (("execution_options ignored", self._options_ignored),),
            sa_exc.InvalidRequestError: (
                ("Session is already flushing", self._refused),
                ("concurrent operations are not permitted", self._refused),
                ("A transaction is already begun on this Session", self._double_begin),
                ("can't call begin() here", self._double_begin),
                ("Can't operate on closed transaction", self._closed_in_block),
                ("is already attached to session", self._cross_session),
                ("This session is in 'committed' state", self._after_commit),
                ("isolation_level may not be altered", self._isolation_refused),
            ),
        }

    # Attaching

    def attach(self) -> None:
        """Begin to see errors."""
        for kind in self._stories:
            self._wrap_init(kind)
        self._wrap_excepthook()
        self._wrap_set_exception()

    def detach(self) -> None:
        """Leave every class and hook as it was; what somebody has wrapped in turn stays, and passes through."""
        wrappers, self._wrappers = self._wrappers, {}
        for kind, wrapper in wrappers.items():
            name, original = wrapper.replaced
            if vars(kind).get(name) is not wrapper:
                continue
            if original is None:
                delattr(kind, name)
            else:
                setattr(kind, name, original)

    def _wrap_init(self, kind: type[BaseException]) -> None:
        own = vars(kind).get("__init__")
        errors = self

        @functools.wraps(kind.__init__)
        def __init__(error: BaseException, *args: t.Any, **options: t.Any) -> None:
            if (
                own is None
            ):  # as if the class had no __init__ still, also for a class that has other bases as well
                super(kind, error).__init__(*args, **options)
            else:
                own(error, *args, **options)
            if type(error) is kind and errors._wrappers.get(kind) is __init__:
                errors.made(error, sys._getframe(1))

        self._put(kind, "__init__", __init__, own)

    def _wrap_excepthook(self) -> None:
        original = threading.excepthook
        errors = self

        @functools.wraps(original)
        def excepthook(args: t.Any, /) -> t.Any:
            if errors._wrappers.get(threading) is excepthook and args.exc_value is not None:
                errors._on_left(args.exc_value)
            return original(args)

        self._put(threading, "excepthook", excepthook, original)

    def _wrap_set_exception(self) -> None:
        """See the errors of jobs, which an executor keeps until somebody asks for the result, if ever."""
        original = concurrent.futures.Future.set_exception
        errors = self

        @functools.wraps(original)
        def set_exception(future: t.Any, exception: BaseException | None) -> None:
            if errors._wrappers.get(concurrent.futures.Future) is set_exception and exception is not None:
                errors._on_left(exception)
            original(future, exception)

        self._put(concurrent.futures.Future, "set_exception", set_exception, original)

    def _put(self, owner: t.Any, name: str, wrapper: t.Any, original: t.Any) -> None:
        wrapper.replaced = name, original
        self._wrappers[owner] = wrapper
        setattr(owner, name, wrapper)

    # Recognising

    def made(self, error: BaseException, frame: FrameType) -> None:
        """Tell the story of *error*, which *frame* is about to raise; one that is copied or unpickled has none."""
        try:
            if is_library(frame.f_code.co_filename):
                text = str(error.args[0]) if error.args else ""
                for words, story in self._stories[type(error)]:
                    if words in text:
                        story(error, frame)
                        break
        except Exception:
            self.failed("an error of SQLAlchemy")

    def _file(
        self,
        kind: str,
        error: BaseException,
        stack: Stack,
        subject: Record | None = None,
        hint: str = "",
        **details: t.Any,
    ) -> Incident | None:
        scope = self._notice._scope() or (None if subject is None else subject.scope)
        filed = self._ledger.incidents if scope is None or scope.ended else scope.incidents or ()
        if len(filed) >= _FILED_AT_MOST:
            return None
        if hint:
            add_hint(error, hint)
        incident = self._notice._file(kind, stack, scope, subject, **details)
        self._notice.leaving[error] = functools.partial(incident.details.__setitem__, "left", True)
        return incident

    # The stories

    def _pending(self, error: BaseException, frame: FrameType) -> None:
        """Remember where a session that waits for a rollback is used; it matters when that leaves the view."""
        transaction = self._transaction_of(_session_of(frame))
        failure = None if transaction is None else transaction.failure
        if transaction is None or failure is None:
            return
        failure.again = self._notice._capture(frame)
        self._notice.leaving[error] = functools.partial(self._notice.left_failed, transaction, "used")
        where = self._at(failure.stack)
        add_hint(error, f"{failure.error} came first{where}, and was caught without rollback().")

    def _refused(self, error: BaseException, frame: FrameType) -> None:
        """Tell a session that is entered again by its own hooks from one that another thread is using."""
        session = _session_of(frame)
        transaction = self._transaction_of(session)
        outer = _outer_operation(frame, session)
        stack = self._notice._capture(frame)
        if outer is None:
            self._shared(stack, transaction, session)
            return
        start = self._notice._capture(outer)
        what = outer.f_code.co_name.strip("_").removesuffix("_impl")
        self._file(
            "reentrant",
            error,
            stack,
            transaction,
            hint=f"the {what}() that is still running was called{self._at(start)}.",
            asked=_operation(frame),
            running=what,
            start=start,
        )

    def _ended_in_flush(self, error: BaseException, frame: FrameType) -> None:
        """Find out who committed or rolled back in the middle of a flush, which cannot end its own part then."""
        flush = next((each for each in _library_frames(frame) if each.f_code in _FLUSHING), None)
        session = _session_of(frame)
        ended = None if flush is None else self._last_of(session)
        if ended is None or ended.ended_by is None:
            return
        stack = (ended.ended_by,)
        hint = f"its {ended.ending}() was called{self._at(stack)}, in the middle of the flush."
        start = self._notice._capture(flush)
        details = {"asked": ended.ending, "running": "flush", "start": start}
        self._file("reentrant", error, stack, ended, hint=hint, **details)

    def _shared(self, stack: Stack, shared: Transaction | None, session: t.Any) -> None:
        """Note that SQLAlchemy refused a session which another thread is using."""
        notice = self._notice
        other = self._user_of(session) if shared is None else shared.holder
        if other is notice._holder():
            other = None
        if other is not None:
            self._ledger.contend(session.hash_key)
        notice._file("overlap", stack, notice._scope(), shared, other=other)

    def _user_of(self, session: t.Any) -> Holder | None:
        """Return the thread that is inside of *session*, which has no connection yet."""
        me = self._notice._holder()
        with undisturbed:
            for ref in self._ledger.holders.copy():
                holder = ref()
                if holder is not None and holder is not me and _is_inside(session, holder.frame()):
                    return holder
        return None

    def _double_begin(self, error: BaseException, frame: FrameType) -> None:
        record = self._record_of(frame)
        begun = () if record is None else record.stack
        self._file(
            "double_begin",
            error,
            self._notice._capture(frame),
            record,
            hint=f"the transaction was begun{self._at(begun)}." if begun else "",
            begun=begun,
        )

    def _closed_in_block(self, error: BaseException, frame: FrameType) -> None:
        record = self._record_of(frame)
        if isinstance(record, Transaction) and record.failure is not None:
            self._pending(error, frame)
            return
        used = self._notice._capture(frame)
        record = record or self._last_of(_session_of(frame))
        ended_by = getattr(record, "ended_by", None)
        how = getattr(record, "ending", None)
        stack = used if record is None else record.stack if ended_by is None else (ended_by,)
        hint = "" if ended_by is None else f"the block's transaction was ended{self._at(stack)}."
        details = {"used": used, "ended": ended_by is not None, "how": how}
        self._file("closed_in_block", error, stack, record, hint=hint, **details)

    def _cross_session(self, error: BaseException, frame: FrameType) -> None:
        state = frame.f_locals["state"]
        other = self._transaction_of(orm.object_session(state.obj()))
        this = self._transaction_of(_session_of(frame))
        theirs = () if other is None else other.stack
        self._file(
            "cross_session",
            error,
            self._notice._capture(frame),
            this,
            hint=f"the session that has the object was begun{self._at(theirs)}." if theirs else "",
            object=_described(state),
            theirs=theirs,
            ours=() if this is None else this.stack,
        )

    def _after_commit(self, error: BaseException, frame: FrameType) -> None:
        transaction = self._transaction_of(_session_of(frame))
        self._file("after_commit", error, self._notice._capture(frame), transaction)

    def _isolation_refused(self, error: BaseException, frame: FrameType) -> None:
        connection = frame.f_locals.get("connection")
        pooled = None if connection is None else pooled_of(connection)
        record = None if pooled is None else pooled.checkout
        begun = () if record is None else record.stack
        self._file("isolation", error, self._notice._capture(frame), record, begun=begun, refused=True)

    def _options_ignored(self, error: BaseException, frame: FrameType) -> None:
        """Look which options a Session ignores, for its connection has them settled already."""
        found = _find(frame, "_connection_for_bind", _FRAMES_OF_WARNING)
        if found is None:
            return
        asked = (found.f_locals.get("execution_options") or {}).get("isolation_level")
        transaction = self._transaction_of(_session_of(found))
        if asked is None or transaction is None or _settled_level(found) == _normal(asked):
            return
        stack = self._notice._capture(found)
        self._file("isolation", error, stack, transaction, begun=transaction.stack, level=str(asked))

    def _detached(self, error: BaseException, frame: FrameType) -> None:
        state = frame.f_locals.get("state")
        name = "an object" if state is None else _described(state)
        owner = self._owner_of(state)
        scope = self._notice._scope()
        history = "" if owner is None else self._history(owner, scope)
        used = self._notice._capture(frame)
        incident = self._file(
            "detached",
            error,
            used,
            owner,
            hint=f"{history}." if history else "",
            object=name,
            history=history,
            outside=scope is None,
            spoken=any(code.co_name in _SPEAKING for code, _ in used),
        )
        if incident is not None and scope is not None and closed_midway(owner) and owner.scope is scope:
            closing = self._notice._midway(owner, scope, "detached", used)
            both = (incident.details, closing.details)
            self._notice.leaving[error] = functools.partial(_mark_left, both)

    # History

    def _transaction_of(self, session: t.Any) -> Transaction | None:
        """Return the transaction that *session* is in."""
        found = None if session is None else self._ledger.transactions.get(session.hash_key)
        return found if found is not None and found.session() is session else None

    def _record_of(self, frame: FrameType) -> Record | None:
        """Return the record of the session or connection that a method running in *frame* is about."""
        session = _session_of(frame)
        if session is not None:
            return self._transaction_of(session)
        connection = _subject_of(frame)
        if getattr(connection, "closed", True):
            return None
        pooled = pooled_of(connection)
        return None if pooled is None else pooled.checkout

    def _recent(self) -> t.Iterator[Transaction]:
        """Return every transaction that is remembered, what is live and what is near first."""
        ledger = self._ledger
        scope = self._notice._scope()
        if scope is not None and scope.last_transaction is not None:
            yield scope.last_transaction
        yield from ledger.transactions.copy().values()
        for ref in ledger.holders.copy():
            holder = ref()
            served = None if holder is None else holder.scope
            if served is not None and served.last_transaction is not None:
                yield served.last_transaction
        yield from (each for each in reversed(ledger.closed.copy()) if isinstance(each, Transaction))
        yield from reversed(ledger.recent.copy())

    def _last_of(self, session: t.Any) -> Transaction | None:
        """Return the transaction that *session* ended last."""
        if session is None:
            return None
        return next((each for each in self._recent() if each.session() is session), None)

    def _owner_of(self, state: t.Any) -> Transaction | None:
        """Return the last known transaction of the session that a detached object came from."""
        identity_ref = getattr(state, "_instance_dict", None)
        if not isinstance(identity_ref, weakref.ref):
            return None
        return next((each for each in self._recent() if each.identity_ref is identity_ref), None)

    def _history(self, owner: Transaction, scope: Scope | None) -> str:
        """Say where the session of a detached object was begun, and how it ended."""
        begun = f"its session was begun{self._at(owner.stack)}"
        opener = owner.scope
        if opener is not None and opener is not scope:
            begun += f" by {opener.name}"
        if owner.holder is not self._notice._holder():
            begun += f" on thread '{owner.holder.name}'"
        return f"{begun} and {self._how_closed(owner)}"

    def _how_closed(self, owner: Transaction) -> str:
        scope = owner.scope
        if owner.ended_at is None and owner.session() is None:
            return "was collected without close()"
        if closed_midway(owner):
            assert owner.ended_by is not None
            return f"closed{self._at((owner.ended_by,))}"
        if scope is None:
            return "is closed by now"
        if scope.ended or scope.status is not None:
            return f"was closed when the {scope.kind.replace('_', ' ')} was over"
        return f"was closed in the middle of the {scope.kind.replace('_', ' ')}"

    def _at(self, stack: Stack) -> str:
        site = self._ledger.stacks.site(stack)
        return "" if site is None else f" at {site}"


def _mark_left(all_details: t.Iterable[dict[str, t.Any]]) -> None:
    for details in all_details:
        details["left"] = True


def _described(state: t.Any) -> str:
    return f"an instance of {state.class_.__name__}"


def _subject_of(frame: FrameType) -> t.Any:
    """Return what a method of SQLAlchemy that runs in *frame* works on."""
    found = frame.f_locals
    return found["self"] if "self" in found else found.get("subject")


def _session_of(frame: FrameType) -> t.Any:
    """Return the Session that a method of it, or of its transaction, running in *frame* is about."""
    subject = _subject_of(frame)
    session = getattr(subject, "session", subject)
    return session if isinstance(session, orm.Session) else None


def _is_inside(session: t.Any, frame: FrameType | None) -> bool:
    """Whether one of the calls from *frame* outward is about *session*."""
    while frame is not None:
        if is_library(frame.f_code.co_filename) and _session_of(frame) is session:
            return True
        frame = frame.f_back
    return False


def _outer_operation(frame: FrameType | None, session: t.Any) -> FrameType | None:
    """Return the operation on *session* that is still running below a hook which entered it again."""
    hooked = False
    while frame is not None:
        if not is_library(frame.f_code.co_filename):
            hooked = True
        elif hooked and frame.f_code in _CHANGING and _session_of(frame) is session:
            return frame
        frame = frame.f_back
    return None


def _operation(frame: FrameType) -> str:
    """Return the name of the operation that was asked for: SQLAlchemy's outermost call at *frame*."""
    *_, outermost = _library_frames(frame)
    return outermost.f_code.co_name


def _library_frames(frame: FrameType | None) -> t.Iterator[FrameType]:
    """Walk from *frame* to the last one before whoever called SQLAlchemy."""
    while frame is not None and is_library(frame.f_code.co_filename):
        yield frame
        frame = frame.f_back


def _find(frame: FrameType | None, name: str, most: int) -> FrameType | None:
    for _ in range(most):
        if frame is None or frame.f_code.co_name == name:
            return frame
        frame = frame.f_back
    return None


def _settled_level(frame: FrameType) -> str | None:
    """Return the isolation level that the connection in question was given before, if it was."""
    connections = getattr(_subject_of(frame), "_connections", {})
    entry = connections.get(frame.f_locals.get("bind"))
    level = None if entry is None else entry[0].get_execution_options().get("isolation_level")
    return None if level is None else _normal(level)


def _normal(level: object) -> str:
    return str(level).upper().replace("_", " ")
