"""What Prometheus is told, the rules over it, and log lines that lead from a request to its job."""

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import yaml
from sqlalchemy import text
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from api.app import create_app
from deployment.local.ports import free_port
from shared.bootstrap import build
from shared.observability.metrics import COLLECTIONS_FAILED, serve
from shared.settings import MetricsSettings, PlacementSettings
from tests.api.harness import Caller, World, a_body, problemless
from tests.builders import PROJECT, some_settings
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deployment" / "prometheus" / "alerts.yml"
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
_NAME = re.compile(r"\bkcloud_[a-z_]+")


@pytest.fixture(autouse=True)
def _told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.services.health._FIGURES_TTL_S", 0.0)


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
        # The file with the token is the operator's.
        ["check", "config", "--syntax-only", str(RULES.with_name("prometheus.yml"))],
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
    assert value(page, "kcloud_watts") == pytest.approx(watts)


def put_sample(world: World, project: str, watts: float, source: str) -> None:
    with world.container.database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO cluster_metrics (time, cluster_id, project_id, cluster_name, power_consumption_watts, cost_per_hour, source)"
                " VALUES (date_trunc('minute', now()), gen_random_uuid(), :project, 'c', :watts, 1, :source)"
            ),
            {"project": project, "watts": watts, "source": source},
        )


def test_what_is_told_is_a_second_old_at_most(world: World, reader: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.services.health._FIGURES_TTL_S", 0.3)
    assert value(scraped(reader), "kcloud_watts") == 0
    put_sample(world, "p", 300.0, "measured")
    assert value(scraped(reader), "kcloud_watts") == 0
    wait_until(lambda: value(scraped(reader), "kcloud_watts") == 300, 5, what="the present watts")


def test_what_the_site_draws_counts_every_project(world: World, reader: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.db.gauges._MOST_PROJECTS", 1)
    for project, watts, source in (("p", 300.0, "measured"), ("q", 200.0, "mixed"), ("r", 100.0, "modelled")):
        put_sample(world, project, watts, source)
    page = scraped(reader)
    assert [line for line in page.splitlines() if line.startswith("kcloud_project_watts{")] == [
        'kcloud_project_watts{project_id="p"} 300.0'
    ]
    assert (value(page, "kcloud_watts"), value(page, "kcloud_measured_watts")) == (600, 500)


def test_beats_tasks_and_the_projects_that_wait_are_told(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/clusters", a_body()))
    world.container.upkeep.note_task("sample_metrics")
    world.container.upkeep.note_task("sample_metrics")
    with world.container.database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO series_state (name, done_until) VALUES ('cleanup:none', now() - interval '9 hours'),"
                " ('budgets:' || CAST(:project AS text), now() - interval '9 hours'),"
                " ('cleanup:' || CAST(:project AS text), now() - interval '2 hours'), ('task:gone', now() - interval '2 days')"
            ),
            {"project": PROJECT},
        )
    page = scraped(member)
    assert value(page, 'kcloud_periodic_age_seconds{task="sample_metrics"}') < 60
    assert value(page, 'kcloud_periodic_age_seconds{task="gone"}') > 86_400
    # A project without clusters or budgets delays nobody.
    assert value(page, 'kcloud_turn_age_seconds{task="cleanup"}') == pytest.approx(7200, abs=60)
    assert 'kcloud_turn_age_seconds{task="budgets"}' not in page
    assert value(page, "kcloud_unsent_age_seconds") < 60
    with world.container.database.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET due_at = now() - interval '5 minutes' WHERE id = :id"), {"id": made["job_id"]})
    world.container.upkeep.retain()
    page = scraped(member)
    assert value(page, "kcloud_unsent_age_seconds") == pytest.approx(300, abs=60)
    assert 'kcloud_periodic_age_seconds{task="gone"}' not in page
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"


def test_sources_of_two_regions_are_told_apart_and_those_that_nobody_names_any_more_are_not(world: World, reader: Caller) -> None:
    at = datetime.now(UTC)
    for region in ("here", some_settings("").cloud.region):
        with world.container.database.begin() as uow:
            told = {"name": "central", "answered": True, "samples": 3, "failures": [], "findings": []}
            uow.telemetry.note_sources(region, at, [told])
    page = scraped(reader)
    assert value(page, 'kcloud_meter_samples{region="here",source="central"}') == 3
    assert page.count("kcloud_meter_up{") == 2
    assert world.container.collection.collect(every_s=30.0) == 0  # no source is named here
    page = scraped(reader)
    assert page.count("kcloud_meter_up{") == 1
    with world.container.database.begin() as uow:
        uow.telemetry.note_sources("here", at, [])


@pytest.mark.parametrize("recorded, slow", [(10, 1), (9, 0)])
def test_jobs_that_take_longer_than_usual_are_counted(world: World, member: Caller, recorded: int, slow: int) -> None:
    made = problemless(member("POST", "/clusters", a_body()))
    world.run(made["job_id"])
    with world.container.database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO durations (region, kind, template_id, seconds, finished_at) SELECT j.region, j.kind, c.template_id, n, now()"
                " FROM jobs j JOIN clusters c ON c.id = j.cluster_id, generate_series(1, :many) n WHERE j.id = :id"
            ),
            {"id": made["job_id"], "many": recorded},
        )
        connection.execute(
            text("UPDATE jobs SET submitted_at = now() - interval '10 seconds' WHERE id = :id AND state = 'converging'"),
            {"id": made["job_id"]},
        )
    assert value(scraped(member), "kcloud_jobs_slow") == slow


