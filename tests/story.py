"""A small application that does a little of everything, and an account of what it was seen to do.

The account is plain text and holds whatever an application or its user could notice: answers, exceptions with their
tracebacks, rows, what the pool counts, warnings. It must not depend on whether somebody watches.
"""

import concurrent.futures
import contextlib
import gc
import re
import threading
import traceback
import typing as t
import warnings

import flask
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.orm import exc as orm_exc

#: What differs in every run.
_ADDRESS = re.compile(" at 0x[0-9a-f]+")


class Base(orm.DeclarativeBase):
    """The base of the story's models."""


class Page(Base):
    """What the application reads and writes."""

    __tablename__ = "page"

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    title: orm.Mapped[str] = orm.mapped_column(sa.String(50), unique=True)
    hits: orm.Mapped[int] = orm.mapped_column(default=0)


class Story:
    """The application, its database, and the steps it goes through.

    :param url: a database, whose table of pages is made anew.
    """

    def __init__(self, url: str) -> None:
        connect_args = {"check_same_thread": False} if url.startswith("sqlite") else {}
        self.engine = sa.create_engine(
            url, pool_size=3, max_overflow=0, pool_timeout=0.01, connect_args=connect_args
        )
        Base.metadata.drop_all(self.engine)
        Base.metadata.create_all(self.engine)
        with orm.Session(self.engine) as session:
            session.add_all([Page(title="one"), Page(title="two")])
            session.commit()
        self.app = flask.Flask("story")
        self.registry = orm.scoped_session(orm.sessionmaker(self.engine))
        self.kept: list[t.Any] = []
        self.pool_events: list[str] = []
        self.former_pools: list[sa.Pool] = []
        self._listen()
        self._add_views()

    def _listen(self) -> None:
        for name in ("checkout", "checkin", "reset", "invalidate", "detach"):
            sa.event.listen(self.engine, name, lambda *args, name=name: self.pool_events.append(name))
        self.app.teardown_appcontext(lambda error: self.registry.remove())
        self.app.register_error_handler(LookupError, lambda error: (f"no {error}", 410))

    def _add_views(self) -> None:
        for view in (
            read,
            write,
            lose,
            swallow,
            undo,
            core,
            forget,
            leak,
            refuse,
            fail,
            stream,
            hand,
            nest,
            remove,
        ):
            self.app.add_url_rule(f"/{view.__name__}", view.__name__, view, defaults={"story": self})

        @self.app.cli.command("count")
        def count() -> None:
            print(self.registry.scalar(sa.select(sa.func.count(Page.id))))  # noqa: T201, a command prints

    def close(self) -> None:
        """Take everything away."""
        self.registry.remove()
        while self.kept:
            with contextlib.suppress(Exception):
                self.kept.pop().close()
        gc.collect()
        # A connection goes back to the pool it is from, even where the engine has another one by now.
        for pool in [self.engine.pool, *self.former_pools]:
            pool.dispose()

    # The account

    def tell(self, between: t.Callable[[], object] = lambda: None) -> list[str]:
        """Go through every step and return what was seen.

        :param between: called before each step.
        """
        told = []
        gc.collect()  # what earlier tests left is theirs, and must not be told here
        with warnings.catch_warnings(record=True) as warned, collections_on_request():
            warnings.simplefilter("always")
            for step in STEPS:
                between()
                told.append(f"{step.__name__}: {self._seen(step)}")
            told += [f"warned: {each.category.__name__} {each.message}" for each in warned]
        return told

    def _seen(self, step: t.Callable[["Story"], object]) -> str:
        try:
            seen = str(step(self))
        except Exception as error:
            seen = f"raised {described(error)}"
        assert isinstance(self.engine.pool, sa.QueuePool)
        events, self.pool_events = self.pool_events, []
        seen = _ADDRESS.sub("", seen)
        return f"{seen} | {self.engine.pool.checkedout()} out | {' '.join(events)}"

    def get(self, path: str, **options: t.Any) -> str:
        """Make a request, and return all of its answer."""
        response = self.app.test_client().open(path, buffered=True, **options)
        headers = ";".join(f"{key}={value}" for key, value in response.headers)
        return f"{response.status} {headers} {response.text}"

    def titles(self) -> str:
        """Return what is committed."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(Page.title, Page.hits).order_by(Page.id))
            return ",".join(f"{title}={hits}" for title, hits in rows)


@contextlib.contextmanager
def collections_on_request() -> t.Iterator[None]:
    """Let no collection happen by itself: when it does is chance, and chance differs from run to run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def described(error: BaseException) -> str:
    """Return type, text and arguments of an exception, and through which functions of ours it came."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.name for frame in frames if frame.filename == __file__]
    cause = "" if error.__cause__ is None else f" from {type(error.__cause__).__name__}"
    return f"{type(error).__name__} {error.args!r}{cause} in {'>'.join(own)}"


# The views


def read(story: Story) -> str:
    return ",".join(story.registry.scalars(sa.select(Page.title).order_by(Page.id)))


def write(story: Story) -> tuple[dict[str, int], int]:
    page = Page(title=flask.request.args["title"])
    story.registry.add(page)
    story.registry.flush()
    with story.registry.begin_nested():
        page.hits = 3
    story.registry.commit()
    return {"id": page.id}, 201


def lose(story: Story) -> str:
    story.registry.add(Page(title="lost"))
    story.registry.flush()
    story.registry.add(Page(title="never flushed"))
    story.registry.scalars(sa.select(Page).where(Page.id == 1)).one().hits = 99
    return "lost"


def swallow(story: Story) -> str:
    story.registry.add(Page(title="one"))
    with contextlib.suppress(sa.exc.IntegrityError):
        story.registry.commit()
    return str(story.registry.scalar(sa.select(Page.id)))


def undo(story: Story) -> str:
    story.registry.execute(sa.update(Page).values(hits=50))
    story.registry.rollback()
    nested = story.registry.begin_nested()
    story.registry.execute(sa.update(Page).where(Page.id == 99).values(hits=50))
    nested.rollback()
    return "undone"


def core(story: Story) -> str:
    with story.engine.begin() as connection:
        connection.execute(sa.update(Page).values(hits=Page.hits + 1))
    with story.engine.connect() as connection:
        for _ in range(3):
            connection.execute(sa.update(Page).where(Page.id == 1).values(hits=7))
            connection.commit()
        return str(connection.scalar(sa.select(Page.hits).where(Page.id == 1)))


def forget(story: Story) -> str:
    with story.engine.connect() as connection:
        connection.execute(sa.text("UPDATE page SET hits = 1000"))
        with contextlib.suppress(sa.exc.DBAPIError):
            connection.execute(sa.text("SELECT nonsense FROM page"))
        with contextlib.suppress(sa.exc.DBAPIError):
            connection.execute(sa.text("SELECT 1"))
    return "forgotten"


def leak(story: Story) -> str:
    story.kept.append(story.engine.connect())
    session = orm.Session(story.engine)
    story.kept.append(session)
    return str(session.scalar(sa.select(Page.id)))


def refuse(story: Story) -> str:
    story.registry.add(Page(title="refused"))
    story.registry.flush()
    raise LookupError("such page")


def fail(story: Story) -> str:
    story.registry.add(Page(title="failed"))
    story.registry.flush()
    raise ValueError("a bug of the application", 42)


def stream(story: Story) -> flask.Response:
    def lines() -> t.Iterator[str]:
        for title in story.registry.scalars(sa.select(Page.title).order_by(Page.id)).all():
            yield title
            yield str(story.registry.scalar(sa.select(sa.func.count(Page.id))))

    return flask.Response(flask.stream_with_context(lines()))


def hand(story: Story) -> str:
    """Lend the session to a thread."""
    titles: list[str | None] = []
    with orm.Session(story.engine) as session:
        session.scalar(sa.select(Page.id))
        thread = threading.Thread(target=lambda: titles.append(session.scalar(sa.select(Page.title))))
        thread.start()
        thread.join()
    return str(titles[0])


def nest(story: Story) -> str:
    """Hold a connection, a session and another context's session at once."""
    with story.engine.connect() as connection, flask.current_app.app_context():
        connection.execute(sa.select(Page.id))
        return str(story.registry.scalar(sa.select(Page.title)))


