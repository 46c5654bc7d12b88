"""The composition root: puts recorder, rules, sinks and web together for an application."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import threading
import typing as t
import weakref
from collections import deque
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

import flask

from .cli import sessionwatch
from .finding import LEVELS
from .finding import Finding
from .observe.ledger import Incident
from .observe.ledger import Ledger
from .observe.ledger import Scope
from .observe.ledger import current_scope
from .observe.recorder import ERRORS_ENDURED
from .observe.recorder import Recorder
from .observe.scopes import Middleware
from .observe.scopes import Scopes
from .observe.scopes import url_rule_of
from .observe.stack import Stacks
from .observe.startup import startup
from .report.dispatcher import Dispatcher
from .report.dispatcher import Ignored
from .report.dispatcher import Sink
from .report.logs import LogSink
from .report.logs import logger
from .report.metrics import REGISTRY
from .report.metrics import CollectorRegistry
from .report.metrics import Metrics
from .report.signals import SignalSink
from .report.signals import finding_resolved
from .report.signals import scope_ended
from .rules import DEFAULT_RULES
from .rules import Moment
from .rules import Rule
from .settings import ConfigError
from .settings import Settings
from .watchdog import Watchdog
from .web import Mount
from .web import create_web

KEY = "sessionwatch"


class Process:
    """What exists once per process: the ledger, the recorder, the scopes and the watchdog."""

    def __init__(self) -> None:
        self.stacks = Stacks(boundary=flask.Flask.full_dispatch_request.__code__)
        self.ledger = Ledger(self.stacks)
        self.recorder = Recorder(self.ledger, self._tell_error)
        self.scopes = Scopes(self.ledger, self.recorder)
        self.watchdog = Watchdog(self.tick, self._interval, self.recorder.failed)
        self.scopes.wake = self._wake
        self._watched: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._metrics: dict[CollectorRegistry, Metrics] = {}
        self._tick_lock = threading.RLock()
        self._told_deaf = False
        #: Errors in sinks and receivers: they are others' code, and no reason to step aside.
        self._extension_errors = 0
        os.register_at_fork(after_in_child=self._after_fork)

    @property
    def watched(self) -> list[Watched]:
        """Every application that is watched now."""
        return [each for each in list(self._watched) if each.active and not each.is_gone]

    def add(self, watched: Watched) -> None:
        """Watch an application; the first one attaches the recorder."""
        settings = watched.settings
        if self.watchdog.running and settings.tick < self._interval():
            # It may be in the midst of a longer wait; the next request starts it anew.
            self.watchdog.stop()
            self.scopes.awake = False
        self._watched.add(watched)
        self.stacks.depth = max(each.settings.stack_depth for each in self.watched)
        self.stacks.add_paths(watched.app_paths)
        early = startup.finish()
        self.recorder.attach()
        for each in early:
            self.recorder.adopt(each.record_ref(), each.proxy_ref(), each.stack, each.holder, each.began_at)
        watched.dispatcher.forget()
        self.metrics(watched.registry).announce(watched.rules)
        logger.debug("watching %s, tick %s s", watched.name, settings.tick)

    def remove(self, watched: Watched) -> None:
        """Stop watching an application; the last one detaches the recorder and stops the thread."""
        self._watched.discard(watched)
        if not self.watched:
            self.recorder.detach()
            self.watchdog.stop()
            self.scopes.awake = False
            self.ledger.forget()
        self._drop_metrics()

    def metrics(self, registry: CollectorRegistry) -> Metrics:
        """Return the metrics in *registry*; they are registered once, however many applications there are."""
        metrics = self._metrics.get(registry)
        if metrics is None:
            metrics = self._metrics[registry] = Metrics(registry)
        return metrics

    def tick(self) -> list[Finding]:
        """Judge now: what is live, and what has happened outside of any open scope."""
        with self._tick_lock:
            if not self.recorder.active:
                self.count()
                return []
            self.recorder.prune()
            self.scopes.end_collected()
            incidents: list[Incident] = _taken(self.ledger.incidents)
            told = [finding for each in self.watched for finding in each.tick(incidents)]
            self.count()
            self._check_hearing()
            return told

    def count(self) -> None:
        """Bring the metrics up to date."""
        self._drop_metrics()
        closed = _taken(self.ledger.closed)
        for registry, metrics in self._metrics.copy().items():
            dispatchers = [each.dispatcher for each in self.watched if each.registry is registry]
            errors = self.ledger.internal_errors + self._extension_errors
            metrics.update(self.ledger, closed, dispatchers, errors, self.watchdog.seconds)

    def _drop_metrics(self) -> None:
        """Unregister the metrics of registries that no application uses any more."""
        used = {each.registry for each in self.watched}
        for registry in self._metrics.copy():
            if registry not in used:
                unused = self._metrics.pop(registry, None)
                if unused is not None:
                    unused.unregister()

    def _check_hearing(self) -> None:
        if self.recorder.is_deaf and not self._told_deaf:
            self._told_deaf = True
            logger.warning(
                "somebody removed the listeners of flask_sessionwatch; it no longer sees every event"
            )

    def _interval(self) -> float:
        return min((each.settings.tick for each in self.watched), default=1.0)

    def _wake(self) -> None:
        if not self.watched:
            return
        # Also when there is no thread to be had: scopes are judged without it, and one refusal is enough.
        self.scopes.awake = True
        try:
            self.watchdog.start()
        except Exception:
            self.extension_failed("the start of the watchdog's thread")

    def extension_failed(self, where: str) -> None:
        """Count an error in a sink or a receiver, and log the first ten."""
        self._extension_errors += 1
        if self._extension_errors <= ERRORS_ENDURED:
            self._log_error(where)

    def _tell_error(self, where: str) -> None:
        self._log_error(where)
        if not self.recorder.active:
            with contextlib.suppress(Exception):
                self._step_aside()

    def _log_error(self, where: str) -> None:
        # On the path of a request: whatever the logging does must not come back into the application.
        with contextlib.suppress(Exception):
            logger.warning(
                "an error inside flask_sessionwatch (%s) was kept from the application", where, exc_info=True
            )

    def _step_aside(self) -> None:
        """Stop judging: a ledger that no longer hears every event would accuse the innocent."""
        for watched in self.watched:
            watched.watching = False
        self.ledger.forget()
        logger.error("flask_sessionwatch steps aside after ten errors of its own; it watches no more")

    def _after_fork(self) -> None:
        """Begin anew in a child process: what is live belongs to the parent."""
        self._tick_lock = threading.RLock()
        self.ledger.forget()
        self.ledger.internal_errors = self._extension_errors = 0
        self.watchdog.after_fork()
        self.scopes.awake = False
        for metrics in list(self._metrics.values()):
            metrics.after_fork()
        for watched in self.watched:
            watched.dispatcher.forget()


def _taken(waiting: deque[t.Any]) -> list[t.Any]:
    """Take what waits now; whatever comes meanwhile waits for the next time."""
    taken: list[t.Any] = []
    with contextlib.suppress(IndexError):  # somebody else may take, too
        taken.extend(waiting.popleft() for _ in range(len(waiting)))
    return taken


_process = Process()
startup.listen()


class Watched:
    """One application under watch: its settings, its rules and whom to tell."""

    def __init__(
        self,
        app: flask.Flask | None,
        settings: Settings,
        rules: Sequence[Rule],
        sinks: Sequence[Sink],
        registry: CollectorRegistry,
    ) -> None:
        self.settings = settings
        self.rules = tuple(rules)
        self.registry = registry
        self.active = self.watching = settings.enabled
        self.name = app.name if app is not None else "the process"
        self.app_paths = settings.app_paths or _folders_of(app)
        self.dispatcher = Dispatcher(sinks, Ignored(settings.ignore), _process.extension_failed)
        self._app_ref = weakref.ref(app) if app is not None else _nobody
        # The receivers themselves, so that asking costs a look and no call.
        judges_all = any(rule.every_scope for rule in self.rules)
        self.ears: Mapping[t.Any, t.Any] = {"a rule": True} if judges_all else scope_ended.receivers

    @property
    def is_gone(self) -> bool:
        """Whether the application was dropped without having been closed."""
        return self._app_ref is not _nobody and self._app_ref() is None

    def concerns(self, scope: Scope | None) -> bool:
        """Whether work in *scope* is this application's; work outside of any scope is everybody's."""
        return scope is None or scope.owner is self

    def judge(self, scope: Scope) -> None:
        """Judge a scope that has ended."""
        if not self.watching:
            return
        moment = Moment(_process.ledger, self.settings, self.concerns)
        worst = -1
        for rule in self.rules:
            for finding in self._ask(rule, rule.at_scope_end, scope, moment):
                worst = max(worst, self._report(finding, scope))
            for incident in scope.incidents or ():
                for finding in self._ask(rule, rule.at_incident, incident, moment):
                    worst = max(worst, self._report(finding, scope))
        if worst > 0:
            scope.verdict = LEVELS[worst]
        if scope_ended.receivers:
            self.dispatcher.attempt(functools.partial(scope_ended.send, self._app_ref(), scope=scope))

    def tick(self, incidents: Iterable[Incident]) -> list[Finding]:
        """Judge what is live, and the incidents that concern this application."""
        moment = Moment(_process.ledger, self.settings, self.concerns)
        found = []
        for rule in self.rules:
            found += self._ask(rule, rule.at_tick, moment)
            for incident in incidents:
                if self.concerns(incident.scope):
                    found += self._ask(rule, rule.at_incident, incident, moment)
        told = [kept for kept in map(self.dispatcher.report, found) if kept is not None]
        # A sink hears of a finding before it hears that it is over.
        self.dispatcher.drain()
        self._resolve()
        return told

    def _ask(self, rule: Rule, judge: t.Callable[..., Iterable[Finding]], *args: t.Any) -> list[Finding]:
        try:
            return list(judge(*args))
        except Exception:
            _process.extension_failed(f"the rule {rule.code} {rule.name}")
            return []

    def _report(self, finding: Finding, scope: Scope) -> int:
        kept = self.dispatcher.report(finding)
        if kept is None:
            return -1
        if finding.rule in self.settings.raise_ or finding.code in self.settings.raise_:
            scope.told = finding.text
        return LEVELS.index(finding.level)

    def _resolve(self) -> None:
        for finding, subject in self.dispatcher.resolve():
            seconds = subject.ended_at - subject.began_at
            finding.details["held_seconds"] = round(seconds, 3)
            for sink in self.dispatcher.sinks:
                resolved = getattr(sink, "resolved", None)
                if resolved is not None:
                    self.dispatcher.attempt(resolved, finding, seconds)
            send = functools.partial(finding_resolved.send, self._app_ref(), finding=finding, seconds=seconds)
            self.dispatcher.attempt(send)

    def note_exception(self, error: BaseException) -> None:
        """Remember that an exception left the view, whatever an error handler makes of it."""
        try:
            scope = current_scope.get()
            if scope is not None and not scope.ended:
                scope.note_rule()
                scope.error = type(error).__name__
            _process.recorder.on_application_error(error)
        except Exception:
            _process.recorder.failed("an exception of the application")


def _nobody() -> None:
    return None


def _folders_of(app: flask.Flask | None) -> tuple[str, ...]:
    """Return the root path of *app* and the working folder, unless that was deleted."""
    folders = set() if app is None else {app.root_path}
    with contextlib.suppress(OSError):
        folders.add(os.getcwd())
    return tuple(folders)


class SessionWatch:
    """Watches the Sessions, transactions and connections of Flask applications.

    Give it the application, or call :meth:`init_app` later, before or after the database extension's own. It needs
    not be told which extension is used, and sees engines and sessions that exist already.

    :param app: the application to watch.
    :param rules: the rules to apply, :data:`DEFAULT_RULES` unless given.
    :param sinks: who is told of findings, ``[LogSink()]`` unless given. Signals are sent in any case.
    :param registry: where the metrics are registered.
    """

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
        self._registry = registry
        self._watched: list[Watched] = []
        self._by_app: weakref.WeakKeyDictionary[flask.Flask, Watched] = weakref.WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Watch *app*.

        :raises ConfigError: one of its SESSIONWATCH_* settings is unknown or makes no sense.
        :raises RuntimeError: the application is watched already.
        """
        if KEY in app.extensions:
            raise RuntimeError(
                "This application has a 'SessionWatch' already. Did you call 'init_app' twice?"
            )
        settings = Settings.load(app.config)
        _check_rule_names(settings, self._rules)
        app.extensions[KEY] = self
        # Not as an entry point: that would import the package in applications that do not use it.
        app.cli.add_command(sessionwatch)
        watched = Watched(app, settings, self._rules, self._sinks_for(app, settings), self._registry)
        self._watched.append(watched)
        self._by_app[app] = watched
        if not settings.enabled:
            startup.finish()
            return
        _process.add(watched)
        _process.scopes.judges[app] = watched
        self._hook_in(app, watched)

    def _sinks_for(self, app: flask.Flask | None, settings: Settings) -> list[Sink]:
        sinks = [LogSink(settings.log_format)] if self._sinks is None else list(self._sinks)
        return [*sinks, SignalSink(app)]

    def _hook_in(self, app: flask.Flask, watched: Watched) -> None:
        prefix = watched.settings.url_prefix
        pages = Mount(create_web(app, watched, _process), prefix)
        rule_of = functools.partial(url_rule_of, app)
        middleware = Middleware(app.wsgi_app, pages, prefix, _process.scopes, watched, rule_of)
        app.wsgi_app = middleware  # type: ignore[method-assign]
        handler = functools.partial(_handle_user_exception, watched, app.handle_user_exception)
        app.handle_user_exception = handler  # type: ignore[method-assign]

    @property
    def findings(self) -> list[Finding]:
        """Every finding of this process, newest last."""
        found = [finding for watched in self._watched for finding in watched.dispatcher.findings]
        return sorted(found, key=lambda finding: finding.first_seen)

    def tick(self) -> list[Finding]:
        """Judge now instead of at the next tick.

        :return: what this look has found, including what was known already.
        """
        mine = {id(finding) for finding in _process.tick()}
        return [finding for finding in self.findings if id(finding) in mine]

    @contextlib.contextmanager
    def scope(self, name: str, kind: str = "explicit") -> Iterator[Scope]:
        """Run a block, or with ``@watch.scope("name")`` a function, as a scope that should leave nothing behind."""
        with _process.scopes.explicit(name, self._current(), kind) as scope:
            yield scope

    def ignore(self, engine: t.Any) -> None:
        """Never watch *engine*, a SQLAlchemy Engine."""
        _process.recorder.ignore(getattr(engine, "sync_engine", engine))

    def close(self) -> None:
        """Remove every listener and hook, and stop the thread. Call it while no request runs."""
        try:
            _process.count()
        except Exception:
            _process.extension_failed("the metrics")
        for watched in self._watched:
            watched.active = watched.watching = False
            _process.remove(watched)
        for app, watched in list(self._by_app.items()):
            _process.scopes.judges.pop(app, None)
            _unhook(app, watched)
            if app.extensions.get(KEY) is self:
                del app.extensions[KEY]
        self._by_app.clear()

    def _current(self) -> Watched:
        """Return the application whose context is current, or else the one that was given first."""
        if flask.has_app_context():
            watched = self._by_app.get(flask.current_app._get_current_object())  # type: ignore[attr-defined]
            if watched is not None:
                return watched
        if not self._watched:
            self._watch_process()
        return next((each for each in self._watched if not each.is_gone), self._watched[0])

    def _watch_process(self) -> None:
        """Watch plain SQLAlchemy, with the settings of the environment."""
        settings = Settings.load({})
        watched = Watched(None, settings, self._rules, self._sinks_for(None, settings), self._registry)
        self._watched.append(watched)
        if settings.enabled:
            _process.add(watched)


