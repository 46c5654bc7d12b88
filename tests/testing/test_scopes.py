"""Whose what is left open is: that of a test, of a fixture that outlives it, or of nobody."""

import re

import pytest

from .conftest import Suite

pytest_plugins = ["pytester"]

#: Healthy suites of all kinds. Nothing is to be told.
HEALTHY = """
import asyncio
import threading
import unittest
import urllib.request

import werkzeug.serving


@pytest.fixture
def context(app):
    with app.app_context():
        yield app


def test_outer_context(context):
    # Nothing is torn down at the end of the request, but with the context.
    client = context.test_client()
    client.post("/orders")
    client.get("/")
    assert db.session.scalar(sa.select(sa.func.count(Order.id))) == 1


def test_outer_context_left_dirty(context):
    # What a test throws away is its own affair.
    db.session.add(Order())
    db.session.flush()


def test_own_block(app):
    with app.app_context():
        place(db.session, "x")


@pytest.fixture
def connection(context):
    with db.engine.connect() as connection:
        yield connection


@pytest.fixture
def rolled_back(connection, monkeypatch):
    transaction = connection.begin()
    session = orm.Session(connection, join_transaction_mode="create_savepoint")
    monkeypatch.setattr(db, "session", session)
    yield session
    session.close()
    transaction.rollback()


def test_rolled_back(rolled_back, context):
    assert context.test_client().post("/orders").status_code == 200
    rolled_back.add(Order())
    rolled_back.commit()
    assert rolled_back.scalar(sa.select(sa.func.count(Order.id))) == 2


def test_rolled_back_again(rolled_back, context):
    assert context.test_client().get("/").text == "0"
    context.test_client().post("/lost")


def test_nested_savepoints(rolled_back):
    with rolled_back.begin_nested():
        rolled_back.add(Order())
        with rolled_back.begin_nested() as inner:
            rolled_back.add(Order())
            rolled_back.flush()
            inner.rollback()
    rolled_back.commit()


def test_integrity_error(context):
    db.session.add_all([Order(name="x"), Order(name="x")])
    with pytest.raises(sa.exc.IntegrityError):
        db.session.flush()


def test_many_commits(context):
    for _ in range(20):
        db.session.add(Order())
        db.session.commit()


def test_service(context):
    place(db.session, "x")


def test_thread(app):
    def work():
        with app.app_context():
            db.session.scalar(sa.select(sa.func.count(Order.id)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_async(app):
    async def work():
        with app.app_context():
            return db.session.scalar(sa.select(sa.func.count(Order.id)))

    assert asyncio.run(work()) == 0


def test_command(app):
    @app.cli.command("count")
    def count():
        db.session.add(Order())
        db.session.commit()

    assert app.test_cli_runner().invoke(args=["count"]).exit_code == 0


def test_nested_client(app):
    with app.test_client() as client:
        client.get("/")
        client.post("/orders")


class TestUnittest(unittest.TestCase):
    def setUp(self):
        self.app = create_app()
        self.context = self.app.app_context()
        self.context.push()
        db.create_all()

    def tearDown(self):
        db.session.remove()
        db.drop_all()
        self.context.pop()

    def test_order(self):
        self.app.test_client().post("/orders")
        self.assertEqual(len(db.session.scalars(sa.select(Order)).all()), 1)


class TestUnittestOfClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.app = create_app()
        cls.context = cls.app.app_context()
        cls.context.push()
        db.create_all()
        db.session.add(Order())
        db.session.commit()

    @classmethod
    def tearDownClass(cls):
        db.session.remove()
        db.drop_all()
        cls.context.pop()

    def test_first(self):
        self.assertEqual(len(db.session.scalars(sa.select(Order)).all()), 1)

    def test_second(self):
        self.assertEqual(self.app.test_client().get("/").text, "1")
        self.app.test_client().post("/orders")


# All below one context that is pushed for the whole module, whose session no test closes.

@pytest.fixture(scope="module")
def wide():
    app = create_app()
    with app.app_context():
        db.create_all()
        db.session.add(Order())
        db.session.commit()
        db.session.scalar(sa.select(Order))
        yield app
        db.session.remove()
        db.drop_all()


def test_wide_reads(wide):
    assert db.session.scalar(sa.select(sa.func.count(Order.id))) == 1


def test_wide_requests(wide):
    assert wide.test_client().get("/").text == "1"


def test_wide_writes(wide):
    db.session.add(Order())
    db.session.commit()


def test_wide_requests_again(wide):
    wide.test_client().post("/orders")
    assert wide.test_client().get("/").text == "3"


@pytest.fixture(scope="module")
def wide_connection(wide):
    with db.engine.connect() as connection:
        yield connection


@pytest.fixture
def wide_session(wide_connection):
    transaction = wide_connection.begin()
    session = orm.Session(wide_connection, join_transaction_mode="create_savepoint")
    yield session
    session.close()
    transaction.rollback()


def test_wide_connection(wide_session):
    place(wide_session, "x")
    wide_session.commit()


def test_wide_connection_again(wide_session):
    place(wide_session, "y")


@pytest.fixture(scope="module")
def server():
    app = create_app()
    with app.app_context():
        db.create_all()
    server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_server(server):
    assert urllib.request.urlopen(server).status == 200
"""

