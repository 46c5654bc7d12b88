"""How an application is set up, and what it was seen doing, as plain facts for the rules on configuration.

Nothing here runs inside of a request: the watchdog hands over what has ended.
"""

from __future__ import annotations

import sys
import typing as t
import weakref
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Mapping

from sqlalchemy import orm

from .ended import Ended
from .holder import Holder
from .ledger import Ledger
from .listeners import Listeners
from .listeners import is_listening
from .pooled import EngineInfo
from .records import Checkout
from .records import Scope
from .records import Transaction
from .server import Server
from .server import main_frame
from .server import server_around
from .stack import Stack

#: Sessions that outlived their request and are remembered until they are used again.
_SESSIONS_KEPT = 1_000


class Inherited(t.NamedTuple):
    """Connections that were open in the parent process when this one was forked."""

    engine: EngineInfo
    connections: int
    #: Where the parent last used one; empty where nobody watched.
    stack: Stack


class Served(t.NamedTuple):
    """A Session that is still there although the request it served is over."""

    scope: Scope
    #: Leads to its identity map, which close() replaces by a new one.
    identity_map: weakref.ref[t.Any]
    #: The number of the look at which this was seen.
    look: int


class Setup:
    """The facts about one application.

    :param app: the Flask application, which is only read and never held; None for plain SQLAlchemy.
    :param ledger: what is live.
    :param listeners: the listeners of the process.
    """

    def __init__(self, app: t.Any, ledger: Ledger, listeners: Listeners) -> None:
        self._app_ref: t.Callable[[], t.Any] = _nothing if app is None else weakref.ref(app)
        self.ledger = ledger
        self.listeners = listeners
        #: The server whose code was running when the application was made.
        self.made_by: Server | None = server_around(sys._getframe())
        #: What was open in the parent process when this one was forked.
        self.inherited: list[Inherited] = []
        #: Whether it is judged by what it is going to do.
        self.foreseen: bool = False
        #: Whether somebody has asked for the metrics.
        self.scraped = False
        self._said: set[Hashable] = set()
        self._forget_work()

    def _forget_work(self) -> None:
        #: Whether a scope of this application is over.
        self.worked: bool = False
        #: Where its first Session transaction was begun, and where it wrote first.
        self.began: Stack = ()
        self.wrote: Stack = ()
        #: The threads whose requests checked out from each engine.
        self.users: weakref.WeakKeyDictionary[EngineInfo, weakref.WeakSet[Holder]] = (
            weakref.WeakKeyDictionary()
        )
        #: Transactions whose Session served a request before, and was neither closed nor removed in between.
        self.unremoved: list[Transaction] = []
        self._served: dict[int, Served] = {}
        self._looks = 0

    def after_fork(self, inherited: list[Inherited]) -> None:
        """Begin anew in a child process."""
        self._said.clear()
        self._forget_work()
        self.inherited = inherited

    def once(self, *key: Hashable) -> bool:
        """Whether this is asked for the first time: a fact that does not change is told once."""
        if key in self._said:
            return False
        self._said.add(key)
        return True

    # The application

    @property
    def config(self) -> Mapping[str, t.Any]:
        """The application's configuration; empty when the application is gone."""
        app = self._app_ref()
        return {} if app is None else app.config

    @property
    def under_test(self) -> bool:
        """Whether the application runs in debug mode or in tests."""
        return bool(self.config.get("DEBUG") or self.config.get("TESTING"))

    def extension(self, name: str) -> t.Any:
        """Return one of the application's extensions, or None."""
        app = self._app_ref()
        return None if app is None else app.extensions.get(name)

    @property
    def flask_sqlalchemy(self) -> t.Any:
        """The application's Flask-SQLAlchemy, or None; Flask-SQLAlchemy-Lite has another set of options."""
        extension = self.extension("sqlalchemy")
        module = (
            ""
            if extension is None
            else next(
                (
                    each.__module__
                    for each in type(extension).__mro__
                    if each.__module__.startswith("flask_sqlalchemy")
                ),
                "",
            )
        )
        return extension if module.partition(".")[0] == "flask_sqlalchemy" else None

    @property
    def server(self) -> Server | None:
        """The server that runs the application, where it is one that can be recognised."""
        return self.made_by or server_around(main_frame())

    @property
    def tracks_modifications(self) -> bool:
        """Whether Flask-SQLAlchemy keeps every changed object, and nobody listens to the signals that it does it for."""
        module = sys.modules.get("flask_sqlalchemy.track_modifications")
        session = getattr(self.flask_sqlalchemy, "session", None)
        if module is None or session is None or not self.config.get("SQLALCHEMY_TRACK_MODIFICATIONS"):
            return False
        signals = (module.models_committed, module.before_models_committed)
        heard = any(getattr(signal, "receivers", None) for signal in signals)
        return not heard and is_listening(session, "before_flush", getattr(module, "_record_ops", None))

    @property
    def records_queries(self) -> bool:
        """Whether Flask-SQLAlchemy keeps every statement for as long as its app context lasts."""
        module = sys.modules.get("flask_sqlalchemy.record_queries")
        listener = getattr(module, "_record_end", None)
        engines = getattr(self.flask_sqlalchemy, "_app_engines", {}).get(self._app_ref(), {})
        return any(is_listening(each, "after_cursor_execute", listener) for each in engines.values())

    def foresee(self, engines: Iterable[EngineInfo], server: Server | None) -> None:
        """Take it that the application will use these engines, under this server; it has not begun to work yet.

        :param server: the server that is to run it; None where nobody knows.
        """
        self.foreseen = True
        self.made_by = server or self.made_by
        for each in engines:
            self.users.setdefault(each, weakref.WeakSet())

    @property
    def engines(self) -> list[EngineInfo]:
        """The watched engines that this application has used, or is going to use."""
        return [each for each in list(self.users) if not each.ignored]

    # What it was seen doing

    def review(self, ended: Ended, owner: t.Any) -> None:
        """Learn from the records that have ended: those in a scope that *owner* judges."""
        self._looks += 1
        self.worked = self.worked or any(each.owner is owner for each in ended.scopes)
        for engine, checkouts in ended.checkouts_by_engine.items():
            own = [each for each in checkouts if each.scope is not None and each.scope.owner is owner]
            if own:
                self._review_checkouts(engine, own)
        for transaction in ended.transactions:
            scope = transaction.scope
            if scope is not None and scope.owner is owner:
                self._review_transaction(transaction, scope)

    def _review_checkouts(self, engine: EngineInfo, checkouts: list[Checkout]) -> None:
        users = self.users.get(engine)
        if users is None:
            users = self.users[engine] = weakref.WeakSet()
        users.update({each.holder for each in checkouts if _is_request(each.scope)})

    def _review_transaction(self, transaction: Transaction, scope: Scope) -> None:
        is_request = _is_request(scope)
        # A request has first to end; a worker may stay in one context for as long as it lives.
        self.worked = self.worked or not is_request
        if not self.began:
            self.began = transaction.stack
        if not self.wrote and transaction.wrote_at is not None:
            self.wrote = (transaction.wrote_at,)
        if is_request and scope.ended:
            session = transaction.session()
            if session is not None:
                self._review_session(session, transaction, scope)

    def _review_session(self, session: t.Any, transaction: Transaction, scope: Scope) -> None:
        """Remember a Session that outlived its request, and see whether it served one before."""
        key = session.hash_key
        before = self._served.get(key)
        if before is not None:
            if before.scope is scope or before.scope.holder is not scope.holder:
                return
            if self._was_left_open(session, before):
                self.unremoved.append(transaction)
        elif len(self._served) >= _SESSIONS_KEPT:
            self._served.clear()
        leads_to = weakref.ref(session.identity_map)
        self._served[key] = Served(scope, leads_to, self._looks)

    def _was_left_open(self, session: t.Any, before: Served) -> bool:
        """Whether nobody has closed *session* since the request *before*: a new identity map would be there."""
        if before.look < self._looks and before.identity_map() is session.identity_map:
            return True
        latest = before.scope.holder.scope
        is_idle = latest is not None and latest.ended and session.hash_key not in self.ledger.transactions
        return is_idle and len(session.identity_map) > 0

    def registry_of(self, session: t.Any) -> t.Any:
        """Return the plain ``scoped_session`` that *session* came from, or None.

        Flask-SQLAlchemy's own is left out: it is removed with its app context.
        """
        maker = type(session)
        for registry in self._registries():
            factory = registry.session_factory
            if getattr(factory, "class_", None) is maker and not _is_flask_sqlalchemys(registry):
                return registry
        return None

    def _registries(self) -> t.Iterator[t.Any]:
        """Yield the scoped_sessions in sight: in modules and extensions of the application, and around its views."""
        stacks = self.ledger.stacks
        places: list[t.Any] = []
        for module in list(sys.modules.values()):
            filename = getattr(module, "__file__", None)
            if isinstance(filename, str) and stacks.is_application(filename):
                places += list(vars(module).values())
        app = self._app_ref()
        if app is not None:
            places += [*app.extensions.values(), *app.config.values()]
            for view in list(app.view_functions.values()):
                places += _reachable_from(view)
        for place in places:
            if issubclass(type(place), orm.scoped_session):
                yield place
            else:
                yield from (each for each in _held_by(place) if issubclass(type(each), orm.scoped_session))


