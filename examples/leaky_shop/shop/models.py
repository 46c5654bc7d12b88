"""What the shop remembers."""

from datetime import datetime
from datetime import timezone

import sqlalchemy as sa
import sqlalchemy.orm as orm


def now() -> datetime:
    return datetime.now(timezone.utc)


class Base(orm.DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    email: orm.Mapped[str] = orm.mapped_column(sa.String(120), unique=True)


class Product(Base):
    __tablename__ = "products"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    sku: orm.Mapped[str] = orm.mapped_column(sa.String(20), unique=True)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(80), index=True)
    price: orm.Mapped[int]  # cents, as everywhere in the shop
    weight: orm.Mapped[int]  # grams
    stock: orm.Mapped[int]
    views: orm.Mapped[int] = orm.mapped_column(default=0)


class Review(Base):
    __tablename__ = "reviews"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    product_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(Product.id), index=True)
    stars: orm.Mapped[int]
    text: orm.Mapped[str] = orm.mapped_column(sa.String(500))


class Cart(Base):
    __tablename__ = "carts"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    token: orm.Mapped[str] = orm.mapped_column(sa.String(32), unique=True)
    created_at: orm.Mapped[datetime] = orm.mapped_column(sa.DateTime(timezone=True), default=now, index=True)
    items: orm.Mapped[list["CartItem"]] = orm.relationship(cascade="all, delete-orphan")


class CartItem(Base):
    __tablename__ = "cart_items"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    cart_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(Cart.id), index=True)
    product_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(Product.id))
    quantity: orm.Mapped[int]
    product: orm.Mapped[Product] = orm.relationship(lazy="joined", innerjoin=True)


class Order(Base):
    __tablename__ = "orders"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    reference: orm.Mapped[str] = orm.mapped_column(sa.String(32), unique=True)
    status: orm.Mapped[str] = orm.mapped_column(sa.String(20), default="new", index=True)
    total: orm.Mapped[int]
    created_at: orm.Mapped[datetime] = orm.mapped_column(sa.DateTime(timezone=True), default=now, index=True)


class Subscriber(Base):
    __tablename__ = "subscribers"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    email: orm.Mapped[str] = orm.mapped_column(sa.String(120))


class Wish(Base):
    __tablename__ = "wishes"
    __table_args__ = (sa.UniqueConstraint("email", "product_id"),)

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    email: orm.Mapped[str] = orm.mapped_column(sa.String(120))
    product_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey(Product.id))


class GiftCard(Base):
    __tablename__ = "gift_cards"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    code: orm.Mapped[str] = orm.mapped_column(sa.String(32), unique=True)
    amount: orm.Mapped[int]
    charge: orm.Mapped[str] = orm.mapped_column(sa.String(40))


class Setting(Base):
    __tablename__ = "settings"

    key: orm.Mapped[str] = orm.mapped_column(sa.String(40), primary_key=True)
    value: orm.Mapped[str] = orm.mapped_column(sa.String(500))
