"""The pytest plugin: how it is asked for, and how a test is told."""

import threading

import flask
import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from .conftest import FIXTURES
from .conftest import SHOP
from .conftest import Suite

pytest_plugins = ["pytester"]

LEAKING = """
def test_healthy(client):
    assert client.post("/orders").status_code == 200

def test_leaking(client):
    client.get("/leak")
"""
SITE = "shop.py:34 in leak"


# Off until asked


def test_off(suite: Suite) -> None:
    """Nobody has asked: nothing is told."""
    result = suite(LEAKING)
    result.assert_outcomes(passed=2)
    assert "sessionwatch:" not in result.stdout.str()


def test_off_imports_nothing(pytester: pytest.Pytester) -> None:
    """Until somebody asks, neither Flask, nor SQLAlchemy, nor the package itself is imported."""
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            assert "_flask_sessionwatch_pytest" in sys.modules
            assert not {"flask", "sqlalchemy", "prometheus_client", "flask_sessionwatch"} & {*sys.modules}
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


@pytest.mark.parametrize("option", ["--sessionwatch", "--sessionwatch=warn"])
def test_warn(suite: Suite, option: str) -> None:
    """As warnings: the test passes, and the warning is at the guilty line."""
    result = suite(LEAKING, option)
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "test_shop.py::test_leaking",
            "*shop.py:34: SessionWatchWarning: SW101 leaked-connection: GET /leak ended with *",
        ]
    )


def test_error(suite: Suite) -> None:
    """As errors: the test that leaks is one, with what was found and where."""
    result = suite(LEAKING, "--sessionwatch=error")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leaking*",
            "SW101 leaked-connection: GET /leak ended with *",
            f"  checked out at {SITE}",
        ]
    )


def test_ini(suite: Suite, pytester: pytest.Pytester) -> None:
    """A project asks for it in its configuration file."""
    pytester.makeini("[pytest]\nsessionwatch = error\n")
    suite(LEAKING).assert_outcomes(passed=2, errors=1)


def test_option_before_ini(suite: Suite, pytester: pytest.Pytester) -> None:
    """The command line has the last word."""
    pytester.makeini("[pytest]\nsessionwatch = error\n")
    suite(LEAKING, "--sessionwatch=warn").assert_outcomes(passed=2, warnings=1)
    suite(LEAKING, "--sessionwatch=off").assert_outcomes(passed=2)


def test_silly_ini(suite: Suite, pytester: pytest.Pytester) -> None:
    """A value that makes no sense is an error that names the right ones."""
    pytester.makeini("[pytest]\nsessionwatch = loud\n")
    result = suite(LEAKING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'sessionwatch' is 'loud'; it takes off, warn, error.*"])


def test_silly_level(suite: Suite, pytester: pytest.Pytester) -> None:
    """A level that makes no sense is an error that names the right ones."""
    pytester.makeini("[pytest]\nsessionwatch_level = loud\n")
    result = suite(LEAKING, "--sessionwatch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'sessionwatch_level' is 'loud'; it takes info, warning, error.*"])


def test_option_before_a_path(suite: Suite) -> None:
    """The option takes a path for its value; the error says how to write it."""
    result = suite(LEAKING, "--sessionwatch", "test_shop.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Write '--sessionwatch=warn' in front of a path*"])


# As warnings


def test_warnings_as_errors(suite: Suite) -> None:
    """The warnings obey -W error, and name all that was found."""
    both = LEAKING + '\ndef test_both(client):\n    client.get("/leak")\n    client.post("/lost")\n'
    result = suite(both, "--sessionwatch", "-W", "error::flask_sessionwatch.testing.SessionWatchWarning")
    result.assert_outcomes(passed=3, errors=2)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_both*", "SW101 *", "SW204 *"])


def test_warnings_filtered(suite: Suite) -> None:
    """A filter lets a test leak, by the text of the warning."""
    result = suite(LEAKING, "--sessionwatch", "-W", "error", "-W", "ignore:SW101")
    result.assert_outcomes(passed=2)


# Marked tests


def test_marker(suite: Suite) -> None:
    """A marked test is watched, and fails for what is found, where nobody asked for more."""
    marked = LEAKING.replace("def test_leaking", "@pytest.mark.sessionwatch\ndef test_marked")
    result = suite(LEAKING + marked.replace("test_healthy", "test_healthy_too"))
    result.assert_outcomes(passed=4, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_marked*"])


def test_marker_allows(suite: Suite) -> None:
    """A marker lets its test do what a rule would tell, by code or by name."""
    allowed = """
@pytest.mark.sessionwatch(allow=["SW101"])
def test_by_code(client):
    client.get("/leak")

@pytest.mark.sessionwatch(allow=["leaked-connection"])
class TestByName:
    @pytest.mark.sessionwatch(allow=["SW204"])
    def test_by_name(self, client):
        client.get("/leak")
        client.post("/lost")
"""
    suite(allowed, "--sessionwatch=error").assert_outcomes(passed=2)


def test_marker_max_commits(suite: Suite) -> None:
    """A request of the test that commits more often than its marker says is told, with each commit."""
    stormy = """
@pytest.mark.sessionwatch(max_commits=1)
def test_once(client):
    client.post("/orders")
    client.post("/orders")

@pytest.mark.sessionwatch(max_commits=1)
def test_twice(client):
    client.post("/twice")
"""
    result = suite(stormy)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_twice*",
            "SW501 commit-storm: POST /twice made 2 commits, and 1 commit at most were allowed by its marker.",
            "  committed on engine 'default' at shop.py:47 in twice, in POST /twice",
            "  committed on engine 'default' at shop.py:47 in twice, in POST /twice",
        ]
    )


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ('allow=["SW999"]', "*names 'SW999', which is no rule*"),
        ("max_comits=1", "*takes max_commits and allow, by their names*"),
        ('"SW101"', "*takes max_commits and allow, by their names*"),
    ],
)
def test_silly_marker(suite: Suite, marker: str, told: str) -> None:
    """A marker that would do nothing is an error before the first test."""
    result = suite(f"@pytest.mark.sessionwatch({marker})\ndef test_it(): pass\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (result.stdout if "INTERNALERROR" in result.stdout.str() else result.stderr).fnmatch_lines([told])


def test_strict_markers(suite: Suite) -> None:
    """The marker is known to --strict-markers."""
    suite("@pytest.mark.sessionwatch\ndef test_it(): pass\n", "--strict-markers").assert_outcomes(passed=1)


# What is told


def test_level(suite: Suite, pytester: pytest.Pytester) -> None:
    """What is merely worth knowing is told to those who ask for it."""
    legacy = """
def test_legacy(app):
    with app.app_context():
        assert db.session.query(Order).count() == 0
"""
    suite(legacy, "--sessionwatch=error").assert_outcomes(passed=1)
    pytester.makeini("[pytest]\nsessionwatch_level = info\n")
    result = suite(legacy, "--sessionwatch=error")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["SW404 legacy-query: *"])


