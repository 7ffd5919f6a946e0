"""A cluster's life over HTTP, with a worker and ticks between the requests."""

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import OTHER_PROJECT, PROJECT, TEMPLATE_ID

ORIGINAL = {
    "id",
    "name",
    "status",
    "node_count",
    "master_count",
    "created_at",
    "labels",
    "updated_at",
    "api_address",
    "coe_version",
}


def _made(world: World, member: Caller, name: str = "training", **changes: Any) -> dict[str, Any]:
    accepted: dict[str, Any] = member("POST", "/clusters", a_body(name, **changes)).get_json()
    world.finish(accepted["job_id"], PROJECT)
    return accepted


def test_a_create_is_promised_at_once(world: World, member: Caller) -> None:
    response = member("POST", "/clusters", a_body(), headers={"X-Openstack-Request-Id": "req-of-the-caller"})
    body = response.get_json()
    assert response.status_code == 202
    assert body.keys() >= ORIGINAL
    assert response.headers["Location"] == f"/clusters/{body['id']}"
    assert response.headers["Operation-Location"] == f"/jobs/{body['job_id']}"
    assert 1 <= int(response.headers["Retry-After"]) <= 30
    assert (body["status"], body["phase"], body["node_count"]) == ("CREATE_REQUESTED", "Pending", 4)
    assert (body["cluster_template_id"], body["magnum_uuid"]) == (TEMPLATE_ID, None)
    assert (body["job"]["id"], body["job"]["kind"], body["job"]["state"]) == (body["job_id"], "create", "queued")
    assert body["job"]["request_id"] == "req-of-the-caller"
    assert body["created_at"].endswith("Z")
    assert datetime.fromisoformat(body["created_at"]).tzinfo is not None
    assert world.counts() == (1, 1, 0)
    assert world.cloud.made == [] or world.cloud.clusters == {}  # no cloud was asked for anything yet


def test_the_whole_life(world: World, member: Caller) -> None:
    made = _made(world, member)
    path = f"/clusters/{made['id']}"
    cluster = member("GET", path).get_json()
    assert cluster.keys() >= ORIGINAL
    assert (cluster["status"], cluster["phase"], cluster["observed_node_count"]) == ("CREATE_COMPLETE", "Ready", 4)
    assert cluster["job"]["state"] == "succeeded"
    assert member("GET", f"/clusters/{cluster['magnum_uuid']}").get_json()["id"] == made["id"]

    response = member("PUT", f"{path}/scale", {"node_count": 6})
    scaled = response.get_json()
    assert response.status_code == 202
    assert scaled.keys() >= {"message", "cluster_id", "target_node_count", "timestamp", "job", "job_id", "cluster"}
    assert (scaled["cluster_id"], scaled["target_node_count"], scaled["cluster"]["phase"]) == (made["id"], 6, "Updating")
    assert response.headers["Operation-Location"] == f"/jobs/{scaled['job_id']}"
    world.finish(scaled["job_id"], PROJECT)
    status = member("GET", f"{path}/status").get_json()
    assert (status["phase"], status["node_count"], status["desired_node_count"]) == ("Ready", 6, 6)

    response = member("DELETE", path)
    deleted = response.get_json()
    assert response.status_code == 202
    assert deleted.keys() >= {"message", "cluster_id", "timestamp", "job", "job_id"}
    again = member("DELETE", path)
    assert again.get_json()["job_id"] == deleted["job_id"]
    world.finish(deleted["job_id"], PROJECT)
    problem(member("GET", path), 404, "CLUSTER_NOT_FOUND")
    assert member("GET", "/clusters").get_json() == []
    assert [job["kind"] for job in member("GET", "/jobs").get_json()] == ["delete", "resize", "create"]


