"""SW206, SW208, SW209, SW213 and SW214: work committed by halves, escaped or undone; transactions nobody needed."""

import contextlib
import typing as t

import flask
import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import orm

from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import at
from tests.rules.conftest import line
from tests.rules.conftest import one_item


class Refused(Exception):
    """What goes wrong in the middle."""


def add_hit(session: t.Any) -> None:
    """Do half of the work, and commit it."""
    one_item(session).hits += 1
    session.commit()  # FIRST


def rename(session: t.Any, name: str = "eve") -> None:
    """Write something, and commit it."""
    one_item(session).name = name
    session.commit()


def first_commit() -> int:
    """Return the line of the first half's commit."""
    return line("FIRST")


def levels(world: World, code: str) -> list[str]:
    """Return the levels at which *code* was told."""
    return [finding.level for finding in world.told(code)]


@pytest.fixture
def db(world: World) -> SQLAlchemy:
    """Flask-SQLAlchemy on the world's database."""
    return world.flask_sqlalchemy()


# SW206 partial-commit


def test_error_after_a_commit(any_world: World) -> None:
    """SW206: an exception that leaves the view after its first commit is a warning, at the line that wrote."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        add_hit(db.session)
        one_item(db.session)
        raise Refused

    assert any_world.open().status_code == 500
    finding = any_world.only("SW206")
    assert (finding.rule, finding.level, at(finding)) == ("partial-commit", "warning", first_commit())
    assert (
        finding.message == "GET / failed with Refused and answered 500 after its commit, which is permanent."
    )


def test_error_after_several_commits(world: World, db: SQLAlchemy) -> None:
    """SW206: of several commits the first is named, and how many there were; one that wrote nothing is no work."""

    @world.view()
    def view() -> str:
        one_item(db.session)
        db.session.commit()
        add_hit(db.session)
        add_hit(db.session)
        raise Refused

    world.open()
    finding = world.only("SW206")
    assert at(finding) == first_commit()
    assert "the first of its 3 commits" in finding.message


def test_propagated_error(world: World, db: SQLAlchemy) -> None:
    """SW206: the same is true where the exception reaches the server, as in a debugger or a test."""
    world.app.config["PROPAGATE_EXCEPTIONS"] = True

    @world.view()
    def view() -> str:
        add_hit(db.session)
        raise Refused

    with pytest.raises(Refused):
        world.open()
    assert levels(world, "SW206") == ["warning"]


def test_error_caught_by_the_view(world: World, db: SQLAlchemy) -> None:
    """SW206: a view that rolls its second half back and answers 500 has left the first half."""

    @world.view()
    def view() -> tuple[str, int]:
        try:
            add_hit(db.session)
            one_item(db.session)
            raise Refused
        except Refused:
            db.session.rollback()
        return "sorry", 500

    world.open()
    assert levels(world, "SW206") == ["warning"]


def test_view_that_aborts(world: World, db: SQLAlchemy) -> None:
    """SW206: a rollback and abort(500) after a commit are the same."""

    @world.view()
    def view() -> str:
        add_hit(db.session)
        try:
            one_item(db.session)
            raise Refused
        except Refused:
            db.session.rollback()
            flask.abort(500)

    world.open()
    assert levels(world, "SW206") == ["warning"]


@pytest.mark.parametrize("status", [502, 503])
def test_failure_that_is_recorded(world: World, db: SQLAlchemy, status: int) -> None:
    """SW206: a view that records what went wrong, commits that, and answers 5xx by itself may mean it: info."""

    @world.view()
    def view() -> tuple[str, int]:
        rename(db.session, "failed")
        return "sorry", status

    world.open()
    assert levels(world, "SW206") == ["info"]


def test_failure_that_is_made_good(world: World, db: SQLAlchemy) -> None:
    """SW206: a commit before a call, and another that notes its failure, are a way to work: info."""

    @world.view()
    def view() -> str:
        add_hit(db.session)
        try:
            raise Refused
        except Refused:
            rename(db.session, "failed")
            raise

    world.open()
    assert levels(world, "SW206") == ["info"]


def test_misuse_after_a_commit(world: World, db: SQLAlchemy) -> None:
    """SW206: a misuse that SQLAlchemy refuses after the commit is the matter of another rule; a missing row is not."""

    @world.view()
    def view() -> str:
        with db.session.begin():
            add_hit(db.session)
            return one_item(db.session).name

    @world.view(rule="/missing")
    def missing() -> str:
        add_hit(db.session)
        return str(db.session.scalars(sa.select(Item).where(Item.id == 99)).one())

    world.open()
    assert levels(world, "SW206") == ["info"]
    world.open("/missing")
    assert levels(world, "SW206") == ["info", "warning"]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refusal_after_a_commit(world: World, db: SQLAlchemy, status: int) -> None:
    """SW206: abort() with a 4xx after a commit, such as one that counts failed logins, is info."""

    @world.view()
    def view() -> str:
        add_hit(db.session)
        flask.abort(status)

    world.open()
    assert levels(world, "SW206") == ["info"]
    assert world.heard == []


def test_answers_that_are_no_failure(world: World, db: SQLAlchemy) -> None:
    """SW206: a 4xx that the view returns, and an exception that becomes a good answer, are no failure."""

    @world.view()
    def view() -> tuple[str, int]:
        add_hit(db.session)
        return "not now", 409

    @world.view(rule="/handled")
    def handled() -> str:
        add_hit(db.session)
        raise Refused

    world.app.register_error_handler(Refused, lambda error: "fine")
    world.open()
    world.open("/handled")
    assert world.watch.findings == []


def test_error_before_the_commit(any_world: World) -> None:
    """SW206: what an error handler commits after the failure is no half of the work."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        one_item(db.session).hits += 1
        db.session.flush()
        raise Refused

    @any_world.app.errorhandler(Refused)
    def log(error: Refused) -> tuple[str, int]:
        db.session.rollback()
        rename(db.session)
        return "sorry", 500

    any_world.open()
    assert any_world.watch.findings == []


