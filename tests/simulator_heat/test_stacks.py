"""Stacks in the simulated Heat: what they make is really there, and goes with them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from openstack.connection import Connection

from shared.services.hot import HotTemplates
from simulator.testing import Running, running_simulator
from tests.simulator_heat.conftest import QUICK, Caller
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")
HOT = "heat_template_version: 2021-04-16\n"
NET = HOT + "resources:\n  n: {type: OS::Neutron::Net}\n"
#: The second subnet meets the first, so that the port behind it is never made.
FAILING = (
    HOT
    + """
resources:
  n: {type: OS::Neutron::Net}
  a: {type: OS::Neutron::Subnet, properties: {network: {get_resource: n}, cidr: 10.96.0.0/24}}
  b: {type: OS::Neutron::Subnet, depends_on: a, properties: {network: {get_resource: n}, cidr: 10.96.0.0/25}}
  c: {type: OS::Neutron::Port, depends_on: b, properties: {network: {get_resource: n}}}
outputs:
  port: {value: {get_resource: c}}
"""
)
TEMPLATES = HotTemplates().all


class Stacks:
    """Makes stacks, waits for them, and removes them in the end."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.made: list[str] = []

    def create(self, template: str, parameters: dict[str, Any] | None = None, **more: Any) -> str:
        name = more.pop("name", f"s-{uuid4().hex[:6]}")
        body = {"stack_name": name, "template": template, "parameters": parameters or {}, **more}
        answer = self.caller.heat("POST", "/stacks", body)
        assert answer.status_code == 201, answer.text
        path = f"/stacks/{name}/{answer.json()['stack']['id']}"
        assert answer.headers["Location"].endswith(path)
        self.made.append(path)
        return path

    def network(self, **parameters: Any) -> tuple[str, dict[str, Any]]:
        given = {"name": "own", "cidr": "10.97.1.0/24", "external_network": "public", **parameters}
        path = self.create(TEMPLATES["network"].text, given)
        return path, self.outputs(self.ended(path, "CREATE_COMPLETE"))

    def show(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.caller.heat("GET", path).json()["stack"]
        return found

    def ended(self, path: str, status: str) -> dict[str, Any]:
        seen = wait_until(lambda: self._settled(path), what=f"{path} to end")
        assert seen is not None
        assert seen["stack_status"] == status, seen["stack_status_reason"]
        return seen

    def _settled(self, path: str) -> dict[str, Any] | None:
        seen = self.show(path)
        return None if seen["stack_status"].endswith("IN_PROGRESS") else seen

    @staticmethod
    def outputs(seen: dict[str, Any]) -> dict[str, Any]:
        return {one["output_key"]: one["output_value"] for one in seen["outputs"]}

    def delete(self, path: str) -> None:
        assert self.caller.heat("DELETE", path).status_code == 204
        self.ended(path, "DELETE_COMPLETE")

    def resources(self, path: str) -> dict[str, tuple[str, str]]:
        found = self.caller.heat("GET", f"{path}/resources").json()["resources"]
        return {one["resource_name"]: (one["resource_status"], one["physical_resource_id"]) for one in found}

    def clean(self) -> None:
        for path in reversed(self.made):
            if not self.show(path)["stack_status"].startswith("DELETE_"):
                self.delete(path)


@pytest.fixture
def stacks(member: Caller) -> Iterator[Stacks]:
    before = _everything(member)
    known = Stacks(member)
    yield known
    known.clean()
    assert _everything(member) == before


def _everything(caller: Caller) -> dict[str, set[str]]:
    """Ids of all that a stack can make. The default security group, which comes with the first network, is not a stack's."""
    kinds = ("networks", "subnets", "routers", "ports", "security-groups", "floatingips")
    found = {kind: caller.network("GET", f"/{kind}").json()[kind.replace("-", "_")] for kind in kinds}
    found["server_groups"] = caller.ask("GET", "/compute/v2.1/os-server-groups").json()["server_groups"]
    found["templates"] = caller.ask("GET", "/container-infra/v1/clustertemplates").json()["clustertemplates"]
    return {kind: {one.get("id") or one["uuid"] for one in items if one["name"] != "default"} for kind, items in found.items()}


def test_a_network_is_really_made_and_really_removed(stacks: Stacks) -> None:
    path, told = stacks.network(dns=["9.9.9.9"])
    caller = stacks.caller
    subnet = caller.network("GET", f"/subnets/{told['subnet_id']}").json()["subnet"]
    assert (subnet["cidr"], subnet["dns_nameservers"]) == ("10.97.1.0/24", ["9.9.9.9"])
    router = caller.network("GET", f"/routers/{told['router_id']}").json()["router"]
    assert router["external_gateway_info"]["external_fixed_ips"]
    ports = caller.network("GET", f"/ports?device_id={told['router_id']}").json()["ports"]
    assert [port["fixed_ips"][0]["subnet_id"] for port in ports] == [told["subnet_id"]]
    group = caller.network("GET", f"/security-groups/{told['security_group_id']}").json()["security_group"]
    inward = [rule["remote_ip_prefix"] for rule in group["security_group_rules"] if rule["direction"] == "ingress"]
    assert inward == ["10.97.1.0/24"]
    stacks.delete(path)
    for kind, key in (("networks", "network_id"), ("subnets", "subnet_id"), ("routers", "router_id")):
        assert caller.network("GET", f"/{kind}/{told[key]}").status_code == 404


def test_resources_come_in_order_and_say_so(stacks: Stacks, simulator: Running) -> None:
    simulator.control("POST", "/heat", {"seconds": 5})
    try:
        path = stacks.create(TEMPLATES["network"].text, {"name": "x", "cidr": "10.97.2.0/24", "external_network": "public"})
        assert stacks.show(path)["stack_status"] == "CREATE_IN_PROGRESS"
        assert {status for status, _ in stacks.resources(path).values()} == {"INIT_COMPLETE"}
        simulator.control("POST", "/clock", {"advance_s": 1.1})
        half = stacks.resources(path)
        assert 0 < sum(status == "CREATE_COMPLETE" for status, _ in half.values()) < 5
        assert (half["network"][0], half["interface"]) == ("CREATE_COMPLETE", ("INIT_COMPLETE", ""))
        simulator.control("POST", "/clock", {"advance_s": 5})
        stacks.ended(path, "CREATE_COMPLETE")
    finally:
        simulator.control("POST", "/heat", {"seconds": 0.1})
    events = stacks.caller.heat("GET", f"{path}/events").json()["events"]
    order = [one["resource_name"] for one in reversed(events) if one["resource_status"] == "CREATE_COMPLETE"]
    assert order.index("network") < order.index("subnet") < order.index("interface")
    assert order[-1] == path.split("/")[2]
    one = stacks.caller.heat("GET", f"{path}/resources/subnet/events?limit=1").json()["events"][0]
    whole = stacks.caller.heat("GET", f"{path}/resources/subnet/events/{one['id']}").json()["event"]
    assert whole["resource_properties"]["cidr"] == "10.97.2.0/24"
    shown = stacks.caller.heat("GET", f"{path}/resources/network").json()["resource"]
    assert (shown["required_by"], shown["attributes"]["id"]) == (["subnet"], shown["physical_resource_id"])
    assert stacks.caller.heat("GET", f"{path}/resources/nothing").json()["error"]["type"] == "ResourceNotFound"


def test_names_lead_to_ids_and_end_with_the_stack(stacks: Stacks) -> None:
    path = stacks.create(NET)
    name, key = path.split("/")[2:]
    for ref in (name, key):
        answer = stacks.caller.heat("GET", f"/stacks/{ref}?resolve_outputs=False")
        assert answer.status_code == 302
        assert answer.headers["Location"].endswith(f"{path}?resolve_outputs=False")
    assert stacks.caller.heat("DELETE", f"/stacks/{name}").status_code == 302
    assert stacks.caller.heat("GET", f"/stacks/{name}/resources").headers["Location"].endswith(f"{path}/resources")
    assert stacks.caller.heat("GET", f"/stacks/wrong/{key}").json()["error"]["message"] == "The Stack (wrong) could not be found."
    again = stacks.caller.heat("POST", "/stacks", {"stack_name": name, "template": NET})
    assert (again.status_code, again.json()["error"]["type"]) == (409, "StackExists")
    stacks.delete(path)
    assert stacks.show(path)["stack_status"] == "DELETE_COMPLETE"
    assert stacks.caller.heat("GET", f"/stacks/{name}").status_code == 404
    assert stacks.caller.heat("GET", f"/stacks/{key}").status_code == 302
    for method in ("DELETE", "PUT"):
        answer = stacks.caller.heat(method, path, {"template": NET})
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "EntityNotFound")
    assert stacks.resources(path) == {}
    assert stacks.create(NET, name=name) != path


