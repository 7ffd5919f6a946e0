"""/v1/clusters."""

import json
from typing import Any

from simulator import costs
from simulator.http import Answer, Request, Router
from simulator.magnum import views
from simulator.magnum.making import FIELDS, build, check_masters, check_quota, check_range, find_group
from simulator.magnum.model import Cluster
from simulator.magnum.patching import apply, read_patch
from simulator.magnum.reading import TEXT, Field, read
from simulator.magnum.service import Magnum
from simulator.magnum.wire import body_of, fault, headers, invalid, next_page, paging, require

_RESIZE = {
    "node_count": Field("integer", mandatory=True, least=0),
    "nodes_to_remove": Field("texts"),
    "nodegroup": TEXT,
}
_UPGRADE = {
    "cluster_template": TEXT,
    "max_batch_size": Field("integer", least=1),
    "nodegroup": TEXT,
}
_INTERNAL = ("/api_address", "/node_addresses", "/master_addresses", "/stack_id", "/ca_cert_ref", "/magnum_cert_ref", "/trust_id")
_MANDATORY = ("/cluster_template_id",)
_PATCHABLE = {"node_count", "health_status", "health_status_reason"}
_EMPTY = (1, 10)  #: from which clusters may be without workers
_NOT_EMPTY = "Resizing a nodegroup to zero is not supported in the provided microversion."


def routes(magnum: Magnum, router: Router) -> None:
    """Add them."""
    views_ = ClusterRoutes(magnum)
    router.add("GET", "/v1/clusters", views_.listed)
    router.add("GET", "/v1/clusters/detail", views_.detailed)
    router.add("POST", "/v1/clusters", views_.made)
    router.add("GET", "/v1/clusters/{id}", views_.shown)
    router.add("DELETE", "/v1/clusters/{id}", views_.removed)
    router.add("PATCH", "/v1/clusters/{id}", views_.patched)
    router.add("POST", "/v1/clusters/{id}/actions/resize", views_.resized)
    router.add("POST", "/v1/clusters/{id}/actions/upgrade", views_.upgraded)


