"""Read from a query which findings somebody asks for."""

from __future__ import annotations

import flask

from ..store.listing import FACETS
from ..store.listing import FLAGS
from ..store.listing import SORTS
from ..store.listing import Query

#: What a list of findings can be narrowed by.
FILTERS = (*FACETS, *FLAGS)
#: The most that is answered at once where a limit is given.
MOST = 10_000


def query() -> Query:
    """Return what the query of the current request asks for.

    :raises BadRequest: it asks for an order that there is not, or the number of findings is none.
    """
    args = flask.request.args
    sort = args.get("sort", Query.sort)
    by = sort.removeprefix("-")
    if by not in SORTS:
        flask.abort(400)
    return Query(
        wanted={name: args.getlist(name) for name in FILTERS if name in args},
        text=args.get("q", ""),
        sort=by,
        descending=by != sort,
        offset=_number("offset", 0) or 0,
        limit=_number("limit", None),
    )


def _number(name: str, default: int | None) -> int | None:
    text = flask.request.args.get(name)
    if text is None:
        return default
    # int() takes signs, spaces and digits of every script.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST))):
        flask.abort(400)
    return min(int(text), MOST)


def flag(name: str, *, default: bool) -> bool:
    """Return a parameter of the current request that is "true" or "false".

    :raises BadRequest: it is neither.
    """
    text = flask.request.args.get(name, str(default).lower())
    if text not in ("true", "false"):
        flask.abort(400)
    return text == "true"
