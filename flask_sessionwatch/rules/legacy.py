"""SW4xx: ways of SQLAlchemy that have a successor."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass

from ..finding import Finding
from ..finding import Level
from ..observe.records import Incident
from .base import Moment
from .base import Rule
from .base import in_scope

#: The present form of each method of Query; what is not here is some kind of select().
_FORMS = {
    "get": "session.get({0}, id)",
    "get_or_404": "db.get_or_404({0}, id)",
    "first_or_404": "db.first_or_404(select({0})...)",
    "one_or_404": "db.one_or_404(select({0})...)",
    "paginate": "db.paginate(select({0})...)",
    "first": "session.scalars(select({0})...limit(1)).first()",
    "one": "session.scalars(select({0})...).one()",
    "one_or_none": "session.scalars(select({0})...).one_or_none()",
    "scalar": "session.scalar(select({0})...)",
    "count": "session.scalar(select(func.count()).select_from({0})...)",
    "update": "session.execute(update({0})...)",
    "delete": "session.execute(delete({0})...)",
}
_FORM = "session.scalars(select({0})...).all()"


@dataclass(frozen=True)
class LegacyQuery(Rule):
    """A line uses SQLAlchemy's legacy Query: ``session.query(...)`` or ``Model.query``.

    What it does
        Tells once of each line of the application that runs a Query, with the same in today's form. A Query that a
        library or SQLAlchemy itself makes is not told.

    Why it matters
        Query is frozen: it gets no new features, type checkers know little of its results, Flask-SQLAlchemy calls it
        legacy, and it does not work with AsyncSession.

    Example
        ::

            user = User.query.filter_by(name=name).first()

    Instead
        ::

            user = db.session.scalars(select(User).filter_by(name=name).limit(1)).first()

    Options
        None.
    """

    code = "SW404"
    name = "legacy-query"
    level: t.ClassVar[Level] = "info"
    hint = "write it as select(); if the application stays with Query, add 'SW404' to SESSIONWATCH_IGNORE."

    def at_incident(self, incident: Incident, moment: Moment) -> Iterable[Finding]:
        if incident.kind != "legacy_query":
            return
        entity, method = incident.details["entity"], incident.details["method"]
        what = "columns" if entity is None else entity
        form = _FORMS.get(method, _FORM).format(entity or "...")
        yield self.finding(
            moment,
            f"{in_scope(incident.scope)} ran a legacy Query of {what}; today's form is {form}.",
            incident.stack,
            incident.scope,
            verb="run",
            details={"entity": entity, "form": form},
        )