def _handle_user_exception(watched: Watched, original: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
    """See every exception that leaves a view, also one that an error handler turns into an answer."""
    watched.note_exception(args[-1])
    return original(*args)


def _unhook(app: flask.Flask, watched: Watched) -> None:
    """Take our hooks off *app*; one that somebody has wrapped in turn stays, and passes everything through."""
    middleware: t.Any = app.wsgi_app
    if isinstance(middleware, Middleware) and middleware.owner is watched:
        _restore(app, "wsgi_app", middleware.application)
    handler: t.Any = app.handle_user_exception
    if isinstance(handler, functools.partial) and handler.args[:1] == (watched,):
        _restore(app, "handle_user_exception", handler.args[1])


def _restore(app: flask.Flask, name: str, original: t.Any) -> None:
    if getattr(original, "__func__", None) is getattr(type(app), name):
        vars(app).pop(name, None)
    else:
        setattr(app, name, original)


def _checked_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ConfigError(
                f"{rule!r} is not a rule. 'rules' takes instances, such as LongCheckout(threshold=2.0)."
            )
    return tuple(rules)


def _check_rule_names(settings: Settings, rules: Iterable[Rule]) -> None:
    """Refuse names of rules that do not exist, which would silently do nothing."""
    known = {name for rule in (*DEFAULT_RULES, *rules) for name in (rule.code, rule.name)}
    entries = [("SESSIONWATCH_IGNORE", each) for each in settings.ignore]
    entries += [("SESSIONWATCH_RAISE", each) for each in settings.raise_]
    for key, entry in entries:
        name = entry.partition("@")[0].partition(":")[0].strip()
        if name not in known:
            nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
            raise ConfigError(f"'{key}' names {name!r}, which is no rule. Did you mean '{nearest}'?")
