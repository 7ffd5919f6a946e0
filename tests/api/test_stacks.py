"""Stacks, clusters' own networks, and connections, from the request to what Heat shows."""

from typing import Any

import pytest
from sqlalchemy import text

from shared.domain.clusters import Scope
from shared.domain.stacks import Leftover
from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import PROJECT, REGION

NETWORK = {"name": "net-a", "template": "network"}


def isolated(name: str = "training", **changes: Any) -> dict[str, Any]:
    return a_body(name, network="isolated", **changes)


def network_job(member: Caller, cluster: dict[str, Any], kind: str = "create_stack") -> str:
    jobs = member("GET", f"/jobs?stack_id={cluster['network_stack_id']}&kind={kind}").get_json()
    found: str = jobs[0]["id"]
    return found


@pytest.fixture
def cluster(world: World, member: Caller) -> dict[str, Any]:
    """A cluster in a network of its own, ready."""
    return connected(world, member, "training")


def connected(world: World, member: Caller, name: str) -> dict[str, Any]:
    made: dict[str, Any] = problemless(member("POST", "/clusters", isolated(name)))
    assert world.complete(network_job(member, made), PROJECT)["state"] == "succeeded"
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    found: dict[str, Any] = problemless(member("GET", f"/clusters/{made['id']}"))
    return found


def stacks_left(world: World) -> list[str]:
    return [stack.seen.name for stack in world.cloud.heat.stacks.values() if stack.seen.status != "DELETE_COMPLETE"]


# -- stacks ----------------------------------------------------------------------------------------------------------------


def test_a_stack_is_made_shown_changed_and_deleted(world: World, member: Caller) -> None:
    response = member("POST", "/stacks", NETWORK)
    assert response.status_code == 202
    made = response.get_json()
    assert response.headers["Location"] == f"/stacks/{made['id']}"
    assert (made["phase"], made["status"]) == ("Pending", "CREATE_REQUESTED")
    assert made["parameters"]["cidr"] == "10.64.0.0/24"
    job = world.complete(made["job_id"], PROJECT)
    assert (job["state"], job["kind"], job["stack_name"], job["cluster_id"]) == ("succeeded", "create_stack", "net-a", None)
    shown = problemless(member("GET", f"/stacks/{made['id']}"))
    assert (shown["phase"], shown["status"]) == ("Ready", "CREATE_COMPLETE")
    assert {resource["type"] for resource in shown["resources"]} >= {"OS::Neutron::Net", "OS::Neutron::Router"}
    assert shown["outputs"]["cidr"] == "10.64.0.0/24"
    assert [one["id"] for one in member("GET", "/stacks").get_json()] == [made["id"]]
    assert member("GET", f"/stacks/{shown['heat_id']}").get_json()["id"] == made["id"]

    changed = problemless(member("PUT", f"/stacks/{made['id']}", {"parameters": {"dns": ["9.9.9.9"]}}))
    assert world.complete(changed["job_id"], PROJECT)["state"] == "succeeded"
    assert member("GET", f"/stacks/{made['id']}").get_json()["parameters"]["dns"] == ["9.9.9.9"]

    gone = problemless(member("DELETE", f"/stacks/{made['id']}"))
    assert world.complete(gone["job_id"], PROJECT)["state"] == "succeeded"
    problem(member("GET", f"/stacks/{made['id']}"), 404, "STACK_NOT_FOUND")
    assert not stacks_left(world)
    again = problemless(member("POST", "/stacks", NETWORK))
    assert again["parameters"]["cidr"] == "10.64.0.0/24"  # its range was given back


def test_every_wrong_field_of_a_stack_is_named(world: World, member: Caller) -> None:
    body = {"name": "9x", "template": "network", "parameters": {"cidr": "10.0.0.1/8", "dns": 5, "x": 1}, "members": ["a", "b"]}
    before = world.counts()
    found = problem(member("POST", "/stacks", body), 422)
    assert {error["field"] for error in found["errors"]} == {
        "name",
        "parameters.cidr",
        "parameters.dns",
        "parameters.x",
        "members",
    }
    found = problem(member("POST", "/stacks", {"name": "a", "template": "castle"}), 422)
    assert [error["field"] for error in found["errors"]] == ["template"]
    assert "network" in found["errors"][0]["detail"]
    assert world.counts() == before
    assert not world.cloud.heat.created


def test_ranges_never_overlap(world: World, member: Caller) -> None:
    world.cloud.heat.subnets[PROJECT] = [("office", "10.64.0.0/23")]
    first = problemless(member("POST", "/stacks", NETWORK))
    assert first["parameters"]["cidr"] == "10.64.2.0/24"
    second = problemless(member("POST", "/stacks", NETWORK | {"name": "net-b"}))
    assert second["parameters"]["cidr"] == "10.64.3.0/24"
    for wish, whose in (("10.64.1.0/24", "office"), ("10.64.3.128/25", "another network")):
        body = {"name": "net-c", "template": "network", "parameters": {"cidr": wish}}
        found = problem(member("POST", "/stacks", body), 409, "ADDRESS_OVERLAP")
        assert whose in found["detail"]
        assert found["errors"][0]["field"] == "parameters.cidr"
    body = isolated("other", network_cidr="10.64.2.0/25")
    problem(member("POST", "/clusters", body), 409, "ADDRESS_OVERLAP")