def test_prometheus_asks_with_a_token_of_its_own(world: World) -> None:
    settings = replace(world.container.settings, metrics=MetricsSettings(token="a-token-for-prometheus"))
    made = build(settings, cloud=lambda _credentials: world.cloud)
    client = create_app(made, validate=world.tokens).test_client()
    try:
        assert client.get("/metrics", headers={"Authorization": "Bearer a-token-for-prometheus"}).status_code == 200
        for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": "a-token-for-prometheus"}):
            refused = client.get("/metrics", headers=headers)
            assert refused.status_code == 401, headers
            assert "kcloud_" not in refused.get_data(as_text=True)
        # It opens nothing else.
        other = client.get("/clusters", headers={"Authorization": "Bearer a-token-for-prometheus"})
        assert other.status_code == 401
    finally:
        made.database.engine.dispose()


def test_a_worker_tells_what_it_counts_where_it_is_asked_to() -> None:
    port = free_port()
    COLLECTIONS_FAILED.labels("a source", "TIMEOUT").inc()
    serve("127.0.0.1", port)
    page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
    assert value(page, 'kcloud_collections_failed_total{reason="TIMEOUT",source="a source"}') >= 1
    with pytest.raises(OSError, match="in use"):
        serve("127.0.0.1", port)


def test_the_sites_budget_stands_beside_what_is_drawn(world: World) -> None:
    settings = replace(world.container.settings, placement=PlacementSettings(site_power_w=5000.0))
    made = build(settings, cloud=lambda _credentials: world.cloud)
    assert value(made.health.metrics().decode(), 'kcloud_power_budget_watts{scope="site"}') == 5000
    made.database.engine.dispose()


def test_log_lines_of_a_job_lead_back_to_its_request(world: World, member: Caller) -> None:
    with capture_logs(processors=[merge_contextvars]) as lines:
        answer = member("POST", "/clusters", a_body())
        member("GET", "/clusters")
        member("POST", "/clusters", {})
    made, request_id = answer.get_json(), answer.headers["x-openstack-request-id"]
    done, refused = [line for line in lines if line["event"] == "request.done"]
    assert (done["job_id"], done["cluster_id"], done["request_id"]) == (made["job_id"], made["id"], request_id)
    assert (done["method"], done["path"], done["status"], done["project_id"]) == ("POST", "/clusters", "202", PROJECT)
    assert (refused["status"], "job_id" in refused, "cluster_id" in refused) == ("422", False, False)
    with capture_logs(processors=[merge_contextvars]) as lines:
        world.run(made["job_id"])
    [line] = [line for line in lines if line["event"] == "job.claimed"]
    assert (line["job_id"], line["cluster_id"], line["request_id"]) == (made["job_id"], made["id"], request_id)
    with capture_logs(processors=[merge_contextvars]) as later:
        world.container.metering.roll()
    assert not any("job_id" in line for line in later)
