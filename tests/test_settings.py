"""SESSIONWATCH_*: defaults, the application's config, the environment, and what is said of a silly value."""

import dataclasses
import threading
import typing as t

import flask
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_sessionwatch import ConfigError
from flask_sessionwatch import SessionWatch
from flask_sessionwatch.settings import Settings

DEFAULTS = {
    "ENABLED": True,
    "TICK": 1.0,
    "LONG_CHECKOUT": 30.0,
    "LONG_TRANSACTION": 30.0,
    "IDLE_IN_TRANSACTION": 5.0,
    "MAX_COMMITS": 10,
    "MAX_CHECKOUTS": 10,
    "MAX_IDENTITY_MAP": 10_000,
    "STACK_DEPTH": 40,
    "APP_PATHS": (),
    "IGNORE": (),
    "BASELINE": None,
    "RAISE": (),
    "STORE": None,
    "HOST": None,
    "URL_PREFIX": "/_sessionwatch",
    "TOKEN": None,
    "LOG_FORMAT": "text",
}

SECONDS = ["TICK", "LONG_CHECKOUT", "LONG_TRANSACTION", "IDLE_IN_TRANSACTION"]
WHOLE_NUMBERS = ["MAX_COMMITS", "MAX_CHECKOUTS", "MAX_IDENTITY_MAP", "STACK_DEPTH"]
LISTS = ["APP_PATHS", "IGNORE", "RAISE"]
TEXTS = ["URL_PREFIX", "LOG_FORMAT"]


def load(config: dict[str, t.Any] | None = None, environ: dict[str, str] | None = None) -> Settings:
    """Load settings whose keys lack their prefix, away from the environment of this run."""
    return Settings.load(_prefixed(config), _prefixed(environ))


def _prefixed(values: dict[str, t.Any] | None) -> dict[str, t.Any]:
    return {f"SESSIONWATCH_{key}": value for key, value in (values or {}).items()}


def value_of(settings: Settings, key: str) -> t.Any:
    """Return the setting that is called *key* in an application's config."""
    return getattr(settings, "raise_" if key == "RAISE" else key.lower())


def error_of(config: dict[str, t.Any] | None = None, environ: dict[str, str] | None = None) -> str:
    """Return what is said of settings that make no sense."""
    with pytest.raises(ConfigError) as caught:
        load(config, environ)
    return str(caught.value)


# Where a setting comes from


@pytest.mark.parametrize("key", DEFAULTS)
def test_default(key: str) -> None:
    """Every setting has the default that the manual promises."""
    assert DEFAULTS[key] == value_of(load(), key)


def test_every_setting_is_tested() -> None:
    """No setting is without a line in the table of defaults above."""
    fields = {field.name.rstrip("_").upper() for field in dataclasses.fields(Settings)}
    assert fields == set(DEFAULTS)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ENABLED", False, False),
        ("TICK", 0.25, 0.25),
        ("LONG_CHECKOUT", 2, 2.0),
        ("LONG_CHECKOUT", 0, 0.0),
        ("LONG_TRANSACTION", 1.5, 1.5),
        ("IDLE_IN_TRANSACTION", 0, 0.0),
        ("MAX_COMMITS", 1, 1),
        ("MAX_CHECKOUTS", 3, 3),
        ("MAX_IDENTITY_MAP", 10**30, 10**30),
        ("STACK_DEPTH", 0, 0),
        ("APP_PATHS", ["/srv/shop"], ("/srv/shop",)),
        ("IGNORE", ["SW103", "commit-storm@POST /import"], ("SW103", "commit-storm@POST /import")),
        ("IGNORE", (), ()),
        ("BASELINE", "known.json", "known.json"),
        ("BASELINE", None, None),
        ("BASELINE", "", None),
        ("RAISE", {"SW101"}, ("SW101",)),
        ("RAISE", frozenset(), ()),
        ("STORE", "memory:", "memory:"),
        ("URL_PREFIX", "/ops/db/", "/ops/db"),
        ("TOKEN", "12345678", "12345678"),
        ("TOKEN", None, None),
        ("LOG_FORMAT", "json", "json"),
    ],
)
def test_from_config(key: str, value: t.Any, expected: t.Any) -> None:
    """A setting is taken from the application's config, in the kind it is documented with."""
    taken = value_of(load({key: value}), key)
    assert expected == taken
    assert type(expected) is type(taken)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("ENABLED", "1", True),
        ("ENABLED", " Yes ", True),
        ("ENABLED", "TRUE", True),
        ("ENABLED", "on", True),
        ("ENABLED", "0", False),
        ("ENABLED", "False", False),
        ("ENABLED", "off", False),
        ("ENABLED", "no", False),
        ("ENABLED", "", False),
        ("TICK", "0.5", 0.5),
        ("TICK", " 2 ", 2.0),
        ("TICK", "1e-1", 0.1),
        ("LONG_CHECKOUT", "2", 2.0),
        ("LONG_TRANSACTION", "0", 0.0),
        ("IDLE_IN_TRANSACTION", "7.5", 7.5),
        ("MAX_COMMITS", "20", 20),
        ("MAX_CHECKOUTS", " 3 ", 3),
        ("MAX_IDENTITY_MAP", "1_000", 1000),
        ("STACK_DEPTH", "0", 0),
        ("APP_PATHS", "/srv/a, /srv/b", ("/srv/a", "/srv/b")),
        ("IGNORE", "SW103:jobs/*,,commit-storm@POST /import,", ("SW103:jobs/*", "commit-storm@POST /import")),
        ("IGNORE", "", ()),
        ("RAISE", " , ", ()),
        ("STORE", "memory:", "memory:"),
        ("URL_PREFIX", "/ops", "/ops"),
        ("TOKEN", "a long random value", "a long random value"),
        ("LOG_FORMAT", "json", "json"),
    ],
)
def test_from_environment(key: str, text: str, expected: t.Any) -> None:
    """A setting is taken from the environment, whose text is turned into the setting's kind."""
    taken = value_of(load(environ={key: text}), key)
    assert expected == taken
    assert type(expected) is type(taken)


