"""Take pictures of every page of the dashboard, in front of the leaky shop under gunicorn with three workers.

    python scripts/screenshots.py [--into build/screenshots] [--after 45] [--address URL --token TOKEN] [--readme]

Each page is taken light, dark, as wide as a phone, and on a wide screen. With --readme, the two small ones in docs/images
are made anew.
"""

import argparse
import collections.abc as cabc
import contextlib
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from playwright import sync_api

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "leaky_shop" / "demo.py"
IMAGES = ROOT / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
TOKEN = "a token for pictures"

PAGES = ("now", "findings", "finding", "requests", "pools", "fleet", "rules", "rule", "holder", "keys")
LOOKS: dict[str, dict[str, t.Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}},
    "wide": {"viewport": {"width": 2560, "height": 1300}},
}


@contextlib.contextmanager
def shop() -> cabc.Iterator[str]:
    """Open the shop, and give the address of its dashboard."""
    environment = {**os.environ, "SESSIONWATCH_TOKEN": TOKEN, "GUNICORN_CMD_ARGS": "--workers 3"}
    with subprocess.Popen(
        [sys.executable, str(DEMO), "--seconds", "600"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in t.cast(t.IO[str], process.stdout):
                if line.split()[:1] == ["dashboard"]:
                    yield line.split()[1]
                    return
            sys.exit("the demo did not say where its dashboard is")
        finally:
            process.terminate()
            # What it says at its end has to be read, or it fails while it says it.
            process.communicate()


class Photographer:
    """Somebody who looks at the pages one after the other.

    :param page: a browser's page that is logged in.
    :param address: that of the dashboard.
    """

    def __init__(self, page: sync_api.Page, address: str) -> None:
        self.page = page
        self.address = address

    def go(self, name: str) -> None:
        """Open one of the pages, and wait until there is something to see."""
        getattr(self, f"_go_to_{name}", lambda: self._open(name))()
        self.page.wait_for_timeout(400)

    def take(self, path: Path, *, whole: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path, full_page=whole)

    def _open(self, route: str) -> None:
        self.page.goto(f"{self.address}#{route}")
        self.page.reload()
        self.page.locator(".content:not([aria-busy])").first.wait_for()

    def _go_to_finding(self) -> None:
        self._open("findings?rule=leaked-connection")
        self.page.locator(".row-link").first.click()
        self.page.get_by_role("heading", name="What to do").wait_for()

    def _go_to_rule(self) -> None:
        self._open("rules/SW202")

    def _go_to_holder(self) -> None:
        self._open("now")
        with contextlib.suppress(sync_api.TimeoutError):
            self.page.get_by_role("button", name="Stacks of").first.click(timeout=5000)
            self.page.locator(".source").first.wait_for(timeout=5000)

    def _go_to_keys(self) -> None:
        self._open("now")
        self.page.get_by_role("button", name="Keys").click()


@contextlib.contextmanager
def browsing(look: str, address: str, token: str) -> cabc.Iterator[Photographer]:
    """Open a browser that is logged in."""
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_context(**LOOKS[look]).new_page()
        page.goto(address)
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Open").click()
        page.locator("nav").wait_for()
        yield Photographer(page, address)
        browser.close()


def main() -> None:
    """Take all of them."""
    options = _options()
    with contextlib.ExitStack() as stack:
        address = options.address or stack.enter_context(shop())
        # A picture of nothing helps nobody.
        time.sleep(options.after)
        for look in options.looks:
            with browsing(look, address, options.token) as photographer:
                for name in options.pages:
                    photographer.go(name)
                    photographer.take(options.into / f"{name}-{look}.png")
        if options.readme:
            take_for_readme(address, options.token)


def take_for_readme(address: str, token: str) -> None:
    """Take one light and one dark, each so large that it stays below 150 kB."""
    for name, look, width, height in (("now", "light", 1280, 860), ("finding", "dark", 1120, 720)):
        with browsing(look, address, token) as photographer:
            photographer.page.set_viewport_size({"width": width, "height": height})
            photographer.go(name)
            photographer.take(IMAGES / f"{name}.png", whole=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "screenshots")
    parser.add_argument("--after", type=float, default=45.0, help="seconds for the customers to come")
    parser.add_argument("--address", help="of a dashboard that is there already")
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--pages", nargs="+", choices=PAGES, default=PAGES)
    parser.add_argument("--looks", nargs="+", choices=list(LOOKS), default=list(LOOKS))
    parser.add_argument("--readme", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
