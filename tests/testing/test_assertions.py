"""The fixture ``sessionwatch``: what it counts, and what it shows when it fails."""

import pytest

from .conftest import Suite

pytest_plugins = ["pytester"]

COUNTING = """
def test_request(client, sessionwatch):
    with sessionwatch.expect(commits=1, connections=1):
        client.post("/orders")
    assert (sessionwatch.commits, sessionwatch.connections, sessionwatch.open_connections) == (1, 1, 0)


def test_at_most(client, sessionwatch):
    with sessionwatch.expect(max_commits=2, max_connections=2):
        client.post("/twice")


def test_fixtures_do_not_count(client, sessionwatch):
    assert (sessionwatch.commits, sessionwatch.connections) == (0, 0)


def test_core(app, sessionwatch):
    with app.app_context():
        with sessionwatch.expect(commits=2, connections=1), db.engine.connect() as connection:
            for _ in range(2):
                connection.execute(sa.insert(Order).values(name=None))
                connection.commit()
            assert sessionwatch.open_connections == 1


def test_savepoints_are_no_commits(app, sessionwatch):
    with app.app_context(), sessionwatch.expect(commits=1):
        with db.session.begin_nested():
            db.session.add(Order())
        db.session.commit()


def test_commit_of_nothing(app, sessionwatch):
    with app.app_context(), sessionwatch.expect(commits=0, connections=0):
        db.session.commit()


def test_in_the_transaction_of_a_test(app, sessionwatch):
    with app.app_context(), db.engine.connect() as connection:
        transaction = connection.begin()
        session = orm.Session(connection, join_transaction_mode="create_savepoint")
        with sessionwatch.expect(commits=1, connections=0):
            session.add(Order())
            session.commit()
        session.close()
        transaction.rollback()


def test_other_thread(client, sessionwatch):
    import threading

    with sessionwatch.expect(commits=1):
        thread = threading.Thread(target=client.post, args=["/orders"])
        thread.start()
        thread.join()


def test_asked_for_late(client, request):
    with request.getfixturevalue("sessionwatch").expect(commits=1):
        client.post("/orders")


def test_error_inside(client, sessionwatch):
    with pytest.raises(ValueError), sessionwatch.expect(commits=7):
        raise ValueError
"""


@pytest.mark.parametrize("mode", ["off", "error"])
def test_counts(suite: Suite, mode: str) -> None:
    """It counts commits and check-outs of the block, wherever they happen; also where nobody asked for a watch."""
    suite(COUNTING, f"--sessionwatch={mode}").assert_outcomes(passed=COUNTING.count("def test_"))


FAILING = """
def test_exactly(client, sessionwatch):
    with sessionwatch.expect(commits=1, connections=1):
        client.post("/twice")


def test_at_most(client, sessionwatch):
    with sessionwatch.expect(max_commits=0):
        client.post("/orders")


def test_nothing(sessionwatch):
    with sessionwatch.expect(commits=1):
        pass


def test_still_out(app, sessionwatch):
    with app.app_context(), db.engine.connect(), sessionwatch.expect(connections=1):
        pass
"""


def test_failures_show_the_ledger(suite: Suite) -> None:
    """An assertion that fails shows what was checked out and committed, where, and what is out still."""
    result = suite(FAILING)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: expected 1 commit, and there were 2:",
            "E*expected 1 check-out, and there were 2:",
            "E*  checked out on engine 'default' at shop.py:47 in twice, in POST /twice",
            "E*  committed on engine 'default' at shop.py:47 in twice, in POST /twice",
            "E*  returned on engine 'default' at shop.py:47 in twice, in POST /twice",
            "*AssertionError: expected 0 commits at most, and there was 1:",
            "*AssertionError: expected 1 commit, and there were 0:",
            "E*  nothing happened",
            "*AssertionError: expected 1 check-out, and there were 0:",
            "E*  still out: a connection of engine 'default', checked out at test_shop.py:* in test_still_out",
        ]
    )


def test_failures_point_at_the_test(suite: Suite) -> None:
    """The traceback ends at the line of the test, and not inside of the fixture."""
    result = suite(FAILING, "--tb=short")
    assert "assertions.py" not in result.stdout.str()
