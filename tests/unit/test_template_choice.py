"""Which driver, image and Magnum template a cluster type comes to in a project."""

from dataclasses import replace
from typing import Any

import pytest

from shared.domain.cluster_types import ClusterType
from shared.domain.drivers import CAPI_HELM, HEAT
from shared.domain.ports import Catalog
from shared.errors import CloudError, CloudTimeout, CloudUnavailable
from shared.services.templates import as_template, driver_of, ensure, missing_in, template_of
from tests.builders import SCOPE, a_catalog, a_template
from tests.clocks import ManualClock
from tests.fake_cloud import FakeCloud, Fault, Trouble

UBUNTU, FCOS = "ubuntu-24.04-kube-v1.33.1", "fedora-coreos-42"


def a_type(**changes: Any) -> ClusterType:
    kind = ClusterType("mine", UBUNTU, "gpu.a100.large", "cpu.large", network_driver="calico")
    return replace(kind, images={HEAT.name: FCOS}, network_drivers={HEAT.name: "flannel"}, **changes)


def images(**image_os: str) -> Catalog:
    return replace(a_catalog(), image_os=image_os)


def test_a_cloud_that_has_only_another_drivers_image_gets_that_drivers_template() -> None:
    catalog = images(**{FCOS: "fedora-coreos"})
    assert driver_of(a_type(), catalog) is HEAT
    assert missing_in(a_type(), catalog) == []
    body = a_type().body(driver_of(a_type(), catalog))
    assert (body["image_id"], body["network_driver"]) == (FCOS, "flannel")
    shown = as_template(a_type(), catalog)
    assert (shown.image, shown.image_os, shown.network_driver) == (FCOS, "fedora-coreos", "flannel")


def test_the_usual_image_is_preferred_where_it_is_there() -> None:
    catalog = images(**{FCOS: "fedora-coreos", UBUNTU: "ubuntu"})
    assert as_template(a_type(), catalog).image == UBUNTU


def test_a_named_drivers_image_is_the_one_that_must_be_there() -> None:
    kind = a_type(driver=HEAT.name)
    assert missing_in(kind, images(**{FCOS: "fedora-coreos"})) == []
    assert [finding.field for finding in missing_in(kind, images(**{UBUNTU: "ubuntu"}))] == [f"images.{HEAT.name}"]
    other = a_type(driver=CAPI_HELM.name)
    assert [(finding.field, finding.rule) for finding in missing_in(other, images(**{UBUNTU: ""}))] == [("image", "os_distro")]


def test_what_is_missing_is_named_by_its_field() -> None:
    kind = replace(a_type(), images={}, flavor="none", master_flavor="nor", keypair="lost")
    assert {finding.field for finding in missing_in(kind, images())} == {"flavor", "master_flavor", "keypair", "image"}


def test_of_templates_of_one_content_the_oldest_is_taken() -> None:
    clock = ManualClock()
    name = a_type().body()["name"]
    new, old = a_template(uuid="1", name=name, created_at=clock.now()), a_template(uuid="2", name=name)
    clock.advance(-5)
    old = replace(old, created_at=clock.now())
    catalog = replace(a_catalog(new, old, a_template(uuid="3", name="mine-00000000")), image_os={UBUNTU: "ubuntu"})
    assert template_of(a_type(), catalog) == old
    assert template_of(a_type(flavor="cpu.large"), catalog) is None


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud(ManualClock())


def rendered(cloud: FakeCloud) -> list[str]:
    return [template.uuid for template in cloud.templates if template.name.startswith("mine-")]


@pytest.mark.parametrize("trouble,made", [(Trouble.LOST_EXECUTED, 1), (Trouble.LOST, 0), (Trouble.UNAVAILABLE, 0)])
def test_a_create_without_an_answer_is_looked_for_before_it_is_repeated(cloud: FakeCloud, trouble: Trouble, made: int) -> None:
    gateway, body = cloud.gateway(SCOPE), a_type().body()
    cloud.faults.append(Fault("create_template", trouble))
    with pytest.raises((CloudTimeout, CloudUnavailable)) as caught:
        ensure(gateway, body)
    assert caught.value.retryable
    assert len(rendered(cloud)) == made
    assert [ensure(gateway, body), ensure(gateway, body)] == rendered(cloud) * 2
    assert len(rendered(cloud)) == 1


def test_two_workers_at_once_use_the_same_one(cloud: FakeCloud) -> None:
    clock, gateway, body = cloud.clock, cloud.gateway(SCOPE), a_type().body()
    assert isinstance(clock, ManualClock)

    def the_other_is_faster() -> None:
        gateway.create_template(body)
        clock.advance(2)

    cloud.faults.append(Fault("create_template", None, the_other_is_faster))
    mine = ensure(gateway, body)
    assert len(rendered(cloud)) == 2
    assert mine == rendered(cloud)[0]
    assert ensure(gateway, body) == mine


def test_a_refused_template_is_not_swallowed(cloud: FakeCloud) -> None:
    with pytest.raises(CloudError) as caught:
        ensure(cloud.gateway(SCOPE), replace(a_type(), images={}, image="none-such").body())
    assert "none-such" in caught.value.detail
