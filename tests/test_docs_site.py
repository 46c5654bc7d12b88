"""The pages that a newcomer reads: their examples run as they stand, and the site leaves no page out."""

import re
import runpy
import subprocess
import sys
import typing as t
from pathlib import Path

import flask
import flask_sqlalchemy
import pytest
import sqlalchemy as sa

from flask_sessionwatch import DEFAULT_RULES
from flask_sessionwatch import Finding
from flask_sessionwatch import SessionWatch

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def snippets(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def told_by(folder: Path, code: str) -> str:
    """Return what an application in *folder* logs when it is asked once, as ``python`` would see it."""
    (folder / "app.py").write_text(code, encoding="utf-8")
    asking = "from app import app; print(app.test_client().get('/').text)"
    done = subprocess.run(
        [sys.executable, "-c", asking], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "hello\n"
    return done.stderr


def test_five_minutes(tmp_path: Path) -> None:
    """The application of docs/start.md leaks, is told as the page says, and is silent after its repair."""
    leaking, repaired = snippets(page("start.md"))
    (told,) = re.findall(r"^```\n(SW101.*?)^```$", page("start.md"), re.DOTALL | re.MULTILINE)
    moment = re.compile(r"\(held [^)]+\)")  # and the thread: they differ from run to run
    assert moment.sub("", told) in moment.sub("", told_by(tmp_path, leaking))
    view = leaking.index('@app.get("/")')
    assert "SW" not in told_by(tmp_path, leaking[:view] + repaired)


class Shop(t.NamedTuple):
    """An application, and the names that the code of docs/extending.md has at its hands."""

    app: flask.Flask
    names: dict[str, t.Any]

    def run(self, code: str) -> SessionWatch:
        exec(code, self.names)  # noqa: S102, a snippet of our own
        return t.cast(SessionWatch, self.names["watch"])

    def told(self, path: str) -> list[Finding]:
        watch = t.cast(SessionWatch, self.names["watch"])
        assert self.app.test_client().get(path).status_code == 200
        watch.tick()
        return watch.findings


@pytest.fixture
def shop() -> t.Iterator[Shop]:
    """A shop whose GET requests commit, and leave a connection open."""
    app = flask.Flask(__name__)
    app.config.update(TESTING=True, SQLALCHEMY_DATABASE_URI="sqlite://")
    db = flask_sqlalchemy.SQLAlchemy(app)
    held = []

    @app.get("/login")
    @app.get("/visits")
    def visits() -> str:
        db.session.execute(sa.text("SELECT 1"))
        db.session.commit()
        return "counted"

    @app.get("/leak")
    def leak() -> str:
        held.append(db.engine.connect())
        return "held"

    names: dict[str, t.Any] = {"app": app, "__name__": __name__}
    yield Shop(app, names)
    if "watch" in names:
        names["watch"].close()
    for connection in held:
        connection.close()
    with app.app_context():
        db.engine.dispose()


def test_rule_of_ones_own(shop: Shop) -> None:
    """The rule of the page tells of a GET that commits, at its line, and not where it is told not to."""
    rule, watching, *_ = snippets(page("extending.md"))
    shop.run(f"{rule}\n\n{watching}")
    assert shop.told("/login") == []
    (finding,) = shop.told("/visits")
    assert (finding.code, finding.message) == ("SHOP01", "GET /visits committed 1 times.")
    assert finding.site is not None
    assert finding.site.function == "visits"
    explained = shop.app.test_cli_runner().invoke(args=["sessionwatch", "explain", "SHOP01"])
    assert "A GET request committed." in explained.output


def test_other_limit(shop: Shop) -> None:
    """A rule of ours with another limit takes the place of the one that is there."""
    watch = shop.run(snippets(page("extending.md"))[2])
    assert shop.told("/visits") == []
    assert len(watch._rules) == len(DEFAULT_RULES)


def test_sink_of_ones_own(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sink of the page writes a line for each error."""
    monkeypatch.chdir(tmp_path)
    shop.run(snippets(page("extending.md"))[3])
    shop.told("/leak")
    assert (tmp_path / "errors.txt").read_text().startswith("SW101 ")


def test_signals(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """The receivers of the page hear of a finding."""
    shop.run("from flask_sessionwatch import SessionWatch\nwatch = SessionWatch(app)")
    shop.run(snippets(page("extending.md"))[4])
    shop.told("/leak")
    assert capsys.readouterr().out.startswith("told SW101 ")


def test_site_has_every_page(tmp_path: Path) -> None:
    """The navigation of the site has every page of docs/, and one for each rule."""
    runpy.run_path(str(ROOT / "scripts" / "docs_site.py"))["collect"](tmp_path)
    navigation = (tmp_path / "mkdocs.yml").read_text(encoding="utf-8")
    listed = {file for file in re.findall(r"[\w/.-]+\.md\b", navigation) if file.startswith("docs/")}
    assert listed == {
        each.relative_to(tmp_path / "docs").as_posix() for each in (tmp_path / "docs" / "docs").rglob("*.md")
    }
    assert {f"docs/rules/{rule.code.lower()}-{rule.name}.md" for rule in DEFAULT_RULES} <= listed


def test_page_of_a_rule(tmp_path: Path) -> None:
    """A rule's page begins with its name and its sentence, and has its sections below that."""
    runpy.run_path(str(ROOT / "scripts" / "docs_site.py"))["collect"](tmp_path)
    text = (tmp_path / "docs" / "docs" / "rules" / "sw501-commit-storm.md").read_text(encoding="utf-8")
    assert text.startswith(
        "# SW501 commit-storm\n\nOne scope committed more often than SESSIONWATCH_MAX_COMMITS."
    )
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "What it does",
        "Why it matters",
        "Example",
        "Instead",
        "Options",
    ]
