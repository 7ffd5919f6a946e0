"""What Magnum's drivers do differently, each difference by a request: a column of the table of capabilities of the drivers' sources.

Read in k8s_fedora_coreos_v1 of Magnum 22.0.0, magnum-capi-helm 1.4.0 and magnum-cluster-api 0.38.1.
"""

from typing import Any

import pytest
import requests

from tests.simulator.conftest import QUICK, Caller
from tests.waiting import wait_until

HEAT, CAPI_HELM, CLUSTER_API = "k8s_fedora_coreos_v1", "k8s_capi_helm_v1", "k8s_cluster_api"
DRIVERS = (HEAT, CAPI_HELM, CLUSTER_API)
IMAGES = {HEAT: "fedora-coreos-42", CAPI_HELM: "ubuntu-24.04-kube-v1.33.1", CLUSTER_API: "ubuntu-24.04-kube-v1.33.1"}
UNLIKE_CAPI_HELM = "Min node count must be greater than or equal to 1 for all node groups."


def new_template(caller: Caller, driver: str | None, **changes: Any) -> requests.Response:
    image = IMAGES.get(driver or "", IMAGES[CAPI_HELM])
    body = {
        "name": f"of-{driver}",
        "coe": "kubernetes",
        "image_id": image,
        "flavor_id": "cpu.large",
        "master_flavor_id": "cpu.large",
    }
    body |= {"keypair_id": "kcloud-keypair", "external_network_id": "public", "network_driver": "calico"}
    body = {key: value for key, value in {**body, **changes}.items() if value is not None}
    return caller.ask("POST", "/clustertemplates", json=body if driver is None else {**body, "driver": driver})


def template(caller: Caller, driver: str, **changes: Any) -> str:
    answer = new_template(caller, driver, **changes)
    assert answer.status_code == 201, answer.text
    assert answer.json()["driver"] == driver
    return str(answer.json()["uuid"])


def ended(caller: Caller, uuid: str) -> str:
    """How the work under way ends."""
    wait_until(lambda: not caller.shown(uuid)["status"].endswith("_IN_PROGRESS"), what="an end")
    return str(caller.shown(uuid)["status"])


def machines(caller: Caller, uuid: str, group: str = "default-worker") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.control("GET", f"/machines/{uuid}")["machines"][group]
    return found


def resize(caller: Caller, uuid: str, **body: Any) -> str:
    before = caller.shown(uuid)["updated_at"]
    caller.advance(2)
    assert caller.ask("POST", f"/clusters/{uuid}/actions/resize", json=body).status_code == 202
    wait_until(lambda: caller.shown(uuid)["updated_at"] != before, what="a change")
    return ended(caller, uuid)


@pytest.mark.parametrize(
    "driver, status, count", [(HEAT, "UPDATE_COMPLETE", 3), (CAPI_HELM, "UPDATE_COMPLETE", 3), (CLUSTER_API, "UPDATE_FAILED", 1)]
)
def test_patch_of_node_count(caller: Caller, driver: str, status: str, count: int) -> None:
    uuid = caller.made("patched", template=template(caller, driver))
    patch = [{"op": "replace", "path": "/node_count", "value": 3}]
    assert caller.ask("PATCH", f"/clusters/{uuid}", json=patch).status_code == 202
    wait_until(lambda: caller.shown(uuid)["status"].startswith("UPDATE"), what="an update")
    assert (ended(caller, uuid), caller.shown(uuid)["node_count"], len(machines(caller, uuid))) == (status, count, count)
    assert (resize(caller, uuid, node_count=2), caller.shown(uuid)["node_count"]) == ("UPDATE_COMPLETE", 2), (
        "resize works after all"
    )


@pytest.mark.parametrize("driver, left", [(HEAT, [1, 3]), (CAPI_HELM, [0, 1]), (CLUSTER_API, [1, 3])])
def test_nodes_to_remove(caller: Caller, driver: str, left: list[int]) -> None:
    uuid = caller.made("chosen", template=template(caller, driver), node_count=4)
    doomed = [machines(caller, uuid)[number]["id"] for number in (0, 2)]
    assert resize(caller, uuid, node_count=2, nodes_to_remove=doomed) == "UPDATE_COMPLETE"
    assert [machine["number"] for machine in machines(caller, uuid)] == left


@pytest.mark.parametrize("driver", DRIVERS)
def test_without_the_autoscaler_there_may_be_no_workers(caller: Caller, driver: str) -> None:
    uuid = caller.made("empty", template=template(caller, driver), node_count=0)
    assert caller.shown(uuid)["node_count"] == 0
    assert machines(caller, uuid) == []