def test_error_handler_that_writes_after_a_commit(world: World, db: SQLAlchemy) -> None:
    """SW206: an error handler that commits a log entry does not hide the half that came before."""

    @world.view()
    def view() -> str:
        add_hit(db.session)
        raise Refused

    @world.app.errorhandler(Refused)
    def log(error: Refused) -> tuple[str, int]:
        rename(db.session)
        return "sorry", 500

    world.open()
    assert at(world.only("SW206")) == first_commit()


def test_error_that_is_logged_in_the_view(world: World, db: SQLAlchemy) -> None:
    """SW206: an except clause that commits a log entry and answers 500 has no first half."""

    @world.view()
    def view() -> tuple[str, int]:
        try:
            one_item(db.session).hits += 1
            raise Refused
        except Refused:
            db.session.rollback()
            rename(db.session)
            return "sorry", 500

    world.open()
    assert world.watch.findings == []


def test_commit_in_before_request(world: World, db: SQLAlchemy) -> None:
    """SW206: what a before_request function commits is not the view's work; what the view commits is."""
    world.app.before_request(lambda: rename(db.session, "seen"))

    @world.view()
    def view() -> str:
        raise Refused

    @world.view(rule="/half")
    def half() -> str:
        add_hit(db.session)
        raise Refused

    world.open()
    assert world.told("SW206") == []
    world.open("/half")
    finding = world.only("SW206")
    assert (finding.level, at(finding)) == ("warning", first_commit())


def test_reading_commit(world: World, db: SQLAlchemy) -> None:
    """SW206: a commit that wrote nothing made nothing permanent."""

    @world.view()
    def view() -> str:
        one_item(db.session)
        db.session.commit()
        raise Refused

    world.open()
    assert world.watch.findings == []


def test_core_block_before_the_error(any_world: World) -> None:
    """SW206: a Core block that commits at its end counts; a connection that may have been rolled back does not."""

    @any_world.view()
    def view() -> str:
        with any_world.engine.begin() as connection:
            connection.execute(sa.update(Item).values(hits=1))  # WROTE
        raise Refused

    @any_world.view(rule="/undone")
    def undone() -> str:
        with any_world.engine.connect() as connection:
            connection.execute(sa.update(Item).values(hits=1))
            connection.rollback()
        raise Refused

    any_world.open("/undone")
    assert any_world.watch.findings == []
    any_world.open()
    assert at(any_world.only("SW206")) == line("WROTE")


