"""What a finding says of itself: its fingerprint, its text and its JSON."""

import json
import typing as t
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from pathlib import Path

import pytest

from flask_sessionwatch import Finding
from flask_sessionwatch import Site
from flask_sessionwatch.finding import LEVELS
from flask_sessionwatch.finding import ScopeName
from flask_sessionwatch.finding import printable
from flask_sessionwatch.observe.stack import Frame

SITE = Site("/srv/shop/orders.py", 42, "list_orders")
SCOPE = ScopeName("GET /orders/<int:id>", "request")


def finding(**changes: t.Any) -> Finding:
    """Make a finding that differs from an ordinary one by *changes*."""
    values: dict[str, t.Any] = {
        "code": "SW101",
        "rule": "leaked-connection",
        "level": "error",
        "message": "GET /orders/<int:id> ended with a connection of engine 'default' still checked out.",
        "site": SITE,
        "stack": (Frame(*SITE, True),),
        "scope": SCOPE,
        "hint": "use a 'with' block.",
        "verb": "checked out",
    }
    return Finding(**{**values, **changes})


# Fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"message": "another sentence"},
        {"level": "info"},
        {"details": {"held_seconds": 3.0}},
        {"stack": ()},
        {"count": 10},
        {"hint": "another hint"},
        {"resolved": True},
        {"site": SITE._replace(function="another name")},
        {"scope": SCOPE._replace(kind="task")},
    ],
)
def test_same_bug(changes: dict[str, t.Any]) -> None:
    """The same code, line and scope name are the same bug, whatever else differs."""
    assert finding().fingerprint == finding(**changes).fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "SW102"},
        {"site": SITE._replace(lineno=43)},
        {"site": SITE._replace(filename="/srv/shop/carts.py")},
        {"site": None},
        {"scope": SCOPE._replace(name="POST /orders")},
        {"scope": None},
    ],
)
def test_other_bug(changes: dict[str, t.Any]) -> None:
    """Another code, line or scope is another bug."""
    assert finding().fingerprint != finding(**changes).fingerprint


def test_fingerprint_is_short_and_stable() -> None:
    """A fingerprint is the same in every process, and fits into a URL."""
    assert finding().fingerprint == "494d8c50dca12a27"


def test_fingerprint_of_nothing() -> None:
    """A finding without site and scope has a fingerprint too."""
    assert len(finding(site=None, scope=None).fingerprint) == 16


@pytest.mark.parametrize("name", ["caf\udce9.py", "\0", "ключ/😀", "x" * 100_000])
def test_fingerprint_of_any_name(name: str) -> None:
    """A file whose name is no UTF-8, and whatever else may stand in a name, has a fingerprint."""
    odd = finding(site=SITE._replace(filename=name), scope=SCOPE._replace(name=name))
    assert len(odd.fingerprint) == 16


# Text


def test_text() -> None:
    """The log shows code, rule, fact, site, hint and where to read on."""
    expected = (
        "SW101 leaked-connection: GET /orders/<int:id> ended with a connection of engine 'default' still "
        "checked out.\n"
        "  checked out at /srv/shop/orders.py:42 in list_orders\n"
        "  hint: use a 'with' block.   explain: flask sessionwatch explain SW101"
    )
    assert expected == finding().text


def test_text_without_a_site() -> None:
    """Where no line is the application's, none is shown."""
    assert finding(message="A fact.", site=None).text.splitlines() == [
        "SW101 leaked-connection: A fact.",
        "  hint: use a 'with' block.   explain: flask sessionwatch explain SW101",
    ]


def test_text_with_lines_of_details() -> None:
    """The lines a rule adds stand between site and hint."""
    lines = finding(
        details={"lines": ["now at shop/mail.py:7 in send", "held by 3 others"]}
    ).text.splitlines()
    assert lines[2:4] == ["  now at shop/mail.py:7 in send", "  held by 3 others"]


