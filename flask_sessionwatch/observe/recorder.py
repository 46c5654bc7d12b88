"""Turn SQLAlchemy's events into entries of the ledger.

Only Session, Pool and Dialect events are listened to: any Engine event makes every Connection build a joined
dispatcher, which alone costs more than this whole module. Listeners run inside the application's own calls,
sometimes inside the garbage collector, so each one is guarded and none of them blocks, logs or calls a rule. What a
healthy request never does is told to the :class:`~.notice.Noticer`.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import typing as t
import weakref
from os import getpid

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm
from sqlalchemy import pool as sa_pool

from . import greenlets
from . import identity
from .clock import clock
from .engines import KEY
from .engines import Engines
from .engines import pooled_of
from .errors import Errors
from .holder import Holder
from .ledger import Ledger
from .library import session_codes
from .notice import Noticer
from .pooled import Pooled
from .queries import Queries
from .records import Checkout
from .records import Incident
from .records import Scope
from .records import Transaction
from .records import current_scope
from .results import is_temporary
from .results import writes
from .stack import Stack
from .stack import handled
from .stale import is_long
from .waits import Waits

ERRORS_ENDURED = 10
#: Seconds from which on a transaction is looked at that may have ended unheard.
_UNHEARD_AFTER = 10.0

_AUTOBEGIN = orm.SessionTransactionOrigin.AUTOBEGIN
_BEGIN = orm.SessionTransactionOrigin.BEGIN
#: Runs when a Session begins because it needs a connection at once, and not because of an add() or a begin().
_FOR_CONNECTION = getattr(getattr(orm.Session, "_connection_for_bind", None), "__code__", None)
#: Runs when a connection is checked out for a Session.
_FOR_SESSION = session_codes("_connection_for_bind")
#: Frames between a listener of after_transaction_create and the code above.
_FRAMES_BETWEEN = 4
#: Frames between a listener and where the ways to it through SQLAlchemy part: behind Session.execute and Session.add.
_FORK_OF_CHECKOUT = 12
_FORK_OF_BEGIN = 6
#: Frames between a listener of after_transaction_end and, at the nearest, who ends a transaction.
_FRAMES_ENDING = 6


class Recorder:
    """Listens to every Session, Pool and Dialect of the process and keeps *ledger* true.

    :param ledger: where to write.
    :param on_error: told of an exception inside a listener, which never reaches the application.
    """

    def __init__(self, ledger: Ledger, on_error: t.Callable[[str], None]) -> None:
        self.ledger = ledger
        self.on_error = on_error
        self.active: bool = False
        #: Finds the scope of work that runs outside of any request; set by the layer that knows Flask.
        self.find_scope: t.Callable[[], Scope | None] = lambda: None
        #: Whether the watchdog runs in this process, and how to start it.
        self.awake = False
        self.wake: t.Callable[[], None] = _nothing
        #: Called in a child process that was forked without Python being told, as uWSGI does.
        self.on_fork: t.Callable[[], None] = ledger.fork
        #: What each thread, or each greenlet where there are any, has of its own.
        self.local: t.Any = threading.local()
        #: The latest check-out, until a Session has claimed it as its own.
        self.unclaimed: Checkout | None = None
        self.waits: Waits = Waits(ledger, self.holder, self.on_pool_timeout, self.failed)
        self.engines: Engines = Engines(ledger, self.waits.watch)
        self.notice: Noticer = Noticer(ledger, self.holder, self.scope)
        self.queries: Queries = Queries(ledger, self.notice.legacy_query, self.failed)
        self.errors: Errors = Errors(ledger, self.notice, self.on_error_left, self.failed)
        self._stacks = ledger.stacks
        self._attached = False
        self._hears_resets = False

    # Attaching

    def attach(self) -> None:
        """Start to listen. Engines and sessions that exist already are seen as well."""
        if not self.active:
            # A watch that is begun anew has ten errors to endure of its own.
            self.ledger.errors_forgiven = self.ledger.internal_errors
        self.active = self.queries.active = True
        self.tell_greenlets_apart()
        if self._attached:
            return
        self.ledger.stacks.mark_ways(_FORK_OF_CHECKOUT, _FOR_SESSION, self._note_sessionless)
        for target, name, listener, options in self._listeners():
            event.listen(target, name, listener, **options)
        self.queries.attach()
        self.waits.attach()
        self.errors.attach()
        self._attached = True
        self.ledger.attached_at = clock()

    def tell_greenlets_apart(self) -> None:
        """Keep a record per greenlet from now on, if there are any; until then it costs nothing."""
        if greenlets.in_use() and not isinstance(self.local, greenlets.GreenletLocal):
            self.local = greenlets.GreenletLocal(self.local)

    def detach(self) -> None:
        """Remove every listener.

        Call it while no request runs: SQLAlchemy walks its listeners without a lock.
        """
        self.active = False
        if not self._attached:
            return
        self._attached = False
        for target, name, listener, _ in self._listeners():
            if event.contains(target, name, listener):
                event.remove(target, name, listener)
        if event.contains(sa_pool.Pool, "reset", self.on_reset):
            event.remove(sa_pool.Pool, "reset", self.on_reset)
        self._hears_resets = False
        self.queries.detach()
        self.waits.detach()
        self.errors.detach()

    @property
    def is_deaf(self) -> bool:
        """Whether somebody else removed our listeners, as SQLAlchemy's own test fixtures do."""
        heard = all(event.contains(target, name, listener) for target, name, listener, _ in self._listeners())
        # Asked last: the watch may be taking its listeners off meanwhile, on another thread.
        return not heard and self._attached

    def _listeners(self) -> list[tuple[t.Any, str, t.Any, dict[str, t.Any]]]:
        raw = {"raw": True}
        return [
            (sa_pool.Pool, "connect", self.on_connect, {}),
            (sa_pool.Pool, "checkout", self.on_checkout, {}),
            (sa_pool.Pool, "detach", self.on_detach, {}),
            (sa.Engine, "do_connect", self.on_do_connect, {}),
            (sa.Engine, "do_execute", self.on_execute, {}),
            (sa.Engine, "do_executemany", self.on_execute, {}),
            (sa.Engine, "do_execute_no_params", self.on_execute_no_params, {}),
            (sa.Engine, "handle_error", self.on_error_raised, {}),
            (orm.Session, "after_transaction_create", self.on_transaction_create, {}),
            (orm.Session, "after_begin", self.on_begin, {}),
            (orm.Session, "after_commit", self.on_commit, {}),
            (orm.Session, "after_rollback", self.on_rollback, {}),
            (orm.Session, "after_transaction_end", self.on_transaction_end, {}),
            # Raw, because the wrapper for mapped objects costs a call for each object that a session held.
            (orm.Session, "pending_to_transient", self.on_pending_dropped, raw),
            (orm.Session, "persistent_to_detached", self.on_persistent_dropped, raw),
        ]

    def failed(self, where: str) -> None:
        """Count an error of our own; after ten the recorder steps aside and says so once."""
        ledger = self.ledger
        ledger.internal_errors += 1
        if ledger.internal_errors - ledger.errors_forgiven < ERRORS_ENDURED:
            self.on_error(where)
        elif self.active:
            # The listeners stay registered: removing them here would change a list that is being walked.
            self.active = self.queries.active = False
            self.on_error(where)

    def holder(self) -> Holder:
        """Return the record of the calling thread or greenlet."""
        try:
            known: Holder = self.local.holder
            return known
        except AttributeError:
            holder = self.local.holder = self.ledger.new_holder()
            return holder

    def scope(self) -> Scope | None:
        """Return the scope that the calling code is in."""
        scope = current_scope.get()
        if scope is None or scope.ended:
            return self.find_scope()
        return scope

    # Pool

    def on_do_connect(self, dialect: t.Any, connection_record: t.Any, cargs: t.Any, cparams: t.Any) -> None:
        """Remember when connecting began."""
        if self.active:
            try:
                self.local.connecting_at = clock()
            except Exception:
                self.failed("do_connect")

    def on_connect(self, dbapi_connection: t.Any, connection_record: t.Any) -> None:
        """Remember which engine and process a new connection belongs to, and how long it took."""
        if not self.active:
            return
        try:
            pooled = self.engines.connected(connection_record, dbapi_connection)
            connection_record.record_info[KEY] = pooled
            began_at = getattr(self.local, "connecting_at", None)
            if began_at is not None:
                self.local.connecting_at = None
                self.ledger.closed.append(("created", pooled.engine, clock() - began_at))
        except Exception:
            self.failed("connect")

    def on_checkout(  # noqa: C901, PLR0915, each call that is saved here is saved in every request
        self, dbapi_connection: t.Any, connection_record: t.Any, connection_proxy: t.Any
    ) -> None:
        """Enter a check-out into the ledger."""
        if not self.active:
            return
        try:
            try:
                pooled = connection_record.record_info[KEY]
            except KeyError:
                pooled = None
            if pooled is None or pooled.settled != getpid():
                pooled = self._settle(connection_record, pooled)
                if pooled is None:
                    return
            try:
                holder = self.local.holder
            except AttributeError:
                holder = self.holder()
            scope = current_scope.get()
            if scope is None or scope.ended:
                scope = self.find_scope()
            checkout = Checkout()
            checkout.pooled = pooled
            # The pool's own reference, which dies with the proxy as one of ours would.
            checkout.proxy = connection_record.fairy_ref
            checkout.holder = holder
            checkout.scope = scope
            checkout.stack = self._stacks.capture_application(_FORK_OF_CHECKOUT)
            checkout.began_at = checkout.last_at = clock()
            checkout.statements = 0
            checkout.ended_at = checkout.transaction = checkout.more = None
            if holder.noted:
                self._note_beginning(checkout, holder, connection_proxy)
            if pooled.fresh:
                pooled.fresh = False
                checkout.opened = True
            if pooled.checkout is None:
                pooled.checkout = holder.latest = self.unclaimed = checkout
            else:
                pooled.also = [*(pooled.also or ()), pooled.checkout]
                pooled.checkout = holder.latest = self.unclaimed = checkout
                self._end_closed_of(pooled)
            if scope is not None and scope.held is None and not scope.held_peak:
                scope.held = checkout
                scope.held_peak = 1
            else:
                self._enter_further(checkout)
        except Exception:
            self.failed("checkout")

    def _enter_further(self, checkout: Checkout) -> None:
        """Enter a check-out that belongs to no scope, or to one that has or had another."""
        scope = checkout.scope
        owner = checkout.holder if scope is None else scope
        count = 1
        if owner.held is None:
            owner.held = checkout
        else:
            owner.take(checkout)
            held = {each for each in owner.checkouts if not self.end_if_closed(each)}
            count = len(held)
            if count > 1:
                self.notice.nested(checkout, held)
        if scope is not None:
            if count > scope.held_peak:
                scope.held_peak = count
            else:
                self.notice.again(scope, checkout.stack)

    def _settle(self, record: t.Any, pooled: Pooled | None) -> Pooled | None:
        """Look closer at a connection whose engine is not known by name, or that another process opened."""
        pid = getpid()
        if self.ledger.pid != pid:
            self.on_fork()
        pooled = self.engines.settle(record, pooled)
        if pooled is None:
            return None
        self.ledger.enter(pooled)
        if not pooled.engine.reused:
            self.notice.engine_used(pooled.engine, sys._getframe(2))
        if pooled.pid != pid and pooled.foreign_to != pid:
            pooled.foreign_to = pid
            self.notice.forked(pooled, sys._getframe(2))
        return pooled

    def _note_sessionless(self) -> None:
        """Remember that the calling thread is checking out a connection for somebody else than a Session."""
        holder = self.holder()
        holder.noted = holder.sessionless = True

    def _note_beginning(self, checkout: Checkout, holder: Holder, proxy: t.Any) -> None:
        """Look closer at a check-out that was waited for, or that no Session's transaction will end."""
        holder.noted = False
        if holder.waited:
            checkout.waited, holder.waited = holder.waited, 0.0
        if holder.sessionless:
            holder.sessionless = False
            self._follow(checkout, proxy)

    def _follow(self, checkout: Checkout, proxy: t.Any) -> None:
        """Be told when a connection is given back, by the end of its proxy.

        The event for it would cost every other request as much as this one: what a Session has checked out ends with its
        transaction, which is listened to anyway.
        """
        checkout.proxy = weakref.ref(proxy, functools.partial(self.on_proxy_gone, checkout))

    def _part(self, checkout: Checkout) -> None:
        """Let *checkout* end by itself, and not with a Session's transaction."""
        connection = checkout.connection
        checkout.transaction = None
        if connection is None:
            self._end_checkout(checkout)
        else:
            self._follow(checkout, connection)

    def on_proxy_gone(self, checkout: Checkout, ref: object) -> None:
        """Take a check-out off the ledger. The collector may be at work, on any thread and at any moment."""
        if not self.active or checkout.ended_at is not None:
            return
        try:
            record = checkout.pooled.record_ref()
            # SQLAlchemy gives back what the collector took once everybody was told; close() does so before.
            if record is not None and record.fairy_ref is not None and record.fairy_ref() is None:
                self._collected(checkout)
            elif checkout.cursor is not None:
                self.notice.core_end(checkout, sys._getframe(0))
            self._end_checkout(checkout)
        except Exception:
            self.failed("checkin")

    def _end_checkout(self, checkout: Checkout) -> None:
        """End *checkout* by itself, unless a signal's handler or another thread has done so meanwhile."""
        now = clock()
        # Between these two lines Python lets nobody else run.
        if checkout.ended_at is not None:
            return
        checkout.ended_at = now
        if checkout.cursor is not None:
            checkout.cursor = None
        checkout.proxy = _gone
        self._release(checkout)
        self.ledger.closed.append(checkout)

    def _release(self, checkout: Checkout) -> None:
        """Take *checkout*, which has ended, off whoever has it."""
        pooled = checkout.pooled
        if pooled.also is not None:
            self._end_closed_of(pooled)
        elif pooled.checkout is checkout:
            pooled.checkout = None
        (checkout.scope or checkout.holder).let_go(checkout)

    def _end_closed_of(self, pooled: Pooled) -> None:
        """End the check-outs of a shared connection that are closed by now.

        A StaticPool hands one connection out many times, and its check-in does not say which of them ends. The one
        that is closing at this moment still looks open; the next look finds it.
        """
        present = [*(pooled.also or ()), *([] if pooled.checkout is None else [pooled.checkout])]
        pooled.also = None
        live = [each for each in present if not self.end_if_closed(each)]
        pooled.checkout = live[-1] if live else None
        pooled.also = live[:-1] or None

    def end_if_closed(self, checkout: Checkout) -> bool:
        """End *checkout* if its connection was returned or collected without anything telling so."""
        if checkout.ended_at is not None:
            return True
        transaction = checkout.transaction
        if transaction is not None and self.ledger.transactions.get(transaction.session_key) is transaction:
            if transaction.session() is None:
                self._forget(transaction)
            return checkout.ended_at is not None
        proxy = checkout.connection
        if proxy is not None and proxy.is_valid:
            return False
        self._end_checkout(checkout)
        return True

    def _collected(self, checkout: Checkout) -> None:
        """Note that the garbage collector returned a connection. It may run on any thread, at any moment."""
        checkout.ending = "collected"
        self.ledger.incidents.append(
            Incident("abandoned", checkout.stack, checkout.holder, checkout.scope, checkout)
        )

    def _forget(self, transaction: Transaction) -> None:
        """End a transaction whose Session is gone, or has ended it unheard."""
        live = self.ledger.transactions
        key = transaction.session_key
        # Whoever takes it off ends it: the session itself may be about to.
        if live.get(key) is not transaction or live.pop(key, None) is not transaction:
            return
        gone = transaction.session() is None
        if not transaction.committed:
            transaction.ending = "garbage_collected" if gone else transaction.ending or "rollback_on_close"
        for checkout in transaction.held:
            if checkout.connection is not None:
                # Somebody has it beside the session, and it is theirs alone now.
                self._part(checkout)
                transaction.checkouts = tuple(each for each in transaction.checkouts if each is not checkout)
            elif gone:
                self._collected(checkout)
        self._end(transaction)

    def on_detach(self, dbapi_connection: t.Any, connection_record: t.Any) -> None:
        """Take a detached connection off the ledger: its slot is the pool's again."""
        if not self.active:
            return
        try:
            pooled = connection_record.record_info.get(KEY)
            if pooled is not None and pooled.checkout is not None:
                pooled.checkout.ending = "detach"
                self._end_checkout(pooled.checkout)
        except Exception:
            self.failed("detach")

    def on_reset(self, dbapi_connection: t.Any, connection_record: t.Any, reset_state: t.Any) -> None:
        """Notice writes of a Core connection that its close() rolled back.

        Listened to from the first write over a Core connection on; where only sessions write, it costs nothing.
        """
        if not self.active or connection_record is None:
            return
        try:
            pooled = connection_record.record_info.get(KEY)
            checkout = None if pooled is None else pooled.checkout
            if checkout is not None and checkout.cursor is not None and reset_state.transaction_was_reset:
                self.notice.core_loss(checkout)
        except Exception:
            self.failed("reset")

    # Statements

    def on_execute(  # noqa: C901, as for on_checkout
        self, cursor: t.Any, statement: str, parameters: t.Any, context: t.Any
    ) -> None:
        """Note that a statement runs, and whether it writes."""
        if not self.active:
            return
        try:
            connection = context.root_connection
            try:
                record = connection._dbapi_connection._connection_record
                checkout = record.record_info[KEY].checkout
            except (AttributeError, KeyError):  # detached, ignored, or opened before the watch
                return
            if checkout is None:
                return
            try:
                holder = self.local.holder
            except AttributeError:
                holder = self.holder()
            if holder.latest is not checkout:
                self._note_use(checkout, holder)
            checkout.statements += 1
            checkout.last_at = clock()
            if checkout.transaction is None:
                checkout.latest_ref = _ref_to(connection.get_transaction())
            if (not statement or statement[0] != "S") and (
                context.isinsert
                or context.isupdate
                or context.isdelete
                or ((context.is_text or statement[:1] == "W") and writes(statement))
            ):
                self._note_write(checkout, cursor, connection, context)
            else:
                if "stream_results" in context.execution_options:
                    self.notice.streams(checkout, context, sys._getframe(1))
                if context.is_text or checkout.transaction is None:
                    self.notice.outcomes.told(checkout, statement)
            if checkout.more is not None and checkout.closer:
                self.notice.look_closer(checkout, statement, parameters, context)
        except Exception:
            self.failed("do_execute")

    def on_execute_no_params(self, cursor: t.Any, statement: str, context: t.Any) -> None:
        """Note a statement without parameters."""
        self.on_execute(cursor, statement, None, context)

    def _note_use(self, checkout: Checkout, holder: Holder) -> None:
        """Look at the use of a check-out that is not the one this thread used last."""
        if checkout.user is not holder:
            self.notice.hand_over(checkout, holder)
        # Another thread may have taken it over meanwhile: the next use of each is to be looked at then.
        holder.latest = checkout if checkout.user is holder else None
        scope = self.scope()
        if scope is not checkout.scope:
            self.notice.foreign_use(checkout.transaction, scope, sys._getframe(2))

    def _note_write(self, checkout: Checkout, cursor: t.Any, connection: t.Any, context: t.Any) -> None:
        target: Transaction | Checkout | None = checkout.transaction
        if target is None:
            target = checkout
            if not self._hears_resets:
                self._hear_resets()
            if self.notice.core_write(checkout):
                event.listen(connection, "commit", self.on_core_commit)
        if not context.isinsert:
            cursor = self.notice.row_count(cursor, context)
        if target.cursor is not None:
            target.count_write(cursor)
        elif (
            (not checkout.pooled.transactional or "isolation_level" in context.execution_options)
            and self.notice.in_autocommit(connection, context.execution_options)
        ) or (target.wrote_at is None and is_temporary(context)):
            return
        else:
            target.cursor = cursor
        long = self.ledger.long
        if long and (len(long) > 1 or checkout.transaction not in long):
            self.notice.stale.note_table(checkout.transaction, context)
        if target.wrote_at is None:
            error = handled()
            if error is not None or target.more is not None:
                _note_handled(target, error)
            # One view mostly flushes from one line: who began the transaction tells the ways apart.
            begun_by = id(target.stack[0][0]) if target.stack else 1
            frame = self.ledger.stacks.application_frame(_FORK_OF_CHECKOUT, begun_by)
            target.wrote_at = None if frame is None else (frame.f_code, frame.f_lasti)

    def on_core_commit(self, connection: t.Any) -> None:
        """Count a commit of a Core connection at its line.

        Listened to on a connection of its own, from the second transaction on that a scope writes by Core; until then the
        end of the transaction is enough, and costs nothing.
        """
        if not self.active:
            return
        try:
            pooled = pooled_of(connection)
            checkout = None if pooled is None else pooled.checkout
            if checkout is not None and checkout.followed:
                self.notice.core_commit(checkout, sys._getframe(1))
        except Exception:
            self.failed("commit")

    def _hear_resets(self) -> None:
        """Listen to the resets of pools from the first write over a Core connection on: only those need it."""
        # In this order: listening twice could not be taken back whole.
        self._hears_resets = True
        event.listen(sa_pool.Pool, "reset", self.on_reset)

    def on_error_raised(self, context: t.Any) -> None:
        """Remember where a statement failed, until a rollback puts it right."""
        if not self.active:
            return
        try:
            connection = context.connection
            # An error in binding parameters never reached the database; a dead connection is no transaction.
            if connection is None or not isinstance(context.sqlalchemy_exception, sa_exc.DBAPIError):
                return
            pooled = pooled_of(connection)
            if pooled is None or pooled.checkout is None:
                return
            if context.is_disconnect:
                self.notice.disconnected(pooled.checkout, context, sys._getframe(1))
            else:
                self.notice.failure(pooled.checkout, connection, context, sys._getframe(1))
        except Exception:
            self.failed("handle_error")

    # Sessions

    def on_transaction_create(self, session: t.Any, transaction: t.Any) -> None:
        """Enter a Session's root transaction; this is where a Session is first seen."""
        if not self.active:
            return
        try:
            origin = transaction.origin
            if origin is not _AUTOBEGIN and origin is not _BEGIN:
                if transaction.nested:
                    self.notice.outcomes.savepoint(session)
                return
            self.unclaimed = None
            if not self.awake:
                # Before the connection is there: to start a thread may let others run.
                self.find_scope()
            if sys._getframe(_FRAMES_BETWEEN).f_code is _FOR_CONNECTION:
                # after_begin follows at once, and knows the connection.
                return
            stack = self._stacks.capture_application(_FORK_OF_BEGIN)
            self._enter(session, None, stack)
        except Exception:
            self.failed("after_transaction_create")

    def _enter(  # noqa: C901, PLR0915, as for on_checkout
        self, session: t.Any, checkout: Checkout | None, stack: Stack
    ) -> Transaction:
        """Enter a Session's root transaction, which begins with *checkout* or without a connection."""
        begun = Transaction()
        begun.stack = stack
        if checkout is None:
            scope = current_scope.get()
            if scope is None or scope.ended:
                scope = self.find_scope()
            try:
                begun.holder = self.local.holder
            except AttributeError:
                begun.holder = self.holder()
            begun.began_at = clock()
        else:
            scope = checkout.scope
            begun.holder = checkout.holder
            begun.began_at = checkout.began_at
        if scope is None:
            scope = self.ledger.lender_of(session)
        begun.session_key = key = session.hash_key
        if identity.UNKNOWN:
            identity.remember(session)
        # Python makes one plain reference per object: the objects of this session lead to the same one.
        begun.identity_ref = session.identity_map._wr
        begun.ended_at = begun.ending = begun.cursor = begun.wrote_at = begun.more = None
        begun.writes = 0
        begun.checkouts = ()
        begun.scope = scope
        error = handled()
        if error is not None:
            _note_handled(begun, error)
        self.ledger.transactions[key] = begun
        if scope is not None:
            if scope.begun is None:
                scope.begun = begun
                if scope.answer is not None:
                    self.ledger.long.add(begun)
                    self.notice.further(begun, session, sys._getframe(2))
            else:
                self.notice.further(begun, session, sys._getframe(2))
                scope.enter(begun)
            if scope.more is not None:
                if scope.kind != "request":
                    self.ledger.long.add(begun)
                if scope.incidents is not None:
                    self.notice.begun_again(scope, session, sys._getframe(2))
        else:
            self.ledger.long.add(begun)
        return begun

    def on_begin(  # noqa: C901, PLR0915, as for on_checkout
        self, session: t.Any, transaction: t.Any, connection: t.Any
    ) -> None:
        """Join a Session's transaction to the connection it has just checked out."""
        if not self.active:
            return
        try:
            transactions = self.ledger.transactions
            key = session.hash_key
            begun = transactions[key] if key in transactions else None  # noqa: SIM401, at half the cost of get()
            checkout = self.unclaimed
            self.unclaimed = None
            if checkout is None or checkout.proxy() is not connection._dbapi_connection:
                # It runs on somebody else's connection, or another thread has checked one out meanwhile.
                checkout = _claimed(transaction, connection)
            if begun is None:
                if checkout is None:
                    stack = self._stacks.capture_application(_FORK_OF_CHECKOUT)
                else:
                    stack = checkout.stack
                begun = self._enter(session, checkout, stack)
            elif (
                checkout is not None
                and checkout.transaction is None
                and session._flushing
                and begun.wrote_at is None
            ):
                # The line that flushes writes first, and was found when it checked out the connection.
                stack = checkout.stack
                if stack and (
                    (begun.stack and stack[0][0] is begun.stack[0][0])
                    or self.ledger.stacks.is_application(stack[0][0].co_filename)
                ):
                    begun.wrote_at = stack[0]
                    error = handled()
                    if error is not None or begun.more is not None:
                        _note_handled(begun, error)
            if checkout is None:
                begun.external = not begun.checkouts
            elif checkout.transaction is None:
                checkout.transaction = begun
                # From now on the transaction tells: this would be a call more when the connection is returned.
                checkout.proxy = _gone
                begun.checkouts = (*begun.checkouts, checkout) if begun.checkouts else (checkout,)
                scope = begun.scope
                if checkout.scope is not scope:
                    self.notice.foreign_use(begun, checkout.scope, sys._getframe(1))
                elif scope is not None and scope.last_transaction is not None:
                    self.notice.outcomes.begun_again(begun, checkout, scope, session)
        except Exception:
            self.failed("after_begin")
            self._lose_track(session)

    def on_commit(self, session: t.Any) -> None:  # noqa: C901, as for on_checkout
        """Count a commit; the release of a savepoint is none."""
        if not self.active:
            return
        try:
            try:
                begun = self.ledger.transactions[session.hash_key]
            except KeyError:
                return
            # Only one that has remembered more than most can have had a savepoint, or have failed.
            if begun.more is not None:
                if session.in_nested_transaction():
                    return
                self.notice.committing(begun, session)
            begun.ending = "commit"
            if session._flushing:
                self.notice.ended_by(begun, sys._getframe(1))
            if begun.checkouts:
                scope = begun.scope
                if scope is None or scope.ended:
                    scope = self.scope()
                if scope is not None:
                    if scope.commits:
                        self.notice.commit(scope, begun, sys._getframe(1), session)
                    else:
                        # In this order: who sees that there was one asks which.
                        scope.first_commit = begun
                        scope.commits = 1
                else:
                    self.notice.grown(None, sys._getframe(1), session)
            elif begun.scope is not None:
                self.notice.empty_commit(begun, session, sys._getframe(1))
        except Exception:
            self.failed("after_commit")
            self._lose_track(session)

    def on_rollback(self, session: t.Any) -> None:
        """Note a rollback. One that comes after the answer was built throws away what was promised."""
        if not self.active:
            return
        try:
            begun = self.ledger.transactions.get(session.hash_key)
            if begun is None:
                return
            if session.in_nested_transaction():
                self.notice.outcomes.savepoint_undone(begun)
                return
            begun.rolled_back = True
            # A listener of the commit that fails undoes nothing.
            if not begun.committed:
                begun.ending = "rollback"
            if begun.cursor is not None and begun.scope is not None and begun.scope.answer is not None:
                self.notice.late_rollback(begun)
        except Exception:
            self.failed("after_rollback")
            self._lose_track(session)

    def on_transaction_end(  # noqa: C901, PLR0915, as for on_checkout
        self, session: t.Any, transaction: t.Any
    ) -> None:
        """Take a Session's root transaction off the ledger."""
        if not self.active:
            return
        try:
            origin = transaction.origin
            if origin is not _AUTOBEGIN and origin is not _BEGIN:
                if transaction.nested:
                    self.notice.outcomes.savepoint_ended(session, sys._getframe(1))
                return
            ledger = self.ledger
            begun = ledger.transactions.pop(session.hash_key, None)
            if begun is None:
                return
            if ledger.long:
                ledger.long.discard(begun)
            if begun.ending != "commit":
                if begun.cursor is not None or (begun.more is not None and begun.failure is not None):
                    self.notice.ending(begun, sys._getframe(1))
                elif begun.ending is None:
                    begun.ending = "rollback_on_close"
                scope = begun.scope
                # Flask answers first, and closes what is left over afterwards.
                if scope is not None and scope.answer is None and scope.environ is not None:
                    self.notice.ended_by(begun, sys._getframe(_FRAMES_ENDING))
            if origin is _BEGIN:
                self.notice.ended_by(begun, sys._getframe(_FRAMES_ENDING))
            # This is _end() once more: a call costs as much as what it does.
            begun.ended_at = now = clock()
            begun.cursor = None
            for checkout in begun.checkouts:
                if checkout.ended_at is None:
                    checkout.ended_at = now
                    scope = checkout.scope
                    pooled = checkout.pooled
                    if (
                        scope is not None
                        and scope.held is checkout
                        and pooled.checkout is checkout
                        and pooled.also is None
                    ):
                        scope.held = pooled.checkout = None
                    else:
                        self._release(checkout)
            scope = begun.scope
            if scope is not None:
                if scope.begun is begun:
                    scope.begun = None
                else:
                    scope.leave(begun)
                scope.last_transaction = begun
            ledger.closed.append(begun)
        except Exception:
            self.failed("after_transaction_end")
            self._lose_track(session)

    def _lose_track(self, session: t.Any) -> None:
        """Drop a transaction whose record is no longer true, so that nobody is accused by it."""
        with contextlib.suppress(Exception):
            lost = self.ledger.transactions.pop(session.hash_key, None)
            if lost is not None:
                self.ledger.long.discard(lost)
                if lost.scope is not None:
                    lost.scope.leave(lost)
                for checkout in lost.held:
                    self._part(checkout)

    def _end(self, transaction: Transaction) -> None:
        self.ledger.long.discard(transaction)
        transaction.ended_at = now = clock()
        transaction.cursor = None
        for checkout in transaction.checkouts:
            if checkout.ended_at is None:
                checkout.ended_at = now
                self._release(checkout)
        if transaction.scope is not None:
            transaction.scope.leave(transaction)
            transaction.scope.last_transaction = transaction
        self.ledger.closed.append(transaction)

    def on_pending_dropped(self, session: t.Any, state: t.Any) -> None:
        """Notice a new object that close() throws away before it was ever flushed."""
        if not self.active:
            return
        try:
            self.notice.dropped(session, state, sys._getframe(1))
        except Exception:
            self.failed("pending_to_transient")

    def on_persistent_dropped(self, session: t.Any, state: t.Any) -> None:
        """Notice a changed object that close() throws away before the change was flushed."""
        if not state.modified or not self.active:
            return
        try:
            changed = state.obj()
            if changed is not None and session.is_modified(changed):
                self.notice.dropped(session, state, sys._getframe(1))
        except Exception:
            self.failed("persistent_to_detached")

    # Elsewhere

    def on_pool_timeout(self, pool: t.Any, error: BaseException) -> None:
        """Write down who holds the connections of *pool*, also into *error* itself."""
        info = self.engines.info(pool)
        if self.active and not info.ignored:
            self.notice.pool_timeout(info, error, sys._getframe(1))

    def on_error_left(self, error: BaseException) -> None:
        """Recognise an exception that left the application's code as the end of a longer story.

        :param error: an exception that left a view, an error handler, a block, a thread or the job of an executor.
        """
        if not self.active:
            return
        try:
            self.notice.error_left(error)
        except Exception:
            self.failed("an error that left")

    def adopt(self, record: t.Any, proxy: t.Any, stack: Stack, holder: Holder, began_at: float) -> None:
        """Enter a check-out that was made before the recorder was attached."""
        if record is None or proxy is None:
            return
        pooled = self.engines.settle(record, record.record_info.get(KEY))
        if pooled is None:
            return
        checkout = Checkout()
        checkout.pooled = pooled
        self._follow(checkout, proxy)
        checkout.holder = holder
        checkout.scope = None
        checkout.stack = stack
        checkout.began_at = checkout.last_at = began_at
        checkout.statements = 0
        checkout.ended_at = checkout.transaction = checkout.more = None
        checkout.early = True
        pooled.checkout = checkout
        self.ledger.enter(pooled)

    def prune(self) -> None:
        """Drop the records of Sessions and connections that died unheard, and see which transactions have become long ones."""
        ledger = self.ledger
        for transaction in ledger.transactions.copy().values():
            if _is_over(transaction):
                self._forget(transaction)
            elif transaction not in ledger.long and is_long(transaction):
                ledger.long.add(transaction)
        # One may have ended meanwhile, or unheard.
        for transaction in ledger.long.copy():
            if ledger.transactions.get(transaction.session_key) is not transaction:
                ledger.long.discard(transaction)
        for checkout in ledger.closed_unheard():
            if _was_seen(checkout):
                self.end_if_closed(checkout)
        for key, engine in list(ledger.engines.copy().items()):
            if engine.pool is None:
                engine.end()
                ledger.engines.pop(key, None)


