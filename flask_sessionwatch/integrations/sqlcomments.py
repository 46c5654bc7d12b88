"""Comments in SQL that say which route or command a statement came from, in the form of sqlcommenter."""

from __future__ import annotations

import typing as t
from urllib.parse import quote

import flask
import sqlalchemy as sa
from sqlalchemy import event

from ..observe.records import current_scope
from ..report.logs import logger


def comment_sql(engine: t.Any) -> None:
    """Let every statement of *engine* end in a comment with its route, so that the database's own views show it.

    In a request, ``/*controller='orders.show',route='/orders/%3Cint:id%3E'*/`` names endpoint and URL rule; in any other
    scope, ``/*action='shop.tasks.send'*/`` names the scope. A statement that has a comment already is left as it is.

    This is the one listener of this package that makes SQLAlchemy take its slower path for every statement, and it
    makes one statement per route of what was one: prepared statements, and caches by the text of a statement, are
    kept for each route. A value that differs by request, such as a trace id, is left out for that reason.

    :param engine: an Engine or an AsyncEngine.
    """
    target = getattr(engine, "sync_engine", engine)
    if not event.contains(target, "before_cursor_execute", _add_comment):
        event.listen(target, "before_cursor_execute", _add_comment, retval=True)


def _add_comment(
    connection: sa.Connection,
    cursor: t.Any,
    statement: str,
    parameters: t.Any,
    context: t.Any,
    executemany: bool,
) -> tuple[str, t.Any]:
    try:
        return _commented(statement, connection.dialect, context), parameters
    except Exception:
        logger.warning("a statement is run without its comment", exc_info=True)
        return statement, parameters


def _commented(statement: str, dialect: t.Any, context: t.Any) -> str:
    if "/*" in statement or "--" in statement:
        return statement
    comment = _comment()
    if not comment:
        return statement
    if dialect.paramstyle in ("format", "pyformat") and not _has_no_parameters(context):
        comment = comment.replace("%", "%%")  # such a driver reads %2F as a place for a value
    body, semicolon = (statement.rstrip()[:-1], ";") if statement.rstrip().endswith(";") else (statement, "")
    return f"{body} /*{comment}*/{semicolon}"


def _has_no_parameters(context: t.Any) -> bool:
    return bool(context is not None and context.execution_options.get("no_parameters")) and not any(
        context.parameters or ()
    )


def _comment() -> str:
    if flask.has_request_context() and flask.request.url_rule is not None:
        tags = {"controller": flask.request.endpoint or "", "route": flask.request.url_rule.rule}
    else:
        scope = current_scope.get()
        if scope is None or scope.ended:
            return ""
        tags = {"action": scope.name}
    return ",".join(f"{key}='{_encoded(value)}'" for key, value in sorted(tags.items()))


def _encoded(value: str) -> str:
    # The end of the comment, and quotes, cannot be in it: all of them are encoded.
    return quote(value, safe="")
