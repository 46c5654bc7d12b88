"""Lists for the accountants, as CSV."""

import collections.abc as cabc
import time

import sqlalchemy as sa
import sqlalchemy.orm as orm
from flask import Blueprint
from flask import Response

from . import provider
from .extensions import db
from .models import Order
from .models import Product

bp = Blueprint("reports", __name__, url_prefix="/reports")

CURRENCIES = ["CHF", "CZK", "DKK", "GBP", "HUF", "ISK", "NOK", "PLN", "RON", "SEK", "TRY", "USD"]
WEEKS = 52
PRICE_BANDS = range(0, 10_000, 500)
SHELVES = 24
PAUSE = 0.2  # seconds between two shelves


@bp.get("/products.csv")
def products() -> Response:
    """A long list, streamed. Everything is read before the first byte is sent, so a slow reader holds nothing."""
    rows = db.session.execute(sa.select(Product.sku, Product.price).order_by(Product.sku)).all()
    return _csv(_forecast_lines(sku, price) for sku, price in rows)


def _forecast_lines(sku: str, price: int) -> str:
    return "".join(f"{sku},{week},{price + week}\n" for week in range(1, WEEKS + 1))


@bp.get("/prices.csv")
def prices() -> Response:
    """How many products there are in each price band."""
    lines = [f"{price},{_count_between(price, price + PRICE_BANDS.step)}\n" for price in PRICE_BANDS]
    return _csv(iter(lines))


def _count_between(low: int, high: int) -> int:
    with orm.Session(db.engine) as session:
        query = sa.select(sa.func.count(Product.id)).where(Product.price >= low, Product.price < high)
        return session.scalar(query) or 0  # SW108 checkout-churn: a session for each band


@bp.get("/inventory.csv")
def inventory() -> Response:
    """What lies on which shelf, streamed while it is counted."""
    return _csv(_count_shelves(db.engine))


def _count_shelves(engine: sa.Engine) -> cabc.Iterator[str]:
    with engine.connect() as connection:  # SW103 long-checkout: held for as long as the list is read
        for shelf in range(SHELVES):
            query = sa.select(sa.func.sum(Product.stock)).where(Product.id % SHELVES == shelf)
            yield f"{shelf},{connection.scalar(query)}\n"
            time.sleep(PAUSE)  # be gentle with the database


@bp.get("/sales.csv")
def sales() -> Response:
    """The turnover in every currency, from the replica for reports."""
    with db.engines["reporting"].connect() as connection:  # SW601 pool-exhausted: held during slow calls
        lines = [_turnover(connection, currency) for currency in CURRENCIES]
    return _csv(iter(lines))


def _turnover(connection: sa.Connection, currency: str) -> str:
    cents = connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(Order.total), 0)))
    return f"{currency},{int(cents or 0) * provider.exchange_rate(currency) / 100:.2f}\n"


def _csv(lines: cabc.Iterator[str]) -> Response:
    return Response(lines, mimetype="text/csv")
