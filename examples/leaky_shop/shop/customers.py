"""Sign-up, forgotten passwords, newsletter and wish list."""

import logging
import threading
import time

import sqlalchemy as sa
from flask import Blueprint
from flask import request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import exc as orm_exc

from .extensions import db
from .models import Customer
from .models import Subscriber
from .models import Wish

bp = Blueprint("customers", __name__)
log = logging.getLogger(__name__)


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


@bp.post("/password-resets")
def reset_password() -> ResponseReturnValue:
    email = request.get_json()["email"]
    customer = db.session.scalar(  # SW309 detached-access: a thread reads it after the request
        sa.select(Customer).where(Customer.email == email)
    )
    if customer is None:
        return {"error": "no such customer"}, 404
    db.session.commit()
    threading.Thread(target=_send_link, args=(customer,), daemon=True).start()
    return {"status": "a link is on its way"}, 202


def _send_link(customer: Customer) -> None:
    time.sleep(0.2)  # the mail server greets
    try:
        log.info("A link for %s is sent.", customer.email)
    except orm_exc.DetachedInstanceError:
        log.warning("A link was not sent.")


@bp.post("/password-reminders")
def remind() -> ResponseReturnValue:
    """The right way to hand work to a thread: it gets values, and no object of the session."""
    email = db.session.scalar(sa.select(Customer.email).where(Customer.email == request.get_json()["email"]))
    if email is None:
        return {"error": "no such customer"}, 404
    threading.Thread(target=log.info, args=("A reminder for %s is sent.", email), daemon=True).start()
    return {"status": "a reminder is on its way"}, 202


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