def test_job_that_fails(world: World, db: SQLAlchemy) -> None:
    """SW206: a job that commits as it goes and fails in the end most likely means it: info."""
    with contextlib.suppress(Refused), world.app.app_context(), world.watch.scope("import"):
        try:
            add_hit(db.session)
            add_hit(db.session)
            raise Refused
        finally:
            db.session.close()
    assert levels(world, "SW206") == ["info"]


def test_committed_once_at_the_end(any_world: World) -> None:
    """SW206: work that is committed as a whole, or fails before, is healthy."""
    db = any_world.flask_sqlalchemy()

    @any_world.view(rule="/<int:fails>")
    def view(fails: int) -> str:
        one_item(db.session).hits += 1
        db.session.flush()
        if fails:
            raise Refused
        db.session.commit()
        return "ok"

    assert [any_world.open(path).status_code for path in ("/0", "/1")] == [200, 500]
    assert any_world.watch.findings == []


def test_streamed_body_that_fails(world: World, db: SQLAlchemy) -> None:
    """SW206: a body that breaks off after a committed view was answered 200 is no half of the work."""

    @world.view()
    def view() -> flask.Response:
        add_hit(db.session)

        def lines() -> t.Iterator[str]:
            yield "one"
            raise Refused

        return flask.Response(lines())

    with pytest.raises(Refused):
        world.open()
    assert world.told("SW206") == []


class Deferred(orm.DeclarativeBase):
    """The base of a table whose constraint is checked at the commit."""


class Child(Deferred):
    """A row that needs another one, by the time of the commit."""

    __tablename__ = "child"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    parent: orm.Mapped[int] = orm.mapped_column(
        sa.ForeignKey("child.id", deferrable=True, initially="DEFERRED")
    )


def second_engine(world: World) -> sa.Engine:
    """Make a second database, which checks its constraint at the commit."""
    engine = world.make_engine("sqlite://", poolclass=sa.StaticPool)
    sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    Deferred.metadata.create_all(engine)
    return engine


def commit_both(world: World, second: sa.Engine, parent: int) -> bool:
    """Write to two databases and commit; return whether the first one's half was committed."""
    session = orm.Session(binds={Item: world.engine, Child: second})
    try:
        session.add_all([Item(name="eve"), Child(id=1, parent=parent)])
        session.commit()
    except sa.exc.DBAPIError:
        pass
    finally:
        session.close()
    with world.engine.begin() as connection:
        return bool(connection.execute(sa.delete(Item).where(Item.name == "eve")).rowcount)


def test_half_of_the_binds(world: World) -> None:
    """SW206: a commit that fails on one of two binds is told if, and only if, it succeeded on the other before."""
    second = second_engine(world)
    expected = 0
    for _ in range(20):  # the order of the two commits is SQLAlchemy's secret
        expected += commit_both(world, second, parent=7)
        world.watch.tick()
        assert bool(world.told("SW206")) == bool(expected)
        if expected:
            break
    assert commit_both(world, second_engine(world), parent=1)
    world.watch.tick()
    assert [finding.count for finding in world.told("SW206")] == [expected] * bool(expected)


# SW208 savepoint-escape


def nested(session: t.Any, name: str = "eve") -> None:
    """Write inside a savepoint."""
    with session.begin_nested():  # SAVEPOINT
        session.add(Item(name=name))


def savepoint_line() -> int:
    """Return the line at which the savepoint is released."""
    return line("SAVEPOINT")


@pytest.mark.parametrize("read_first", [False, True])
def test_escape(world: World, db: SQLAlchemy, read_first: bool) -> None:
    """SW208: what a savepoint wrote on SQLite survives the rollback, and is told where it was released."""

    @world.view()
    def view() -> tuple[str, int]:
        if read_first:
            one_item(db.session)
        nested(db.session)
        db.session.rollback()
        return "rejected", 409

    world.open()
    finding = world.only("SW208")
    assert (finding.rule, finding.level, at(finding)) == ("savepoint-escape", "warning", savepoint_line())
    assert "eve" in world.names()


def test_escape_from_an_exception(world: World, db: SQLAlchemy) -> None:
    """SW208: an exception that leaves the view does not undo it either."""

    @world.view()
    def view() -> str:
        nested(db.session)
        raise Refused

    world.open()
    assert "closed without commit()" in world.only("SW208").message


