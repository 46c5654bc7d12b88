"""The dashboard as a person sees it, in front of a shop with four workers. Every visit also proves that no console error, no
breach of the policy and no request to anywhere else happened: see conftest.py."""

import contextlib
import json
import re
import time
import typing as t
import urllib.request
from urllib.parse import urljoin

import psycopg
import pytest
import sqlalchemy as sa
from playwright.sync_api import APIResponse
from playwright.sync_api import Error
from playwright.sync_api import Locator
from playwright.sync_api import Route
from playwright.sync_api import expect

from tests.browser.conftest import PAGES
from tests.browser.conftest import TOKEN
from tests.browser.conftest import Reader
from tests.browser.conftest import Visit
from tests.browser.conftest import demo
from tests.conftest import Servers

PHONE = {"viewport": {"width": 360, "height": 740}}
DESK = {"viewport": {"width": 1280, "height": 900}}


#: Whether the counts of the table come in the order of the address.
IN_ORDER = """(order) => {
  const cells = [...document.querySelectorAll("td[data-title=Count]")];
  const counts = cells.map((cell) => Number(cell.textContent.replace(",", "")));
  const turn = order === "-Count" ? -1 : 1;
  return counts.length > 3 && counts.every((count, at) => at === 0 || turn * (count - counts[at - 1]) >= 0);
}"""


def freeze(reader: Reader, path: str) -> t.Callable[[], t.Any]:
    """Let the page go on asking, but answer it with the first answer for ever.

    :return: what gives this answer, once the page has asked.
    """
    answers: list[APIResponse] = []

    def answer(route: Route) -> None:
        if not answers:
            # The page may have lost its patience meanwhile, and then it asks again.
            with contextlib.suppress(Error):
                answers.append(route.fetch())
        if answers:
            route.fulfill(response=answers[0])

    reader.page.route(re.compile(rf"/api/v1/{path}(\?|$)"), answer)

    def frozen() -> t.Any:
        return answers[0].json()

    return frozen


@pytest.fixture(scope="module")
def database(servers: Servers) -> t.Iterator[str | None]:
    """The URL of a PostgreSQL database for the shop; None where there is no server, so that it takes SQLite."""
    server = servers.find("postgresql")
    if isinstance(server, str):
        yield None
        return
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture
def postgresql(database: str | None, servers: Servers) -> str:
    """The URL of the shop's database."""
    return database or servers.refuse("there is no PostgreSQL server")


@pytest.fixture(scope="module")
def dashboard(database: str | None) -> t.Iterator[str]:
    """The address of the dashboard of a shop with four workers, all of which have had customers."""
    more = {} if database is None else {"SHOP_DATABASE_URI": database}
    with demo(GUNICORN_CMD_ARGS="--workers 4", **more) as address:
        wait_until_busy(address)
        yield address


