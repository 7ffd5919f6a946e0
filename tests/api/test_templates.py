"""Cluster types, and the clusters that are made of them."""

from typing import Any

import pytest

from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import PROJECT, TEMPLATE_ID, TEMPLATE_NAME
from tests.fake_cloud import Fault, Trouble

MINE: dict[str, Any] = {
    "name": "mine",
    "image": "ubuntu-24.04-kube-v1.33.1",
    "flavor": "gpu.a100.large",
    "master_flavor": "cpu.large",
    "node_count": 3,
    "labels": {"workload_type": "training"},
}


def of_type(template: str, **changes: Any) -> dict[str, Any]:
    body = a_body(**changes) | {"cluster_template_id": template}
    for left in ("node_count", "master_count"):
        if left not in changes:
            body.pop(left)
    return body


def test_shipped_types_and_magnums_templates_are_listed(member: Caller) -> None:
    found = {one["id"]: one for one in member("GET", "/templates").get_json()}
    assert found["hybrid-balanced-template"]["source"] == "file"
    assert found["hybrid-balanced-template"]["usable"]
    assert found[TEMPLATE_ID]["source"] == "magnum"
    assert member("GET", f"/templates/{TEMPLATE_ID}").get_json()["name"] == TEMPLATE_NAME
    problem(member("GET", "/templates/nope"), 404, "TEMPLATE_NOT_FOUND")


def test_a_type_that_the_project_cannot_use_says_why(world: World, member: Caller) -> None:
    world.cloud.flavors = [flavor for flavor in world.cloud.flavors if flavor.name != "npu.intel.medium"]
    world.forget_catalogs()
    found = member("GET", "/templates/npu-optimized-template").get_json()
    assert not found["usable"]
    assert "npu.intel.medium" in found["problems"][0]
    refused = problem(member("POST", "/clusters", of_type("npu-optimized-template")), 422)
    assert [error["field"] for error in refused["errors"]] == ["cluster_template_id"]
    assert "npu.intel.medium" in refused["errors"][0]["detail"]


def test_a_cluster_of_a_type_makes_its_template_once(world: World, member: Caller) -> None:
    for name in ("one", "two"):
        made = problemless(member("POST", "/clusters", of_type("cpu-only-template", name=name)))
        assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    rendered = [template for template in world.cloud.templates if template.name.startswith("cpu-only-template-")]
    assert len(rendered) == 1
    clusters = member("GET", "/clusters").get_json()
    assert {cluster["cluster_template_id"] for cluster in clusters} == {rendered[0].uuid}
    assert {cluster["cluster_template_name"] for cluster in clusters} == {rendered[0].name}
    assert {cluster["node_count"] for cluster in clusters} == {1}


