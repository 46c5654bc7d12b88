"""Answers that the reader has already are not sent again."""

import time
import typing as t

import pytest

from flask_sessionwatch.report import totals
from flask_sessionwatch.store.picture import Picture
from flask_sessionwatch.web import answers
from tests.rules.conftest import in_thread
from tests.rules.conftest import until
from tests.web.conftest import MISSING
from tests.web.conftest import PATHS
from tests.web.conftest import TOKEN
from tests.web.conftest import Pages
from tests.web.test_api import Leaky
from tests.web.test_api import pages as pages

JSON = [path for path in PATHS if path.startswith("/api/") and path not in MISSING]


def again(pages: Pages, path: str, tag: str, method: str = "GET") -> t.Any:
    headers = {"Authorization": f"Bearer {TOKEN}", "If-None-Match": tag}
    return pages.http.open(pages.prefix + path, method=method, headers=headers, buffered=True)


@pytest.mark.parametrize("path", JSON)
def test_nothing_new(client: Pages, path: str) -> None:
    """Whoever names the tag of the last answer is told that there is no news, and not sent anything."""
    first = client.get(path)
    tag = first.headers["ETag"]
    assert tag.startswith('W/"')
    answer = again(client, path, tag)
    assert (answer.status_code, answer.data) == (304, b"")
    assert (answer.headers["ETag"], answer.headers["Cache-Control"]) == (tag, "no-store")
    assert again(client, path, tag, "HEAD").status_code == 304
    assert again(client, path, f'"other", {tag}').status_code == 304
    assert again(client, path, '"other"').data


@pytest.mark.parametrize("path", ["live", "live?stacks=false", "findings", "pools", "fleet", "rules"])
def test_something_new(pages: Leaky, path: str) -> None:
    """A new finding, or a connection that is checked out, is news."""
    tag = pages.get(f"/api/v1/{path}").headers["ETag"]
    pages.leak("/connection/1")
    pages.watch.tick()
    answer = again(pages, f"/api/v1/{path}", tag)
    assert answer.status_code == 200
    assert answer.headers["ETag"] != tag


@pytest.mark.parametrize("path", ["pools", "scopes"])
def test_what_is_held_is_told_by_the_minute(pages: Leaky, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a site has held connections grows while one is held: that is news once a minute, and not each time."""
    in_thread(lambda: pages.leak("/connection/1"))

    def held() -> float:
        told = pages.json(f"/api/v1/{path}")
        sites = [site for each in told.get("engines", [told]) for site in each["sites"]]
        return float(sum(site["hold_seconds"] for site in sites))

    first, before = pages.get(f"/api/v1/{path}"), held()
    until(lambda: held() > before)
    assert again(pages, f"/api/v1/{path}", first.headers["ETag"]).status_code == 304
    passed = time.perf_counter() + 61.0
    monkeypatch.setattr(totals, "clock", lambda: passed)
    later = again(pages, f"/api/v1/{path}", first.headers["ETag"])
    assert (later.status_code, held() > before + 60) == (200, True)


@pytest.mark.parametrize("text", ['"age_seconds":1,', '\\","age_seconds":1,"', '"since":"2026'])
def test_a_text_is_no_name(text: str) -> None:
    """What is in a string is news, also where it looks like what follows the clock."""
    picture = Picture(None)
    one, other = (answers.made(picture, {"text": text + more}, clocked=True) for more in "12")
    assert one.tag != other.tag


@pytest.mark.parametrize("kind", ["live", "checkouts"])
def test_only_time_has_passed(pages: Leaky, kind: str) -> None:
    """Ages grow with the clock of whoever shows them: nobody needs to be told."""
    in_thread(lambda: pages.leak("/connection/1"))
    (held,) = pages.json("/api/v1/live")["checkouts"]
    path = "/api/v1/live" if kind == "live" else f"/api/v1/checkouts/{held['id']}"
    first = pages.get(path)
    later = pages.get(path)
    assert first.get_json() != later.get_json()
    assert first.headers["ETag"] == later.headers["ETag"]


def test_the_clock(client: Pages) -> None:
    """Every answer says what time it is, so that ages are told by one clock."""
    for path in JSON:
        if not path.endswith("openapi.json"):
            assert client.json(path)["now"].endswith("+00:00")


def test_what_follows_the_clock_exists(pages: Leaky) -> None:
    """Every name that is left out of the tag is in one of the answers."""
    pages.leak("/connection/1")
    text = "".join(pages.get(path).text for path in ("/api/v1/live", "/api/v1/fleet"))
    assert [name for name in answers.CLOCKED if f'"{name}"' not in text] == []


def test_errors_have_no_tag(client: Pages) -> None:
    """What went wrong is said again."""
    for path in MISSING:
        answer = client.get(path)
        assert (answer.status_code, answer.headers.get("ETag")) == (404, None)
        assert again(client, path, "*").status_code == 404


def test_strangers_learn_no_tag(client: Pages) -> None:
    """Without the token a known tag is no way in."""
    tag = client.get("/api/v1/rules").headers["ETag"]
    answer = client.http.get(f"{client.prefix}/api/v1/rules", headers={"If-None-Match": tag})
    assert answer.status_code == 401