def test_escape_that_is_not_lost(world: World, db: SQLAlchemy) -> None:
    """SW208: what is permanent is not told as lost as well; what comes behind the savepoint is."""

    @world.view(rule="/permanent")
    def permanent() -> str:
        nested(db.session)
        return "ok"

    @world.view(rule="/lost")
    def lost() -> str:
        nested(db.session, "fay")
        db.session.add(Item(name="gus"))
        db.session.flush()
        return "ok"

    world.open("/permanent")
    assert world.told("SW204") == []
    world.open("/lost")
    assert [finding.details["writes"] for finding in world.told("SW204")] == [1]
    assert "gus" not in world.names()


def test_savepoint_that_is_committed(world: World, db: SQLAlchemy) -> None:
    """SW208: a savepoint in a transaction that is committed is healthy."""

    @world.view()
    def view() -> str:
        nested(db.session)
        db.session.commit()
        return "ok"

    world.open()
    assert world.watch.findings == []


def test_savepoints_that_stay_inside(world: World, db: SQLAlchemy) -> None:
    """SW208: a savepoint after a write, one inside another, one rolled back and an empty one escape nothing."""

    @world.view()
    def view() -> str:
        one_item(db.session).hits += 1
        nested(db.session)
        with db.session.begin_nested():
            db.session.execute(sa.update(Item).values(hits=3))
        db.session.rollback()
        db.session.begin_nested().rollback()
        with db.session.begin_nested():
            one_item(db.session)
        savepoint = db.session.begin_nested()
        db.session.execute(sa.update(Item).values(hits=4))
        savepoint.rollback()
        db.session.rollback()
        return "ok"

    world.open()
    assert world.watch.findings == []
    assert world.names() == ["ann", "bob"]


def test_recipe(world: World) -> None:
    """SW208: SQLAlchemy's recipe, which sends BEGIN by itself, is healthy."""
    engine = world.make_engine()
    sa.event.listen(engine, "connect", lambda dbapi, _: setattr(dbapi, "isolation_level", None))
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    @world.view()
    def view() -> str:
        with orm.Session(engine) as session:
            nested(session)
            session.rollback()
        return "ok"

    world.open()
    assert world.watch.findings == []
    assert "eve" not in world.names()


def test_other_databases(postgresql_world: World) -> None:
    """SW208: PostgreSQL's savepoints are undone by a rollback."""

    @postgresql_world.view()
    def view() -> str:
        with orm.Session(postgresql_world.engine) as session:
            nested(session)
            session.rollback()
        return "ok"

    postgresql_world.open()
    assert postgresql_world.watch.findings == []


# SW209 collateral-rollback


def get_or_create(session: t.Any, name: str = "ann") -> Item:
    """Roll everything back where the item is there already."""
    try:
        item = Item(name=name)
        session.add(item)
        session.flush()
    except sa.exc.IntegrityError:
        session.rollback()  # COLLATERAL
        item = session.scalars(sa.select(Item).where(Item.name == name)).one()
    return item


def collateral() -> int:
    """Return the line of the helper's rollback."""
    return line("COLLATERAL")


def add_flushed(session: t.Any, name: str = "eve") -> None:
    """Write something by a flush."""
    session.add(Item(name=name))
    session.flush()


def test_collateral(any_world: World) -> None:
    """SW209: a helper that rolls back what its caller flushed, before the caller commits, is a warning."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        db.session.add(Item(name="eve"))
        db.session.flush()  # FLUSHED
        get_or_create(db.session).hits = 1
        db.session.commit()
        return "ok"

    any_world.open()
    finding = any_world.only("SW209")
    assert (finding.rule, finding.level, at(finding)) == ("collateral-rollback", "warning", collateral())
    assert finding.details["lines"][0].endswith(f"{line('FLUSHED')} in view")
    assert any_world.names() == ["ann", "bob"]


def test_collateral_of_another_helper(world: World, db: SQLAlchemy) -> None:
    """SW209: it is the same if another helper had flushed it before."""

    @world.view()
    def view() -> str:
        add_flushed(db.session)
        get_or_create(db.session).hits = 1
        db.session.commit()
        return "ok"

    world.open()
    assert world.only("SW209").level == "warning"


def test_collateral_of_an_error_without_sql(world: World, db: SQLAlchemy) -> None:
    """SW209: it is the same if the helper's own error had nothing to do with the database."""

    def quote() -> int:
        try:
            raise Refused
        except Refused:
            db.session.rollback()
            return 0

    @world.view()
    def view() -> str:
        db.session.add(Item(name="eve"))
        db.session.flush()
        one_item(db.session).hits = quote()
        one_item(db.session).hits = 3
        db.session.commit()
        return "ok"

    world.open()
    assert world.only("SW209").details["error"] == "Refused"


