"""Scale policies, from the request to the jobs that they begin."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.api.harness import Caller, World, problem, problemless
from tests.api.test_match import NOW, a_cluster
from tests.builders import OTHER_PROJECT, PROJECT

POLICY = {"enabled": True, "trust_placements": True, "cool_down_seconds": 0, "max_nodes": 6}
GPU = {"cpu_cores": 1, "memory_gb": 1, "accelerator": {"count": 4}, "place": True}


@pytest.fixture
def cluster(world: World, member: Caller) -> dict[str, Any]:
    return a_cluster(world, member, "training", node_count=2)


def due(world: World) -> int:
    """Beat's minute has passed."""
    with world.container.database.engine.begin() as connection:
        connection.execute(text("UPDATE scale_policies SET decided_at = NULL"))
    return world.container.scaling.apply(every_s=60.0)


def put(member: Caller, cluster: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = problemless(member("PUT", f"/clusters/{cluster['id']}/scale-policy", POLICY | changes))
    return found


def test_a_policy_is_given_shown_and_taken_away(member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/scale-policy"
    problem(member("GET", path), 404, "NO_SCALE_POLICY")
    problem(member("DELETE", path), 404, "NO_SCALE_POLICY")
    window = {"days": ["sat", "sun"], "start": "00:00", "end": "23:59", "hibernate": True}
    made = put(member, cluster, schedule=[window], time_zone="Asia/Seoul")
    assert made["schedule"] == [window | {"min_nodes": 0, "max_nodes": None}]
    assert (made["target_utilization"], made["last_decision"]) == (0.7, None)
    assert problemless(member("GET", path)) == made
    assert member("DELETE", path).status_code == 204
    problem(member("GET", path), 404, "NO_SCALE_POLICY")


def test_it_explains_before_it_is_switched_on(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/scale-decision"
    plain = problemless(member("GET", path))
    assert (plain["action"], plain["enabled"]) == ("none", False)
    assert "not known" in plain["blocked"][0] or "changed" in plain["blocked"][0]
    put(member, cluster, enabled=False)
    found = problemless(member("GET", path))
    assert (found["action"], found["targets"], found["target_nodes"]) == ("scale_in", {"default-worker": 0}, 0)
    assert due(world) == 0
    assert len(member("GET", f"/jobs?cluster_id={cluster['id']}").get_json()) == 1


def test_beat_grows_a_full_cluster_and_shrinks_an_empty_one(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    put(member, cluster)
    held = [problemless(member("POST", "/match/workload", GPU, headers=NOW))["placements"][0]["id"] for _ in range(2)]
    assert due(world) == 1
    shown = problemless(member("GET", f"/clusters/{cluster['id']}/scale-policy"))["last_decision"]
    assert (shown["action"], shown["targets"]) == ("scale_out", {"default-worker": 3})
    job = world.complete(shown["job_ids"][0], PROJECT)
    assert (job["state"], job["kind"], job["requested_by"]) == ("succeeded", "resize", "policy:scale")
    assert due(world) == 0  # two of three: within the policy
    for one in held:
        member("DELETE", f"/placements/{one}")
    put(member, cluster, min_nodes=1)
    assert due(world) == 1
    shown = problemless(member("GET", f"/clusters/{cluster['id']}/scale-policy"))["last_decision"]
    assert (shown["action"], shown["targets"]) == ("scale_in", {"default-worker": 1})
    assert world.complete(shown["job_ids"][0], PROJECT)["state"] == "succeeded"
    assert member("GET", f"/clusters/{cluster['id']}").get_json()["node_count"] == 1


def test_two_beats_decide_once(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    put(member, cluster)
    with world.container.database.engine.begin() as connection:
        connection.execute(text("UPDATE scale_policies SET decided_at = NULL"))
    assert [world.container.scaling.apply(every_s=60.0) for _ in range(2)] == [1, 0]
    assert due(world) == 0  # its job is under way


def test_nights_are_slept_through(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    put(member, cluster, schedule=[{"days": days, "start": "00:00", "end": "23:59", "hibernate": True}])
    assert due(world) == 1
    shown = problemless(member("GET", f"/clusters/{cluster['id']}/scale-policy"))["last_decision"]
    assert shown["action"] == "hibernate"
    assert world.complete(shown["job_ids"][0], PROJECT)["state"] == "succeeded"
    assert due(world) == 0
    put(member, cluster, schedule=[])
    assert due(world) == 1
    shown = problemless(member("GET", f"/clusters/{cluster['id']}/scale-policy"))["last_decision"]
    assert shown["action"] == "wake"
    assert world.complete(shown["job_ids"][0], PROJECT)["state"] == "succeeded"
    by_hand = problemless(member("POST", f"/clusters/{cluster['id']}/hibernate"))
    assert world.complete(by_hand["job_id"], PROJECT)["state"] == "succeeded"
    assert due(world) == 0  # who sent it to sleep may wake it


def test_another_project_has_no_say(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    put(member, cluster)
    stranger = world.caller("admin", OTHER_PROJECT)
    for method in ("GET", "DELETE"):
        problem(stranger(method, f"/clusters/{cluster['id']}/scale-policy"), 404, "CLUSTER_NOT_FOUND")
    problem(stranger("PUT", f"/clusters/{cluster['id']}/scale-policy", POLICY), 404, "CLUSTER_NOT_FOUND")


@pytest.mark.parametrize(
    "change,field",
    [
        ({"min_nodes": -1}, "min_nodes"),
        ({"scale_out_above": 2}, "scale_out_above"),
        ({"cool_down_seconds": "60"}, "cool_down_seconds"),
        ({"schedule": [{"days": ["someday"], "start": "08:00", "end": "09:00"}]}, "schedule.0.days"),
        ({"schedule": [{"days": ["mon"], "start": "8:00", "end": "25:00"}]}, "schedule.0.end"),
        ({"schedule": [{"days": [], "start": "08:00", "end": "09:00"}]}, "schedule.0.days"),
        ({"schedule": ["night"]}, "schedule.0"),
        ({"colour": "blue"}, "colour"),
        ({"min_nodes": 7}, "min_nodes"),
    ],
)
def test_what_is_wrong_is_named(member: Caller, cluster: dict[str, Any], change: dict[str, Any], field: str) -> None:
    answer = problem(member("PUT", f"/clusters/{cluster['id']}/scale-policy", POLICY | change), 422)
    assert field in {one["field"] for one in answer["errors"]}
    problem(member("GET", f"/clusters/{cluster['id']}/scale-policy"), 404, "NO_SCALE_POLICY")
