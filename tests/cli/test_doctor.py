"""`doctor`: what is wrong with how an application is set up."""

import gc
import json
import typing as t
from pathlib import Path

import flask
import pytest
import sqlalchemy as sa
from click.testing import Result
from flask_sqlalchemy import SQLAlchemy

from flask_sessionwatch import SessionWatch
from flask_sessionwatch.observe.engines import Engines
from flask_sessionwatch.store import Worker
from tests.cli.conftest import Shop
from tests.store.conftest import report
from tests.store.conftest import worker


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be that of the command: engines of other tests are not there."""
    strangers = [each for each in gc.get_objects() if issubclass(type(each), sa.Engine)]
    every = Engines.every
    monkeypatch.setattr(
        Engines, "every", lambda self: [it for it in every(self) if it.engine_ref() not in strangers]
    )


class Patient:
    """An application that is set up and has not worked yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.app = flask.Flask("patient", root_path=str(Path(__file__).parent))
        self.app.config.update(
            SESSIONWATCH_STORE=f"sqlite:///{folder / 'store.db'}",
            SESSIONWATCH_IGNORE=["SW703"],  # listeners are the process's, and other tests have theirs
            SQLALCHEMY_DATABASE_URI=f"sqlite:///{folder / 'patient.db'}",
        )
        self.watch: SessionWatch | None = None

    def run(self, *args: str) -> Result:
        if self.watch is None:
            SQLAlchemy(self.app)
            self.watch = SessionWatch(self.app, sinks=[])
        result = self.app.test_cli_runner().invoke(args=["sessionwatch", "doctor", *args])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    def codes(self, *args: str) -> list[str]:
        return [each["code"] for each in json.loads(self.run(*args, "--json").output)["findings"]]


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Patient]:
    monkeypatch.delenv("SESSIONWATCH_STORE", raising=False)
    patient = Patient(tmp_path)
    yield patient
    if patient.watch is not None:
        patient.watch.close()


def test_healthy(patient: Patient) -> None:
    """Where nothing is wrong it says so, and that there was nobody to be asked; no database was touched."""
    result = patient.run()
    assert (
        result.exit_code,
        result.output.startswith("Nothing to change. Running workers were not asked:"),
    ) == (0, True)
    assert list(patient.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "codes", "status"),
    [
        ({"SQLALCHEMY_TRACK_MODIFICATIONS": True}, ["SW701"], 1),
        ({"SQLALCHEMY_RECORD_QUERIES": True}, ["SW702"], 1),
        ({"SQLALCHEMY_POOL_SIZE": 20, "SQLALCHEMY_COMMIT_ON_TEARDOWN": True}, ["SW705", "SW705"], 1),
        ({"SQLALCHEMY_NATIVE_UNICODE": True}, ["SW705"], 0),
        ({"SQLALCHEMY_DATABASE_URI": "postgresql+psycopg://nobody@127.0.0.1:6432/none"}, ["SW707"], 0),
        ({"SQLALCHEMY_POOL_SIZE": 20, "SESSIONWATCH_IGNORE": ["SW703", "SW705"]}, [], 0),
        ({"SQLALCHEMY_POOL_SIZE": 20, "SESSIONWATCH_ENABLED": False}, ["SW705"], 1),
    ],
)
def test_configuration(patient: Patient, settings: dict[str, t.Any], codes: list[str], status: int) -> None:
    """Options and engines are judged without a request and without a connection; info does not fail."""
    patient.app.config.update(settings)
    assert patient.codes() == codes
    assert patient.run().exit_code == status


def test_advice(patient: Patient) -> None:
    """It says what is wrong and what to change."""
    patient.app.config["SQLALCHEMY_POOL_SIZE"] = 20
    output = patient.run().output
    assert "SW705 removed-option (error): SQLALCHEMY_POOL_SIZE is set, but" in output
    assert "change: use SQLALCHEMY_ENGINE_OPTIONS" in output
    assert "1 thing to change." in output


def test_fail_on(patient: Patient) -> None:
    """What is to fail can be chosen."""
    patient.app.config["SQLALCHEMY_NATIVE_UNICODE"] = True
    assert [patient.run("--fail-on", level).exit_code for level in ("info", "warning")] == [1, 0]


def test_threads_and_workers(patient: Patient) -> None:
    """What only shows at work is told before, when the server is described; engines need no extension."""
    engine = sa.create_engine(f"sqlite:///{patient.folder / 'plain.db'}", pool_size=1, max_overflow=1)
    assert patient.codes("--threads", "2") == []
    assert patient.codes("--threads", "3", "--workers", "4") == ["SW704", "SW709"]
    engine.dispose()
    assert list(patient.folder.iterdir()) == []


def test_running_workers(shop: Shop) -> None:
    """What the workers that run have found in their configuration is told, and what those that are gone had is not."""
    body: dict[str, t.Any] = {
        "level": "error",
        "rule": "x",
        "site": None,
        "verb": "seen",
        "details": {},
        "hint": "h.",
    }
    shop.publish_nothing()
    with shop.store() as store:
        ((alive, _, _),) = store.live()
        store.publish(alive, {}, [report("f1", **{**body, "code": "SW708"}), report("f2", **body)])
        store.publish(worker(), {}, [report("f3", **{**body, "code": "SW706"})])
    assert isinstance(alive, Worker)
    result = shop.run("doctor", "--json")
    answer = json.loads(result.output)
    assert ([each["code"] for each in answer["findings"]], answer["workers"], result.exit_code) == (
        ["SW708"],
        1,
        1,
    )
    assert "1 running worker told what shows at work." in shop.run("doctor").output


def test_a_service_that_is_away(patient: Patient) -> None:
    """A service that was named has to answer."""
    result = patient.run("--url", "http://127.0.0.1:1/_sessionwatch")
    assert (result.exit_code, "cannot be reached" in result.output) == (2, True)


def test_nobody_is_told(patient: Patient) -> None:
    """What it finds is neither kept nor counted."""
    patient.app.config["SQLALCHEMY_POOL_SIZE"] = 20
    assert patient.codes() == ["SW705"]
    assert patient.watch is not None
    assert patient.watch.findings == []
