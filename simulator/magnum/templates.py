"""/v1/clustertemplates."""

import uuid
from typing import Any

from simulator import costs
from simulator.clock import iso
from simulator.http import Answer, Request, Router
from simulator.identity import Identity
from simulator.magnum import views
from simulator.magnum.model import Template
from simulator.magnum.patching import apply, read_patch
from simulator.magnum.personalities import for_template, personality
from simulator.magnum.reading import BOOLEAN, LABELS, READONLY, TEXT, Field, read
from simulator.magnum.service import Magnum
from simulator.magnum.wire import body_of, fault, headers, next_page, paging

_SIZE = Field("integer", least=1)
_FIELDS = {
    "name": TEXT,
    "coe": Field(mandatory=True, choices=("kubernetes",)),
    "image_id": Field(mandatory=True, least=1, most=255),
    "flavor_id": TEXT,
    "master_flavor_id": TEXT,
    "keypair_id": TEXT,
    "external_network_id": TEXT,
    "fixed_network": TEXT,
    "fixed_subnet": TEXT,
    "network_driver": TEXT,
    "volume_driver": TEXT,
    "docker_volume_size": _SIZE,
    "docker_storage_driver": TEXT,
    "cluster_distro": TEXT,
    "dns_nameserver": Field(),
    "apiserver_port": Field("integer", least=1024, most=65535),
    "http_proxy": TEXT,
    "https_proxy": TEXT,
    "no_proxy": TEXT,
    "insecure_registry": TEXT,
    "server_type": Field(choices=("vm", "bm")),
    "labels": LABELS,
    "tags": Field(most=255),
    "driver": TEXT,
    "registry_enabled": BOOLEAN,
    "tls_disabled": BOOLEAN,
    "public": BOOLEAN,
    "hidden": BOOLEAN,
    "master_lb_enabled": BOOLEAN,
    "floating_ip_enabled": BOOLEAN,
    "project_id": READONLY,
    "user_id": READONLY,
    "links": READONLY,
}
_DEFAULTS: dict[str, Any] = {
    "registry_enabled": False,
    "tls_disabled": False,
    "public": False,
    "server_type": "vm",
    "master_lb_enabled": False,
    "floating_ip_enabled": True,
    "hidden": False,
    "labels": {},
}
_LASTING = ("network_driver", "external_network_id", "tls_disabled", "public", "server_type", "coe", "registry_enabled")
_MANDATORY = tuple(f"/{name}" for name in (*_LASTING, "cluster_distro", "hidden", "image_id"))
_CHANGEABLE = [name for name, field in _FIELDS.items() if not field.readonly]
_NOT_PUBLISHED = "Not authorized to set public or hidden flag for cluster template."
_NETWORK_DRIVERS = ("flannel", "calico", "cilium")
_LEAST_DEVICEMAPPER_GB = 3


def routes(magnum: Magnum, router: Router) -> None:  # noqa: C901, PLR0915 - a table of small handlers
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
        body: dict[str, Any] = {"clustertemplates": page}
        if len(page) == limit:
            path = request.path.removeprefix("/v1/")
            body["next"] = next_page(request, path, (limit, page[-1]["uuid"], key, descending))
        return Answer(200, body, headers(version))

    def shown(request: Request) -> Answer:
        me, version = magnum.enter(request, "clustertemplate:get")
        with magnum.collection.lock:
            item = magnum.template(me, request.variables["id"], 404)
        magnum.costs.charge(costs.OTHER_S)
        return Answer(200, views.template(item, request.origin), headers(version))

    def made(request: Request) -> Answer:
        me, _ = magnum.recognize(request)
        body = read("cluster_template", body_of(request, "cluster_template"), _FIELDS)
        driver, image = _driver_of(magnum, body)
        magnum.permit(me, "clustertemplate:create", writes=True)
        _check_resources(magnum, body)
        if (body.get("public") or body.get("hidden")) and not me.is_admin:
            raise fault(403, _NOT_PUBLISHED)
        with magnum.collection.lock:
            item = _kept(magnum, body, driver, image, me.project_id or "", me.user_id)
        magnum.costs.charge(costs.WRITE_S)
        place = {"Location": f"{request.origin}/container-infra/v1/clustertemplates/{item.uuid}"}
        return Answer(201, views.template(item, request.origin), place)

    def patched(request: Request) -> Answer:
        me, version = magnum.recognize(request)
        changes = read_patch(request, mandatory=_MANDATORY)
        with magnum.collection.lock:
            item = magnum.template(me, request.variables["id"], 404)
            before: dict[str, Any] = dict.fromkeys(_CHANGEABLE) | item.body | {"name": item.name}
            wanted = read("cluster_template", apply(before, changes), _FIELDS)
            _check_drivers(wanted)
            magnum.permit(me, "clustertemplate:update", writes=True)
            _require_own(me, item, "update")
            _check_resources(magnum, wanted)
            changed = {name for name in before if wanted.get(name) != before[name]}
            if changed & {"public", "hidden"} and not me.is_admin:
                raise fault(403, _NOT_PUBLISHED)
            if changed != {"name"} and not changed <= {"public", "hidden"}:
                _require_unused(magnum, item)
            shown_at = item.updated_at
            if changed:
                item.name = wanted.pop("name")
                item.body = wanted
                item.updated_at = magnum.clock.now()
                magnum.collection.save_template(item)
            told = views.template(item, request.origin) | {"updated_at": iso(shown_at)}  # that of before, as it really is
        magnum.costs.charge(costs.WRITE_S)
        return Answer(200, told, headers(version))

    def removed(request: Request) -> Answer:
        me, version = magnum.enter(request, "clustertemplate:delete", writes=True)
        with magnum.collection.lock:
            item = magnum.template(me, request.variables["id"], 404)
            _require_own(me, item, "delete")
            _require_unused(magnum, item)
            magnum.collection.drop_template(item.uuid)
        return Answer(204, None, headers(version))

    for path in ("/v1/clustertemplates", "/v1/clustertemplates/detail"):
        router.add("GET", path, listed)
    router.add("POST", "/v1/clustertemplates", made)
    router.add("GET", "/v1/clustertemplates/{id}", shown)
    router.add("PATCH", "/v1/clustertemplates/{id}", patched)
    router.add("DELETE", "/v1/clustertemplates/{id}", removed)


