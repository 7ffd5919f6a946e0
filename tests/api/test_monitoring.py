"""What Prometheus is told, the rules over it, and log lines that lead from a request to its job."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from shared.bootstrap import build
from shared.settings import PlacementSettings
from tests.api.harness import Caller, World, a_body, problemless
from tests.builders import PROJECT

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deployment" / "prometheus" / "alerts.yml"
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
_NAME = re.compile(r"\bkcloud_[a-z_]+")


def scraped(caller: Caller) -> str:
    response = caller("GET", "/metrics")
    assert response.status_code == 200
    return response.get_data(as_text=True)


def families(page: str) -> set[str]:
    """Names of metrics, without what histograms and counters add to them."""
    named = (line.split(" ")[2] for line in page.splitlines() if line.startswith("# HELP kcloud_"))
    return {re.sub(r"_(total|created)$", "", name) for name in named}


def value(page: str, series: str) -> float:
    [line] = [line for line in page.splitlines() if line.startswith(f"{series} ")]
    return float(line.rpartition(" ")[2])


def alerts() -> list[dict[str, str]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_metric_of_a_rule_is_told(reader: Caller) -> None:
    told = families(scraped(reader))
    for rule in alerts():
        for name in _NAME.findall(rule["expr"]):
            assert {name, re.sub(r"_(bucket|count|sum|total)$", "", name)} & told, (rule["alert"], name)


def test_every_metric_and_every_alert_is_explained(reader: Caller) -> None:
    explained = {re.sub(r"_total$", "", name) for name in _NAME.findall(PAGE)}
    assert families(scraped(reader)) <= explained
    for rule in alerts():
        assert f"### {rule['alert']}\n" in PAGE


def promtool() -> str:
    found = shutil.which("promtool")
    if not found:
        pytest.skip("no promtool: install Debian's package `prometheus`")
    return found


@pytest.mark.parametrize(
    "words",
    [
        ["check", "rules", str(RULES)],
        ["test", "rules", "alerts_test.yml"],
        ["check", "config", str(RULES.with_name("prometheus.yml"))],
    ],
)
def test_rules_fire_where_they_should_and_nowhere_else(words: list[str]) -> None:
    done = subprocess.run(
        [promtool(), *words], cwd=ROOT / "tests" / "prometheus", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load((ROOT / "tests" / "prometheus" / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in cases for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in alerts()}


def test_what_projects_draw_and_cost_is_told(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/clusters", a_body(node_count=2)))
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    with world.container.database.engine.begin() as connection:
        connection.execute(text("DELETE FROM series_state"))
    assert world.container.metering.sample(every_s=30.0) == 1
    page = scraped(member)
    [point] = problemless(member("GET", f"/clusters/{made['id']}/metrics?step=60"))["metrics"]["points"]
    watts = value(page, f'kcloud_project_watts{{project_id="{PROJECT}"}}')
    assert watts == pytest.approx(point["power_consumption_watts"])
    assert watts > 0
    cost = value(page, f'kcloud_project_cost_per_hour{{project_id="{PROJECT}"}}')
    assert cost == pytest.approx(point["cost_per_hour"])
    assert value(page, "kcloud_measured_watts") == 0
    assert value(page, 'kcloud_periodic_age_seconds{task="cluster_metrics"}') < 60


def test_the_sites_budget_stands_beside_what_is_drawn(world: World) -> None:
    settings = replace(world.container.settings, placement=PlacementSettings(site_power_w=5000.0))
    made = build(settings, cloud=lambda _credentials: world.cloud)
    assert value(made.health.metrics().decode(), 'kcloud_power_budget_watts{scope="site"}') == 5000
    made.database.engine.dispose()


def test_log_lines_of_a_job_lead_back_to_its_request(world: World, member: Caller) -> None:
    answer = member("POST", "/clusters", a_body())
    made, request_id = answer.get_json(), answer.headers["x-openstack-request-id"]
    with capture_logs(processors=[merge_contextvars]) as lines:
        world.run(made["job_id"])
    [line] = [line for line in lines if line["event"] == "job.claimed"]
    assert (line["job_id"], line["cluster_id"], line["request_id"]) == (made["job_id"], made["id"], request_id)
    with capture_logs(processors=[merge_contextvars]) as later:
        world.container.metering.roll()
    assert not any("job_id" in line for line in later)
