"""The composition root: puts recorder, rules, sinks and web together for an application."""

from __future__ import annotations

import contextlib
import typing as t
import weakref
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence

import flask

from .cli import sessionwatch
from .finding import Finding
from .observe.middleware import hook_in
from .observe.middleware import unhook
from .observe.records import Scope
from .observe.server import Server
from .observe.startup import startup
from .process import Process
from .report.allowed import Allowed
from .report.allowed import Allowing
from .report.baseline import Baseline
from .report.baseline import no_such_rule
from .report.baseline import read
from .report.dispatcher import Sink
from .report.harvest import HarvestCounter
from .report.logs import LogSink
from .report.metrics import REGISTRY
from .report.metrics import CollectorRegistry
from .report.signals import SignalSink
from .rules import DEFAULT_RULES
from .rules import Rule
from .settings import ConfigError
from .settings import Settings
from .store import open_store
from .watched import Watched
from .web import Mount
from .web import create_web

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

KEY = "sessionwatch"
#: The prefix of pages that are not served: no path begins with it.
_NOWHERE = "\0"

_process = Process()
startup.listen()


class SessionWatch:
    """Watches the Sessions, transactions and connections of Flask applications.

    Give it the application, or call :meth:`init_app` later, before or after the database extension's own. It needs
    not be told which extension is used, and sees engines and sessions that exist already.

    :param app: the application to watch.
    :param rules: the rules to apply, :data:`DEFAULT_RULES` unless given.
    :param sinks: who is told of findings, ``[LogSink()]`` unless given. Signals are sent in any case.
    :param registry: where the metrics are registered.
    """

    #: Whether it leaves an application to the watch that the application makes for itself.
    gives_way = False
    #: Where its applications publish, whatever their settings say; None: as they say.
    store: str | None = None
    #: Whether its applications serve the pages.
    serves_pages = True

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        rules: Sequence[Rule] | None = None,
        sinks: Sequence[Sink] | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._rules = DEFAULT_RULES if rules is None else _checked_rules(rules)
        self._sinks = sinks
        self._allowed = Allowed()
        self._registry = registry
        self._watched: list[Watched] = []
        self._counters: list[HarvestCounter] = []
        self._by_app: weakref.WeakKeyDictionary[flask.Flask, Watched] = weakref.WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Watch *app*.

        :raises ConfigError: one of its SESSIONWATCH_* settings is unknown or makes no sense.
        :raises RuntimeError: the application is watched already.
        """
        present = app.extensions.get(KEY)
        if present is not None and not present.gives_way:
            raise RuntimeError(
                "This application has a 'SessionWatch' already. Did you call 'init_app' twice?"
            )
        settings = Settings.load(app.config)
        _check_rule_names(settings, self._rules)
        _check_store(settings)
        known = self._baseline_of(settings)
        watched = self._watched_of(app, settings, known)
        if settings.enabled:
            _process.add(watched)
        if present is not None:
            # Only now: without anybody to watch for, what is live would be forgotten.
            present.leave(app)
        app.extensions[KEY] = self
        # Not as an entry point: that would import the package in applications that do not use it.
        app.cli.add_command(sessionwatch)
        self._watched = [each for each in self._watched if not each.is_gone or each.dispatcher.findings]
        self._watched.append(watched)
        self._by_app[app] = watched
        if not settings.enabled:
            startup.finish()
            return
        _process.scopes.judges[app] = watched
        prefix = settings.url_prefix if self.serves_pages else _NOWHERE
        hook_in(app, self._pages_of(app, watched), prefix, _process.scopes, watched)

    def _pages_of(self, app: flask.Flask, watched: Watched) -> WSGIApplication:
        if not self.serves_pages:
            return app.wsgi_app
        return Mount(
            create_web(app, watched, _process, lambda: _process.picture(watched)),
            watched.settings.url_prefix,
            watched.spent.append,
        )

    def _watched_of(self, app: flask.Flask | None, settings: Settings, known: Baseline) -> Watched:
        sinks: list[Sink] = [LogSink(settings.log_format)] if self._sinks is None else list(self._sinks)
        sinks.append(SignalSink(app))
        on_error = _process.extension_failed
        setup = _process.setup_of(app)
        watched = Watched(
            app, settings, self._rules, sinks, self._registry, setup, on_error, self._allowed, known
        )
        if self.store is not None:
            watched.store = self.store
        return watched

    def _baseline_of(self, settings: Settings) -> Baseline:
        if settings.baseline is None or not settings.enabled:
            return Baseline()
        return Baseline(read(settings.baseline, (rule.code for rule in (*DEFAULT_RULES, *self._rules))))

    @property
    def findings(self) -> list[Finding]:
        """Every finding of this process, newest last."""
        found = [finding for watched in self._watched for finding in watched.dispatcher.findings]
        return sorted(found, key=lambda finding: finding.first_seen)

    def tick(self) -> list[Finding]:
        """Judge now instead of at the next tick.

        :return: what this look has found, including what was known already.
        """
        mine = {id(finding) for finding in _process.tick(asked=True)}
        return [finding for finding in self.findings if id(finding) in mine]

    @contextlib.contextmanager
    def scope(self, name: str, kind: str = "explicit") -> Iterator[Scope]:
        """Run a block, or with ``@watch.scope("name")`` a function, as a scope that should leave nothing behind."""
        with _process.scopes.explicit(name, self._current(), kind) as scope:
            yield scope

    def allow(self, *rules: str) -> Allowing:
        """Let a block, or with ``@watch.allow("SW103")`` a function, do on purpose what these rules would tell.

        It covers what begins or happens inside of the block, also in functions that are called from there and when
        the block is over, and what is held while its holder is in the block. A finding about its scope as a whole,
        such as the number of commits, is covered once the block was entered in that scope.

        :param rules: codes or names of rules, one or several.
        :raises ConfigError: one of them is no rule.
        """
        known = _names_of(self._rules)
        if not rules:
            raise ConfigError("'allow' takes codes or names of rules, such as allow(\"SW103\").")
        for name in rules:
            if name not in known:
                raise ConfigError(no_such_rule("'allow'", str(name), known))
        recorder = _process.recorder
        return Allowing(self._allowed, frozenset(rules), recorder.scope, recorder.failed)

    def count_with(self, counter: HarvestCounter) -> None:
        """Have *counter* told what has ended, at each tick, until the watch is closed."""
        counter.begin(_process.ledger)
        self._counters.append(counter)
        _process.account.counters.append(counter)

    def ignore(self, engine: t.Any) -> None:
        """Never watch *engine*, a SQLAlchemy Engine."""
        _process.recorder.engines.ignore(getattr(engine, "sync_engine", engine))

    def look_on(self, app: flask.Flask) -> Watched:
        """Let this process publish nothing, for it only looks at *app* and serves nobody; return what is known of it."""
        _process.look_on()
        return self._by_app[app]

    def examine(self, app: flask.Flask, server: Server | None = None) -> list[Finding]:
        """Return what is wrong with how *app* is set up, before it works and without a connection; nobody is told.

        :param server: the server that is to run it; None where nobody knows.
        """
        watched = self._by_app[app]
        with app.app_context():
            _process.foresee(watched, server)
            return watched.examine()

    def close(self) -> None:
        """Remove every listener and hook, and stop the thread. Call it while no request runs.

        What was found is told before, to those sinks as well that wait for the next tick.
        """
        try:
            _process.count()
        except Exception:
            _process.extension_failed("the metrics")
        while self._counters:
            counter = self._counters.pop()
            _process.account.counters.remove(counter)
            counter.end()
        for watched in self._watched:
            watched.active = watched.watching = False
            _process.remove(watched)
            watched.dispatcher.drain()
        for app in list(self._by_app):
            self.leave(app)

    def leave(self, app: flask.Flask) -> None:
        """Stop watching *app*, and remove every hook from it. What was found in it is kept."""
        watched = self._by_app.pop(app, None)
        if watched is None:
            return
        if watched.active:
            watched.active = watched.watching = False
            _process.remove(watched)
            watched.dispatcher.drain()
        _process.scopes.judges.pop(app, None)
        unhook(app, watched)
        if app.extensions.get(KEY) is self:
            del app.extensions[KEY]

    def tell_also(self, app: flask.Flask, sinks: Iterable[Sink]) -> None:
        """Tell *sinks*, too, of what is found in *app*."""
        watched = self._by_app.get(app)
        if watched is not None:
            watched.dispatcher.sinks.extend(sinks)

    def _current(self) -> Watched:
        """Return the application whose context is current, or else the one that was given first."""
        if flask.has_app_context():
            watched = self._by_app.get(flask.current_app._get_current_object())  # type: ignore[attr-defined]
            if watched is not None:
                return watched
        if not self._watched:
            self.watch_process()
        return next((each for each in self._watched if not each.is_gone), self._watched[0])

    def watch_process(self) -> Watched:
        """Watch plain SQLAlchemy, with the settings of the environment."""
        settings = Settings.load({})
        _check_store(settings)
        watched = self._watched_of(None, settings, self._baseline_of(settings))
        self._watched.append(watched)
        if settings.enabled:
            _process.add(watched)
        return watched


def show_process() -> None:
    """Let the others see this process now, and not only when there is work in it."""
    _process._wake()


def _check_store(settings: Settings) -> None:
    if settings.store is not None and settings.enabled:
        open_store(settings.store)


def _checked_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ConfigError(
                f"{rule!r} is not a rule. 'rules' takes instances, such as LongCheckout(threshold=2.0)."
            )
    return tuple(rules)


def _check_rule_names(settings: Settings, rules: Iterable[Rule]) -> None:
    """Refuse names of rules that do not exist, which would silently do nothing."""
    known = _names_of(rules)
    entries = [("SESSIONWATCH_IGNORE", each) for each in settings.ignore]
    entries += [("SESSIONWATCH_RAISE", each) for each in settings.raise_]
    for key, entry in entries:
        name = entry.partition("@")[0].partition(":")[0].strip()
        if name not in known:
            raise ConfigError(no_such_rule(f"'{key}'", name, known))


def _names_of(rules: Iterable[Rule]) -> set[str]:
    return {name for rule in (*DEFAULT_RULES, *rules) for name in (rule.code, rule.name)}
