"""Customers, accountants and staff: HTTP requests to the shop as people make them, for a bounded time.

    python traffic.py [--port 5000] [--seconds 60] [--customers 6]

Talks to 127.0.0.1 and to nobody else.
"""

import argparse
import collections
import collections.abc as cabc
import dataclasses
import http.client
import json
import random
import re
import secrets
import socket
import threading
import time
import typing as t

HOST = "127.0.0.1"
TIMEOUT = 15.0
PRODUCTS = 120
WORDS = ["bowl", "lamp", "oak", "linen", "copper", "rug", "glazed", "stool", "tray", "felt"]
TYPOS = ["lmap", "qilt", "boowl", "xkettle"]
VARIABLE = re.compile(r"(?<=/)(\d+|[0-9a-f]{12,})(?=/|$)")

Answer = dict[str, t.Any]
Journey = cabc.Callable[["Visitor"], None]


@dataclasses.dataclass
class Tally:
    """How many requests were answered, and how."""

    statuses: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    failures: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def add(self, method: str, path: str, status: int) -> None:
        with self._lock:
            self.statuses[status] += 1
            if status >= 500:
                self.failures[f"{method} {VARIABLE.sub('*', path.partition('?')[0])}"] += 1

    @property
    def requests(self) -> int:
        return self.statuses.total()


class Visitor:
    """One person with a browser: a connection of their own, pauses for thinking."""

    def __init__(self, port: int, tally: Tally, stop: threading.Event, chance: random.Random) -> None:
        self.port = port
        self.tally = tally
        self.stop = stop
        self.chance = chance

    def request(self, method: str, path: str, body: object = None) -> Answer:
        """Make a request, think about it, and give back its JSON."""
        answer = self.fetch(method, path, body)
        self.think()
        return answer

    def fetch(self, method: str, path: str, body: object = None) -> Answer:
        """Make a request and give back its JSON, which is empty if the answer was none, or if it is closing time."""
        if self.stop.is_set():
            return {}
        content = self._content(method, path, body)
        answer: Answer = json.loads(content) if content.startswith(b"{") else {}
        return answer

    def _content(self, method: str, path: str, body: object) -> bytes:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, *_encoded(body))
            response = connection.getresponse()
            self.tally.add(method, path, response.status)
            return response.read()
        finally:
            connection.close()

    def leave_midway(self, path: str, size: int = 512) -> None:
        """Begin a download, read a little, close the window."""
        if self.stop.is_set():
            return
        with socket.create_connection((HOST, self.port), TIMEOUT) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            status = connection.recv(size)[9:12]
            self.tally.add("GET", path, int(status or 0))

    def think(self, seconds: float = 0.3) -> None:
        self.stop.wait(self.chance.uniform(0.1, 1.9) * seconds)

    def product(self) -> int:
        # Two draws, the smaller wins: some products are popular.
        return min(self.chance.randint(1, PRODUCTS), self.chance.randint(1, PRODUCTS))


def _encoded(body: object) -> tuple[bytes | None, dict[str, str]]:
    if body is None or isinstance(body, str):
        return (body.encode() if body else None), {}
    return json.dumps(body).encode(), {"Content-Type": "application/json"}


def browse(visitor: Visitor) -> None:
    visitor.request("GET", "/")
    visitor.request("GET", f"/products?page={visitor.chance.randint(1, 6)}")
    for _ in range(visitor.chance.randint(1, 4)):
        visitor.request("GET", f"/products/{visitor.product()}")


def search(visitor: Visitor) -> None:
    word = visitor.chance.choice(WORDS)
    visitor.request("GET", f"/search/suggestions?q={word[:2]}")
    visitor.request("GET", f"/search?q={word}")
    visitor.request("GET", f"/products/{visitor.product()}")


def search_in_vain(visitor: Visitor) -> None:
    typo = visitor.chance.choice(TYPOS)
    visitor.request("GET", f"/search/suggestions?q={typo}")
    visitor.request("GET", f"/search?q={typo}")