@pytest.mark.parametrize(
    ("key", "value", "text", "expected"),
    [
        ("ENABLED", True, "0", False),
        ("TICK", 1.0, "0.5", 0.5),
        ("MAX_COMMITS", 5, "7", 7),
        ("IGNORE", ["SW101"], "", ()),
        ("RAISE", [], "SW101", ("SW101",)),
        ("URL_PREFIX", "/from-config", "/from-environment", "/from-environment"),
        ("LOG_FORMAT", "json", "text", "text"),
    ],
)
def test_environment_wins(key: str, value: t.Any, text: str, expected: t.Any) -> None:
    """The environment, which the operator sets, wins over the config, which the developer sets."""
    assert expected == value_of(load({key: value}, {key: text}), key)


def test_reads_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without being told otherwise the settings come from ``os.environ``."""
    monkeypatch.setenv("SESSIONWATCH_MAX_COMMITS", "77")
    assert Settings.load({}).max_commits == 77


def test_other_keys_are_passed_over() -> None:
    """Keys of Flask and of other libraries are none of its business."""
    assert Settings() == Settings.load({"SQLALCHEMY_ECHO": True, "SESSION_COOKIE": 1, "TICK": None}, {})


def test_other_variables_are_passed_over() -> None:
    """A variable that is no setting is left alone: an older release may share the environment with a newer one."""
    assert Settings() == Settings.load({}, {"SESSIONWATCH_FUTURE": "1", "PATH": "/bin"})


def test_settings_are_immutable() -> None:
    """Settings that were read do not change any more."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().tick = 2.0  # type: ignore[misc]


def test_token_is_no_part_of_the_repr() -> None:
    """The token is not written to a log by way of the settings' repr."""
    assert "swordfish" not in repr(load({"TOKEN": "swordfish-1234"}))


# What is said of a silly value


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("LONG_CHECKOUTS", "LONG_CHECKOUT"),
        ("TICKS", "TICK"),
        ("ENABLE", "ENABLED"),
        ("IGNORED", "IGNORE"),
        ("RAISES", "RAISE"),
        ("RAISE_", "RAISE"),
        ("URLPREFIX", "URL_PREFIX"),
        ("LONG_TRANSACTON", "LONG_TRANSACTION"),
        ("tick", "TICK"),
    ],
)
def test_unknown_key(key: str, nearest: str) -> None:
    """A key that is no setting is an error that names the nearest one."""
    assert (
        f"'SESSIONWATCH_{key}' is not a setting of flask_sessionwatch. Did you mean 'SESSIONWATCH_{nearest}'?"
        == error_of({key: 1})
    )


@pytest.mark.parametrize("key", ["", "_", "\n", "ÄÖÜ", "X" * 10_000])
def test_unknown_key_near_to_nothing(key: str) -> None:
    """However far off a key is, some setting is named."""
    assert "Did you mean 'SESSIONWATCH_" in error_of({key: 1})


