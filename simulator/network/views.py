"""Neutron's API."""

from functools import partial
from typing import Any

from simulator.http import Answer, Request, Router
from simulator.identity import Identity, Keystone
from simulator.network import listing
from simulator.network.attributes import checked
from simulator.network.base import KINDS, Thing, absent, fault
from simulator.network.neutron import Neutron
from simulator.network.security import default_group

_WRITERS = {"admin", "manager", "member"}
#: Rules have no tags of their own here; everything else has.
_TAGGED = tuple(kind for kind in KINDS if kind != "security_group_rule")
_MAX_TAG = 255


def _forbidden(rule: str) -> Exception:
    return fault(403, "PolicyNotAuthorized", f"rule:{rule} is disallowed by policy")


class Views:
    """The calls on things of any kind."""

    def __init__(self, neutron: Neutron, keystone: Keystone) -> None:
        self._neutron = neutron
        self._keystone = keystone

    def _seen(self, me: Identity, kind: str, thing: Thing) -> bool:
        if kind == "subnet":  # of a shared network, for everyone
            network = self._neutron.networks.get(thing["network_id"], {})
            if network.get("shared") or network.get("router:external"):
                return True
        return me.is_admin or bool(thing.get("shared") or thing.get("router:external")) or thing["project_id"] == me.project_id

    def _shown(self, kind: str, thing: Thing) -> Thing:
        if kind != "security_group":
            return dict(thing)
        rules = [dict(rule) for rule in self._neutron.all("security_group_rule", security_group_id=thing["id"])]
        return {**thing, "security_group_rules": rules}

    def listed(self, kind: str, plural: str, request: Request) -> Answer:
        """GET of all."""
        me = self._keystone.identify(request)
        with self._neutron.lock:
            if kind == "security_group" and me.project_id:
                default_group(self._neutron, me.project_id)
            seen = [self._shown(kind, thing) for thing in self._neutron.all(kind) if self._seen(me, kind, thing)]
            return Answer(200, listing.page(kind, plural, request, seen))

    def shown(self, kind: str, request: Request) -> Answer:
        """GET of one."""
        with self._neutron.lock:
            found = self._shown(kind, self._mine(kind, request))
            return Answer(200, {kind: listing.narrowed(found, listing.chosen(request))})

    def _mine(self, kind: str, request: Request, verb: str = "get") -> Thing:
        me = self._keystone.identify(request)
        found = self._neutron.find(kind, request.variables["id"])
        if not self._seen(me, kind, found):
            raise absent(kind, request.variables["id"])
        if verb != "get" and (not me.roles & _WRITERS or not (me.is_admin or found["project_id"] == me.project_id)):
            raise _forbidden(f"{verb}_{kind}")
        return found

    def _given(self, kind: str, request: Request) -> Any:
        body = _body(request)
        if kind not in body:
            raise fault(400, "HTTPBadRequest", f"Unable to find '{kind}' in request body")
        return body[kind]

    def create(self, kind: str, request: Request) -> Answer:
        """POST."""
        me = self._keystone.identify(request)
        if not me.roles & _WRITERS:
            raise _forbidden(f"create_{kind}")
        given = checked(kind, self._given(kind, request), new=True, admin=me.is_admin)
        project = given.pop("project_id", given.pop("tenant_id", None)) or me.project_id or ""
        if project != me.project_id and not me.is_admin:
            raise _forbidden(f"create_{kind}")
        with self._neutron.lock:
            self._check_owner(me, kind, given)
            made = self._neutron.create(kind, project, given)
            return Answer(201, {kind: self._shown(kind, made)})

    def _check_owner(self, me: Identity, kind: str, given: Thing) -> None:
        """A foreign network or group is not there; a public network is there, and still not for everyone to change."""
        needed = {"subnet": ("network", "network_id"), "port": ("network", "network_id")}
        needed["security_group_rule"] = ("security_group", "security_group_id")
        if me.is_admin or kind not in needed:
            return
        owner, name = needed[kind]
        found = self._neutron.find(owner, given[name])
        if owner == "network" and not self._seen(me, owner, found):
            raise absent(owner, given[name])
        if found["project_id"] != me.project_id and not (kind == "port" and found.get("shared") and not found["router:external"]):
            raise _forbidden(f"create_{kind}")

    def update(self, kind: str, request: Request) -> Answer:
        """PUT."""
        with self._neutron.lock:
            found = self._mine(kind, request, "update")
            me = self._keystone.identify(request)
            given = checked(kind, self._given(kind, request), new=False, admin=me.is_admin)
            return Answer(200, {kind: self._shown(kind, self._neutron.update(kind, found["id"], given))})

    def delete(self, kind: str, request: Request) -> Answer:
        """DELETE."""
        with self._neutron.lock:
            found = self._mine(kind, request, "delete")
            self._neutron.delete(kind, found["id"])
        return Answer(204)

    # -- routers ------------------------------------------------------------------------------------------------------

    def interface(self, verb: str, request: Request) -> Answer:
        """PUT /routers/{id}/add_router_interface and remove_router_interface."""
        with self._neutron.lock:
            router = self._mine("router", request, f"{verb}_router_interface")
            body = _body(request)
            call = self._neutron.attach if verb == "add" else self._neutron.detach
            port = call(router["id"], subnet=body.get("subnet_id"), port=body.get("port_id"))
        subnets = [ip["subnet_id"] for ip in port["fixed_ips"]]
        told = {"port_id": port["id"], "network_id": port["network_id"], "subnet_id": subnets[0] if subnets else None}
        project = {"project_id": router["project_id"], "tenant_id": router["project_id"]}
        return Answer(200, {"id": router["id"], **project, **told, "subnet_ids": subnets})

    def routes(self, verb: str, request: Request) -> Answer:
        """PUT /routers/{id}/add_extraroutes and remove_extraroutes."""
        with self._neutron.lock:
            router = self._mine("router", request, f"{verb}_extraroutes")
            given = self._given("router", request)
            call = self._neutron.routes_add if verb == "add" else self._neutron.routes_away
            return Answer(200, {"router": dict(call(router["id"], given.get("routes") or []))})

    # -- tags ---------------------------------------------------------------------------------------------------------

    def tags(self, kind: str, request: Request) -> Answer:
        """GET, PUT and DELETE /{kind}/{id}/tags."""
        with self._neutron.lock:
            found = self._mine(kind, request, "get" if request.method == "GET" else "update")
            if request.method == "GET":
                return Answer(200, {"tags": found["tags"]})
            wanted = _body(request).get("tags") if request.method == "PUT" else []
            if not isinstance(wanted, list) or not all(isinstance(tag, str) and 0 < len(tag) <= _MAX_TAG for tag in wanted):
                raise fault(400, "HTTPBadRequest", "Invalid tags body")
            self._neutron.touch(kind, found, tags=list(dict.fromkeys(wanted)))
            return Answer(204) if request.method == "DELETE" else Answer(200, {"tags": found["tags"]})

    def tag(self, kind: str, request: Request) -> Answer:
        """GET, PUT and DELETE of one tag."""
        with self._neutron.lock:
            found = self._mine(kind, request, "get" if request.method == "GET" else "update")
            name, held = request.variables["tag"], list(found["tags"])
            if request.method == "PUT":
                self._neutron.touch(kind, found, tags=held if name in held else [*held, name])
                return Answer(201)
            if name not in held:
                raise fault(404, "TagNotFound", f"Tag {name} could not be found.")
            if request.method == "DELETE":
                self._neutron.touch(kind, found, tags=[tag for tag in held if tag != name])
            return Answer(204)

    # -- quotas -------------------------------------------------------------------------------------------------------

    def quota(self, request: Request) -> Answer:
        """GET, PUT and DELETE /quotas/{project}; PUT and DELETE are for administrators."""
        me = self._keystone.identify(request)
        project = request.variables["project"]
        if not me.is_admin and (request.method != "GET" or project != me.project_id):
            raise _forbidden({"GET": "get", "PUT": "update", "DELETE": "delete"}[request.method] + "_quota")
        with self._neutron.lock:
            if request.method == "DELETE":
                self._neutron.quotas.drop(project)
                return Answer(204)
            if request.method == "PUT":
                return Answer(200, {"quota": self._neutron.quotas.put(project, self._given("quota", request))})
            return Answer(200, {"quota": self._neutron.quotas.of(project)})

    def quota_details(self, request: Request) -> Answer:
        """GET /quotas/{project}/details."""
        me = self._keystone.identify(request)
        if not me.is_admin and request.variables["project"] != me.project_id:
            raise _forbidden("get_quota")
        with self._neutron.lock:
            return Answer(200, {"quota": self._neutron.quotas.details(request.variables["project"])})