def buy(visitor: Visitor) -> None:
    order = _order(visitor)
    if order is not None:
        visitor.request("GET", f"/orders/{order}")


def buy_and_pay(visitor: Visitor) -> None:
    order = _order(visitor)
    if order is not None:
        visitor.request("POST", f"/orders/{order}/pay", {})
        visitor.request("GET", f"/orders/{order}/tracking")


def ask_for_parcel(visitor: Visitor) -> None:
    order = _order(visitor)
    visitor.request("GET", f"/orders/{order or 'unknown'}/tracking")


def compare_shipping(visitor: Visitor) -> None:
    cart = _cart(visitor)
    visitor.request("GET", f"/carts/{cart}/shipping")
    visitor.request("DELETE", f"/carts/{cart}/items/{visitor.product()}")
    visitor.request("GET", f"/carts/{cart}/shipping")


def _order(visitor: Visitor) -> str | None:
    answer = visitor.request("POST", f"/carts/{_cart(visitor)}/checkout", {})
    return answer.get("reference")


def _cart(visitor: Visitor) -> str:
    token: str = visitor.request("POST", "/carts", {}).get("token", "unknown")
    for _ in range(visitor.chance.randint(1, 3)):
        item = {"product_id": visitor.product(), "quantity": visitor.chance.randint(1, 3)}
        visitor.request("POST", f"/carts/{token}/items", item)
    visitor.request("GET", f"/carts/{token}")
    return token


def review(visitor: Visitor) -> None:
    product = visitor.product()
    visitor.request("GET", f"/products/{product}")
    visitor.request("POST", f"/products/{product}/reviews", {"stars": 5, "text": "Very nice."})


def sign_up(visitor: Visitor) -> None:
    email = f"{secrets.token_hex(4)}@example.com"
    visitor.request("POST", "/customers", {"email": email})
    visitor.request("POST", "/customers", {"email": email})  # the double click
    visitor.request("POST", "/newsletter", {"email": email})
    visitor.request("POST", "/password-reminders", {"email": email})
    visitor.request("POST", "/password-resets", {"email": email})


def wish(visitor: Visitor) -> None:
    email = f"{secrets.token_hex(4)}@example.com"
    product = visitor.product()
    visitor.request("POST", "/wishlist", {"email": email, "product_id": product})
    visitor.request("POST", "/wishlist", {"email": email, "product_id": product})


def give(visitor: Visitor) -> None:
    visitor.request("POST", "/gift-cards", {"amount": 2500})


def get_lost(visitor: Visitor) -> None:
    visitor.request("GET", "/orders/unknown")
    visitor.request("GET", f"/basket.php?id={visitor.product()}")


def crawl(visitor: Visitor) -> None:
    """Not a person: a search engine."""
    visitor.request("GET", "/sitemap.txt")


def compare_prices(visitor: Visitor) -> None:
    visitor.request("GET", "/reports/products.csv")
    visitor.request("GET", "/reports/prices.csv")


def count_shelves(visitor: Visitor) -> None:
    visitor.request("GET", "/reports/inventory.csv")


def export_midway(visitor: Visitor) -> None:
    visitor.leave_midway("/reports/products.csv")
    visitor.leave_midway("/reports/inventory.csv")
    visitor.request("GET", "/reports/products.csv")


def close_the_month(visitor: Visitor) -> None:
    """Four windows at once, because the first one was slow."""
    windows = [threading.Thread(target=visitor.request, args=("GET", "/reports/sales.csv")) for _ in range(4)]
    for window in windows:
        window.start()
    for window in windows:
        window.join()


def look_after(visitor: Visitor) -> None:
    visitor.request("GET", "/healthz")
    visitor.request("GET", "/admin/orders")
    visitor.request("GET", "/admin/dashboard")
    visitor.request("POST", f"/admin/products/{visitor.product()}/price", {"price": 1990})