def test_a_name_is_given_once(member: Caller) -> None:
    problemless(member("POST", "/stacks", NETWORK))
    found = problem(member("POST", "/stacks", NETWORK), 409)
    assert found["errors"][0]["field"] == "name"


def test_a_preview_says_what_would_be_made_and_makes_nothing(world: World, member: Caller) -> None:
    shown = problemless(member("POST", "/stacks/preview", NETWORK))
    assert {item["name"] for item in shown["changes"]["added"]} >= {"network", "subnet", "router"}
    assert shown["parameters"]["cidr"] == "10.64.0.0/24"
    assert world.counts() == (0, 0, 0)
    assert not world.cloud.heat.created
    made = problemless(member("POST", "/stacks", NETWORK))
    world.complete(made["job_id"], PROJECT)
    shown = problemless(member("POST", "/stacks/preview", {"stack_id": made["id"], "parameters": {"dns": ["9.9.9.9"]}}))
    assert shown["changes"]["updated"]
    assert not shown["changes"]["added"]


def test_a_stack_that_fails_says_why_and_its_delete_cleans_up(world: World, member: Caller) -> None:
    world.cloud.heat.fail["create"] = "Resource CREATE failed: Conflict: resources.router: No more IP addresses"
    made = problemless(member("POST", "/stacks", NETWORK))
    job = world.complete(made["job_id"], PROJECT)
    assert (job["state"], job["error"]["reason"]) == ("failed", "STACK_CREATE_FAILED")
    assert "No more IP addresses" in job["error"]["detail"]
    assert member("GET", f"/stacks/{made['id']}").get_json()["phase"] == "Failed"
    gone = problemless(member("DELETE", f"/stacks/{made['id']}"))
    assert world.complete(gone["job_id"], PROJECT)["state"] == "succeeded"
    assert not stacks_left(world)


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_a_lost_answer_makes_no_second_stack(world: World, member: Caller, verb: str) -> None:
    world.cloud.heat.lose.add(verb)
    made = problemless(member("POST", "/stacks", NETWORK))
    world.run(made["job_id"])
    world.hurry(made["job_id"])
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    assert len(world.cloud.heat.created) == 1
    gone = problemless(member("DELETE", f"/stacks/{made['id']}"))
    world.run(gone["job_id"])
    world.hurry(gone["job_id"])
    assert world.complete(gone["job_id"], PROJECT)["state"] == "succeeded"
    assert not stacks_left(world)