def test_a_failure_tells_why_and_leaves_what_was_made(stacks: Stacks) -> None:
    path = stacks.create(FAILING)
    seen = stacks.ended(path, "CREATE_FAILED")
    assert seen["stack_status_reason"].startswith("Resource CREATE failed: BadRequest: resources.b: Invalid input for operation")
    assert stacks.outputs(seen) == {"port": None}
    states = {name: status for name, (status, _) in stacks.resources(path).items()}
    assert states == {"n": "CREATE_COMPLETE", "a": "CREATE_COMPLETE", "b": "CREATE_FAILED", "c": "INIT_COMPLETE"}


def test_a_failure_is_rolled_back_where_that_is_asked_for(stacks: Stacks) -> None:
    before = _everything(stacks.caller)
    path = stacks.create(FAILING, disable_rollback=False)
    stacks.ended(path, "ROLLBACK_COMPLETE")
    assert _everything(stacks.caller) == before


def test_a_failed_update_is_rolled_back_to_what_was_before(stacks: Stacks) -> None:
    good = FAILING.replace("10.96.0.0/25", "10.98.0.0/25")
    path = stacks.create(good)
    stacks.ended(path, "CREATE_COMPLETE")
    answer = stacks.caller.heat("PUT", path, {"template": FAILING, "disable_rollback": False})
    assert answer.status_code == 202
    stacks.ended(path, "ROLLBACK_COMPLETE")
    subnet = stacks.caller.heat("GET", f"{path}/resources/b").json()["resource"]["attributes"]
    assert subnet["cidr"] == "10.98.0.0/25"


