"""What is wrong with the shop: one entry per bug, found by the comment on its line, so that no number goes stale."""

import ast
import collections.abc as cabc
import dataclasses
import functools
import pathlib

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Bug:
    """One bug of the shop.

    :param code: the rule that tells it, which is also what its marker begins with: `# SW101 ...`.
    :param scopes: the names of the scopes that run it; any of them may be the one that is told.
    :param file: where it is, from the shop's folder.
    :param function: in which function.
    :param beside: codes of rules that may rightly speak up about the same bug.
    """

    code: str
    rule: str
    scopes: tuple[str, ...]
    file: str
    function: str
    beside: tuple[str, ...] = ()

    @functools.cached_property
    def line(self) -> int:
        """The line that the marker is on."""
        return marked_line(HERE / self.file, self.function, f"# {self.code} {self.rule}")

    @property
    def site(self) -> str:
        return f"{self.file}:{self.line}"

    def is_at(self, filename: str, line: int) -> bool:
        return line == self.line and pathlib.PurePath(filename).match(self.file)


BUGS = (
    Bug("SW101", "leaked-connection", ("GET /search/suggestions",), "shop/catalogue.py", "suggestions"),
    Bug("SW102", "abandoned-connection", ("POST /newsletter",), "shop/customers.py", "_store_subscriber"),
    Bug("SW103", "long-checkout", ("GET /reports/inventory.csv",), "shop/reports.py", "_count_shelves"),
    Bug("SW104", "nested-checkout", ("GET /carts/<token>/shipping",), "shop/carts.py", "_free_from"),
    Bug("SW108", "checkout-churn", ("GET /reports/prices.csv",), "shop/reports.py", "_count_between"),
    Bug("SW201", "leaked-session", ("GET /orders/<reference>/tracking",), "shop/orders.py", "tracking"),
    Bug("SW202", "idle-in-transaction", ("POST /orders/<reference>/pay",), "shop/payments.py", "pay"),
    Bug(
        "SW204",
        "uncommitted-changes",
        ("POST /products/<int:product_id>/reviews",),
        "shop/catalogue.py",
        "add_review",
    ),
    Bug("SW204", "uncommitted-changes", ("write-views",), "shop/views.py", "write"),
    Bug("SW205", "failed-transaction", ("POST /wishlist",), "shop/customers.py", "add_wish"),
    Bug("SW206", "partial-commit", ("POST /admin/stock/moves",), "shop/stock.py", "book"),
    Bug("SW213", "refetch-after-commit", ("POST /admin/clearance",), "shop/admin.py", "clear"),
    Bug(
        "SW301",
        "session-outside-scope",
        ("GET /pages/delivery", "GET /pages/returns", "POST /admin/settings"),
        "shop/site_settings.py",
        "get",
        # Whoever began the transaction that the next one uses has left it open, and `put` ends it.
        beside=("SW201", "SW304"),
    ),
    Bug("SW303", "cross-thread-session", ("GET /admin/dashboard",), "shop/admin.py", "_figure"),
    Bug("SW309", "detached-access", ("POST /password-resets",), "shop/customers.py", "reset_password"),
    Bug("SW404", "legacy-query", ("GET /sitemap.txt",), "shop/catalogue.py", "sitemap"),
    Bug(
        "SW501",
        "commit-storm",
        ("POST /admin/stock",),
        "shop/stock.py",
        "import_lines",
        beside=("SW214",),
    ),
    Bug("SW501", "commit-storm", ("import-stock",), "shop/stock.py", "import_lines", beside=("SW214",)),
    Bug(
        "SW601",
        "pool-exhausted",
        ("GET /reports/sales.csv",),
        "shop/reports.py",
        "sales",
        beside=("SW602", "SW603"),
    ),
)

CODES = tuple(sorted({bug.code for bug in BUGS}))


def marked_line(path: pathlib.Path, function: str, marker: str) -> int:
    """The one line of `function` in `path` that carries `marker`."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    found = [number for number in _lines_of(source, function) if marker in lines[number - 1]]
    if len(found) != 1:
        raise LookupError(f"{path}: {len(found)} lines of {function}() carry {marker!r}, expected 1.")
    return found[0]


def _lines_of(source: str, function: str) -> cabc.Iterator[int]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)
