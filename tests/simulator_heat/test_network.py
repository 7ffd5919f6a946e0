"""The simulated Neutron's writes. Statuses and error types are those of real services (Neutron 29, OpenStack 2026.2)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from openstack import exceptions
from openstack.connection import Connection

from simulator.network import Neutron
from simulator.store import Store
from tests.simulator_heat.conftest import Caller

pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")
NOWHERE = "00000000-0000-4000-8000-000000000000"


class Net:
    """A network with a subnet and a router, and ways to ask."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.network = self.made("network", name=f"n-{uuid4().hex[:6]}")["id"]
        self.subnet = self.made("subnet", network_id=self.network, cidr="10.91.0.0/24", ip_version=4)["id"]
        self.router = self.made("router")["id"]
        self.public = caller.network("GET", "/networks?name=public").json()["networks"][0]["id"]

    def made(self, kind: str, **body: Any) -> dict[str, Any]:
        answer = self.post(kind, **body)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()[kind]
        return found

    def post(self, kind: str, **body: Any) -> Any:
        return self.caller.network("POST", f"/{kind.replace('_', '-')}s", {kind: body})

    def put(self, kind: str, key: str, **body: Any) -> Any:
        return self.caller.network("PUT", f"/{kind.replace('_', '-')}s/{key}", {kind: body})

    def delete(self, kind: str, key: str) -> Any:
        return self.caller.network("DELETE", f"/{kind.replace('_', '-')}s/{key}")

    def interface(self, verb: str, **body: Any) -> Any:
        return self.caller.network("PUT", f"/routers/{self.router}/{verb}_router_interface", body)

    def outside(self, gateway: str | None) -> Any:
        return self.put("router", self.router, external_gateway_info={"network_id": gateway} if gateway else None)


@pytest.fixture
def net(member: Caller) -> Iterator[Net]:
    made = Net(member)
    yield made
    made.put("router", made.router, routes=[])
    for floating in member.network("GET", "/floatingips").json()["floatingips"]:
        made.delete("floatingip", floating["id"])
    made.interface("remove", subnet_id=made.subnet)
    for port in member.network("GET", f"/ports?network_id={made.network}").json()["ports"]:
        made.delete("port", port["id"])
    assert made.delete("router", made.router).status_code == 204
    assert made.delete("network", made.network).status_code == 204
    assert member.network("GET", f"/subnets/{made.subnet}").status_code == 404


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["NeutronError"]["type"]


def test_openstacksdk_makes_finds_changes_and_removes_a_network_to_the_outside(cloud: Connection) -> None:
    network = cloud.network.create_network(name="sdk-net")
    subnet = cloud.network.create_subnet(network_id=network.id, cidr="10.92.0.0/24", ip_version=4, name="sdk-sub")
    public = cloud.network.find_network("public", ignore_missing=False)
    router = cloud.network.create_router(name="sdk-router", external_gateway_info={"network_id": public.id})
    assert router.external_gateway_info["external_fixed_ips"][0]["ip_address"].startswith("172.24.")
    cloud.network.add_interface_to_router(router, subnet=subnet.id)
    port = next(iter(cloud.network.ports(device_id=router.id)))
    assert port.fixed_ips == [{"subnet_id": subnet.id, "ip_address": "10.92.0.1"}]
    assert [one.id for one in cloud.network.ports(fixed_ips=f"subnet_id={subnet.id}")] == [port.id]
    assert [one.id for one in cloud.network.networks(name="sdk-net", is_router_external=False)] == [network.id]
    assert cloud.network.update_network(network, description="changed").description == "changed"
    group = cloud.network.create_security_group(name="sdk-group")
    assert {rule["direction"] for rule in group.security_group_rules} == {"egress"}
    rule = cloud.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
    )
    assert rule.id in {one["id"] for one in cloud.network.get_security_group(group).security_group_rules}
    cloud.network.set_tags(network, ["a", "b"])
    assert [one.id for one in cloud.network.networks(tags="a,b")] == [network.id]
    with pytest.raises(exceptions.ConflictException, match="still in use"):
        cloud.network.delete_network(network)
    cloud.network.remove_interface_from_router(router, subnet=subnet.id)
    cloud.network.delete_router(router, ignore_missing=False)
    cloud.network.delete_network(network, ignore_missing=False)
    cloud.network.delete_security_group(group, ignore_missing=False)
    assert not list(cloud.network.networks(name="sdk-net"))
    assert not list(cloud.network.subnets(name="sdk-sub"))


