"""The leaky shop with customers in it, and a browser in front of its dashboard."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from playwright import sync_api

from flask_sessionwatch.web import application

CHROMIUM = "/usr/bin/chromium"
DEMO = Path(__file__).parents[2] / "examples" / "leaky_shop" / "demo.py"
TOKEN = "a token for the browser"
# What a page did that its policy forbids; the page cannot take it back.
WATCH_POLICY = """
globalThis.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  globalThis.violations.push(`${event.effectiveDirective} ${event.blockedURI}`);
});
"""


@pytest.fixture(scope="module")
def dashboard() -> t.Iterator[str]:
    """The address of the dashboard of a shop that has customers."""
    if not (application.STATIC / "index.html").is_file():
        missing("the dashboard was not built; 'make dashboard' builds it")
    process = subprocess.Popen(
        [sys.executable, str(DEMO), "--seconds", "600"],
        env={**os.environ, "SESSIONWATCH_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process, contextlib.ExitStack() as stack:
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

    def open(self) -> None:
        """Open the dashboard by way of the login page, and wait for its first answer."""
        self.page.goto(self.address)
        self.log_in()
        sync_api.expect(self.panel("Findings")).to_be_visible()

    def panel(self, title: str) -> sync_api.Locator:
        heading = self.page.get_by_role("heading", name=title)
        return self.page.locator("section").filter(has=heading)

    def is_too_wide(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def violations(self) -> list[str]:
        return t.cast(list[str], self.page.evaluate("globalThis.violations"))


class Visit(t.Protocol):
    def __call__(self, **options: t.Any) -> Reader: ...


@pytest.fixture
def visit(browser: sync_api.Browser, dashboard: str) -> t.Iterator[Visit]:
    """Begin visits, each with a fresh browser profile; at the end nobody's browser may have complained."""
    readers: list[Reader] = []

    def begin(**options: t.Any) -> Reader:
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        reader = Reader(context.new_page(), dashboard)
        reader.listen()
        readers.append(reader)
        return reader

    yield begin
    for reader in readers:
        reader.page.unroute_all(behavior="wait")
        assert reader.violations() == []
        assert reader.complaints == []
        assert [url for url in reader.requests if not url.startswith(dashboard)] == []
        reader.page.context.close()