def wait_until_busy(address: str) -> None:
    """Wait until every pool that is looked at has been used, and the first bug was found."""
    request = urllib.request.Request(
        f"{address}api/v1/findings?rule=leaked-connection&engine=search",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as response:
            if json.load(response)["total"]:
                return
        time.sleep(0.5)
    pytest.fail("nobody came to the shop, or nothing was found")


def luminance(colour: str) -> float:
    """Return the relative luminance of a computed colour, as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def figure(reader: Reader, title: str) -> Locator:
    heading = reader.page.get_by_role("heading", name=title, exact=True)
    return reader.page.locator("article").filter(has=heading).locator(".value")


def comma(number: float) -> str:
    return f"{number:,}"


def test_login(visit: Visit) -> None:
    """The dashboard leads to the login page, a wrong token stays there, the right one opens the page that was asked for.

    The cookie holds no token, and no script can read it.
    """
    reader = visit(storage_state=None)
    reader.page.goto(f"{reader.address}#findings?level=error")
    expect(reader.page).to_have_url(f"{reader.address}login#findings?level=error")
    reader.log_in("not the token")
    expect(reader.page.get_by_role("alert")).to_have_text("This is not the token.")
    assert ["403" in each for each in reader.complaints] == [True]
    reader.complaints.clear()
    assert reader.page.context.cookies() == []
    reader.log_in()
    expect(reader.page).to_have_url(f"{reader.address}#findings?level=error")
    expect(reader.page.get_by_role("heading", name="Findings", exact=True)).to_be_visible()
    expect(reader.page.get_by_label("Level")).to_have_value("error")
    (cookie,) = reader.page.context.cookies()
    assert TOKEN not in cookie["value"]
    assert reader.page.evaluate("document.cookie") == ""


def test_figures_of_now_are_those_of_the_api(visit: Visit) -> None:
    """The figures of every engine are the sums of what its workers gave, and there is a row for every check-out."""
    reader = visit(**DESK)
    frozen = freeze(reader, "live")
    reader.open()
    live = frozen()
    pools = reader.panel("Connections").get_by_role("listitem")
    names = {each["name"] for each in live["engines"]}
    assert {"default", "search"} <= names
    for name in names:
        engines = [each for each in live["engines"] if each["name"] == name]
        used, most, idle, waiting = (
            sum(e[key] for e in engines) for key in ("used", "max", "idle", "waiting")
        )
        pool = pools.filter(has=reader.page.get_by_role("heading", name=name))
        expect(pool.locator(".value")).to_contain_text(f"{used} of {most}")
        expect(pool.locator(".note")).to_contain_text(f"{idle} idle, {waiting} waiting")
    used = sum(each["used"] for each in live["engines"])
    expect(figure(reader, "Connections in use")).to_contain_text(comma(used))
    expect(figure(reader, "Open sessions")).to_have_text(comma(len(live["sessions"])))
    rows = reader.panel("Holders").locator("tbody:not(.gone) > tr:not(.detail)")
    expect(rows).to_have_count(min(10, len(live["checkouts"])))
    expect(reader.page.locator(".coverage")).to_contain_text(f"{len(live['workers'])} workers")


def test_figures_of_requests_are_those_of_the_api(visit: Visit) -> None:
    """Each scope's row has the count, the share of the pool's time and of lost writes that the API gave."""
    reader = visit(**DESK)
    frozen = freeze(reader, "scopes")
    reader.open("requests")
    scopes = frozen()["scopes"]
    expect(reader.panel("Scopes")).to_contain_text(f"Scopes {len(scopes)}")
    for scope in scopes[:10]:
        row = reader.page.get_by_role("row").filter(
            has=reader.page.get_by_role("rowheader").get_by_text(
                re.compile(rf"^{re.escape(scope['scope'])}\s")
            )
        )
        expect(row.first).to_contain_text(comma(scope["count"]))


def test_figures_of_pools_are_those_of_the_api(visit: Visit) -> None:
    """Each engine has a panel with its use, its check-outs, its time-outs, and the lines that held it."""
    reader = visit(**DESK)
    frozen = freeze(reader, "pools")
    reader.open("pools")
    pools = frozen()["engines"]
    assert {"default", "search"} <= {each["name"] for each in pools}
    for pool in pools:
        panel = reader.page.locator("section.panel").filter(
            has=reader.page.get_by_role("heading", name=re.compile(rf"^{pool['name']} "), level=2)
        )
        facts = panel.locator("dl.facts")
        expect(facts).to_contain_text(f"{pool['used']} of {pool['max']}")
        expect(facts).to_contain_text(f"check-outs{comma(pool['checkouts'])}")
        timed_out = f"{pool['timeouts']} check-out" if pool["timeouts"] else "never"
        expect(facts).to_contain_text(f"timed out{timed_out}")
        expect(panel.locator("tbody")).to_have_count(min(8, len(pool["sites"])))


def test_figures_of_fleet_and_rules_are_those_of_the_api(visit: Visit) -> None:
    """Every worker that is heard has a row; every rule is there with its level and what it has found."""
    reader = visit(**DESK)
    fleet, catalogue = freeze(reader, "fleet"), freeze(reader, "rules")
    reader.open("fleet")
    workers = fleet()["workers"]
    live = [each for each in workers if each["live"]]
    expect(figure(reader, "Workers heard")).to_have_text(str(len(live)))
    for worker in live:
        expect(reader.page.get_by_role("rowheader", name=str(worker["pid"]), exact=True)).to_be_visible()
    reader.go("rules")
    rules = catalogue()["rules"]
    expect(reader.page.locator(".rule")).to_have_count(len(rules))
    for rule in rules:
        item = reader.page.locator(".rule").filter(has_text=f"{rule['code']} {rule['rule']}")
        total = rule["findings"]["total"]
        expect(item.locator(".rule-count")).to_contain_text("nothing" if total == 0 else f"{total} finding")


def test_holders(visit: Visit) -> None:
    """Whoever holds a connection is in the table, with scope and site; a leak is called one, at the top of the page too."""
    reader = visit(**DESK)
    reader.open()
    for _ in range(8):
        provoke_leak(reader)
        # The leak lasts until somebody of the staff edits a page, which may be at once.
        with contextlib.suppress(AssertionError):
            expect(leaked_row(reader)).to_be_visible(timeout=2_500)
            expect(reader.page.locator(".verdict.error")).to_contain_text("leaked", timeout=2_500)
            return
    pytest.fail("no leak was shown")


def test_server_pids_are_those_of_the_database(visit: Visit, postgresql: str) -> None:
    """PostgreSQL says of the backend that is shown with a leak that it is idle in a transaction."""
    reader = visit(**DESK)
    reader.open()
    states: list[object] = []
    for _ in range(8):
        provoke_leak(reader)
        with contextlib.suppress(Error, AssertionError):
            expect(leaked_row(reader)).to_be_visible(timeout=2_500)
            pid = leaked_row(reader).locator("[data-title='Server pid']").inner_text(timeout=500)
            states.append(state_of(postgresql, int(pid)))
            if states[-1] == "idle in transaction":
                return
    pytest.fail(f"PostgreSQL says of the backends of leaks: {states}")


def provoke_leak(reader: Reader) -> None:
    reader.page.request.get(urljoin(reader.address, "/pages/delivery"))


def leaked_row(reader: Reader) -> Locator:
    leaked = re.compile(r"GET /pages/\w+.*leaked.*shop/site_settings\.py:\d+", re.DOTALL)
    return reader.panel("Holders").get_by_role("row").filter(has_text=leaked).first


def state_of(url: str, pid: int) -> object:
    """Return what PostgreSQL says of one of its backends."""
    conninfo = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(conninfo) as connection:
        found = connection.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone()
    return None if found is None else found[0]


def test_a_holder_opens_to_its_stacks(visit: Visit) -> None:
    """An opened row asks for the stacks of that check-out, and shows the application's lines around each call."""
    reader = visit(**DESK)
    reader.open()
    holders = reader.panel("Holders")
    for _ in range(10):
        opener = holders.locator("tr:has-text('/pay'), tr:has-text('/reports/')").get_by_role("button").first
        with contextlib.suppress(AssertionError, TimeoutError):
            expect(opener).to_be_visible(timeout=5_000)
            opener.click()
            expect(holders.locator(".source .guilty").first).to_be_visible(timeout=3_000)
            break
    else:
        pytest.fail("no check-out lived for long enough to be looked at")
    # It may have been returned meanwhile.
    assert all("404" in each and "/checkouts/" in each for each in reader.complaints)
    reader.complaints.clear()


def test_findings_are_narrowed(visit: Visit) -> None:
    """Filters narrow the list to what the API gives for them, are in the address, and survive a reload."""
    reader = visit(**DESK)
    reader.open("findings")
    page = reader.page
    row = page.get_by_role("row").filter(has_text="SW101").filter(has_text="GET /search")
    expect(row).to_contain_text("leaked-connection")
    expect(row).to_contain_text(re.compile(r"shop/catalogue\.py:\d+"))
    page.get_by_label("Level").select_option("error")
    page.get_by_label("Text").fill("suggestions")
    expect(page).to_have_url(re.compile(r"#findings\?level=error&q=suggestions$"))
    panel = reader.panel("Matching findings")
    expect(panel.locator("tbody")).to_have_count(
        reader.api("findings?level=error&q=suggestions&known=false")["total"]
    )
    page.reload()
    expect(page.get_by_label("Text")).to_have_value("suggestions")
    expect(panel.get_by_role("row").nth(1)).to_contain_text("suggestions")
    page.get_by_role("button", name="Clear").click()
    expect(page).to_have_url(f"{reader.address}#findings")


def test_findings_are_sorted(visit: Visit) -> None:
    """A column's button sorts by it, most first and then least, as the address and a screen reader are told."""
    reader = visit(**DESK)
    reader.open("findings")
    page = reader.page
    for order, told in (("-Count", "descending"), ("Count", "ascending")):
        page.get_by_role("button", name="Count").click()
        expect(page).to_have_url(re.compile(rf"sort={order}$"))
        head = page.get_by_role("columnheader", name="Count")
        expect(head).to_have_attribute("aria-sort", told)
        page.wait_for_function(IN_ORDER, arg=order)


def test_a_finding_has_a_page(visit: Visit) -> None:
    """It has the sentence, the guilty line of the source, stack, timeline, workers, hint and manual, and its own address."""
    reader = visit(**DESK)
    reader.open("findings?rule=leaked-connection&q=suggestions")
    page = reader.page
    page.get_by_role("link", name="SW101 leaked-connection").click()
    expect(page).to_have_url(re.compile(r"#findings/[0-9a-f]{16}$"))
    expect(page.locator("h2.sentence")).to_contain_text(
        "GET /search/suggestions ended with a connection of engine 'search'"
    )
    expect(page.locator("mark").first).to_contain_text("SW101")
    for panel in ("Timeline", "Stack", "What to do", "The manual on SW101 leaked-connection"):
        expect(reader.panel(panel)).to_be_visible()
    expect(reader.panel("What to do")).to_contain_text("SESSIONWATCH_IGNORE")
    expect(reader.panel("Workers").locator("tbody").first).to_be_visible()
    page.reload()
    expect(page.locator("h2.sentence")).to_be_visible()


def test_a_finding_can_be_handed_on(visit: Visit) -> None:
    """The text of an issue and the ready setting are copied; the JSON is the API's."""
    reader = visit(**DESK)
    reader.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader.open("findings?rule=leaked-connection&q=suggestions")
    page = reader.page
    page.get_by_role("link", name="SW101 leaked-connection").click()
    page.get_by_role("button", name="Copy as issue").click()
    expect(page.get_by_text("copied")).to_be_visible()
    issue = page.evaluate("navigator.clipboard.readText()")
    assert issue.startswith("## SW101 leaked-connection\n\nGET /search/suggestions ended with a connection")
    assert re.search(r"^> +\d+ .*connect\(\)", issue, re.MULTILINE)
    page.get_by_role("button", name="Copy the setting").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("SESSIONWATCH_IGNORE = [")
    fingerprint = page.url.rpartition("/")[2]
    assert page.get_by_role("link", name="JSON").get_attribute("href") == f"api/v1/findings/{fingerprint}"
    assert reader.api(f"findings/{fingerprint}")["code"] == "SW101"


def test_details_are_in_words(visit: Visit) -> None:
    """A finding tells what was held, for how long, and what was done meanwhile; no names of keys, no JSON."""
    reader = visit(**DESK)
    reader.open("findings?rule=idle-in-transaction&q=%2Fpay")
    reader.page.get_by_role("link", name="SW202").first.click()
    text = reader.panel("Facts").locator("dl").inner_text()
    assert re.search(r"^held\n[\d.]+ (s|ms)$", text, re.MULTILINE)
    assert re.search(r"^idle\n[\d.]+ (s|ms)$", text, re.MULTILINE)
    assert re.search(r"^(now|was)\n.*at .*shop/provider\.py:\d+\s+in _call$", text, re.MULTILINE)
    assert not re.search(r"_seconds|lines|[{}\[\]]", text)


def test_pages_lead_to_each_other(visit: Visit) -> None:
    """A scope leads to its findings, a finding to its rule, and a rule to its findings; going back is as ever."""
    reader = visit(**DESK)
    reader.open("requests?q=suggestions")
    page = reader.page
    page.get_by_role("button", name="Latest scopes with findings of GET /search/suggestions").click()
    page.get_by_role("link", name="Its findings").click()
    expect(page).to_have_url(re.compile(r"#findings\?scope=GET\+%2Fsearch%2Fsuggestions$"))
    page.get_by_role("link", name="SW101 leaked-connection").click()
    page.locator(".summary").get_by_role("link", name="SW101 leaked-connection").click()
    expect(page).to_have_url(f"{reader.address}#rules/SW101")
    rule = page.locator(".rule").filter(has_text="SW101")
    expect(rule.get_by_role("heading", name="Why it matters")).to_be_in_viewport()
    rule.get_by_role("link").click()
    expect(page).to_have_url(f"{reader.address}#findings?rule=leaked-connection")
    page.go_back()
    expect(page).to_have_url(f"{reader.address}#rules/SW101")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_open_a_row_by_keyboard(visit: Visit, key: str) -> None:
    """Tab leads to a row's button, a key opens it and closes it again, and the focus stays."""
    reader = visit(**DESK)
    reader.open("requests?q=suggestions")
    page = reader.page
    button = page.get_by_role("button", name="Latest scopes with findings of GET /search/suggestions")
    expect(button).to_be_visible()
    for _ in range(60):
        page.keyboard.press("Tab")
        if button.evaluate("(each) => each === document.activeElement"):
            break
    page.keyboard.press(key)
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(page.locator("tr.detail")).to_contain_text("Its findings")
    expect(button).to_be_focused()
    page.keyboard.press(key)
    expect(page.locator("tr.detail")).to_have_count(0)


def test_shortcuts(visit: Visit) -> None:
    """Digits open pages, a slash leads to the search, j to the next row; none while typing, and they can be turned off."""
    reader = visit(**DESK)
    reader.open()
    page = reader.page
    page.keyboard.press("2")
    expect(page.get_by_role("heading", name="Findings", exact=True)).to_be_visible()
    reader.wait_until_answered()
    page.keyboard.press("/")
    expect(page.get_by_label("Text")).to_be_focused()
    page.keyboard.press("3")
    expect(page.get_by_label("Text")).to_have_value("3")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".row-link").first).to_be_visible()
    page.keyboard.press("j")
    expect(page.locator(".row-link").first).to_be_focused()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    dialog.get_by_role("checkbox").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.keyboard.press("1")
    expect(page).to_have_url(re.compile("#findings"))


