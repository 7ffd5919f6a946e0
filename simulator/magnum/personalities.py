"""Drivers differ (read in their sources: Heat/FCOS up to Magnum 22, magnum-capi-helm 1.4.0, magnum-cluster-api 0.38.1)."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Personality:
    """What a driver can do and what it quietly leaves out."""

    name: str
    distros: tuple[str, ...]  #: operating systems of images that it takes
    network_drivers: tuple[str, ...] = ("calico", "cilium")
    image_properties: tuple[str, ...] = ()  #: an image without them ends in CREATE_FAILED
    patches_node_count: bool = True  #: PATCH of node_count; else it ends in UPDATE_FAILED and nothing changes
    removes_chosen_nodes: bool = True  #: honours nodes_to_remove; else it removes the youngest
    autoscaled_from_zero: bool = True  #: a pool under the autoscaler may have no nodes at least
    node_count_is_autoscaled: bool = True  #: node_count is what the autoscaler has made; else what was asked for once
    keeps_create_timeout: bool = False  #: a create that takes longer fails; else it goes on for ever
    tells_nodes: bool = False  #: addresses and health of each node, and a status_reason for what went well or badly in a group
    no_such_network: str | None = None  #: why a create with another network driver fails; None: it waits for ever


PERSONALITIES = {
    each.name: each
    for each in (
        Personality(
            "k8s_fedora_coreos_v1",
            ("fedora-coreos",),
            ("flannel", "calico"),
            keeps_create_timeout=True,
            tells_nodes=True,
            no_such_network="Property error: resources.kube_masters.properties: network_driver is not an allowed value",
        ),
        Personality(
            "k8s_capi_helm_v1",
            ("ubuntu", "flatcar"),
            image_properties=("kube_version", "os_distro"),
            removes_chosen_nodes=False,
            autoscaled_from_zero=False,
            node_count_is_autoscaled=False,
        ),
        Personality(
            "k8s_cluster_api",
            ("ubuntu", "flatcar", "debian", "rockylinux"),
            patches_node_count=False,
            node_count_is_autoscaled=False,
            no_such_network="The specified CNI is not supported.",
        ),
        # What `real.json` of the tests was recorded with: it moves clusters by a timer.
        Personality("rig_k8s", ("ubuntu", "fedora-coreos", "flatcar"), ("flannel", "calico", "cilium"), tells_nodes=True),
    )
}
ALIASES = {
    "heat_fcos": "k8s_fedora_coreos_v1",
    "capi_helm": "k8s_capi_helm_v1",
    "cluster_api": "k8s_cluster_api",
    "timer": "rig_k8s",
}
DEFAULT = "k8s_capi_helm_v1"


def known(name: str) -> bool:
    """Whether there is a driver of this name, long or short."""
    return ALIASES.get(name, name) in PERSONALITIES


def personality(name: str | None) -> Personality:
    """By its own name or by a short one; the default where the name is unknown."""
    text = name or DEFAULT
    return PERSONALITIES.get(ALIASES.get(text, text), PERSONALITIES[DEFAULT])


def for_template(wanted: str | None, image: dict[str, Any], default: str) -> str | None:
    """The driver of a new template: the one that is named, in it or at its image, else the cloud's default, else any that takes
    the image's operating system. None where none does.
    """
    distro = image.get("os_distro")
    named = wanted or image.get("magnum_driver")
    if named:
        return personality(named).name if known(named) and distro in personality(named).distros else None
    if distro in personality(default).distros:
        return personality(default).name
    return next((each.name for each in PERSONALITIES.values() if distro in each.distros), None)
