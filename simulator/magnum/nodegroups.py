"""/v1/clusters/{id}/nodegroups."""

import uuid
from typing import Any

from simulator import costs
from simulator.http import Answer, Request, Router
from simulator.magnum import views
from simulator.magnum.clusters import check_range, find_group, merged
from simulator.magnum.model import NodeGroup
from simulator.magnum.service import Magnum
from simulator.magnum.wire import body_of, fault, headers, integer, invalid, require

_FIELDS = {
    "name",
    "node_count",
    "flavor_id",
    "image_id",
    "role",
    "min_node_count",
    "max_node_count",
    "labels",
    "merge_labels",
    "docker_volume_size",
    "node_labels",
    "node_taints",
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


class _Handlers:
    def __init__(self, magnum: Magnum) -> None:
        self._magnum = magnum

    def listed(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:get_all")
        require(version, (1, 9))
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
        require(version, (1, 9))
        magnum.costs.charge(costs.GET_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = find_group(cluster, request.variables["group"])
            return Answer(200, views.nodegroup(group, cluster, request.origin, version, detail=True), headers(version))

    def made(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:create", writes=True)
        require(version, (1, 9))
        body = body_of(request)
        unknown = sorted(set(body) - _FIELDS)
        if unknown:
            raise fault(400, f"Unknown attribute for argument nodegroup: {', '.join(unknown)}")
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = self._build(request, body, cluster.uuid)
            if any(known.name == group.name for known in cluster.groups):
                raise fault(409, f"A node group with name {group.name} already exists in the cluster {cluster.name}.")

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
            raise invalid("name", None, "Mandatory field missing.")
        if body.get("role") == "master":
            raise fault(400, "Creating master nodegroups is currently not supported.")
        flavor = body.get("flavor_id") or cluster.flavor_id
        if flavor and not magnum.nova.has_flavor(flavor):
            raise fault(400, f"Unable to find flavor {flavor}.")
        least = integer("min_node_count", body.get("min_node_count")) or 0
        most = integer("max_node_count", body.get("max_node_count"))
        count = integer("node_count", body.get("node_count"))
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
        check_range(group, group.node_count)
        return group

    def patched(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:update", writes=True)
        require(version, (1, 9))
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            group = find_group(cluster, request.variables["group"])
            for change in request.json():
                name = str(change.get("path", "")).lstrip("/")
                if name not in {"min_node_count", "max_node_count"}:
                    raise fault(400, f"cannot change nodegroup property(ies) {name}.")
                setattr(group, name, integer(name, change.get("value")))
            magnum.collection.change(cluster)
            return Answer(202, views.nodegroup(group, cluster, request.origin, version, detail=True), headers(version))

    def removed(self, request: Request) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "nodegroup:delete", writes=True)
        require(version, (1, 9))
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
