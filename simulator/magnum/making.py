"""How a cluster and its node groups are made of a request and a template, with what Magnum checks before."""

import uuid
from typing import Any

from simulator.identity import Identity
from simulator.magnum.attachments import check_networks
from simulator.magnum.model import Cluster, NodeGroup, Template
from simulator.magnum.personalities import Personality, personality
from simulator.magnum.reading import BOOLEAN, LABELS, READONLY, TEXT, Field
from simulator.magnum.service import Magnum
from simulator.magnum.wire import fault

#: Of a cluster.
FIELDS = {
    "name": Field(least=1, most=242, pattern="^[a-zA-Z][a-zA-Z0-9_.-]*$"),
    "cluster_template_id": Field(mandatory=True, least=1, most=255),
    "node_count": Field("integer", least=0),
    "master_count": Field("integer", least=1),
    "keypair": TEXT,
    "labels": LABELS,
    "merge_labels": BOOLEAN,
    "flavor_id": TEXT,
    "master_flavor_id": TEXT,
    "create_timeout": Field("integer", least=0),
    "docker_volume_size": Field("integer", least=1),
    "discovery_url": Field(),
    "fixed_network": Field(),
    "fixed_subnet": Field(),
    "floating_ip_enabled": BOOLEAN,
    "master_lb_enabled": BOOLEAN,
    "project_id": READONLY,
    "user_id": READONLY,
    # Taken, and of no effect.
    "status": Field(),
    "status_reason": Field(),
    "stack_id": Field(),
    "coe_version": Field(),
    "container_version": Field(),
}
#: Taken from the template where the request does not have them.
_INHERITED = ("docker_volume_size", "fixed_network", "fixed_subnet", "floating_ip_enabled", "master_lb_enabled")


def check_masters(body: dict[str, Any], template: Template) -> int:
    """How many masters there are to be. Raises 400 for an even number."""
    masters = body.get("master_count") or 1
    if masters % 2 == 0:
        raise fault(400, f"master nodegroup size of {masters} is invalid, size cannot be an even number.")
    if masters > 1 and not (body.get("master_lb_enabled") or template.body.get("master_lb_enabled")):
        raise fault(400, "master_count must be 1 when master_lb_enabled is False")
    return int(masters)


def check_quota(magnum: Magnum, me: Identity) -> None:
    """Raise 403 where the project has all the clusters that it may."""
    limit = magnum.quota_of(me.project_id)
    if len(magnum.collection.orders(me.project_id).by_id) >= limit:
        words = f"Resource limit exceeded: You have reached the maximum clusters per project, {limit}."
        raise fault(403, f"{words} You may delete a cluster to make room for a new one.")


def build(magnum: Magnum, me: Identity, body: dict[str, Any], template: Template, masters: int) -> Cluster:
    """A cluster that is accepted, and not yet begun. Raises 400 or 404 for what it needs and is not there."""
    flavor = body.get("flavor_id") or template.body.get("flavor_id")
    master_flavor = body.get("master_flavor_id") or template.body.get("master_flavor_id")
    for name in (flavor, master_flavor):
        if name and not magnum.nova.has_flavor(name):
            raise fault(400, f"Unable to find flavor {name}.")
    keypair = body.get("keypair") or template.body.get("keypair_id")
    if keypair and not magnum.nova.has_keypair(me.user_id, keypair):
        raise fault(404, f"Unable to find keypair {keypair}.")
    check_networks(magnum.neutron, me.project_id or "", body)
    base = template.body.get("labels") or {}
    labels, overridden, added, skipped = merged(base, body.get("labels"), merge=bool(body.get("merge_labels")))
    driver = personality(template.body.get("driver"))
    image = magnum.glance.find(str(template.body.get("image_id"))) or {}
    timeout = body.get("create_timeout")
    cluster = Cluster(
        id=magnum.collection.next_id(),
        uuid=str(uuid.uuid4()),
        name=body.get("name") or f"cluster-{uuid.uuid4().hex[:8]}",
        template=template.uuid,
        project_id=me.project_id or "",
        user_id=me.user_id,
        keypair=keypair,
        flavor_id=flavor,
        master_flavor_id=master_flavor,
        labels=labels,
        labels_overridden=overridden,
        labels_added=added,
        labels_skipped=skipped,
        create_timeout=60 if timeout is None else timeout,
        stack_id=str(uuid.uuid4()),
        status="CREATE_IN_PROGRESS",
        driver=driver.name,
        created_at=magnum.clock.now(),
        options={name: template.body.get(name) if body.get(name) is None else body[name] for name in _INHERITED},
        refused=_refusal(driver, template, image),
        never_ready=driver.no_such_network is None and not _has_network(driver, template),
    )
    workers = 1 if body.get("node_count") is None else body["node_count"]
    add_default_groups(cluster, template.body.get("image_id"), masters, workers)
    return cluster


def _has_network(driver: Personality, template: Template) -> bool:
    return template.body.get("network_driver") in driver.network_drivers


def _refusal(driver: Personality, template: Template, image: dict[str, Any]) -> str | None:
    """Why the driver can't make clusters of this template, if it can't."""
    lacking = next((name for name in driver.image_properties if not image.get(name)), None)
    if lacking:
        return f"Image {image.get('id')} does not have a {lacking} property."
    return None if _has_network(driver, template) else driver.no_such_network


def add_default_groups(cluster: Cluster, image: str | None, masters: int, workers: int) -> None:
    """Give a new cluster the two node groups that all have."""
    for number, (name, role, flavor, count) in enumerate(
        (
            ("default-master", "master", cluster.master_flavor_id, masters),
            ("default-worker", "worker", cluster.flavor_id, workers),
        )
    ):
        cluster.groups.append(
            NodeGroup(
                uuid=str(uuid.uuid4()),
                name=name,
                role=role,
                flavor_id=flavor,
                image_id=image,
                node_count=count,
                is_default=True,
                min_node_count=0,
                max_node_count=None,
                status=cluster.status,
                created_at=cluster.created_at,
                updated_at=cluster.updated_at,
                number=cluster.id * 10 + number + 1,
                labels=cluster.labels,
                stack_id=cluster.stack_id,
                docker_volume_size=cluster.options.get("docker_volume_size"),
            )
        )


def find_group(cluster: Cluster, ref: str) -> NodeGroup:
    """A node group by name or uuid. Raises 404."""
    for group in cluster.groups:
        if ref in {group.name, group.uuid}:
            return group
    raise fault(404, f"Nodegroup {ref} could not be found.")


def check_range(group: NodeGroup, count: int) -> None:
    """Refuse a size outside the group's bounds."""
    if count < group.min_node_count or (group.max_node_count and count > group.max_node_count):
        least, most = group.min_node_count, group.max_node_count
        words = f"Resizing {group.name} outside the allowed range: min_node_count = {least}, max_node_count = {most}"
        raise fault(400, words)


def merged(
    base: dict[str, str], own: dict[str, str] | None, *, merge: bool
) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, str]]:
    """Labels of what inherits them, and which of those above were overridden, added and skipped. None or none: inherit all."""
    if not own:
        return dict(base), {}, {}, {}
    labels = {**base, **own} if merge else dict(own)
    overridden = {key: base[key] for key in base if key in labels and labels[key] != base[key]}
    added = {key: value for key, value in own.items() if key not in base}
    skipped = {key: value for key, value in base.items() if key not in labels}
    return labels, overridden, added, skipped