def remove(story: Story) -> str:
    """Remove the session in the midst of a request that goes on with it."""
    page = story.registry.scalars(sa.select(Page).where(Page.id == 1)).one()
    page.hits = 70
    story.registry.remove()
    story.registry.scalar(sa.select(Page.id))
    story.registry.remove()
    story.registry.commit()
    return str(page.hits)


# The steps


def reading(story: Story) -> str:
    return (
        story.get("/read")
        + story.get("/read", method="HEAD")
        + story.get("/none")
        + story.get("/read", method="PUT")
    )


def writing(story: Story) -> str:
    return story.get("/write?title=three") + story.get("/write") + story.titles()


def losing(story: Story) -> str:
    return story.get("/lose") + story.get("/undo") + story.titles()


def swallowing(story: Story) -> str:
    return story.get("/swallow") + story.titles()


def by_core(story: Story) -> str:
    return story.get("/core") + story.get("/forget") + story.titles()


def refusing(story: Story) -> str:
    return story.get("/refuse") + story.titles()


def failing(story: Story) -> str:
    return story.get("/fail") + story.titles()


def failing_through(story: Story) -> str:
    story.app.testing = True
    try:
        return story.get("/fail")
    finally:
        story.app.testing = False


def streaming(story: Story) -> str:
    return story.get("/stream")


