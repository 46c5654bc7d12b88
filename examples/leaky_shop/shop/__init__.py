"""A small shop on Flask-SQLAlchemy. Most of it is healthy; seventeen rules of flask_sessionwatch have a bug to find."""

import os
import typing as t

from flask import Flask

from . import admin
from . import carts
from . import catalogue
from . import cli
from . import config
from . import customers
from . import orders
from . import pages
from . import payments
from . import reports
from . import site_settings
from .extensions import db
from .extensions import watch

BLUEPRINTS = [
    admin.bp,
    carts.bp,
    catalogue.bp,
    cli.bp,
    customers.bp,
    orders.bp,
    pages.bp,
    payments.bp,
    reports.bp,
]


def create_app(overrides: dict[str, t.Any] | None = None) -> Flask:
    """Build the shop.

    :param overrides: configuration that wins over the defaults and the environment.
    """
    config.set_up_logging()
    app = Flask(__name__, instance_path=os.environ.get("SHOP_INSTANCE_PATH"))
    app.config.from_mapping(config.from_environment())
    app.config.update(overrides or {})
    db.init_app(app)
    watch.init_app(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    with app.app_context():
        site_settings.bind(db.engine)
    return app