def build(magnum: Magnum, body: dict[str, Any], project: str, user: str) -> Template:
    """Make a template for a stack. Raises Magnum's refusals. Callers hold the collection's lock."""
    body = read("cluster_template", body, _FIELDS)
    driver, image = _driver_of(magnum, body)
    _check_resources(magnum, body)
    return _kept(magnum, body, driver, image, project, user)


def drop(magnum: Magnum, key: str) -> None:
    """Remove a template of a stack. Raises 404, and 400 while a cluster uses it. Callers hold the collection's lock."""
    item = magnum.collection.templates.get(key)
    if item is None:
        raise fault(404, f"ClusterTemplate {key} could not be found.")
    _require_unused(magnum, item)
    magnum.collection.drop_template(key)


def _driver_of(magnum: Magnum, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    _check_drivers(body)
    image = _image(magnum, body["image_id"])
    driver = for_template(body.get("driver"), image, magnum.driver)
    server_type = body.get("server_type") or "vm"
    if driver is None or server_type != "vm":
        raise fault(400, f"Cluster type ({server_type}, {image['os_distro']}, {body['coe']}) not supported.")
    return driver, image


def _kept(magnum: Magnum, body: dict[str, Any], driver: str, image: dict[str, Any], project: str, user: str) -> Template:
    given = {name: value for name, value in body.items() if value is not None}
    network = {"network_driver": personality(driver).network_drivers[0]}
    item = Template(
        uuid=str(uuid.uuid4()),
        name=body.get("name") or f"template-{uuid.uuid4().hex[:6]}",
        project_id=project,
        user_id=user,
        body={**_DEFAULTS, **network, **given, "driver": driver, "cluster_distro": image["os_distro"]},
        created_at=magnum.clock.now(),
    )
    magnum.collection.save_template(item)
    return item


def _check_drivers(body: dict[str, Any]) -> None:
    network, volume = body.get("network_driver"), body.get("volume_driver")
    if network and network not in _NETWORK_DRIVERS:
        known = f"expecting a {'/'.join(_NETWORK_DRIVERS)}/unspecified network driver"
        raise fault(400, f"Network driver type {network} is not supported, {known}.")
    if volume and volume != "cinder":
        raise fault(400, f"Volume driver type {volume} is not supported, expecting a cinder/unspecified volume driver.")
    size, least = body.get("docker_volume_size"), _LEAST_DEVICEMAPPER_GB
    if body.get("docker_storage_driver") == "devicemapper" and (size is None or size < least):
        words = f"expecting minimum value {least}GB for devicemapper storage driver"
        raise fault(400, f"docker volume size {size} GB is not valid, {words}.")


def _image(magnum: Magnum, ref: str) -> dict[str, Any]:
    image = magnum.glance.find(ref)
    if image is None:
        raise fault(400, f"Image {ref} could not be found.")
    if not image.get("os_distro"):
        raise fault(404, "Image doesn't contain os_distro field.")
    return image


def _check_resources(magnum: Magnum, body: dict[str, Any]) -> None:
    """Refuse what is not there. Keypairs are looked for when a cluster is made: they belong to its user."""
    for name in ("flavor_id", "master_flavor_id"):
        if body.get(name) and not magnum.nova.has_flavor(body[name]):
            raise fault(400, f"Unable to find flavor {body[name]}.")
    network = body.get("external_network_id")
    if network and not magnum.neutron.has_network(network, external=True):
        raise fault(400, f"Unable to find external network {network}.")
    _image(magnum, body["image_id"])


def _require_own(me: Identity, item: Template, action: str) -> None:
    if item.project_id != me.project_id and not me.is_admin:
        raise fault(403, f"Policy doesn't allow clustertemplate:{action} to be performed.")


def _require_unused(magnum: Magnum, item: Template) -> None:
    if any(cluster.template == item.uuid for cluster in magnum.collection.clusters.values()):
        raise fault(400, f"ClusterTemplate {item.uuid} is referenced by one or multiple clusters.")