def test_rollback_behind_the_except_clause(world: World, db: SQLAlchemy) -> None:
    """SW209: it is the same if the helper rolls back after its except clause."""

    def create() -> None:
        failed = False
        try:
            add_flushed(db.session, "ann")
        except sa.exc.IntegrityError:
            failed = True
        if failed:
            db.session.rollback()

    @world.view()
    def view() -> str:
        one_item(db.session).hits = 1
        db.session.flush()
        create()
        one_item(db.session).hits = 2
        db.session.commit()
        return "ok"

    world.open()
    assert world.only("SW209").details["error"] == "IntegrityError"


def test_collateral_of_an_add(world: World, db: SQLAlchemy) -> None:
    """SW209: what the caller had only added is most likely lost as well: info."""

    @world.view()
    def view() -> str:
        db.session.add(Item(name="eve"))  # ADDED
        get_or_create(db.session).hits = 1
        db.session.commit()
        return "ok"

    world.open()
    (finding,) = world.told("SW209")
    assert (finding.level, world.heard) == ("info", [])
    assert finding.details["lines"][0].endswith(f"{line('ADDED')} in view")


def test_collateral_and_nothing_committed(world: World, db: SQLAlchemy) -> None:
    """SW209: where nothing is committed after it, the helper may have meant it: info."""

    @world.view()
    def view() -> str:
        add_flushed(db.session)
        get_or_create(db.session)
        return "ok"

    world.open()
    assert levels(world, "SW209") == ["info"]


def test_collateral_under_a_refusal(world: World, db: SQLAlchemy) -> None:
    """SW209: where the answer says no, the work may go."""

    @world.view()
    def view() -> tuple[str, int]:
        add_flushed(db.session)
        get_or_create(db.session).hits = 1
        db.session.commit()
        return "no", 409

    world.open()
    assert world.told("SW209") == []


def rolls_back_itself(session: t.Any) -> None:
    try:
        add_flushed(session)
        add_flushed(session, "ann")
    except sa.exc.IntegrityError:
        session.rollback()


def rolls_back_by_a_helper(session: t.Any) -> None:
    try:
        session.add(Item(name="eve"))
        session.flush()
        raise Refused
    except Refused:
        discard(session)


def discard(session: t.Any) -> None:
    session.rollback()


@contextlib.contextmanager
def rolled_back_on_error(session: t.Any) -> t.Iterator[None]:
    try:
        yield
        session.commit()
    except Exception:
        session.rollback()
        raise


def rolls_back_by_a_block(session: t.Any) -> None:
    with contextlib.suppress(Refused), rolled_back_on_error(session):
        session.add(Item(name="eve"))
        session.flush()
        raise Refused


class Unit:
    """A unit of work as a class."""

    def __init__(self, session: t.Any) -> None:
        self.session = session

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        if kind is not None:
            self.session.rollback()
        return True


def rolls_back_by_a_unit(session: t.Any) -> None:
    with Unit(session):
        session.add(Item(name="eve"))
        session.flush()
        raise Refused


def save(session: t.Any) -> bool:
    try:
        session.commit()
    except sa.exc.IntegrityError:
        session.rollback()
        return False
    return True


def rolls_back_a_commit(session: t.Any) -> None:
    session.add(Item(name="eve"))
    session.flush()
    session.add(Item(name="ann"))
    assert not save(session)


def rolls_back_an_add(session: t.Any) -> None:
    session.add(Item(name="ann"))
    assert not save(session)


def uses_a_savepoint(session: t.Any) -> None:
    session.add(Item(name="eve"))
    session.flush()
    with contextlib.suppress(sa.exc.IntegrityError), session.begin_nested():
        session.add(Item(name="ann"))
    session.commit()


