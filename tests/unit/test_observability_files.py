"""Dashboard and alert rules ask for what the code measures, and for nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from common.telemetry import metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
SERIES_OF: dict[type, tuple[str, ...]] = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_count", "_sum")}
OF_PROMETHEUS = {"le", "service", "instance", "job"}


def series() -> dict[str, set[str]]:
    """Every series that the code exports, with its labels."""
    declared: list[Any] = [each for each in vars(metrics).values() if isinstance(each, Counter | Gauge | Histogram)]
    return {
        metric.describe()[0].name + suffix: set(metric._labelnames)
        for metric in declared
        for suffix in SERIES_OF[type(metric)]
    }


def dashboard() -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana/dashboards/headrace.json").read_text(encoding="utf-8"))


def of_yaml(file: str) -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / file).read_text(encoding="utf-8"))


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for group in of_yaml("prometheus/alerts.yml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_what_is_asked_for_is_measured_with_those_labels(expression: str) -> None:
    known = series()
    asked = set(re.findall(r"headrace_\w+", expression))
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}
    matched = set(re.findall(r"(\w+)=~?\"", expression))

    assert asked <= known.keys()
    assert grouped | matched <= OF_PROMETHEUS.union(*(known[name] for name in asked))


def test_every_alert_is_tested_and_says_what_is_wrong() -> None:
    rules = of_yaml("prometheus/alerts.yml")["groups"][0]["rules"]
    fired = {
        case["alertname"]
        for test in of_yaml("prometheus/alerts_test.yml")["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }

    assert fired == {rule["alert"] for rule in rules}
    assert all(rule["annotations"]["summary"] for rule in rules)


def test_the_dashboard_uses_a_provisioned_data_source_and_shows_each_panel_once() -> None:
    sources = {source["uid"] for source in of_yaml("grafana/provisioning/datasources/headrace.yml")["datasources"]}
    panels = dashboard()["panels"]

    assert {panel["datasource"]["uid"] for panel in panels} <= sources
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_prometheus_asks_every_process_that_has_metrics() -> None:
    (job,) = of_yaml("prometheus/prometheus.yml")["scrape_configs"]

    assert set(job["dns_sd_configs"][0]["names"]) == {"gateway", "orders", "workers"}