def test_lock_out(visit: Visit) -> None:
    """Whose login has ended sees nothing of what was shown before, and a way in that leads back."""
    reader = visit(**DESK)
    reader.open("requests")
    reader.page.context.clear_cookies()
    expect(reader.page.get_by_role("heading", name="Locked out")).to_be_visible()
    expect(reader.page.get_by_role("table")).to_have_count(0)
    assert all("401" in each for each in reader.complaints)
    reader.complaints.clear()
    reader.page.get_by_role("link", name="Log in").click()
    reader.log_in()
    expect(reader.page).to_have_url(f"{reader.address}#requests")
    expect(reader.panel("Scopes")).to_be_visible()
    reader.complaints.clear()


def test_disconnected(visit: Visit) -> None:
    """When the server falls silent the page keeps what it has, says since when, and recovers when asked to."""
    reader = visit(**DESK)
    reader.open()
    reader.page.route("**/api/v1/**", lambda route: route.abort())
    expect(reader.page.locator(".connection")).to_contain_text(
        re.compile(r"Disconnected.*last heard \d+ s ago", re.DOTALL)
    )
    expect(reader.panel("Connections")).to_be_visible()
    reader.page.unroute_all(behavior="wait")
    reader.page.get_by_role("button", name="Try now").click()
    reader.wait_until_answered()
    assert all("ERR_FAILED" in each for each in reader.complaints)
    reader.complaints.clear()


def test_light_and_dark(visit: Visit) -> None:
    """Login and dashboard follow the reader's choice."""
    backgrounds = {}
    for scheme in ("light", "dark"):
        reader = visit(**DESK, color_scheme=scheme)
        reader.open("rules")
        background = reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
        backgrounds[scheme] = luminance(background)
    assert backgrounds["dark"] < 0.1 < 0.8 < backgrounds["light"]


def test_phone(visit: Visit) -> None:
    """On 360 pixels nothing scrolls sideways: neither the login nor any page."""
    reader = visit(**PHONE)
    reader.page.goto(f"{reader.address}login")
    assert not reader.is_too_wide()
    reader.open()
    for route in PAGES:
        reader.go(route)
        assert not reader.is_too_wide(), route
