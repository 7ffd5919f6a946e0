"""What workloads would need: decisions over all clusters of a project, of which nothing is done."""

from typing import Any

import pytest

from tests.api.harness import Caller, World, problem, problemless
from tests.api.test_match import NOW, a_cluster
from tests.builders import OTHER_PROJECT, PROJECT

GPUS = {"name": "train", "cpu_cores": 1, "memory_gb": 1, "accelerator": {"count": 4}}
SMALL = {"name": "notebook", "cpu_cores": 1, "memory_gb": 1, "accelerator": {"count": 1}}


@pytest.fixture
def cluster(world: World, member: Caller) -> dict[str, Any]:
    """Two nodes of four GPUs."""
    return a_cluster(world, member, "training", node_count=2)


def analyze(caller: Caller, *workloads: dict[str, Any], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = problemless(caller("POST", "/scale-decisions", {"workloads": list(workloads), **more}))
    return found


def jobs(member: Caller) -> int:
    return len(problemless(member("GET", "/jobs")))


def test_what_fits_needs_nothing(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    before = jobs(member)
    answer = analyze(member, GPUS, GPUS)
    assert (answer["action"], answer["target_nodes"], answer["cluster_id"]) == ("none", None, None)
    assert [one["cluster"] for one in answer["workloads"]] == ["training", "training"]
    assert answer["reasons"][0] == "2 of 2 workloads have a place, beside what is held now."
    assert jobs(member) == before, "a look ahead is no job"


def test_workloads_share_the_nodes_that_the_first_of_them_brings(member: Caller, cluster: dict[str, Any]) -> None:
    answer = analyze(member, GPUS, GPUS, *[SMALL] * 4, cluster_id=cluster["id"])
    assert (answer["action"], answer["cluster_id"], answer["target_nodes"]) == ("scale_out", cluster["id"], 3)
    decision = answer["decisions"][0]
    assert decision["targets"] == {"default-worker": 3}
    assert decision["reasons"][0].startswith("notebook: ")
    again = analyze(member, GPUS, GPUS, *[SMALL] * 5, cluster_id=cluster["id"])
    assert again["target_nodes"] == 4


def test_what_is_held_already_counts(member: Caller, cluster: dict[str, Any]) -> None:
    for _ in range(2):
        problemless(member("POST", "/placements", GPUS, headers=NOW))
    answer = analyze(member, GPUS, cluster_id=cluster["id"])
    assert (answer["action"], answer["target_nodes"]) == ("scale_out", 3)


def test_without_a_cluster_one_is_to_be_made_once(member: Caller, world: World) -> None:
    del world
    answer = analyze(member, SMALL, SMALL, SMALL)
    assert (answer["action"], answer["cluster_id"]) == ("create", None)
    assert len(answer["decisions"]) == 1
    assert {one["cluster"] for one in answer["workloads"]} == {answer["decisions"][0]["name"] + "#1"}
    assert answer["target_nodes"] == 2, "two NPUs a node"


def test_a_hibernated_cluster_is_woken(member: Caller, world: World, cluster: dict[str, Any]) -> None:
    done = problemless(member("POST", f"/clusters/{cluster['id']}/hibernate"))
    assert world.complete(done["job_id"], PROJECT)["state"] == "succeeded"
    answer = analyze(member, GPUS, cluster_id=cluster["id"])
    assert (answer["action"], answer["target_nodes"]) == ("wake", 2)
    assert answer["workloads"][0]["cluster"] == "training"


def test_a_cluster_that_carries_nothing_could_be_smaller(member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/scale-policy"
    problemless(member("PUT", path, {"trust_placements": True, "cool_down_seconds": 0, "min_nodes": 1}))
    answer = analyze(member)
    assert (answer["action"], answer["cluster_id"], answer["target_nodes"]) == ("scale_in", cluster["id"], 1)
    # As soon as a workload lies there, it stays as it is.
    assert analyze(member, GPUS, cluster_id=cluster["id"])["action"] == "none"


def test_the_more_important_work_has_its_place_first(member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/scale"
    assert member("PUT", path, {"node_count": 2}).status_code == 202
    low = GPUS | {"name": "low", "priority": "low", "replicas": 2}
    answer = analyze(member, low, GPUS | {"name": "urgent", "priority": "critical"})
    assert [one["name"] for one in answer["workloads"]] == ["low", "urgent"], "answers are in the order asked"


def test_what_can_never_run_says_why(member: Caller, cluster: dict[str, Any]) -> None:
    answer = analyze(member, GPUS | {"name": "huge", "accelerator": {"count": 64}}, cluster_id=cluster["id"])
    assert answer["action"] == "none"
    assert answer["workloads"][0]["cluster"] is None
    assert "training" in answer["workloads"][0]["reasons"][0]
    assert "huge" in answer["reasons"][1]


def test_what_is_wrong_is_said_of_all_at_once(member: Caller, world: World, cluster: dict[str, Any]) -> None:
    works = [{}, {"cpu_cores": 1, "deadline": "2020-01-01T00:00:00Z"}]
    wrong = problem(member("POST", "/scale-decisions", {"workloads": works}), 422, "INVALID_REQUEST")
    assert {one["field"] for one in wrong["errors"]} == {"workloads.0.cpu_cores", "workloads.1.deadline"}
    wrong = problem(member("POST", "/scale-decisions", {"workloads": [{"cpu_cores": -1}], "clusters": 1}), 422, "INVALID_REQUEST")
    assert {one["field"] for one in wrong["errors"]} == {"workloads.0.cpu_cores", "clusters"}
    other = world.caller("member", OTHER_PROJECT)
    problem(other("POST", "/scale-decisions", {"workloads": [], "cluster_id": cluster["id"]}), 404)
