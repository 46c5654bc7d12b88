"""What becomes of written work: committed by halves, out of a rollback's reach, undone by somebody else, loaded again.

Off the hot path, like the noticer, which calls it: facts are written down here and judged later.
"""

from __future__ import annotations

import inspect
import sys
import typing as t
from collections.abc import Iterable
from types import CodeType
from types import FrameType

from sqlalchemy import orm

from .holder import Holder
from .ledger import Ledger
from .records import Checkout
from .records import Incident
from .records import Scope
from .records import Transaction
from .results import control_of
from .stack import Stack
from .stack import Stacks
from .stack import runs

#: Objects that are loaded again one by one after a commit before anybody is told.
RELOADS_ENDURED = 5
#: In a scope that commits more often than this, reloads are no longer looked for: it is a batch.
_COMMITS_LOOKED_AT = 10
#: Savepoints of one connection that are remembered, the latest ones: SQLAlchemy gives each another name, and few are nested.
_MARKS_KEPT = 100
#: Set by SQLAlchemy where a SELECT is to fill attributes of an object that the session has already.
_LOADING = "_sa_orm_load_options"
#: ``id(None)``: no exception was being handled.
_NO_ERROR = id(None)
_COMMITTING = frozenset(
    inspect.unwrap(owner.commit).__code__ for owner in (orm.Session, orm.SessionTransaction)
)


class Counted:
    """Stands for the cursor of a transaction whose writes are counted already."""

    rowcount = 0


_COUNTED: t.Final = Counted()


