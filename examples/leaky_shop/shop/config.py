"""The shop's configuration: its defaults, and what the environment may say about them."""

import logging
import os
import typing as t

Config = dict[str, t.Any]

# Short limits, so that every bug shows within seconds. The defaults are meant for staging and production.
WATCH: Config = {
    "SESSIONWATCH_TICK": 0.5,
    "SESSIONWATCH_LONG_CHECKOUT": 3.0,
    "SESSIONWATCH_IDLE_IN_TRANSACTION": 1.0,
    "SESSIONWATCH_MAX_COMMITS": 10,
}


def set_up_logging() -> None:
    """Write warnings, and of the watch also what is merely worth knowing."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("flask_sessionwatch").setLevel(logging.INFO)


def from_environment() -> Config:
    """Read SHOP_DATABASE_URI and SHOP_PROVIDER_URL, or take the defaults."""
    uri = os.environ.get("SHOP_DATABASE_URI", "sqlite:///shop.db")
    return {
        "SQLALCHEMY_DATABASE_URI": uri,
        "SQLALCHEMY_ENGINE_OPTIONS": _engine(uri, pool_size=20, max_overflow=10),
        "SQLALCHEMY_BINDS": _binds(uri),
        "PROVIDER_URL": os.environ.get("SHOP_PROVIDER_URL", "http://127.0.0.1:5001"),
        **WATCH,
    }


def _binds(uri: str) -> dict[str, Config]:
    """One database, four pools: a leak in the search must not starve the till."""
    return {
        "search": {"url": uri, **_engine(uri, pool_size=20)},
        "archive": {"url": uri, **_engine(uri, pool_size=20)},
        # A read replica with two connections for the accountants: enough, as long as nobody holds on to them.
        "reporting": {"url": uri, **_engine(uri, pool_size=2, max_overflow=0, pool_timeout=1.0)},
    }


def _engine(uri: str, **pool: float) -> Config:
    # Writers of one SQLite file wait for each other; its default of five seconds is short under load.
    return {**pool, "connect_args": {"timeout": 15}} if uri.startswith("sqlite") else {**pool}
