"""What the product may rely on of Magnum's cluster templates: the fake, the simulator and real services."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from shared.domain.cluster_types import ClusterType
from shared.domain.ports import CloudGateway, Template
from shared.errors import CloudRejected
from shared.services.templates import ensure
from tests.contract.subjects import Subject

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),
]
Make = Callable[..., str]
NOWHERE = "57ac16d1-0000-4000-8000-45ed5b2e7eeb"


def a_type(**changes: Any) -> ClusterType:
    values: dict[str, Any] = {
        "name": f"contract-{uuid4().hex[:8]}",
        "image": "ubuntu-24.04-kube-v1.33.1",
        "flavor": "gpu.a100.large",
        "master_flavor": "cpu.large",
        "network_driver": "calico",
        "external_network": "public",
        "labels": {"workload_type": "training"},
    }
    return ClusterType(**values | changes)


@pytest.fixture
def make(subject: Subject) -> Iterator[Make]:
    """Make a template, and remove it, when the clusters of it are gone."""
    made: list[tuple[CloudGateway, str]] = []

    def one(kind: ClusterType, gateway: CloudGateway | None = None) -> str:
        gateway = gateway or subject.gateway
        uuid = gateway.create_template(kind.body())
        made.append((gateway, uuid))
        return uuid

    yield one
    subject.clean()
    for gateway, uuid in made:
        gateway.delete_template(uuid)


def listed(gateway: CloudGateway, uuid: str) -> Template | None:
    return next((template for template in gateway.catalog().templates if template.uuid == uuid), None)


def test_a_type_is_taken_and_shown_as_it_was_rendered(subject: Subject, make: Make) -> None:
    kind = a_type()
    uuid = make(kind)
    shown = listed(subject.gateway, uuid)
    assert shown is not None
    assert shown.name == kind.body()["name"]
    assert (shown.coe, shown.flavor, shown.master_flavor) == ("kubernetes", "gpu.a100.large", "cpu.large")
    assert (shown.image, shown.network_driver) == ("ubuntu-24.04-kube-v1.33.1", "calico")
    assert shown.image_os == "ubuntu"
    assert shown.labels == {"workload_type": "training"}
    assert shown.created_at is not None
    assert shown.created_at.tzinfo is not None


def test_a_template_is_found_by_its_whole_name(subject: Subject, make: Make) -> None:
    kind = a_type()
    name = kind.body()["name"]
    assert subject.gateway.find_template(name) is None
    uuid = make(kind)
    assert subject.gateway.find_template(name) == uuid
    assert subject.gateway.find_template(name[:-1]) is None


def test_of_twins_everyone_finds_the_older(subject: Subject, make: Make) -> None:
    kind = a_type()
    first = make(kind)
    subject.pause(1.1)  # `created_at` has a resolution of a second
    assert make(kind) != first
    assert subject.gateway.find_template(kind.body()["name"]) == first


def test_to_ensure_twice_makes_one(subject: Subject) -> None:
    body = a_type().body()
    uuid = ensure(subject.gateway, body)
    try:
        assert ensure(subject.gateway, body) == uuid
        assert [template.uuid for template in subject.gateway.catalog().templates if template.name == body["name"]] == [uuid]
    finally:
        subject.gateway.delete_template(uuid)


def test_a_cluster_is_made_of_it_and_holds_it(subject: Subject, make: Make) -> None:
    uuid = make(a_type(labels={"workload_type": "training"}))
    _, seen = subject.made_quick(template=uuid)
    assert seen.template_id == uuid
    assert seen.labels["workload_type"] == "training"
    with pytest.raises(CloudRejected) as caught:
        subject.gateway.delete_template(uuid)
    assert "referenced" in caught.value.detail
    assert listed(subject.gateway, uuid) is not None


def test_a_template_goes_once(subject: Subject, make: Make) -> None:
    uuid = make(a_type())
    assert subject.gateway.delete_template(uuid) is True
    assert subject.gateway.delete_template(uuid) is False
    assert listed(subject.gateway, uuid) is None
    assert subject.gateway.delete_template(NOWHERE) is False


def test_another_projects_template_is_neither_found_nor_listed(subject: Subject, make: Make) -> None:
    # The service's user may be an administrator, whom Magnum shows every project's.
    kind = a_type()
    theirs = make(kind, subject.stranger)
    assert subject.stranger.find_template(kind.body()["name"]) == theirs
    assert subject.gateway.find_template(kind.body()["name"]) is None
    assert listed(subject.gateway, theirs) is None


def test_an_unknown_image_is_refused_in_magnums_words(subject: Subject) -> None:
    with pytest.raises(CloudRejected) as caught:
        subject.gateway.create_template(a_type(image="no-such-image").body())
    assert "no-such-image" in caught.value.detail
