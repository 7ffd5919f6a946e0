"""What each Magnum driver can do, in one table, which decides what is asked of Magnum and how.

Read in the drivers' sources: k8s_fedora_coreos_v1 in Magnum 22.0.0 (removed in 23), magnum-capi-helm 1.4.0, magnum-cluster-api
0.38.1. Microversions are of Magnum's API reference. A driver that is not known is taken to be able to do what the API promises
and nothing beyond it.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver. ``why_no_choice`` says why nodes to remove can't be chosen, where they can't."""

    name: str
    title: str
    patches_node_count: bool = True  #: PATCH of node_count works; resize always does
    removes_chosen_nodes: bool = True  #: honours nodes_to_remove
    why_no_choice: str = ""
    least_workers: int = 0  #: the least that a worker group may be scaled to
    honours_create_timeout: bool = True
    tells_faults: bool = False  #: `faults` of a failed cluster name the failed resources
    network_drivers: tuple[str, ...] = ("calico", "cilium")
    image_os: tuple[str, ...] = ()
    image_properties: tuple[str, ...] = ()  #: an image without them ends in CREATE_FAILED
    has_stack: bool = False  #: a Heat stack of the cluster's own holds its resources
    short_lived_certificates: bool = False  #: the signer takes a validity; none does
    known: bool = True


HEAT: Final = Driver(
    "k8s_fedora_coreos_v1",
    "Heat / Fedora CoreOS (Magnum up to 22)",
    tells_faults=True,
    network_drivers=("flannel", "calico"),
    image_os=("fedora-coreos",),
    has_stack=True,
)
CAPI_HELM: Final = Driver(
    "k8s_capi_helm_v1",
    "Cluster API by Helm (magnum-capi-helm)",
    removes_chosen_nodes=False,
    why_no_choice="magnum-capi-helm ignores nodes_to_remove, and Cluster API chooses",
    least_workers=1,
    honours_create_timeout=False,
    image_os=("ubuntu", "flatcar"),
    image_properties=("kube_version", "os_distro"),
)
CLUSTER_API: Final = Driver(
    "k8s_cluster_api",
    "Cluster API (magnum-cluster-api)",
    patches_node_count=False,
    honours_create_timeout=False,
    image_os=("ubuntu", "flatcar", "debian", "rockylinux"),
)
UNKNOWN: Final = Driver(
    "unknown",
    "a driver that is not known here",
    patches_node_count=False,
    removes_chosen_nodes=False,
    why_no_choice="it is not known whether it honours nodes_to_remove, and removing other nodes than asked would do harm",
    network_drivers=("calico", "cilium", "flannel"),
    known=False,
)
DRIVERS: Final = (HEAT, CAPI_HELM, CLUSTER_API)

#: Calls by the microversion that brought them (magnum/api/rest_api_version_history).
NEEDS: Final[dict[str, tuple[int, int]]] = {
    "resize": (1, 7),
    "upgrade": (1, 8),
    "node groups": (1, 9),
    "scaling to zero": (1, 10),
    "rotation of credentials": (1, 12),
    "labels and taints of nodes": (1, 14),
}


def driver_for(name: str | None, image_os: str | None = None) -> Driver:
    """The driver that Magnum calls ``name``; where it tells no name, the only one that takes the image's operating system."""
    if name:
        # Releases differ in a trailing _v1.
        plain = name.removesuffix("_v1")
        return next((driver for driver in DRIVERS if driver.name.removesuffix("_v1") == plain), UNKNOWN)
    fitting = [driver for driver in DRIVERS if image_os in driver.image_os]
    return fitting[0] if len(fitting) == 1 else UNKNOWN


def missing(version: str) -> list[str]:
    """What a microversion lacks."""
    major, _, minor = version.partition(".")
    has = (int(major), int(minor))
    return [what for what, least in NEEDS.items() if has < least]
