"""The dashboard as a person sees it. Every visit also proves that no console error, no breach of the policy and no request
to anywhere else happened: see conftest.py."""

import contextlib
import re
import typing as t
from urllib.parse import urljoin

import pytest
from playwright.sync_api import APIResponse
from playwright.sync_api import Locator
from playwright.sync_api import Route
from playwright.sync_api import expect

from tests.browser.conftest import TOKEN
from tests.browser.conftest import Reader
from tests.browser.conftest import Visit

PHONE = {"viewport": {"width": 360, "height": 740}}
DESK = {"viewport": {"width": 1280, "height": 900}}


def freeze(reader: Reader) -> t.Any:
    """Let the page go on asking, but answer it with the next live picture for ever; return that."""
    answers: list[APIResponse] = []

    def answer(route: Route) -> None:
        if not answers:
            answers.append(route.fetch())
        route.fulfill(response=answers[0])

    reader.page.route("**/api/v1/live", answer)
    with reader.page.expect_response("**/api/v1/live"):
        pass
    return answers[0].json()


def luminance(colour: str) -> float:
    """Return the relative luminance of a computed colour, as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(reader: Reader) -> float:
    """Return the contrast of text and background of the whole page."""
    style = "(name) => getComputedStyle(document.body)[name]"
    lights = [luminance(reader.page.evaluate(style, name)) for name in ("color", "backgroundColor")]
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def opener(panel: Locator) -> Locator:
    return panel.get_by_role("button", expanded=False).first


def test_login(visit: Visit) -> None:
    """The dashboard leads to the login page, a wrong token stays there, the right one opens it.

    The cookie holds no token, and no script can read it.
    """
    reader = visit()
    reader.page.goto(reader.address)
    expect(reader.page).to_have_url(f"{reader.address}login")
    reader.log_in("not the token")
    expect(reader.page.get_by_role("alert")).to_have_text("This is not the token.")
    assert ["403" in each for each in reader.complaints] == [True]
    reader.complaints.clear()
    assert reader.page.context.cookies() == []
    reader.log_in()
    expect(reader.page).to_have_url(reader.address)
    expect(reader.page.get_by_role("heading", name="Now", exact=True)).to_be_visible()
    (cookie,) = reader.page.context.cookies()
    assert TOKEN not in cookie["value"]
    assert reader.page.evaluate("document.cookie") == ""


def test_figures_are_those_of_the_api(visit: Visit) -> None:
    """The figures of every pool are those that the API gave, and there is a row for every check-out it named."""
    reader = visit(**DESK)
    reader.open()
    live = freeze(reader)
    pools = reader.panel("Connections in use").get_by_role("listitem")
    engines = {each["name"]: each for each in live["engines"]}
    assert {"default", "search"} <= set(engines)
    for name, engine in engines.items():
        pool = pools.filter(has=reader.page.get_by_role("heading", name=name))
        expect(pool.locator(".value")).to_contain_text(f"{engine['used']} of {engine['max']}")
        expect(pool.locator(".note")).to_contain_text(f"{engine['idle']} idle, {engine['waiting']} waiting")
    rows = reader.panel("Holders").locator("tbody:not(.gone) > tr:not(.detail)")
    expect(rows).to_have_count(len(live["checkouts"]))


def test_holders(visit: Visit) -> None:
    """Whoever holds a connection is in the table, with scope and site; a leak is called one."""
    reader = visit(**DESK)
    reader.open()
    leaked = re.compile(r"GET /pages/\w+.*leaked.*shop/site_settings\.py:\d+", re.DOTALL)
    row = reader.panel("Holders").get_by_role("row").filter(has_text=leaked).first
    for _ in range(6):
        reader.page.request.get(urljoin(reader.address, "/pages/delivery"))
        # The leak lasts until somebody of the staff edits a page, which may be at once.
        with contextlib.suppress(AssertionError):
            expect(row).to_be_visible(timeout=2_500)
            return
    pytest.fail("no leak was shown")


def test_findings(visit: Visit) -> None:
    """A finding shows code, rule, level, site and what it says."""
    reader = visit(**DESK)
    reader.open()
    finding = (
        reader.panel("Findings").get_by_role("row").filter(has_text="SW101").filter(has_text="GET /search")
    )
    expect(finding).to_contain_text("leaked-connection")
    expect(finding).to_contain_text("error")
    expect(finding).to_contain_text(re.compile(r"shop/catalogue\.py:\d+"))
    expect(finding).to_contain_text("ended with a connection of engine 'search' still checked out")


def test_details_are_in_words(visit: Visit) -> None:
    """An opened finding tells what was held, for how long, and what was done meanwhile; no names of keys, no JSON."""
    reader = visit(**DESK)
    reader.open()
    findings = reader.panel("Findings")
    findings.get_by_role("row").filter(has_text="SW202").get_by_role("button").click(timeout=30_000)
    facts = findings.locator("tr.detail dl")
    text = facts.inner_text()
    assert re.search(r"^held\n[\d.]+ (s|ms)$", text, re.MULTILINE)
    assert re.search(r"^idle\n[\d.]+ (s|ms)$", text, re.MULTILINE)
    assert re.search(r"^(now|was)\n.*at .*shop/provider\.py:\d+\s+in _call$", text, re.MULTILINE)
    assert not re.search(r"_seconds|lines|[{}\[\]]", text)


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_open_a_row_by_keyboard(visit: Visit, key: str) -> None:
    """Tab leads to a row's button, a key opens it and closes it again, and the focus stays."""
    reader = visit(**DESK)
    reader.open()
    page, findings = reader.page, reader.panel("Findings")
    row = findings.get_by_role("row").filter(has_text="leaked-connection")
    button = row.get_by_role("button")
    for _ in range(60):
        page.keyboard.press("Tab")
        if button.evaluate("(each) => each === document.activeElement"):
            break
    page.keyboard.press(key)
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(findings.locator("tr.detail")).to_contain_text("Stack")
    expect(button).to_be_focused()
    page.keyboard.press(key)
    expect(findings.locator("tr.detail")).to_have_count(0)


def test_light_and_dark(visit: Visit) -> None:
    """Login and dashboard follow the reader's choice, and are readable either way."""
    backgrounds = {}
    for scheme in ("light", "dark"):
        reader = visit(**DESK, color_scheme=scheme)
        reader.open()
        assert contrast(reader) > 7
        background = reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
        backgrounds[scheme] = luminance(background)
    assert backgrounds["dark"] < 0.1 < 0.8 < backgrounds["light"]


def test_phone(visit: Visit) -> None:
    """On 360 pixels nothing scrolls sideways: neither the login, nor the dashboard, nor an open row."""
    reader = visit(**PHONE)
    reader.page.goto(reader.address)
    assert not reader.is_too_wide()
    reader.log_in()
    findings = reader.panel("Findings")
    opener(findings).click()
    expect(findings.locator("tr.detail")).to_be_visible()
    assert not reader.is_too_wide()