def _is_request(scope: Scope | None) -> bool:
    return scope is not None and (scope.more is None or scope.kind == "request")


def open_connections(ledger: Ledger) -> list[Inherited]:
    """Return what is open in each watched pool; no lock is taken, for a fork may have left it locked."""
    found = []
    for info in list(ledger.engines.values()):
        queue = getattr(getattr(info.pool, "_pool", None), "queue", None)
        count = ledger.used(info) + (0 if queue is None else len(queue))
        if queue is not None and count and not info.ignored:
            found.append(Inherited(info, count, _last_use(info, ledger)))
    return found


def _last_use(info: EngineInfo, ledger: Ledger) -> Stack:
    used = reversed((*Ended(ledger.closed.copy()).checkouts, *ledger.checkouts))
    return next((each.stack for each in used if each.engine is info), ())


def _reachable_from(view: t.Any) -> list[t.Any]:
    cells = getattr(getattr(view, "__wrapped__", view), "__closure__", None) or ()
    return [content for cell in cells for content in _content(cell)]


def _content(cell: t.Any) -> list[t.Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not assigned yet
        return []


def _held_by(place: t.Any) -> list[t.Any]:
    try:
        return list(vars(place).values())
    except Exception:  # a proxy that is bound to nothing, or an object without attributes of its own
        return []


def _is_flask_sqlalchemys(registry: t.Any) -> bool:
    scopefunc = getattr(registry.registry, "scopefunc", None)
    return str(getattr(scopefunc, "__module__", "")).startswith("flask_sqlalchemy")


def _nothing() -> None:
    return None
