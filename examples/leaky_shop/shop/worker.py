"""The background thread: it does what no customer should wait for."""

import gc
import logging
import threading
from datetime import timedelta

import sqlalchemy as sa
from flask import Flask

from . import views
from .extensions import db
from .extensions import watch
from .models import Cart
from .models import CartItem
from .models import now

log = logging.getLogger(__name__)

ROUND = 2.0
CART_LIFETIME = timedelta(minutes=10)
# The connections that this shop leaks come back only when the collector runs, and a quiet hour may be too long.
COLLECT_EVERY = 5


class Worker:
    """Lives as long as the process. One thread, one round of jobs at a time."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shop-worker", daemon=True)
        with app.app_context():
            self._engine = db.engine

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        rounds = 0
        while not self._stop.wait(ROUND):
            rounds += 1
            try:
                self._work(rounds)
            except Exception:
                log.exception("A round of the worker failed; the next one follows.")

    def _work(self, rounds: int) -> None:
        with watch.scope("write-views"):
            views.write(self._engine)
        with watch.scope("expire-carts"), self._app.app_context():
            expire_carts()
        if rounds % COLLECT_EVERY == 0:
            gc.collect()


def expire_carts() -> None:
    """Delete what was left in carts for too long, in one transaction."""
    old = sa.select(Cart.id).where(Cart.created_at < now() - CART_LIFETIME)
    db.session.execute(sa.delete(CartItem).where(CartItem.cart_id.in_(old)))
    db.session.execute(sa.delete(Cart).where(Cart.created_at < now() - CART_LIFETIME))
    db.session.commit()
