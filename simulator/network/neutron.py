"""The network service: one way in for its own API, for Heat and for Magnum."""

import uuid
from collections.abc import Callable

from simulator.network import routing, security, segments
from simulator.network.base import Base, Thing, absent
from simulator.network.quotas import Quotas
from simulator.store import Store

_NEW: dict[str, Callable[[Base, str, Thing], Thing]] = {
    "network": segments.new_network,
    "subnet": segments.new_subnet,
    "port": segments.new_port,
    "router": routing.new_router,
    "floatingip": routing.new_floating,
    "security_group": security.new_group,
    "security_group_rule": security.new_rule,
}
_CHANGED: dict[str, Callable[[Base, Thing, Thing], Thing]] = {
    "subnet": segments.changed_subnet,
    "port": segments.changed_port,
    "router": routing.changed_router,
    "floatingip": routing.changed_floating,
}
_DROP: dict[str, Callable[[Base, Thing], None]] = {
    "network": segments.drop_network,
    "subnet": segments.drop_subnet,
    "port": segments.drop_port,
    "router": routing.drop_router,
    "floatingip": routing.drop_floating,
    "security_group": security.drop_group,
    "security_group_rule": security.drop_rule,
}


class Neutron(Base):
    """The network service."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.quotas = Quotas(store, self)

    @property
    def networks(self) -> dict[str, Thing]:
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
            "cidr": "172.24.0.0/20" if external else "10.20.0.0/24",
        }
        self.create("subnet", project, subnet)

    def has_network(self, ref: str, *, external: bool) -> bool:
        """By id or name."""
        return any(ref in {n["id"], n["name"]} and n["router:external"] == external for n in self.networks.values())

    def named(self, kind: str, ref: str, project: str) -> Thing | None:
        """What a project sees under an id or a name."""
        found = self.things[kind].get(ref)
        candidates = [found] if found is not None else self.all(kind, name=ref)
        return next(
            (one for one in candidates if one["project_id"] == project or one.get("shared") or one.get("router:external")), None
        )

    def network_id(self, ref: str) -> str:
        """Of the network with this id or name. Raises 404."""
        for network in self.networks.values():
            if ref in {network["id"], network["name"]}:
                return str(network["id"])
        raise absent("network", ref)

    # -- any kind -----------------------------------------------------------------------------------------------------

    def create(self, kind: str, project: str, given: Thing) -> Thing:
        """Make one. Raises Neutron's refusals, and 409 beyond the project's quota."""
        with self.lock:
            self.quotas.check(project, kind)
            return _NEW[kind](self, project, given)

    def update(self, kind: str, key: str, given: Thing) -> Thing:
        """Change one."""
        with self.lock:
            found = self.find(kind, key)
            values = _CHANGED[kind](self, found, given) if kind in _CHANGED else given
            return self.touch(kind, found, **values)

    def delete(self, kind: str, key: str) -> None:
        """Remove one. Raises 409 where something uses it."""
        with self.lock:
            _DROP[kind](self, self.find(kind, key))

    # -- routers ------------------------------------------------------------------------------------------------------

    def attach(self, router: str, *, subnet: str | None = None, port: str | None = None) -> Thing:
        """Let a router into a subnet; the port."""
        with self.lock:
            return routing.attach(self, self.find("router", router), subnet=subnet, port=port)

    def detach(self, router: str, *, subnet: str | None = None, port: str | None = None) -> Thing:
        """Take it out; the port that went. Raises 409 where a route or a floating IP needs it."""
        with self.lock:
            return routing.detach(self, self.find("router", router), subnet=subnet, port=port)

    def routes_add(self, router: str, routes: list[dict[str, str]]) -> Thing:
        """Extra routes. Raises 400 where the next hop is in none of the router's subnets."""
        with self.lock:
            return routing.add_routes(self, self.find("router", router), routes)

    def routes_away(self, router: str, routes: list[dict[str, str]]) -> Thing:
        """Fewer routes; those that are not there are no error."""
        with self.lock:
            return routing.remove_routes(self, self.find("router", router), routes)
