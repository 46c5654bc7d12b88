"""The leaky shop before real Prometheus and Alertmanager: what leaks is alerted, and what is mended resolves."""

import json
import re

import pytest

from tests.alerting.conftest import Scene
from tests.web.test_prometheus import ROOT
from tests.web.test_prometheus import wait_for

LEAK = "SessionwatchLeakedSessions"
DASHBOARD = json.loads((ROOT / "examples" / "grafana" / "sessionwatch.json").read_text())
TRACKING = "GET /orders/<reference>/tracking"
#: It begins with the first scope that has lost something, and this one reads.
LATE = {"sessionwatch_lost_writes_total"}


def queries() -> dict[str, str]:
    """Every query of the dashboard by the title of its panel, with the variables as a reader finds them."""
    chosen = {"$job": ".*", "$instance": ".*", "$__rate_interval": "10s"}
    found: dict[str, str] = {}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"]
            for name, value in chosen.items():
                expr = expr.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = expr
    return found


@pytest.fixture(scope="module")
def scraped(scene: Scene) -> Scene:
    """The scene after a few scrapes of a shop that is at work."""
    rate = "sum(rate(sessionwatch_scopes_total[10s])) > 0"
    wait_for(lambda: scene.shop.visit() and scene.prometheus.ask(rate))
    return scene


@pytest.mark.parametrize("name", queries())
def test_dashboard(scraped: Scene, name: str) -> None:
    """Every query of the dashboard for Grafana runs, asks for metrics that there are, and finds something."""
    query = queries()[name]
    asked = set(re.findall(r"sessionwatch_\w+", query))
    assert asked
    wait_for(lambda: scraped.shop.visit() and asked - LATE <= scraped.prometheus.names())
    assert asked & LATE or wait_for(lambda: scraped.shop.visit() and scraped.prometheus.ask(query))
    scraped.prometheus.ask(query)


def test_every_rule_can_be_evaluated(scraped: Scene) -> None:
    """Prometheus evaluates every rule without an error, and those that record find something."""
    assert scraped.prometheus.problems() == []
    recorded = "instance_engine:sessionwatch_connections_used:ratio"
    assert wait_for(lambda: scraped.prometheus.ask(recorded))


def test_leaked_sessions(scene: Scene) -> None:
    """Leaked sessions are alerted; when the shop is mended and started again, the alert resolves."""
    ask = scene.prometheus.ask
    wait_for(lambda: scene.shop.visit() and (LEAK, "firing") in scene.team.notified)
    assert ask(f'ALERTS{{alertname="{LEAK}", alertstate="firing"}}')
    scene.served.close()
    scene.shop.mend()
    with scene.shop.serve():
        wait_for(lambda: scene.shop.visit() and ask(f"sessionwatch_scopes_total{{scope='{TRACKING}'}} > 5"))
        wait_for(lambda: scene.shop.visit() and (LEAK, "resolved") in scene.team.notified)
        assert ask("sessionwatch_leaked_sessions == 0")
        assert not ask(f'ALERTS{{alertname="{LEAK}"}}')