def test_a_delete_that_fails_once_is_made_again(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/stacks", NETWORK))
    world.complete(made["job_id"], PROJECT)
    world.cloud.heat.fail["delete"] = "Conflict: one or more ports have an IP allocation from this subnet"
    gone = problemless(member("DELETE", f"/stacks/{made['id']}"))
    assert world.complete(gone["job_id"], PROJECT)["state"] == "succeeded"
    assert not stacks_left(world)


def test_heat_away_delays_and_loses_nothing(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/stacks", NETWORK))
    world.cloud.heat.away = True
    world.run(made["job_id"])
    job = problemless(member("GET", f"/jobs/{made['job_id']}"))
    assert (job["state"], job["step"]) == ("queued", "cloud_unavailable")
    world.cloud.heat.away = False
    world.hurry(made["job_id"])
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"


# -- a cluster's own network -------------------------------------------------------------------------------------------------


def test_the_network_comes_first_and_goes_last(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    stack = problemless(member("GET", f"/stacks/{cluster['network_stack_id']}"))
    (made,) = world.cloud.clusters.values()
    assert made.options["fixed_network"] == stack["outputs"]["network_id"]
    assert made.options["fixed_subnet"] == stack["outputs"]["subnet_id"]
    assert (stack["cluster_id"], stack["phase"]) == (cluster["id"], "Ready")
    problem(member("DELETE", f"/stacks/{stack['id']}"), 409, "STACK_OF_CLUSTER")

    gone = problemless(member("DELETE", f"/clusters/{cluster['id']}"))
    last = network_job(member, cluster, "delete_stack")
    assert problemless(member("GET", f"/jobs/{last}"))["after"] == gone["job_id"]
    world.run(last)
    assert stacks_left(world)  # the cluster is still there
    assert world.complete(gone["job_id"], PROJECT)["state"] == "succeeded"
    assert world.complete(last, PROJECT)["state"] == "succeeded"
    assert not stacks_left(world)
    assert not world.cloud.clusters


def test_the_cluster_waits_for_its_network(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/clusters", isolated()))
    world.run(made["job_id"])
    assert not world.cloud.clusters
    job = problemless(member("GET", f"/jobs/{made['job_id']}"))
    assert (job["state"], job["after"]) == ("queued", network_job(member, made))


def test_a_network_that_fails_ends_the_create_and_is_cleaned_up(world: World, member: Caller) -> None:
    world.cloud.heat.fail["create"] = "Quota exceeded for resources: ['router']"
    made = problemless(member("POST", "/clusters", isolated()))
    assert world.complete(network_job(member, made), PROJECT)["state"] == "failed"
    job = world.complete(made["job_id"], PROJECT)
    assert (job["state"], job["error"]["reason"]) == ("failed", "NETWORK_FAILED")
    assert "Quota exceeded" in job["error"]["detail"]
    assert world.complete(network_job(member, made, "delete_stack"), PROJECT)["state"] == "succeeded"
    assert not stacks_left(world)
    assert not world.cloud.made
    assert problemless(member("POST", "/clusters", isolated()))["network_stack_id"] != made["network_stack_id"]


def test_a_create_that_magnum_refuses_leaves_no_network(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/clusters", isolated()))
    world.complete(network_job(member, made), PROJECT)
    world.cloud.quotas[PROJECT] = 0
    world.run(made["job_id"])
    assert problemless(member("GET", f"/jobs/{made['job_id']}"))["state"] == "failed"
    assert world.complete(network_job(member, made, "delete_stack"), PROJECT)["state"] == "succeeded"
    assert not stacks_left(world)


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_regret_leaves_neither_network_nor_cluster(world: World, member: Caller, when: str, how: str) -> None:
    made = problemless(member("POST", "/clusters", isolated()))
    if when == "during":
        world.run(network_job(member, made))
    path = f"/jobs/{made['job_id']}" if how == "cancel" else f"/clusters/{made['id']}"
    assert member("DELETE", path).status_code in {200, 202}
    for _ in range(4):
        for job in member("GET", "/jobs").get_json():
            if job["finished_at"] is None:
                world.finish(job["id"], PROJECT)
    unfinished = [job["kind"] for job in member("GET", "/jobs").get_json() if job["finished_at"] is None]
    assert not unfinished
    assert not stacks_left(world)
    assert not world.cloud.clusters


def test_what_a_deleted_cluster_left_is_reported_and_not_touched(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    left = Leftover("load_balancer", "lb-1", f"kube_service_{cluster['magnum_uuid']}_default_web", "ACTIVE")
    world.cloud.heat.things[PROJECT] = [left, Leftover("volume", "v-1", "somebody-else's")]
    gone = problemless(member("DELETE", f"/clusters/{cluster['id']}"))
    world.complete(gone["job_id"], PROJECT)
    with world.container.database.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET finished_at = finished_at - interval '10 s' WHERE finished_at IS NOT NULL"))
        connection.execute(text("UPDATE scopes SET next_inventory_at = now() - interval '1 s'"))
    world.container.inventory().take(Scope(REGION, PROJECT))
    job = problemless(member("GET", f"/jobs/{gone['job_id']}"))
    assert job["result"]["leftovers"] == [{"kind": "load_balancer", "id": "lb-1", "name": left.name, "status": "ACTIVE"}]
    assert member("GET", f"/jobs/{gone['job_id']}/events").get_json()[-1]["step"] == "leftovers"
    assert left in world.cloud.heat.things[PROJECT]


def test_own_and_existing_networks_exclude_each_other(member: Caller) -> None:
    found = problem(member("POST", "/clusters", isolated(fixed_network="x", network_cidr="banana")), 422)
    assert [error["field"] for error in found["errors"]] == ["fixed_network"]
    found = problem(member("POST", "/clusters", isolated(network_cidr="banana")), 422)
    assert [error["field"] for error in found["errors"]] == ["network_cidr"]
    found = problem(member("POST", "/clusters", a_body(network_cidr="10.1.0.0/24")), 422)
    assert [error["field"] for error in found["errors"]] == ["network_cidr"]


def test_validation_of_an_isolated_create_holds_no_range(world: World, member: Caller) -> None:
    assert problemless(member("POST", "/clusters?validate_only=true", isolated())) == {"valid": True, "findings": []}
    assert world.counts() == (0, 0, 0)
    made = problemless(member("POST", "/stacks", NETWORK))
    assert made["parameters"]["cidr"] == "10.64.0.0/24"


def test_a_repeated_key_finds_the_first_cluster_and_its_network(world: World, member: Caller) -> None:
    key = {"Idempotency-Key": "one"}
    first = problemless(member("POST", "/clusters", isolated(), headers=key))
    second = member("POST", "/clusters", isolated(), headers=key)
    assert second.get_json()["id"] == first["id"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert len(member("GET", "/stacks").get_json()) == 1
    world.container.database.engine.dispose()


def test_ticks_of_a_project_that_only_has_stacks_ask_magnum_nothing(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/stacks", NETWORK))
    world.run(made["job_id"])
    world.cloud.calls.clear()
    world.look(PROJECT)
    report = world.container.converger().tick(Scope(REGION, PROJECT))
    assert problemless(member("GET", f"/jobs/{made['job_id']}"))["state"] == "succeeded"
    assert not [call for call in world.cloud.calls if call in {"page", "get"}]
    assert report is None or report.in_flight == 0
