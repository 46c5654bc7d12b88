"""The shop's commands: `flask --app shop init-db`, `flask --app shop import-stock FILE`."""

import random
import typing as t

import click
import sqlalchemy as sa
from flask import Blueprint

from . import stock
from .extensions import db
from .models import Base
from .models import Product
from .models import Setting

bp = Blueprint("cli", __name__, cli_group=None)

ADJECTIVES = ["Plain", "Striped", "Woollen", "Linen", "Enamel", "Copper", "Oak", "Felt", "Glazed", "Folding"]
NOUNS = [
    "bowl",
    "lamp",
    "chair",
    "blanket",
    "kettle",
    "basket",
    "mirror",
    "stool",
    "jug",
    "rug",
    "tray",
    "clock",
]
SETTINGS = {
    "delivery": "We send within two days.",
    "returns": "Thirty days, no questions.",
    "free_shipping_from": "5000",
}


@bp.cli.command("init-db")
def init_db() -> None:
    """Create the tables and fill the shelves, unless there is something on them."""
    _prefer_wal(db.engine)
    Base.metadata.create_all(db.engine)
    if db.session.scalar(sa.select(sa.func.count(Product.id))) == 0:
        db.session.add_all([*_products(random.Random(7)), *_settings()])
        db.session.commit()
    click.echo("The shop is ready.")


@bp.cli.command("import-stock")
@click.argument("file", type=click.File())
def import_stock(file: t.TextIO) -> None:
    """Take over the quantities of the wholesaler's list."""
    click.echo(f"{stock.import_lines(file)} products updated.")


def _prefer_wal(engine: sa.Engine) -> None:
    """Let SQLite's readers and its writer work side by side; the file remembers it."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def _products(chance: random.Random) -> list[Product]:
    names = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
    return [
        Product(
            sku=f"SKU-{number:04}",
            name=name,
            price=chance.randrange(500, 9900, 10),
            weight=chance.randrange(100, 5000, 50),
            stock=chance.randrange(50, 500),
        )
        for number, name in enumerate(names, 1)
    ]


def _settings() -> list[Setting]:
    return [Setting(key=key, value=value) for key, value in SETTINGS.items()]