def test_status_says_what_is_waited_for(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    status = member("GET", f"/clusters/{made['id']}/status").get_json()
    assert (status["phase"], status["reason"], status["node_count"]) == ("Pending", "WAITING_FOR_WORKER", None)
    assert status["job"]["id"] == made["job_id"]
    world.run(made["job_id"])
    assert member("GET", f"/clusters/{made['id']}/status").get_json()["reason"] == "WAITING_FOR_MAGNUM"


def test_metrics_and_costs_keep_the_original_keys(world: World, member: Caller) -> None:
    made = _made(world, member)
    world.container.metering.sample(every_s=1.0)
    world.container.metering.roll()
    metrics = member("GET", f"/clusters/{made['id']}/metrics?step=60").get_json()
    assert metrics.keys() == {"cluster_id", "metrics", "timestamp"}
    assert (metrics["cluster_id"], metrics["metrics"]["step_seconds"]) == (made["id"], 60)
    [point] = member("GET", f"/clusters/{made['id']}/metrics?fields=node_count,energy_kwh").get_json()["metrics"]["points"]
    assert point.keys() == {"time", "node_count", "energy_kwh"}
    costs = member("GET", f"/clusters/{made['id']}/costs").get_json()
    assert costs.keys() == {"cluster_id", "costs", "timestamp"}
    assert costs["costs"]["items"]
    assert float(costs["costs"]["total_cost"]) > 0


def test_a_figure_that_is_not_there_is_named_with_those_that_are(world: World, member: Caller) -> None:
    made = _made(world, member)
    found = problem(member("GET", f"/clusters/{made['id']}/metrics?fields=node_count,watts,&step=0"), 422)
    errors = {error["field"]: error["detail"] for error in found["errors"]}
    assert errors.keys() == {"fields", "step"}
    assert "no field 'watts', ''; there are status, health_status, node_count" in errors["fields"]


def test_a_projects_use_by_day(world: World, member: Caller) -> None:
    _made(world, member)
    _made(world, member, "serving")
    assert world.container.metering.sample(every_s=1e-6) == 2
    found = problemless(member("GET", "/usage"))
    [day] = found["days"]
    assert (day["project_id"], day["clusters"], day["samples"]) == (found["project_id"], 2, 2)
    assert day["power_watts_max"] > 0
    assert problemless(world.caller("reader", OTHER_PROJECT)("GET", "/usage"))["days"] == []
    long = problem(member("GET", "/usage?start=2001-01-01T00:00:00Z"), 422)
    assert long["errors"][0]["field"] == "start"


def test_a_window_with_an_offset(world: World, member: Caller) -> None:
    made = _made(world, member)
    window = "start=2026-01-01T09:00:00%2B09:00&end=2026-01-02T00:00:00Z"
    costs = member("GET", f"/clusters/{made['id']}/costs?{window}").get_json()["costs"]
    assert (costs["start"], costs["end"]) == ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")


def _work_later(world: World, job_of: Callable[[], str]) -> threading.Thread:
    def work() -> None:
        time.sleep(0.2)
        world.finish(job_of(), PROJECT)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _newest_job(member: Caller) -> str:
    found: str = member("GET", "/jobs?limit=1").get_json()[0]["id"]
    return found


def test_a_preference_to_wait_sees_the_job_through(world: World, member: Caller) -> None:
    worker = _work_later(world, lambda: _newest_job(world.caller("member", PROJECT)))
    response = member("POST", "/clusters", a_body(), headers={"Prefer": "respond-async, wait=20"})
    worker.join()
    body = response.get_json()
    assert (response.status_code, response.headers["Preference-Applied"]) == (201, "wait=20")
    assert "Retry-After" not in response.headers
    assert (body["phase"], body["job"]["state"]) == ("Ready", "succeeded")

    path = f"/clusters/{body['id']}"
    worker = _work_later(world, lambda: _newest_job(world.caller("member", PROJECT)))
    response = member("PUT", f"{path}/scale", {"node_count": 2}, headers={"Prefer": 'wait="20"'})
    worker.join()
    assert (response.status_code, response.get_json()["cluster"]["observed_node_count"]) == (200, 2)

    worker = _work_later(world, lambda: _newest_job(world.caller("member", PROJECT)))
    response = member("DELETE", path, headers={"Prefer": "wait=20"})
    worker.join()
    assert (response.status_code, response.get_json()["job"]["state"]) == (200, "succeeded")


def test_a_job_that_fails_within_the_wait_is_a_202_that_says_so(world: World, member: Caller) -> None:
    world.cloud.quotas[PROJECT] = 0
    worker = _work_later(world, lambda: _newest_job(world.caller("member", PROJECT)))
    response = member("POST", "/clusters", a_body(), headers={"Prefer": "wait=20"})
    worker.join()
    world.cloud.quotas.clear()
    job = response.get_json()["job"]
    assert (response.status_code, response.headers["Preference-Applied"]) == (202, "wait=20")
    assert (job["state"], job["error"]["reason"]) == ("failed", "QUOTA_EXCEEDED")
    assert "Retry-After" not in response.headers


def test_a_wait_that_ends_before_the_job_is_a_202(member: Caller) -> None:
    response = member("POST", "/clusters", a_body(), headers={"Prefer": "wait=1"})
    assert (response.status_code, response.headers["Preference-Applied"]) == (202, "wait=1")
    assert response.get_json()["job"]["state"] == "queued"
    assert "Retry-After" in response.headers


@pytest.mark.parametrize("preference", ["wait=0", "wait=soon", "waiting=5", "handling=strict", "wait=-3"])
def test_a_preference_that_asks_for_no_wait_is_ignored(member: Caller, preference: str) -> None:
    response = member("POST", "/clusters", a_body(), headers={"Prefer": preference})
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers


def test_where_too_many_wait_the_preference_is_not_honoured(world: World, member: Caller) -> None:
    kit_waits = world.container.settings.api.threads // 2
    waiting = [
        threading.Thread(
            target=world.caller("member", PROJECT),
            args=("POST", "/clusters", a_body(f"waiter-{n}")),
            kwargs={"headers": {"Prefer": "wait=3"}},
        )
        for n in range(kit_waits)
    ]
    for thread in waiting:
        thread.start()
    time.sleep(0.8)
    began = time.monotonic()
    response = member("POST", "/clusters", a_body(), headers={"Prefer": "wait=3"})
    assert time.monotonic() - began < 1.5
    assert response.status_code == 202
    assert "Preference-Applied" not in response.headers
    for thread in waiting:
        thread.join()


def test_what_the_state_does_not_allow_is_a_conflict(world: World, member: Caller) -> None:
    made = _made(world, member)
    member("DELETE", f"/clusters/{made['id']}")
    found = problem(member("PUT", f"/clusters/{made['id']}/scale", {"node_count": 2}), 409, "CLUSTER_DELETING")
    assert found["type"] == "/problems/conflict"


# -- lists ---------------------------------------------------------------------------------------------------------------


def test_pages_give_every_cluster_once_and_in_order(member: Caller) -> None:
    names = [f"c{n}" for n in range(7)]
    for name in names:
        member("POST", "/clusters", a_body(name))
    seen: list[str] = []
    url: str | None = "/clusters?limit=3&status=Pending&workload_type=training&managed=true"
    pages = 0
    while url:
        response = member("GET", url)
        seen += [cluster["name"] for cluster in response.get_json()]
        link = response.headers.get("Link")
        url = link.removeprefix("<").partition(">")[0] if link else None
        assert link is None or link.endswith('>; rel="next"')
        pages += 1
    assert (seen, pages) == (names, 3)


def test_a_page_that_ends_with_the_last_one_has_no_next(member: Caller) -> None:
    for n in range(4):
        member("POST", "/clusters", a_body(f"c{n}"))
    assert "Link" in member("GET", "/clusters?limit=3").headers
    assert "Link" not in member("GET", "/clusters?limit=4").headers
    assert "Link" not in member("GET", "/clusters").headers


def test_filters(world: World, member: Caller) -> None:
    made = _made(world, member, "ready")
    member("POST", "/clusters", a_body("pending", labels={"workload_type": "inference"}))

    def names(query: str) -> list[str]:
        return [cluster["name"] for cluster in member("GET", f"/clusters?{query}").get_json()]

    assert names("status=Ready") == names("status=ready") == names("status=CREATE_COMPLETE") == ["ready"]
    assert names("status=CREATE_REQUESTED") == names("status=Pending") == ["pending"]
    assert names("workload_type=inference") == ["pending"]
    assert names("managed=true") == ["ready", "pending"]
    assert names("managed=false") == []
    assert [cluster["job"]["id"] for cluster in member("GET", "/clusters?status=Ready").get_json()] == [made["job_id"]]