@pytest.mark.parametrize(
    "kind, body, answer",
    [
        ("network", {"colour": "x"}, (400, "HTTPBadRequest")),
        ("network", {"admin_state_up": "x"}, (400, "InvalidInput")),
        ("network", {"name": 5}, (400, "HTTPBadRequest")),
        ("network", {"tags": ["x"]}, (400, "HTTPBadRequest")),
        ("network", {"shared": True}, (403, "PolicyNotAuthorized")),
        ("network", {"router:external": True}, (403, "PolicyNotAuthorized")),
        ("subnet", {"cidr": "10.0.0.0/24", "ip_version": 4}, (400, "HTTPBadRequest")),
        ("subnet", {"network_id": NOWHERE, "cidr": "10.0.0.0/24", "ip_version": 4}, (404, "NetworkNotFound")),
        ("subnet", {"network_id": "x", "cidr": "10.0.0.0/24", "ip_version": 4}, (400, "HTTPBadRequest")),
        ("router", {"external_gateway_info": {"network_id": NOWHERE}}, (404, "NetworkNotFound")),
        ("router", {"external_gateway_info": "x"}, (400, "HTTPBadRequest")),
        ("port", {}, (400, "HTTPBadRequest")),
        ("floatingip", {}, (400, "HTTPBadRequest")),
        ("security_group", {"name": "default"}, (409, "SecurityGroupDefaultAlreadyExists")),
        ("security_group_rule", {"security_group_id": NOWHERE, "direction": "ingress"}, (404, "SecurityGroupNotFound")),
    ],
)
def test_what_neutron_does_not_take_is_refused(net: Net, kind: str, body: dict[str, Any], answer: tuple[int, str]) -> None:
    assert refused(net.post(kind, **body)) == answer


def test_a_body_without_the_thing_is_refused(member: Caller) -> None:
    answer = member.network("POST", "/networks", {"net": {}})
    assert answer.json()["NeutronError"]["message"] == "Unable to find 'network' in request body"
    assert member.ask("POST", "/network/v2.0/networks", data="{").status_code == 400


def test_ranges_of_a_network_do_not_meet(net: Net) -> None:
    for cidr, version in (("10.91.0.0/25", 4), ("x", 4), ("10.93.0.0/24", 6)):
        assert refused(net.post("subnet", network_id=net.network, cidr=cidr, ip_version=version)) == (400, "InvalidInput")
    loose = net.made("subnet", network_id=net.network, cidr="10.93.0.7/24", ip_version=4)
    assert (loose["cidr"], loose["gateway_ip"]) == ("10.93.0.0/24", "10.93.0.1")
    assert loose["allocation_pools"] == [{"start": "10.93.0.2", "end": "10.93.0.254"}]
    assert refused(net.put("subnet", loose["id"], cidr="10.94.0.0/24")) == (400, "HTTPBadRequest")
    assert refused(net.put("subnet", loose["id"], gateway_ip="10.99.0.1")) == (400, "InvalidInput")


def test_ranges_of_a_router_do_not_meet(net: Net) -> None:
    assert net.interface("add", subnet_id=net.subnet).status_code == 200
    other = net.made("network")["id"]
    meeting = net.made("subnet", network_id=other, cidr="10.91.0.0/26", ip_version=4)["id"]
    answer = net.interface("add", subnet_id=meeting)
    assert refused(answer) == (400, "BadRequest")
    assert "overlaps with cidr 10.91.0.0/24" in answer.json()["NeutronError"]["message"]
    assert refused(net.interface("add", subnet_id=net.subnet)) == (400, "BadRequest")
    assert refused(net.interface("add")) == (400, "BadRequest")
    assert refused(net.interface("add", subnet_id=NOWHERE)) == (404, "SubnetNotFound")
    assert refused(net.interface("remove", subnet_id=meeting)) == (404, "RouterInterfaceNotFoundForSubnet")
    assert net.delete("network", other).status_code == 204


