"""Look closer at what a healthy request never does, and file it as an incident.

Everything here is off the hot path: it may walk the stack and ask the driver. It still runs inside SQLAlchemy's
events, so it writes facts down and judges nothing; the rules do that, later.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing as t
import weakref
from types import FrameType

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm

from .clock import clock
from .driver import driver_autocommits
from .driver import has_failed
from .driver import opens_in_autocommit
from .engines import keeps_in_memory
from .frames import undisturbed
from .growth import Growths
from .holder import Holder
from .ledger import Ledger
from .library import is_library
from .library import passes
from .library import session_codes
from .outcomes import Outcomes
from .outcomes import is_work
from .pooled import EngineInfo
from .pooled import Pooled
from .pools import described
from .raised import add_hint
from .raised import add_note
from .raised import chain
from .raised import stack_of
from .records import Checkout
from .records import Failure
from .records import Incident
from .records import Scope
from .records import Stream
from .records import Transaction
from .results import RowCount
from .stack import Stack
from .stack import awaiting_frame
from .stack import runs
from .stale import Stale

_SAVEPOINT_WORDS = ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO")
#: Streaming results of one scope that are kept before those that are gone are dropped.
_STREAMS_KEPT = 100
#: How Flask begins to say that there is no app context.
_NO_CONTEXT = "Working outside of application context"
#: sqlite3 says so when a connection is used on another thread than the one that opened it.
_SQLITE_WRONG_THREAD = "SQLite objects created in a thread"

# Who ends a transaction is read off the stack: close() fires no event of its own.
_CLOSING = session_codes("close", "reset")
_COMMITTING = session_codes("commit")
_FLUSHING = session_codes("flush")
_AUTOFLUSHING = session_codes("_autoflush")
#: Where a scoped_session passes a call on to the Session of its registry.
_REGISTRY = orm.scoped_session.__call__.__code__.co_filename
#: The block that commits when it ends without an exception.
_COMMITTING_BLOCK = frozenset((inspect.unwrap(sa.Engine.begin).__code__,))
_ROLLING_BACK = session_codes("rollback")
#: The end of a "with" block, of a Session or of its begin(): what is closed there is over for its owner, too.
_LEAVING_BLOCK = frozenset(each.__exit__.__code__ for each in (orm.Session, orm.SessionTransaction))
_REMOVING = orm.scoped_session.remove.__code__
#: The files in which a Session or Connection does what must not be done by two threads at once.
_OPERATING = frozenset(each.__code__.co_filename for each in (orm.Session.execute, sa.Connection.execute))

#: Stands for the cursor of a write that was refused: it has no row count.
_REFUSED = object()


class Noticer:
    """Files incidents.

    :param ledger: where they go.
    :param holder: answers the record of the calling thread.
    :param scope: answers the scope that the calling code is in.
    """

    def __init__(
        self, ledger: Ledger, holder: t.Callable[[], Holder], scope: t.Callable[[], Scope | None]
    ) -> None:
        self._ledger = ledger
        self._holder = holder
        self._scope = scope
        #: Whether an app context is current; set by the layer that knows Flask.
        self.in_context: t.Callable[[], bool] = lambda: True
        #: Whether the first session belongs to the current app context and the second to one around that.
        self.in_nested_context: t.Callable[[t.Any, t.Any], bool] = lambda session, other: False
        self.stale: Stale = Stale(ledger)
        self._growths: Growths = Growths()
        #: Asks for a tick at once, for what may not wait.
        self.hurry: t.Callable[[], None] = _nothing
        self.outcomes: Outcomes = Outcomes(ledger, holder)
        #: What to do when an error that was seen being made turns out to have left the application's code.
        self.leaving: weakref.WeakKeyDictionary[BaseException, t.Callable[[], object]] = (
            weakref.WeakKeyDictionary()
        )
        self._told_last = (0, 0)

    def _file(
        self,
        kind: str,
        stack: Stack,
        scope: Scope | None,
        subject: Checkout | Transaction | None = None,
        **details: t.Any,
    ) -> Incident:
        incident = Incident(kind, stack, self._holder(), scope, subject, **details)
        self._ledger.happened(incident)
        return incident

    def _capture(self, frame: FrameType | None) -> Stack:
        return self._ledger.stacks.capture(frame)

    # Check-outs

    def nested(self, checkout: Checkout, held: set[Checkout]) -> None:
        """Note a second connection of the same limited pool in one scope and thread."""
        self._in_after_commit(checkout, held)
        capacity = checkout.engine.capacity
        if not capacity:
            return
        for other in held:
            if other is not checkout and other.engine is checkout.engine and other.user is checkout.holder:
                use = self._ledger.used(checkout.engine) / capacity
                self._file("nested", checkout.stack, checkout.scope, checkout, other=other, use=use)
                return

    def _in_after_commit(self, checkout: Checkout, held: set[Checkout]) -> None:
        """Note a connection that a hook checks out while the one whose commit called it is still out."""
        if not any(code in _COMMITTING for code, _ in checkout.stack):
            return
        for other in held:
            committing = other.transaction
            if committing is None or not committing.committed or committing.ended_at is not None:
                continue
            if self._ledger.transactions.get(committing.session_key) is committing:
                self._file("after_commit", checkout.stack, checkout.scope, committing, second=True)
                return

    def pool_timeout(self, info: EngineInfo, error: BaseException, frame: FrameType) -> None:
        """Note who held the connections of a pool that ran dry, and tell it in *error* as well."""
        holder, scope = self._holder(), self._scope()
        stack = self._capture(frame)
        held = [each for each in self._ledger.checkouts if each.engine is info]
        held.sort(key=lambda each: each.began_at)
        now = clock()
        lines = [described(each, self._ledger.stacks, now, holder) for each in held]
        self._ledger.closed.append(("timeout", info, now))
        self._file("pool_timeout", stack, scope, engine=info, holders=lines)
        own = next((each for each in held if each.user is holder and each.scope is scope), None)
        if own is not None:
            self._file("nested", stack, scope, None, other=own, use=1.0)
        add_note(error, f"The pool of engine '{info.name}' is held by:", lines)

    def engine_used(self, info: EngineInfo, frame: FrameType) -> None:
        """Follow an engine until it has been used in a second scope: one that never is was made for one only."""
        scope = self._scope()
        if scope is None:
            info.reused = True
        elif info.used_in is None:
            info.used_in = weakref.ref(scope)
            self._file("engine", self._capture(frame), scope, engine=info)
        else:
            info.reused = info.used_in() is not scope

    def again(self, scope: Scope, stack: Stack) -> None:
        """Count a further check-out of a scope that had returned its connection; most scopes have only one."""
        scope.checkouts_again += 1
        calls = scope.checkout_calls
        if calls is None:
            calls = scope.checkout_calls = {}
        call = stack[0] if stack else None
        calls[call] = calls.get(call, 0) + 1
        # Filed once; how many there are is known when the scope ends.
        if scope.checkouts_again == scope.owner.settings.max_checkouts:
            self._file("churn", stack, scope)

    def disconnected(self, checkout: Checkout, context: t.Any, frame: FrameType) -> None:
        """Note a connection that was dead already when the pool handed it out."""
        # A statement that fails before it is sent has no context, and was not counted.
        sent = context.statement is not None and context.execution_context is not None
        in_statement = checkout.statements == 1 and sent
        if checkout.statements and not in_statement:
            return  # it has worked since, and died in use
        # One that was opened by this very check-out is no old one; and a pool that asks first has asked.
        if checkout.opened or getattr(checkout.engine.pool, "_pre_ping", False):
            return
        opened_at = checkout.pooled.connected_at
        age = None if opened_at is None else clock() - opened_at
        took = clock() - checkout.last_at if in_statement else 0.0
        self._file(
            "disconnected",
            self._capture(frame),
            self._scope() or checkout.scope,
            checkout,
            age=age,
            took=took,
        )

    def streams(self, checkout: Checkout, context: t.Any, frame: FrameType) -> None:
        """Remember a streaming result, to see at the end of its scope whether it was closed."""
        if not context.execution_options["stream_results"]:
            return
        stack = self._capture(frame)
        stream = checkout.stream = Stream(checkout, context, stack)
        scope = self._scope()
        if scope is None:
            return
        if scope.streams is None:
            scope.streams = []
            self._file("streams", stack, scope)
        elif len(scope.streams) >= _STREAMS_KEPT:
            scope.streams = [each for each in scope.streams if each.context_ref() is not None]
        scope.streams.append(stream)

    def forked(self, pooled: Pooled, frame: FrameType) -> None:
        """Note that this process has checked out a connection that another one opened."""
        # What is in memory was copied by the fork: each process has its own.
        if keeps_in_memory(pooled.engine.engine_ref()):
            return
        scope = self._scope()
        incident = Incident("forked", self._capture(frame), self._holder(), scope, pooled=pooled, untold=True)
        self._ledger.happened(incident)
        if scope is None or scope.kind != "request" or scope is self._ledger.inherited():
            # A child may be over before the next tick, and before the end of a scope that it was forked in.
            self._ledger.incidents.append(incident)
            self.hurry()

    # Threads and scopes

    def hand_over(self, checkout: Checkout, holder: Holder) -> None:
        """Tell a legal hand-over between threads from a use that overlaps another thread's."""
        previous, checkout.handed_to = checkout.user, holder
        if previous.latest is checkout:
            previous.latest = None
        if previous.ident == holder.ident:  # it was checked out before the watch began
            return
        with undisturbed:
            frame = previous.frame()
            there = self._capture(frame) if frame is not None and _operates(frame, checkout) else None
            del frame
        if there is not None:
            if checkout.transaction is not None:
                self._ledger.contend(checkout.transaction.session_key)
            here = self._capture(sys._getframe(2))
            subject = checkout.transaction or checkout
            scope = self._scope() or subject.scope
            self._file("overlap", here, scope, subject, other=previous, other_stack=there)

    def foreign_use(self, transaction: Transaction | None, scope: Scope | None, frame: FrameType) -> None:
        """Notice a session that another scope began: one that is over, or a request on another thread."""
        if transaction is None or transaction.adopted or transaction.external:
            return
        opener = transaction.scope
        if scope is None or scope is opener:
            return
        if opener is not None and not opener.ended:
            self._shared(transaction, opener, scope, frame)
        elif (
            transaction.leaked and opener is not None and opener.name == scope.name and transaction.checkouts
        ):
            # Told already: what the same endpoint left behind comes back to it.
            transaction.adopted = True
        elif opener is not None or _begun_at_import(transaction.stack):
            transaction.adopted = True
            used = self._capture(frame)
            self._file("adopted", transaction.stack, scope, transaction, used=used, opener=opener)

    def _shared(self, transaction: Transaction, opener: Scope, scope: Scope, frame: FrameType) -> None:
        """Notice a session that two requests use while both are open, each on a thread of its own."""
        if opener.kind != "request" or scope.kind != "request":
            return
        if opener.holder is scope.holder:
            if not _surrounds(opener, scope):
                transaction.adopted = True
                self._file("context_leak", transaction.stack, scope, transaction, left_by=opener)
        else:
            transaction.adopted = True
            self._ledger.contend(transaction.session_key)
            here = self._capture(frame)
            self._file(
                "overlap", here, scope, transaction, other=opener.holder, other_stack=transaction.stack
            )

    # Errors

    def error_left(self, error: BaseException) -> None:
        """Follow up an exception that left the application's code, and what it was raised from."""
        scope = self._scope()
        for transaction in () if scope is None else scope.transactions:
            if len(transaction.checkouts) > 1:
                self.outcomes.commit_failed(transaction, stack_of(error))
        status = getattr(error, "code", None)
        if isinstance(status, int) and status < 500:
            return  # an answer, such as abort(404), to whatever was caught before
        for each in chain(error):
            if isinstance(each, sa_exc.SQLAlchemyError):
                follow_up = self.leaving.pop(each, None)
                if follow_up is not None:
                    follow_up()
            elif type(each) is RuntimeError and str(each).startswith(_NO_CONTEXT):
                self._no_context(each)

    def _no_context(self, error: RuntimeError) -> None:
        """Note work outside of any app context; the same error may leave a block first, and then its thread."""
        holder = self._holder()
        if self._told_last == (holder.ident, id(error)):
            return
        self._told_last = holder.ident, id(error)
        add_hint(error, "push an app context where this thread begins its work: 'with app.app_context():'.")
        self._file("no_context", stack_of(error)[: self._ledger.stacks.depth], self._scope())

    def further(self, transaction: Transaction, session: t.Any, frame: FrameType) -> None:
        """Look at a transaction that is not the first thing in its scope."""
        scope = transaction.scope
        assert scope is not None
        if scope.answer is not None:
            transaction.late = self._late(scope, session, frame)
        for other in scope.transactions:
            if other.holder is transaction.holder and self._is_nested(session, other):
                stack = self._capture(frame)
                self._file("nested_context", stack, scope, None, pending=other.stack)

    def _late(self, scope: Scope, session: t.Any, frame: FrameType) -> str | None:
        """Tell what comes after teardown has closed *session*, or the one before it in its registry."""
        if scope.session_number is None:
            return "teardown"  # only that runs between the answer's first line and its body
        older = session.hash_key < scope.session_number
        if older or (not self.in_context() and passes(frame, _REGISTRY)):
            return "stream"
        return None

    def _is_nested(self, session: t.Any, other: Transaction) -> bool:
        around = other.session()
        if around is None or around is session or not self.in_nested_context(session, around):
            return False
        return other.cursor is not None or bool(around.new or around.dirty or around.deleted)

    # Queries

    def legacy_query(self, query: t.Any, method: str, frame: FrameType) -> None:
        """Note a line that runs a legacy Query."""
        entity = next((each["entity"] for each in query.column_descriptions), None)
        name = getattr(entity, "__name__", None)
        self._file("legacy_query", self._capture(frame), self._scope(), None, entity=name, method=method)

    # Failures

    def failure(self, checkout: Checkout, connection: t.Any, context: t.Any, frame: FrameType) -> None:
        """Remember a statement that the database refused."""
        stack = self._capture(frame)
        if _SQLITE_WRONG_THREAD in str(context.original_exception):
            subject = checkout.transaction or checkout
            self._file("overlap", stack, self._scope() or subject.scope, subject, other=checkout.holder)
            return
        self._count_refused(checkout, context.execution_context)
        in_flush = runs(frame, _FLUSHING)
        if not in_flush and has_failed(connection.connection.dbapi_connection) is False:
            return  # it was refused before it reached the database, or was a transaction of its own
        current = connection.get_nested_transaction() or connection.get_transaction()
        leads_to = _nothing if current is None else weakref.ref(current)
        # The type alone: the message of a driver quotes the values that were refused.
        error = type(context.sqlalchemy_exception).__name__
        checkout.failure = Failure(error, stack, leads_to, in_flush=in_flush)
        checkout.closer = True
        if checkout.transaction is not None:
            checkout.transaction.failure = checkout.failure
            if context.statement is None:
                self.outcomes.commit_refused(checkout.transaction, stack, frame)
            if checkout.failure.in_flush:
                self._autoflush(checkout.transaction, context.sqlalchemy_exception, frame)

    def _count_refused(self, checkout: Checkout, refused: t.Any) -> None:
        """Let a write that was refused count as one: PyMySQL says of it that it matched no row."""
        record = checkout.transaction or checkout
        if record.cursor is not None and refused is not None and record.cursor is refused.cursor:
            record.cursor = _REFUSED

    def _autoflush(self, transaction: Transaction, error: BaseException, frame: FrameType | None) -> None:
        """Note rows that the database refused because a query flushed them before they were complete."""
        if not isinstance(error, (sa_exc.IntegrityError, sa_exc.DataError)):
            return
        while frame is not None and frame.f_code not in _AUTOFLUSHING:
            frame = frame.f_back
        if frame is not None:
            stack = self._capture(frame)
            name = type(error).__name__
            incident = self._file("autoflush", stack, transaction.scope, transaction, error=name)
            self.leaving[error] = functools.partial(incident.details.__setitem__, "left", True)

    def look_closer(self, checkout: Checkout, statement: str, parameters: t.Any, context: t.Any) -> None:
        """Look at a statement in a transaction that has failed, follows a commit, or whose reads others have overtaken."""
        if checkout.failure is not None:
            self.use_after_failure(checkout, statement, context)
        if checkout.reloads is not None:
            self.outcomes.statement(checkout, context)
        if checkout.reads is not None:
            here = functools.partial(self._capture, sys._getframe(1))
            self.stale.read(checkout, statement, parameters, context, here)

    def use_after_failure(self, checkout: Checkout, statement: str, context: t.Any) -> None:
        """Notice a statement in a transaction that has failed; a rollback in between puts it right."""
        connection = context.root_connection
        failure = checkout.failure
        assert failure is not None
        current = connection.get_nested_transaction() or connection.get_transaction()
        failed = has_failed(connection.connection.dbapi_connection)
        over = failed is False or statement.startswith(_SAVEPOINT_WORDS)
        if over or failure.transaction_ref() is not current:
            checkout.failure = None
            if checkout.transaction is not None:
                checkout.transaction.failure = None
        elif not failure.used and (failed or not self.in_autocommit(connection, context.execution_options)):
            failure.used = True
            self._file("failed", failure.stack, checkout.scope, checkout, failure=failure, how="used")

    def committing(self, transaction: Transaction, session: t.Any) -> None:
        """Look closer at the commit of a transaction that is unlike most."""
        if transaction.tables is not None:
            self.stale.published(transaction, session)
        # PostgreSQL answers the COMMIT of an aborted transaction with a silent rollback.
        self.left_failed(transaction, "committed")

    def left_failed(self, transaction: Transaction, how: str) -> None:
        """Note how a failed transaction was left: "used", "committed" or "left"."""
        failure = transaction.failure
        if failure is not None and not failure.used:
            failure.used = True
            self._file("failed", failure.stack, transaction.scope, transaction, failure=failure, how=how)

    # Writes

    def in_autocommit(self, connection: t.Any, options: t.Mapping[str, t.Any]) -> bool:
        """Whether each statement on *connection* commits by itself, by SQLAlchemy's or the driver's setting.

        :param options: the execution options of a statement on it.
        """
        level = options.get("isolation_level")
        told = opens_in_autocommit(connection.dialect) if level is None else level == "AUTOCOMMIT"
        return told or driver_autocommits(connection._dbapi_connection.dbapi_connection)

    def core_write(self, checkout: Checkout) -> bool:
        """Begin to count anew where a Core connection's writes go into another transaction than before.

        :return: whether its commits are to be followed from now on.
        """
        # Python makes one plain reference per object, so the same transaction has the same one.
        if checkout.written_ref is not None and checkout.written_ref is checkout.latest_ref:
            return False
        scope = checkout.scope
        if checkout.cursor is not None and scope is not None and not checkout.followed:
            self.commit(scope, None, sys._getframe(3))
        checkout.writes, checkout.cursor, checkout.wrote_at = 0, None, None
        checkout.written_ref = checkout.latest_ref
        if checkout.followed or scope is None or not scope.commits:
            return False
        checkout.followed = True
        return True

    def core_commit(self, checkout: Checkout, frame: FrameType) -> None:
        """Count a commit of a Core connection that is followed, if it has written anything."""
        if checkout.cursor is not None and checkout.scope is not None:
            checkout.cursor = None
            self.commit(checkout.scope, checkout, frame)

    def row_count(self, cursor: t.Any, context: t.Any) -> t.Any:
        """Return what will know the row count of a write: the cursor, where the driver keeps it after closing."""
        if context.isinsert or context.compiled is None or context.dialect.driver != "psycopg":
            return cursor
        kept = RowCount()
        context.post_exec = functools.partial(kept.read, weakref.ref(context), cursor)
        return kept

    def core_end(self, checkout: Checkout, frame: FrameType) -> None:
        """Count the last write transaction of a Core connection, which was neither lost nor left by an exception."""
        checkout.cursor = None
        scope = checkout.scope
        if scope is None or checkout.followed:
            return
        if not checkout.lost and not checkout.left_by(sys.exc_info()[1]):
            # Otherwise it may have been rolled back by its own word.
            sure = checkout if runs(frame, _COMMITTING_BLOCK) else None
            self.commit(scope, sure, frame)

    def core_loss(self, checkout: Checkout) -> None:
        """Note writes of a Core connection that was closed without a commit."""
        if checkout.transaction is not None or checkout.left_by(sys.exc_info()[1]):
            return
        if checkout.written_ref is not checkout.latest_ref:
            return  # what was written went into an earlier transaction, which was ended by its own word
        checkout.count_write(None)
        if checkout.writes and not _commits_by_itself(checkout):
            checkout.lost = True
            self._file("lost_write", checkout.stack, checkout.scope, checkout)

    def commit(
        self, scope: Scope, record: Checkout | Transaction | None, frame: FrameType, session: t.Any = None
    ) -> None:
        """Count a commit, and from a scope's second on its line as well: most scopes have only one.

        :param record: what was committed for certain.
        """
        if not scope.commits:
            # In this order: who sees that there was one asks which.
            scope.first_commit = record
            scope.commits = 1
            return
        scope.commits += 1
        if scope.error is None and not is_work(scope.first_commit, self._ledger.stacks):
            scope.first_commit = record
        if isinstance(record, Transaction):
            self.outcomes.committed_again(record, scope)
        calls = scope.commit_calls
        if calls is None:
            calls = scope.commit_calls = {}
        stacks = self._ledger.stacks
        call = stacks.application_call(frame) or stacks.application_call(awaiting_frame())
        calls[call] = calls.get(call, 0) + 1
        if session is not None:
            self.grown(scope, frame, session)

    def grown(self, scope: Scope | None, frame: FrameType, session: t.Any) -> None:
        """Follow how many objects a session keeps from commit to commit."""
        count = self._growths.past(self._ledger.most_objects, session)
        if count:
            # Not to the scope: one that ends never does not tell until then.
            incident = Incident("grown", self._capture(frame), self._holder(), scope, None, objects=count)
            self._ledger.incidents.append(incident)

    def late_rollback(self, transaction: Transaction) -> None:
        """Note writes that are rolled back although the response says that all went well."""
        transaction.count_write(None)
        if transaction.writes and not transaction.external:
            self._loss(transaction, "a rollback after the response had been built threw away")

    def ending(self, transaction: Transaction, frame: FrameType) -> None:
        """Find out how a transaction that wrote or failed has ended without a commit."""
        asked = runs(frame, _ROLLING_BACK)
        handled = sys.exc_info()[1]
        raised = handled if transaction.left_by(handled) else None
        transaction.count_write(None)
        if asked:
            self.outcomes.undone(transaction, frame)
        self.outcomes.left_uncommitted(transaction)
        failed = transaction.failure is not None
        if isinstance(handled, sa_exc.PendingRollbackError):
            self.left_failed(transaction, "used")
        elif not asked and raised is None:
            self.left_failed(transaction, "left")
        if asked or transaction.rolled_back:
            transaction.ending = "error" if raised is not None or failed else "rollback"
            return
        transaction.ending = "error" if raised is not None else "rollback_on_close"
        if not transaction.writes or failed or transaction.external or raised is not None:
            return
        if not any(map(_commits_by_itself, transaction.checkouts)):
            self._loss(transaction, "the session was closed without commit(), which threw away")

    def dropped(self, session: t.Any, state: t.Any, frame: FrameType) -> None:
        """Note an object with unsaved changes that close() lets go of."""
        # expunge() and an explicit rollback fire the same event, but there somebody asked for it.
        if runs(frame, _ROLLING_BACK) or not runs(frame, _CLOSING):
            return
        transaction = self._ledger.transactions.get(session.hash_key) or self._last_of(session)
        if transaction is None or transaction.failure is not None or transaction.left_by(sys.exc_info()[1]):
            return
        name = state.class_.__name__
        dropped = transaction.dropped
        if dropped is None:
            dropped = transaction.dropped = {}
        dropped[name] = dropped.get(name, 0) + 1
        self._loss(transaction, "the session was closed without commit(), which threw away")

    # What comes after

    def ended_by(self, transaction: Transaction, frame: FrameType | None) -> None:
        """Remember the application's call that ended a transaction, unless that is the end of a "with" block.

        :param frame: one that is inside of SQLAlchemy still.
        """
        while frame is not None:
            code = frame.f_code
            if code in _LEAVING_BLOCK:
                return
            if code is _REMOVING:
                transaction.registry_ref = weakref.ref(frame.f_locals["self"])
            elif not is_library(code.co_filename):
                if self._ledger.stacks.is_application(code.co_filename):
                    transaction.ended_by = (code, frame.f_lasti)
                return
            frame = frame.f_back

    def begun_again(self, scope: Scope, session: t.Any, frame: FrameType | None) -> None:
        """Notice that a session whose changes were thrown away by close() is used again as if it had them."""
        for incident in scope.incidents or ():
            lost, details = incident.subject, incident.details
            if incident.kind != "lost_write" or "followed" in details:
                continue
            if closed_midway(lost) and _continues(lost, session):
                details["followed"] = True
                self._midway(lost, scope, "lost", self._capture(frame))

    def empty_commit(self, transaction: Transaction, session: t.Any, frame: FrameType | None) -> None:
        """Notice a commit of nothing by a session that was closed before, together with what it had loaded."""
        scope = transaction.scope
        last = None if scope is None else scope.last_transaction
        if not transaction.external and closed_midway(last) and not last.lost and _continues(last, session):
            self._midway(last, scope, "empty", self._capture(frame))

    def _midway(self, closed: Transaction, scope: Scope | None, how: str, used: Stack) -> Incident:
        assert closed.ended_by is not None
        return self._file("midway", (closed.ended_by,), scope, closed, how=how, used=used)

    def _last_of(self, session: t.Any) -> Transaction | None:
        scope = self._scope()
        last = None if scope is None else scope.last_transaction
        return last if last is not None and last.session_key == session.hash_key else None

    def _loss(self, transaction: Transaction, how: str) -> None:
        if not transaction.lost:
            transaction.lost = True
            transaction.lost_how = how
            self._file("lost_write", transaction.stack, transaction.scope, transaction)


