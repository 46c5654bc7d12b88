"""What exists once per process, however many applications are watched in it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time
import typing as t
import weakref
from collections import deque
from types import CodeType

import flask

from .finding import Finding
from .member import PARTING_SECONDS
from .member import Member
from .observe.ended import Ended
from .observe.ledger import Ledger
from .observe.listeners import Listeners
from .observe.recorder import ERRORS_ENDURED
from .observe.recorder import Recorder
from .observe.records import Incident
from .observe.records import Scope
from .observe.records import current_scope
from .observe.scopes import Scopes
from .observe.server import Server
from .observe.setup import Inherited
from .observe.setup import Setup
from .observe.setup import open_connections
from .observe.stack import Stacks
from .observe.startup import startup
from .report.about import in_force
from .report.about import versions
from .report.account import Account
from .report.dispatcher import Dispatcher
from .report.harvest import Harvest
from .report.logs import logger
from .report.metrics import CollectorRegistry
from .report.metrics import Metrics
from .store.default import default_store
from .store.opening import MEMORY
from .store.opening import open_store
from .store.picture import Picture
from .store.publisher import Publisher
from .store.worker import name_host
from .watchdog import Watchdog
from .watched import Watched

#: Seconds between two looks at whether the sinks have heard of everything, when the process ends.
_LOOK_SECONDS = 0.01


class Process:
    """What exists once per process: the ledger, the recorder, the scopes and the watchdog."""

    def __init__(self) -> None:
        dispatch, call = flask.Flask.full_dispatch_request, flask.Flask.dispatch_request
        self.stacks: Stacks = Stacks(boundary=dispatch.__code__, inner=call.__code__, hooks=_hooks())
        self.ledger: Ledger = Ledger(self.stacks)
        self.listeners: Listeners = Listeners(self.stacks)
        self.recorder: Recorder = Recorder(self.ledger, self._tell_error)
        self.scopes: Scopes = Scopes(self.ledger, self.recorder)
        self.watchdog: Watchdog = Watchdog(self._watch, self._interval, self.recorder.failed)
        self.recorder.wake = self._wake
        self._watched: weakref.WeakSet[Watched] = weakref.WeakSet()
        self._metrics: dict[CollectorRegistry, Metrics] = {}
        self.account: Account = Account(self.ledger)
        #: This process as a member of those that share a store, by what tells stores apart.
        self._members: dict[object, Member] = {}
        #: CPU seconds of the threads of stores that are used no more, and of work on the application's threads.
        self._other_seconds = 0.0
        self._tick_lock = threading.RLock()
        self._told_deaf = False
        self._looks_on = False
        self._is_parting = False
        #: Errors in sinks and receivers: they are others' code, and no reason to step aside.
        self._extension_errors = 0
        #: How many of them were made before the present watch was begun.
        self._extension_errors_forgiven = 0
        os.register_at_fork(
            before=lambda: self._each_publisher(Publisher.before_fork),
            after_in_parent=lambda: self._each_publisher(Publisher.after_fork_in_parent),
            after_in_child=self._after_fork,
        )
        atexit.register(self._part)
        self.recorder.on_fork = self._after_unheard_fork
        self.recorder.notice.hurry = self._hurry

    @property
    def watched(self) -> list[Watched]:
        """Every application that is watched now."""
        return [each for each in list(self._watched) if each.active and not each.is_gone]

    def setup_of(self, app: flask.Flask | None) -> Setup:
        """Return what is to be known of how *app* is set up."""
        return Setup(app, self.ledger, self.listeners)

    def add(self, watched: Watched) -> None:
        """Watch an application; the first one attaches the recorder."""
        if not self.watched:
            self._extension_errors_forgiven = self._extension_errors
        settings = watched.settings
        if self.watchdog.running and settings.tick < self._interval():
            # It may be in the midst of a longer wait; the next request starts it anew.
            self.watchdog.stop()
            self.recorder.awake = False
        self._watched.add(watched)
        if settings.host is not None:
            name_host(settings.host)
        self.stacks.keep(max(each.settings.stack_depth for each in self.watched))
        self.ledger.most_objects = min(each.settings.max_identity_map for each in self.watched)
        self.stacks.add_paths(watched.app_paths)
        with contextlib.suppress(Exception):  # it is asked again at each tick, and errors are told there
            self.listeners.look()
        early = startup.finish()
        self.recorder.attach()
        for each in early:
            self.recorder.adopt(each.record_ref(), each.proxy_ref(), each.stack, each.holder, each.began_at)
        watched.dispatcher.forget()
        self.metrics(watched.registry).announce(watched.rules)
        logger.debug("watching %s, tick %s s", watched.name, settings.tick)

    def remove(self, watched: Watched) -> None:
        """Stop watching an application; the last one detaches the recorder and stops the thread."""
        with contextlib.suppress(Exception):
            self._enter_store(watched)
        self._leave_stores(but=watched)
        self._own_seconds()
        self._watched.discard(watched)
        if not self.watched:
            self.recorder.detach()
            self.watchdog.stop()
            self.recorder.awake = False
            self.ledger.forget()
        self._drop_metrics()

    def metrics(self, registry: CollectorRegistry) -> Metrics:
        """Return the metrics in *registry*; they are registered once, however many applications there are."""
        metrics = self._metrics.get(registry)
        if metrics is None:
            metrics = self._metrics[registry] = Metrics(registry)
        return metrics

    def tick(self, *, asked: bool = False) -> list[Finding]:
        """Judge now: what is live, and what has happened outside of any open scope.

        :param asked: whether somebody wants to know now, rather than the watchdog.
        """
        with self._tick_lock:
            if not self.recorder.active:
                self.count()
                return []
            self.recorder.tell_greenlets_apart()
            self.recorder.prune()
            self.scopes.end_collected()
            incidents: list[Incident] = _taken(self.ledger.incidents)
            ended = self._review()
            told = [finding for each in self.watched for finding in each.tick(incidents, asked=asked)]
            self.count(ended)
            self._publish()
            self._check_hearing()
            return told

    def _watch(self) -> None:
        """Do what the watchdog is for."""
        if self._is_parting:
            self._drain()
        else:
            self.tick()

    def _review(self) -> Ended:
        """Take what has ended, and let each application's setup learn from it."""
        ended = Ended(_taken(self.ledger.closed))
        self.ledger.recent.extend(ended.transactions)
        for each in self.watched:
            each.review(ended)
        return ended

    def count(self, reviewed: Ended | None = None) -> None:
        """Bring the metrics up to date.

        :param reviewed: what was taken from the ledger already, and waits to be counted.
        """
        self._drop_metrics()
        ended = self._review()
        if reviewed is not None:
            ended = reviewed + ended
        harvest = Harvest(ended, self.ledger.checkouts)
        try:
            self.account.take(ended, harvest)
        except Exception:
            self.extension_failed("the totals")
        for registry, metrics in self._metrics.copy().items():
            dispatchers = [each.dispatcher for each in self.watched if each.registry is registry]
            errors = self.ledger.internal_errors + self._extension_errors
            metrics.update(self.ledger, harvest, dispatchers, errors, self._own_seconds())
        for scope in ended.scopes:
            _untie(scope)

    def _own_seconds(self) -> float:
        """Return the CPU seconds of the watch's own threads, and of judging and answering on the application's."""
        self._other_seconds += sum(sum(_taken(each.spent)) for each in list(self._watched))
        publishers = [each.publisher for each in list(self._members.values()) if each.publisher is not None]
        return self.watchdog.seconds + self._other_seconds + sum(each.seconds for each in publishers)

    def _drop_metrics(self) -> None:
        """Unregister the metrics of registries that no application uses any more."""
        used = {each.registry for each in self.watched}
        for registry in self._metrics.copy():
            if registry not in used:
                unused = self._metrics.pop(registry, None)
                if unused is not None:
                    unused.unregister()

    def member(self, watched: Watched) -> Member:
        """Return this process as a member of those that share the store of *watched*."""
        key = _store_key(watched)
        if key is None:
            return Member(
                self.ledger, self.account, lambda: [watched.dispatcher], None, lambda: self._about([watched])
            )
        member = self._members.get(key)
        return self._members.setdefault(key, self._new_member(watched, key)) if member is None else member

    def picture(self, watched: Watched) -> Picture:
        """Return what the pages of *watched* show."""
        if not self.recorder.awake:
            self._wake()  # whoever is asked is to be seen by the others as well
        return self.member(watched).picture()

    def _new_member(self, watched: Watched, key: object) -> Member:
        def members() -> list[Watched]:
            alive = [
                each for each in list(self._watched) if not each.is_gone
            ]  # also one that is being closed
            return [each for each in alive if _store_key(each) == key]

        def dispatchers() -> list[Dispatcher]:
            return [each.dispatcher for each in members()]

        def dropped(number: int) -> None:
            for each in dispatchers()[:1]:
                each.dropped += number

        url, instance_path = watched.store, watched.instance_path
        make = (
            functools.partial(default_store, instance_path)
            if url is None
            else functools.partial(open_store, url)
        )
        publisher = Publisher(make, dropped)
        return Member(self.ledger, self.account, dispatchers, publisher, lambda: self._about(members()))

    def _about(self, members: list[Watched]) -> dict[str, t.Any]:
        """Return what this process tells of itself.

        :param members: the applications that share a store.
        """
        first = members[0] if members else None
        return {
            **versions(),
            "watching": self.recorder.active,
            "dropped": sum(each.dispatcher.dropped for each in members),
            "internal_errors": self.ledger.internal_errors + self._extension_errors,
            "self_seconds": round(self._own_seconds(), 3),
            "cpu_seconds": round(time.process_time(), 3),
            "in_force": None if first is None else in_force(first.rules, first.settings),
        }

    def look_on(self) -> None:
        """Publish nothing any more, until a request is served: a command that looks at the workers is none of them."""
        with self._tick_lock:
            self._looks_on = True
            for key in list(self._members) if self._is_silent else ():
                self._members.pop(key).withdraw()

    def foresee(self, watched: Watched, server: Server | None) -> None:
        """Let the setup of *watched*, whose app context is current, be judged before it works.

        :param server: the server that is to run it; None where nobody knows.
        """
        watched.setup.foresee(self.recorder.engines.every(), server)

    @property
    def _is_silent(self) -> bool:
        return self._looks_on and not self.ledger.serving

    def _publish(self) -> None:
        """Hand over to the stores what is news."""
        if self._is_silent:
            return
        try:
            watched = self.watched
            self.account.look(each.dispatcher for each in watched)
            for each in watched:
                self.member(each).publish(self._interval())
        except Exception:
            self.extension_failed("the publication")
        self._leave_stores()

    def _leave_stores(self, but: Watched | None = None) -> None:
        """Say good-bye to the stores that no application uses any more."""
        used = {_store_key(each) for each in self.watched if each is not but}
        for key in self._members.keys() - used:
            self._part_from(self._members.pop(key, None))

    def _part(self) -> None:
        """Tell and publish what is news still, at the end of the process; it may be over before the first tick."""
        with contextlib.suppress(Exception):
            self._tell_at_last()
        with contextlib.suppress(Exception):
            for watched in self.watched:
                self._enter_store(watched)
        for member in list(self._members.values()):
            self._part_from(member)

    def _tell_at_last(self) -> None:
        """Have the watchdog tell the sinks that wait for it: no other thread may hang in one of them."""
        self._is_parting = True
        self.watchdog.hurry()
        if self.watchdog.running:
            deadline = time.monotonic() + PARTING_SECONDS
            while self._untold() and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
        else:
            self._drain()
        lost = self._untold()
        if lost:
            logger.warning(
                "the process ends before every sink was told of %d of its findings: it waits no longer than %g s for them",
                lost,
                PARTING_SECONDS,
            )

    def _untold(self) -> int:
        return sum(each.dispatcher.waiting for each in self.watched)

    def _drain(self) -> None:
        deadline = time.monotonic() + PARTING_SECONDS
        for each in self.watched:
            each.dispatcher.drain(lambda: time.monotonic() > deadline)

    def _enter_store(self, watched: Watched) -> None:
        """Publish what it has found also when there was no tick yet."""
        if watched.dispatcher.by_fingerprint and not self._is_silent:
            self.member(watched)

    def _part_from(self, member: Member | None) -> None:
        try:
            if member is not None:
                member.leave()
                self._other_seconds += member.publisher.seconds if member.publisher else 0.0
        except Exception:
            self.extension_failed("the last publication")

    def _each_publisher(self, call: t.Callable[[Publisher], None]) -> None:
        for member in list(self._members.values()):
            if member.publisher is not None:
                call(member.publisher)

    def problems(self) -> list[str]:
        """Return why the watch does not see everything, if it does not."""
        found = []
        if not self.recorder.active:
            found.append("it has stepped aside after ten errors of its own")
        elif self.recorder.is_deaf:
            found.append("somebody removed its listeners")
        return found

    def _check_hearing(self) -> None:
        if self.recorder.is_deaf and not self._told_deaf:
            self._told_deaf = True
            logger.warning(
                "somebody removed the listeners of flask_sessionwatch; it no longer sees every event"
            )

    def _interval(self) -> float:
        return min((each.settings.tick for each in self.watched), default=1.0)

    def _wake(self) -> None:
        # Its length, because a request may be close to the recursion limit.
        if not len(self._watched):
            return
        # Also when there is no thread to be had: scopes are judged without it, and one refusal is enough.
        self.recorder.awake = True
        try:
            self.watchdog.start()
        except Exception:
            self.extension_failed("the start of the watchdog's thread")

    def _hurry(self) -> None:
        """Have the watchdog tick at once."""
        if not self.recorder.awake:
            self._wake()
        self.watchdog.hurry()

    def extension_failed(self, where: str) -> None:
        """Count an error in a sink or a receiver, and log the first ten."""
        self._extension_errors += 1
        if self._extension_errors - self._extension_errors_forgiven <= ERRORS_ENDURED:
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
        inherited = self._inherited()
        self._tick_lock = threading.RLock()
        self.ledger.fork()
        self._extension_errors = self._extension_errors_forgiven = 0
        self._own_seconds()
        self._other_seconds = 0.0
        self.ledger.serving = self._is_parting = False
        self.watchdog.after_fork()
        self.recorder.awake = False
        for metrics in list(self._metrics.values()):
            metrics.after_fork()
        self.account.forget()
        for member in list(self._members.values()):
            member.after_fork()
        for watched in self.watched:
            watched.after_fork(inherited)

    def _inherited(self) -> list[Inherited]:
        try:
            return open_connections(self.ledger)
        except Exception:
            return []

    def _after_unheard_fork(self) -> None:
        """Begin anew in the midst of a check-out: what the running scope has begun is kept."""
        scope = current_scope.get()
        begun = () if scope is None else scope.transactions
        self._after_fork()
        self.ledger.transactions.update({each.session_key: each for each in begun})


