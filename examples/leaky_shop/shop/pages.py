"""The pages of the footer. Their texts are settings."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from . import site_settings

bp = Blueprint("pages", __name__, url_prefix="/pages")


@bp.get("/delivery")
def delivery() -> ResponseReturnValue:
    return {"text": site_settings.get("delivery")}


@bp.get("/returns")
def returns() -> ResponseReturnValue:
    return {"text": site_settings.get("returns")}