def rolls_back_a_read(session: t.Any) -> None:
    session.scalars(sa.select(Item)).all()
    get_or_create(session)


@pytest.mark.parametrize(
    "work",
    [
        rolls_back_itself,
        rolls_back_by_a_helper,
        rolls_back_by_a_block,
        rolls_back_by_a_unit,
        rolls_back_a_commit,
        rolls_back_an_add,
        uses_a_savepoint,
        rolls_back_a_read,
    ],
)
def test_rollbacks_as_they_should_be(any_world: World, work: t.Callable[[t.Any], None]) -> None:
    """SW209: the writer's own rollback, its caller's, one of a failed commit and one that is made good are healthy."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        work(db.session)
        one_item(db.session).hits = 5
        db.session.commit()
        return "ok"

    any_world.open()
    assert any_world.told("SW209") == []
    assert any_world.heard == []


def test_work_that_is_done_again(world: World, db: SQLAlchemy) -> None:
    """SW209: a rollback after which the same line writes again has lost nothing."""

    @world.view()
    def view() -> str:
        for name in ("ann", "eve"):
            one_item(db.session).hits = 7
            db.session.flush()
            get_or_create(db.session, name)
        db.session.commit()
        return "ok"

    world.open()
    assert world.told("SW209") == []


def test_helper_that_discards_without_an_error(world: World, db: SQLAlchemy) -> None:
    """SW209: a helper that was called to roll back is info if the caller commits something later, else nothing."""

    @world.view(rule="/<int:commits>")
    def view(commits: int) -> str:
        add_flushed(db.session)
        discard(db.session)
        if commits:
            rename(db.session)
        return "ok"

    world.open("/0")
    assert world.told("SW209") == []
    world.open("/1")
    assert (levels(world, "SW209"), world.heard) == (["info"], [])


def test_helper_that_records_its_failure(world: World, db: SQLAlchemy) -> None:
    """SW209: a helper that rolls back and commits what went wrong in place of the work is info."""

    def charge() -> bool:
        try:
            raise Refused
        except Refused:
            db.session.rollback()
            db.session.execute(sa.update(Item).values(hits=9))
            db.session.commit()
            return False

    @world.view()
    def view() -> str:
        add_flushed(db.session)
        return "ok" if charge() else "declined"

    world.open()
    assert (levels(world, "SW209"), world.heard) == (["info"], [])


# SW213 refetch-after-commit


def list_all(session: t.Any, *, read_before: bool = False) -> str:
    """Commit between reading a list and showing it."""
    items = session.scalars(sa.select(Item)).all()
    names = [item.name for item in items] if read_before else []
    session.execute(sa.update(Item).where(Item.id == 1).values(hits=1))
    session.commit()
    return ",".join(names or [item.name for item in items])  # LOADED


def fill(world: World, number: int) -> None:
    """Have so many items."""
    with orm.Session(world.engine) as session:
        session.add_all([Item(name=f"n{i}") for i in range(number - 2)])
        session.commit()


@pytest.mark.parametrize(("number", "told"), [(4, []), (5, ["info"]), (30, ["info"])])
def test_reloads(any_world: World, number: int, told: list[str]) -> None:
    """SW213: from five objects on that are loaded again one by one, it is info, where they are read."""
    fill(any_world, number)

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            return list_all(session)

    any_world.open()
    assert levels(any_world, "SW213") == told
    for finding in any_world.told("SW213"):
        assert (finding.rule, at(finding)) == ("refetch-after-commit", reloading())
        assert f" loaded {number} objects again" in finding.message


def reloading() -> int:
    """Return the line at which the list is loaded again."""
    return line("LOADED")


def test_read_before_the_commit(any_world: World) -> None:
    """SW213: who reads before the commit, does not expire, or loads all again at once, is healthy."""
    fill(any_world, 9)

    @any_world.view()
    def view() -> str:
        with orm.Session(any_world.engine) as session:
            list_all(session, read_before=True)
        with orm.Session(any_world.engine, expire_on_commit=False) as session:
            list_all(session)
        with orm.Session(any_world.engine) as session:
            items = session.scalars(sa.select(Item)).all()
            session.commit()
            session.scalars(sa.select(Item)).all()
            return ",".join(item.name for item in items)

    any_world.open()
    assert any_world.told("SW213") == []


def test_reloads_without_a_commit(world: World) -> None:
    """SW213: objects that the view itself expired or refreshes before any commit are its own choice."""
    fill(world, 9)

    @world.view()
    def view() -> str:
        with orm.Session(world.engine) as session:
            items = session.scalars(sa.select(Item)).all()
            session.expire_all()
            return ",".join(item.name for item in items)

    world.open()
    assert world.told("SW213") == []


def test_reloads_of_a_batch(world: World) -> None:
    """SW213: a job that commits again and again and touches an object after each is not looked at for long."""
    with world.watch.scope("batch"), orm.Session(world.engine) as session:
        item = one_item(session)
        for _ in range(30):
            item.hits += 1
            session.commit()
    assert world.told("SW213") == []


# SW214 extra-transaction


def test_after_request(any_world: World) -> None:
    """SW214: an after_request function that writes a row of its own after the view's commit is info, at its line."""
    db = any_world.flask_sqlalchemy()

    @any_world.app.after_request
    def audit(response: flask.Response) -> flask.Response:
        db.session.add(Item(name="audit"))  # AUDIT
        db.session.commit()
        return response

    @any_world.view()
    def view() -> str:
        add_hit(db.session)
        return "ok"

    any_world.open()
    (finding,) = any_world.told("SW214")
    assert (finding.rule, finding.level, at(finding)) == ("extra-transaction", "info", line("AUDIT"))
    assert finding.message == "GET / ran an extra transaction in a after_request function."


