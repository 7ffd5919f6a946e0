"""/v1/clusters/{id}/nodegroups."""

import uuid
from typing import Any

from simulator import costs
from simulator.http import Answer, Request, Router
from simulator.magnum import views
from simulator.magnum.clusters import find_group, merged
from simulator.magnum.model import NodeGroup
from simulator.magnum.patching import read_patch
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
    "max_node_count": Field("integer", least=1),
    "labels": LABELS,
    "merge_labels": Field("boolean"),
    "docker_volume_size": Field("integer", least=1),
    "node_labels": Field("strings"),
    "node_taints": Field("objects"),
}


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
    least, most, count, name = group.min_node_count, group.max_node_count, group.node_count, group.name
    pairs = (
        ("max_node_count", "min_node_count", least, "max_node_count", most),
        ("min_node_count", "min_node_count", least, "node_count", count),
        ("max_node_count", "node_count", count, "max_node_count", most),
    )
    for field_name, left, low, right, high in pairs:
        if high is not None and low > high:
            words = f"{left} ({low}) should be less or equal to {right} ({high})"
            raise fault(409, f"{field_name} for {name} is invalid ({words}).")


def _check_nodes(name: str, body: dict[str, Any]) -> None:
    """Refuse labels and taints of nodes that the kubelet would."""
    for label in body.get("node_labels") or {}:
        if label.split("/")[0].endswith(("kubernetes.io", "k8s.io")) and "/" in label:
            words = f"node label '{label}' is in a restricted Kubernetes namespace; the kubelet will refuse to set it"
            raise fault(409, f"node_labels for {name} is invalid ({words}).")
    for index, taint in enumerate(body.get("node_taints") or []):
        if taint.get("effect") not in {"NoSchedule", "PreferNoSchedule", "NoExecute"}:
            words = f"node_taints[{index}].effect must be one of NoSchedule, PreferNoSchedule, NoExecute"
            raise fault(409, f"node_taints for {name} is invalid ({words}).")


class _Handlers:
    def __init__(self, magnum: Magnum) -> None:
        self._magnum = magnum

    def listed(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:get_all")
        require(request, version, (1, 9), "get_all")
        magnum.costs.charge(costs.GET_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            role = request.query.get("role")
            groups = [g for g in cluster.groups if role in {None, g.role}]
            shown = [views.nodegroup(g, cluster, request.origin, version, detail=False) for g in groups]
        return Answer(200, {"nodegroups": shown}, headers(version))

    def shown(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:get")
        require(request, version, (1, 9), "get")
        magnum.costs.charge(costs.GET_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = find_group(cluster, request.variables["group"])
            return Answer(200, views.nodegroup(group, cluster, request.origin, version, detail=True), headers(version))

    def made(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:create", writes=True)
        require(request, version, (1, 9), "post")
        body = read("nodegroup", body_of(request, "nodegroup"), _FIELDS)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            if any(known.name == body.get("name") for known in cluster.groups):
                raise fault(409, f"A node group with name {body['name']} already exists in the cluster {cluster.name}.")
            group = self._build(request, body, cluster.uuid)

            def work() -> None:
                if cluster.uuid in magnum.collection.clusters and not cluster.status.startswith("DELETE"):
                    cluster.groups.append(group)
                    magnum.conductor.begin_update(cluster)

            magnum.conductor.accept(work)
            return Answer(202, views.nodegroup(group, cluster, request.origin, version, detail=True), headers(version))

    def _build(self, request: Request, body: dict[str, Any], owner: str) -> NodeGroup:
        magnum = self._magnum
        cluster = magnum.collection.clusters[owner]
        if not body.get("name"):
            raise fault(500, "Field `name' cannot be None", code="server")
        if body.get("role") == "master":
            raise fault(400, "Creating master nodegroups is currently not supported.")
        flavor = body.get("flavor_id") or cluster.flavor_id
        if flavor and not magnum.nova.has_flavor(flavor):
            raise fault(400, f"Unable to find flavor {flavor}.")
        least = body.get("min_node_count") or 0
        most = body.get("max_node_count")
        count = body.get("node_count")
        now = magnum.clock.now()
        labels, _, _, _ = merged(cluster.labels, body.get("labels"), body.get("merge_labels"))
        group = NodeGroup(
            uuid=str(uuid.uuid4()),
            name=body["name"],
            role=body.get("role") or "worker",
            flavor_id=flavor,
            image_id=body.get("image_id") or cluster.groups[0].image_id,
            node_count=max(1, least) if count is None else count,
            is_default=False,
            min_node_count=least,
            max_node_count=most,
            status="CREATE_IN_PROGRESS",
            created_at=now,
            updated_at=now,
            number=cluster.id * 10 + len(cluster.groups) + 1,
            labels=labels,
        )
        del request
        _check_bounds(group)
        _check_nodes(group.name, body)
        return group

    def patched(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:update", writes=True)
        require(request, version, (1, 9), "patch")
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = find_group(cluster, request.variables["group"])
            for change in read_patch(request, internal=("/name",)):
                name = str(change.get("path", "")).lstrip("/")
                if name not in {"min_node_count", "max_node_count"}:
                    raise fault(400, f"cannot change nodegroup property(ies) {name}.")
                setattr(group, name, change.get("value"))
            _check_bounds(group)
            magnum.collection.change(cluster)
            return Answer(202, views.nodegroup(group, cluster, request.origin, version, detail=True), headers(version))

    def removed(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:delete", writes=True)
        require(request, version, (1, 9), "delete")
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = find_group(cluster, request.variables["group"])
            if group.is_default:
                raise fault(400, "Deleting a default nodegroup is not supported.")

            def work() -> None:
                if cluster.uuid in magnum.collection.clusters and group in cluster.groups:
                    cluster.groups.remove(group)
                    magnum.conductor.begin_update(cluster)

            magnum.conductor.accept(work)
        return Answer(204, None, headers(version))