def test_magnums_own_template_of_a_types_name_is_used_in_its_place(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/clusters", of_type(TEMPLATE_NAME, node_count=2)))
    assert made["cluster_template_id"] == TEMPLATE_ID
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    assert len(world.cloud.templates) == 1


def test_a_hybrid_cluster_is_one_cluster_with_a_group_per_flavor(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/clusters", of_type("hybrid-balanced-template")))
    assert made["node_count"] == 4
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    later = [job for job in member("GET", f"/jobs?cluster_id={made['id']}").get_json() if job["kind"] == "add_node_group"]
    assert len(later) == 2
    for job in reversed(later):
        assert world.complete(job["id"], PROJECT)["state"] == "succeeded"
    (cluster,) = world.cloud.clusters.values()
    assert cluster.groups == {"default-worker": 2, "gpu": 1, "npu": 1}
    groups = {group["name"]: group for group in member("GET", f"/clusters/{made['id']}/node-groups").get_json()}
    assert groups["gpu"]["flavor_id"] == "gpu.a100.large"
    shown = problemless(member("GET", f"/clusters/{made['id']}"))
    assert (shown["phase"], shown["node_count"], shown["observed_node_count"]) == ("Ready", 4, 4)


def test_a_hybrid_cluster_that_fails_takes_its_groups_jobs_with_it(world: World, member: Caller) -> None:
    body = of_type("hybrid-balanced-template", labels={"rig_fail": "create"})
    made = problemless(member("POST", "/clusters", body))
    assert world.complete(made["job_id"], PROJECT)["state"] == "failed"
    later = [job for job in member("GET", f"/jobs?cluster_id={made['id']}").get_json() if job["kind"] == "add_node_group"]
    for job in reversed(later):
        ended = world.complete(job["id"], PROJECT)
        assert (ended["state"], ended["error"]["reason"]) == ("failed", "CREATE_FAILED")


def test_a_project_makes_changes_and_deletes_a_type(world: World, member: Caller) -> None:
    response = member("POST", "/templates", MINE)
    assert response.status_code == 201
    assert response.headers["Location"] == "/templates/mine"
    assert response.get_json()["source"] == "api"
    old = problemless(member("POST", "/clusters", of_type("mine", name="old")))
    assert old["node_count"] == 3
    assert world.complete(old["job_id"], PROJECT)["state"] == "succeeded"

    changed = {name: value for name, value in MINE.items() if name != "name"} | {"flavor": "cpu.large"}
    assert member("PUT", "/templates/mine", changed).status_code == 200
    new = problemless(member("POST", "/clusters", of_type("mine", name="new")))
    assert world.complete(new["job_id"], PROJECT)["state"] == "succeeded"
    flavors = {cluster.name.rpartition("-")[0]: cluster.flavor for cluster in world.cloud.clusters.values()}
    assert flavors == {"old": "gpu.a100.large", "new": "cpu.large"}

    assert member("DELETE", "/templates/mine").status_code == 204
    problem(member("POST", "/clusters", of_type("mine", name="late")), 422)
    assert problemless(member("GET", f"/clusters/{old['id']}"))["phase"] == "Ready"


def test_a_type_is_its_projects(world: World, member: Caller) -> None:
    problemless(member("POST", "/templates", MINE))
    abroad = world.caller("admin", "c3aabf8a2881403bbd8ff3c38dc595d1")
    problem(abroad("GET", "/templates/mine"), 404)
    problem(abroad("DELETE", "/templates/mine"), 404)


@pytest.mark.parametrize("ref,reason", [("cpu-only-template", "TEMPLATE_SHIPPED"), (TEMPLATE_ID, "TEMPLATE_OF_MAGNUM")])
def test_what_is_not_made_here_is_not_changed_here(member: Caller, ref: str, reason: str) -> None:
    body = {name: value for name, value in MINE.items() if name != "name"}
    problem(member("PUT", f"/templates/{ref}", body), 409, reason)
    problem(member("DELETE", f"/templates/{ref}"), 409, reason)


def test_every_wrong_field_of_a_type_is_named(member: Caller) -> None:
    body = MINE | {
        "name": "9",
        "image": "plain",
        "flavor": "none-such",
        "node_count": "3",
        "labels": {"a": 1},
        "network_drivers": {"k8s_magic": "calico"},
        "node_groups": [{"name": "g", "flavor": "cpu.large", "node_count": 2, "max_node_count": 1, "x": 1}],
        "extra": 1,
    }
    found = problem(member("POST", "/templates", body), 422)
    assert {error["field"] for error in found["errors"]} == {
        "name",
        "node_count",
        "labels.a",
        "network_drivers.k8s_magic",
        "node_groups.0.x",
        "node_groups.0.max_node_count",
        "extra",
    }
    found = problem(member("POST", "/templates", MINE | {"image": "plain", "flavor": "none-such"}), 422)
    assert {error["field"] for error in found["errors"]} == {"image", "flavor"}
    found = problem(member("POST", "/templates", MINE | {"name": "cpu-only-template"}), 409)
    assert [error["field"] for error in found["errors"]] == ["name"]
    assert problemless(member("POST", "/templates?validate_only=true", MINE)) == {"valid": True, "findings": []}
    problem(member("GET", "/templates/mine"), 404)


def test_a_hybrid_cluster_in_its_own_network(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/clusters", of_type("hybrid-balanced-template", network="isolated")))
    jobs = member("GET", "/jobs").get_json()
    for job in sorted(jobs, key=lambda job: job["created_at"]):
        if job["kind"] == "create_stack":
            world.complete(job["id"], PROJECT)
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    for job in reversed([job for job in jobs if job["kind"] == "add_node_group"]):
        assert world.complete(job["id"], PROJECT)["state"] == "succeeded"
    (cluster,) = world.cloud.clusters.values()
    assert cluster.groups == {"default-worker": 2, "gpu": 1, "npu": 1}
    assert cluster.options["fixed_network"]


def test_the_list_has_pages(member: Caller) -> None:
    everything = [one["id"] for one in member("GET", "/templates").get_json()]
    assert len(everything) == 5
    url: str | None = "/templates?limit=2"
    pages = []
    while url:
        response = member("GET", url)
        pages.append([one["id"] for one in response.get_json()])
        link = response.headers.get("Link")
        url = link[1 : link.index(">")] if link else None
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [ref for page in pages for ref in page] == everything
    assert "Link" not in member("GET", "/templates?limit=5").headers
    found = problem(member("GET", "/templates?marker=nope"), 422)
    assert [error["field"] for error in found["errors"]] == ["marker"]


def test_every_wrong_field_of_a_types_groups_is_named(member: Caller) -> None:
    groups = [
        {"name": "a", "flavor": "cpu.large", "node_count": None, "min_node_count": 2, "role": "master"},
        {"name": "b", "flavor": "none-such", "labels": None},
        {"name": "b", "flavor": "cpu.large", "labels": {"kcloud_job_id": "x"}},
    ]
    found = problem(member("POST", "/templates", MINE | {"node_groups": groups}), 422)
    assert {error["field"] for error in found["errors"]} == {
        "node_groups.0.role",
        "node_groups.0.min_node_count",
        "node_groups.2.name",
        "node_groups.2.labels.kcloud_job_id",
    }
    problem(member("GET", "/templates/mine"), 404)
    found = problem(member("POST", "/templates", MINE | {"node_groups": groups[1:2]}), 422)
    assert [error["field"] for error in found["errors"]] == ["node_groups.0.flavor"]


def test_a_type_without_workers_stays_without(member: Caller) -> None:
    assert member("POST", "/templates", MINE | {"node_count": 0}).get_json()["definition"]["node_count"] == 0
    assert problemless(member("GET", "/templates/mine"))["definition"]["node_count"] == 0


def test_a_type_is_deleted_while_the_cloud_is_away(world: World, member: Caller) -> None:
    problemless(member("POST", "/templates", MINE))
    world.forget_catalogs()
    world.cloud.faults.append(Fault("catalog", Trouble.UNAVAILABLE))
    assert member("DELETE", "/templates/mine").status_code == 204
    assert world.cloud.faults  # nobody asked
    world.cloud.faults.clear()
    problem(member("GET", "/templates/mine"), 404)
