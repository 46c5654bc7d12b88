"""The baseline: known findings are kept but not told."""

import http.server
import json
import threading
import typing as t
from pathlib import Path

import flask
import pytest
import sqlalchemy as sa
from click.testing import Result

from flask_sessionwatch import ConfigError
from flask_sessionwatch import Finding
from flask_sessionwatch import SessionWatch
from flask_sessionwatch import Site
from flask_sessionwatch import finding_reported
from flask_sessionwatch.finding import ScopeName
from flask_sessionwatch.report.baseline import Baseline
from flask_sessionwatch.report.baseline import Entry
from flask_sessionwatch.report.baseline import read
from flask_sessionwatch.report.baseline import render
from flask_sessionwatch.report.dispatcher import Dispatcher
from tests.rules.conftest import World
from tests.rules.conftest import world  # noqa: F401, the fixture

ENTRY = Entry("SW101", "leaked-connection", "shop/orders.py", "list_orders", "GET /orders/<int:id>", None)


def finding(**changes: t.Any) -> Finding:
    values: dict[str, t.Any] = {
        "code": "SW101",
        "rule": "leaked-connection",
        "level": "error",
        "message": "It leaked.",
        "site": Site("/srv/app/shop/orders.py", 42, "list_orders"),
        "stack": (),
        "scope": ScopeName("GET /orders/<int:id>", "request"),
        "hint": "close it.",
    }
    return Finding(**{**values, **changes})


# Identity


def test_known() -> None:
    """A finding is known by code, file, function and scope, on whichever line and in whichever folder."""
    known = Baseline([ENTRY])
    assert known(finding())
    assert known(finding(site=Site("/opt/other/shop/orders.py", 7, "list_orders")))
    assert not Baseline()(finding())


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "SW102"},
        {"site": Site("/srv/app/shop/orders.py", 42, "one_order")},
        {"site": Site("/srv/app/shop/other_orders.py", 42, "list_orders")},
        {"site": Site("/srv/app/workshop/orders.py", 42, "list_orders")},
        {"site": None},
        {"scope": ScopeName("POST /orders/<int:id>", "request")},
        {"scope": None},
        {"about": "default"},
    ],
)
def test_new(changes: dict[str, t.Any]) -> None:
    """Another code, file, function, scope or subject makes it a new one."""
    assert not Baseline([ENTRY])(finding(**changes))


