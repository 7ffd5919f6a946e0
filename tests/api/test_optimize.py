"""Plans over all clusters, from the request to the steps with their reasons. Nothing is ever done."""

from typing import Any

import pytest

from tests.api.harness import Caller, World, problem, problemless
from tests.api.test_match import NOW, a_cluster
from tests.builders import OTHER_PROJECT, PROJECT

POD = {"cpu_cores": 1, "memory_gb": 1, "accelerator": {"count": 1}, "movable": True}


def plan(world: World, member: Caller, **body: Any) -> dict[str, Any]:
    promised = problemless(member("POST", "/optimize/clusters", {"max_seconds": 5, **body}))
    assert promised["job"]["kind"] == "optimize"
    job = world.complete(promised["job_id"], PROJECT)
    assert job["state"] == "succeeded", job
    result: dict[str, Any] = job["result"]
    return result


def hold(member: Caller, cluster: dict[str, Any], **changes: Any) -> dict[str, Any]:
    asked = POD | {"preferred_clusters": [cluster["id"]]} | changes
    found: dict[str, Any] = problemless(member("POST", "/placements", asked, headers=NOW))
    assert found["placements"][0]["cluster_id"] == cluster["id"]
    return found


@pytest.fixture
def two(world: World, member: Caller) -> list[dict[str, Any]]:
    """Two clusters of two nodes of four GPUs, a pod on each."""
    made = [a_cluster(world, member, name, node_count=2) for name in ("one", "two")]
    for cluster in made:
        hold(member, cluster)
    return made


def test_two_half_empty_clusters_become_one(world: World, member: Caller, two: list[dict[str, Any]]) -> None:
    before = len(problemless(member("GET", "/jobs")))
    found = plan(world, member, new_clusters=False)
    actions = [step["action"] for step in found["steps"]]
    assert sorted(actions) == ["delete", "move", "shrink"]
    assert actions.index("move") < actions.index("delete"), "room is made first, and taken away last"
    gone = next(step for step in found["steps"] if step["action"] == "delete")
    move = next(step for step in found["steps"] if step["action"] == "move")
    assert move["source"]["cluster"] == gone["cluster_id"] != move["target"]["cluster"]
    assert [one["cluster_id"] for one in found["kept"]] == [move["target"]["cluster"]]
    assert found["objective"]["optimal"]
    assert found["objective"]["bound"] <= found["objective"]["after"] < found["objective"]["before"]
    assert found["cost_per_hour"]["after"] < found["cost_per_hour"]["before"] / 2
    assert found["watts"]["after"] < found["watts"]["before"] / 2
    # Nothing was done: the clusters and what is held are as before, and the plan is the one job more.
    shown: Any = problemless(member("GET", "/clusters"))
    assert {one["name"]: one["node_count"] for one in shown} == {"one": 2, "two": 2}
    assert len(problemless(member("GET", "/jobs"))) == before + 1
    assert len(two) == 2


def test_a_cheaper_new_cluster_is_made_where_that_is_allowed(world: World, member: Caller, two: list[dict[str, Any]]) -> None:
    del two
    found = plan(world, member)
    made = next(step for step in found["steps"] if step["action"] == "create")
    assert (made["cluster_id"], made["name"]) == (None, "npu-optimized-template"), "any accelerator will do, and an NPU is cheaper"
    assert found["objective"]["after"] < plan(world, member, new_clusters=False)["objective"]["after"]


def test_same_question_same_plan(world: World, member: Caller, two: list[dict[str, Any]]) -> None:
    del two
    first, second = plan(world, member), plan(world, member)
    assert first == second


def test_what_may_not_move_keeps_its_cluster(world: World, member: Caller) -> None:
    clusters = [a_cluster(world, member, name, node_count=2) for name in ("one", "two")]
    for cluster in clusters:
        hold(member, cluster, movable=False)
    found = plan(world, member, new_clusters=False)
    assert {step["action"] for step in found["steps"]} == {"shrink"}
    reasons = {one["name"]: one["reason"] for one in found["kept"]}
    assert "may not move" in reasons["one"]
    assert "may not move" in reasons["two"]


def test_a_move_that_is_not_worth_it_is_not_made(world: World, member: Caller, two: list[dict[str, Any]]) -> None:
    del two
    assert plan(world, member, cost_per_move=100_000)["moves"] == 0


def test_a_cluster_that_is_changing_or_persistent_stays(world: World, member: Caller) -> None:
    a_cluster(world, member, "kept", node_count=1, labels={"persistent": "true"})
    changing = a_cluster(world, member, "changing", node_count=1)
    assert member("PUT", f"/clusters/{changing['id']}/scale", {"node_count": 3}).status_code == 202
    found = plan(world, member)
    assert not [step for step in found["steps"] if step["action"] == "delete"]
    reasons = {one["name"]: one["reason"] for one in found["kept"]}
    assert reasons["changing"] == "It is to stay as it is."
    assert reasons["kept"] == "It may not be deleted."


def test_a_project_without_clusters_has_an_empty_plan(world: World, member: Caller) -> None:
    found = plan(world, member)
    assert (found["steps"], found["moves"], found["objective"]["after"]) == ([], 0, 0.0)


def test_another_projects_clusters_are_not_in_it(world: World, member: Caller, two: list[dict[str, Any]]) -> None:
    del two, member
    other = world.caller("member", OTHER_PROJECT)
    promised = problemless(other("POST", "/optimize/clusters", {}))
    job = world.complete(promised["job_id"], OTHER_PROJECT)
    assert job["result"]["steps"] == []


def test_what_is_wrong_is_said_of_all_at_once_and_a_repeated_request_is_one_job(member: Caller) -> None:
    wrong = problem(
        member("POST", "/optimize/clusters", {"max_seconds": 99, "cost_per_move": -1, "lambda": 1}), 422, "INVALID_REQUEST"
    )
    assert {one["field"] for one in wrong["errors"]} == {"max_seconds", "cost_per_move", "lambda"}
    assert problemless(member("POST", "/optimize/clusters?validate_only=true", {}))["valid"] is True
    key = {"Idempotency-Key": "once"}
    first = problemless(member("POST", "/optimize/clusters", {}, headers=key))
    again = problemless(member("POST", "/optimize/clusters", {}, headers=key))
    assert first["job_id"] == again["job_id"]
    assert member("POST", "/optimize/clusters", {"max_seconds": 3}, headers=key).status_code == 422
