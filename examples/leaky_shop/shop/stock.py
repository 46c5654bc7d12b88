"""What lies on the shelves: the wholesaler's list (one line per product, `sku,quantity`), and bookings by hand."""

import collections.abc as cabc
import csv

import sqlalchemy as sa

from .extensions import db
from .models import Product


def import_lines(lines: cabc.Iterable[str]) -> int:
    """Take the quantities over, and tell how many products were known."""
    known = 0
    for sku, quantity in csv.reader(lines):
        product = db.session.scalar(sa.select(Product).where(Product.sku == sku))
        if product is not None:
            product.stock = int(quantity)
            db.session.commit()  # SW501 commit-storm: once per line instead of once per list
            known += 1
    return known


def book(sku: str, quantity: int) -> None:
    """Put so many pieces of a product on its shelf, or take them off it."""
    product = db.session.scalars(sa.select(Product).where(Product.sku == sku)).one()
    product.stock += quantity
    db.session.commit()  # SW206 partial-commit: a move books twice, and its second half may fail