@pytest.mark.parametrize(
    "driver, status", [(HEAT, "CREATE_COMPLETE"), (CAPI_HELM, "CREATE_FAILED"), (CLUSTER_API, "CREATE_COMPLETE")]
)
def test_with_the_autoscaler_there_may_be_no_workers_but_with_one(caller: Caller, driver: str, status: str) -> None:
    labels = {**QUICK, "auto_scaling_enabled": "true", "min_node_count": "0", "max_node_count": "5"}
    uuid = caller.make("from-zero", template=template(caller, driver), labels=labels)
    assert ended(caller, uuid) == status
    if driver == CAPI_HELM:
        assert caller.shown(uuid)["status_reason"] == UNLIKE_CAPI_HELM


def test_a_refused_node_group_leaves_the_cluster_failed_and_its_count_alone(caller: Caller) -> None:
    labels = {**QUICK, "auto_scaling_enabled": "true", "min_node_count": "1"}
    uuid = caller.made("grouped", template=template(caller, CAPI_HELM), labels=labels)
    caller.ask("POST", f"/clusters/{uuid}/nodegroups", json={"name": "none", "node_count": 0})
    caller.until(uuid, "UPDATE_FAILED")
    assert caller.shown(uuid)["status_reason"] == UNLIKE_CAPI_HELM
    assert caller.shown(uuid)["node_count"] == 1
    assert caller.ask("GET", f"/clusters/{uuid}/nodegroups/none").json()["status"] == "CREATE_FAILED"


@pytest.mark.parametrize("driver, running", [(HEAT, 5), (CAPI_HELM, 2), (CLUSTER_API, 2)])
def test_node_count_under_the_autoscaler_is_true_with_heat_alone(caller: Caller, driver: str, running: int) -> None:
    labels = {**QUICK, "auto_scaling_enabled": "true", "min_node_count": "2", "max_node_count": "9"}
    uuid = caller.made("scaled", template=template(caller, driver), labels=labels, node_count=5)
    assert caller.shown(uuid)["node_count"] == 5
    assert len(machines(caller, uuid)) == running


@pytest.mark.parametrize(
    "driver, status", [(HEAT, "CREATE_FAILED"), (CAPI_HELM, "CREATE_COMPLETE"), (CLUSTER_API, "CREATE_COMPLETE")]
)
def test_create_timeout(caller: Caller, driver: str, status: str) -> None:
    labels = {**QUICK, "rig_create_seconds": "90"}
    uuid = caller.make("timed", template=template(caller, driver), labels=labels, create_timeout=1)
    caller.advance(50)
    assert caller.shown(uuid)["status"] == "CREATE_IN_PROGRESS"
    caller.advance(15)
    assert (caller.shown(uuid)["status"] == "CREATE_FAILED") == (driver == HEAT)
    caller.advance(60)
    assert caller.shown(uuid)["status"] == status
    assert (caller.shown(uuid)["status_reason"] == "Timed out") == (driver == HEAT)


def test_with_heat_a_stuck_create_ends_in_time(caller: Caller) -> None:
    caller.fault("stuck", operation="create", match={"name": "^stuck"})
    stuck = [caller.make(f"stuck-{driver}", template=template(caller, driver), create_timeout=1) for driver in (HEAT, CAPI_HELM)]
    assert [caller.shown(uuid)["status"] for uuid in stuck] == ["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS"]
    caller.advance(30)  # the work itself would be done
    assert [caller.shown(uuid)["status"] for uuid in stuck] == ["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS"]
    caller.advance(40)
    assert [caller.shown(uuid)["status"] for uuid in stuck] == ["CREATE_FAILED", "CREATE_IN_PROGRESS"]