class Outcomes:
    """Files incidents on what became of written work.

    :param ledger: where they go.
    :param holder: answers the record of the calling thread.
    """

    def __init__(self, ledger: Ledger, holder: t.Callable[[], Holder]) -> None:
        self._ledger = ledger
        self._holder = holder

    def _file(
        self, kind: str, stack: Stack, scope: Scope | None, subject: Checkout | Transaction, **details: t.Any
    ) -> None:
        self._ledger.happened(Incident(kind, stack, self._holder(), scope, subject, **details))

    # Savepoints

    def savepoint(self, session: t.Any) -> None:
        """Remember how much was written before a savepoint."""
        transaction = self._ledger.transactions.get(session.hash_key)
        if transaction is not None:
            self._count(transaction)
            if transaction.savepoints is None:
                transaction.savepoints = []
            transaction.savepoints.append(transaction.writes)

    def savepoint_undone(self, transaction: Transaction) -> None:
        """Forget what was written since the innermost savepoint: it was rolled back to."""
        if transaction.savepoints:
            _forget(transaction, but=transaction.savepoints[-1])

    def told(self, checkout: Checkout, statement: str) -> None:
        """Follow what SQL tells a transaction: savepoints over Core, and ends that SQLAlchemy does not know of."""
        control = control_of(statement)
        if control is None:
            return
        record = checkout.transaction or checkout
        if control.word == "end":
            _forget(record, but=0)
        elif control.word == "mark":
            self._mark(record, control.savepoint)
        elif record.marks is not None and control.savepoint in record.marks:
            _forget(record, but=record.marks[control.savepoint])

    def _mark(self, record: Checkout | Transaction, savepoint: str) -> None:
        marks = record.marks
        if marks is None:
            marks = record.marks = {}
        marks.pop(savepoint, None)
        marks[savepoint] = self._written(record)
        if len(marks) > _MARKS_KEPT:
            del marks[next(iter(marks))]

    def _written(self, record: Checkout | Transaction) -> int:
        """Return how much was written in the present transaction; a connection may have had others before."""
        if isinstance(record, Checkout) and record.written_ref is not record.latest_ref:
            return 0
        self._count(record)
        return record.writes

    def savepoint_ended(self, session: t.Any, frame: FrameType) -> None:
        """Close the innermost savepoint, by whichever way; one that SQLite has committed has escaped."""
        transaction = self._ledger.transactions.get(session.hash_key)
        if transaction is None or not transaction.savepoints:
            return
        self._count(transaction)
        before = transaction.savepoints.pop()
        if transaction.writes > before and not transaction.savepoints and _has_escaped(transaction):
            transaction.escaped = transaction.escaped or self._ledger.stacks.capture(frame)
            # It is permanent, and whatever comes cannot lose it.
            transaction.writes = 0

    def _count(self, record: Checkout | Transaction) -> None:
        record.count_write(None)
        if record.writes:
            # Its end is to be looked at, also if nothing is written any more.
            record.cursor = _COUNTED

    def left_uncommitted(self, transaction: Transaction) -> None:
        """Note a transaction that wrote and ends without a commit, but does not take everything with it."""
        if transaction.escaped:
            self._file("escaped", transaction.escaped, transaction.scope, transaction)

    # Commits

    def commit_failed(self, transaction: Transaction, stack: Stack) -> None:
        """Note a commit that failed after it had ended the transaction on another of the session's binds."""
        if len(transaction.checkouts) < 2 or transaction.halved:
            return
        session = transaction.session()
        root = None if session is None else session.get_transaction()
        # A connection is there twice, by itself and by its engine.
        ends = {id(entry[0]): entry[1].is_active for entry in getattr(root, "_connections", {}).values()}
        if len(set(ends.values())) == 2:
            transaction.halved = True
            self._file("half_committed", stack, transaction.scope, transaction)

    def commit_refused(self, transaction: Transaction, stack: Stack, frame: FrameType) -> None:
        """Look at a statement without text that failed: the COMMIT of a Session, or something else."""
        if runs(frame, _COMMITTING):
            self.commit_failed(transaction, stack)

    def begun_again(self, transaction: Transaction, checkout: Checkout, scope: Scope, session: t.Any) -> None:
        """Look closely at what a session does after its work in this scope was committed."""
        last = scope.last_transaction
        if last is None or not last.committed or last.session() is not session:
            return
        if scope.commits <= _COMMITS_LOOKED_AT:
            checkout.reloads = 0
            checkout.closer = True
        if scope.kind == "request" and last.wrote_at is not None:
            stacks = self._ledger.stacks
            hook = stacks.hook(transaction.stack)
            if hook is not None:
                self._extra(transaction, scope, hook)
            elif stacks.hook(last.stack) is not None and _wrote_where_it_began(last):
                self._extra(last, scope, stacks.hook(last.stack))

    def committed_again(self, transaction: Transaction, scope: Scope) -> None:
        """Note a second transaction of a request that wrote, other than by the same line as the first."""
        last = scope.last_transaction
        if last is None or not last.committed or last.session_key != transaction.session_key:
            return
        if scope.kind != "request" or None in (last.wrote_at, transaction.wrote_at):
            return
        # The same line again is a loop, which is a matter of how often.
        if last.wrote_at != transaction.wrote_at:
            self._extra(transaction, scope, None)

    def _extra(self, transaction: Transaction, scope: Scope, hook: str | None) -> None:
        told = scope.incidents or ()
        if not any(each.kind == "extra" for each in told):
            self._file("extra", transaction.stack, scope, transaction, hook=hook)

    def statement(self, checkout: Checkout, context: t.Any) -> None:
        """Count the objects that are loaded again one by one after a commit."""
        assert checkout.reloads is not None
        loading = context.execution_options.get(_LOADING)
        if getattr(loading, "_refresh_state", None) is None:
            return
        checkout.reloads += 1
        if checkout.reloads == RELOADS_ENDURED:
            stack = self._ledger.stacks.capture(sys._getframe(1))
            self._file("reloaded", stack, checkout.scope, checkout)

    # Rollbacks

    def undone(self, transaction: Transaction, frame: FrameType) -> None:
        """Note a rollback that undoes, for the sake of its own function, what its callers have written."""
        if not transaction.writes or transaction.external:
            return
        frames = self._application_frames(frame)
        if not frames:
            return
        here, callers = frames[0], {each.f_code for each in frames[1:]}
        flushed, added = self._writers(transaction)
        begun = {code for code, _ in transaction.stack}
        outside = {
            code
            for code in (flushed, added)
            if code is not None
            and code is not here.f_code
            and (code in callers or (code in begun and here.f_code not in begun))
        }
        error = _error_in(here, transaction, outside) if outside else None
        if error is not None:
            scope = transaction.scope
            self._file(
                "undone",
                self._ledger.stacks.capture(frame),
                scope,
                transaction,
                error=error,
                flushed=flushed in outside,
                code=here.f_code,
                commits=0 if scope is None else scope.commits,
            )

    def _writers(self, transaction: Transaction) -> tuple[CodeType | None, CodeType | None]:
        """Return whose flush wrote first, and whose add() began the transaction before that."""
        flushed = None if transaction.wrote_at is None else transaction.wrote_at[0]
        checkouts = transaction.checkouts
        added = None
        if checkouts and transaction.stack is not checkouts[0].stack:
            call = self._ledger.stacks.first_application_call(transaction.stack)
            added = None if call is None else call[0]
        return flushed, added

    def _application_frames(self, frame: FrameType | None) -> list[FrameType]:
        stacks = self._ledger.stacks
        frames = []
        while frame is not None and frame.f_code is not stacks.boundary:
            if stacks.is_application(frame.f_code.co_filename):
                frames.append(frame)
            frame = frame.f_back
        return frames


