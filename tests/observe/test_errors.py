"""How errors are seen being made: without a trace when the watch is over, and never again when one is copied."""

import concurrent.futures
import copy
import pickle
import threading
import typing as t

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm
from sqlalchemy.orm import exc as orm_exc

from flask_sessionwatch.observe.errors import Errors
from flask_sessionwatch.observe.ledger import Ledger
from flask_sessionwatch.observe.notice import Noticer
from flask_sessionwatch.observe.recorder import Recorder
from flask_sessionwatch.observe.stack import Stacks
from tests.rules.conftest import Item
from tests.rules.conftest import World
from tests.rules.conftest import world_of

KINDS = (
    sa_exc.InvalidRequestError,
    sa_exc.PendingRollbackError,
    sa_exc.IllegalStateChangeError,
    sa_exc.ResourceClosedError,
    sa_exc.SAWarning,
    orm_exc.DetachedInstanceError,
)


@pytest.fixture
def world(sqlite_url: str) -> t.Iterator[World]:
    """A watched application on SQLite."""
    with world_of(sqlite_url) as world:
        yield world


@pytest.fixture
def recorder() -> t.Iterator[Recorder]:
    """A recorder that is not attached."""
    recorder = Recorder(Ledger(Stacks()), pytest.fail)
    yield recorder
    recorder.detach()


def hooks() -> list[t.Any]:
    """Return everything that is replaced while errors are watched."""
    replaced = [vars(kind).get("__init__") for kind in KINDS]
    return [*replaced, threading.excepthook, concurrent.futures.Future.set_exception]


def double_begin(engine: sa.Engine) -> sa_exc.InvalidRequestError:
    """Begin twice, and return the error."""
    with orm.Session(engine) as session:
        session.begin()
        with pytest.raises(sa_exc.InvalidRequestError) as caught:
            session.begin()
    return caught.value


def test_attached_and_detached(recorder: Recorder) -> None:
    """Attaching replaces every hook, and detaching leaves the classes and modules as they were."""
    before = hooks()
    recorder.attach()
    assert all(now is not then for now, then in zip(hooks(), before, strict=True))
    recorder.detach()
    assert hooks() == before


def test_hook_of_somebody_else_on_top(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that somebody put over ours stays, and ours below it passes everything through."""
    seen: list[t.Any] = []
    original = threading.excepthook
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    recorder.attach()
    ours = threading.excepthook

    def theirs(args: t.Any) -> t.Any:
        return ours(args)

    monkeypatch.setattr(threading, "excepthook", theirs)
    recorder.detach()
    assert threading.excepthook is theirs
    monkeypatch.setattr(recorder, "active", True)

    def work() -> None:
        raise RuntimeError("Working outside of application context.")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [str(error) for error in seen] == ["Working outside of application context."]
    assert not recorder.ledger.incidents
    monkeypatch.setattr(threading, "excepthook", original)


def test_watched_twice(recorder: Recorder, world: World) -> None:
    """A recorder that is attached, detached and attached again files an error once."""
    for _ in range(2):
        recorder.attach()
        recorder.detach()
    recorder.attach()
    double_begin(world.engine)
    assert [each.kind for each in recorder.ledger.incidents] == ["double_begin"]


def test_copies(recorder: Recorder, world: World) -> None:
    """An error is copied and pickled as ever, and its copies are no errors of their own."""
    recorder.attach()
    error = double_begin(world.engine)
    with_code = sa_exc.InvalidRequestError("a text", code="isce")
    for each in (copy.copy(error), pickle.loads(pickle.dumps(error)), pickle.loads(pickle.dumps(with_code))):
        assert type(each) is sa_exc.InvalidRequestError
    assert (with_code.args, with_code.code) == (("a text",), "isce")
    assert pickle.loads(pickle.dumps(with_code)).code == "isce"
    assert [each.kind for each in recorder.ledger.incidents] == ["double_begin"]


def test_errors_of_the_application(recorder: Recorder) -> None:
    """Classes derived by the application are made as ever, whatever else they derive from, and are not looked at."""
    recorder.attach()

    class Refused(sa_exc.SQLAlchemyError):
        def __init__(self, number: int) -> None:
            super().__init__(f"refused {number}")
            self.number = number

    class Both(sa_exc.InvalidRequestError, Refused):
        pass

    error = Both(3)
    assert (str(error), error.number) == ("refused 3", 3)
    assert str(sa_exc.NoResultFound("No row")) == "No row"
    with pytest.raises(TypeError):
        sa_exc.NoSuchColumnError(unknown=1)
    # The text alone makes no incident: it has to be SQLAlchemy that raises it.
    sa_exc.InvalidRequestError("Session is already flushing")
    assert not recorder.ledger.incidents


def test_failure_of_our_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error inside the watcher never replaces the application's."""
    told: list[str] = []
    ledger = Ledger(Stacks())
    notice = Noticer(ledger, lambda: 1 / 0, lambda: None)  # type: ignore[arg-type, return-value]
    errors = Errors(ledger, notice, lambda error: None, told.append)
    errors.attach()
    try:
        error = double_begin(world.engine)
    finally:
        errors.detach()
    assert str(error) == "A transaction is already begun on this Session."
    assert told == ["an error of SQLAlchemy"]


def test_errors_are_not_kept(recorder: Recorder, world: World) -> None:
    """Neither an error nor the objects of its frames live longer because they were looked at."""
    recorder.attach()
    double_begin(world.engine)
    with orm.Session(world.engine) as session:
        item = session.scalars(sa.select(Item).where(Item.id == 1)).one()
        session.commit()
    with pytest.raises(orm_exc.DetachedInstanceError):
        print(item.name)  # noqa: T201
    for incident in recorder.ledger.incidents:
        held = [*incident.details.values(), incident.subject]
        assert not any(isinstance(each, (BaseException, Item, orm.Session)) for each in held)
    assert len(recorder.notice.leaving) <= 2