def test_what_is_in_use_holds_the_stack_up_and_then_fails_it(stacks: Stacks, simulator: Running) -> None:
    path, told = stacks.network()
    port = stacks.caller.network("POST", "/ports", {"port": {"network_id": told["network_id"]}}).json()["port"]["id"]
    assert stacks.caller.heat("DELETE", path).status_code == 204
    simulator.control("POST", "/clock", {"advance_s": 1})
    assert stacks.show(path)["stack_status"] == "DELETE_IN_PROGRESS"
    assert stacks.caller.heat("DELETE", path).status_code == 204
    answer = stacks.caller.heat("PUT", path, {"template": NET})
    assert answer.json()["error"]["message"] == "Updating a stack when it is deleting is not supported."
    simulator.control("POST", "/clock", {"advance_s": 10})
    seen = stacks.ended(path, "DELETE_FAILED")
    assert seen["stack_status_reason"].startswith(
        "Resource DELETE failed: Conflict: resources.subnet: Unable to complete operation"
    )
    left = {name: status for name, (status, _) in stacks.resources(path).items()}
    assert left == {"network": "CREATE_COMPLETE", "subnet": "DELETE_FAILED"}
    assert stacks.caller.network("DELETE", f"/ports/{port}").status_code == 204
    stacks.delete(path)


