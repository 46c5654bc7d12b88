"""What the staff sees and does. No password: it is a demonstration and listens on loopback."""

import functools
import typing as t
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
import sqlalchemy.orm as orm
from flask import Blueprint
from flask import request
from flask.typing import ResponseReturnValue

from . import site_settings
from . import stock
from .extensions import db
from .models import Order
from .models import Product

bp = Blueprint("admin", __name__)


@bp.get("/healthz")
def health() -> ResponseReturnValue:
    with db.engine.connect() as connection:
        connection.execute(sa.text("SELECT 1"))
    return {"status": "ok"}


@bp.get("/admin/orders")
def orders() -> ResponseReturnValue:
    latest = db.session.scalars(sa.select(Order).order_by(Order.id.desc()).limit(20))
    return {"orders": [{"reference": order.reference, "status": order.status} for order in latest]}


@bp.post("/admin/products/<int:product_id>/price")
def set_price(product_id: int) -> ResponseReturnValue:
    product = db.get_or_404(Product, product_id)
    product.price = request.get_json()["price"]
    db.session.commit()
    return "", 204


@bp.post("/admin/stock")
def import_stock() -> ResponseReturnValue:
    return {"products": stock.import_lines(request.get_data(as_text=True).splitlines())}


@bp.post("/admin/stock/moves")
def move_stock() -> ResponseReturnValue:
    """Goods lay on the wrong shelf: book them over to the right one."""
    form = request.get_json()
    stock.book(form["from"], -form["quantity"])
    stock.book(form["to"], form["quantity"])
    return "", 204


@bp.post("/admin/clearance")
def clear() -> ResponseReturnValue:
    """Take a tenth off what there is too much of, and show the new prices."""
    plenty = db.session.scalars(sa.select(Product).order_by(Product.stock.desc()).limit(10)).all()
    for product in plenty:
        product.price -= product.price // 10
    db.session.commit()
    prices = {each.sku: each.price for each in plenty}  # SW213 refetch-after-commit: one by one
    return {"prices": prices}


@bp.post("/admin/settings")
def change_settings() -> ResponseReturnValue:
    for key, value in request.get_json().items():
        site_settings.put(key, value)
    return "", 204


@bp.get("/admin/dashboard")
def dashboard() -> ResponseReturnValue:
    """Today's figures. They take a while each, so they are computed side by side."""
    with orm.Session(db.engine) as session:
        waiting = session.scalar(sa.select(sa.func.count(Order.id)).where(Order.status == "new"))
        with ThreadPoolExecutor(3, thread_name_prefix="figures") as pool:
            busy, quiet, peak = pool.map(functools.partial(_figure, session), _load_curves())
    return {"waiting": waiting, "busy_minutes": busy, "quiet_minutes": quiet, "peak_minute": peak}


def _figure(session: orm.Session, query: sa.Select[t.Any]) -> int | None:
    value: int | None = session.scalar(query)  # SW303 cross-thread-session: three threads, one session
    return value


def _load_curves() -> list[sa.Select[t.Any]]:
    """Forecasts over the minutes of the next three months, from a calendar that the database makes up."""
    minutes = sa.select(sa.literal(0).label("minute")).cte("minutes", recursive=True)
    minutes = minutes.union_all(sa.select(minutes.c.minute + 1).where(minutes.c.minute < 130_000))
    load = (minutes.c.minute * 7919) % 1440
    return [
        sa.select(sa.func.count()).select_from(minutes).where(load >= 720),
        sa.select(sa.func.count()).select_from(minutes).where(load < 720),
        sa.select(sa.func.max(load)),
    ]