def test_each_test_is_told(suite: Suite) -> None:
    """A bug is told in each test that shows it, and once in the summary."""
    several = LEAKING + "".join(f"\ndef test_{n}(client):\n    client.get('/leak')\n" for n in range(4))
    result = suite(several, "--sessionwatch=error")
    result.assert_outcomes(passed=6, errors=5)
    result.stdout.fnmatch_lines(
        [
            "*= sessionwatch =*",
            f"SW101 leaked-connection: {SITE}",
            "  test_shop.py::test_leaking",
            "  test_shop.py::test_0",
            "  test_shop.py::test_1",
            "  and 2 more tests",
        ]
    )


def test_once_per_test(suite: Suite) -> None:
    """A test that does the same twice is told once."""
    result = suite(
        'def test_it(client):\n    client.get("/leak")\n    client.get("/leak")\n', "--sessionwatch"
    )
    result.assert_outcomes(passed=1, warnings=1)


def test_failing_test(suite: Suite) -> None:
    """A test that fails by itself fails as it did; what was found comes with it."""
    result = suite("def test_it(client):\n    client.get('/leak')\n    assert 0\n", "--sessionwatch=error")
    result.assert_outcomes(failed=1, errors=1)


def test_failing_teardown(suite: Suite) -> None:
    """A fixture's own error at teardown is the one that is shown; the summary has what was found."""
    failing = """
@pytest.fixture
def failing(client):
    yield
    raise ValueError("in the fixture")

def test_it(client, failing):
    client.get("/leak")
"""
    result = suite(failing, "--sessionwatch=error")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ValueError: in the fixture*", f"SW101 leaked-connection: {SITE}"])


def test_skipped_and_expected_to_fail(suite: Suite) -> None:
    """Skipped tests, and those that are expected to fail, end as they did."""
    others = """
def test_skipped(client):
    pytest.skip("not today")

@pytest.mark.xfail(strict=True)
def test_xfail(client):
    assert client.get("/").status_code == 500
"""
    suite(others, "--sessionwatch=error").assert_outcomes(skipped=1, xfailed=1)


def test_application_that_cannot_be_watched(suite: Suite) -> None:
    """A setting that makes no sense is told, and the tests run on."""
    silly = (
        "def test_it(app):\n    app.config['SESSIONWATCH_TIK'] = 1\n    assert app.test_client().get('/')\n"
    )
    fixtures = FIXTURES.replace("with app.app_context():\n        db.create_all()", "pass", 1)
    result = suite(silly, "--sessionwatch=warn", fixtures=fixtures)
    result.stdout.fnmatch_lines(["*'shop' is not watched: 'SESSIONWATCH_TIK' is not a setting*"])


def test_header(suite: Suite) -> None:
    """The header says that there is a watch."""
    suite(LEAKING, "--sessionwatch").stdout.fnmatch_lines(["sessionwatch: warn"])


def test_nothing_left_behind(suite: Suite) -> None:
    """After the run there is no listener, no hook and no thread."""

    def state() -> list[object]:
        threads = [each for each in threading.enumerate() if each.name == "flask_sessionwatch"]
        listeners = [
            *sa.MetaData().dispatch.before_drop,
            *orm.Session().dispatch.after_commit,
            *sa.create_engine("sqlite://").dispatch.commit,
        ]
        return [flask.Flask.__call__, flask.Flask.app_context, *threads, *listeners]

    before = state()
    suite("def test_it(sessionwatch): assert sessionwatch.commits == 0\n", "--sessionwatch=error")
    assert state() == before


def test_no_file_left_behind(suite: Suite, pytester: pytest.Pytester) -> None:
    """Applications under test publish nothing, also those whose settings name a store."""
    fixtures = FIXTURES.replace("app = create_app()", "app = create_app()\n    app.testing = False", 1)
    suite(LEAKING, "--sessionwatch", fixtures=fixtures).assert_outcomes(passed=2, warnings=1)
    assert not list(pytester.path.rglob("*sessionwatch*"))


# Several processes


def test_xdist(pytester: pytest.Pytester) -> None:
    """Under pytest-xdist the workers' tests are told, and the summary is one."""
    pytester.makepyfile(shop=SHOP.replace("sqlite:///shop.db", "sqlite://"), test_shop=FIXTURES + LEAKING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n2", "--sessionwatch=error")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*= sessionwatch =*", f"SW101 leaked-connection: {SITE}", "  test_shop.py::test_leaking"]
    )