def _commits_by_itself(checkout: Checkout) -> bool:
    """Whether a driver that was not asked at the write commits by itself; the application may have told it so."""
    record = checkout.pooled.record_ref() if checkout.pooled.transactional else None
    connection = None if record is None else record.dbapi_connection
    return connection is not None and driver_autocommits(connection)


def closed_midway(transaction: t.Any) -> t.TypeGuard[Transaction]:
    """Whether the application closed the session of *transaction* in the middle of a request, outside of a block."""
    return (
        isinstance(transaction, Transaction)
        and transaction.ended_by is not None
        and transaction.ending == "rollback_on_close"
    )


def _continues(closed: Transaction, session: t.Any) -> bool:
    """Whether *session* is the one that was closed, or stands in its place in the registry that removed it."""
    if closed.session() is session:
        return True
    registry = None if closed.registry_ref is None else closed.registry_ref()
    return registry is not None and registry.registry.has() and registry.registry() is session


def _nothing() -> None:
    return None


def _operates(frame: FrameType | None, checkout: Checkout) -> bool:
    """Whether another thread, at *frame*, is inside an operation on this very session or connection."""
    session = checkout.transaction.session() if checkout.transaction is not None else None
    proxy = checkout.connection
    while frame is not None:
        if frame.f_code.co_filename in _OPERATING:
            used = frame.f_locals.get("self")
            if used is not None and (used is session or getattr(used, "_dbapi_connection", None) is proxy):
                return True
        frame = frame.f_back
    return False


def _surrounds(outer: Scope, scope: Scope) -> bool:
    """Whether *scope* was begun inside of *outer*."""
    around: Scope | None = scope
    while around is not None and around is not outer:
        around = around.parent
    return around is outer


def _begun_at_import(stack: Stack) -> bool:
    return any(code.co_filename.startswith("<frozen importlib") for code, _ in stack)
