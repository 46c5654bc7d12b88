"""What a rule is, and what it is given to look at."""

from __future__ import annotations

import inspect
import threading
import typing as t
from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..finding import LEVELS
from ..finding import Finding
from ..finding import Level
from ..finding import ScopeName
from ..observe.clock import clock
from ..observe.driver import named_on_server
from ..observe.driver import server_id_key
from ..observe.ledger import Ledger
from ..observe.once import Once
from ..observe.pooled import EngineInfo
from ..observe.pooled import Pooled
from ..observe.pooled import Spell
from ..observe.pools import PoolState
from ..observe.pools import lasting
from ..observe.pools import pool_states
from ..observe.present import Present
from ..observe.records import Checkout
from ..observe.records import Incident
from ..observe.records import Scope
from ..observe.records import Transaction
from ..observe.setup import Setup
from ..observe.stack import Site
from ..observe.stack import Stack
from ..settings import Settings
from ..settings import key_of

Record: t.TypeAlias = "Checkout | Transaction"
#: What can be told of once per level.
Tellable: t.TypeAlias = "Record | Spell"
#: Settings, each with the option that wins over it, or None where it has none.
Limits: t.TypeAlias = "Mapping[str, str | None]"


class Moment:
    """The ledger at the moment it is judged.

    :param ledger: what is live.
    :param settings: the settings of the application that is judged.
    :param concerns: whether a scope, or None for work outside of any, is to be judged here.
    :param setup: how the application is set up.
    :param has_told: whether a rule, by its code, has told something of this application before.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        concerns: t.Callable[[Scope | None], bool],
        setup: Setup,
        has_told: t.Callable[[str], bool],
    ) -> None:
        self.ledger = ledger
        self.settings = settings
        self.setup = setup
        self.has_told = has_told
        self.now: float = clock()
        self._concerns = concerns

    @Once
    def present(self) -> Present:
        """What every thread is doing now."""
        return Present(self.ledger.stacks)

    @Once
    def pools(self) -> list[PoolState]:
        """Every pool that has a limit."""
        return pool_states(self.ledger, self.live)

    @Once
    def live(self) -> set[Checkout]:
        """Every live check-out, whoever it concerns."""
        return self.ledger.checkouts

    @Once
    def checkouts(self) -> list[Checkout]:
        """Every live check-out that concerns this application, oldest first."""
        own = [each for each in self.live if self._concerns(each.scope) and not each.engine.ignored]
        return sorted(own, key=lambda each: each.began_at)

    @Once
    def used(self) -> Counter[EngineInfo]:
        """How many connections of each engine are checked out, whoever they concern."""
        return Counter(each.engine for each in self.live)

    @Once
    def transactions(self) -> list[Transaction]:
        """Every live Session transaction that concerns this application, oldest first."""
        live = [each for each in self.ledger.transactions.copy().values() if self._concerns(each.scope)]
        return sorted(live, key=lambda each: each.began_at)

    def held(self, record: Record) -> str:
        """Say how long and by which thread a live record is held."""
        return f"held {lasting(self.now - record.began_at)}, thread '{record.holder.name}'"


@dataclass(frozen=True)
class Rule:
    """Judges the ledger at the moments it overrides.

    A subclass sets :attr:`code`, :attr:`name`, :attr:`level` and :attr:`hint`; its docstring is its manual page
    with the sections "What it does", "Why it matters", "Example", "Instead" and "Options". Options are
    dataclass fields; None means "as the settings say".
    """

    code: t.ClassVar[str]
    name: t.ClassVar[str]
    level: t.ClassVar[Level] = "warning"
    hint: t.ClassVar[str] = ""
    #: Whether a scope that left nothing behind is to be judged as well.
    every_scope: t.ClassVar[bool] = False
    #: The settings by which it judges.
    limits: t.ClassVar[Limits] = MappingProxyType({})

    def at_scope_end(self, scope: Scope, moment: Moment) -> Iterable[Finding]:
        """Judge a scope that has just ended with something noteworthy."""
        return ()

    def at_tick(self, moment: Moment) -> Iterable[Finding]:
        """Judge what is live; the watchdog asks once per tick."""
        return ()

    def at_start(self, moment: Moment) -> Iterable[Finding]:
        """Judge how the application is set up: once in each process, as soon as a scope of its is over."""
        return ()

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        """Judge something that happened: when its scope ends, or at the next tick where it has none."""
        return ()

    @property
    def page(self) -> str:
        """The rule's manual page."""
        return inspect.cleandoc(type(self).__doc__ or "")

    def limits_in_force(self, settings: Settings) -> list[dict[str, t.Any]]:
        """Return the limits by which it judges now, as plain data.

        :param settings: those of the application.
        """
        return [
            {"option": option, "setting": key_of(name), "value": self._limit_in_force(name, option, settings)}
            for name, option in self.limits.items()
        ]

    def _limit_in_force(self, name: str, option: str | None, settings: Settings) -> t.Any:
        own = None if option is None else getattr(self, option)
        return getattr(settings, name) if own is None else own

    def finding(
        self,
        moment: Moment,
        message: str,
        stack: Stack,
        scope: Scope | None,
        *,
        level: Level | None = None,
        site: Site | None = None,
        verb: str = "seen",
        about: str | None = None,
        subject: Tellable | None = None,
        details: dict[str, t.Any] | None = None,
    ) -> Finding:
        """Make a finding of this rule.

        :param message: one sentence that states the fact.
        :param stack: where it happened; the site is its innermost application frame unless *site* is given.
        :param about: what it is about, such as an engine, where several of these share a line or have none.
        :param subject: the live record it is about, so that the finding is resolved when that ends.
        :param details: plain data; ``lines`` are shown in the log below the site.
        """
        stacks = moment.ledger.stacks
        return Finding(
            code=self.code,
            rule=self.name,
            level=level or self.level,
            message=message,
            site=site or stacks.site(stack),
            stack=tuple(stacks.frames(stack)),
            scope=None if scope is None else ScopeName(scope.name, scope.kind),
            hint=self.hint,
            verb=verb,
            about=about,
            details=details or {},
            subject=subject,
        )

    def is_news(self, record: Tellable, level: Level) -> bool:
        """Whether this rule has not yet told of *record* at this level or above."""
        rank = LEVELS.index(level)
        told = record.told
        if told is None:
            told = record.told = {}
        if told.get(self.code, -1) >= rank:
            return False
        told[self.code] = rank
        return True


