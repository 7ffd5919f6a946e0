"""What the product may rely on of Heat, with the templates that it ships: the fake, the simulator and real services."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import yaml

from shared.domain.clusters import Phase, Scope
from shared.domain.ports import StackGateway
from shared.domain.stacks import ObservedStack, Stack
from shared.errors import CloudRejected
from shared.services.hot import HotTemplates
from shared.services.interconnect import Member, document_for
from tests.builders import NOW, a_cluster
from tests.contract.subjects import Subject

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
]
TEMPLATES = HotTemplates()
MINUTES = 5


class Made:
    """The stacks of a test, removed after it, latest first."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.gateway: StackGateway = subject.cloud.stacks(subject.scope)
        self._ids: list[tuple[str, str]] = []

    def create(self, template: str, parameters: dict[str, Any], *, text: str | None = None) -> str:
        name = f"contract-{uuid4().hex[:8]}"
        known = TEMPLATES.get(template)
        assert known is not None
        made = self.gateway.create(name, text or known.text, {"name": name, **parameters}, timeout_minutes=MINUTES)
        self._ids.append((made, name))
        return made

    def name(self, ref: str) -> str:
        return next(name for made, name in self._ids if made == ref)

    def arrived(self, ref: str, *statuses: str) -> ObservedStack:
        def ask() -> ObservedStack | None:
            seen = self.gateway.get(ref)
            return seen if seen is not None and seen.status in statuses else None

        seen = self.subject.until(ask, f"{ref} in {statuses}")
        assert seen is not None
        return seen

    def network(self, cidr: str) -> tuple[str, ObservedStack]:
        made = self.create("network", {"cidr": cidr, "external_network": "public"})
        return made, self.arrived(made, "CREATE_COMPLETE", "CREATE_FAILED")

    def clean(self) -> None:
        for made, name in reversed(self._ids):
            self.gateway.delete(made, name)
            self.subject.until(lambda ref=made: self._gone(ref), f"{name} gone")  # type: ignore[misc]

    def _gone(self, ref: str) -> bool:
        seen = self.gateway.get(ref)
        return seen is None or seen.status == "DELETE_COMPLETE"


@pytest.fixture
def made(subject: Subject) -> Iterator[Made]:
    known = Made(subject)
    yield known
    known.clean()


def test_a_network_comes_and_goes(made: Made) -> None:
    ref, seen = made.network("10.99.1.0/24")
    assert seen.status == "CREATE_COMPLETE", seen.status_reason
    assert seen.outputs["cidr"] == "10.99.1.0/24"
    assert all(seen.outputs[name] for name in ("network_id", "subnet_id", "router_id", "security_group_id"))
    assert (seen.name, seen.tags) == (made.name(ref), ("kcloud",))
    types = {resource.type for resource in made.gateway.resources(ref, seen.name)}
    assert types == {
        "OS::Neutron::Net",
        "OS::Neutron::Subnet",
        "OS::Neutron::Router",
        "OS::Neutron::RouterInterface",
        "OS::Neutron::SecurityGroup",
    }
    by_name = made.gateway.get(seen.name)
    assert by_name is not None
    assert by_name.id == ref
    assert ref in {stack.id for stack in made.gateway.listed()}
    assert made.gateway.delete(ref, seen.name)
    made.arrived(ref, "DELETE_COMPLETE")
    assert made.gateway.get(seen.name) is None
    assert ref not in {stack.id for stack in made.gateway.listed()}
    assert made.gateway.delete(ref, seen.name) in {True, False}  # Heat answers 404 or 204 to a stack that is gone


def test_the_project_sees_its_subnets_and_the_way_outside(subject: Subject, made: Made) -> None:
    if not hasattr(subject.cloud, "heat"):
        _, seen = made.network("10.99.2.0/24")
        assert "10.99.2.0/24" in {cidr for _, cidr in made.gateway.subnets()}
        assert seen.status == "CREATE_COMPLETE"
    assert "public" in made.gateway.external_networks()


def test_a_name_is_given_once(made: Made) -> None:
    ref, seen = made.network("10.99.3.0/24")
    template = TEMPLATES.network()
    with pytest.raises(CloudRejected) as refused:
        made.gateway.create(
            made.name(ref),
            template.text,
            {"name": "x", "cidr": "10.99.4.0/24", "external_network": "public"},
            timeout_minutes=MINUTES,
        )
    assert refused.value.upstream_status == 409
    assert seen.status == "CREATE_COMPLETE"


