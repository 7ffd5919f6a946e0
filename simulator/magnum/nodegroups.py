"""/v1/clusters/{id}/nodegroups."""

import uuid
from dataclasses import replace
from typing import Any

from simulator import costs
from simulator.http import Answer, Request, Router
from simulator.magnum import views
from simulator.magnum.making import find_group, merged
from simulator.magnum.model import Cluster, NodeGroup
from simulator.magnum.patching import apply, read_patch
from simulator.magnum.reading import COUNT, LABELS, Field, read
from simulator.magnum.service import Magnum
from simulator.magnum.wire import body_of, fault, headers, require

_FIELDS = {
    "name": Field(least=1, most=255),
    "node_count": COUNT,
    "flavor_id": Field(least=1, most=255),
    "image_id": Field(least=1, most=255),
    "role": Field(),
    "min_node_count": COUNT,
    "max_node_count": COUNT,
    "labels": LABELS,
    "merge_labels": Field("boolean"),
    "docker_volume_size": Field("integer", least=1),
    "node_labels": Field("strings"),
    "node_taints": Field("objects"),
}
_CHANGEABLE = ("min_node_count", "max_node_count", "node_labels", "node_taints")
_INTERNAL = (
    "/name",
    "/cluster_id",
    "/docker_volume_size",
    "/labels",
    "/flavor_id",
    "/image_id",
    "/node_addresses",
    "/node_count",
    "/role",
    "/is_default",
    "/stack_id",
    "/status",
    "/status_reason",
    "/version",
)
#: What the kubelet may set of labels under kubernetes.io and k8s.io.
_FREE_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_FREE_LABELS = (
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
)


def routes(magnum: Magnum, router: Router) -> None:
    """Add them."""
    handlers = _Handlers(magnum)
    base = "/v1/clusters/{id}/nodegroups"
    router.add("GET", base, handlers.listed)
    router.add("POST", base, handlers.made)
    router.add("GET", base + "/{group}", handlers.shown)
    router.add("PATCH", base + "/{group}", handlers.patched)
    router.add("DELETE", base + "/{group}", handlers.removed)


def _check_bounds(group: NodeGroup) -> None:
    """Refuse counts that contradict each other."""
    least, most, count, name = group.min_node_count, group.max_node_count or None, group.node_count, group.name
    pairs = (
        ("max_node_count", "min_node_count", least, "max_node_count", most),
        ("max_node_count", "node_count", count, "max_node_count", most),
        ("min_node_count", "min_node_count", least, "node_count", count),
    )
    for field_name, left, low, right, high in pairs:
        if high is not None and low > high:
            words = f"{left} ({low}) should be less or equal to {right} ({high})"
            raise fault(409, f"{field_name} for {name} is invalid ({words}).")


def _check_nodes(group: NodeGroup) -> None:
    """Refuse labels and taints of nodes that the kubelet would."""
    for label in group.node_labels:
        prefix, slash, _ = label.partition("/")
        restricted = slash and f".{prefix}".endswith((".kubernetes.io", ".k8s.io"))
        if restricted and prefix not in _FREE_PREFIXES and label not in _FREE_LABELS:
            words = (
                f"node label '{label}' is in a restricted Kubernetes namespace; the kubelet will refuse to start. Labels in the"
                f" kubernetes.io/ and k8s.io/ namespaces must use one of the allowed prefixes ({', '.join(_FREE_PREFIXES)}) or be"
                f" one of the allowed labels ({', '.join(_FREE_LABELS)})."
            )
            raise fault(409, f"node_labels for {group.name} is invalid ({words}).")
    for index, taint in enumerate(group.node_taints):
        words = ""
        if not isinstance(taint, dict):
            words = f"node_taints[{index}] must be an object with key, effect and optional value"
        elif not taint.get("key"):
            words = f"node_taints[{index}].key is required"
        elif taint.get("effect") not in {"NoSchedule", "PreferNoSchedule", "NoExecute"}:
            words = f"node_taints[{index}].effect must be one of NoSchedule, PreferNoSchedule, NoExecute"
        if words:
            raise fault(409, f"node_taints for {group.name} is invalid ({words}).")