def test_what_is_freed_in_time_goes(stacks: Stacks, simulator: Running) -> None:
    path, told = stacks.network()
    port = stacks.caller.network("POST", "/ports", {"port": {"network_id": told["network_id"]}}).json()["port"]["id"]
    stacks.caller.heat("DELETE", path)
    simulator.control("POST", "/clock", {"advance_s": 1})
    assert stacks.show(path)["stack_status"] == "DELETE_IN_PROGRESS"
    stacks.caller.network("DELETE", f"/ports/{port}")
    stacks.ended(path, "DELETE_COMPLETE")


def test_an_update_keeps_changes_and_replaces(stacks: Stacks) -> None:
    path, before = stacks.network()
    text, given = TEMPLATES["network"].text, {"name": "own", "cidr": "10.97.9.0/24", "external_network": "public"}
    body = {"template": text, "parameters": given, "tags": "a,b"}
    told = stacks.caller.heat("PUT", f"{path}/preview", body).json()["resource_changes"]
    names = {kind: {one["resource_name"] for one in changes} for kind, changes in told.items()}
    assert names == {  # as real Heat tells it
        "unchanged": {"router", "network"},
        "updated": {"security_group"},
        "replaced": {"interface", "subnet"},
        "added": set(),
        "deleted": set(),
    }
    assert stacks.outputs(stacks.show(path)) == before
    assert stacks.caller.heat("PUT", path, body).status_code == 202
    seen = stacks.ended(path, "UPDATE_COMPLETE")
    after = stacks.outputs(seen)
    assert {key for key in after if after[key] != before[key]} == {"subnet_id", "cidr"}
    assert (seen["tags"], seen["updated_time"] is not None) == (["a", "b"], True)
    assert stacks.caller.network("GET", f"/subnets/{before['subnet_id']}").status_code == 404
    group = stacks.caller.network("GET", f"/security-groups/{after['security_group_id']}").json()["security_group"]
    assert [one["remote_ip_prefix"] for one in group["security_group_rules"] if one["remote_ip_prefix"]] == ["10.97.9.0/24"]


def test_an_update_adds_and_removes(stacks: Stacks) -> None:
    path = stacks.create(NET)
    stacks.ended(path, "CREATE_COMPLETE")
    other = HOT + "resources:\n  m: {type: OS::Neutron::Router}\n"
    told = stacks.caller.heat("PUT", f"{path}/preview", {"template": other}).json()["resource_changes"]
    assert [one["resource_name"] for one in told["added"] + told["deleted"]] == ["m", "n"]
    stacks.caller.heat("PUT", path, {"template": other})
    stacks.ended(path, "UPDATE_COMPLETE")
    assert set(stacks.resources(path)) == {"m"}


def test_put_gives_all_anew_and_patch_keeps_the_rest(stacks: Stacks) -> None:
    given = {"name": "own", "cidr": "10.97.3.0/24", "external_network": "public"}
    path = stacks.create(TEMPLATES["network"].text, given, tags="a")
    stacks.ended(path, "CREATE_COMPLETE")
    assert stacks.caller.heat("PATCH", path, {"parameters": {"dns": "9.9.9.9"}}).status_code == 202
    seen = stacks.ended(path, "UPDATE_COMPLETE")
    assert (seen["tags"], seen["parameters"]["dns"], seen["parameters"]["cidr"]) == (["a"], "9.9.9.9", "10.97.3.0/24")
    answer = stacks.caller.heat("PUT", path, {"parameters": given})
    assert answer.json()["error"]["message"] == "No template specified"
    assert (
        stacks.caller.heat("PUT", path, {"template": TEMPLATES["network"].text}).json()["error"]["type"] == "UserParameterMissing"
    )
    stacks.caller.heat("PUT", path, {"template": TEMPLATES["network"].text, "parameters": given})
    seen = stacks.ended(path, "UPDATE_COMPLETE")
    assert (seen["tags"], seen["parameters"]["dns"]) == ([], "")


