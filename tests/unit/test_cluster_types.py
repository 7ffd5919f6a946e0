"""Cluster types: what a file may say, and the Magnum templates that come of it."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.cluster_types import ClusterType, parse, parse_file
from shared.domain.drivers import CAPI_HELM, DRIVERS, HEAT
from shared.services.templates import FILE, ShippedTypes

MINE: dict[str, Any] = {"name": "mine", "image": "ubuntu", "flavor": "gpu", "master_flavor": "cpu"}


def made(**changes: Any) -> ClusterType:
    kind, findings = parse(MINE | changes)
    assert not findings
    assert kind is not None
    return kind


def test_the_shipped_file_is_right() -> None:
    assert set(ShippedTypes().all) == {
        "gpu-intensive-template",
        "npu-optimized-template",
        "hybrid-balanced-template",
        "cpu-only-template",
    }
    assert [group.name for group in ShippedTypes().all["hybrid-balanced-template"].node_groups] == ["gpu", "npu"]
    for kind in ShippedTypes().all.values():
        for driver in DRIVERS:
            assert kind.body(driver)["network_driver"] in driver.network_drivers


def test_the_seeds_form_is_taken() -> None:
    seed = """
cluster_templates:
  npu_optimized:
    name: "npu-optimized-template"
    coe: "kubernetes"
    image: "fedora-atomic-k8s"
    flavor: "npu.intel.medium"
    master_flavor: "cpu.medium"
    node_count: 2
    master_count: 1
    labels:
      npu_enabled: "true"
