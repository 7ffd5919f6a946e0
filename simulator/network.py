"""Neutron: networks, subnets, routers, ports, security groups and floating IPs, with the refusals that deleting things in order needs."""

import ipaddress
import threading
import time
import uuid
from typing import Any

from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Identity, Keystone
from simulator.store import Store

KINDS = ("network", "subnet", "router", "port", "security_group", "security_group_rule", "floatingip")
_TITLES = {
    "network": "Network",
    "subnet": "Subnet",
    "router": "Router",
    "port": "Port",
    "security_group": "SecurityGroup",
    "security_group_rule": "SecurityGroupRule",
    "floatingip": "FloatingIP",
}


def fault(status: int, kind: str, words: str) -> HttpError:
    """An error in Neutron's shape."""
    return HttpError(Answer(status, {"NeutronError": {"type": kind, "message": words, "detail": ""}}))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Neutron:
    """The network service."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lock = threading.RLock()
        self.things: dict[str, dict[str, dict[str, Any]]] = {kind: dict(store.all(kind)) for kind in KINDS}

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """All networks by id."""
        return self.things["network"]

    def add(self, name: str, project: str, *, external: bool) -> None:
        """A network with one subnet, of the seed."""
        key = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"network.{name}"))
        if key in self.networks:
            return
        body = {"id": key, "name": name, "shared": external, "router:external": external, "mtu": 1500 if external else 1450}
        self.create("network", project, body)
        subnet = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"subnet.{name}")),
            "name": name,
            "network_id": key,
            "cidr": "172.24.4.0/24" if external else "10.20.0.0/24",
        }
        self.create("subnet", project, subnet)

    def has_network(self, ref: str, *, external: bool) -> bool:
        """By id or name."""
        return any(ref in {n["id"], n["name"]} and n["router:external"] == external for n in self.networks.values())

    def network_id(self, ref: str) -> str:
        """Of the network with this id or name."""
        for network in self.networks.values():
            if ref in {network["id"], network["name"]}:
                return str(network["id"])
        raise fault(404, "NetworkNotFound", f"Network {ref} could not be found.")

    # -- any kind -----------------------------------------------------------------------------------------------------

    def find(self, kind: str, key: str) -> dict[str, Any]:
        """One thing. Raises 404."""
        found = self.things[kind].get(key)
        if found is None:
            raise fault(404, f"{_TITLES[kind]}NotFound", f"{_TITLES[kind]} {key} could not be found.")
        return found

    def create(self, kind: str, project: str, given: dict[str, Any]) -> dict[str, Any]:
        """Make one. Raises Neutron's refusals."""
        with self.lock:
            now = _now()
            body: dict[str, Any] = {
                "id": str(uuid.uuid4()),
                "name": "",
                "description": "",
                "tags": [],
                "created_at": now,
                "updated_at": now,
                "revision_number": 1,
                "tenant_id": project,
                "project_id": project,
            }
            body |= getattr(self, f"_new_{kind}")(project, given)
            self.things[kind][body["id"]] = body
            self._store.put(kind, body["id"], body)
            return body

    def update(self, kind: str, key: str, given: dict[str, Any]) -> dict[str, Any]:
        """Change one."""
        with self.lock:
            found = self.find(kind, key)
            fixed = {"id", "cidr", "network_id", "project_id", "tenant_id"} & given.keys()
            changed = {name for name in fixed if found.get(name) != given[name]}
            if changed:
                raise fault(400, "HTTPBadRequest", f"Cannot update read-only attribute {changed.pop()}")
            found |= {**given, "updated_at": _now(), "revision_number": found["revision_number"] + 1}
            self._store.put(kind, key, found)
            return found

    def delete(self, kind: str, key: str) -> None:
        """Remove one. Raises 409 where something uses it."""
        with self.lock:
            self.find(kind, key)
            check = getattr(self, f"_free_{kind}", None)
            if check is not None:
                check(key)
            if kind == "security_group":
                for rule in [r["id"] for r in self.things["security_group_rule"].values() if r["security_group_id"] == key]:
                    self.delete("security_group_rule", rule)
            if kind == "subnet":
                for network in self.networks.values():
                    if key in network["subnets"]:
                        network["subnets"].remove(key)
            del self.things[kind][key]
            self._store.drop(kind, key)

    # -- what each takes ------------------------------------------------------------------------------------------------

    def _new_network(self, _project: str, given: dict[str, Any]) -> dict[str, Any]:
        usual = {
            "admin_state_up": True,
            "mtu": 1450,
            "status": "ACTIVE",
            "subnets": [],
            "shared": False,
            "router:external": False,
            "port_security_enabled": True,
        }
        return usual | given

    def _new_subnet(self, _project: str, given: dict[str, Any]) -> dict[str, Any]:
        network = self.find("network", given.get("network_id", ""))
        try:
            cidr = ipaddress.ip_network(given.get("cidr", ""))
        except ValueError:
            words = f"Invalid input for cidr. Reason: '{given.get('cidr')}' is not a valid IP subnet."
            raise fault(400, "HTTPBadRequest", words) from None
        for other in network["subnets"]:
            known = self.things["subnet"][other]
            if ipaddress.ip_network(known["cidr"]).overlaps(cidr):
                words = (
                    f"Invalid input for operation: Requested subnet with cidr: {cidr} for network: {network['id']} overlaps with another"
                    " subnet."
                )
                raise fault(400, "InvalidInput", words)
        body = {"ip_version": 4, "enable_dhcp": True, "dns_nameservers": [], "host_routes": [], **given, "cidr": str(cidr)}
        body.setdefault("id", str(uuid.uuid4()))
        if "gateway_ip" not in given:
            body["gateway_ip"] = str(cidr[1])
        network["subnets"].append(body["id"])
        self._store.put("network", network["id"], network)
        return body

    def _new_router(self, _project: str, given: dict[str, Any]) -> dict[str, Any]:
        gateway = given.get("external_gateway_info")
        if gateway and not self.find("network", gateway.get("network_id", ""))["router:external"]:
            raise fault(400, "BadRequest", f"Bad router request: Network {gateway['network_id']} is not an external network.")
        return {"admin_state_up": True, "status": "ACTIVE", "routes": [], "external_gateway_info": None, **given}

    def _new_port(self, _project: str, given: dict[str, Any]) -> dict[str, Any]:
        network = self.find("network", given.get("network_id", ""))
        wanted = given.get("fixed_ips") or [{"subnet_id": subnet} for subnet in network["subnets"][:1]]
        fixed = [self._address(one) for one in wanted]
        usual = {
            "admin_state_up": True,
            "status": "DOWN",
            "device_id": "",
            "device_owner": "",
            "security_groups": [],
            "mac_address": "fa:16:3e:" + ":".join(uuid.uuid4().hex[i : i + 2] for i in (0, 2, 4)),
        }
        return usual | given | {"fixed_ips": fixed}

    def _address(self, wish: dict[str, Any]) -> dict[str, str]:
        subnet = self.find("subnet", wish.get("subnet_id") or wish.get("subnet") or "")
        taken = {ip["ip_address"] for port in self.things["port"].values() for ip in port["fixed_ips"]} | {subnet.get("gateway_ip")}
        if wish.get("ip_address"):
            if wish["ip_address"] in taken:
                raise fault(409, "IpAddressAlreadyAllocated", f"IP address {wish['ip_address']} already allocated in subnet.")
            return {"subnet_id": subnet["id"], "ip_address": wish["ip_address"]}
        for address in ipaddress.ip_network(subnet["cidr"]).hosts():
            if str(address) not in taken:
                return {"subnet_id": subnet["id"], "ip_address": str(address)}
        raise fault(409, "IpAddressGenerationFailure", f"No more IP addresses available on network {subnet['network_id']}.")

    def _new_security_group(self, _project: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"stateful": True, "shared": False, **given}

    def _new_security_group_rule(self, _project: str, given: dict[str, Any]) -> dict[str, Any]:
        self.find("security_group", given.get("security_group_id", ""))
        keys = ("direction", "ethertype", "protocol", "remote_ip_prefix", "remote_group_id", "port_range_min", "port_range_max")
        body = {key: given.get(key) for key in keys} | {"security_group_id": given["security_group_id"]}
        for rule in self.things["security_group_rule"].values():
            if all(rule.get(key) == value for key, value in body.items()):
                words = f"Security group rule already exists. Rule id is {rule['id']}."
                raise fault(409, "SecurityGroupRuleExists", words)
        return body

    def _new_floatingip(self, _project: str, given: dict[str, Any]) -> dict[str, Any]:
        network = self.find("network", given.get("floating_network_id", ""))
        address = self._address({"subnet_id": network["subnets"][0]})["ip_address"]
        return {"status": "DOWN", "port_id": None, "floating_ip_address": address, **given}

    # -- what keeps each from going -------------------------------------------------------------------------------------

    def _free_network(self, key: str) -> None:
        if any(port["network_id"] == key for port in self.things["port"].values()):
            words = f"Unable to complete operation on network {key}. There are one or more ports still in use on the network."
            raise fault(409, "NetworkInUse", words)
        for subnet in list(self.networks[key]["subnets"]):
            self.delete("subnet", subnet)

    def _free_subnet(self, key: str) -> None:
        if any(ip["subnet_id"] == key for port in self.things["port"].values() for ip in port["fixed_ips"]):
            words = f"Unable to complete operation on subnet {key}: One or more ports have an IP allocation from this subnet."
            raise fault(409, "SubnetInUse", words)

    def _free_router(self, key: str) -> None:
        if any(port["device_id"] == key for port in self.things["port"].values()):
            raise fault(409, "RouterInUse", f"Router {key} still has ports")

    def _free_security_group(self, key: str) -> None:
        if any(key in port["security_groups"] for port in self.things["port"].values()):
            raise fault(409, "SecurityGroupInUse", f"Security Group {key} in use.")

    # -- routers --------------------------------------------------------------------------------------------------------

    def attach(self, router: str, *, subnet: str | None = None, port: str | None = None) -> str:
        """Let a router into a subnet; the port's id."""
        with self.lock:
            found = self.find("router", router)
            if port is not None:
                self.update("port", port, {"device_id": router, "device_owner": "network:router_interface"})
                return port
            wanted = self.find("subnet", subnet or "")
            for other in self._subnets_of(router):
                if ipaddress.ip_network(other["cidr"]).overlaps(ipaddress.ip_network(wanted["cidr"])):
                    words = (
                        f"Bad router request: Cidr {wanted['cidr']} of subnet {wanted['id']} overlaps with cidr {other['cidr']} of subnet"
                        f" {other['id']}."
                    )
                    raise fault(400, "BadRequest", words)
            made = self.create(
                "port",
                found["project_id"],
                {
                    "network_id": wanted["network_id"],
                    "device_id": router,
                    "device_owner": "network:router_interface",
                    "fixed_ips": [{"subnet_id": wanted["id"]}],
                },
            )
            return str(made["id"])

    def detach(self, router: str, port: str) -> None:
        """Take a router out of a subnet. Raises 409 where a route needs it."""
        with self.lock:
            self.find("router", router)
            self.things["port"].pop(port, None)
            self._store.drop("port", port)

    def _subnets_of(self, router: str) -> list[dict[str, Any]]:
        ports = [port for port in self.things["port"].values() if port["device_id"] == router]
        return [self.things["subnet"][ip["subnet_id"]] for port in ports for ip in port["fixed_ips"]]

    def routes_add(self, router: str, routes: list[dict[str, str]]) -> None:
        """Extra routes. Raises 400 where the next hop is in none of the router's subnets."""
        with self.lock:
            found = self.find("router", router)
            ranges = [ipaddress.ip_network(subnet["cidr"]) for subnet in self._subnets_of(router)]
            for route in routes:
                if not any(ipaddress.ip_address(route["nexthop"]) in one for one in ranges):
                    words = f"Invalid format for routes: {routes}, the nexthop is not connected with router"
                    raise fault(400, "InvalidRoutes", words)
            found["routes"] = found["routes"] + [route for route in routes if route not in found["routes"]]
            self._store.put("router", router, found)

    def routes_away(self, router: str, routes: list[dict[str, str]]) -> None:
        """Fewer routes; those that are not there are no error."""
        with self.lock:
            found = self.find("router", router)
            found["routes"] = [route for route in found["routes"] if route not in routes]
            self._store.put("router", router, found)


