"""Money: paying orders, and gift cards."""

import secrets

import sqlalchemy as sa
from flask import Blueprint
from flask import request
from flask.typing import ResponseReturnValue

from . import provider
from .extensions import db
from .models import GiftCard
from .models import Order

bp = Blueprint("payments", __name__)


@bp.post("/orders/<reference>/pay")
def pay(reference: str) -> ResponseReturnValue:
    query = sa.select(Order).where(Order.reference == reference)
    order = db.session.execute(query).scalar_one()  # SW202 idle-in-transaction: open while the bank thinks
    charge = provider.charge(order.total)
    order.status = "paid"
    db.session.commit()
    return {"charge": charge}


@bp.post("/gift-cards")
def buy_gift_card() -> ResponseReturnValue:
    """The same call to the same bank, before the transaction begins instead of inside it."""
    amount = request.get_json()["amount"]
    charge = provider.charge(amount)
    code = secrets.token_hex(8)
    db.session.add(GiftCard(code=code, amount=amount, charge=charge))
    db.session.commit()
    return {"code": code}, 201
