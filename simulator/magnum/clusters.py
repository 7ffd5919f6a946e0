"""/v1/clusters."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from simulator import costs
from simulator.http import Answer, Request, Router
from simulator.identity import Identity
from simulator.magnum import views
from simulator.magnum.attachments import check_networks
from simulator.magnum.model import Cluster, NodeGroup, Template
from simulator.magnum.patching import apply, read_patch
from simulator.magnum.personalities import personality
from simulator.magnum.reading import BOOLEAN, LABELS, READONLY, Field, read
from simulator.magnum.service import Magnum
from simulator.magnum.wire import body_of, fault, headers, invalid, paging, require

_REF = Field(least=1, most=255)
_NEEDED_REF = Field(mandatory=True, least=1, most=255)
_FIELDS = {
    "name": Field(least=1, most=242, pattern="^[a-zA-Z][a-zA-Z0-9_.-]*$"),
    "cluster_template_id": _NEEDED_REF,
    "node_count": Field("integer", least=0),
    "master_count": Field("integer", least=1),
    "keypair": _REF,
    "labels": LABELS,
    "merge_labels": BOOLEAN,
    "flavor_id": _REF,
    "master_flavor_id": _REF,
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
_RESIZE = {
    "node_count": Field("integer", mandatory=True, least=0),
    "nodes_to_remove": Field("texts"),
    "nodegroup": _REF,
}
_UPGRADE = {
    "cluster_template": _REF,
    "max_batch_size": Field("integer", least=1),
    "nodegroup": _REF,
}
_INTERNAL = ("/api_address", "/node_addresses", "/master_addresses", "/stack_id", "/ca_cert_ref", "/magnum_cert_ref", "/trust_id")
_MANDATORY = ("/cluster_template_id",)
_OPTIONS = ("docker_volume_size", "fixed_network", "fixed_subnet", "floating_ip_enabled", "master_lb_enabled")


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
            for cluster in self._walk(me, marker, key, descending=descending):
                if (not me.is_admin and cluster.project_id != me.project_id) or cluster.visible_at > now:
                    continue
                page.append(self._rendered(magnum.whole(cluster), request.origin, version, detail=detail))
                last = cluster.uuid
                if len(page) == limit:
                    break
        magnum.costs.charge(costs.LIST_BASE_S + costs.LISTED_S * len(page), listed=len(page))
        body = f'{{"clusters": [{", ".join(page)}]'
        if len(page) == limit:
            path = "clusters/detail" if detail else "clusters"
            way = "desc" if descending else "asc"
            query = f"sort_key={key}&sort_dir={way}&limit={limit}&marker={last}"
            body += f', "next": {json.dumps(f"{request.origin}/container-infra/v1/{path}?{query}")}'
        return Answer(200, f"{body}}}".encode(), headers(version))

    def _rendered(self, cluster: Cluster, origin: str, version: tuple[int, int], *, detail: bool) -> str:
        """A cluster's JSON, made once and kept until it changes: a page of 1,000 would take a tenth of a second otherwise."""
        kept = self._magnum.collection.rendered.setdefault(cluster.uuid, {})
        key = (origin, version >= (1, 13), detail)
        if key not in kept:
            kept[key] = json.dumps(views.cluster(cluster, origin, version, detail=detail))
        return kept[key]

    def _walk(self, me: Identity, marker: str | None, key: str, *, descending: bool) -> Iterator[Cluster]:
        collection = self._magnum.collection
        after = self._magnum.cluster(me, marker) if marker else None
        if key == "updated_at":
            order = collection.by_change
            if descending:
                places = order.irange(None, after.order() if after else None, (True, after is None), reverse=True)
            else:
                places = order.irange(after.order() if after else None, None, (after is None, True))
            return (collection.clusters[collection.by_id[place[1]]] for place in places)
        if key == "id":
            ids = collection.by_id
            if descending:
                numbers = ids.irange(None, after.id if after else None, (True, after is None), reverse=True)
            else:
                numbers = ids.irange(after.id if after else None, None, (after is None, True))
            return (collection.clusters[ids[number]] for number in numbers)
        everyone = sorted(collection.clusters.values(), key=lambda c: (str(getattr(c, key) or ""), c.id), reverse=descending)
        start = everyone.index(after) + 1 if after else 0
        return iter(everyone[start:])

    def shown(self, request: Request) -> Answer:
        """GET /clusters/{id}."""
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:get")
        magnum.costs.charge(costs.GET_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            body = views.cluster(cluster, request.origin, version, detail=True)
            if cluster.status.endswith("_FAILED"):
                body["faults"] = {"default-worker": cluster.status_reason} if personality(cluster.driver).has_faults else {}
        return Answer(200, body, headers(version))

    # -- create ---------------------------------------------------------------------------------------------------------

    def made(self, request: Request) -> Answer:
        """POST /clusters."""
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:create", writes=True)
        body = read("cluster", body_of(request, "cluster"), _FIELDS)
        with magnum.collection.lock:
            if body.get("name") is None:
                body["name"] = f"cluster-{uuid.uuid4().hex[:8]}"
            template = magnum.template(me, body["cluster_template_id"], 404 if version >= (1, 10) else 400)
            cluster = self._build(me, body, template, version)
            held = sum(1 for c in magnum.collection.clusters.values() if c.project_id == me.project_id)
            limit = magnum.quota_of(me.project_id)
            if held >= limit:
                words = f"Resource limit exceeded: You have reached the maximum clusters per project, {limit}."
                raise fault(403, f"{words} You may delete a cluster to make room for a new one.")
        magnum.costs.charge(costs.CREATE_S)
        with magnum.collection.lock:
            magnum.conductor.accept(lambda: magnum.conductor.create(cluster))
        return Answer(202, {"uuid": cluster.uuid}, headers(version))

    def _build(self, me: Identity, body: dict[str, Any], template: Template, version: tuple[int, int]) -> Cluster:
        magnum = self._magnum
        nodes = 1 if body.get("node_count") is None else body["node_count"]
        if nodes == 0 and version < (1, 10):
            raise fault(400, "Resizing a nodegroup to zero is not supported in the provided microversion.")
        masters = body.get("master_count") or 1
        if masters % 2 == 0:
            raise fault(400, f"master nodegroup size of {masters} is invalid, size cannot be an even number.")
        if masters > 1 and not (body.get("master_lb_enabled") or template.body.get("master_lb_enabled")):
            raise fault(400, "master_count must be 1 when master_lb_enabled is False")
        flavor = body.get("flavor_id") or template.body.get("flavor_id")
        master_flavor = body.get("master_flavor_id") or template.body.get("master_flavor_id")
        for name in (flavor, master_flavor):
            if name and not magnum.nova.has_flavor(name):
                raise fault(400, f"Unable to find flavor {name}.")
        keypair = body.get("keypair") or template.body.get("keypair_id")
        if keypair and not magnum.nova.has_keypair(me.user_id, keypair):
            raise fault(404, f"Unable to find keypair {keypair}.")
        check_networks(magnum.neutron, me.project_id or "", body)
        labels, overridden, added, skipped = merged(template.body.get("labels") or {}, body.get("labels"), body.get("merge_labels"))
        now = magnum.clock.now()
        driver = personality(labels.get("sim_driver") or template.body.get("driver")).name
        timeout = body.get("create_timeout")
        cluster = Cluster(
            id=magnum.collection.next_id(),
            uuid=str(uuid.uuid4()),
            name=body["name"],
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
            driver=driver,
            created_at=now,
            options={key: body[key] for key in _OPTIONS if key in body},
        )
        least = personality(driver).least_workers
        workers = nodes if nodes >= least else nodes or least
        image = template.body.get("image_id")
        cluster.groups = [
            _group("default-master", "master", master_flavor, image, masters, cluster, 1),
            _group("default-worker", "worker", flavor, image, workers, cluster, 2),
        ]
        return cluster

    # -- change ---------------------------------------------------------------------------------------------------------

    def resized(self, request: Request) -> Answer:
        """POST /clusters/{id}/actions/resize: answers 202 in every state; the conductor may refuse in silence."""
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:resize", writes=True)
        require(request, version, (1, 7), "resize")
        body = read("cluster_resize_req", body_of(request, "cluster_resize_req"), _RESIZE)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            count = body["node_count"]
            if count == 0 and version < (1, 10):
                raise fault(400, "Resizing a nodegroup to zero is not supported in the provided microversion.")
            group = find_group(cluster, body.get("nodegroup") or "default-worker")
            if group.role == "master":
                raise fault(400, "Resizing the master nodegroup is not supported by this driver.")
            check_range(group, count)
            uuid_, name = cluster.uuid, group.uuid
            magnum.conductor.accept(lambda: magnum.conductor.resize(uuid_, name, count, body.get("nodes_to_remove") or []))
        return Answer(202, {"uuid": cluster.uuid}, headers(version))

    def patched(self, request: Request) -> Answer:
        """PATCH: node_count alone can be changed."""
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:update", writes=True)
        changes = read_patch(request, internal=_INTERNAL, mandatory=_MANDATORY)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            known = dict.fromkeys([*_FIELDS, "health_status", "health_status_reason"], "")
            document: dict[str, Any] = {**known, "node_count": cluster.node_count, "labels": dict(cluster.labels)}
            wanted = apply(document, changes)
            for change in changes:
                name = change["path"].lstrip("/").split("/")[0]
                if name not in {"node_count", "health_status", "health_status_reason"}:
                    raise fault(400, f"cannot change cluster property(ies) {name}.")
                if name == "node_count":
                    count = _patched_count(wanted.get("node_count", 1))
                    magnum.conductor.accept(_later(magnum.conductor.patch_count, cluster.uuid, count))
        return Answer(202, {"uuid": cluster.uuid}, headers(version))

    def upgraded(self, request: Request) -> Answer:
        """POST /clusters/{id}/actions/upgrade."""
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:upgrade", writes=True)
        if version < (1, 8):
            raise fault(400, "Cluster upgrade is not supported in the provided microversion.")
        body = read("cluster_upgrade_req", body_of(request, "cluster_upgrade_req"), _UPGRADE)
        if "max_batch_size" not in body:
            raise fault(500, "Cannot convert Unset to primitive", code="server")
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            template = magnum.template(me, str(body.get("cluster_template", "Unset")), 404)

            def work() -> None:
                if cluster.uuid in magnum.collection.clusters and cluster.status.endswith("_COMPLETE"):
                    cluster.template = template.uuid
                    cluster.labels = {
                        **cluster.labels,
                        **{k: v for k, v in (template.body.get("labels") or {}).items() if k == "kube_tag"},
                    }
                    magnum.conductor.begin_update(cluster)

            magnum.conductor.accept(work)
        return Answer(202, {"uuid": cluster.uuid}, headers(version))

    def removed(self, request: Request) -> Answer:
        """DELETE: 204 at once, gone later."""
        magnum = self._magnum
        me, version = magnum.enter(request, "cluster:delete", writes=True)
        magnum.costs.charge(costs.WRITE_S)
        with magnum.collection.lock:
            cluster = magnum.cluster(me, request.variables["id"])
            uuid_ = cluster.uuid
            magnum.conductor.accept(lambda: magnum.conductor.delete(uuid_))
        return Answer(204, None, headers(version))


def _patched_count(value: Any) -> int:
    if not isinstance(value, int):
        raise invalid("node_count", value, "'<' not supported between instances of 'str' and 'int'")
    if value < 0:
        raise invalid("node_count", value, "Value should be greater or equal to 0")
    return value


def _later(work: Callable[[str, int], None], uuid_: str, count: int) -> Callable[[], None]:
    return lambda: work(uuid_, count)


def find_group(cluster: Cluster, ref: str) -> NodeGroup:
    """A node group by name or uuid."""
    for group in cluster.groups:
        if ref in {group.name, group.uuid}:
            return group
    raise fault(404, f"Nodegroup {ref} could not be found.")


def check_range(group: NodeGroup, count: int) -> None:
    """Refuse a size outside the group's bounds."""
    if count < group.min_node_count or (group.max_node_count is not None and count > group.max_node_count):
        least, most = group.min_node_count, group.max_node_count
        words = f"Resizing {group.name} outside the allowed range: min_node_count = {least}, max_node_count = {most}"
        raise fault(400, words)


def merged(
    base: dict[str, str], given: dict[str, str] | None, merge: Any
) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, str]]:
    """Labels of a cluster, and which of the template's were overridden, added and skipped."""
    base = {str(k): str(v) for k, v in base.items()}
    own = {str(k): str(v) for k, v in (given or {}).items()}
    if given is None:
        return base, {}, {}, {}
    labels = {**base, **own} if merge in {True, "true", "True"} else own
    overridden = {key: base[key] for key in base if key in labels and labels[key] != base[key]}
    added = {key: value for key, value in own.items() if key not in base}
    skipped = {key: value for key, value in base.items() if key not in labels}
    return labels, overridden, added, skipped


def _group(name: str, role: str, flavor: str | None, image: str | None, count: int, cluster: Cluster, number: int) -> NodeGroup:
    return NodeGroup(
        uuid=str(uuid.uuid4()),
        name=name,
        role=role,
        flavor_id=flavor,
        image_id=image,
        node_count=count,
        is_default=True,
        min_node_count=0,
        max_node_count=None,
        status="CREATE_IN_PROGRESS",
        created_at=cluster.created_at,
        updated_at=cluster.created_at,
        number=cluster.id * 10 + number,
        labels=cluster.labels,
    )