class Views:
    """The calls."""

    def __init__(self, neutron: Neutron, keystone: Keystone) -> None:
        self._neutron = neutron
        self._keystone = keystone

    def _seen(self, me: Identity, thing: dict[str, Any]) -> bool:
        return me.is_admin or bool(thing.get("shared")) or thing["project_id"] == me.project_id

    def listed(self, kind: str, plural: str, request: Request) -> Answer:
        """GET of all."""
        me = self._keystone.identify(request)
        query = {
            key: value for key, value in request.query.items() if key not in {"fields", "limit", "marker", "sort_key", "sort_dir"}
        }
        with self._neutron.lock:
            shown = [
                dict(thing) for thing in self._neutron.things[kind].values() if self._seen(me, thing) and _matches(thing, query)
            ]
        return Answer(200, {plural: shown})

    def shown(self, kind: str, request: Request) -> Answer:
        """GET of one."""
        return Answer(200, {kind: self._mine(kind, request)})

    def _mine(self, kind: str, request: Request, *, writes: bool = False) -> dict[str, Any]:
        me = self._keystone.identify(request)
        found = self._neutron.find(kind, request.variables["id"])
        if not self._seen(me, found) or (writes and not me.is_admin and found["project_id"] != me.project_id):
            raise fault(404, f"{_TITLES[kind]}NotFound", f"{_TITLES[kind]} {request.variables['id']} could not be found.")
        if writes and not me.roles & {"admin", "manager", "member"}:
            raise fault(403, "PolicyNotAuthorized", "You are not authorized to perform this action.")
        return found

    def create(self, kind: str, request: Request) -> Answer:
        """POST."""
        me = self._keystone.identify(request)
        if not me.roles & {"admin", "manager", "member"}:
            raise fault(403, "PolicyNotAuthorized", "You are not authorized to perform this action.")
        return Answer(201, {kind: self._neutron.create(kind, me.project_id or "", request.json()[kind])})

    def update(self, kind: str, request: Request) -> Answer:
        """PUT."""
        found = self._mine(kind, request, writes=True)
        return Answer(200, {kind: self._neutron.update(kind, found["id"], request.json()[kind])})

    def delete(self, kind: str, request: Request) -> Answer:
        """DELETE."""
        found = self._mine(kind, request, writes=True)
        self._neutron.delete(kind, found["id"])
        return Answer(204)

    def add_interface(self, request: Request) -> Answer:
        """PUT /routers/{id}/add_router_interface."""
        router = self._mine("router", request, writes=True)
        body = request.json()
        port = self._neutron.attach(router["id"], subnet=body.get("subnet_id"), port=body.get("port_id"))
        return Answer(200, {"id": router["id"], "port_id": port, "tenant_id": router["project_id"]})

    def remove_interface(self, request: Request) -> Answer:
        """PUT /routers/{id}/remove_router_interface."""
        router = self._mine("router", request, writes=True)
        body = request.json()
        ports = [
            port["id"]
            for port in self._neutron.things["port"].values()
            if port["device_id"] == router["id"]
            and (port["id"] == body.get("port_id") or any(ip["subnet_id"] == body.get("subnet_id") for ip in port["fixed_ips"]))
        ]
        if not ports:
            raise fault(404, "RouterInterfaceNotFound", f"Router {router['id']} does not have such an interface")
        self._neutron.detach(router["id"], ports[0])
        return Answer(200, {"id": router["id"], "port_id": ports[0], "tenant_id": router["project_id"]})


def _matches(thing: dict[str, Any], query: dict[str, str]) -> bool:
    return all(str(thing.get(key, value)).lower() == value.lower() for key, value in query.items())


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
    router.add("PUT", "/v2.0/routers/{id}/add_router_interface", views.add_interface)
    router.add("PUT", "/v2.0/routers/{id}/remove_router_interface", views.remove_interface)
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
