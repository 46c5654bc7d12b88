"""Use an installed flask_sessionwatch as a stranger would: nothing but what its wheel brings, and the smallest example.

    python scripts/smoke.py EXAMPLE [METRICS]

EXAMPLE is the file of a watched application that leaks a connection at "/". Its metrics are written to the file METRICS.
Run it with the Python of the environment that has the wheel, from anywhere.
"""

import importlib.metadata
import importlib.util
import sys
import types
from pathlib import Path

import flask

import flask_sessionwatch


def check_package() -> None:
    """The package is an installed one, with its dashboard and its types."""
    home = Path(flask_sessionwatch.__file__).parent
    assert "site-packages" in home.parts, f"{home} is not an installed package"
    for name in ("py.typed", "web/static/index.html"):
        assert (home / name).is_file(), f"{name} is missing from {home}"


def load_application(path: Path) -> flask.Flask:
    spec = importlib.util.spec_from_file_location("example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    app = _application_in(module)
    app.testing = True
    return app


def _application_in(module: types.ModuleType) -> flask.Flask:
    app = module.create_app() if hasattr(module, "create_app") else module.app
    assert isinstance(app, flask.Flask)
    return app


def check_application(app: flask.Flask) -> None:
    """It answers, its leak is told, and so does the dashboard."""
    client = app.test_client()
    assert client.get("/").status_code == 200, "the example does not answer"
    watch = app.extensions["sessionwatch"]
    watch.tick()
    told = {finding.rule for finding in watch.findings}
    # When the collector runs at that very moment, it was the collector that returned the connection.
    leak = {"leaked-connection", "abandoned-connection"}
    assert told & leak, f"the leak was not told, only {told or 'nothing'}"
    page = client.get("/_sessionwatch/")
    assert page.status_code == 200, "there is no dashboard"
    assert "<script" in page.text, "the dashboard is empty"


def main(example: Path, metrics: Path | None) -> None:
    check_package()
    app = load_application(example)
    check_application(app)
    if metrics:
        metrics.write_bytes(app.test_client().get("/_sessionwatch/metrics").data)
    print(f"flask-sessionwatch {importlib.metadata.version('flask-sessionwatch')} works")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
