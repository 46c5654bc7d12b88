"""Where a command looks: into the store of the application, into one that is named, or at a running service."""

from __future__ import annotations

import contextlib
import difflib
import functools
import typing as t
from collections.abc import Iterator

import click
from flask.cli import ScriptInfo

from ..finding import printable
from ..report.baseline import Baseline
from ..report.baseline import read
from ..rules import DEFAULT_RULES
from ..rules import Rule
from ..settings import ConfigError
from ..settings import Settings
from ..store import Store
from ..store.base import STRANGE
from ..store.base import Data
from ..store.default import default_store_to_read
from ..store.opening import open_to_read
from ..store.picture import Picture
from .trouble import Trouble

if t.TYPE_CHECKING:
    from ..watched import Watched

P = t.ParamSpec("P")
T = t.TypeVar("T")


class Source(t.Protocol):
    """Where a command gets what it shows, in the shapes of the API; each may raise :class:`Trouble`."""

    #: What to say of data that nobody understands.
    strange: str
    #: Why what was read last is not of all workers; None where it is.
    warning: str | None

    def live(self) -> Data: ...

    def findings(self) -> list[Data]: ...

    def finding(self, fingerprint: str) -> Data | None: ...

    def scopes(self) -> Data: ...


class StoreSource:
    """Reads what the workers have published to *store*.

    :param baseline: what is known here, also where the worker that found it did not know.
    """

    warning: str | None = None

    def __init__(self, store: Store, baseline: Baseline) -> None:
        self._store = store
        self._baseline = baseline
        self.strange: str = (
            f"{store!r} has something in it that is not understood here; is it of another version?"
        )

    def live(self) -> Data:
        return self._read(lambda picture: picture.live(stacks=False))

    def findings(self) -> list[Data]:
        return [self._marked(each) for each in self._read(Picture.findings)]

    def finding(self, fingerprint: str) -> Data | None:
        found = self._read(lambda picture: picture.finding(fingerprint))
        return None if found is None else self._marked(found)

    def scopes(self) -> Data:
        return self._read(Picture.scopes)

    def _marked(self, finding: Data) -> Data:
        return {**finding, "known": finding["known"] or self._baseline.has(finding)}

    def _read(self, ask: t.Callable[[Picture], T]) -> T:
        picture = Picture(self._store)
        found = ask(picture)
        if picture.problem is not None:
            raise Trouble(f"The store cannot be read: {picture.problem}.")
        return found


def where(command: t.Callable[P, T]) -> t.Callable[P, T]:
    """Give a command the options that say where to look."""
    for option in (_TOKEN, _URL, _STORE):
        command = option(command)
    return command


_STORE = click.option("--store", help="Look into this store, given as SESSIONWATCH_STORE takes it.")
_URL = click.option("--url", help="Ask a running service: the address of its pages, with the prefix.")
_TOKEN = click.option(
    "--token", envvar="SESSIONWATCH_TOKEN", help="Its SESSIONWATCH_TOKEN; better from the environment."
)


def looks(command: t.Callable[..., None]) -> t.Callable[..., None]:
    """Give a command those options, and as its first argument the place that they lead to."""

    @where
    @functools.wraps(command)
    def looking(*args: t.Any, **options: t.Any) -> None:
        source = source_of(*(options.pop(name) for name in ("store", "url", "token")))
        with understanding(source):
            command(source, *args, **options)
        warn_of(source)

    return looking


@contextlib.contextmanager
def understanding(source: Source) -> Iterator[None]:
    """Say so where what *source* has answered is not understood.

    :raises Trouble: it is not.
    """
    try:
        yield
    except STRANGE as error:
        raise Trouble(f"{source.strange} ({type(error).__name__})") from error


def warn_of(source: Source) -> None:
    """Say so where what *source* has answered is not of all workers."""
    if source.warning is not None:
        click.echo(printable(source.warning), err=True)


def source_of(store: str | None, url: str | None, token: str | None) -> Source:
    """Return where the options lead to, or else where the application's workers publish.

    :raises Trouble: there is no such place.
    """
    if store is not None and url is not None:
        raise click.UsageError("Give either --store or --url.")
    if url is not None:
        from .service import ServiceSource

        return ServiceSource(url, token)
    try:
        return StoreSource(_of_application() if store is None else open_to_read(store), _baseline())
    except ConfigError as error:
        raise Trouble(str(error)) from None


def _of_application() -> Store:
    watched = application()
    url = settings().store if watched is None else watched.store
    if url is not None:
        return open_to_read(url)
    if watched is None:
        raise click.UsageError("Say where to look: with --store, with SESSIONWATCH_STORE, or with --url.")
    return default_store_to_read(watched.instance_path)


def _baseline() -> Baseline:
    path = settings().baseline
    return Baseline() if path is None else Baseline(read(path))


def settings() -> Settings:
    """Return the settings of the application, or else those of the environment.

    :raises Trouble: one of them makes no sense.
    """
    watched = application()
    try:
        return Settings.load({}) if watched is None else watched.settings
    except ConfigError as error:
        raise Trouble(str(error)) from None


def rule_named(value: str) -> Rule:
    """Return the rule with this code or name.

    :raises click.UsageError: there is none, or the application has none.
    """
    watched = application()
    rules = DEFAULT_RULES if watched is None else (*DEFAULT_RULES, *watched.rules)
    by_name = {name.lower(): rule for rule in rules for name in (rule.code, rule.name)}
    rule = by_name.get(value.lower())
    if rule is None:
        nearest = difflib.get_close_matches(value.lower(), sorted(by_name), n=1, cutoff=0.0)[0]
        raise click.UsageError(f"There is no rule {value!r}. Did you mean '{by_name[nearest].code}'?")
    return rule


def application() -> Watched | None:
    """Return the application of the program ``flask``, or None in another one.

    This process publishes nothing from now on: whoever looks is none of the workers.
    """
    info = click.get_current_context().find_object(ScriptInfo)
    if info is None:
        return None
    app = info.load_app()
    watch = app.extensions.get("sessionwatch")
    if watch is None:
        raise Trouble("This application is not watched any more: its SessionWatch was closed.")
    watched: Watched = watch.look_on(app)
    return watched
