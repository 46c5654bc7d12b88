"""SessionWatch: how it is put together with applications, and that nothing of it stays behind."""

import gc
import os
import subprocess
import sys
import threading
import time
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import flask
import flask_sqlalchemy
import flask_sqlalchemy_lite
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from sqlalchemy import event
from sqlalchemy import orm

from flask_sessionwatch import ConfigError
from flask_sessionwatch import Finding
from flask_sessionwatch import FindingRaised
from flask_sessionwatch import Rule
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.observe.records import Checkout
from flask_sessionwatch.observe.records import Scope
from flask_sessionwatch.observe.records import Transaction
from flask_sessionwatch.rules import Moment
from flask_sessionwatch.rules.connections import LeakedConnection
from flask_sessionwatch.rules.connections import LongCheckout
from flask_sessionwatch.rules.workload import CommitStorm

Watch: t.TypeAlias = Callable[..., SessionWatch]


@pytest.fixture
def watch_of() -> Iterator[Watch]:
    """Makes watches that are closed at the end of the test."""
    made: list[SessionWatch] = []

    def make(*args: t.Any, **options: t.Any) -> SessionWatch:
        options = {"sinks": [], "registry": CollectorRegistry(), **options}
        made.append(SessionWatch(*args, **options))
        return made[-1]

    yield make
    for watch in made:
        watch.close()


class Shop:
    """An application with a database of its own, and what its views leave checked out."""

    def __init__(self, name: str = "shop", **config: t.Any) -> None:
        # In memory, under a name of its own.
        url = f"sqlite:///file:{name}?mode=memory&uri=true"
        self.engine = sa.create_engine(url, poolclass=sa.pool.QueuePool, pool_size=20)
        self.held: list[sa.Connection] = []
        self.app = flask.Flask(name)
        self.app.config.update(TESTING=True, SESSIONWATCH_TICK=3600)
        self.app.config.update({f"SESSIONWATCH_{key}": value for key, value in config.items()})
        self.app.add_url_rule("/", "index", lambda: "ok")
        self.app.add_url_rule("/leak", "leak", self.leak)

    def leak(self) -> str:
        self.held.append(self.engine.connect())
        return "leaked"

    def get(self, path: str) -> int:
        """Ask as a server does, which closes the body."""
        return self.app.test_client().get(path, buffered=True).status_code

    def give_back(self) -> None:
        while self.held:
            self.held.pop().close()

    def close(self) -> None:
        self.give_back()
        self.engine.dispose()


@pytest.fixture
def shop_of() -> Iterator[Callable[..., Shop]]:
    """Makes shops whose connections are returned at the end of the test."""
    made: list[Shop] = []

    def make(name: str = "shop", **config: t.Any) -> Shop:
        made.append(Shop(name, **config))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


@pytest.fixture
def shop(shop_of: Callable[..., Shop]) -> Shop:
    return shop_of()


