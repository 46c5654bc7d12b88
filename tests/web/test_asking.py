"""What can be asked of the list of findings over the network."""

import pytest

from flask_sessionwatch.web.asking import MOST
from tests.web.test_api import Leaky
from tests.web.test_api import pages as pages


@pytest.fixture
def found(pages: Leaky) -> Leaky:
    """Two findings, on a connection and on a session."""
    pages.leak("/connection/1")
    pages.leak("/session")
    return pages


def codes(pages: Leaky, query: str) -> list[str]:
    return [each["code"] for each in pages.json(f"/api/v1/findings?{query}")["findings"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort=first_seen", ["SW101", "SW201"]),
        ("sort=-first_seen", ["SW201", "SW101"]),
        ("sort=-code&limit=1", ["SW201"]),
        ("limit=1&offset=1", ["SW201"]),
        ("limit=0", []),
        ("code=SW101&code=SW201", ["SW101", "SW201"]),
        ("q=leak_session", ["SW201"]),
        ("q=%20", ["SW101", "SW201"]),
        ("known=false", ["SW101", "SW201"]),
        ("known=true", []),
        ("engine=nowhere", []),
        (f"limit={MOST}", ["SW101", "SW201"]),
    ],
)
def test_query(found: Leaky, query: str, expected: list[str]) -> None:
    """A query filters, searches, sorts and pages."""
    assert codes(found, query) == expected


def test_facet_leads_to_its_findings(found: Leaky) -> None:
    """Whatever a facet names can be asked for, and finds as many as it says."""
    facets = found.json("/api/v1/findings")["facets"]
    for name, values in facets.items():
        for each in values:
            answer = found.http.get(
                f"{found.prefix}/api/v1/findings",
                query_string={name: each["value"]},
                headers={"Authorization": found.get("/").request.headers["Authorization"]},
            )
            assert answer.get_json()["total"] == each["count"], name


def test_brief(found: Leaky) -> None:
    """In brief a finding is without hint, details and stack."""
    (whole, _), (brief, _) = (
        found.json(f"/api/v1/findings?brief={each}")["findings"] for each in ("false", "true")
    )
    assert whole.keys() - brief.keys() == {"hint", "details", "stack"}
    assert brief.items() <= whole.items()


def test_recent(found: Leaky) -> None:
    """A finding tells in which minutes of the last hour it was seen."""
    found.close()
    found.leak("/session")
    for each in found.json("/api/v1/findings")["findings"]:
        assert sum(each["recent"]) == each["count"]
        assert len(each["recent"]) == 60


@pytest.mark.parametrize(
    "query",
    [
        *(
            "sort=colour",
            "sort=",
            "sort=--count",
            "limit=-1",
            "limit=ten",
            "limit=",
            "limit=1e3",
            "offset=+1",
        ),
        *("limit=%D9%A1", "limit=99999999999999999999", "brief=yes", "brief="),
    ],
)
def test_no_such_thing(found: Leaky, query: str) -> None:
    """What cannot be is refused, and not taken for something else."""
    answer = found.get(f"/api/v1/findings?{query}")
    assert (answer.status_code, answer.get_json()) == (400, {"error": "Bad Request"})