"""
    types, findings = parse_file(yaml.safe_load(seed))
    assert not findings
    assert types["npu-optimized-template"].node_count == 2


def test_everything_wrong_is_said_at_once_with_its_place() -> None:
    document = {
        "cluster_templates": {
            "a": {
                "name": "9a",
                "coe": "swarm",
                "image": 5,
                "flavor": "gpu",
                "flavour": "gpu",
                "node_count": -1,
                "master_count": 2,
                "master_lb_enabled": "yes",
                "labels": {"gpu_enabled": True},
                "network_drivers": {"k8s_capi_helm_v1": "flannel", "k8s_magic": "calico"},
                "node_groups": [{"name": "default-worker"}, {"name": "g", "flavor": "x", "node_count": 3, "max_node_count": 2}],
            },
            "b": [],
        }
    }
    types, findings = parse_file(document)
    assert not types
    assert {finding.field.removeprefix("cluster_templates.") for finding in findings} == {
        "a.name",
        "a.coe",
        "a.image",
        "a.flavour",
        "a.master_flavor",
        "a.node_count",
        "a.master_count",
        "a.master_lb_enabled",
        "a.labels.gpu_enabled",
        "a.network_drivers.k8s_capi_helm_v1",
        "a.network_drivers.k8s_magic",
        "a.node_groups.0.name",
        "a.node_groups.0.flavor",
        "a.node_groups.1.max_node_count",
        "b",
    }


@pytest.mark.parametrize("document", [None, [], {}, {"cluster_templates": 3}])
def test_a_file_of_another_form_is_refused(document: Any) -> None:
    assert parse_file(document)[1][0].field == "cluster_templates"


def test_a_changed_type_is_another_template_and_an_equal_one_is_the_same() -> None:
    first = made(labels={"a": "1", "b": "2"})
    assert first.body()["name"] == made(labels={"b": "2", "a": "1"}).body()["name"]
    assert first.body()["name"].startswith("mine-")
    names = {
        first.body()["name"],
        made(labels={"a": "1"}).body()["name"],
        made(flavor="gpu2").body()["name"],
        made(image="other").body()["name"],
        made(master_lb_enabled=True).body()["name"],
    }
    assert len(names) == 5
    # What a request may say for itself is not the template's.
    assert made(node_count=7).body() == made().body()


def test_drivers_get_their_own_image_and_cni() -> None:
    kind = made(image="ubuntu", images={HEAT.name: "fcos"}, network_driver="calico", network_drivers={HEAT.name: "flannel"})
    assert (kind.body(CAPI_HELM)["image_id"], kind.body(CAPI_HELM)["network_driver"]) == ("ubuntu", "calico")
    assert (kind.body(HEAT)["image_id"], kind.body(HEAT)["network_driver"]) == ("fcos", "flannel")
    assert kind.body(HEAT)["name"] != kind.body(CAPI_HELM)["name"]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*ClusterType.__dataclass_fields__, "other"]), _VALUES))
def test_any_document_is_a_type_or_has_findings(document: dict[str, Any]) -> None:
    kind, findings = parse(document)
    assert (kind is None) == bool(findings)
    if kind is not None:
        assert parse(kind.content())[0] == kind


def test_what_was_written_is_read_again() -> None:
    assert FILE.exists()
    for kind in ShippedTypes().all.values():
        again, findings = parse(kind.content())
        assert not findings
        assert again == kind


def test_no_workers_are_not_one() -> None:
    kind = made(node_count=0, node_groups=[{"name": "g", "flavor": "gpu", "node_count": 0, "min_node_count": 0}])
    assert kind.content()["node_count"] == 0
    assert kind.content()["node_groups"][0]["node_count"] == 0
    assert parse(kind.content())[0] == kind


def test_nulls_in_a_group_stand_for_the_usual() -> None:
    (group,) = made(
        node_groups=[{"name": "g", "flavor": "gpu", "node_count": None, "min_node_count": 0, "role": None, "labels": None}]
    ).node_groups
    assert (group.node_count, group.least, group.role, group.labels) == (1, 0, "worker", {})


@pytest.mark.parametrize(
    "changes,field,rule",
    [
        ({"name": None}, "name", "pattern"),
        ({"name": "default-master"}, "name", "pattern"),
        ({"name": "g" * 234}, "name", "pattern"),
        ({"flavor": ""}, "flavor", "required"),
        ({"flavor": 7}, "flavor", "string"),
        ({"flavor": "f" * 256}, "flavor", "string"),
        ({"role": 5}, "role", "pattern"),
        ({"role": "master"}, "role", "pattern"),
        ({"node_count": True}, "node_count", "range"),
        ({"node_count": 1001}, "node_count", "range"),
        ({"max_node_count": 0}, "max_node_count", "range"),
        ({"node_count": 3, "max_node_count": 2}, "max_node_count", "range"),
        ({"min_node_count": 2}, "min_node_count", "range"),
        ({"labels": ["a"]}, "labels", "object"),
        ({"labels": {"a": 1}}, "labels.a", "string"),
        ({"labels": {"kcloud_job_id": "x"}}, "labels.kcloud_job_id", "reserved"),
        ({"size": 1}, "size", "unknown"),
    ],
)
def test_a_groups_wrong_field_is_named(changes: dict[str, Any], field: str, rule: str) -> None:
    kind, findings = parse(MINE | {"node_groups": [{"name": "g", "flavor": "gpu"} | changes]})
    assert kind is None
    assert [(finding.field, finding.rule) for finding in findings] == [(f"node_groups.0.{field}", rule)]


_GROUP_VALUES = st.none() | st.integers(-1, 4) | st.booleans() | st.sampled_from(["", "g", "worker", "master", "9"])


@given(
    st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["g", "h", "9", None]), "flavor": st.sampled_from(["gpu", "", None])},
            optional={
                **dict.fromkeys(("node_count", "min_node_count", "max_node_count", "role"), _GROUP_VALUES),
                "labels": st.none() | st.dictionaries(st.sampled_from(["a", "kcloud_a"]), _GROUP_VALUES, max_size=2),
            },
        ),
        max_size=3,
    )
)
def test_no_group_is_lost_or_taken_wrong(groups: list[dict[str, Any]]) -> None:
    kind, findings = parse(MINE | {"node_groups": groups})
    assert (kind is None) == bool(findings)
    if kind is None:
        return
    assert [group.name for group in kind.node_groups] == [group["name"] for group in groups]
    assert len({group.name for group in kind.node_groups}) == len(groups)
    assert parse(kind.content())[0] == kind
    for group in kind.node_groups:
        assert (group.least or 0) <= group.node_count <= (group.most or group.node_count)
        assert group.role != "master"


@pytest.mark.parametrize("driver", ["k8s_cluster_api", "k8s_cluster_api_v1"])
def test_a_named_driver_does_not_take_every_cni(driver: str) -> None:
    findings = parse(MINE | {"driver": driver, "network_driver": "flannel"})[1]
    assert [(finding.field, finding.rule) for finding in findings] == [("network_driver", "choice")]
    assert parse(MINE | {"driver": "k8s_of_their_own", "network_driver": "weave"})[1] == []
