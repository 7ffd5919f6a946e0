"""Node groups, hibernation, waking, upgrade and import, from the request to what Magnum shows."""

from typing import Any
from uuid import uuid4

import pytest

from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import PROJECT, a_template
from tests.fake_cloud import FakeCluster

GROUP = {"name": "gpu-pool", "flavor_id": "gpu.a100.large", "node_count": 3, "max_node_count": 8}


@pytest.fixture
def cluster(world: World, member: Caller) -> dict[str, Any]:
    """A cluster of four workers, ready."""
    made: dict[str, Any] = problemless(member("POST", "/clusters", a_body()))
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    return made


def magnums(world: World) -> FakeCluster:
    """The only cluster, as it is in the cloud."""
    (only,) = world.cloud.clusters.values()
    return only


def sizes(world: World) -> dict[str, int]:
    return magnums(world).groups


def shown(reader: Caller, cluster: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = problemless(reader("GET", f"/clusters/{cluster['id']}"))
    return found


# -- node groups -----------------------------------------------------------------------------------------------------------


def test_a_group_is_added_resized_and_removed(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/node-groups"
    accepted = problemless(member("POST", path, GROUP))
    assert accepted["cluster"]["node_count"] == 7
    assert world.complete(accepted["job_id"], PROJECT)["state"] == "succeeded"
    groups = {group["name"]: group for group in member("GET", path).get_json()}
    assert set(groups) == {"default-worker", "default-master", "gpu-pool"}
    assert groups["gpu-pool"] | {"node_count": 3, "max_node_count": 8, "flavor_id": "gpu.a100.large"} == groups["gpu-pool"]
    assert member("GET", f"{path}/gpu-pool").get_json() == groups["gpu-pool"]

    accepted = problemless(member("PUT", f"{path}/gpu-pool", {"node_count": 5}))
    assert world.complete(accepted["job_id"], PROJECT)["state"] == "succeeded"
    assert sizes(world) == {"default-worker": 4, "gpu-pool": 5}
    assert shown(member, cluster)["node_count"] == shown(member, cluster)["observed_node_count"] == 9

    accepted = problemless(member("PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 2}))
    assert world.complete(accepted["job_id"], PROJECT)["state"] == "succeeded"
    assert sizes(world) == {"default-worker": 2, "gpu-pool": 5}
    assert shown(member, cluster)["node_count"] == 7

    accepted = problemless(member("DELETE", f"{path}/gpu-pool"))
    assert accepted["cluster"]["node_count"] == 2
    assert world.complete(accepted["job_id"], PROJECT)["state"] == "succeeded"
    assert sizes(world) == {"default-worker": 2}
    assert shown(member, cluster)["node_count"] == 2
    problem(member("GET", f"{path}/gpu-pool"), 404, "NODE_GROUP_NOT_FOUND")


def test_each_wrong_field_of_a_group_is_named(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    body = {
        "name": "1-bad",
        "flavor_id": "no-such-flavor",
        "node_count": 4,
        "min_node_count": 6,
        "max_node_count": 2,
        "labels": {"kcloud_x": "y"},
        "flavour": "gpu",
        "role": "master",
    }
    before = world.counts()
    found = problem(member("POST", f"/clusters/{cluster['id']}/node-groups", body), 422)
    assert {error["field"] for error in found["errors"]} == {
        "name",
        "flavor_id",
        "min_node_count",
        "max_node_count",
        "labels.kcloud_x",
        "flavour",
        "role",
    }
    assert world.counts() == before


@pytest.mark.parametrize("name", ["default-worker", "default-master", "gpu-pool"])
def test_a_name_is_given_once(world: World, member: Caller, cluster: dict[str, Any], name: str) -> None:
    path = f"/clusters/{cluster['id']}/node-groups"
    problemless(member("POST", path, GROUP))
    before = world.counts()
    found = problem(member("POST", path, GROUP | {"name": name}), 409)
    assert [error["field"] for error in found["errors"]] == ["name"]
    assert world.counts() == before


@pytest.mark.parametrize("name", ["default-worker", "default-master"])
def test_default_groups_stay(member: Caller, cluster: dict[str, Any], name: str) -> None:
    problem(member("DELETE", f"/clusters/{cluster['id']}/node-groups/{name}"), 409, "DEFAULT_NODE_GROUP")


@pytest.mark.parametrize("method,body", [("GET", None), ("PUT", {"node_count": 1}), ("DELETE", None)])
def test_an_unknown_group_is_not_found(member: Caller, cluster: dict[str, Any], method: str, body: Any) -> None:
    found = problem(member(method, f"/clusters/{cluster['id']}/node-groups/nope", body), 404, "NODE_GROUP_NOT_FOUND")
    assert "default-worker" in found["detail"]


def test_groups_of_a_cluster_that_is_not_made_are_refused(member: Caller) -> None:
    made = problemless(member("POST", "/clusters", a_body()))
    problem(member("GET", f"/clusters/{made['id']}/node-groups"), 409)


def test_a_driver_that_ignores_the_choice_of_nodes_is_not_asked(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    world.cloud.templates[0] = a_template(driver="k8s_capi_helm_v1")
    world.forget_catalogs()
    body = {"node_count": 3, "nodes_to_remove": ["c7a6f0a6-64e8-4a37-9d3c-3d1f1a6c6c4a"]}
    before = world.counts()
    found = problem(member("PUT", f"/clusters/{cluster['id']}/scale", body), 409, "DRIVER_LACKS")
    assert "magnum-capi-helm" in found["detail"]
    assert world.counts() == before


def test_a_driver_that_can_choose_gets_the_choice(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    world.cloud.templates[0] = a_template(driver="k8s_fedora_coreos_v1")
    world.forget_catalogs()
    body = {"node_count": 3, "nodes_to_remove": ["c7a6f0a6-64e8-4a37-9d3c-3d1f1a6c6c4a"]}
    accepted = problemless(member("PUT", f"/clusters/{cluster['id']}/scale", body))
    assert world.complete(accepted["job_id"], PROJECT)["state"] == "succeeded"
    assert magnums(world).removed == body["nodes_to_remove"]


# -- promises that are taken back --------------------------------------------------------------------------------------------


def test_a_cancelled_group_leaves_no_trace(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/node-groups"
    added = problemless(member("POST", path, GROUP))
    later = problemless(member("PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 6}))
    assert later["cluster"]["node_count"] == 9
    problemless(member("DELETE", f"/jobs/{added['job_id']}"))
    assert shown(member, cluster)["node_count"] == 6
    assert world.complete(later["job_id"], PROJECT)["state"] == "succeeded"
    assert sizes(world) == {"default-worker": 6}
    problem(member("PUT", f"{path}/gpu-pool", {"node_count": 1}), 404)


def test_cancelling_both_of_two_changes_in_any_order_gives_the_old_size(member: Caller, cluster: dict[str, Any]) -> None:
    first = problemless(member("PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 6}))
    second = problemless(member("POST", f"/clusters/{cluster['id']}/node-groups", GROUP))
    problemless(member("DELETE", f"/jobs/{first['job_id']}"))
    assert shown(member, cluster)["node_count"] == 7
    problemless(member("DELETE", f"/jobs/{second['job_id']}"))
    assert shown(member, cluster)["node_count"] == 4


def test_a_group_that_magnum_refuses_is_not_wanted_any_more(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    added = problemless(member("POST", f"/clusters/{cluster['id']}/node-groups", GROUP))
    world.cloud.clusters.clear()
    world.run(added["job_id"])
    assert problemless(member("GET", f"/jobs/{added['job_id']}"))["state"] == "failed"
    assert shown(member, cluster)["node_count"] == 4


# -- sleep -----------------------------------------------------------------------------------------------------------------


def test_a_cluster_sleeps_and_wakes_with_all_its_groups(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}"
    added = problemless(member("POST", f"{path}/node-groups", GROUP))
    assert world.complete(added["job_id"], PROJECT)["state"] == "succeeded"

    asleep = problemless(member("POST", f"{path}/hibernate"))
    assert world.complete(asleep["job_id"], PROJECT)["state"] == "succeeded"
    assert sizes(world) == {"default-worker": 0, "gpu-pool": 0}
    found = shown(member, cluster)
    assert (found["phase"], found["node_count"]) == ("Hibernated", 0)
    problem(member("PUT", f"{path}/scale", {"node_count": 2}), 409, "HIBERNATED")
    problem(member("POST", f"{path}/hibernate"), 409, "HIBERNATED")

    awake = problemless(member("POST", f"{path}/wake"))
    assert world.complete(awake["job_id"], PROJECT)["state"] == "succeeded"
    assert sizes(world) == {"default-worker": 4, "gpu-pool": 3}
    found = shown(member, cluster)
    assert (found["phase"], found["node_count"]) == ("Ready", 7)
    problem(member("POST", f"{path}/wake"), 409, "NOT_HIBERNATED")


def test_a_driver_that_needs_a_worker_keeps_one(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    world.cloud.templates[0] = a_template(driver="k8s_capi_helm_v1")
    world.forget_catalogs()
    asleep = problemless(member("POST", f"/clusters/{cluster['id']}/hibernate"))
    assert world.complete(asleep["job_id"], PROJECT)["state"] == "succeeded"
    assert sizes(world) == {"default-worker": 1}
    assert shown(member, cluster)["phase"] == "Hibernated"


def test_a_sleeping_cluster_can_be_deleted(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    asleep = problemless(member("POST", f"/clusters/{cluster['id']}/hibernate"))
    assert world.complete(asleep["job_id"], PROJECT)["state"] == "succeeded"
    deleted = problemless(member("DELETE", f"/clusters/{cluster['id']}"))
    assert world.complete(deleted["job_id"], PROJECT)["state"] == "succeeded"
    assert not world.cloud.clusters


# -- version ---------------------------------------------------------------------------------------------------------------


def test_an_upgrade_to_a_type_makes_its_template_first(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    content = {"image": "ubuntu-24.04-kube-v1.33.1", "flavor": "gpu.a100.large", "master_flavor": "cpu.large"}
    assert member("POST", "/templates", {"name": "next", **content, "labels": {"kube_tag": "v1.33.1"}}).status_code == 201
    answer = member("POST", f"/clusters/{cluster['id']}/upgrade", {"cluster_template_id": "next"})
    job = world.complete(answer.get_json()["job_id"], PROJECT)
    assert job["state"] == "succeeded", job
    shown = member("GET", f"/clusters/{cluster['id']}").get_json()
    assert shown["cluster_template_name"].startswith("next-")
    assert shown["cluster_template_id"] == job["params"]["template_id"] != ""


def test_an_upgrade_ends_with_the_other_template(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    newer = a_template(uuid=str(uuid4()), name="gpu-intensive-2", labels={"kube_tag": "v1.33.1"})
    world.cloud.templates.append(newer)
    world.forget_catalogs()
    path = f"/clusters/{cluster['id']}/upgrade"
    accepted = problemless(member("POST", path, {"cluster_template_id": "gpu-intensive-2"}))
    assert world.complete(accepted["job_id"], PROJECT)["state"] == "succeeded"
    found = shown(member, cluster)
    assert (found["cluster_template_id"], found["cluster_template_name"]) == (newer.uuid, "gpu-intensive-2")
    before = world.counts()
    body = {"cluster_template_id": "none-such", "max_batch_size": 0}
    wrong = problem(member("POST", path, body), 422)
    assert {error["field"] for error in wrong["errors"]} == {"cluster_template_id", "max_batch_size"}
    assert world.counts() == before


@pytest.mark.parametrize(
    "method,path,body",
    [
        ("POST", "node-groups", GROUP),
        ("POST", "hibernate", None),
        ("POST", "upgrade", {"cluster_template_id": "gpu-intensive-template"}),
        ("PUT", "node-groups/default-worker", {"node_count": 1}),
    ],
)
def test_what_is_only_validated_changes_nothing(
    world: World, member: Caller, cluster: dict[str, Any], method: str, path: str, body: Any
) -> None:
    before = world.counts(), shown(member, cluster)
    answered = problemless(member(method, f"/clusters/{cluster['id']}/{path}?validate_only=true", body))
    assert answered == {"valid": True, "findings": []}
    assert (world.counts(), shown(member, cluster)) == before


# -- from elsewhere ----------------------------------------------------------------------------------------------------------


def test_a_cluster_from_elsewhere_is_taken_over_as_it_is(world: World, member: Caller) -> None:
    uuid = str(uuid4())
    world.cloud.put_foreign(uuid, "by-hand", groups={"default-worker": 2, "extra": 1})
    response = member("POST", "/clusters/import", {"magnum_uuid": uuid})
    assert response.status_code == 201
    found = response.get_json()
    assert (found["name"], found["managed"], found["phase"], found["node_count"]) == ("by-hand", True, "Ready", 3)
    assert response.headers["Location"] == f"/clusters/{found['id']}"
    problem(member("POST", "/clusters/import", {"magnum_uuid": uuid}), 409, "ALREADY_MANAGED")
    accepted = problemless(member("PUT", f"/clusters/{found['id']}/node-groups/extra", {"node_count": 4}))
    assert accepted["cluster"]["node_count"] == 6
    assert world.complete(accepted["job_id"], PROJECT)["state"] == "succeeded"
    assert sizes(world) == {"default-worker": 2, "extra": 4}


def test_what_magnum_does_not_show_is_not_imported(world: World, member: Caller) -> None:
    uuid = str(uuid4())
    world.cloud.put_foreign(uuid, "theirs", project_id="c3aabf8a2881403bbd8ff3c38dc595d1")
    found = problem(member("POST", "/clusters/import", {"magnum_uuid": uuid}), 422)
    assert [error["field"] for error in found["errors"]] == ["magnum_uuid"]
    found = problem(member("POST", "/clusters/import", {"magnum_uuid": "by-hand"}), 422)
    assert [(error["field"], error["rule"]) for error in found["errors"]] == [("magnum_uuid", "pattern")]


def test_a_name_that_is_taken_here_is_refused_and_another_can_be_given(
    world: World, member: Caller, cluster: dict[str, Any]
) -> None:
    uuid = str(uuid4())
    world.cloud.put_foreign(uuid, cluster["name"])
    problem(member("POST", "/clusters/import", {"magnum_uuid": uuid}), 409)
    assert member("POST", "/clusters/import", {"magnum_uuid": uuid, "name": "second"}).status_code == 201
