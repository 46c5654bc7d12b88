"""The leaky shop with customers in it, and a browser in front of its dashboard."""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright import sync_api

from flask_sessionwatch.web import application

CHROMIUM = "/usr/bin/chromium"
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "leaky_shop" / "demo.py"
AXE = ROOT / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ("now", "findings", "requests", "pools", "fleet", "rules")
TOKEN = "a token for the browser"
#: Milliseconds that anything may take on a busy machine.
SOON = 30_000
# What a page did that its policy forbids; the page cannot take it back.
WATCH_POLICY = """
globalThis.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  globalThis.violations.push(`${event.effectiveDirective} ${event.blockedURI}`);
});
"""


@contextlib.contextmanager
def demo(**environment: str) -> t.Iterator[str]:
    """Open a shop that has customers, and give the address of its dashboard."""
    if not (application.STATIC / "index.html").is_file():
        missing("the dashboard was not built; 'make dashboard' builds it")
    # The other tests keep nothing in files; the workers of a shop need one to know of each other.
    inherited = {name: value for name, value in os.environ.items() if name != "SESSIONWATCH_STORE"}
    process = subprocess.Popen(
        [sys.executable, str(DEMO), "--seconds", "600"],
        env={**inherited, "SESSIONWATCH_TOKEN": TOKEN, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process, contextlib.ExitStack() as stack:
        # What it says at its end has to be read, or it fails while it says it.
        stack.callback(process.communicate)
        stack.callback(process.terminate)
        for line in t.cast(t.IO[str], process.stdout):
            if line.split()[:1] == ["dashboard"]:
                yield line.split()[1]
                return
        pytest.fail("the demo did not say where its dashboard is", pytrace=False)


@pytest.fixture(scope="module")
def browser() -> t.Iterator[sync_api.Browser]:
    """Chromium without a window."""
    if not Path(CHROMIUM).exists():
        missing(f"{CHROMIUM} is not here; the Debian package 'chromium' has it")
    sync_api.expect.set_options(timeout=SOON)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            # As root, and in containers with little shared memory.
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        yield browser
        browser.close()


def missing(reason: str) -> None:
    """Skip the test; with CI set, nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@dataclasses.dataclass
class Reader:
    """Somebody who looks at the dashboard, and what their browser had to complain about."""

    page: sync_api.Page
    address: str
    complaints: list[str] = dataclasses.field(default_factory=list)
    requests: list[str] = dataclasses.field(default_factory=list)

    def listen(self) -> None:
        self.page.add_init_script(WATCH_POLICY)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _on_console(self, message: sync_api.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url')}")

    def log_in(self, token: str = TOKEN) -> None:
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Open").click()

    def open(self, route: str = "now") -> None:
        """Open a page of the dashboard, and wait for its first answer."""
        self.page.goto(f"{self.address}#{route}")
        self.wait_until_answered()

    def go(self, route: str) -> None:
        """Go to another page, as a link would."""
        self.page.evaluate("(route) => { location.hash = route; }", route)
        self.wait_until_answered()

    def wait_until_answered(self) -> None:
        sync_api.expect(self.page.locator(".connection.live")).to_be_visible()

    def pretend(self, answers: t.Mapping[str, t.Any]) -> None:
        """Answer what is asked for below ``api/v1/`` from here; what is not in *answers* is not there.

        A value may also be a status that is no success.
        """

        def answer(route: sync_api.Route) -> None:
            path = unquote(re.sub(r".*/api/v1/", "", route.request.url).partition("?")[0])
            body = answers.get(path, 404)
            if isinstance(body, int):
                route.fulfill(status=body, json={"error": "no"})
            else:
                route.fulfill(json=body)

        self.page.route("**/api/v1/**", answer)

    def api(self, path: str) -> t.Any:
        """Ask the API itself."""
        return self.page.request.get(f"{self.address}api/v1/{path}").json()

    def faults(self) -> list[str]:
        """What axe-core has against the page."""
        if not AXE.is_file():
            missing(f"{AXE} is not here; 'make dashboard' gets it")
        self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate("axe.run({ resultTypes: ['violations'] })")
        return [
            f"{each['id']}: {json.dumps([node['html'] for node in each['nodes']][:3])}"
            for each in found["violations"]
        ]

    def panel(self, title: str) -> sync_api.Locator:
        heading = self.page.get_by_role("heading", name=re.compile(rf"^{title}( [\d,]+)?$"))
        return self.page.locator("section").filter(has=heading).last

    def is_too_wide(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def violations(self) -> list[str]:
        return t.cast(list[str], self.page.evaluate("globalThis.violations"))


class Visit(t.Protocol):
    def __call__(self, **options: t.Any) -> Reader: ...


@pytest.fixture(scope="module")
def login(browser: sync_api.Browser, dashboard: str) -> t.Any:
    """What a browser keeps of a login."""
    context = browser.new_context()
    reader = Reader(context.new_page(), dashboard)
    reader.page.goto(dashboard)
    reader.log_in()
    sync_api.expect(reader.page).to_have_url(dashboard)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def visit(browser: sync_api.Browser, dashboard: str, login: t.Any) -> t.Iterator[Visit]:
    """Begin visits, each with a browser profile of its own; at the end nobody's browser may have complained.

    They are logged in, unless they bring another ``storage_state``.
    """
    readers: list[Reader] = []

    def begin(**options: t.Any) -> Reader:
        context = browser.new_context(**{"storage_state": login, **options})
        context.set_default_timeout(SOON)
        reader = Reader(context.new_page(), dashboard)
        reader.listen()
        readers.append(reader)
        return reader

    yield begin
    for reader in readers:
        reader.page.unroute_all(behavior="ignoreErrors")
        assert reader.violations() == []
        assert reader.complaints == []
        assert [url for url in reader.requests if not url.startswith(dashboard)] == []
        reader.page.context.close()
