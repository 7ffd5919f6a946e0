"""Clusters in networks of their own, and what they leave behind."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from openstack.connection import Connection

from simulator.testing import Running
from tests.simulator_heat.conftest import QUICK, Caller
from tests.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")
MAGNUM = "/container-infra/v1"
NOWHERE = "00000000-0000-4000-8000-000000000000"


class Place:
    """A network, and clusters in it."""

    def __init__(self, caller: Caller, cidr: str = "10.88.0.0/24") -> None:
        self.caller = caller
        self.network = caller.network("POST", "/networks", {"network": {"name": f"p-{uuid4().hex[:6]}"}}).json()["network"]
        body = {"subnet": {"network_id": self.network["id"], "cidr": cidr, "ip_version": 4}}
        self.subnet = caller.network("POST", "/subnets", body).json()["subnet"]["id"]
        templates = caller.ask("GET", f"{MAGNUM}/clustertemplates").json()["clustertemplates"]
        self.template = next(one["uuid"] for one in templates if one["name"] == "cpu-only-template")

    def ask(self, **body: Any) -> Any:
        usual = {"name": f"c-{uuid4().hex[:6]}", "cluster_template_id": self.template, "keypair": "kcloud-keypair", "labels": QUICK}
        headers = {"OpenStack-API-Version": "container-infra 1.10"}
        return self.caller.ask("POST", f"{MAGNUM}/clusters", {**usual, **body}, headers=headers)

    def cluster(self, **body: Any) -> str:
        answer = self.ask(**{"fixed_network": self.network["id"], "fixed_subnet": self.subnet, **body})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["uuid"])

    def show(self, uuid: str) -> Any:
        return self.caller.ask("GET", f"{MAGNUM}/clusters/{uuid}")

    def ended(self, uuid: str, status: str) -> dict[str, Any]:
        wait_until(lambda: self.show(uuid).json().get("status", "").rpartition("_")[2] in {"COMPLETE", "FAILED"}, what=uuid)
        seen: dict[str, Any] = self.show(uuid).json()
        assert seen["status"] == status, seen["status_reason"]
        return seen

    def ports(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.caller.network("GET", f"/ports?network_id={self.network['id']}").json()["ports"]
        return found

    def delete(self, uuid: str) -> None:
        self.caller.ask("DELETE", f"{MAGNUM}/clusters/{uuid}")
        wait_until(lambda: self.show(uuid).status_code == 404, what=f"{uuid} to go")

    def drop(self) -> Any:
        return self.caller.network("DELETE", f"/networks/{self.network['id']}")


@pytest.fixture
def place(member: Caller) -> Iterator[Place]:
    made = Place(member)
    yield made
    assert made.drop().status_code == 204


@pytest.mark.parametrize(
    "body, words",
    [
        ({"fixed_network": "nowhere"}, "Unable to find fixed network nowhere."),
        ({"fixed_network": NOWHERE}, f"Unable to find fixed network {NOWHERE}."),
        ({"fixed_subnet": "nowhere"}, "Unable to find fixed subnet nowhere."),
    ],
)
def test_an_unknown_network_is_refused(place: Place, body: dict[str, Any], words: str) -> None:
    answer = place.ask(**body)
    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (400, words)


def test_a_network_of_another_project_is_unknown(place: Place, caller: Callable[..., Caller]) -> None:
    foreign = caller("outsider").network("POST", "/networks", {"network": {}}).json()["network"]["id"]
    assert place.ask(fixed_network=foreign).status_code == 400
    assert caller("outsider").network("DELETE", f"/networks/{foreign}").status_code == 204


def test_a_live_cluster_keeps_its_network(place: Place) -> None:
    uuid = place.cluster(node_count=2)
    seen = place.ended(uuid, "CREATE_COMPLETE")
    assert (seen["fixed_network"], seen["fixed_subnet"]) == (place.network["id"], place.subnet)
    ports = place.ports()
    assert {port["description"] for port in ports} == {uuid}
    assert len({port["fixed_ips"][0]["ip_address"] for port in ports}) == 3  # two workers and a master
    refused = place.drop()
    assert (refused.status_code, refused.json()["NeutronError"]["type"]) == (409, "NetworkInUse")
    place.delete(uuid)
    assert place.ports() == []


def test_ports_follow_the_number_of_nodes(place: Place) -> None:
    uuid = place.cluster(fixed_network=place.network["name"], node_count=3)
    place.ended(uuid, "CREATE_COMPLETE")
    for count in (5, 1):
        headers = {"OpenStack-API-Version": "container-infra 1.10"}
        path = f"{MAGNUM}/clusters/{uuid}/actions/resize"
        assert place.caller.ask("POST", path, {"node_count": count}, headers=headers).status_code == 202
        wait_until(lambda count=count: len(place.ports()) == count + 1, what=f"{count} nodes")  # type: ignore[misc]
        place.ended(uuid, "UPDATE_COMPLETE")
    place.delete(uuid)


def test_a_network_that_is_too_small_fails_the_cluster(member: Caller) -> None:
    place = Place(member, "10.89.0.0/30")
    uuid = place.cluster(node_count=3)
    assert "No more IP addresses available" in place.ended(uuid, "CREATE_FAILED")["status_reason"]
    place.delete(uuid)
    assert place.drop().status_code == 204


def test_a_cluster_without_a_network_of_its_own_has_no_ports(place: Place) -> None:
    before = len(place.caller.network("GET", "/ports").json()["ports"])
    uuid = str(place.ask().json()["uuid"])
    place.ended(uuid, "CREATE_COMPLETE")
    assert len(place.caller.network("GET", "/ports").json()["ports"]) == before
    place.delete(uuid)


def test_nothing_is_left_unless_it_is_asked_for(place: Place, simulator: Running, cloud: Connection) -> None:
    kept = place.cluster(name="leaving")
    tidy = place.cluster(name="tidy")
    simulator.control("POST", "/faults", {"kind": "leftovers", "match": {"name": "^leaving$"}, "count": 1})
    for uuid in (kept, tidy):
        place.ended(uuid, "CREATE_COMPLETE")
        place.delete(uuid)
    ports = [one for one in cloud.network.ports() if kept in one.description]
    floating = [one for one in cloud.network.ips() if kept in (one.description or "")]
    volumes = [one for one in cloud.block_storage.volumes(details=True) if kept in (one.metadata or {}).values()]
    assert (len(ports), len(floating), len(volumes)) == (1, 1, 1)
    everything = [*cloud.network.ports(), *cloud.network.ips(), *cloud.block_storage.volumes(details=True)]
    assert not [one for one in everything if tidy in f"{one.name} {one.description}"]
    assert place.drop().status_code == 409
    cloud.network.delete_port(ports[0].id, ignore_missing=False)
    cloud.network.delete_ip(floating[0].id, ignore_missing=False)
    cloud.block_storage.delete_volume(volumes[0].id, ignore_missing=False)
    assert not list(cloud.block_storage.volumes(details=True))


def test_volumes_of_other_projects_are_not_seen(member: Caller, caller: Callable[..., Caller]) -> None:
    outsider = caller("outsider")
    assert outsider.ask("GET", f"/volume/v3/{member.project}/volumes/detail").status_code == 404
    assert outsider.ask("GET", f"/volume/v3/{outsider.project}/volumes/{NOWHERE}").status_code == 404
    assert member.ask("DELETE", f"/volume/v3/{member.project}/volumes/{NOWHERE}").status_code == 404