def test_an_update_overtakes_a_create(stacks: Stacks, simulator: Running) -> None:
    simulator.control("POST", "/heat", {"seconds": 30})
    path = stacks.create(FAILING)
    simulator.control("POST", "/heat", {"seconds": 0.1})
    assert stacks.caller.heat("PUT", path, {"template": NET}).status_code == 202
    stacks.ended(path, "UPDATE_COMPLETE")
    assert set(stacks.resources(path)) == {"n"}


@pytest.mark.parametrize(
    "fault, action, status",
    [
        ({"resource": "n", "reason": "No more networks"}, "CREATE", "CREATE_FAILED"),
        ({"resource": "OS::Neutron::Net", "action": "DELETE", "reason": "Not now", "count": 1}, "DELETE", "DELETE_FAILED"),
    ],
)
def test_faults_can_be_ordered(stacks: Stacks, simulator: Running, fault: dict[str, Any], action: str, status: str) -> None:
    simulator.control("POST", "/heat", {"faults": [fault]})
    try:
        path = stacks.create(NET)
        if action == "DELETE":
            stacks.ended(path, "CREATE_COMPLETE")
            stacks.caller.heat("DELETE", path)
        seen = stacks.ended(path, status)
        assert seen["stack_status_reason"] == f"Resource {action} failed: Conflict: resources.n: {fault['reason']}"
    finally:
        simulator.control("POST", "/heat", {"faults": []})
    stacks.delete(path)


def test_a_resource_can_be_told_to_fail_by_a_parameter(stacks: Stacks) -> None:
    text = (
        HOT
        + "parameters: {bad: {type: boolean}}\nresources:\n  t: {type: OS::Heat::TestResource, properties: {fail: {get_param: bad}}}\n"
    )
    path = stacks.create(text, {"bad": True})
    assert stacks.ended(path, "CREATE_FAILED")["stack_status_reason"] == (
        "Resource CREATE failed: ValueError: resources.t: Test Resource failed t"
    )
    stacks.ended(stacks.create(text, {"bad": False}), "CREATE_COMPLETE")


def test_functions_give_what_real_heat_gave(stacks: Stacks) -> None:
    text = (
        HOT
        + """
parameters:
  l: {type: comma_delimited_list, default: "a,b,c"}
  j: {type: json, default: {k: [1, 2]}}
  flag: {type: boolean, default: true}
conditions:
  set: {equals: [{get_param: flag}, true]}
  unset: {not: set}
  both: {and: [set, unset]}
resources:
  n:
    type: OS::Neutron::Net
    properties: {name: {str_replace: {template: x-$a, params: {$a: {list_join: ["-", {get_param: l}]}}}}}
  m: {type: OS::Neutron::Net, condition: unset}
  v: {type: OS::Heat::Value, properties: {value: [1, 2]}}
outputs:
  repeated: {value: {repeat: {for_each: {"%x%": {get_param: l}}, template: {name: n-%x%}}}}
  split: {value: {str_split: [",", "p,q,r", 1]}}
  parts: {value: {str_split: [",", "p,q,r"]}}
  chosen: {value: {if: [unset, 1, 2]}}
  both: {value: {if: [both, 1, 2]}}
  deep: {value: {get_param: [j, k, 1]}}
  flag: {value: {get_param: flag}}
  merged: {value: {map_merge: [{a: 1}, {b: 2}]}}
  listed: {value: {list_concat: [[1], [2]]}}
  name: {value: {get_attr: [n, name]}}
  stack: {value: {get_param: "OS::stack_name"}}
  held: {value: {get_attr: [v, value, 1]}}
  beyond: {value: {get_attr: [v, value, 7]}}
  hidden: {value: 1, condition: unset}
"""
    )
    path = stacks.create(text)
    seen = stacks.ended(path, "CREATE_COMPLETE")
    assert stacks.outputs(seen) == {
        "repeated": [{"name": "n-a"}, {"name": "n-b"}, {"name": "n-c"}],
        "split": "q",
        "parts": ["p", "q", "r"],
        "chosen": 2,
        "both": 2,
        "deep": 2,
        "flag": True,
        "merged": {"a": 1, "b": 2},
        "listed": [1, 2],
        "name": "x-a-b-c",
        "stack": path.split("/")[2],
        "held": 2,
        "beyond": None,
    }
    assert set(stacks.resources(path)) == {"n", "v"}
    assert seen["parameters"]["l"] == "a,b,c"
    assert stacks.caller.heat("GET", f"{path}/outputs/split").json()["output"]["output_value"] == "q"
    assert "output_value" not in stacks.caller.heat("GET", f"{path}/outputs").json()["outputs"][0]
    missing = stacks.caller.heat("GET", f"{path}/outputs/nothing").json()["error"]
    assert missing["message"] == "Specified output key nothing not found."


