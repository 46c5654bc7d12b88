"""SW404: a legacy Query is told once per line, with today's form."""

import typing as t
import warnings

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import orm

from flask_sessionwatch import extension
from tests.rules.conftest import Base
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line


def _get(session: orm.Session) -> object:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = session.query(Item).get(1)
    # The warning still names the line that called get().
    assert [__file__] == [each.filename for each in warned]
    return found


QUERIES: dict[str, tuple[t.Callable[[orm.Session], object], str]] = {
    "all": (lambda session: session.query(Item).all(), "session.scalars(select(Item)...).all()"),
    "iteration": (lambda session: list(session.query(Item)), "session.scalars(select(Item)...).all()"),
    "first": (
        lambda session: session.query(Item).filter_by(id=1).first(),
        "session.scalars(select(Item)...limit(1)).first()",
    ),
    "count": (
        lambda session: session.query(Item).count(),
        "session.scalar(select(func.count()).select_from(Item)...)",
    ),
    "columns": (lambda session: session.query(sa.literal(1)).scalar(), "session.scalar(select(...)...)"),
    "update": (
        lambda session: session.query(Item).filter_by(id=9).update({"hits": 1}),
        "session.execute(update(Item)...)",
    ),
    "delete": (
        lambda session: session.query(Item).filter_by(id=9).delete(),
        "session.execute(delete(Item)...)",
    ),
    "get": (_get, "session.get(Item, id)"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_every_way_to_run_a_query(world: World, name: str) -> None:
    """SW404: each way to run a Query is told as info, with its select() form."""
    run, form = QUERIES[name]

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            run(session)
            session.commit()
        return "ok"

    world.open()
    (finding,) = world.told("SW404")
    assert (finding.rule, finding.level) == ("legacy-query", "info")
    assert finding.details["form"] == form
    assert form in finding.message
    assert str(finding.scope) == "GET /"


def test_once_per_line(world: World) -> None:
    """SW404: a line is told once, however often it runs; another line is told as well."""

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            for _ in range(3):
                session.query(Item).all()  # FIRST
            session.query(Item).all()  # SECOND
        return "ok"

    for _ in range(2):
        world.open()
    assert [line("FIRST"), line("SECOND")] == [at(each) for each in world.told("SW404")]
    assert {1} == {each.count for each in world.told("SW404")}


def test_outside_of_any_scope(world: World) -> None:
    """SW404: a script without an app context is told at the next tick."""
    with orm.Session(world.engine) as session:
        session.query(Item).all()  # HERE
    world.watch.tick()
    assert at(world.only("SW404")) == line("HERE")


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.LegacyAPIWarning")
def test_model_query(world: World) -> None:
    """SW404: Flask-SQLAlchemy's Model.query and its methods are told."""
    db = world.flask_sqlalchemy()
    model: t.Any = type("Other", (db.Model,), {"id": sa.Column(sa.Integer, primary_key=True)})
    with world.app.app_context():
        db.create_all()

    @world.view()
    def view() -> str:
        model.query.first()
        model.query.paginate(error_out=False)
        return str(model.query.get_or_404(1))

    world.open()
    forms = [each.details["form"] for each in world.told("SW404")]
    assert forms == [
        "session.scalars(select(Other)...limit(1)).first()",
        "db.paginate(select(Other)...)",
        "db.get_or_404(Other, id)",
    ]


class Parent(Base):
    """Something with children, which are loaded by SQLAlchemy itself."""

    __tablename__ = "parent"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    children: orm.Mapped[list["Child"]] = orm.relationship(lazy="subquery")
    dynamic: orm.DynamicMapped["Child"] = orm.relationship(overlaps="children")


class Child(Base):
    """A child of a parent."""

    __tablename__ = "child"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    parent_id: orm.Mapped[int] = orm.mapped_column(sa.ForeignKey("parent.id"))


def test_queries_of_sqlalchemy_itself(world: World) -> None:
    """SW404: a select(), a subquery load, and a dynamic relationship are no legacy Query of the application."""
    Base.metadata.create_all(world.engine)
    with orm.Session(world.engine) as session:
        session.add(Parent(children=[Child()]))
        session.commit()
        parents = session.scalars(sa.select(Parent)).all()
        assert parents[0].dynamic.all() == parents[0].children
        session.get(Parent, 1)
    world.watch.tick()
    assert world.told("SW404") == []


def test_query_of_a_library(world: World) -> None:
    """SW404: a library's Query is not the application's, also where the application called the library."""
    source = "def load(session, entity):\n    return session.query(entity).all()\n"
    library: dict[str, t.Any] = {}
    exec(compile(source, "/usr/lib/python3/site-packages/library.py", "exec"), library)  # noqa: S102
    with orm.Session(world.engine) as session:
        library["load"](session, Item)
    world.watch.tick()
    assert world.told("SW404") == []


def test_query_is_left_as_it_is(world: World) -> None:
    """SW404: other listeners still see and change every Query, and nothing is left behind after close()."""
    original = orm.Query._get_impl.__wrapped__  # type: ignore[attr-defined]

    @event.listens_for(orm.Query, "before_compile", retval=True)
    def only_ann(query: orm.Query[t.Any]) -> orm.Query[t.Any]:
        return query.filter(Item.name == "ann")

    try:
        with orm.Session(world.engine) as session:
            assert [each.name for each in session.query(Item)] == ["ann"]
            assert session.query(Item).filter_by(id=2).all() == []
    finally:
        event.remove(orm.Query, "before_compile", only_ann)
    queries = extension._process.recorder.queries
    world.watch.close()
    assert not event.contains(orm.Query, "before_compile", queries.on_query)
    assert orm.Query._get_impl is original


def test_error_of_our_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """SW404: an error while a Query is looked at does not reach the application."""
    queries = extension._process.recorder.queries
    errors: list[str] = []
    monkeypatch.setattr(queries, "_failed", errors.append)
    monkeypatch.setattr(queries, "_told", None)
    with orm.Session(world.engine) as session:
        assert [each.name for each in session.query(Item)] == ["ann", "bob"]
    assert errors == ["before_compile"]