def test_what_is_in_use_stays(net: Net) -> None:
    port = net.interface("add", subnet_id=net.subnet).json()["port_id"]
    assert refused(net.delete("router", net.router)) == (409, "RouterInUse")
    assert refused(net.delete("subnet", net.subnet)) == (409, "SubnetInUse")
    assert refused(net.delete("network", net.network)) == (409, "NetworkInUse")
    assert refused(net.delete("port", port)) == (409, "ServicePortInUse")
    group = net.made("security_group", name="g")["id"]
    user = net.made("port", network_id=net.network, security_groups=[group])["id"]
    assert refused(net.delete("security_group", group)) == (409, "SecurityGroupInUse")
    assert net.delete("port", user).status_code == 204
    assert net.delete("security_group", group).status_code == 204


def test_the_way_outside_is_external(net: Net) -> None:
    assert refused(net.outside(net.network)) == (400, "BadRequest")
    assert net.outside(net.public).json()["router"]["external_gateway_info"]["network_id"] == net.public
    # The port there belongs to no project, so that its maker does not see it.
    assert net.caller.network("GET", f"/ports?device_id={net.router}").json()["ports"] == []
    assert net.outside(None).json()["router"]["external_gateway_info"] is None


def test_routes_lead_to_where_the_router_is(net: Net) -> None:
    net.interface("add", subnet_id=net.subnet)
    path, route = f"/routers/{net.router}", {"destination": "10.99.0.0/24", "nexthop": "10.91.0.9"}
    far = {"destination": "10.99.0.0/24", "nexthop": "10.5.0.9"}
    added = net.caller.network("PUT", f"{path}/add_extraroutes", {"router": {"routes": [route]}})
    assert added.json()["router"]["routes"] == [route]
    assert refused(net.caller.network("PUT", f"{path}/add_extraroutes", {"router": {"routes": [far]}})) == (400, "InvalidRoutes")
    assert refused(net.put("router", net.router, routes=[{"destination": "x", "nexthop": "10.91.0.9"}])) == (400, "HTTPBadRequest")
    assert refused(net.interface("remove", subnet_id=net.subnet)) == (409, "RouterInterfaceInUseByRoute")
    gone = net.caller.network("PUT", f"{path}/remove_extraroutes", {"router": {"routes": [route, far]}})
    assert gone.json()["router"]["routes"] == []
    assert net.interface("remove", subnet_id=net.subnet).status_code == 200


def test_addresses_are_given_once(net: Net) -> None:
    first = net.made("port", network_id=net.network)
    place = first["fixed_ips"][0]["ip_address"]
    assert first["security_groups"]
    for wish, answer in (
        ({"ip_address": place}, (409, "IpAddressAlreadyAllocated")),
        ({"subnet_id": net.subnet, "ip_address": "10.5.5.5"}, (400, "InvalidIpForSubnet")),
        ({"subnet_id": NOWHERE}, (404, "SubnetNotFound")),
    ):
        assert refused(net.post("port", network_id=net.network, fixed_ips=[wish])) == answer
    small = net.made("network")["id"]
    net.made("subnet", network_id=small, cidr="10.95.0.0/30", ip_version=4)
    only = net.made("port", network_id=small)["id"]
    assert refused(net.post("port", network_id=small)) == (409, "IpAddressGenerationFailure")
    net.delete("port", only)
    assert net.delete("network", small).status_code == 204


