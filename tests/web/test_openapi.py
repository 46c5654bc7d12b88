"""The API's own description, compared with what it answers."""

import re
import typing as t
from unittest import mock

import flask
import jsonschema
import openapi_spec_validator
import pytest

from flask_sessionwatch.web import application
from tests.web.conftest import PREFIX
from tests.web.conftest import Pages
from tests.web.test_api import Leaky
from tests.web.test_api import pages as pages


@pytest.fixture
def described(client: Pages) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", client.json("/api/v1/openapi.json"))


def test_document_is_valid(described: dict[str, t.Any]) -> None:
    """It is an OpenAPI document, and says where the API is."""
    openapi_spec_validator.validate(described)
    assert described["servers"] == [{"url": PREFIX}]


def test_every_path_is_described(described: dict[str, t.Any]) -> None:
    """Nothing that is answered as JSON is left out."""
    app = flask.Flask(__name__)
    nothing: t.Any = mock.Mock(rules=(), settings=None)
    app.register_blueprint(application._blueprint(nothing, nothing))
    served = {_as_described(rule) for rule in app.url_map.iter_rules() if rule.rule.startswith("/api/")}
    assert served - {"/api/v1/openapi.json"} == set(described["paths"])


def _as_described(rule: t.Any) -> str:
    return re.sub("<.*>", lambda part: "{fingerprint}" if "fingerprint" in part[0] else "{id}", rule.rule)


def check(described: dict[str, t.Any], path: str, answer: t.Any, status: int = 200) -> None:
    """Compare an answer with what is said of it."""
    responses = described["paths"][path]["get"]["responses"]
    schema = responses[str(status)]["content"]["application/json"]["schema"]
    formats = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(
        {**schema, "components": described["components"]}, format_checker=formats
    )
    validator.validate(answer)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "live",
            "live?stacks=false",
            "findings",
            "findings?brief=true",
            "scopes",
            "pools",
            "series?span=6h",
        ),
        *("fleet", "rules"),
    ],
)
def test_answers_are_as_described(pages: Leaky, path: str) -> None:
    """What is answered has every field that it should have, of the right kind, and no other."""
    pages.leak("/connection/1")
    pages.leak("/session")
    pages.watch.tick()
    described = pages.json("/api/v1/openapi.json")
    check(described, f"/api/v1/{path.partition('?')[0]}", pages.json(f"/api/v1/{path}"))


def test_one_of_many_is_as_described(pages: Leaky) -> None:
    """So are one finding, one session and one check-out."""
    pages.leak("/session")
    described = pages.json("/api/v1/openapi.json")
    (finding,) = pages.json("/api/v1/findings")["findings"]
    path = "/api/v1/findings/{fingerprint}"
    check(described, path, pages.json(f"/api/v1/findings/{finding['fingerprint']}"))
    check(described, path, pages.get("/api/v1/findings/0").get_json(), 404)
    live = pages.json("/api/v1/live")
    for kind in ("sessions", "checkouts"):
        (held,) = live[kind]
        path = f"/api/v1/{kind}/{{id}}"
        check(described, path, pages.json(f"/api/v1/{kind}/{held['id']}"))
        check(described, path, pages.get(f"/api/v1/{kind}/0").get_json(), 404)


def test_refusals_are_as_described(pages: Leaky) -> None:
    """So are refusals."""
    described = pages.json("/api/v1/openapi.json")
    for path in ("series?span=1y", "live?stacks=maybe", "findings?sort=colour"):
        answer = pages.get(f"/api/v1/{path}")
        assert answer.status_code == 400
        check(described, f"/api/v1/{path.partition('?')[0]}", answer.get_json(), 400)
    check(described, "/api/v1/live", pages.get("/api/v1/live", Authorization="Bearer wrong").get_json(), 401)


def test_a_wrong_answer_is_noticed(described: dict[str, t.Any]) -> None:
    """The comparison itself is not blind."""
    with pytest.raises(jsonschema.ValidationError):
        check(described, "/api/v1/findings", {"findings": [{"code": "SW101"}], "store": {"problem": None}})