def test_lists_are_filtered_ordered_and_paged(stacks: Stacks) -> None:
    tag = f"t{uuid4().hex[:6]}"
    names = [f"{tag}-{letter}" for letter in "abc"]
    for number, name in enumerate(names):
        stacks.create(NET, name=name, tags=f"{tag},odd" if number % 2 else tag)

    def seen(query: str) -> list[str]:
        return [one["stack_name"] for one in stacks.caller.heat("GET", f"/stacks?{query}").json()["stacks"]]

    assert seen(f"tags={tag}&sort_keys=stack_name&sort_dir=asc") == names
    assert seen(f"tags={tag},odd") == [names[1]]
    assert seen(f"name={names[2]}") == [names[2]]
    assert set(seen(f"tags={tag}&not-tags=odd")) == {names[0], names[2]}
    path, found = f"/stacks?tags={tag}&limit=2&sort_keys=stack_name&sort_dir=asc&with_count=true", []
    while path:
        body = stacks.caller.heat("GET", path).json()
        assert body["count"] == 3
        found += [one["stack_name"] for one in body["stacks"]]
        links = body.get("links", [])
        path = links[0]["href"].partition(stacks.caller.project)[2] if links else ""
    assert found == names
    assert stacks.caller.heat("GET", "/stacks?limit=x").json()["error"]["message"] == "Only integer is acceptable by 'limit'."
    stacks.delete(stacks.made[0])
    assert seen(f"tags={tag}&sort_keys=stack_name&sort_dir=asc") == names[1:]
    assert names[0] in seen("show_deleted=true")


def test_projects_and_readers_are_kept_apart(stacks: Stacks, caller: Callable[..., Caller]) -> None:
    path = stacks.create(NET)
    viewer, outsider = caller("viewer"), caller("outsider")
    assert viewer.heat("GET", path).status_code == 200
    refused = viewer.heat("POST", "/stacks", {"stack_name": "x", "template": NET})
    assert (refused.status_code, refused.json()["error"]["message"]) == (403, "You are not authorized to use stacks:create.")
    assert viewer.heat("DELETE", path).status_code == 403
    assert outsider.heat("GET", path).status_code == 404
    assert outsider.ask("GET", f"/orchestration/v1/{stacks.caller.project}/stacks").json()["error"]["type"] == "HTTPForbidden"


def test_openstacksdk_makes_and_finds_stacks(stacks: Stacks, cloud: Connection) -> None:
    made = cloud.orchestration.create_stack(name=f"sdk-{uuid4().hex[:6]}", template=NET, parameters={})
    stacks.made.append(f"/stacks/{made.name}/{made.id}")
    stacks.ended(stacks.made[-1], "CREATE_COMPLETE")
    found = cloud.orchestration.find_stack(made.name, ignore_missing=False)
    assert (found.id, found.status) == (made.id, "CREATE_COMPLETE")
    assert [one.id for one in cloud.orchestration.stacks(name=made.name)] == [made.id]
    assert [one.resource_type for one in cloud.orchestration.resources(found)] == ["OS::Neutron::Net"]
    cloud.orchestration.delete_stack(found, ignore_missing=False)
    stacks.ended(stacks.made[-1], "DELETE_COMPLETE")