def _body(request: Request) -> dict[str, Any]:
    try:
        body = request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise fault(400, "HTTPBadRequest", "Request body is not a JSON object")
    return body


def routes(neutron: Neutron, keystone: Keystone) -> Router:
    """Everything under /network."""
    router = Router()
    views = Views(neutron, keystone)

    def versions(request: Request) -> Answer:
        one = {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"{request.origin}/network/v2.0/"}]}
        return Answer(200, {"versions": [one]})

    router.add("GET", "/", versions)
    router.add("GET", "/v2.0", lambda _: Answer(200, {"resources": []}))
    router.add("GET", "/v2.0/extensions", lambda _: Answer(200, {"extensions": []}))
    for verb in ("add", "remove"):
        router.add("PUT", f"/v2.0/routers/{{id}}/{verb}_router_interface", partial(views.interface, verb))
        router.add("PUT", f"/v2.0/routers/{{id}}/{verb}_extraroutes", partial(views.routes, verb))
    router.add("GET PUT DELETE", "/v2.0/quotas/{project}", views.quota)
    for path in ("/v2.0/quotas/{project}/details", "/v2.0/quotas/{project}/details.json"):
        router.add("GET", path, views.quota_details)
    for kind in KINDS:
        _routes_of(router, views, kind)
    return router


def _routes_of(router: Router, views: Views, kind: str) -> None:
    plural = f"{kind}s"
    path = f"/v2.0/{plural.replace('_', '-')}"
    router.add("GET", path, lambda request: views.listed(kind, plural, request))
    router.add("POST", path, lambda request: views.create(kind, request))
    router.add("GET", path + "/{id}", lambda request: views.shown(kind, request))
    router.add("PUT", path + "/{id}", lambda request: views.update(kind, request))
    router.add("DELETE", path + "/{id}", lambda request: views.delete(kind, request))
    if kind in _TAGGED:
        router.add("GET PUT DELETE", path + "/{id}/tags", lambda request: views.tags(kind, request))
        router.add("GET PUT DELETE", path + "/{id}/tags/{tag}", lambda request: views.tag(kind, request))