def test_a_floating_ip_needs_a_way_to_its_port(net: Net) -> None:
    assert refused(net.post("floatingip", floating_network_id=net.network)) == (400, "BadRequest")
    floating = net.made("floatingip", floating_network_id=net.public)["id"]
    port = net.made("port", network_id=net.network)["id"]
    assert refused(net.put("floatingip", floating, port_id=port)) == (404, "ExternalGatewayForFloatingIPNotFound")
    net.interface("add", subnet_id=net.subnet)
    net.outside(net.public)
    joined = net.put("floatingip", floating, port_id=port).json()["floatingip"]
    assert (joined["router_id"], joined["port_id"]) == (net.router, port)
    second = net.post("floatingip", floating_network_id=net.public, port_id=port)
    assert refused(second) == (409, "FloatingIPPortAlreadyAssociated")
    assert refused(net.interface("remove", subnet_id=net.subnet)) == (409, "RouterInterfaceInUseByFloatingIP")
    assert refused(net.outside(None)) == (409, "RouterExternalGatewayInUseByFloatingIp")
    assert net.delete("port", port).status_code == 204
    left = net.caller.network("GET", f"/floatingips/{floating}").json()["floatingip"]
    assert (left["port_id"], left["router_id"]) == (None, None)


@pytest.mark.parametrize(
    "rule, kind",
    [
        ({"direction": "sideways"}, "HTTPBadRequest"),
        ({"direction": "ingress", "ethertype": "IPx"}, "SecurityGroupRuleInvalidEtherType"),
        ({"direction": "ingress", "protocol": "banana"}, "SecurityGroupRuleInvalidProtocol"),
        ({"direction": "ingress", "port_range_min": 5}, "SecurityGroupProtocolRequiredWithPorts"),
        ({"direction": "ingress", "protocol": "tcp", "port_range_min": 5, "port_range_max": 1}, "SecurityGroupInvalidPortRange"),
        (
            {"direction": "ingress", "protocol": "tcp", "port_range_min": 70000, "port_range_max": 70000},
            "SecurityGroupInvalidPortValue",
        ),
        ({"direction": "ingress", "remote_ip_prefix": "x"}, "InvalidCIDR"),
        (
            {"direction": "ingress", "remote_ip_prefix": "10.0.0.0/8", "remote_group_id": NOWHERE},
            "SecurityGroupMultipleRemoteEntites",
        ),
    ],
)
def test_rules_make_sense(net: Net, rule: dict[str, Any], kind: str) -> None:
    group = net.made("security_group", name="rules")["id"]
    assert refused(net.post("security_group_rule", security_group_id=group, **rule)) == (400, kind)
    assert net.delete("security_group", group).status_code == 204


def test_a_rule_is_made_once(net: Net) -> None:
    group = net.made("security_group", name="rules")["id"]
    rule = {"security_group_id": group, "direction": "ingress", "remote_ip_prefix": "10.1.0.0/24"}
    first = net.made("security_group_rule", **rule)
    answer = net.post("security_group_rule", **rule)
    assert refused(answer) == (409, "SecurityGroupRuleExists")
    assert first["id"] in answer.json()["NeutronError"]["message"]
    assert net.delete("security_group", group).status_code == 204
    assert net.caller.network("GET", f"/security-group-rules/{first['id']}").status_code == 404


def test_tags_are_set_asked_for_and_removed(net: Net) -> None:
    path = f"/networks/{net.network}/tags"
    assert net.caller.network("PUT", path, {"tags": ["a", "b"]}).json() == {"tags": ["a", "b"]}
    assert net.caller.network("PUT", f"{path}/c").status_code == 201
    for query, found in (("tags=a,b", 1), ("tags=a,z", 0), ("tags-any=a,z", 1), ("not-tags=a", 0), ("not-tags-any=a,z", 0)):
        seen = net.caller.network("GET", f"/networks?id={net.network}&{query}").json()["networks"]
        assert len(seen) == found, query
    assert net.caller.network("DELETE", f"{path}/c").status_code == 204
    assert refused(net.caller.network("DELETE", f"{path}/c")) == (404, "TagNotFound")
    assert net.caller.network("DELETE", path).status_code == 204
    assert net.caller.network("GET", path).json() == {"tags": []}