class ClusterRoutes:
    """Handlers."""

    def __init__(self, magnum: Magnum) -> None:
        self._magnum = magnum

    # -- reading ------------------------------------------------------------------------------------------------------

    def listed(self, request: Request) -> Answer:
        """GET /clusters."""
        return self._list(request, detail=False)

    def detailed(self, request: Request) -> Answer:
        """GET /clusters/detail."""
        return self._list(request, detail=True)

    def _list(self, request: Request, *, detail: bool) -> Answer:
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:get_all")
        limit, marker, key, descending = paging(request)
        page: list[str] = []
        last = ""
        with magnum.collection.lock:
            magnum.conductor.catch_up()
            now = magnum.clock.now()
            if magnum.lists_broken:
                raise fault(
                    400, "Invalid input for field/attribute master_count. Value: '0'. Value should be greater or equal to 1"
                )
            after = magnum.cluster(me, marker) if marker else None
            everyone = magnum.collection.orders(None if me.is_admin else me.project_id)
            for cluster in everyone.walk(key, after, descending=descending):
                if cluster.visible_at > now:
                    continue
                page.append(self._rendered(magnum.whole(cluster), request.origin, version, detail=detail))
                last = cluster.uuid
                if len(page) == limit:
                    break
        magnum.costs.charge(costs.LIST_BASE_S + costs.LISTED_S * len(page), listed=len(page))
        body = f'{{"clusters": [{", ".join(page)}]'
        if len(page) == limit:
            path = "clusters/detail" if detail else "clusters"
            body += f', "next": {json.dumps(next_page(request, path, (limit, last, key, descending)))}'
        return Answer(200, f"{body}}}".encode(), headers(version))

    def _rendered(self, cluster: Cluster, origin: str, version: tuple[int, int], *, detail: bool) -> str:
        """A cluster's JSON, made once and kept until it changes: a page of 1,000 would take a tenth of a second otherwise."""
        kept = self._magnum.collection.rendered.setdefault(cluster.uuid, {})
        key = (origin, version >= (1, 13), detail)
        if key not in kept:
            kept[key] = json.dumps(views.cluster(cluster, origin, version, detail=detail))
        return kept[key]

    def shown(self, request: Request) -> Answer:
        """GET /clusters/{id}."""
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:get")
        magnum.costs.charge(costs.GET_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            body = views.cluster(cluster, request.origin, version, detail=True)
            if cluster.status.endswith("_FAILED"):
                body["faults"] = {group.name: group.status_reason for group in cluster.groups if group.tells_fault}
        return Answer(200, body, headers(version))

    # -- create ---------------------------------------------------------------------------------------------------------

    def made(self, request: Request) -> Answer:
        """POST /clusters."""
        magnum = self._magnum
        me, version = magnum.recognize(request)
        body = read("cluster", body_of(request, "cluster"), FIELDS)
        if body.get("node_count") == 0 and version < _EMPTY:
            raise fault(400, _NOT_EMPTY)
        with magnum.collection.lock:
            template = magnum.template(me, body["cluster_template_id"], 404 if version >= _EMPTY else 400)
            masters = check_masters(body, template)
            magnum.permit(me, "cluster:create", writes=True)
            check_quota(magnum, me)
            cluster = build(magnum, me, body, template, masters)
        magnum.costs.charge(costs.CREATE_S)
        with magnum.collection.lock:
            magnum.conductor.accept(lambda: magnum.conductor.create(cluster))
        return Answer(202, {"uuid": cluster.uuid}, headers(version))

    # -- change ---------------------------------------------------------------------------------------------------------

    def resized(self, request: Request) -> Answer:
        """POST /clusters/{id}/actions/resize: answers 202 in every state; the conductor may refuse in silence."""
        magnum = self._magnum
        me, version = magnum.recognize(request)
        require(request, version, (1, 7), "resize")
        body = read("cluster_resize_req", body_of(request, "cluster_resize_req"), _RESIZE)
        count = body["node_count"]
        if count == 0 and version < _EMPTY:
            raise fault(400, _NOT_EMPTY)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            magnum.permit(me, "cluster:resize", writes=True)
            group = find_group(cluster, body.get("nodegroup") or "default-worker")
            if group.role == "master":
                raise fault(400, "Resizing the master nodegroup is not supported by this driver.")
            check_range(group, count)
            removed = [str(node) for node in body.get("nodes_to_remove") or []]
            magnum.conductor.accept(lambda: magnum.conductor.resize(cluster.uuid, group.uuid, count, removed))
        return Answer(202, {"uuid": cluster.uuid}, headers(version))

    def patched(self, request: Request) -> Answer:
        """PATCH: node_count alone can be changed."""
        magnum = self._magnum
        me, version = magnum.recognize(request)
        changes = read_patch(request, internal=_INTERNAL, mandatory=_MANDATORY)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            magnum.permit(me, "cluster:update", writes=True)
            worker = find_group(cluster, "default-worker")
            document: dict[str, Any] = dict.fromkeys(FIELDS, "") | {"node_count": worker.node_count, "labels": dict(cluster.labels)}
            document |= {"health_status": cluster.health_status, "health_status_reason": cluster.health_reason}
            wanted = apply(document, changes)
            others = {change["path"].lstrip("/").split("/")[0] for change in changes} - _PATCHABLE
            if others:
                raise fault(400, f"cannot change cluster property(ies) {', '.join(sorted(others))}.")
            count = _patched_count(wanted.get("node_count", 1), version)
            health = (wanted.get("health_status"), wanted.get("health_status_reason") or {})
            if not me.is_admin and health != (cluster.health_status, cluster.health_reason):
                raise fault(403, "Policy doesn't allow cluster:update_health_status to be performed.")
            if changes:
                magnum.conductor.accept(lambda: magnum.conductor.patch(cluster.uuid, count, *health))
        return Answer(202, {"uuid": cluster.uuid}, headers(version))

    def upgraded(self, request: Request) -> Answer:
        """POST /clusters/{id}/actions/upgrade."""
        magnum = self._magnum
        me, version = magnum.recognize(request)
        if version < (1, 8):
            raise fault(400, "Cluster upgrade is not supported in the provided microversion.")
        body = read("cluster_upgrade_req", body_of(request, "cluster_upgrade_req"), _UPGRADE)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            magnum.permit(me, "cluster:upgrade", writes=True)
            template = magnum.template(me, str(body.get("cluster_template", "Unset")), 404)
            if "max_batch_size" not in body:
                raise fault(500, "Cannot convert Unset to primitive", code="server")
            magnum.conductor.accept(lambda: magnum.conductor.upgrade(cluster.uuid, template))
        return Answer(202, {"uuid": cluster.uuid}, headers(version))

    def removed(self, request: Request) -> Answer:
        """DELETE: 204 at once, gone later."""
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:delete", writes=True)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            magnum.conductor.accept(lambda: magnum.conductor.delete(cluster.uuid))
        return Answer(204, None, headers(version))


def _patched_count(value: Any, version: tuple[int, int]) -> int:
    if not isinstance(value, int):
        raise invalid("node_count", value, "'<' not supported between instances of 'str' and 'int'")
    if value < 0:
        raise invalid("node_count", value, "Value should be greater or equal to 0")
    if value == 0 and version < _EMPTY:
        raise fault(400, _NOT_EMPTY)
    return value
