"""SW7xx, first half: options and listeners that cost, mislead or do nothing."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.pooled import EngineInfo
from ..observe.source import registration_site
from ..observe.source import setting_site
from ..observe.stack import Site
from ..observe.stack import Stack
from .base import Moment
from .base import Rule

_TRACK = "SQLALCHEMY_TRACK_MODIFICATIONS"
_RECORD = "SQLALCHEMY_RECORD_QUERIES"
_COMMIT = "SQLALCHEMY_COMMIT_ON_TEARDOWN"
#: What Flask-SQLAlchemy 2 read and 3 does not, with what says the same now.
_REMOVED = {
    _COMMIT: "an explicit db.session.commit() in each view that writes",
    "SQLALCHEMY_NATIVE_UNICODE": "nothing, for every driver speaks Unicode now",
    "SQLALCHEMY_POOL_SIZE": "'pool_size' in SQLALCHEMY_ENGINE_OPTIONS",
    "SQLALCHEMY_POOL_TIMEOUT": "'pool_timeout' in SQLALCHEMY_ENGINE_OPTIONS",
    "SQLALCHEMY_POOL_RECYCLE": "'pool_recycle' in SQLALCHEMY_ENGINE_OPTIONS",
    "SQLALCHEMY_MAX_OVERFLOW": "'max_overflow' in SQLALCHEMY_ENGINE_OPTIONS",
}
_MYSQL = ("mysql", "mariadb")


def _set_at(option: str, moment: Moment) -> Site | None:
    """Return the application's line that sets *option*."""
    return setting_site(option, moment.ledger.stacks)


@dataclass(frozen=True)
class TrackModifications(Rule):
    """SQLALCHEMY_TRACK_MODIFICATIONS is on, and nobody listens to the signals it is for.

    What it does
        Tells once that Flask-SQLAlchemy keeps every object that a session adds, changes or deletes until the
        commit, for the signals ``models_committed`` and ``before_models_committed`` that have no receiver. The line
        is one that pays for it; the line that sets the option is named below. An application that connects to one of
        the signals uses the option and is not told.

    Why it matters
        A session normally lets go of an object once it was flushed. With the option a large import keeps every row
        in memory until it is committed, and each flush is slower.

    Example
        ::

            app.config["SQLALCHEMY_TRACK_MODIFICATIONS"] = True

    Instead
        ::

            app.config["SQLALCHEMY_TRACK_MODIFICATIONS"] = False   # or leave it out: that is the default

    Options
        None.
    """

    code = "SW701"
    name = "track-modifications"
    hint = "remove SQLALCHEMY_TRACK_MODIFICATIONS, or connect to its signal 'models_committed'."

    def at_start(self, moment: Moment) -> Iterable[Finding]:
        setup = moment.setup
        if not setup.tracks_modifications:
            return ()
        message = (
            f"{_TRACK} is on: every changed object is kept until the commit, for signals nobody receives."
        )
        return [_paid_at(self, moment, message, setup.wrote or setup.began, _TRACK, "written")]


@dataclass(frozen=True)
class RecordQueries(Rule):
    """SQLALCHEMY_RECORD_QUERIES is on outside of debug mode and tests.

    What it does
        Tells once that Flask-SQLAlchemy keeps the text, the parameters and the time of every statement for as long as
        the app context lasts. The line is one whose statements are kept; the line that sets the option is named
        below. In debug mode and in tests, where it is meant to be used, it is not told.

    Why it matters
        In a context that lives long, such as a worker's or a scheduler's, memory grows with every statement and is
        never freed. In a request each statement walks the stack, which is slow, and parameters may be secrets.

    Example
        ::

            app.config["SQLALCHEMY_RECORD_QUERIES"] = True

    Instead
        ::

            app.config["SQLALCHEMY_RECORD_QUERIES"] = app.debug

    Options
        None.
    """

    code = "SW702"
    name = "record-queries"
    hint = "turn SQLALCHEMY_RECORD_QUERIES on in debug mode only, and let app contexts be short."

    def at_start(self, moment: Moment) -> Iterable[Finding]:
        setup = moment.setup
        if setup.under_test or not setup.records_queries:
            return ()
        message = f"{_RECORD} is on: every statement is kept in memory until its app context ends."
        return [_paid_at(self, moment, message, setup.began, _RECORD, "begun")]


def _paid_at(rule: Rule, moment: Moment, message: str, stack: Stack, option: str, verb: str) -> Finding:
    """Make a finding at a line that pays for *option*, or else at the one that sets it."""
    set_at = _set_at(option, moment)
    paid_at = moment.ledger.stacks.site(stack)
    lines = [f"set at {set_at}"] if set_at is not None and paid_at is not None else []
    site, verb = (set_at, "set") if paid_at is None else (None, verb)
    details = {"option": option, "lines": lines}
    return rule.finding(moment, message, stack, None, site=site, verb=verb, details=details)