def test_lists_are_filtered_ordered_and_paged(net: Net) -> None:
    mine = sorted(net.made("network", name=name)["id"] for name in ("page-a", "page-b", "page-c"))
    chosen = "&".join(f"id={key}" for key in mine)
    told = net.caller.network("GET", f"/networks?{chosen}&fields=id").json()["networks"]
    assert sorted(told, key=lambda one: str(one["id"])) == [{"id": key} for key in mine]
    seen, path = [], f"/networks?{chosen}&limit=2&sort_key=name&sort_dir=desc"
    while path:
        body = net.caller.network("GET", path).json()
        seen += [one["name"] for one in body["networks"]]
        links = body.get("networks_links", [])
        path = links[0]["href"].partition("/v2.0")[2] if links else ""
    assert seen == ["page-c", "page-b", "page-a"]
    for query, answer in (
        ("banana=1", (400, "HTTPBadRequest")),
        ("limit=x", (400, "HTTPBadRequest")),
        ("limit=1&marker=nope", (404, "NetworkNotFound")),
        ("shared=perhaps", (400, "InvalidInput")),
    ):
        assert refused(net.caller.network("GET", f"/networks?{query}")) == answer
    for key in mine:
        assert net.delete("network", key).status_code == 204


def test_projects_and_readers_are_kept_apart(net: Net, caller: Callable[..., Caller]) -> None:
    viewer, outsider = caller("viewer"), caller("outsider")
    assert viewer.network("GET", f"/networks/{net.network}").status_code == 200
    assert refused(viewer.network("POST", "/networks", {"network": {}})) == (403, "PolicyNotAuthorized")
    assert refused(viewer.network("DELETE", f"/networks/{net.network}")) == (403, "PolicyNotAuthorized")
    assert refused(outsider.network("GET", f"/networks/{net.network}")) == (404, "NetworkNotFound")
    port = {"port": {"network_id": net.network}}
    assert refused(outsider.network("POST", "/ports", port)) == (404, "NetworkNotFound")
    assert refused(net.delete("network", net.public)) == (403, "PolicyNotAuthorized")
    assert refused(net.post("port", network_id=net.public)) == (403, "PolicyNotAuthorized")


def test_quotas_hold(caller: Callable[..., Caller]) -> None:
    admin, outsider = caller("admin"), caller("outsider")
    path = f"/quotas/{outsider.project}"
    assert refused(outsider.network("PUT", path, {"quota": {"network": 5}})) == (403, "PolicyNotAuthorized")
    for wrong in ({"banana": 5}, {"network": -5}, {"network": "x"}):
        assert refused(admin.network("PUT", path, {"quota": wrong})) == (400, "HTTPBadRequest")
    assert admin.network("PUT", path, {"quota": {"network": 1}}).json()["quota"]["network"] == 1
    made = outsider.network("POST", "/networks", {"network": {}}).json()["network"]["id"]
    answer = outsider.network("POST", "/networks", {"network": {}})
    assert answer.json()["NeutronError"]["message"] == "Quota exceeded for resources: ['network']."
    assert answer.status_code == 409
    told = outsider.network("GET", f"{path}/details.json").json()["quota"]["network"]
    assert told == {"limit": 1, "used": 1, "reserved": 0}
    assert admin.network("DELETE", path).status_code == 204
    second = outsider.network("POST", "/networks", {"network": {}})
    assert second.status_code == 201
    for key in (made, second.json()["network"]["id"]):
        assert outsider.network("DELETE", f"/networks/{key}").status_code == 204


def test_all_of_it_survives_a_restart(tmp_path: Path) -> None:
    first = Neutron(Store(tmp_path))
    made = first.create("network", "p", {"name": "kept"})
    first.create("subnet", "p", {"network_id": made["id"], "cidr": "10.1.0.0/24"})
    first.touch("network", made, tags=["a"])
    first.quotas.put("p", {"router": 3})
    again = Neutron(Store(tmp_path))
    assert again.networks[made["id"]]["tags"] == ["a"]
    assert len(again.networks[made["id"]]["subnets"]) == 1
    assert again.quotas.of("p")["router"] == 3