def codes(findings: Iterable[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def listeners() -> set[t.Any]:
    """Return what SQLAlchemy knows of listeners, of any target."""
    return set(event.registry._key_to_collection)


def own_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flask_sessionwatch"]


# Initialising


def test_given_the_application(shop: Shop, watch_of: Watch) -> None:
    """Given the application, it watches it."""
    watch = watch_of(shop.app)
    assert shop.get("/leak") == 200
    assert codes(watch.findings) == ["SW101"]
    assert watch is shop.app.extensions["sessionwatch"]


def test_init_app(shop: Shop, watch_of: Watch) -> None:
    """Made without an application, it watches the one it is given later."""
    watch = watch_of()
    assert watch.findings == []
    watch.init_app(shop.app)
    shop.get("/leak")
    assert codes(watch.findings) == ["SW101"]


def test_init_app_twice(shop: Shop, watch_of: Watch) -> None:
    """An application is watched once; a second time is an error that says what probably happened."""
    watch = watch_of(shop.app)
    expected = "This application has a 'SessionWatch' already. Did you call 'init_app' twice?"
    with pytest.raises(RuntimeError) as caught:
        watch.init_app(shop.app)
    assert expected == str(caught.value)
    with pytest.raises(RuntimeError, match="already"):
        watch_of(shop.app)


def test_second_init_app_changes_nothing(shop: Shop, watch_of: Watch) -> None:
    """The watch that is there already goes on after the error."""
    watch = watch_of(shop.app)
    with pytest.raises(RuntimeError):
        watch_of(shop.app)
    shop.get("/leak")
    assert watch.findings[0].count == 1


def test_init_app_after_the_first_request(shop: Shop, watch_of: Watch) -> None:
    """An application that has answered already can still be watched."""
    shop.get("/")
    watch = watch_of(shop.app)
    shop.get("/leak")
    assert codes(watch.findings) == ["SW101"]


@pytest.mark.parametrize("config", [{"TIK": 1}, {"TICK": "1"}, {"IGNORE": ["SW9999"]}])
def test_refused_settings_leave_nothing(
    shop_of: Callable[..., Shop], watch_of: Watch, config: dict[str, t.Any]
) -> None:
    """When the settings are refused nothing is attached, and the application can be watched once they are right."""
    shop = shop_of(**config)
    before = listeners()
    with pytest.raises(ConfigError):
        watch_of(shop.app)
    assert "sessionwatch" not in shop.app.extensions
    assert listeners() <= before
    for key in config:
        del shop.app.config[f"SESSIONWATCH_{key}"]
    watch_of(shop.app)
    assert "sessionwatch" in shop.app.extensions


@pytest.mark.parametrize("before", [True, False])
def test_flask_sqlalchemy(watch_of: Watch, tmp_path: Path, before: bool) -> None:
    """With Flask-SQLAlchemy it may be initialised before or after it, and knows the engine's name."""
    app = flask.Flask("shop")
    app.config.update(
        TESTING=True, SESSIONWATCH_TICK=3600, SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/shop.db"
    )
    db = flask_sqlalchemy.SQLAlchemy()
    watch = watch_of()
    for extension in (watch, db) if before else (db, watch):
        extension.init_app(app)
    held = []

    @app.get("/")
    def leak() -> str:
        held.append(db.engine.connect())
        return "leaked"

    @app.get("/healthy")
    def healthy() -> str:
        return str(db.session.scalar(sa.text("select 1")))

    app.test_client().get("/healthy", buffered=True)
    app.test_client().get("/", buffered=True)
    held.pop().close()
    with app.app_context():
        db.engine.dispose()
    (finding,) = watch.findings
    assert finding.details["engine"] == "default"
    assert finding.scope is not None
    assert finding.scope.name == "GET /"


@pytest.mark.parametrize("before", [True, False])
def test_flask_sqlalchemy_lite(watch_of: Watch, tmp_path: Path, before: bool) -> None:
    """With Flask-SQLAlchemy-Lite it may be initialised before or after it, and knows the engine's name."""
    app = flask.Flask("shop")
    app.config.update(
        TESTING=True,
        SESSIONWATCH_TICK=3600,
        SQLALCHEMY_ENGINES={"default": f"sqlite:///{tmp_path}/shop.db"},
    )
    db = flask_sqlalchemy_lite.SQLAlchemy()
    watch = watch_of()
    for extension in (watch, db) if before else (db, watch):
        extension.init_app(app)
    held = []

    @app.get("/")
    def leak() -> str:
        held.append(db.engine.connect())
        return "leaked"

    app.test_client().get("/", buffered=True)
    held.pop().close()
    (finding,) = watch.findings
    assert finding.details["engine"] == "default"
    with app.app_context():
        db.engine.dispose()


def test_app_factory(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """One watch at module level serves every application a factory makes."""
    watch = watch_of()
    shops = [shop_of(f"shop_{number}") for number in range(3)]
    for shop in shops:
        watch.init_app(shop.app)
    for shop in shops:
        shop.get("/leak")
    assert codes(watch.findings) == ["SW101"] * 3


def test_newest_last(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """The findings of several applications are in the order in which they were seen."""
    watch = watch_of()
    first, second = shop_of("first"), shop_of("second")
    watch.init_app(first.app)
    watch.init_app(second.app)
    second.get("/leak")
    first.get("/leak")
    engines = [finding.details["engine"] for finding in watch.findings]
    assert engines == ["file:second", "file:first"]


def test_two_watches_do_not_mix(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """Two applications in one process each find their own, at a scope's end and at a tick."""
    shops = [
        shop_of("first", LONG_CHECKOUT=0, MAX_COMMITS=1),
        shop_of("second", LONG_CHECKOUT=0, MAX_COMMITS=1),
    ]
    watches = [watch_of(shop.app, rules=[LeakedConnection(), LongCheckout()]) for shop in shops]
    shops[0].get("/leak")
    with shops[1].app.app_context():
        held = shops[1].engine.connect()
        watches[0].tick()
        watches[1].tick()
        held.close()
    assert codes(watches[0].findings) == ["SW101"]
    assert codes(watches[1].findings) == ["SW103"]


def test_each_application_has_its_own_settings(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """What one application ignores, another is still told."""
    lenient, strict = shop_of("lenient", IGNORE=["SW101"]), shop_of("strict")
    lenient_watch, strict_watch = watch_of(lenient.app), watch_of(strict.app)
    lenient.get("/leak")
    strict.get("/leak")
    assert lenient_watch.findings == []
    assert codes(strict_watch.findings) == ["SW101"]


def test_closing_one_leaves_the_other(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """When one of two watches is closed, the other goes on."""
    first, second = shop_of("first"), shop_of("second")
    first_watch, second_watch = watch_of(first.app), watch_of(second.app)
    first_watch.close()
    first.get("/leak")
    second.get("/leak")
    assert first_watch.findings == []
    assert codes(second_watch.findings) == ["SW101"]


def test_without_an_application(watch_of: Watch) -> None:
    """A program without Flask is watched from its first explicit scope on."""
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
    watch = watch_of()
    with watch.scope("nightly import"):
        held = engine.connect()
    (finding,) = watch.findings
    assert finding.scope == ("nightly import", "explicit")
    held.close()
    engine.dispose()


def test_scope_as_a_decorator(shop: Shop, watch_of: Watch) -> None:
    """A scope is a decorator too, and each call is a scope of its own."""
    watch = watch_of(shop.app)

    @watch.scope("import job")
    def job(number: int) -> int:
        shop.leak()
        return number

    assert [job(1), job(2)] == [1, 2]
    (finding,) = watch.findings
    assert finding.count == 2


def test_scope_lets_exceptions_pass(shop: Shop, watch_of: Watch) -> None:
    """An exception that leaves a scope is the caller's as before."""
    watch = watch_of(shop.app)
    with pytest.raises(ZeroDivisionError), watch.scope("job"):
        raise ZeroDivisionError
    assert watch.findings == []


# Switched off


def test_off_attaches_nothing(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """With SESSIONWATCH_ENABLED off there is no listener, no wrapper and no thread."""
    shop = shop_of(ENABLED=False)
    before = listeners()
    watch = watch_of(shop.app)
    assert shop.get("/leak") == 200
    assert listeners() <= before
    assert "__init__" not in vars(sa.exc.TimeoutError)
    assert "wsgi_app" not in vars(shop.app)
    assert "handle_user_exception" not in vars(shop.app)
    assert own_threads() == []
    assert watch.tick() == []
    assert watch.findings == []
    assert shop.get("/_sessionwatch/") == 404


def test_off_by_the_environment(shop: Shop, watch_of: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator switches it off without a change to the code."""
    monkeypatch.setenv("SESSIONWATCH_ENABLED", "0")
    watch = watch_of(shop.app)
    shop.get("/leak")
    assert watch.findings == []
    assert "wsgi_app" not in vars(shop.app)


def test_off_without_an_application(watch_of: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched off, an explicit scope runs its block and does nothing else."""
    monkeypatch.setenv("SESSIONWATCH_ENABLED", "0")
    before = listeners()
    watch = watch_of()
    with watch.scope("job"):
        pass
    assert listeners() <= before
    assert own_threads() == []


def test_off_beside_on(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """An application that is not watched stays so beside one that is."""
    off, on = shop_of("off", ENABLED=False), shop_of("on")
    off_watch, on_watch = watch_of(off.app), watch_of(on.app)
    off.get("/leak")
    on.get("/leak")
    assert off_watch.findings == []
    assert codes(on_watch.findings) == ["SW101"]


# Rules and sinks


def test_default_rules(shop: Shop, watch_of: Watch) -> None:
    """Without a list of rules the default ones are applied."""
    watch = watch_of(shop.app)
    shop.get("/leak")
    assert codes(watch.findings) == ["SW101"]


def test_no_rules(shop: Shop, watch_of: Watch) -> None:
    """An empty list of rules finds nothing, and still counts."""
    watch = watch_of(shop.app, rules=[])
    shop.get("/leak")
    assert watch.tick() == []
    assert watch.findings == []


def test_rule_with_an_option(shop: Shop, watch_of: Watch) -> None:
    """A rule's option wins over the settings."""
    watch = watch_of(shop.app, rules=[LongCheckout(threshold=0.0), CommitStorm(limit=3)])
    with shop.engine.connect():
        (finding,) = watch.tick()
    assert finding.code == "SW103"
    assert "for longer than 0 s" in finding.message


@dataclass(frozen=True)
class SlowName(Rule):
    """A scope's name is longer than allowed.

    Options
        ``limit``: letters.
    """

    code = "X101"
    name = "long-name"
    level = "info"
    hint = "find a shorter one."
    every_scope = True

    limit: int = 5

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        if len(scope.name) > self.limit:
            yield self.finding(moment, f"{scope.name} is long.", (), scope)


def test_custom_rule(shop: Shop, watch_of: Watch) -> None:
    """A rule of one's own is a small class in the list, and hears healthy scopes too if it asks for them."""
    watch = watch_of(shop.app, rules=[SlowName(limit=6)])
    shop.get("/")
    assert watch.findings == []
    with watch.scope("a long name"):
        pass
    (finding,) = watch.findings
    assert (
        finding.code,
        finding.rule,
        finding.level,
        finding.message,
    ) == ("X101", "long-name", "info", "a long name is long.")


def test_custom_rule_is_ignored_by_its_name(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """A rule of one's own is ignored like any other."""
    shop = shop_of(IGNORE=["long-name@a *"])
    watch = watch_of(shop.app, rules=[SlowName()])
    with watch.scope("a long name"):
        pass
    with watch.scope("the long name"):
        pass
    assert [finding.scope.name for finding in watch.findings if finding.scope] == ["the long name"]


@dataclass(frozen=True)
class Laborious(Rule):
    """Uses CPU time at the end of each scope."""

    code = "X103"
    name = "laborious-rule"
    every_scope = True

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
        return ()


def own_seconds(registry: CollectorRegistry) -> float:
    return registry.get_sample_value("sessionwatch_self_seconds_total") or 0.0


def test_own_seconds_of_rules(shop: Shop, watch_of: Watch) -> None:
    """What rules cost the thread of a request is in the watch's own CPU seconds."""
    registry = CollectorRegistry()
    watch = watch_of(shop.app, rules=[Laborious()], registry=registry)
    watch.tick()
    before = own_seconds(registry)
    shop.get("/")
    watch.tick()
    assert own_seconds(registry) - before >= 0.05


def test_own_seconds_of_pages(shop: Shop, watch_of: Watch) -> None:
    """What the pages cost the application's threads is in the watch's own CPU seconds."""
    registry = CollectorRegistry()
    watch = watch_of(shop.app, rules=[], registry=registry)
    watch.tick()
    before = own_seconds(registry)
    assert shop.get("/_sessionwatch/healthz") == 200
    watch.tick()
    assert own_seconds(registry) > before


@dataclass(frozen=True)
class Broken(Rule):
    """Fails at every moment."""

    code = "X102"
    name = "broken-rule"
    every_scope = True

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        raise ZeroDivisionError

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        yield self.finding(moment, "A fact.", (), None)
        raise ZeroDivisionError


def test_rule_that_raises(shop: Shop, watch_of: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """An error in a rule is counted and logged, and the other rules go on."""
    registry = CollectorRegistry()
    watch = watch_of(shop.app, rules=[Broken(), LeakedConnection()], registry=registry)
    before = registry.get_sample_value("sessionwatch_internal_errors_total") or 0.0
    assert shop.get("/leak") == 200
    watch.tick()
    assert "SW101" in codes(watch.findings)
    assert (registry.get_sample_value("sessionwatch_internal_errors_total") or 0.0) > before
    assert "the rule X102 broken-rule" in caplog.text


@pytest.mark.parametrize("rule", [LongCheckout, "SW103", None, object()])
def test_no_rule(shop: Shop, watch_of: Watch, rule: t.Any) -> None:
    """What is no rule, such as a class in place of its instance, is an error that shows how it is done."""
    with pytest.raises(ConfigError, match=r"is not a rule. 'rules' takes instances, such as LongCheckout\("):
        watch_of(shop.app, rules=[rule])


def test_sinks(shop: Shop, watch_of: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """The sinks that are given take the place of the log; slow ones are told at the tick."""
    told: list[Finding] = []
    watch = watch_of(shop.app, sinks=[told.append])
    shop.get("/leak")
    assert told == []
    watch.tick()
    assert codes(told) == ["SW101"]
    assert "SW101" not in caplog.text


def test_logged_unless_told_otherwise(shop: Shop, watch_of: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """Without a list of sinks findings are logged, before the request's end returns."""
    watch_of(shop.app, sinks=None)
    shop.get("/leak")
    assert [vars(each)["finding"].code for each in caplog.records if hasattr(each, "finding")] == ["SW101"]


def test_slow_sink_is_told_by_the_watchdog(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """Without a tick by hand the watchdog tells the slow sinks, on its own thread."""
    shop = shop_of(TICK=0.005)
    told = threading.Event()
    names = []

    def sink(finding: Finding) -> None:
        names.append(threading.current_thread().name)
        told.set()

    watch_of(shop.app, sinks=[sink])
    shop.get("/leak")
    assert told.wait(10)
    assert names == ["flask_sessionwatch"]


def test_slow_sink_of_a_second_application(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """An application with a shorter tick does not wait for the longer one of another that came first."""
    patient, hurried = shop_of("patient", TICK=3600), shop_of("hurried", TICK=0.005)
    watch_of(patient.app)
    patient.get("/")
    told = threading.Event()
    watch_of(hurried.app, sinks=[lambda finding: told.set()])
    hurried.get("/leak")
    assert told.wait(10)


def test_slow_sink_hears_things_in_order(shop: Shop, watch_of: Watch) -> None:
    """A finding that is over by the time of the tick is told before its closing twin."""
    heard: list[str] = []

    class Slow:
        def __call__(self, finding: Finding) -> None:
            heard.append("found")

        def resolved(self, finding: Finding, seconds: float) -> None:
            heard.append("resolved")

    watch = watch_of(shop.app, sinks=[Slow()])
    shop.get("/leak")
    shop.give_back()
    watch.tick()
    assert heard == ["found", "resolved"]


def test_sink_hears_the_closing_twin(shop: Shop, watch_of: Watch) -> None:
    """A sink that has a method ``resolved`` is told when what was held comes back."""
    heard: list[tuple[Finding, float]] = []

    class Sink:
        def __call__(self, finding: Finding) -> None:
            pass

        def resolved(self, finding: Finding, seconds: float) -> None:
            heard.append((finding, seconds))

    watch = watch_of(shop.app, sinks=[Sink()])
    shop.get("/leak")
    watch.tick()
    assert heard == []
    shop.give_back()
    watch.tick()
    ((finding, seconds),) = heard
    assert finding is watch.findings[0]
    assert finding.details["held_seconds"] == round(seconds, 3)


@pytest.mark.parametrize("immediate", [True, False])
def test_sink_that_raises(shop: Shop, watch_of: Watch, immediate: bool) -> None:
    """A sink that raises is counted, and neither the request nor the other sinks notice."""
    told: list[Finding] = []
    registry = CollectorRegistry()

    class Away:
        def __call__(self, finding: Finding) -> None:
            raise ConnectionError

    away = Away()
    vars(away)["immediate"] = immediate
    watch = watch_of(shop.app, sinks=[away, told.append], registry=registry)
    watch.tick()
    before = registry.get_sample_value("sessionwatch_internal_errors_total") or 0.0
    assert shop.get("/leak") == 200
    watch.tick()
    assert codes(told) == ["SW101"]
    assert registry.get_sample_value("sessionwatch_internal_errors_total") == before + 1


def test_sink_that_raises_for_ever(shop: Shop, watch_of: Watch) -> None:
    """An alerting service that is away all night does not blind the watch: what it misses is still found."""

    def away(finding: Finding) -> None:
        raise ConnectionError

    watch = watch_of(shop.app, sinks=[away])
    for number in range(30):
        with watch.scope(f"job {number}"):
            shop.leak()
        shop.give_back()
        watch.tick()
    assert len(watch.findings) == 30


# Ignoring an engine


def test_ignore(shop: Shop, watch_of: Watch) -> None:
    """An engine that is ignored is never told of."""
    watch = watch_of(shop.app)
    watch.ignore(shop.engine)
    shop.get("/leak")
    assert watch.tick() == []
    assert watch.findings == []


def test_ignore_one_of_two(shop: Shop, watch_of: Watch) -> None:
    """Ignoring one engine leaves another watched."""
    watch = watch_of(shop.app)
    other = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
    watch.ignore(other)
    with watch.scope("job"):
        held = other.connect()
    assert watch.findings == []
    shop.get("/leak")
    assert codes(watch.findings) == ["SW101"]
    held.close()
    other.dispose()


def test_ignore_after_its_first_use(watch_of: Watch, tmp_path: Path) -> None:
    """An engine that was in use already is not watched from then on."""
    app = flask.Flask("shop")
    app.config.update(SESSIONWATCH_TICK=3600, SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/shop.db")
    db = flask_sqlalchemy.SQLAlchemy(app)
    watch = watch_of(app)
    with app.app_context():
        db.session.execute(sa.text("select 1"))
        db.session.remove()
        watch.ignore(db.engine)
        with watch.scope("job"):
            held = db.engine.connect()
        assert watch.findings == []
        held.close()
        db.engine.dispose()


def test_ignore_outlives_dispose(shop: Shop, watch_of: Watch) -> None:
    """An engine stays ignored when its pool is made anew, as after a fork."""
    watch = watch_of(shop.app)
    watch.ignore(shop.engine)
    shop.engine.dispose()
    shop.get("/leak")
    assert watch.findings == []


def test_ignore_an_async_engine(watch_of: Watch) -> None:
    """An asynchronous engine is ignored by way of the engine inside."""
    sync_engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)

    class AsyncLike:
        def __init__(self, sync_engine: sa.Engine) -> None:
            self.sync_engine = sync_engine

    watch = watch_of()
    watch.ignore(AsyncLike(sync_engine))
    with watch.scope("job"):
        held = sync_engine.connect()
    assert watch.findings == []
    held.close()
    sync_engine.dispose()


# Raising in tests


@pytest.mark.parametrize("named", ["SW101", "leaked-connection"])
def test_raise(shop_of: Callable[..., Shop], watch_of: Watch, named: str) -> None:
    """A rule that SESSIONWATCH_RAISE names raises where the request ends, in the test client."""
    shop = shop_of(RAISE=[named])
    watch = watch_of(shop.app)
    with pytest.raises(FindingRaised, match="SW101 leaked-connection: GET /leak ended with"):
        shop.get("/leak")
    assert codes(watch.findings) == ["SW101"]


def test_raise_without_reading_the_body(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """It raises out of the plain call of a test, too: a body that is no stream ends with the request."""
    shop = shop_of(RAISE=["SW101"])
    watch_of(shop.app)
    with pytest.raises(FindingRaised):
        response = shop.app.test_client().get("/leak")  # noqa: F841, kept as a test keeps it


def test_raise_each_time(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """In a test suite the second request that does it wrong fails like the first."""
    shop = shop_of(RAISE=["SW101"])
    watch_of(shop.app)
    for _ in range(3):
        with pytest.raises(FindingRaised):
            shop.get("/leak")


def test_raise_in_a_block(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """A block raises at its end."""
    shop = shop_of(RAISE=["SW101"])
    watch = watch_of(shop.app)
    with pytest.raises(FindingRaised), watch.scope("job"):
        shop.leak()


def test_raise_does_not_hide_an_exception(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """Where the application failed itself, its exception stays visible as the context."""
    shop = shop_of(RAISE=["SW101"])
    watch = watch_of(shop.app)

    def fail() -> None:
        with watch.scope("job"):
            shop.leak()
            raise ZeroDivisionError

    with pytest.raises(FindingRaised) as caught:
        fail()
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_raise_nothing_else(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """A rule that is not named tells and does not raise."""
    shop = shop_of(RAISE=["SW501"])
    watch = watch_of(shop.app)
    assert shop.get("/leak") == 200
    assert codes(watch.findings) == ["SW101"]


def test_raise_nothing_that_is_ignored(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """What is ignored does not raise either."""
    shop = shop_of(RAISE=["SW101"], IGNORE=["SW101@GET /leak"])
    watch_of(shop.app)
    assert shop.get("/leak") == 200


def test_finding_raised_fails_a_test() -> None:
    """To a test runner it is a failed assertion and no error."""
    assert issubclass(FindingRaised, AssertionError)


# Closing


def test_close_restores_everything(shop: Shop) -> None:
    """After close() there is no listener, no wrapper, no hook and no thread of ours."""
    wsgi_app = shop.app.wsgi_app
    handler = shop.app.handle_user_exception
    before = listeners()
    watch = SessionWatch(shop.app, sinks=[], registry=CollectorRegistry())
    shop.get("/leak")
    with shop.engine.begin() as connection:
        connection.execute(sa.text("create table t (x)"))
        connection.execute(sa.text("insert into t values (1)"))
    assert len(own_threads()) == 1
    watch.close()
    assert listeners() <= before
    assert wsgi_app == shop.app.wsgi_app
    assert "__init__" not in vars(sa.exc.TimeoutError)
    assert handler == shop.app.handle_user_exception
    assert "handle_user_exception" not in vars(shop.app)
    assert "sessionwatch" not in shop.app.extensions
    assert own_threads() == []


def test_close_is_idempotent(shop: Shop, watch_of: Watch) -> None:
    """Closing twice, or what was never used, does nothing."""
    watch_of().close()
    watch = watch_of(shop.app)
    watch.close()
    watch.close()
    assert shop.get("/leak") == 200


def test_findings_can_be_read_after_close(shop: Shop, watch_of: Watch) -> None:
    """What was found stays readable, as at the end of a test run."""
    watch = watch_of(shop.app)
    shop.get("/leak")
    watch.close()
    assert codes(watch.findings) == ["SW101"]
    assert watch.tick() == []


def test_nothing_is_found_after_close(shop: Shop, watch_of: Watch) -> None:
    """A watch that was closed finds nothing more, in whatever way it is asked."""
    watch = watch_of(shop.app)
    watch.close()
    shop.get("/leak")
    with watch.scope("job"):
        shop.leak()
    assert watch.tick() == []
    assert watch.findings == []
    assert own_threads() == []


def test_init_app_after_close(shop: Shop, watch_of: Watch) -> None:
    """An application whose watch was closed can be watched again, by the same or by another."""
    watch = watch_of(shop.app)
    watch.close()
    watch.init_app(shop.app)
    shop.get("/leak")
    watch.close()
    other = watch_of(shop.app)
    shop.get("/leak")
    assert len(watch.findings) == 1
    assert codes(other.findings) == ["SW101"]


def test_init_app_after_close_when_off(shop_of: Callable[..., Shop], watch_of: Watch) -> None:
    """Closing forgets an application that was not watched, too."""
    shop = shop_of(ENABLED=False)
    watch_of(shop.app).close()
    assert "sessionwatch" not in shop.app.extensions
    shop.app.config["SESSIONWATCH_ENABLED"] = True
    watch = watch_of(shop.app)
    shop.get("/leak")
    assert codes(watch.findings) == ["SW101"]


def test_close_under_another_middleware(shop: Shop, watch_of: Watch) -> None:
    """A middleware that somebody put around ours stays, and the application answers."""
    watch = watch_of(shop.app)
    inner = shop.app.wsgi_app

    def outer(environ: t.Any, start_response: t.Any) -> t.Any:
        return inner(environ, start_response)

    shop.app.wsgi_app = outer  # type: ignore[method-assign]
    watch.close()
    assert outer is shop.app.wsgi_app
    assert shop.get("/leak") == 200
    assert watch.findings == []


def test_close_under_another_wrapper_of_timeouts(
    shop: Shop, watch_of: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper that another tool put around ours stays, and the next watch does not hear everything twice."""
    monkeypatch.setattr(sa.exc.TimeoutError, "__init__", sa.exc.TimeoutError.__init__)
    watch = watch_of(shop.app)
    ours = sa.exc.TimeoutError.__init__

    def theirs(error: sa.exc.TimeoutError, *args: t.Any, **options: t.Any) -> None:
        ours(error, *args, **options)

    monkeypatch.setattr(sa.exc.TimeoutError, "__init__", theirs)
    watch.close()
    assert vars(sa.exc.TimeoutError)["__init__"] is theirs
    engine = sa.create_engine(
        "sqlite://", poolclass=sa.pool.QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.01
    )
    watch = watch_of()
    with watch.scope("job"), engine.connect(), pytest.raises(sa.exc.TimeoutError):
        engine.connect()
    engine.dispose()
    (finding,) = [each for each in watch.findings if each.code == "SW601"]
    assert finding.count == 1


def test_close_with_a_handler_of_its_own(shop: Shop, watch_of: Watch) -> None:
    """An application that replaces its exception handling gets its own back."""

    def handle_user_exception(error: Exception) -> t.Any:
        return "handled", 500

    def fail() -> str:
        raise ZeroDivisionError

    vars(shop.app)["handle_user_exception"] = handle_user_exception
    shop.app.add_url_rule("/fail", "fail", fail)
    watch = watch_of(shop.app)
    assert shop.get("/fail") == 500
    watch.close()
    assert vars(shop.app)["handle_user_exception"] is handle_user_exception


def test_close_while_something_is_held(shop: Shop, watch_of: Watch) -> None:
    """Connections that are out when the watch is closed come back without a word."""
    watch = watch_of(shop.app)
    shop.get("/leak")
    watch.close()
    shop.give_back()
    other = watch_of(shop.app)
    assert other.tick() == []
    assert other.findings == []


def test_close_inside_a_scope(shop: Shop, watch_of: Watch) -> None:
    """Closing in the midst of a block lets the block end in peace."""
    watch = watch_of(shop.app)
    with watch.scope("job"):
        shop.leak()
        watch.close()
    assert watch.findings == []


def test_close_by_a_sink(shop: Shop, watch_of: Watch) -> None:
    """A sink may close the watch that tells it."""
    watches: list[SessionWatch] = []

    def sink(finding: Finding) -> None:
        watches[0].close()

    watches.append(watch_of(shop.app, sinks=[sink]))
    shop.get("/leak")
    watches[0].tick()
    assert "sessionwatch" not in shop.app.extensions


# Many applications


def alive_of(number: int, use: Callable[[flask.Flask], object]) -> int:
    """Make so many applications, use and drop each, and return how many of them are still alive."""
    apps = []
    for each in range(number):
        app = flask.Flask(f"shop_{each}")
        use(app)
        apps.append(weakref.ref(app))
    del app
    gc.collect()
    return sum(1 for each in apps if each() is not None)


def test_many_dropped_applications(shop: Shop, watch_of: Watch) -> None:
    """200 applications that a test suite makes and drops without a word pile up neither listeners nor themselves."""
    registry = CollectorRegistry()
    watch_of(shop.app, registry=registry)
    before = listeners()
    assert alive_of(200, lambda app: SessionWatch(app, sinks=[], registry=registry)) == 0
    assert listeners() <= before


def test_many_closed_applications(shop: Shop) -> None:
    """Applications that were watched and closed leave nothing behind, and are collected."""
    registry = CollectorRegistry()
    SessionWatch(shop.app, sinks=[], registry=registry).close()
    before = listeners()
    assert alive_of(20, lambda app: SessionWatch(app, sinks=[], registry=registry).close()) == 0
    assert listeners() <= before
    assert own_threads() == []


def test_many_dropped_applications_of_one_watch(watch_of: Watch) -> None:
    """One watch at module level keeps none of the applications that a factory makes for tests."""
    assert alive_of(20, watch_of().init_app) == 0


def test_dropped_applications_are_not_judged(shop: Shop, watch_of: Watch) -> None:
    """What belongs to everybody is told to the applications that are alive, and no rule is run for the others."""
    asked: list[str] = []

    @dataclass(frozen=True)
    class Asked(Rule):
        """Notes that it was asked."""

        code = "X103"
        name = "asked-rule"
        label: str = ""

        def at_tick(self, moment: Moment) -> Iterable[Finding]:
            asked.append(self.label)
            return ()

    dropped = watch_of(rules=[Asked("dropped")])
    alive_of(3, dropped.init_app)
    watch = watch_of(shop.app, rules=[Asked("alive")])
    watch.tick()
    assert asked == ["alive"]


def test_dropped_application_keeps_what_it_told(watch_of: Watch) -> None:
    """The findings of an application that is gone can still be read from the watch."""
    watch = watch_of()
    shop = Shop()
    watch.init_app(shop.app)
    shop.get("/leak")
    shop.close()
    del shop
    gc.collect()
    assert codes(watch.findings) == ["SW101"]


def test_dropped_registry_is_collected() -> None:
    """A registry of one's own, as tests make them, is collected after its watch was closed."""
    registry = CollectorRegistry()
    SessionWatch(flask.Flask("shop"), sinks=[], registry=registry).close()
    gone = weakref.ref(registry)
    del registry
    gc.collect()
    assert gone() is None


# Where it is used


def test_engines_and_sessions_of_before(shop: Shop, watch_of: Watch) -> None:
    """Engines, their pooled connections and session factories that exist already are watched too."""
    with shop.engine.connect():
        pass
    sessions = orm.sessionmaker(shop.engine)
    session = sessions()
    watch = watch_of(shop.app)
    with watch.scope("job"):
        session.execute(sa.text("select 1"))
    assert codes(watch.findings) == ["SW201"]
    session.close()


def test_working_folder_that_is_gone(tmp_path: Path) -> None:
    """An application can be watched when its working folder was deleted, as an old release is."""
    program = """
import os, sys
folder = sys.argv[1]
import flask
from flask_sessionwatch import SessionWatch
import sqlalchemy as sa
os.chdir(folder)
os.rmdir(folder)
engine = sa.create_engine("sqlite://", poolclass=sa.pool.QueuePool)
app = flask.Flask("shop", root_path="/srv/shop", instance_path="/srv/shop/instance")
held = []
app.add_url_rule("/", "index", lambda: held.append(engine.connect()) or "ok")
watch = SessionWatch(app)
app.test_client().get("/", buffered=True)
print(watch.findings[0].code)
"""
    gone = tmp_path / "gone"
    gone.mkdir()
    # CPython 3.13.0 fails to import anything while the folder that is gone comes first in sys.path.
    safe_path = ["-P"] if sys.version_info >= (3, 11) else []
    done = subprocess.run(
        [sys.executable, *safe_path, "-c", program, str(gone)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "SW101"
    assert "internal" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "SW101 leaked-connection" in done.stderr


@pytest.mark.parametrize("commit", [True, False])
def test_records_are_no_work_for_the_garbage_collector(shop: Shop, watch_of: Watch, commit: bool) -> None:
    """What a request is remembered by is freed once it was counted, without the collector having to find it."""
    watch = watch_of(shop.app)

    def work() -> str:
        with orm.Session(shop.engine) as session:
            session.scalar(sa.select(1))
            if commit:
                session.commit()
        return "done"

    shop.app.add_url_rule("/work", "work", work)
    for _ in range(3):
        assert shop.get("/work") == 200
    watch.tick()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            shop.get("/work")
        watch.tick()
        watch._watched[0].ledger.recent.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        garbage = {type(each) for each in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not garbage & {Scope, Transaction, Checkout}


def test_closed_before_a_tick(shop: Shop, watch_of: Watch) -> None:
    """What was found since the last tick is told when the watch is closed, to sinks that wait for a tick as well."""
    told: list[Finding] = []
    watch = watch_of(shop.app, sinks=[told.append])
    shop.get("/leak")
    assert told == []
    watch.close()
    assert codes(told) == ["SW101"]
