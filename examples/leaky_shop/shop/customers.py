"""Sign-up, newsletter and wish list."""

import sqlalchemy as sa
from flask import Blueprint
from flask import request
from flask.typing import ResponseReturnValue

from .extensions import db
from .models import Customer
from .models import Subscriber
from .models import Wish

bp = Blueprint("customers", __name__)


@bp.post("/customers")
def sign_up() -> ResponseReturnValue:
    """The right way to lose a race for a unique value: roll back, then answer."""
    db.session.add(Customer(email=request.get_json()["email"]))
    try:
        db.session.commit()
    except sa.exc.IntegrityError:
        db.session.rollback()
        return {"error": "already a customer"}, 409
    return {"status": "welcome"}, 201


@bp.post("/newsletter")
def subscribe() -> ResponseReturnValue:
    _store_subscriber(request.get_json()["email"])
    return {"status": "subscribed"}, 201


def _store_subscriber(email: str) -> None:
    connection = db.engine.connect()  # SW102 abandoned-connection: committed, never closed
    connection.execute(sa.insert(Subscriber).values(email=email))
    connection.commit()


@bp.post("/wishlist")
def add_wish() -> ResponseReturnValue:
    form = request.get_json()
    db.session.add(Wish(email=form["email"], product_id=form["product_id"]))
    try:
        db.session.commit()  # SW205 failed-transaction: the error is swallowed, nobody rolls back
    except sa.exc.IntegrityError:
        pass  # already on the list: fine
    return {"status": "on the list"}