def test_files_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the working folder paths are compared whole."""
    monkeypatch.chdir(tmp_path)
    known = Baseline([ENTRY._replace(path="orders.py")])
    assert known(finding(site=Site(str(tmp_path / "orders.py"), 1, "list_orders")))
    assert not known(finding(site=Site(str(tmp_path / "shop" / "orders.py"), 1, "list_orders")))


def test_without_line() -> None:
    """A finding that has no line is known by what it is about."""
    entry = Entry("SW705", "removed-option", None, None, None, "SQLALCHEMY_POOL_SIZE")
    changes = {"code": "SW705", "site": None, "scope": None}
    assert Baseline([entry])(finding(about="SQLALCHEMY_POOL_SIZE", **changes))
    assert not Baseline([entry])(finding(about="SQLALCHEMY_POOL_RECYCLE", **changes))


# The file


def test_round_trip(tmp_path: Path) -> None:
    """What is written is read again; the text is sorted and holds each entry once."""
    path = tmp_path / "known.json"
    others = [ENTRY._replace(function=name) for name in ("zebra", "été", "alpha")]
    path.write_text(render([*others, ENTRY, ENTRY]), encoding="utf-8")
    assert read(str(path), ["SW101"]) == sorted([*others, ENTRY], key=lambda each: each.function or "")
    assert path.read_text(encoding="utf-8") == render(reversed([ENTRY, *others]))
    assert "été" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", '{"version": 1}'),
        *('{"version": 0, "findings": []}', '{"version": "1", "findings": []}'),
        *('{"version": 1, "findings": [1]}', '{"version": 1, "findings": [{"code": "SW101"}]}'),
        json.dumps({"version": 1, "findings": [{**ENTRY._asdict(), "path": 1}]}),
        *("[" * 100_000, '{"version": 1e999, "findings": []}', '{"version": 1, "findings": 17}'),
        '{"version": ' + "9" * 10_000 + "}",
    ],
    ids=lambda text: text[:40],
)
def test_damaged(tmp_path: Path, text: str) -> None:
    """A file that is no baseline is an error that says so, and how to write one."""
    path = tmp_path / "known.json"
    path.write_text(text)
    with pytest.raises(
        ConfigError, match=r"known.json' is damaged .+Write it anew with 'flask sessionwatch baseline'"
    ):
        read(str(path))


def test_endless() -> None:
    """What never ends is not read to its end."""
    with pytest.raises(ConfigError, match="longer than"):
        read("/dev/zero")


def test_undecodable(tmp_path: Path) -> None:
    """A file that is no text is damaged, too."""
    path = tmp_path / "known.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is damaged"):
        read(str(path))


def test_later_version(tmp_path: Path) -> None:
    """A file of a later version is not guessed at."""
    path = tmp_path / "known.json"
    path.write_text('{"version": 2, "entries": [], "findings": {}}')
    with pytest.raises(ConfigError, match="has version 2, and this flask_sessionwatch reads up to 1"):
        read(str(path))


@pytest.mark.parametrize("name", ["gone.json", "."])
def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file that is missing or is a folder is an error with its whole path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"'{tmp_path}.*' cannot be read .+ Write it with"):
        read(name)


def test_unknown_rule(tmp_path: Path) -> None:
    """An entry of a rule that does not exist is an error that names the nearest."""
    path = tmp_path / "known.json"
    path.write_text(render([ENTRY._replace(code="SW1O1")]))
    with pytest.raises(ConfigError, match=r"names 'SW1O1', which is no rule\. Did you mean 'SW101'\?"):
        read(str(path), ["SW101", "SW201"])


# At work


class Ended:
    """Stands for a record that has ended."""

    ended_at: float | None = None


def test_kept_but_not_told() -> None:
    """A known finding is kept and counted, told to no sink, and neither in the counts nor in the open ones."""
    told: list[Finding] = []
    dispatcher = Dispatcher([told.append], lambda finding: False, told.append, Baseline([ENTRY]))  # type: ignore[arg-type]
    for _ in range(10):
        kept = dispatcher.report(finding(subject=Ended()))
    dispatcher.report(finding(code="SW102"))
    dispatcher.drain()
    assert kept is not None
    assert (kept.known, kept.count) == (True, 10)
    assert [each.code for each in told] == ["SW102"]
    assert [code for code, _, _ in dispatcher.occurrences] == ["SW102"]
    assert dispatcher.open_findings() == []
    assert dispatcher.has_found("SW101")


def leaking_app(world: World, **settings: t.Any) -> SessionWatch:  # noqa: F811, a world of its own
    watch = world.configure(**settings)

    @world.view()
    def view() -> str:
        world.keep(world.engine.connect())
        return str(world._kept[-1].scalar(sa.text("SELECT 1")))

    return watch


def write_baseline(world: World, path: Path) -> None:  # noqa: F811, a world of its own
    """Write what the world's watch has found, by way of a log."""
    log = path.with_suffix(".log")
    log.write_text("\n".join(json.dumps(each.as_json()) for each in world.watch.findings))
    assert run(world.app, str(log), "--output", str(path)).exit_code == 0


def run(app: flask.Flask, *args: str) -> Result:
    return app.test_cli_runner().invoke(args=["sessionwatch", "baseline", *args])