@dataclass(frozen=True)
class DuplicateListeners(Rule):
    """The same listener of a SQLAlchemy event is registered several times on one target.

    What it does
        Compares the application's listeners by their code and by what they close over. The same function registered
        twice counts once for SQLAlchemy too; but a function that is defined inside of ``create_app``, or inside of a
        view, is a new one each time, and all of them are called. Closures over different things, such as one per
        model, are not told, unless there are ever more of them.

    Why it matters
        With every application that a process makes, as a test suite does for each test, the hook runs once more for
        each event: audit rows are written many times, and tests become slower one by one. Registered inside of a
        request, it is a memory leak as well.

    Example
        ::

            def create_app():
                app = Flask(__name__)

                @event.listens_for(Session, "before_flush")
                def audit(session, context, instances): ...

    Instead
        ::

            @event.listens_for(Session, "before_flush")      # once, at import
            def audit(session, context, instances): ...

            def create_app():
                app = Flask(__name__)

    Options
        None.
    """

    code = "SW703"
    name = "duplicate-listeners"
    hint = "register listeners of a class once, at import, and those of an application on its own engine or session."

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        setup = moment.setup
        for identifier, code, times in setup.listeners.look():
            # Once, and again when there are ten times as many.
            if not setup.once(self.code, identifier, code, len(str(times))):
                continue
            message = f"The listener {code.co_name} of the event '{identifier}' is registered {times} times."
            details = {"event": identifier, "listener": code.co_name, "registered": times}
            yield self.finding(
                moment, message, (), None, site=registration_site(code), verb="registered", details=details
            )


@dataclass(frozen=True)
class RemovedOption(Rule):
    """An option is set that Flask-SQLAlchemy 3 ignores.

    What it does
        Tells the options of Flask-SQLAlchemy 2 that version 3 no longer reads, and what replaces them:
        SQLALCHEMY_COMMIT_ON_TEARDOWN, SQLALCHEMY_NATIVE_UNICODE, SQLALCHEMY_POOL_SIZE, SQLALCHEMY_POOL_TIMEOUT,
        SQLALCHEMY_POOL_RECYCLE and SQLALCHEMY_MAX_OVERFLOW. An option that is set to None or False asks for
        nothing and is told as info. So is SQLALCHEMY_COMMIT_ON_TEARDOWN when SW204 has told of the writes it lost:
        that is one bug, and this is its explanation.

    Why it matters
        Nothing fails. Whoever relies on the commit at teardown loses every write, and whoever sized the pool for a
        server has SQLAlchemy's default of 5 + 10.

    Example
        ::

            app.config["SQLALCHEMY_POOL_SIZE"] = 20

    Instead
        ::

            app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 20}

    Options
        None.
    """

    code = "SW705"
    name = "removed-option"
    level: t.ClassVar[Level] = "error"
    hint = "use SQLALCHEMY_ENGINE_OPTIONS for the pool, and commit explicitly."

    def at_start(self, moment: Moment) -> Iterable[Finding]:
        if moment.setup.flask_sqlalchemy is None:
            return
        config = moment.setup.config
        for option in _REMOVED:
            if option in config:
                yield self._told(option, config, moment)

    def _told(self, option: str, config: Mapping[str, t.Any], moment: Moment) -> Finding:
        return self.finding(
            moment,
            f"{option} is set, but Flask-SQLAlchemy 3 ignores it; in its place there is {_REMOVED[option]}.",
            (),
            None,
            level=self._level(option, config[option], moment),
            site=_set_at(option, moment),
            verb="set",
            about=option,
            details={"option": option},
        )

    def _level(self, option: str, value: t.Any, moment: Moment) -> Level:
        explains = option == _COMMIT and moment.has_told("SW204")
        return "info" if not value or explains or option == "SQLALCHEMY_NATIVE_UNICODE" else "error"


@dataclass(frozen=True)
class NoLivenessCheck(Rule):
    """An engine keeps connections that its server or a proxy closes, and does not notice.

    What it does
        Tells engines for MySQL or MariaDB, and for PostgreSQL behind PgBouncer, whose pool has neither
        ``pool_pre_ping`` nor ``pool_recycle``. PgBouncer is recognised by its port, 6432.

    Why it matters
        MySQL closes a connection that was idle for eight hours, and a proxy much earlier. The first request after a
        quiet night fails with "server has gone away".

    Example
        ::

            create_engine("mysql+pymysql://...")

    Instead
        ::

            create_engine("mysql+pymysql://...", pool_pre_ping=True)

    Options
        None.
    """

    code = "SW707"
    name = "no-liveness-check"
    level: t.ClassVar[Level] = "info"
    hint = "give the engine pool_pre_ping=True, or a pool_recycle below the server's time-out."

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        for engine in moment.setup.engines:
            if _goes_stale(engine) and moment.setup.once(self.code, engine.name):
                server = "PgBouncer" if engine.dialect == "postgresql" else engine.dialect
                message = f"Engine '{engine.name}' has neither pool_pre_ping nor pool_recycle, and {server} closes idle connections."
                yield self.finding(
                    moment, message, (), None, about=engine.name, details={"engine": engine.name}
                )


def _goes_stale(engine: EngineInfo) -> bool:
    pool = engine.pool
    pings, recycles = getattr(pool, "_pre_ping", True), getattr(pool, "_recycle", 0)
    keeps = engine.capacity is not None or getattr(pool, "_max_overflow", 0) == -1
    behind = engine.dialect in _MYSQL or (engine.dialect == "postgresql" and engine.port == 6432)
    return keeps and behind and not pings and recycles == -1