@pytest.mark.parametrize(
    "driver, network, status, words",
    [
        (HEAT, "calico", "CREATE_COMPLETE", None),
        (HEAT, "flannel", "CREATE_COMPLETE", None),
        (HEAT, "cilium", "CREATE_FAILED", "network_driver is not an allowed value"),
        (CAPI_HELM, "calico", "CREATE_COMPLETE", None),
        (CAPI_HELM, "cilium", "CREATE_COMPLETE", None),
        (CAPI_HELM, "flannel", "CREATE_IN_PROGRESS", None),
        (CLUSTER_API, "calico", "CREATE_COMPLETE", None),
        (CLUSTER_API, "cilium", "CREATE_COMPLETE", None),
        (CLUSTER_API, "flannel", "CREATE_FAILED", "CNI is not supported"),
    ],
)
def test_network_drivers(caller: Caller, driver: str, network: str, status: str, words: str | None) -> None:
    uuid = caller.make("networked", template=template(caller, driver, network_driver=network))
    if status == "CREATE_IN_PROGRESS":
        caller.advance(7200)
        assert caller.shown(uuid)["status"] == status
    else:
        assert ended(caller, uuid) == status
    assert words is None or words in caller.shown(uuid)["status_reason"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_template_without_a_network_driver_gets_one_that_its_driver_has(caller: Caller, driver: str) -> None:
    made = new_template(caller, driver, network_driver=None).json()
    assert made["network_driver"] == ("flannel" if driver == HEAT else "calico")


@pytest.mark.parametrize("driver, status", [(CAPI_HELM, "CREATE_FAILED"), (CLUSTER_API, "CREATE_COMPLETE")])
def test_an_image_that_tells_no_version(caller: Caller, driver: str, status: str) -> None:
    caller.control("POST", "/images", {"name": "plain-ubuntu", "properties": {"os_distro": "ubuntu"}})
    uuid = caller.make("plain", template=template(caller, driver, image_id="plain-ubuntu"))
    assert ended(caller, uuid) == status
    if status == "CREATE_FAILED":
        assert caller.shown(uuid)["status_reason"].endswith("does not have a kube_version property.")


@pytest.mark.parametrize(
    "driver, image, answer",
    [
        (None, "ubuntu-24.04-kube-v1.33.1", CAPI_HELM),
        (None, "fedora-coreos-42", HEAT),
        (HEAT, "ubuntu-24.04-kube-v1.33.1", "Cluster type (vm, ubuntu, kubernetes) not supported."),
        (CAPI_HELM, "fedora-coreos-42", "Cluster type (vm, fedora-coreos, kubernetes) not supported."),
        ("k8s_magic", "fedora-coreos-42", "Cluster type (vm, fedora-coreos, kubernetes) not supported."),
        (None, "windows", "Cluster type (vm, windows, kubernetes) not supported."),
        (None, "nameless", "Image doesn't contain os_distro field."),
        (None, "heats", HEAT),
    ],
)
def test_a_template_gets_the_driver_that_takes_its_image(caller: Caller, driver: str | None, image: str, answer: str) -> None:
    caller.control("POST", "/images", {"name": "windows", "properties": {"os_distro": "windows"}})
    caller.control("POST", "/images", {"name": "nameless", "properties": {}})
    caller.control("POST", "/images", {"name": "heats", "properties": {"os_distro": "fedora-coreos", "magnum_driver": HEAT}})
    told = new_template(caller, driver, image_id=image)
    assert (told.json()["driver"] if told.status_code == 201 else told.json()["errors"][0]["detail"]) == answer


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_a_driver_tells_of_nodes_and_failures(caller: Caller, driver: str) -> None:
    base = template(caller, driver)
    well = caller.shown(caller.made("well", template=base, node_count=2))
    tells = driver == HEAT
    assert (len(well["node_addresses"]), len(well["master_addresses"])) == ((2, 1) if tells else (0, 0))
    assert ("well-default-worker-1.Ready" in well["health_status_reason"]) == tells
    assert (well["status_reason"] is None) != tells
    assert (well["health_status"], bool(well["api_address"])) == ("HEALTHY", True)
    uuid = caller.make("badly", template=base, labels={**QUICK, "rig_fail": "create"})
    caller.until(uuid, "CREATE_FAILED")
    badly = caller.shown(uuid)
    assert "No valid host was found" in badly["status_reason"]
    assert badly["faults"] == (dict.fromkeys(("default-master", "default-worker"), badly["status_reason"]) if tells else {})
    assert badly["health_status"] == "UNKNOWN"


@pytest.mark.parametrize("driver", DRIVERS)
def test_labels_replace_those_of_the_template_unless_they_are_merged(caller: Caller, driver: str) -> None:
    base = template(caller, driver, labels={"a": "1", "b": "2"})
    replaced = caller.shown(caller.make("replaced", template=base, labels={**QUICK, "b": "3"}))
    merged = caller.shown(caller.make("merged", template=base, labels={**QUICK, "b": "3"}, merge_labels=True))
    assert replaced["labels"] == {**QUICK, "b": "3"}
    assert merged["labels"] == {**QUICK, "a": "1", "b": "3"}
    assert (merged["labels_overridden"], replaced["labels_skipped"]) == ({"b": "2"}, {"a": "1"})


@pytest.mark.parametrize("name, driver", [("heat_fcos", HEAT), ("cluster_api", CLUSTER_API), ("capi_helm", CAPI_HELM)])
def test_the_clouds_own_driver_can_be_chosen(caller: Caller, name: str, driver: str) -> None:
    caller.control("POST", "/settings", {"driver": name})
    image = IMAGES[driver]
    try:
        assert new_template(caller, None, image_id=image).json()["driver"] == driver
    finally:
        caller.control("POST", "/settings", {"driver": "capi_helm"})


def test_an_unknown_driver_is_no_setting(caller: Caller) -> None:
    refused = requests.post(f"{caller.url}/_control/settings", json={"driver": "magic"}, timeout=5)
    assert (refused.status_code, refused.json()["error"]) == (400, "there is no driver 'magic'")
