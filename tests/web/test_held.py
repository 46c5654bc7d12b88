"""One session or check-out, with the source around its frames, and no way to other files."""

import builtins
import threading
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import orm
from werkzeug.test import Client

from flask_sessionwatch.store.base import ABOUT
from flask_sessionwatch.store.base import LIVE
from flask_sessionwatch.store.memory import MemoryStore
from flask_sessionwatch.store.picture import Picture
from flask_sessionwatch.store.reader import Reader
from flask_sessionwatch.web.standalone import create_standalone
from tests.rules.conftest import line
from tests.rules.conftest import until
from tests.store.conftest import document
from tests.store.conftest import worker
from tests.web.conftest import PREFIX
from tests.web.conftest import Pages
from tests.web.test_api import Leaky
from tests.web.test_api import pages as pages


def held(pages: Pages, kind: str) -> t.Any:
    (row,) = pages.json("/api/v1/live")[kind]
    return pages.json(f"/api/v1/{kind}/{row['id']}")["held"]


def test_checkout(pages: Leaky) -> None:
    """A check-out has its stacks, and the lines around the application's frames in them."""
    pages.leak("/connection/1")
    checkout = held(pages, "checkouts")
    source = checkout["sources"][0]
    assert (source["filename"], source["lineno"]) == (
        __file__.replace("test_held", "test_api"),
        checkout["site"]["lineno"],
    )
    meant = source["lines"][source["lineno"] - source["first_lineno"]]
    assert meant.strip() == "connection = engine.connect()"


def test_session(pages: Leaky) -> None:
    """So has a session, and it leads to what it has checked out."""
    pages.leak("/session")
    session, checkout = held(pages, "sessions"), held(pages, "checkouts")
    assert session["id"] == checkout["session_id"]
    assert session["sources"]
    assert session["doing"] is None  # its request is over


def test_present_of_a_session(pages: Leaky, engine: sa.Engine) -> None:
    """While its scope runs, a session tells what its holder is doing now, and where."""
    over = threading.Event()

    def work() -> None:
        with pages.watch.scope("import"), orm.Session(engine) as session:
            session.execute(sa.select(1))
            over.wait()  # now

    thread = threading.Thread(target=work)
    thread.start()
    until(
        lambda: (
            [each["doing"] for each in pages.json("/api/v1/live")["sessions"]]
            == ["waiting for another thread"]
        )
    )
    row = held(pages, "sessions")
    over.set()
    thread.join()
    here = (__file__, line("now"))
    assert here in [(frame["filename"], frame["lineno"]) for frame in row["now"]]
    assert here in [(each["filename"], each["lineno"]) for each in row["sources"]]


def test_list_without_stacks(pages: Leaky) -> None:
    """A list may leave out the stacks, and has all else."""
    pages.leak("/session")
    full, brief = (pages.json(f"/api/v1/live{query}") for query in ("", "?stacks=false"))
    for kind in ("sessions", "checkouts"):
        (whole,), (row,) = full[kind], brief[kind]
        assert (row["stack"], row["now"]) == ([], [])
        assert whole["stack"]
        assert row.keys() == whole.keys()
        assert (row["id"], row["site"]) == (whole["id"], whole["site"])


def test_after_the_return(pages: Leaky) -> None:
    """What was returned is there no more."""
    pages.leak("/connection/1")
    (row,) = pages.json("/api/v1/live")["checkouts"]
    pages.close()
    assert pages.get(f"/api/v1/checkouts/{row['id']}").status_code == 404


@pytest.mark.parametrize("kind", ["sessions", "checkouts", "findings"])
@pytest.mark.parametrize(
    "name", ["/etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e", "a%00b", "é", "x" * 5_000, __file__]
)
def test_names_of_files(pages: Leaky, kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No name in an address is ever opened or looked for on the disk."""
    touched: list[str] = []
    whole = builtins.open

    def watched_open(file: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        touched.append(str(file))
        return whole(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", watched_open)
    assert pages.get(f"/api/v1/{kind}/{name}").status_code == 404
    query = f"filename={name}&file={name}&q={name}&path={name}&lineno=1"
    pages.get(f"/api/v1/findings?{query}")
    pages.get(f"/api/v1/live?{query}")
    assert not [each for each in touched if "passwd" in each or each == __file__]


# Of other workers


def frame(filename: str, *, application: bool = True) -> dict[str, t.Any]:
    return {"filename": filename, "lineno": 1, "function": "f", "application": application}


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """A worker elsewhere, which tells of two files and the source of one."""
    store = MemoryStore()
    secret = tmp_path / "secret.py"
    secret.write_text("hunter2 = 1\n")
    row = {
        "id": "c1",
        "session_id": None,
        "age_seconds": 5.0,
        "site": None,
        "stack": [frame("/srv/shop/orders.py"), frame(str(secret))],
        "now": [],
    }
    live: t.Any = {"engines": [], "sessions": [], "checkouts": [row], "omitted": {}}
    source = {"filename": "/srv/shop/orders.py", "lineno": 1, "first_lineno": 1, "lines": ["import shop"]}
    other = {**source, "filename": "/srv/shop/other.py"}
    about: t.Any = {"sources": [source, other]}
    store.publish(worker("elsewhere"), {LIVE: document(**live), ABOUT: document(**about)}, [])
    return store


def test_of_another_worker(store: MemoryStore) -> None:
    """Of another worker that is shown which it has published; no name that is in the store is opened here."""
    (row,) = Picture(store).live()["checkouts"]
    found = Picture(store).held("checkouts", row["id"])
    assert found is not None
    assert [each["lines"] for each in found["sources"]] == [["import shop"]]


def test_without_the_application(store: MemoryStore) -> None:
    """So it is where the pages are shown from the store alone."""
    pages = Client(create_standalone(Reader(store), None, PREFIX))
    local = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1"}
    (row,) = pages.get("/api/v1/live", environ_overrides=local).get_json()["checkouts"]
    answer = pages.get(f"/api/v1/checkouts/{row['id']}", environ_overrides=local)
    assert [each["lines"] for each in answer.get_json()["held"]["sources"]] == [["import shop"]]
    assert "hunter2" not in answer.text