def _store_key(watched: Watched) -> object:
    """Return what applications have in common that share a store; None for one that shares none."""
    url = watched.store
    if url == MEMORY:
        return None
    return (watched.instance_path,) if url is None else url


def _hooks() -> dict[CodeType, str]:
    """Name the kinds of hooks by the code of the function that calls them."""
    calling = {
        "preprocess_request": "before_request",
        "process_response": "after_request",
        "do_teardown_request": "teardown_request",
        "do_teardown_appcontext": "teardown_appcontext",
    }
    methods = {kind: getattr(flask.Flask, name, None) for name, kind in calling.items()}
    return {method.__code__: kind for kind, method in methods.items() if method is not None}


def _untie(scope: Scope) -> None:
    """Take the records of a scope that was judged and counted out of their circles.

    They are freed at once then. What waits for the garbage collector has it run more often, inside of requests, and is
    memory until it does.
    """
    last = scope.last_transaction
    scope.last_transaction = scope.first_commit = None
    if scope.more is not None:
        scope.failed_after = scope.incidents = None
    if last is None or last.leaked:
        return  # the collector may return its connection still, and that leak was told
    for checkout in last.checkouts:
        if checkout.ended_at is not None:
            checkout.transaction = None


def _taken(waiting: deque[t.Any]) -> list[t.Any]:
    """Take what waits now; whatever comes meanwhile waits for the next time."""
    taken: list[t.Any] = []
    with contextlib.suppress(IndexError):  # somebody else may take, too
        taken.extend(waiting.popleft() for _ in range(len(waiting)))
    return taken