def test_an_update_shows_by_a_new_time_and_changes_what_it_must(made: Made) -> None:
    ref, before = made.network("10.99.5.0/24")
    parameters = {"name": made.name(ref), "cidr": "10.99.5.0/24", "external_network": "public", "dns": ["9.9.9.9"]}
    text = TEMPLATES.network().text
    changes = made.gateway.preview_update(ref, before.name, text, parameters)
    assert not changes["deleted"]
    made.gateway.update(ref, before.name, text, parameters, timeout_minutes=MINUTES)
    after = made.arrived(ref, "UPDATE_COMPLETE", "UPDATE_FAILED")
    assert after.status == "UPDATE_COMPLETE", after.status_reason
    assert after.updated_at != before.updated_at
    assert after.outputs["network_id"] == before.outputs["network_id"]


@pytest.mark.parametrize("name", sorted(TEMPLATES.all))
def test_every_shipped_template_is_taken(made: Made, name: str) -> None:
    template = TEMPLATES.get(name)
    assert template is not None
    given = {"name": "preview", "cidr": "10.99.6.0/24", "external_network": "public"}
    wanted = {key: value for key, value in given.items() if key in template.parameters}
    previewed = made.gateway.preview(f"preview-{uuid4().hex[:8]}", template.text, wanted)
    assert {resource.name for resource in previewed} == set(yaml.safe_load(template.text)["resources"])


def test_what_the_template_does_not_take_is_refused(made: Made) -> None:
    with pytest.raises(CloudRejected) as refused:
        made.gateway.preview("preview", TEMPLATES.network().text, {"cidr": "10.99.7.0/24", "colour": "blue"})
    assert refused.value.upstream_status == 400
    assert "colour" in refused.value.detail


def test_what_carries_a_mark_is_found(subject: Subject, made: Made) -> None:
    ref, seen = made.network("10.99.12.0/24")
    found = made.gateway.carrying([ref, "no-such-mark-anywhere", seen.name])
    assert not found.get("no-such-mark-anywhere")
    if not hasattr(subject.cloud, "heat"):  # of real routers' ports none is named; a port of a name is made in Neutron itself
        network = subject.login_network()
        port = network.create_port(network_id=seen.outputs["network_id"], name=f"left-by-{seen.name}")
        try:
            (left,) = made.gateway.carrying([seen.name])[seen.name]
            assert (left.kind, left.id) == ("port", port.id)
        finally:
            network.delete_port(port)


def test_nothing_is_shown_of_what_is_not_there(made: Made) -> None:
    assert made.gateway.get("57ac16d1-0000-4000-8000-45ed5b2e7eeb") is None
    assert made.gateway.get("no-such-stack") is None
    assert not made.gateway.delete("57ac16d1-0000-4000-8000-45ed5b2e7eeb", "no-such-stack")


def test_two_networks_are_connected_and_taken_apart(subject: Subject, made: Made) -> None:
    members = []
    for index, cidr in enumerate(("10.99.8.0/24", "10.99.9.0/24", "10.99.10.0/24")):
        _, seen = made.network(cidr)
        members.append(_member(f"c{index}", subject.scope, seen))
    template = TEMPLATES.get("interconnect")
    assert template is not None
    ref = made.create("interconnect", {"cidr": "10.99.11.0/24"}, text=document_for(template, members[:2]))
    seen = made.arrived(ref, "CREATE_COMPLETE", "CREATE_FAILED")
    assert seen.status == "CREATE_COMPLETE", seen.status_reason

    name = made.name(ref)
    parameters = {"name": name, "cidr": "10.99.11.0/24"}
    made.gateway.update(ref, name, document_for(template, members), parameters, timeout_minutes=MINUTES)
    seen = made.arrived(ref, "UPDATE_COMPLETE", "UPDATE_FAILED")
    assert seen.status == "UPDATE_COMPLETE", seen.status_reason
    made.gateway.update(ref, name, document_for(template, members[1:]), parameters, timeout_minutes=MINUTES)
    subject.pause(1.5)
    seen = made.arrived(ref, "UPDATE_COMPLETE", "UPDATE_FAILED")
    assert seen.status == "UPDATE_COMPLETE", seen.status_reason


def _member(name: str, scope: Scope, seen: ObservedStack) -> Member:
    cluster = a_cluster(name)
    stack = Stack(
        id=cluster.id,
        project_id=scope.project_id,
        region=scope.region,
        name=name,
        heat_name=seen.name,
        template="network",
        created_at=NOW,
        updated_at=NOW,
        outputs=seen.outputs,
        phase=Phase.READY,
    )
    return Member(cluster, stack)