def test_known_of_an_application(world: World, tmp_path: Path) -> None:  # noqa: F811, the fixture
    """With a baseline the application's known bug is kept, but not signalled, raised, nor held against its scope."""
    leaking_app(world)
    world.open()
    assert world.told("SW101")
    path = tmp_path / "known.json"
    write_baseline(world, path)
    world.give_back()
    world.app.config["SESSIONWATCH_RAISE"] = ["SW101"]
    world.configure(baseline=str(path))
    signalled: list[Finding] = []

    def receive(sender: object, finding: Finding) -> None:
        signalled.append(finding)

    with finding_reported.connected_to(receive):
        assert world.open().text == "1"
        world.give_back()
        world.ticks(1)
    assert [each.known for each in world.told("SW101")] == [True]
    assert signalled == []
    assert world.metric("sessionwatch_scopes_total", scope="GET /", kind="request", verdict="error") == 0.0


@pytest.mark.parametrize("enabled", [True, False])
def test_missing_at_start(tmp_path: Path, enabled: bool) -> None:
    """A missing baseline is an error at start, of an application that is watched."""
    app = flask.Flask(__name__)
    app.config.update(SESSIONWATCH_BASELINE=str(tmp_path / "gone.json"), SESSIONWATCH_ENABLED=enabled)
    if enabled:
        with pytest.raises(ConfigError, match=r"gone\.json' cannot be read"):
            SessionWatch(app)
        assert "sessionwatch" not in app.extensions
    else:
        SessionWatch(app).close()


# The command


@pytest.fixture
def app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.config["SESSIONWATCH_ENABLED"] = False
    SessionWatch(app)
    return app


def test_command_reads_a_log(app: flask.Flask, tmp_path: Path) -> None:
    """Findings are found in whichever lines, behind whatever the logging puts in front; other lines are passed over."""
    log = tmp_path / "service.log"
    one = json.dumps(finding().as_json())
    two = json.dumps(finding(code="SW102", rule="abandoned-connection").as_json())
    log.write_text(f"starting\n2026-01-01 ERROR flask_sessionwatch: {one}\n{two} \n{one[:50]}\n{one}\n{{}}\n")
    path = tmp_path / "known.json"
    result = run(app, str(log), "--output", str(path))
    assert (result.exit_code, result.output) == (0, f"{path}: 2 known findings, 2 of them new.\n")
    assert [each.code for each in read(str(path))] == ["SW101", "SW102"]


def test_command_adds(app: flask.Flask, tmp_path: Path) -> None:
    """What the file has already stays in it."""
    path = tmp_path / "known.json"
    path.write_text(render([ENTRY._replace(code="X1", rule="of-our-own"), ENTRY]))
    log = tmp_path / "service.log"
    log.write_text(json.dumps(finding(code="SW102").as_json()))
    result = run(app, str(log), "--output", str(path))
    assert "3 known findings, 1 of them new." in result.output
    assert {each.code for each in read(str(path))} == {"X1", "SW101", "SW102"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "'SESSIONWATCH_STORE' is 'memory:'"),
        (["LOG", "--url", "http://127.0.0.1/"], "Give either a LOG, or --store or --url."),
        (["LOG", "--store", "sqlite:///store.db"], "Give either a LOG, or --store or --url."),
        (["--url", "file:///etc/passwd"], "--url takes an address"),
        (["--url", "http://127.0.0.1:9/_sessionwatch"], "cannot be reached"),
        (["LOG"], "There is no finding in this log."),
    ],
)
def test_command_refuses(app: flask.Flask, tmp_path: Path, args: list[str], message: str) -> None:
    """What cannot be done is said in one line, and nothing is written."""
    log = tmp_path / "service.log"
    log.write_text("nothing\n")
    path = tmp_path / "known.json"
    result = run(app, *[str(log) if each == "LOG" else each for each in args], "--output", str(path))
    assert result.exit_code == 2
    assert message in result.output
    assert not path.exists()