@pytest.mark.parametrize("key", SECONDS)
@pytest.mark.parametrize("value", ["1", "", None, True, False, b"1", [1.0], 1j, object])
def test_seconds_of_a_wrong_kind(key: str, value: t.Any) -> None:
    """A time takes a number; a bool, which Python counts among the numbers, is none."""
    assert f"'SESSIONWATCH_{key}' is {value!r}; it takes a number of seconds." == error_of({key: value})


@pytest.mark.parametrize("key", SECONDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_seconds_without_an_end(key: str, value: float) -> None:
    """A time takes a number that compares and ends."""
    assert f"'SESSIONWATCH_{key}' is {value!r}; it takes a finite number of seconds." == error_of(
        {key: value}
    )


@pytest.mark.parametrize("key", SECONDS)
def test_seconds_that_no_float_holds(key: str) -> None:
    """A whole number that is too large for a float is refused like any other endless time."""
    assert "it takes a finite number of seconds." in error_of({key: 10**400})


@pytest.mark.parametrize("key", SECONDS)
@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999"])
def test_endless_seconds_in_the_environment(key: str, text: str) -> None:
    """What Python reads as nan or infinity is refused from the environment too."""
    assert "it takes a finite number of seconds." in error_of(environ={key: text})


@pytest.mark.parametrize("key", [*SECONDS, *WHOLE_NUMBERS])
@pytest.mark.parametrize("text", ["", " ", "ten", "1,5", "0x10", "1 s", "\0"])
def test_no_number_in_the_environment(key: str, text: str) -> None:
    """A text that is no number is an error that quotes it."""
    assert f"'SESSIONWATCH_{key}' is {text!r}; it takes a number." == error_of(environ={key: text})


@pytest.mark.parametrize("key", WHOLE_NUMBERS)
@pytest.mark.parametrize("text", ["1.5", "nan", "inf", "9" * 5000])
def test_no_whole_number_in_the_environment(key: str, text: str) -> None:
    """A count is a whole number that Python can read."""
    assert f"'SESSIONWATCH_{key}' is " in error_of(environ={key: text})


@pytest.mark.parametrize("key", WHOLE_NUMBERS)
@pytest.mark.parametrize("value", ["1", "", None, True, False, 1.0, float("nan"), [1], b"1"])
def test_count_of_a_wrong_kind(key: str, value: t.Any) -> None:
    """A count takes a whole number and neither a float nor a bool."""
    assert f"'SESSIONWATCH_{key}' is {value!r}; it takes a value of type int." == error_of({key: value})


@pytest.mark.parametrize("value", ["true", "", 0, 1, None, 1.0, []])
def test_switch_of_a_wrong_kind(value: t.Any) -> None:
    """ENABLED in a config is a bool; a text there, which would always be true, is refused."""
    assert f"'SESSIONWATCH_ENABLED' is {value!r}; it takes a value of type bool." == error_of(
        {"ENABLED": value}
    )


@pytest.mark.parametrize("text", ["ja", "2", "-1", "truefalse", "none", "y"])
def test_switch_of_neither_kind_in_the_environment(text: str) -> None:
    """A text that is neither true nor false is not guessed at."""
    assert f"'SESSIONWATCH_ENABLED' is {text!r}; it takes true or false." == error_of(
        environ={"ENABLED": text}
    )


@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize("value", ["SW101", "", b"SW101", [1], [None], ["SW101", 2]])
def test_list_of_a_wrong_kind(key: str, value: t.Any) -> None:
    """A bare string where a list belongs is an error that says what was probably forgotten."""
    assert (
        f"'SESSIONWATCH_{key}' is {value!r}; it takes a list of strings. Did you forget the brackets?"
        == error_of({key: value})
    )


@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize("value", [None, 1, True, 1.5, object()])
def test_list_that_is_none(key: str, value: t.Any) -> None:
    """What cannot be a list at all is said to be none."""
    assert f"'SESSIONWATCH_{key}' is {value!r}; it takes a list of strings." == error_of({key: value})


@pytest.mark.parametrize("key", LISTS)
def test_list_that_can_be_read_once(key: str) -> None:
    """A generator is read once and loses nothing by being checked."""
    assert value_of(load({key: (f"SW10{number}" for number in (1, 2))}), key) == ("SW101", "SW102")


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("value", [1, None, True, b"text", ["text"]])
def test_text_of_a_wrong_kind(key: str, value: t.Any) -> None:
    """A text takes a string, and None only where that has a meaning."""
    assert f"'SESSIONWATCH_{key}' is {value!r}; it takes a value of type str." == error_of({key: value})


@pytest.mark.parametrize("value", [0, -1, -0.001, 0.0])
def test_tick_must_pass(value: float) -> None:
    """A tick that takes no time would be a busy loop."""
    assert f"'SESSIONWATCH_TICK' is {float(value)!r}; it must be greater than 0." == error_of({"TICK": value})


def test_tick_that_no_thread_can_wait() -> None:
    """A tick longer than a thread can wait for would end the watchdog at its first look."""
    assert "'SESSIONWATCH_TICK' is 1e+300; it must be " in error_of({"TICK": 1e300})


def test_longest_tick() -> None:
    """A tick that is practically never is no error."""
    assert load({"TICK": threading.TIMEOUT_MAX}).tick == threading.TIMEOUT_MAX


@pytest.mark.parametrize("key", ["LONG_CHECKOUT", "LONG_TRANSACTION", "IDLE_IN_TRANSACTION"])
def test_negative_seconds(key: str) -> None:
    """No limit lies in the past."""
    assert f"'SESSIONWATCH_{key}' is -0.5; it must be 0.0 or more." == error_of({key: -0.5})


@pytest.mark.parametrize("key", ["LONG_CHECKOUT", "LONG_TRANSACTION", "IDLE_IN_TRANSACTION"])
def test_huge_seconds(key: str) -> None:
    """A limit that is never reached is a way to say so, and no error."""
    assert value_of(load({key: 1e300}), key) == 1e300


@pytest.mark.parametrize(
    ("key", "value", "least"),
    [("MAX_COMMITS", 0, 1), ("MAX_CHECKOUTS", -5, 1), ("MAX_IDENTITY_MAP", 0, 1), ("STACK_DEPTH", -1, 0)],
)
def test_count_too_small(key: str, value: int, least: int) -> None:
    """A count below its least value is an error that names the least."""
    assert f"'SESSIONWATCH_{key}' is {value}; it must be {least} or more." == error_of({key: value})
    assert f"'SESSIONWATCH_{key}' is {value}; it must be {least} or more." == error_of(
        environ={key: str(value)}
    )


@pytest.mark.parametrize("value", ["", "JSON", "yaml", "text "])
def test_log_format_must_exist(value: str) -> None:
    """A log format is one of those there are, which are named."""
    expected = f"'SESSIONWATCH_LOG_FORMAT' is {value!r}; it must be one of text, json."
    assert expected == error_of({"LOG_FORMAT": value})
    assert expected == error_of(environ={"LOG_FORMAT": value})


@pytest.mark.parametrize(
    "value",
    [
        *("", "/", "//", "sessionwatch", "/<name>", "http://host/x"),
        # What arrives decoded, escaped, resolved or not at all.
        *("/é", "/日本", "/a%20b", "/a?b", "/a#b", "/a;b", "/a\n", "/a//b", "/..", "/a/./b"),
    ],
)
def test_url_prefix_must_be_a_path(value: str) -> None:
    """The prefix is a path of its own, which arrives as it is written here.

    One that would hide the whole application is refused, and one that no request would match.
    """
    expected = (
        f"'SESSIONWATCH_URL_PREFIX' is {value!r}; it must be a path such as '/_sessionwatch', "
        "and must consist of ASCII letters, digits, spaces and any of -._~!$&'()*+,:=@ between slashes."
    )
    assert expected == error_of({"URL_PREFIX": value})
    assert expected == error_of(environ={"URL_PREFIX": value})


@pytest.mark.parametrize("value", ["/a", "/A-b_c.d~e/9", "/..a", "/.well-known/db", "/a b", "/@a:b=c"])
def test_url_prefix(value: str) -> None:
    """A plain path is taken as it is."""
    assert load({"URL_PREFIX": value}).url_prefix == value


@pytest.mark.parametrize("value", ["", "1234567"])
def test_token_too_short(value: str) -> None:
    """A token that can be guessed is refused, without being repeated in a log."""
    expected = "'SESSIONWATCH_TOKEN' is shorter than 8 characters; take a long random value."
    assert expected == error_of({"TOKEN": value})
    assert expected == error_of(environ={"TOKEN": value})


def test_wrong_token_is_not_repeated() -> None:
    """A token of the wrong kind is not written to a log either."""
    assert "swordfish" not in error_of({"TOKEN": b"swordfish-1234"})


@pytest.mark.parametrize(
    "store", ["memory", "mysql://user:hidden@host/db", "redis://:hidden@host:port", "/var/lib/x"]
)
def test_unknown_store(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that there is not is an error at start that names the setting, and never a password."""
    app = flask.Flask("watched")
    app.config["SESSIONWATCH_STORE"] = store
    monkeypatch.delenv("SESSIONWATCH_STORE")
    with pytest.raises(ConfigError, match="'SESSIONWATCH_STORE'") as caught:
        SessionWatch(app)
    assert "hidden" not in str(caught.value)


def test_store_is_not_shown() -> None:
    """The URL of a store may have a password in it, and is not in what settings look like."""
    assert "hidden" not in repr(load({"STORE": "redis://:hidden@host"}))
    assert "hidden" not in error_of({"STORE": b"redis://:hidden@host"})


def test_empty_store_is_the_default() -> None:
    """Empty in the environment, it is as if it was not set."""
    assert load(environ={"STORE": ""}).store is None


# The rules that settings name


@pytest.mark.parametrize("key", ["IGNORE", "RAISE"])
@pytest.mark.parametrize(
    ("entry", "named", "nearest"),
    [
        ("leaked-conection", "leaked-conection", "leaked-connection"),
        ("SW1010", "SW1010", "SW101"),
        ("comit-storm@POST /import", "comit-storm", "commit-storm"),
        ("long-chekout:jobs/*", "long-chekout", "long-checkout"),
    ],
)
def test_unknown_rule(key: str, entry: str, named: str, nearest: str) -> None:
    """A rule that there is not, which would silently do nothing, is an error that names the nearest."""
    app = flask.Flask(__name__)
    app.config[f"SESSIONWATCH_{key}"] = [entry]
    with pytest.raises(ConfigError) as caught:
        SessionWatch(app)
    assert f"'SESSIONWATCH_{key}' names {named!r}, which is no rule. Did you mean '{nearest}'?" == str(
        caught.value
    )


@pytest.mark.parametrize("entry", ["", "@GET /", ":jobs/*"])
def test_entry_without_a_rule(entry: str) -> None:
    """An entry that names no rule at all is no rule either."""
    app = flask.Flask(__name__)
    app.config["SESSIONWATCH_IGNORE"] = [entry]
    with pytest.raises(ConfigError, match="names '', which is no rule"):
        SessionWatch(app)


def test_unknown_rule_where_there_are_none() -> None:
    """Without any rule there is no nearest one, and the entry is refused all the same."""
    app = flask.Flask(__name__)
    app.config["SESSIONWATCH_IGNORE"] = ["SW9"]
    with pytest.raises(ConfigError, match="names 'SW9', which is no rule"):
        SessionWatch(app, rules=[])


def test_ignoring_a_rule_that_is_off() -> None:
    """A rule of the catalogue may be ignored where other rules were chosen: settings are shared, lists are not."""
    app = flask.Flask(__name__)
    app.config["SESSIONWATCH_IGNORE"] = ["SW101"]
    watch = SessionWatch(app, rules=[])
    watch.close()


def test_config_error_is_a_value_error() -> None:
    """Who knows nothing of this package catches a ValueError."""
    assert issubclass(ConfigError, ValueError)


@pytest.mark.parametrize("name", ["web\n1", "a" * 254])
def test_host(name: str) -> None:
    """The name of a host is one line, and not endless; none stands for its own."""
    assert load({"HOST": "web-1"}).host == "web-1"
    assert "it takes a name, of 253 characters at most" in error_of({"HOST": name})
    assert load(environ={"HOST": ""}).host is None


# Anything


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(object),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
)
bounded = hypothesis.settings(max_examples=300, derandomize=True, deadline=None, database=None)


def is_taken_or_named(key: str, config: dict[str, t.Any], environ: dict[str, str]) -> bool:
    try:
        load(config, environ)
    except ConfigError as error:
        return f"'SESSIONWATCH_{key}'" in str(error)
    return True


@bounded
@given(key=st.sampled_from(sorted(DEFAULTS)), value=ANYTHING)
def test_any_value(key: str, value: t.Any) -> None:
    """Whatever value a setting has, it is taken, or the error names the setting."""
    assert is_taken_or_named(key, {key: value}, {})


@bounded
@given(key=st.sampled_from(sorted(DEFAULTS)), text=st.text(max_size=50) | st.from_regex(r"[-+0-9.e_]{1,400}"))
def test_any_text_in_the_environment(key: str, text: str) -> None:
    """So it is with whatever stands in the environment."""
    assert is_taken_or_named(key, {}, {key: text})