def _forget(record: Checkout | Transaction, *, but: int) -> None:
    """Forget what *record* has written, but for so many writes."""
    record.writes = but
    record.cursor = _COUNTED if but else None
    if not but:
        record.wrote_at = None


def _wrote_where_it_began(transaction: Transaction) -> bool:
    """Whether one of the functions that were at work when *transaction* began has written first."""
    wrote_at = transaction.wrote_at
    return wrote_at is not None and any(code is wrote_at[0] for code, _ in transaction.stack)


def is_work(record: Checkout | Transaction | None, stacks: Stacks) -> bool:
    """Whether a commit was part of a scope's own work.

    What a before_request hook commits is not, nor what is written while an exception is handled.
    """
    if record is None or record.wrote_at is None or was_handling(record):
        return False
    return stacks.hook(record.stack) != "before_request"


def was_handling(record: Checkout | Transaction) -> bool:
    """Whether an exception was being handled already when *record* first wrote."""
    return record.handled not in (0, _NO_ERROR)


def _error_in(here: FrameType, transaction: Transaction, outside: set[CodeType]) -> str | None:
    """Name the error that made the function at *here* roll back, "" if there was none; None if it was not its own.

    An error that came from the writer's code, or from a commit, is the end of the whole work, whoever rolls back.
    """
    codes: list[CodeType]
    error = sys.exc_info()[1]
    failure = transaction.failure
    if error is not None and id(error) != transaction.handled:
        if error.__traceback__ is None or error.__traceback__.tb_frame is not here:
            return None
        name, codes = type(error).__name__, list(_codes_of(error))
    elif failure is not None:
        codes = [code for code, _ in failure.stack]
        if here.f_code not in codes:
            return None
        name, codes = failure.error, codes[: codes.index(here.f_code)]
    else:
        return ""
    return None if outside.intersection(codes) or _COMMITTING.intersection(codes) else name


def _codes_of(error: BaseException) -> Iterable[CodeType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame.f_code
        traceback = traceback.tb_next


def _has_escaped(transaction: Transaction) -> bool:
    """Whether the release of the outermost savepoint has ended SQLite's transaction, and committed it thereby.

    Its driver in its old default mode begins nothing before a SAVEPOINT, which is then the transaction itself.
    """
    for checkout in transaction.checkouts:
        connection = getattr(checkout.connection, "dbapi_connection", None)
        if checkout.engine.dialect != "sqlite" or getattr(connection, "isolation_level", None) is None:
            continue
        if getattr(connection, "in_transaction", True) is False:
            return True
    return False
