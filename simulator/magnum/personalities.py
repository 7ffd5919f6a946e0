"""Drivers differ (read in their sources: Heat/FCOS up to Magnum 22, magnum-capi-helm 1.4.0, magnum-cluster-api 0.38.1)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Personality:
    """What a driver can do and what it quietly leaves out."""

    name: str
    patches_node_count: bool = True
    removes_chosen_nodes: bool = True
    least_workers: int = 0
    keeps_create_timeout: bool = True
    network_drivers: tuple[str, ...] = ("calico", "cilium")
    has_faults: bool = False  #: Heat's resources tell what failed


PERSONALITIES = {
    each.name: each
    for each in (
        Personality("k8s_fedora_coreos_v1", network_drivers=("flannel", "calico"), has_faults=True),
        Personality("k8s_capi_helm_v1", removes_chosen_nodes=False, least_workers=1, keeps_create_timeout=False),
        Personality("k8s_cluster_api", patches_node_count=False, keeps_create_timeout=False),
    )
}
ALIASES = {"heat_fcos": "k8s_fedora_coreos_v1", "capi_helm": "k8s_capi_helm_v1", "cluster_api": "k8s_cluster_api"}
DEFAULT = "k8s_capi_helm_v1"


def personality(name: str | None) -> Personality:
    """By its own name or by a short one; the default where the name is unknown."""
    text = name or DEFAULT
    return PERSONALITIES.get(ALIASES.get(text, text), PERSONALITIES[DEFAULT])