def test_server_groups_and_cluster_templates_are_really_made(stacks: Stacks) -> None:
    group = stacks.create(TEMPLATES["server_group"].text, {"name": "spread", "policy": "anti-affinity"})
    key = stacks.outputs(stacks.ended(group, "CREATE_COMPLETE"))["server_group_id"]
    shown = stacks.caller.ask("GET", f"/compute/v2.1/os-server-groups/{key}").json()["server_group"]
    assert (shown["name"], shown["policies"]) == ("spread", ["anti-affinity"])
    newer = {"OpenStack-API-Version": "compute 2.64"}
    shown = stacks.caller.ask("GET", f"/compute/v2.1/os-server-groups/{key}", headers=newer).json()["server_group"]
    assert (shown["policy"], "policies" in shown) == ("anti-affinity", False)
    stacks.delete(group)
    assert stacks.caller.ask("GET", f"/compute/v2.1/os-server-groups/{key}").status_code == 404


@pytest.mark.parametrize("kind, flavor", [("cpu", "cpu.large"), ("gpu", "gpu.a100.large"), ("npu", "npu.intel.medium")])
def test_a_cluster_template_stays_while_a_cluster_uses_it(stacks: Stacks, simulator: Running, kind: str, flavor: str) -> None:
    path = stacks.create(TEMPLATES[f"cluster_template_{kind}"].text, {"name": f"{kind}-own"})
    key = stacks.outputs(stacks.ended(path, "CREATE_COMPLETE"))["cluster_template_id"]
    magnum, caller = "/container-infra/v1", stacks.caller
    shown = caller.ask("GET", f"{magnum}/clustertemplates/{key}").json()
    assert (shown["flavor_id"], shown["master_lb_enabled"]) == (flavor, True)  # Heat's own default, which is not Magnum's
    body = {"name": f"{kind}-user", "cluster_template_id": key, "keypair": "kcloud-keypair", "labels": QUICK}
    cluster = caller.ask("POST", f"{magnum}/clusters", body).json()["uuid"]
    wait_until(
        lambda: caller.ask("GET", f"{magnum}/clusters/{cluster}").json().get("status") == "CREATE_COMPLETE", what="the cluster"
    )
    caller.heat("DELETE", path)
    simulator.control("POST", "/clock", {"advance_s": 10})
    assert "referenced by one or multiple clusters" in stacks.ended(path, "DELETE_FAILED")["stack_status_reason"]
    caller.ask("DELETE", f"{magnum}/clusters/{cluster}")
    wait_until(lambda: caller.ask("GET", f"{magnum}/clusters/{cluster}").status_code == 404, what="the cluster to go")
    stacks.delete(path)


def test_stacks_survive_a_restart(tmp_path: Path) -> None:
    def member(running: Running) -> Stacks:
        import requests

        who = {"name": "operator", "domain": {"name": "Default"}, "password": "operator-password"}
        scope = {"project": {"name": "kcloud", "domain": {"name": "Default"}}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": scope}}
        answer = requests.post(f"{running.auth_url}/auth/tokens", json=body, timeout=30)
        return Stacks(Caller(running.url, answer.headers["X-Subject-Token"], answer.json()["token"]["project"]["id"]))

    with running_simulator(state_dir=tmp_path) as running:
        running.control("POST", "/heat", {"seconds": 2})
        path = member(running).create(
            TEMPLATES["network"].text, {"name": "x", "cidr": "10.97.2.0/24", "external_network": "public"}
        )
    with running_simulator(state_dir=tmp_path) as running:
        stacks = member(running)
        told = stacks.outputs(stacks.ended(path, "CREATE_COMPLETE"))
        assert stacks.caller.network("GET", f"/networks/{told['network_id']}").status_code == 200
        stacks.delete(path)