def in_scope(scope: Scope | None) -> str:
    """Name *scope* as the subject of a sentence."""
    return "Work outside of any scope" if scope is None else scope.name


def has_left(incident: Incident) -> bool:
    """Whether the error of *incident* left the application's code, or its request failed all the same."""
    scope = incident.scope
    return bool(incident.details.get("left")) or (scope is not None and (scope.status or 0) >= 500)


def lines_at(moment: Moment, *places: tuple[str, Stack]) -> dict[str, t.Any]:
    """Return details that show further places below the site, those that are known."""
    sites = ((verb, moment.ledger.stacks.site(stack)) for verb, stack in places)
    return {"lines": [f"{verb} at {site}" for verb, site in sites if site is not None]}


def confirmed(record: Record, moment: Moment, *, suspect: bool) -> bool:
    """Whether a suspicion about *record* has lasted from one tick to a later one.

    One look may fall into the instant between a function's return and its caller's clean-up.
    """
    if not suspect:
        if record.suspected is not None:
            record.suspected = None
        return False
    if record.suspected is None:
        record.suspected = moment.now
        return False
    return moment.now - record.suspected >= moment.settings.tick * 0.5


def is_left_behind(checkout: Checkout, moment: Moment) -> bool:
    """Whether nobody who could return *checkout* is left: its thread is over, or has long moved on."""
    scope = checkout.scope or (checkout.transaction and checkout.transaction.scope)
    if scope and not scope.ended and scope.holder.is_alive:
        return False
    if not checkout.user.is_alive and not checkout.holder.is_alive:
        return True
    # A thread of a pool goes idle after its job; the main thread may hold a session for a whole script or test.
    outside = checkout.scope is None and checkout.user is checkout.holder
    on_main_thread = checkout.user.thread is threading.main_thread()
    return outside and not on_main_thread and moment.present.has_moved_on(checkout.user, checkout.stack)


def server_ids(pooled: Pooled) -> dict[str, t.Any]:
    """Return the plain data that leads from a finding to a row of the server's own list of connections."""
    number = pooled.server_id
    return {} if number is None else {server_id_key(pooled.engine.dialect): number}


def on_server(pooled: Pooled) -> list[str]:
    """Return the line that names a connection as its server does, where that is known."""
    number = pooled.server_id
    return [] if number is None else [named_on_server(number, pooled.engine.dialect)]


def of_holder(checkout: Checkout, moment: Moment) -> dict[str, t.Any]:
    """Return the plain data that findings on a held connection share."""
    now = moment.present.doing_with(checkout)
    return {
        **server_ids(checkout.pooled),
        "engine": checkout.engine.name,
        "thread": checkout.user.name,
        "held_seconds": round(moment.now - checkout.began_at, 3),
        "statements": checkout.statements,
        "now": None if now.site is None else now.site._asdict(),
        "doing": now.what,
        "lines": [*([str(now)] if now else ()), *on_server(checkout.pooled)],
    }