def streaming_in_part(story: Story) -> str:
    response = story.app.test_client().get("/stream")
    chunks = response.iter_encoded()
    text = next(chunks) + next(chunks)
    response.close()
    return text.decode()


def handing(story: Story) -> str:
    return story.get("/hand")


def nesting(story: Story) -> str:
    return story.get("/nest")


def leaking(story: Story) -> str:
    return story.get("/leak") + story.titles()


def running_dry(story: Story) -> str:
    story.get("/leak")
    story.kept.append(story.engine.connect())
    raised = ""
    try:
        story.engine.connect()
    except sa.exc.TimeoutError as error:
        raised = f"{error.args[0].splitlines()[0]} {error.code}"
    return raised + story.get("/read")


def giving_back(story: Story) -> str:
    while story.kept:
        story.kept.pop().close()
    return story.titles()


def in_a_context(story: Story) -> str:
    with story.app.app_context():
        story.registry.add(Page(title="in a context"))
        story.registry.commit()
        titles = [str(title) for title in story.registry.scalars(sa.select(Page.title).order_by(Page.id))]
        return ",".join(titles) + story.get("/read")


def in_a_context_that_fails(story: Story) -> str:
    with story.app.app_context():
        story.registry.add(Page(title="in a context that fails"))
        story.registry.flush()
        raise ValueError("in a context")


def by_command(story: Story) -> str:
    result = story.app.test_cli_runner().invoke(args=["count"])
    return f"{result.exit_code} {result.output}"


def by_thread(story: Story) -> str:
    titles: list[str] = []
    thread = threading.Thread(target=lambda: titles.append(story.titles()))
    thread.start()
    thread.join()
    return titles[0]


def invalidating(story: Story) -> str:
    with story.engine.connect() as connection:
        connection.invalidate()
        connection.rollback()
        number = connection.scalar(sa.text("SELECT 1"))
    detached = story.engine.connect()
    detached.detach()
    detached.close()
    raw = story.engine.raw_connection()
    raw.close()
    return str(number)