def _is_over(transaction: Transaction) -> bool:
    """Whether its Session is gone, or has none any more: an exception may keep it from saying so."""
    session = transaction.session()
    if session is None:
        return True
    # Young ones are left alone, so that none of them dies on this thread.
    if clock() - transaction.began_at < _UNHEARD_AFTER or session.in_transaction():
        return False
    return all(each.connection is None for each in transaction.held) and _was_seen(transaction)


def _was_seen(record: Checkout | Transaction) -> bool:
    """Whether an earlier tick has found *record* ended already; before, its thread may be about to tell so."""
    seen, record.unheard = record.unheard, True
    return seen


def _ref_to(transaction: t.Any) -> weakref.ref[t.Any] | None:
    return None if transaction is None else weakref.ref(transaction)


def _note_handled(record: Transaction | Checkout, error: BaseException | None) -> None:
    """Remember what was being handled when *record* began or first wrote."""
    record.handled = 0 if error is None else id(error)
    record.in_handler = error is not None and record.scope is not None and record.scope.error is not None


def _nothing() -> None:
    """Do nothing."""


def _gone() -> None:
    """Stand for the reference to a proxied connection that was returned."""


def _claimed(transaction: t.Any, connection: t.Any) -> Checkout | None:
    """Return the check-out that a SessionTransaction has made for itself; None for somebody else's."""
    entry = getattr(transaction, "_connections", {}).get(connection)
    pooled = pooled_of(connection)
    return None if pooled is None or entry is None or not entry[3] else pooled.checkout