class _Handlers:
    def __init__(self, magnum: Magnum) -> None:
        self._magnum = magnum

    def listed(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:get_all")
        require(request, version, (1, 9), "get_one")
        magnum.costs.charge(costs.GET_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            role = request.query.get("role")
            shown = [views.listed_nodegroup(group) for group in cluster.groups if role in {None, group.role}]
        return Answer(200, {"nodegroups": shown}, headers(version))

    def shown(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:get")
        require(request, version, (1, 9), "get_one")
        magnum.costs.charge(costs.GET_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = find_group(cluster, request.variables["group"])
            return Answer(200, views.nodegroup(group, cluster, request.origin), headers(version))

    def made(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.recognize(request)
        require(request, version, (1, 9), "post")
        body = read("nodegroup", body_of(request, "nodegroup"), _FIELDS)
        magnum.permit(me, "nodegroup:create", writes=True)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            if any(known.name == body.get("name") for known in cluster.groups):
                raise fault(409, f"A node group with name {body['name']} already exists in the cluster {cluster.name}.")
            group = self._build(body, cluster)
            magnum.conductor.accept(lambda: magnum.conductor.add_group(cluster.uuid, group))
            return Answer(202, views.accepted_nodegroup(group, cluster, request.origin), headers(version))

    def _build(self, body: dict[str, Any], cluster: Cluster) -> NodeGroup:
        magnum = self._magnum
        if not body.get("name"):
            raise fault(500, "Field `name' cannot be None", code="server")
        if body.get("role") == "master":
            raise fault(400, "Creating master nodegroups is currently not supported.")
        flavor = body.get("flavor_id") or cluster.flavor_id
        if flavor and not magnum.nova.has_flavor(flavor):
            raise fault(400, f"Unable to find flavor {flavor}.")
        labels, _, _, _ = merged(cluster.labels, body.get("labels"), merge=bool(body.get("merge_labels")))
        group = NodeGroup(
            uuid=str(uuid.uuid4()),
            name=body["name"],
            role=body.get("role") or "worker",
            flavor_id=flavor,
            image_id=body.get("image_id") or cluster.groups[0].image_id,
            node_count=1 if body.get("node_count") is None else body["node_count"],
            is_default=False,
            min_node_count=body.get("min_node_count") or 0,
            max_node_count=body.get("max_node_count"),
            status=None,
            created_at=None,
            updated_at=None,
            number=max(known.number for known in cluster.groups) + 1,
            labels=labels,
            docker_volume_size=body.get("docker_volume_size"),
            node_labels=body.get("node_labels") or {},
            node_taints=body.get("node_taints") or [],
        )
        _check_bounds(group)
        _check_nodes(group)
        return group

    def patched(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.recognize(request)
        require(request, version, (1, 9), "patch")
        changes = read_patch(request, internal=_INTERNAL)
        magnum.permit(me, "nodegroup:update", writes=True)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = find_group(cluster, request.variables["group"])
            document = apply({name: getattr(group, name) for name in _CHANGEABLE}, changes)
            wanted = read("nodegroup", document, {name: _FIELDS[name] for name in _CHANGEABLE})
            defaults: dict[str, Any] = {"min_node_count": 0, "max_node_count": None, "node_labels": {}, "node_taints": []}
            values = {name: wanted.get(name) or empty for name, empty in defaults.items()}
            changed = replace(group, **values)
            _check_bounds(changed)
            _check_nodes(changed)
            shown = views.nodegroup(group, cluster, request.origin) | values
            magnum.conductor.accept(lambda: magnum.conductor.update_group(cluster.uuid, group, values))
            return Answer(202, shown, headers(version))

    def removed(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:delete", writes=True)
        require(request, version, (1, 9), "delete")
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = find_group(cluster, request.variables["group"])
            if group.is_default:
                raise fault(400, "Deleting a default nodegroup is not supported.")
            magnum.conductor.accept(lambda: magnum.conductor.drop_group(cluster.uuid, group))
        return Answer(204, None, headers(version))
