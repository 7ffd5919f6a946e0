"""How Magnum shows its objects: which fields in a list, in detail, alone, and at which microversion."""

from typing import Any

from simulator.clock import iso
from simulator.magnum.model import Cluster, NodeGroup, Template
from simulator.magnum.personalities import personality

CONTAINERD = "2.0.5"

TEMPLATE_FIELDS = (
    "image_id",
    "flavor_id",
    "master_flavor_id",
    "dns_nameserver",
    "keypair_id",
    "external_network_id",
    "fixed_network",
    "fixed_subnet",
    "network_driver",
    "apiserver_port",
    "docker_volume_size",
    "cluster_distro",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "volume_driver",
    "registry_enabled",
    "labels",
    "tls_disabled",
    "public",
    "server_type",
    "insecure_registry",
    "docker_storage_driver",
    "master_lb_enabled",
    "floating_ip_enabled",
    "hidden",
    "tags",
    "driver",
)


def links(origin: str, path: str) -> list[dict[str, str]]:
    """Self and bookmark."""
    base = f"{origin}/container-infra"
    return [{"href": f"{base}/v1/{path}", "rel": "self"}, {"href": f"{base}/{path}", "rel": "bookmark"}]


def template(item: Template, origin: str) -> dict[str, Any]:
    """A template, in lists and alone."""
    body = {"uuid": item.uuid, "name": item.name, "coe": item.body.get("coe", "kubernetes")}
    for name in TEMPLATE_FIELDS:
        body[name] = item.body.get(name)
    body["links"] = links(origin, f"clustertemplates/{item.uuid}")
    body |= {"project_id": item.project_id, "user_id": item.user_id}
    return body | {"created_at": iso(item.created_at), "updated_at": iso(item.updated_at)}


def addresses(item: Cluster) -> dict[str, list[str]]:
    """Of masters, and of all other nodes."""
    found: dict[str, list[str]] = {"master": [], "worker": []}
    for group in item.groups:
        found["master" if group.role == "master" else "worker"] += [group.address(node, item) for node in group.nodes]
    return found


def cluster(item: Cluster, origin: str, version: tuple[int, int], *, detail: bool) -> dict[str, Any]:
    """A cluster: the short form of lists, or the long one."""
    body: dict[str, Any] = {
        "uuid": item.uuid,
        "name": item.name,
        "cluster_template_id": item.template,
        "keypair": item.keypair,
        "node_count": item.node_count,
        "master_count": item.master_count,
        "docker_volume_size": item.options.get("docker_volume_size"),
        "labels": item.labels,
        "master_flavor_id": item.master_flavor_id,
        "flavor_id": item.flavor_id,
        "create_timeout": item.create_timeout,
        "links": links(origin, f"clusters/{item.uuid}"),
        "cluster_id" if version >= (1, 13) else "stack_id": item.stack_id,
        "status": item.status,
    }
    if not detail:
        return body | {"health_status": item.health_status, "merge_labels": False}
    tells = personality(item.driver).tells_nodes
    running = addresses(item) if tells else {"master": [], "worker": []}
    return body | {
        "status_reason": item.status_reason,
        "health_status": item.health_status,
        "health_status_reason": item.health_reason,
        "discovery_url": None,
        "api_address": item.api_address,
        "coe_version": item.coe_version,
        "container_version": CONTAINERD if tells and item.api_address else None,
        "project_id": item.project_id,
        "user_id": item.user_id,
        "node_addresses": running["worker"],
        "master_addresses": running["master"],
        "fixed_network": item.options.get("fixed_network"),
        "fixed_subnet": item.options.get("fixed_subnet"),
        "floating_ip_enabled": item.options.get("floating_ip_enabled", True),
        "merge_labels": False,
        "labels_overridden": item.labels_overridden,
        "labels_added": item.labels_added,
        "labels_skipped": item.labels_skipped,
        "master_lb_enabled": item.options.get("master_lb_enabled", False),
        "created_at": iso(item.created_at),
        "updated_at": iso(item.updated_at),
    }


def nodegroup(group: NodeGroup, owner: Cluster, origin: str) -> dict[str, Any]:
    """A node group alone."""
    tells = personality(owner.driver).tells_nodes
    return accepted_nodegroup(group, owner, origin) | {
        "id": group.number,
        "is_default": group.is_default,
        "stack_id": group.stack_id,
        "status": group.status,
        "docker_volume_size": group.docker_volume_size,
        "node_addresses": [group.address(node, owner) for node in group.nodes] if tells else [],
        "status_reason": group.status_reason,
        "version": None,
        "node_labels": group.node_labels,
        "node_taints": group.node_taints,
        "created_at": iso(group.created_at),
        "updated_at": iso(group.updated_at),
    }


def accepted_nodegroup(group: NodeGroup, owner: Cluster, origin: str) -> dict[str, Any]:
    """A node group in the answer to its POST, when it is but asked for."""
    own, base = group.labels, owner.labels
    body: dict[str, Any] = {
        "uuid": group.uuid,
        "name": group.name,
        "cluster_id": owner.uuid,
        "project_id": owner.project_id,
        "labels": own,
        "labels_overridden": {key: base[key] for key in base if key in own and own[key] != base[key]},
        "labels_added": {key: value for key, value in own.items() if key not in base},
        "labels_skipped": {key: value for key, value in base.items() if key not in own},
        "links": links(origin, f"clusters/{owner.uuid}/nodegroups/{group.uuid}"),
        "flavor_id": group.flavor_id,
        "image_id": group.image_id,
        "node_count": group.node_count,
        "role": group.role,
        "min_node_count": group.min_node_count,
        "max_node_count": group.max_node_count,
        "merge_labels": False,
    }
    for name in ("docker_volume_size", "node_labels", "node_taints"):
        if getattr(group, name):
            body[name] = getattr(group, name)
    return body


def listed_nodegroup(group: NodeGroup) -> dict[str, Any]:
    """A node group in a list, which tells no bounds: there they are always 0 and null."""
    names = ("uuid", "name", "flavor_id", "image_id", "node_count", "role", "is_default", "stack_id", "status")
    return {name: getattr(group, name) for name in names} | {"min_node_count": 0, "max_node_count": None, "merge_labels": False}
