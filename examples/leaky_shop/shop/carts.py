"""Carts, and what sending them costs."""

import secrets

import sqlalchemy as sa
import sqlalchemy.orm as orm
from flask import Blueprint
from flask import request
from flask.typing import ResponseReturnValue

from .extensions import db
from .models import Cart
from .models import CartItem
from .models import Product
from .models import Setting

bp = Blueprint("carts", __name__, url_prefix="/carts")


@bp.post("")
def create() -> ResponseReturnValue:
    token = secrets.token_hex(8)
    db.session.add(Cart(token=token))
    db.session.commit()
    return {"token": token}, 201


@bp.get("/<token>")
def show(token: str) -> ResponseReturnValue:
    cart = find(token)
    return {"items": [_line(item) for item in cart.items], "total": total(cart)}


@bp.post("/<token>/items")
def add_item(token: str) -> ResponseReturnValue:
    form = request.get_json()
    cart = find(token)
    product = db.get_or_404(Product, form["product_id"])
    cart.items.append(CartItem(product=product, quantity=form["quantity"]))
    answer = {"total": total(cart)}
    db.session.commit()
    return answer, 201


@bp.delete("/<token>/items/<int:product_id>")
def remove_item(token: str, product_id: int) -> ResponseReturnValue:
    cart = find(token)
    cart.items[:] = [item for item in cart.items if item.product_id != product_id]
    db.session.commit()
    return "", 204


@bp.get("/<token>/shipping")
def shipping(token: str) -> ResponseReturnValue:
    cart = find(token)
    grams = sum(item.quantity * item.product.weight for item in cart.items)
    return {"grams": grams, "price": 0 if total(cart) >= _free_from() else 490 + grams // 10}


def _free_from() -> int:
    """From which total on sending is free. Opens a session of its own, to be usable everywhere."""
    with orm.Session(db.engine) as session:
        query = sa.select(Setting.value).where(Setting.key == "free_shipping_from")
        value = session.scalar(query)  # SW104 nested-checkout: the caller's db.session holds one already
    return int(value or 5000)


def find(token: str) -> Cart:
    """The cart of that token with its items, or 404."""
    query = sa.select(Cart).where(Cart.token == token).options(orm.selectinload(Cart.items))
    found: Cart = db.one_or_404(query)
    return found


def total(cart: Cart) -> int:
    return sum(item.quantity * item.product.price for item in cart.items)


def _line(item: CartItem) -> dict[str, str | int]:
    return {"product": item.product.name, "quantity": item.quantity, "price": item.product.price}
