"""One application under watch: its settings, its rules and whom to tell."""

from __future__ import annotations

import contextlib
import functools
import os
import time
import typing as t
import weakref
from collections import deque
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import flask

from .finding import LEVELS
from .finding import Finding
from .observe.ended import Ended
from .observe.ledger import Ledger
from .observe.middleware import url_rule_of
from .observe.once import Once
from .observe.records import Incident
from .observe.records import Scope
from .observe.setup import Inherited
from .observe.setup import Setup
from .report.allowed import Allowed
from .report.dispatcher import Dispatcher
from .report.dispatcher import Ignored
from .report.dispatcher import Sink
from .report.metrics import CollectorRegistry
from .report.signals import finding_resolved
from .report.signals import scope_ended
from .report.timeline import engine_of
from .report.timeline import timeline
from .rules import Moment
from .rules import Rule
from .settings import Settings
from .store.native import thread_seconds

#: What the codes of rules on the application's configuration begin with.
CONFIGURATION = "SW7"
#: Spells of work between two ticks whose time is known.
_SPELLS_KEPT = 10_000


class Watched:
    """One application under watch.

    :param app: the application, or None to watch plain SQLAlchemy.
    :param settings: its settings.
    :param rules: the rules that judge its work.
    :param sinks: who is told of findings.
    :param registry: where its metrics are registered.
    :param setup: how the application is set up, and what is live in this process.
    :param on_error: told of an error in a rule, a sink or a receiver.
    :param allowed: what the application's code is allowed to do.
    :param known: which findings are in the baseline.
    """

    def __init__(
        self,
        app: flask.Flask | None,
        settings: Settings,
        rules: Sequence[Rule],
        sinks: Sequence[Sink],
        registry: CollectorRegistry,
        setup: Setup,
        on_error: t.Callable[[str], None],
        allowed: Allowed,
        known: t.Callable[[Finding], bool],
    ) -> None:
        self.settings = settings
        self.rules: tuple[Rule, ...] = tuple(rules)
        self.registry = registry
        self.setup = setup
        self.ledger: Ledger = setup.ledger
        self.on_error = on_error
        self.active: bool = settings.enabled
        self.watching: bool = settings.enabled
        self.name: str = app.name if app is not None else "the process"
        self.app_paths: tuple[str, ...] = settings.app_paths or _folders_of(app)
        self.dispatcher: Dispatcher = Dispatcher(sinks, Ignored(settings.ignore), self.on_error, known)
        self._allowed = allowed
        self._started = False
        #: CPU seconds of work for it on the application's own threads, one by one: adding them up would take a lock.
        self.spent: deque[float] = deque(maxlen=_SPELLS_KEPT)
        self.instance_path: str = "" if app is None else app.instance_path
        self._app_ref = weakref.ref(app) if app is not None else _nobody
        # The receivers themselves, so that asking costs a look and no call.
        judges_all = any(rule.every_scope for rule in self.rules)
        self.ears: Mapping[t.Any, t.Any] = {"a rule": True} if judges_all else scope_ended.receivers

    @Once
    def store(self) -> str | None:
        """The URL of its store, "memory:" for none, or None for the file in its instance folder.

        Asked for late: an application may be put into testing after it was watched.
        """
        if self.settings.store is not None:
            return self.settings.store
        app = self._app_ref()
        return "memory:" if app is None or app.testing else None

    @property
    def is_gone(self) -> bool:
        """Whether the application was dropped without having been closed."""
        return self._app_ref is not _nobody and self._app_ref() is None

    def concerns(self, scope: Scope | None) -> bool:
        """Whether work in *scope* is this application's; work outside of any scope is everybody's."""
        return scope is None or scope.owner is self

    def rule_of(self, environ: t.Any) -> t.Any:
        """Find the URL rule of a request that is named nowhere else any more."""
        app = self._app_ref()
        return None if app is None else url_rule_of(app, environ)

    def judge(self, scope: Scope) -> None:
        """Judge a scope that has ended."""
        if not self.watching:
            return
        before = thread_seconds()
        self._judge(scope)
        self.spent.append(thread_seconds() - before)

    def _judge(self, scope: Scope) -> None:
        moment = self._moment()
        told: list[tuple[int, str]] = []
        for rule in self.rules:
            for finding in self._ask(rule, rule.at_scope_end, scope, moment):
                told += self._report(finding, scope, scope if finding.subject is None else None)
            for incident in scope.incidents or ():
                for finding in self._ask_of(rule, incident, moment):
                    told += self._report(finding, scope)
        worst = max((level for level, _ in told), default=0)
        if worst > 0:
            scope.verdict = LEVELS[worst]
            scope.found = (time.time(), tuple(dict.fromkeys(fingerprint for _, fingerprint in told)))
        if scope_ended.receivers:
            self.dispatcher.attempt(functools.partial(scope_ended.send, self._app_ref(), scope=scope))

    def _moment(self) -> Moment:
        return Moment(self.ledger, self.settings, self.concerns, self.setup, self.dispatcher.has_found)

    def tick(self, incidents: Iterable[Incident], *, asked: bool = False) -> list[Finding]:
        """Judge what is live, and the incidents that concern this application.

        :param asked: whether somebody wants to know now, and not when the application has begun to work.
        """
        moment = self._moment()
        found = self._start(moment, asked)
        for rule in self.rules:
            found += self._ask(rule, rule.at_tick, moment)
            for incident in incidents:
                if self.concerns(incident.scope):
                    found += self._ask_of(rule, incident, moment)
        told = [kept for kept in map(self._take_in, found) if kept is not None]
        # A sink hears of a finding before it hears that it is over.
        self.dispatcher.drain()
        self._resolve()
        return told

    def review(self, ended: Ended) -> None:
        """Learn from what has ended how the application works."""
        try:
            self.setup.review(ended, self)
        except Exception:
            self.on_error("the review of what has ended")

    def _start(self, moment: Moment, asked: bool) -> list[Finding]:
        """Judge how the application is set up, once."""
        if self._started or not (asked or self.setup.worked):
            return []
        self._started = True
        return [finding for rule in self.rules for finding in self._ask(rule, rule.at_start, moment)]

    def examine(self) -> list[Finding]:
        """Return what the rules say of how the application is set up; nobody is told, and nothing is counted."""
        moment = self._moment()
        found = self.dispatcher.findings
        for rule in self.rules:
            found += self._ask(rule, rule.at_start, moment)
            if rule.code.startswith(CONFIGURATION):
                found += self._ask(rule, rule.at_tick, moment)
        about_setup = {each.fingerprint: each for each in found if each.code.startswith(CONFIGURATION)}
        return [each for each in about_setup.values() if self.dispatcher.recognises(each)]

    def after_fork(self, inherited: list[Inherited]) -> None:
        """Begin anew in a child process, which has *inherited* open connections."""
        self.dispatcher.forget()
        self.setup.after_fork(inherited)
        self._started = False

    def _ask(self, rule: Rule, judge: t.Callable[..., Iterable[Finding]], *args: t.Any) -> list[Finding]:
        try:
            return list(judge(*args))
        except Exception:
            self.on_error(f"the rule {rule.code} {rule.name}")
            return []

    def _ask_of(self, rule: Rule, incident: Incident, moment: Moment) -> list[Finding]:
        """Ask *rule* of something that happened, and add the history of what it happened to."""
        found = self._ask(rule, rule.at_incident, incident, moment)
        for finding in found:
            self._add_history(finding, incident.subject)
        return found

    def _add_history(self, finding: Finding, record: t.Any) -> None:
        try:
            told = finding.details.get("engine")
            finding.engine = told if isinstance(told, str) else engine_of(record)
            finding.timeline = timeline(record, self.ledger.stacks)
        except Exception:
            self.on_error("the history of a finding")

    def _take_in(self, finding: Finding, whole: Scope | None = None) -> Finding | None:
        try:
            if self._allowed.covers(finding, self.ledger.stacks, whole):
                _untell(finding)
                return None
        except Exception:
            self.on_error("what watch.allow() allows")
        if not finding.timeline:
            self._add_history(finding, finding.subject)
        return self.dispatcher.report(finding)

    def _report(self, finding: Finding, scope: Scope, whole: Scope | None = None) -> list[tuple[int, str]]:
        """Return the rank and the fingerprint of what is to be told."""
        kept = self._take_in(finding, whole)
        if kept is None or kept.known:
            return []
        if finding.rule in self.settings.raise_ or finding.code in self.settings.raise_:
            scope.told = finding.text
        return [(LEVELS.index(finding.level), kept.fingerprint)]

    def _resolve(self) -> None:
        for finding, subject in self.dispatcher.resolve():
            if finding.known:
                continue
            seconds = subject.ended_at - subject.began_at
            finding.details["held_seconds"] = round(seconds, 3)
            self._add_history(finding, subject)
            for sink in self.dispatcher.sinks:
                resolved = getattr(sink, "resolved", None)
                if resolved is not None:
                    self.dispatcher.attempt(resolved, finding, seconds)
            send = functools.partial(finding_resolved.send, self._app_ref(), finding=finding, seconds=seconds)
            self.dispatcher.attempt(send)


def _untell(finding: Finding) -> None:
    """Let a rule tell of a record later, when its holder has left the block in which it is allowed."""
    told = getattr(finding.subject, "told", None)
    if told is not None:
        told.pop(finding.code, None)


def _nobody() -> None:
    return None


def _folders_of(app: flask.Flask | None) -> tuple[str, ...]:
    """Return the root path of *app* and the working folder, unless that was deleted."""
    folders = set() if app is None else {app.root_path}
    with contextlib.suppress(OSError):
        folders.add(os.getcwd())
    return tuple(folders)
