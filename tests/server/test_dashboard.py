"""The dashboard and the alarms of docker/monitoring ask for metrics and labels that a server tells, in PromQL."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

MONITORING = Path(__file__).parents[2] / "docker" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "headwater.json").read_text())
RULES = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"][0]["rules"]
GIVEN_BY_PROMETHEUS = {"job", "instance"}
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*"}


def expressions():
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    found = [*panels, *(rule["expr"] for rule in RULES)]
    for variable, value in VARIABLES.items():
        found = [expression.replace(variable, value) for expression in found]
    return found


def selectors(expression):
    """(metric, labels that it is chosen or grouped by) of every selector below an expression."""
    parsed = promql_parser.parse(expression)  # raises on what is no PromQL
    text = str(parsed)
    grouped = {label for group in re.findall(r"by \(([^)]*)\)", text) for label in group.split(", ")} - {""}
    return [
        (name, grouped | set(re.findall(r"(\w+)(?:=~|!=|!~|=)\"", chosen)))
        for name, chosen in re.findall(r"([a-z_][a-z0-9_]*)\{([^}]*)\}", text)
    ]


@pytest.fixture
def told(twin, live):
    """Name of each metric that /metrics tells, with its labels, after questions that were and were not answered."""
    server = live(twin())
    server.ask("some words")
    server.ask("some words", index="none")
    found = {}
    for family in text_string_to_metric_families(server.client.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_and_label_is_told(told):
    asked = [selector for expression in expressions() for selector in selectors(expression)]
    assert len(asked) > 15
    for name, labels in asked:
        if name != "up":  # Prometheus's own
            assert name in told, name
            assert labels <= told[name] | GIVEN_BY_PROMETHEUS, (name, labels)


def test_a_metric_that_is_not_told_would_be_found(told):
    ((name, labels),) = selectors("sum by (le) (rate(headwater_made_up_bucket{reason='x'}[1m]))")
    assert name not in told
    assert labels == {"le", "reason"}


def test_every_panel_says_what_it_shows_and_lies_beside_the_others():
    taken = set()
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert all(0 <= x < 24 for x, _ in cells)
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_panels_ask_the_source_that_is_provisioned():
    provisioning = MONITORING / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