def test_command_keeps_what_is_damaged(app: flask.Flask, tmp_path: Path) -> None:
    """A file that is no baseline is not overwritten."""
    path = tmp_path / "known.json"
    path.write_text("mine")
    log = tmp_path / "service.log"
    log.write_text(json.dumps(finding().as_json()))
    result = run(app, str(log), "--output", str(path))
    assert result.exit_code == 2
    assert "is damaged" in result.output
    assert path.read_text() == "mine"


def test_command_cannot_write(app: flask.Flask, tmp_path: Path) -> None:
    """A folder that is not there is said."""
    log = tmp_path / "service.log"
    log.write_text(json.dumps(finding().as_json()))
    result = run(app, str(log), "--output", str(tmp_path / "gone" / "known.json"))
    assert result.exit_code == 2
    assert "cannot be written" in result.output


class Service(http.server.BaseHTTPRequestHandler):
    """Stands for a running service."""

    status = 200
    body = json.dumps({"findings": [finding().as_json()], "store": {"problem": None}})
    asked: t.ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.status)
        if self.status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[str]:
    monkeypatch.setattr(Service, "asked", [])
    with http.server.HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/_sessionwatch"
        server.shutdown()
        thread.join()


def test_command_asks_a_service(app: flask.Flask, tmp_path: Path, service: str) -> None:
    """A service is asked for its findings, with the token of the environment."""
    path = tmp_path / "known.json"
    runner = app.test_cli_runner(env={"SESSIONWATCH_TOKEN": "a long secret"})
    result = runner.invoke(args=["sessionwatch", "baseline", "--url", f"{service}/", "--output", str(path)])
    assert result.exit_code == 0, result.output
    assert Service.asked == [("/_sessionwatch/api/v1/findings", "Bearer a long secret")]
    (entry,) = read(str(path))
    assert entry.key == ENTRY.key


def test_command_asks_a_lonely_service(
    app: flask.Flask, tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that cannot read its store tells of one worker, and that is said."""
    body = {"findings": [finding().as_json()], "store": {"problem": "it has gone fishing"}}
    monkeypatch.setattr(Service, "body", json.dumps(body))
    result = run(app, "--url", service, "--output", str(tmp_path / "known.json"))
    assert (result.exit_code, "1 known finding," in result.output) == (0, True)
    assert "Only the worker that answered is shown: it has gone fishing." in result.output


def test_command_and_a_service_that_writes_to_the_terminal(
    app: flask.Flask, tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a service answers cannot move the cursor, nor begin a line of its own."""
    body = {"findings": [finding().as_json()], "store": {"problem": "gone\n\x1b[2Jroot: \u202eforged"}}
    monkeypatch.setattr(Service, "body", json.dumps(body))
    result = run(app, "--url", service, "--output", str(tmp_path / "known.json"))
    assert r"gone\n\x1b[2Jroot: \u202eforged" in result.output
    assert all(line.isprintable() for line in result.output.splitlines())


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, "{}", "is SESSIONWATCH_TOKEN right?"),
        (404, "{}", "is SESSIONWATCH_TOKEN right?"),
        (302, "", "answered 302; is this the address of the pages?"),
        (200, "<html>", "answered something else"),
        (200, "[]", "answered something else"),
        (200, '{"findings": [{}], "store": {"problem": null}}', "answered something else"),
        (200, "[" * 100_000, "answered something else"),
        (200, "9" * 10_000, "answered something else"),
    ],
)
def test_command_and_a_strange_service(
    app: flask.Flask,
    tmp_path: Path,
    service: str,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: str,
    message: str,
) -> None:
    """A service that answers otherwise is told in one line; a token is never carried elsewhere."""
    monkeypatch.setattr(Service, "status", status)
    monkeypatch.setattr(Service, "body", body)
    path = tmp_path / "known.json"
    result = run(app, "--url", service, "--output", str(path))
    assert result.exit_code == 2
    assert message in result.output
    assert len(Service.asked) == 1
    assert not path.exists()