#: Each test leaves something open; the comment at its line names what is to be told.
LEAKING = """
import gc
import threading
import unittest

import flask
from sqlalchemy.orm import scoped_session, sessionmaker

kept = []


@pytest.fixture(autouse=True, scope="module")
def returned():
    yield
    while kept:
        kept.pop().close()
    flask.globals.app_ctx._get_current_object().pop()  # or it would stay for the suites to come


def test_connection(app):
    with app.app_context():
        kept.append(db.engine.connect())  # SW101


def test_session(app):
    with app.app_context():
        engine = db.engine
    session = orm.Session(engine)
    session.scalar(sa.select(Order))  # SW201
    kept.append(session)


def test_collected_much_later(app):
    with app.app_context():
        engine = db.engine
    test_collected_much_later.session = orm.Session(engine)
    test_collected_much_later.session.scalar(sa.select(Order))  # SW201


def test_healthy_in_between(client):
    client.get("/")


def test_collecting(client):
    del test_collected_much_later.session
    gc.collect()


def test_context_never_popped(app):
    app.app_context().push()
    db.session.scalar(sa.select(Order))  # SW201


def test_plain_sqlalchemy():
    engine = sa.create_engine("sqlite:///plain.db")
    kept.append(engine.connect())  # SW101


def test_thread_that_is_over(app):
    with app.app_context():
        engine = db.engine
    thread = threading.Thread(target=lambda: kept.append(engine.connect()))  # SW101
    thread.start()
    thread.join()


def test_inside_a_wide_context(wide):
    kept.append(db.engine.connect())  # SW101


@pytest.fixture(scope="module")
def wide():
    app = create_app()
    with app.app_context():
        db.create_all()
        yield app


@pytest.fixture
def leaving(app):
    with app.app_context():
        kept.append(db.engine.connect())  # SW101


def test_fixture(leaving):
    pass


Scoped = scoped_session(sessionmaker(sa.create_engine("sqlite:///scoped.db")))


def test_scoped_session():
    Scoped.execute(sa.text("select 1"))  # SW201


class TestUnittest(unittest.TestCase):
    def setUp(self):
        kept.append(sa.create_engine("sqlite:///unittest.db").connect())  # SW101

    def test_it(self):
        pass


def test_job(app):
    def job():
        with app.app_context():
            kept.append(orm.Session(db.engine))
            kept[-1].scalar(sa.select(Order))  # SW201
    job()


def test_last(client):
    client.get("/")
"""


def told(result: pytest.RunResult) -> set[tuple[str, str, int]]:
    """Return test, code and line of each finding in the summary."""
    text = result.stdout.str().partition("= sessionwatch =")[2]
    found = set()
    for line in text.splitlines():
        headline = re.match(r"(SW\d+) [\w-]+: test_shop\.py:(\d+) in ", line)
        if headline:
            code, lineno = headline[1], int(headline[2])
        elif line.startswith("  test_shop.py::"):
            found.add((line.rpartition("::")[2], code, lineno))
    return found


def expected(suite: str, first_line: int) -> set[tuple[str, str, int]]:
    """Return what the comments of a suite name; what a fixture does is told to the test after it."""
    found: set[tuple[str, str, int]] = set()
    open_ones: list[tuple[str, int]] = []
    for lineno, line in enumerate(suite.splitlines(), first_line):
        code = re.search(r"# (SW\d+)$", line)
        test = re.match(r" *def (test_\w+)", line)
        if test:
            name = test[1]
            found |= {(name, *each) for each in open_ones}
            open_ones = []
        elif re.match(r" *def (leaving|setUp)", line):
            name = None
        if code and name:
            found.add((name, code[1], lineno))
        elif code:
            open_ones.append((code[1], lineno))
    return found


@pytest.mark.timeout(300)
def test_healthy_suites(suite: Suite) -> None:
    """Outer contexts, transactions that are rolled back, savepoints, unittest's classes, servers: nothing is told."""
    result = suite(HEALTHY, "--sessionwatch=error")
    result.assert_outcomes(passed=HEALTHY.count("def test_"))


@pytest.mark.timeout(300)
def test_leaking_suites(suite: Suite, pytester: pytest.Pytester) -> None:
    """What a test leaves open is told on that test, with the line, whoever else may find it later."""
    result = suite(LEAKING, "--sessionwatch=error")
    lines = (pytester.path / "test_shop.py").read_text().splitlines()
    first_line = lines.index("import gc")
    assert told(result) == expected(LEAKING, first_line)
    result.assert_outcomes(passed=LEAKING.count("def test_"), errors=LEAKING.count("# SW"))