def refill(visitor: Visitor) -> None:
    visitor.request("POST", "/admin/stock", stock_list(visitor.chance))


def tidy_up(visitor: Visitor) -> None:
    """Move things between shelves, the second time with a slip of the pen; then make room."""
    for shelf in ("SKU-0002", "SKU-002"):
        visitor.request("POST", "/admin/stock/moves", {"from": "SKU-0001", "to": shelf, "quantity": 1})
    visitor.request("POST", "/admin/clearance", {})


def edit_pages(visitor: Visitor) -> None:
    """Read the footer's pages, then change one: without pauses, so that nothing else is told about them."""
    for method, path, body in [
        ("GET", "/pages/delivery", None),
        ("GET", "/pages/returns", None),
        ("POST", "/admin/settings", {"returns": "Forty days, no questions."}),
    ]:
        visitor.fetch(method, path, body)
    visitor.think()


def stock_list(chance: random.Random, lines: int = 24) -> str:
    """A wholesaler's list of that many products, in the shop's format."""
    products = chance.sample(range(1, PRODUCTS + 1), lines)
    return "".join(f"SKU-{product:04},{chance.randint(100, 500)}\n" for product in products)


CUSTOMERS: dict[Journey, int] = {
    browse: 30,
    search: 15,
    buy: 12,
    sign_up: 5,
    compare_shipping: 5,
    buy_and_pay: 4,
    search_in_vain: 4,
    review: 4,
    wish: 4,
    ask_for_parcel: 3,
    give: 2,
    get_lost: 2,
    crawl: 1,
}
ACCOUNTANTS: dict[Journey, int] = {
    compare_prices: 2,
    export_midway: 3,
    count_shelves: 2,
    close_the_month: 2,
}
# One person only: `edit_pages` has no meaning with two at once.
STAFF: dict[Journey, int] = {look_after: 3, refill: 2, edit_pages: 2, tidy_up: 2}


class Traffic:
    """All visitors of the shop, each on a thread of their own.

    :param customers: how many customers there are besides one accountant and one of the staff.
    """

    def __init__(self, port: int, customers: int = 6, seed: int = 1) -> None:
        self.tally = Tally()
        self._stop = threading.Event()
        self._first = collections.deque(CUSTOMERS)
        crowd = [(CUSTOMERS, self._first, 0.2)] * customers
        crowd += [(ACCOUNTANTS, collections.deque(ACCOUNTANTS), 2.0), (STAFF, collections.deque(STAFF), 1.0)]
        self._threads = [
            threading.Thread(
                target=self._live,
                args=(Visitor(port, self.tally, self._stop, random.Random(seed * 1000 + number)), *person),
                name=f"visitor-{number}",
                daemon=True,
            )
            for number, person in enumerate(crowd)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every visitor finish the request they are in, and no other."""
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _live(
        self, visitor: Visitor, journeys: dict[Journey, int], first: collections.deque[Journey], pause: float
    ) -> None:
        while not self._stop.is_set():
            try:
                _next(visitor.chance, journeys, first)(visitor)
            except (OSError, http.client.HTTPException, ValueError):
                # The shop is starting, stopping, or answered with an error page: visitors come back.
                visitor.think()
            visitor.think(pause)


def _next(chance: random.Random, journeys: dict[Journey, int], first: collections.deque[Journey]) -> Journey:
    """Every journey once, so that a short demo shows all of them; then by weight."""
    try:
        return first.popleft()
    except IndexError:
        return chance.choices(list(journeys), list(journeys.values()))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--customers", type=int, default=6)
    options = parser.parse_args()
    traffic = Traffic(options.port, options.customers)
    traffic.start()
    try:
        time.sleep(options.seconds)
    finally:
        traffic.stop()
        print(f"{traffic.tally.requests} requests: {dict(sorted(traffic.tally.statuses.items()))}")


if __name__ == "__main__":
    main()