def test_before_request(world: World, db: SQLAlchemy) -> None:
    """SW214: a before_request function that writes and commits is told once the view begins another transaction."""

    @world.app.before_request
    def touch() -> None:
        rename(db.session, "seen")

    @world.view()
    def view() -> str:
        return one_item(db.session).name

    world.open()
    (finding,) = world.told("SW214")
    assert finding.details["hook"] == "before_request"


def test_teardown_function(world: World, db: SQLAlchemy) -> None:
    """SW214: so is a teardown function that writes after the view has committed."""

    @world.app.teardown_request
    def touch(error: BaseException | None) -> None:
        db.session.execute(sa.update(Item).values(hits=3))
        db.session.commit()

    @world.view()
    def view() -> str:
        add_hit(db.session)
        return "ok"

    world.open()
    assert [finding.details["hook"] for finding in world.told("SW214")] == ["teardown_request"]


def test_two_transactions_of_a_view(world: World, db: SQLAlchemy) -> None:
    """SW214: a view that writes in two transactions, from two lines, is info, once."""

    @world.view()
    def view() -> str:
        add_hit(db.session)
        rename(db.session)
        rename(db.session, "fay")
        return "ok"

    world.open()
    assert (levels(world, "SW214"), world.heard) == (["info"], [])


def test_transactions_that_are_ordinary(any_world: World) -> None:
    """SW214: reading on after a commit, writing after a read, and a loop that commits are ordinary."""
    db = any_world.flask_sqlalchemy()

    @any_world.view()
    def view() -> str:
        one_item(db.session)
        db.session.commit()
        for _ in range(3):
            add_hit(db.session)
        return one_item(db.session).name

    any_world.open()
    assert any_world.watch.findings == []


def test_hook_that_only_reads_first(world: World, db: SQLAlchemy) -> None:
    """SW214: a hook whose reading the view goes on with, as a login does, is one transaction."""
    world.app.before_request(lambda: one_item(db.session).name and None)

    @world.view()
    def view() -> str:
        add_hit(db.session)
        return "ok"

    world.open()
    assert world.watch.findings == []


def test_hook_that_reads_before_the_view_writes(world: World, db: SQLAlchemy) -> None:
    """SW214: nor is it, where the view commits and reads on: it was the view who wrote."""
    world.app.before_request(lambda: one_item(db.session).name and None)

    @world.view()
    def view() -> str:
        add_hit(db.session)
        return one_item(db.session).name

    world.open()
    assert world.told("SW214") == []


def test_transactions_of_a_command(world: World, db: SQLAlchemy) -> None:
    """SW214: a command runs as many transactions as it needs."""
    with world.app.app_context():
        add_hit(db.session)
        rename(db.session)
    assert world.watch.findings == []
