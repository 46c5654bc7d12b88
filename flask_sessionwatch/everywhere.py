"""Watch every Flask application of this process, without a change in any of them."""

from __future__ import annotations

import functools
import threading
import typing as t
import weakref

import flask

from .extension import KEY
from .extension import SessionWatch
from .report.dispatcher import Sink
from .report.logs import logger

_OURS = __name__.partition(".")[0]


class Everywhere:
    """Gives each application to *watch* when it is first used: called by a server, or asked for an app context.

    Not when it is made: its settings come later. An application that has a SessionWatch of its own keeps it, and one
    that makes it later gets it.

    :param watch: watches the applications that nobody else watches.
    :param sinks: who is told, too, of what is found in those that have a watch of their own.
    :param on_error: told of an application that cannot be watched, such as for a setting that makes no sense.
    """

    def __init__(
        self,
        watch: SessionWatch,
        sinks: t.Sequence[Sink] = (),
        on_error: t.Callable[[flask.Flask, Exception], None] = lambda app, error: None,
    ) -> None:
        self.watch = watch
        self.watch.gives_way = True
        self._sinks = sinks
        self._on_error = on_error
        self._lock = threading.RLock()
        #: The watch that each application had when it was looked at; None for one that cannot be watched.
        self._seen: weakref.WeakKeyDictionary[flask.Flask, SessionWatch | None] = weakref.WeakKeyDictionary()
        #: Those that this very thread is looking at, and may use meanwhile.
        self._under_way: weakref.WeakSet[flask.Flask] = weakref.WeakSet()
        self._originals: dict[str, tuple[t.Any, t.Any]] = {}
        self._active = False

    def start(self) -> None:
        """Watch what is used from now on, also applications that exist already."""
        self._active = True
        for name in ("__call__", "app_context"):
            original = getattr(flask.Flask, name)
            wrapped = self._looking(original)
            self._originals[name] = original, wrapped
            setattr(flask.Flask, name, wrapped)

    def stop(self) -> None:
        """Take the hooks off, unless somebody has wrapped them in turn; and stop watching."""
        self._active = False
        for name, (original, wrapped) in self._originals.items():
            if getattr(flask.Flask, name) is wrapped:
                setattr(flask.Flask, name, original)
        self._originals.clear()
        self.watch.close()

    def _looking(self, original: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        @functools.wraps(original)
        def looking(app: flask.Flask, *args: t.Any, **kwargs: t.Any) -> t.Any:
            if self._active and self._seen.get(app, self) is not app.extensions.get(KEY):
                self._look(app)
            return original(app, *args, **kwargs)

        return looking

    def _look(self, app: flask.Flask) -> None:
        if app.import_name.partition(".")[0] == _OURS:  # the pages are an application, too
            return
        # The first requests come at once: none of them goes on until the application is watched.
        with self._lock:
            present = app.extensions.get(KEY)
            if present is self._seen.get(app, self) or app in self._under_way:
                return
            self._under_way.add(app)
            try:
                if present is None:
                    self.watch.init_app(app)
                elif present is not self.watch:
                    present.tell_also(app, self._sinks)
            except Exception as error:
                self._on_error(app, error)
            finally:
                self._seen[app] = app.extensions.get(KEY)
                self._under_way.discard(app)


def watch_every_app() -> None:
    """Watch every application of this process for as long as it lives."""
    Everywhere(SessionWatch(), on_error=_tell).start()


def _tell(app: flask.Flask, error: Exception) -> None:
    logger.warning("the application %s is not watched: %s: %s", app.name, type(error).__name__, error)
