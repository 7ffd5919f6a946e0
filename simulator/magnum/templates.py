"""/v1/clustertemplates."""

import uuid
from typing import Any

from simulator import costs
from simulator.http import Answer, Request, Router
from simulator.magnum import views
from simulator.magnum.model import Template
from simulator.magnum.patching import read_patch
from simulator.magnum.personalities import DEFAULT
from simulator.magnum.service import Magnum
from simulator.magnum.wire import body_of, fault, headers, invalid, paging

_KNOWN = {"name", "coe", *views.TEMPLATE_FIELDS}
_DEFAULTS: dict[str, Any] = {
    "network_driver": "calico",
    "registry_enabled": False,
    "tls_disabled": False,
    "public": False,
    "server_type": "vm",
    "master_lb_enabled": False,
    "floating_ip_enabled": True,
    "hidden": False,
    "labels": {},
}


def routes(magnum: Magnum, router: Router) -> None:
    """Add them."""

    def listed(request: Request) -> Answer:
        me, version = magnum.enter(request, "clustertemplate:get_all")
        limit, marker, key, descending = paging(request)
        with magnum.collection.lock:
            seen = [t for t in magnum.collection.templates.values() if magnum.sees_template(me, t)]
            seen.sort(key=lambda t: str(getattr(t, key, None) or t.created_at), reverse=descending)
            if marker:
                place = next((i for i, t in enumerate(seen) if t.uuid == marker), None)
                if place is None:
                    raise fault(404, f"ClusterTemplate {marker} could not be found.")
                seen = seen[place + 1 :]
            page = [views.template(item, request.origin) for item in seen[:limit]]
        magnum.costs.charge(costs.OTHER_S)
        return Answer(200, {"clustertemplates": page}, headers(version))

    def shown(request: Request) -> Answer:
        me, version = magnum.enter(request, "clustertemplate:get")
        with magnum.collection.lock:
            item = magnum.template(me, request.variables["id"], 404)
        magnum.costs.charge(costs.OTHER_S)
        return Answer(200, views.template(item, request.origin), headers(version))

    def made(request: Request) -> Answer:
        me, version = magnum.enter(request, "clustertemplate:create", writes=True)
        body = body_of(request, "cluster_template")
        with magnum.collection.lock:
            item = build(magnum, body, me.project_id or "", me.user_id)
        magnum.costs.charge(costs.WRITE_S)
        return Answer(201, views.template(item, request.origin), headers(version))

    def patched(request: Request) -> Answer:
        me, version = magnum.enter(request, "clustertemplate:update", writes=True)
        with magnum.collection.lock:
            item = magnum.template(me, request.variables["id"], 404)
            _require_own(magnum, me.project_id, item, me.is_admin)
            _require_unused(magnum, item, "ClusterTemplate {} is referenced by one or multiple clusters.")
            for change in read_patch(request):
                name = str(change.get("path", "")).lstrip("/")
                if name == "name":
                    item.name = str(change.get("value"))
                elif name in _KNOWN:
                    item.body[name] = None if change.get("op") == "remove" else change.get("value")
            item.updated_at = magnum.clock.now()
            magnum.collection.save_template(item)
        return Answer(200, views.template(item, request.origin), headers(version))

    def removed(request: Request) -> Answer:
        me, version = magnum.enter(request, "clustertemplate:delete", writes=True)
        with magnum.collection.lock:
            item = magnum.template(me, request.variables["id"], 404)
            _require_own(magnum, me.project_id, item, me.is_admin)
            _require_unused(magnum, item, "ClusterTemplate {} is referenced by one or multiple clusters.")
            magnum.collection.drop_template(item.uuid)
        return Answer(204, None, headers(version))

    for path in ("/v1/clustertemplates", "/v1/clustertemplates/detail"):
        router.add("GET", path, listed)
    router.add("POST", "/v1/clustertemplates", made)
    router.add("GET", "/v1/clustertemplates/{id}", shown)
    router.add("PATCH", "/v1/clustertemplates/{id}", patched)
    router.add("DELETE", "/v1/clustertemplates/{id}", removed)


def build(magnum: Magnum, body: dict[str, Any], project: str, user: str) -> Template:
    """Make a template, for a caller or for a stack. Raises Magnum's refusals. Callers hold the collection's lock."""
    _check(magnum, body, user)
    image = magnum.glance.find(body["image_id"])
    item = Template(
        uuid=str(uuid.uuid4()),
        name=body.get("name") or f"template-{uuid.uuid4().hex[:6]}",
        project_id=project,
        user_id=user,
        body={**_DEFAULTS, "driver": DEFAULT, "cluster_distro": (image or {}).get("os_distro"), **body},
        created_at=magnum.clock.now(),
    )
    magnum.collection.save_template(item)
    return item


def drop(magnum: Magnum, key: str) -> None:
    """Remove a template of a stack. Raises 404, and 400 while a cluster uses it. Callers hold the collection's lock."""
    item = magnum.collection.templates.get(key)
    if item is None:
        raise fault(404, f"ClusterTemplate {key} could not be found.")
    _require_unused(magnum, item, "ClusterTemplate {} is referenced by one or multiple clusters.")
    magnum.collection.drop_template(key)


def _check(magnum: Magnum, body: dict[str, Any], user: str) -> None:
    unknown = sorted(set(body) - _KNOWN)
    if unknown:
        raise fault(400, f"Unknown attribute for argument cluster_template: {', '.join(unknown)}")
    for name in ("image_id", "coe"):
        if not body.get(name):
            raise invalid(name, None, "Mandatory field missing.")
    if body["coe"] != "kubernetes":
        raise invalid("coe", body["coe"], "Value should be one of: kubernetes")
    image = magnum.glance.find(body["image_id"])
    if image is None:
        raise fault(400, f"Image {body['image_id']} could not be found.")
    if not image.get("os_distro"):
        raise fault(404, "Image doesn't contain os_distro field.")
    for name in ("flavor_id", "master_flavor_id"):
        if body.get(name) and not magnum.nova.has_flavor(body[name]):
            raise fault(400, f"Unable to find flavor {body[name]}.")
    if body.get("keypair_id") and not magnum.nova.has_keypair(user, body["keypair_id"]):
        raise fault(404, f"Unable to find keypair {body['keypair_id']}.")
    network = body.get("external_network_id")
    if network and not magnum.neutron.has_network(network, external=True):
        raise fault(400, f"Unable to find external network {network}.")


def _require_own(magnum: Magnum, project: str | None, item: Template, is_admin: bool) -> None:
    del magnum
    if item.project_id != project and not is_admin:
        raise fault(403, "Policy doesn't allow clustertemplate:delete to be performed.")


def _require_unused(magnum: Magnum, item: Template, words: str) -> None:
    if any(cluster.template == item.uuid for cluster in magnum.collection.clusters.values()):
        raise fault(400, words.format(item.uuid))