def collecting(story: Story) -> str:
    orm.Session(story.engine).scalar(sa.select(Page.id))
    story.engine.connect().execute(sa.select(Page.id))
    gc.collect()
    return story.titles()


def binding(story: Story) -> str:
    with story.engine.connect() as connection:
        connection.execute(sa.text("SELECT :missing"))
    return "bound"


def joining(story: Story) -> str:
    with orm.Session(story.engine) as session:
        inner = orm.Session(bind=session.connection())
        inner.add(Page(title="joined"))
        inner.flush()
        session.commit()
        session.begin()
        try:
            session.begin()
        except sa.exc.InvalidRequestError as error:
            return described(error) + story.titles()
    return "begun twice"


def detaching(story: Story) -> str:
    """Close a session on a thread, and use on another what it had loaded and what it was doing."""
    with orm.Session(story.engine) as session:
        page = session.scalars(sa.select(Page).where(Page.id == 1)).one()
        session.commit()
    raised: list[str] = []

    def work() -> None:
        try:
            raised.append(page.title)
        except orm_exc.DetachedInstanceError as error:
            raised.append(described(error))
            raise

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        left = pool.submit(work).exception()
    return f"{raised[0]} {left!r}"


def misusing(story: Story) -> str:
    """Do with sessions what they refuse, one after the other."""
    raised = []
    for misuse in (ending_a_block, adding_to_another, flushing_again, querying_after_commit):
        with orm.Session(story.engine) as session:
            try:
                misuse(story, session)
            except sa.exc.InvalidRequestError as error:
                raised.append(f"{described(error).splitlines()[0]} {error.code}")
    return f"{raised} {story.titles()}"


def ending_a_block(story: Story, session: orm.Session) -> None:
    with session.begin():
        session.commit()
        session.scalar(sa.select(Page.id))


def adding_to_another(story: Story, session: orm.Session) -> None:
    page = session.scalars(sa.select(Page).where(Page.id == 1)).one()
    with orm.Session(story.engine) as other, other.no_autoflush:
        try:
            other.add(page)
        except sa.exc.InvalidRequestError as error:
            raise sa.exc.InvalidRequestError(str(error).split("to session")[0]) from error


def flushing_again(story: Story, session: orm.Session) -> None:
    sa.event.listen(session, "before_flush", lambda session, *rest: session.flush())
    session.add(Page(title="flushed twice"))
    session.commit()


def querying_after_commit(story: Story, session: orm.Session) -> None:
    sa.event.listen(session, "after_commit", lambda session: session.scalar(sa.select(Page.id)))
    session.scalar(sa.select(Page.id))
    session.commit()


def querying_too_early(story: Story) -> str:
    with orm.Session(story.engine) as session:
        session.add(Page(title="one"))
        session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        session.connection(execution_options={"isolation_level": "READ UNCOMMITTED"})
        session.scalar(sa.select(Page.id))
    return "queried"


def removing(story: Story) -> str:
    return story.get("/remove") + story.titles()


def out_of_context(story: Story) -> str:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return repr(pool.submit(lambda: flask.current_app.name).exception())


def disposing(story: Story) -> str:
    story.former_pools.append(story.engine.pool)
    story.engine.dispose()
    return story.titles() + story.get("/read")


STEPS: list[t.Callable[[Story], object]] = [
    reading,
    writing,
    losing,
    swallowing,
    by_core,
    refusing,
    failing,
    failing_through,
    streaming,
    streaming_in_part,
    handing,
    nesting,
    leaking,
    giving_back,
    running_dry,
    giving_back,
    in_a_context,
    in_a_context_that_fails,
    by_command,
    by_thread,
    invalidating,
    collecting,
    binding,
    joining,
    detaching,
    misusing,
    querying_too_early,
    removing,
    out_of_context,
    disposing,
]
