"""Home page, products, search and reviews."""

import sqlalchemy as sa
from flask import Blueprint
from flask import request
from flask.typing import ResponseReturnValue

from . import views
from .extensions import db
from .models import Product
from .models import Review

bp = Blueprint("catalogue", __name__)
PAGE = 20


@bp.get("/")
def home() -> ResponseReturnValue:
    featured = db.session.scalars(sa.select(Product).order_by(Product.views.desc(), Product.id).limit(6))
    return {"featured": [_card(product) for product in featured]}


@bp.get("/products")
def products() -> ResponseReturnValue:
    page = request.args.get("page", 1, type=int)
    query = sa.select(Product).order_by(Product.name).limit(PAGE).offset((page - 1) * PAGE)
    return {"products": [_card(product) for product in db.session.scalars(query)]}


@bp.get("/sitemap.txt")
def sitemap() -> ResponseReturnValue:
    """Every product's page, for search engines. Nobody has touched this since the shop opened."""
    found = db.session.query(Product).order_by(Product.id).all()  # SW404 legacy-query: from before 2.0
    lines = [f"{request.url_root}products/{each.id}\n" for each in found]
    return "".join(lines), {"Content-Type": "text/plain"}


@bp.get("/products/<int:product_id>")
def product(product_id: int) -> ResponseReturnValue:
    found = db.get_or_404(Product, product_id)
    stars = db.session.scalar(sa.select(sa.func.avg(Review.stars)).where(Review.product_id == product_id))
    views.buffer.add(product_id)
    return {**_card(found), "stock": found.stock, "stars": stars and float(stars)}


@bp.get("/search")
def search() -> ResponseReturnValue:
    term = request.args.get("q", "")
    query = sa.select(Product).where(Product.name.icontains(term, autoescape=True)).limit(PAGE)
    return {"products": [_card(product) for product in db.session.scalars(query)]}


@bp.get("/search/suggestions")
def suggestions() -> ResponseReturnValue:
    """Complete what the visitor types. Called at every key, so it does without the ORM."""
    term = request.args.get("q", "")
    connection = db.engines["search"].connect()  # SW101 leaked-connection: the early return forgets it
    query = sa.select(Product.name).where(Product.name.istartswith(term, autoescape=True)).limit(5)
    names = connection.scalars(query).all()
    if not names:
        return {"suggestions": []}
    connection.close()
    return {"suggestions": list(names)}


@bp.post("/products/<int:product_id>/reviews")
def add_review(product_id: int) -> ResponseReturnValue:
    form = request.get_json()
    review = Review(product_id=product_id, stars=form["stars"], text=form["text"])
    db.session.add(review)
    db.session.flush()  # SW204 uncommitted-changes: the id is answered, the review is rolled back
    return {"id": review.id}, 201


def _card(product: Product) -> dict[str, str | int]:
    return {"id": product.id, "sku": product.sku, "name": product.name, "price": product.price}
