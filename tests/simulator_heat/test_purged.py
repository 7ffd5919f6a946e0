"""Heat's refusal of a removal that meets its own purge: real Heat 27 answers it with 400 and an AttributeError."""

import time
from collections.abc import Iterator

import pytest

from shared.domain.clusters import Scope
from shared.errors import CloudRejected
from shared.openstack.cloud import OpenStackCloud
from shared.openstack.heat import HeatGateway
from shared.services.hot import HotTemplates
from shared.settings import CloudSettings
from simulator.seed import ACCOUNTS
from simulator.testing import Running
from tests.simulator_heat.conftest import Caller


@pytest.fixture
def gateway(simulator: Running, member: Caller) -> HeatGateway:
    password, project, _ = ACCOUNTS["operator"]
    cloud = OpenStackCloud(CloudSettings(simulator.auth_url, "operator", password, project), lambda _scope: None)
    return cloud.stacks(Scope("RegionOne", member.project))


@pytest.fixture
def refused(simulator: Running) -> Iterator[None]:
    reason = "The server could not comply with the request since it is either malformed or otherwise incorrect."
    fault = {"kind": "status", "status": 400, "reason": reason, "match": {"method": "DELETE", "path": "/stacks/purge-"}}
    simulator.control("POST", "/faults", fault)
    yield
    simulator.control("DELETE", "/faults")


def _made(gateway: HeatGateway, name: str) -> str:
    given = {"name": name, "cidr": "10.98.1.0/24", "external_network": "public"}
    ref = gateway.create(name, HotTemplates().network().text, given, timeout_minutes=5)
    _until(gateway, ref, "CREATE_COMPLETE")
    return ref


def _until(gateway: HeatGateway, ref: str, status: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        seen = gateway.get(ref)
        if seen is not None and seen.status == status:
            return
        time.sleep(0.05)
    pytest.fail(f"{ref} did not become {status}")


def test_a_refusal_for_a_stack_that_is_gone_says_that_it_is_gone(gateway: HeatGateway, request: pytest.FixtureRequest) -> None:
    ref = _made(gateway, "purge-gone")
    assert gateway.delete(ref, "purge-gone")
    _until(gateway, ref, "DELETE_COMPLETE")
    request.getfixturevalue("refused")
    assert not gateway.delete(ref, "purge-gone")


def test_a_refusal_for_a_stack_that_stands_stays_a_refusal(gateway: HeatGateway, request: pytest.FixtureRequest) -> None:
    ref = _made(gateway, "purge-stands")
    request.getfixturevalue("refused")
    with pytest.raises(CloudRejected):
        gateway.delete(ref, "purge-stands")