def test_text_shortens_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file below the working folder is shown relative to it."""
    monkeypatch.chdir(tmp_path)
    shown = finding(site=Site(str(tmp_path / "shop" / "orders.py"), 42, "list_orders")).text
    assert "  checked out at shop/orders.py:42 in list_orders\n" in shown


@pytest.mark.parametrize(
    "forged",
    ["\n2026-01-01 ERROR root: paid", "\r", "\x1b[31m", "\x00", "\x85", "\u2028", "\u202e", "\v", "\f"],
)
def test_text_cannot_be_forged(forged: str) -> None:
    """Control characters in names and details neither end a line nor speak to a terminal."""
    changes: dict[str, t.Any] = {
        "message": f"GET /{forged} ended.",
        "site": Site(f"/srv/{forged}.py", 1, f"f{forged}"),
        "details": {"lines": [f"now at {forged}"]},
        "hint": f"do {forged} instead",
        "verb": f"checked out {forged}",
    }
    lines = finding(**changes).text.split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain 'text' \\n", "plain 'text' \\n"),
        ("été 😀", "été 😀"),
        ("a\nb", "a\\nb"),
        ("\x1b[0m", "\\x1b[0m"),
        ("\u2028", "\\u2028"),
        ("\udcff", "\\udcff"),
        ("", ""),
    ],
)
def test_printable(text: str, expected: str) -> None:
    """What can be printed stays as it is, all else is escaped."""
    assert expected == printable(text)


# JSON


def test_as_json() -> None:
    """As plain data a finding has the keys that the API documents."""
    seen = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    one = finding(first_seen=seen, last_seen=seen, details={"engine": "default"})
    expected = {
        "code": "SW101",
        "rule": "leaked-connection",
        "level": "error",
        "message": one.message,
        "site": {"filename": "/srv/shop/orders.py", "lineno": 42, "function": "list_orders"},
        "scope": "GET /orders/<int:id>",
        "scope_kind": "request",
        "hint": "use a 'with' block.",
        "verb": "checked out",
        "count": 1,
        "first_seen": "2026-01-02T03:04:05+00:00",
        "last_seen": "2026-01-02T03:04:05+00:00",
        "resolved": False,
        "about": None,
        "engine": None,
        "known": False,
        "fingerprint": one.fingerprint,
        "details": {"engine": "default"},
        "stack": [
            {
                "filename": "/srv/shop/orders.py",
                "lineno": 42,
                "function": "list_orders",
                "application": True,
            }
        ],
    }
    assert expected == json.loads(json.dumps(one.as_json()))


def test_fingerprint_of_what_it_is_about() -> None:
    """Where no line tells two bugs apart, what they are about does; without it nothing changes."""
    size, recycle = (finding(site=None, about=each) for each in ("POOL_SIZE", "POOL_RECYCLE"))
    assert len({size.fingerprint, recycle.fingerprint, finding(site=None).fingerprint}) == 3


def test_as_json_of_nothing() -> None:
    """Without site and scope the keys are there and null."""
    data = finding(site=None, scope=None, stack=()).as_json()
    assert [data[key] for key in ("site", "scope", "scope_kind", "stack")] == [None, None, None, []]


def test_subject_is_no_plain_data() -> None:
    """The live record a finding is about appears neither in its JSON nor in its repr."""
    one = finding(subject="the live record")
    assert "subject" not in one.as_json()
    assert "the live record" not in repr(one)


def test_times_are_utc() -> None:
    """A finding is stamped with the present time, in UTC."""
    one = finding()
    assert timedelta(0) == one.first_seen.utcoffset() == one.last_seen.utcoffset()


def test_details_are_its_own() -> None:
    """Two findings share no details."""
    one, other = finding(), finding()
    one.details["engine"] = "default"
    assert other.details == {}


def test_findings_are_told_apart_by_identity() -> None:
    """Equal data are still two findings, and a finding can be a key."""
    one, other = finding(), finding()
    assert one != other
    assert len({one, other}) == 2


def test_levels_rise() -> None:
    """Levels are ordered from what is worth knowing to what is broken."""
    assert LEVELS == ("info", "warning", "error")
