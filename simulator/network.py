"""Neutron, as far as templates are checked against it: networks, read only."""

import time
import uuid
from typing import Any

from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Keystone
from simulator.store import Store


class Neutron:
    """The network service."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.networks: dict[str, dict[str, Any]] = dict(store.all("network"))

    def add(self, name: str, project: str, *, external: bool) -> None:
        """A network with one subnet."""
        key = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"network.{name}"))
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.networks[key] = {
            "id": key,
            "name": name,
            "tenant_id": project,
            "project_id": project,
            "admin_state_up": True,
            "mtu": 1500 if external else 1450,
            "status": "ACTIVE",
            "subnets": [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"subnet.{name}"))],
            "shared": external,
            "router:external": external,
            "description": "",
            "port_security_enabled": True,
            "tags": [],
            "created_at": now,
            "updated_at": now,
            "revision_number": 1,
        }
        self._store.put("network", key, self.networks[key])

    def has_network(self, ref: str, *, external: bool) -> bool:
        """By id or name."""
        return any(ref in {n["id"], n["name"]} and n["router:external"] == external for n in self.networks.values())


def routes(neutron: Neutron, keystone: Keystone) -> Router:
    """Everything under /network."""
    router = Router()

    def versions(request: Request) -> Answer:
        one = {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": f"{request.origin}/network/v2.0/"}]}
        return Answer(200, {"versions": [one]})

    def listed(request: Request) -> Answer:
        me = keystone.identify(request)
        query = request.query
        shown = [
            network
            for network in neutron.networks.values()
            if (me.is_admin or network["shared"] or network["project_id"] == me.project_id)
            and query.get("name", network["name"]) == network["name"]
            and query.get("id", network["id"]) == network["id"]
            and query.get("router:external", str(network["router:external"])).lower() == str(network["router:external"]).lower()
        ]
        return Answer(200, {"networks": shown})

    def shown(request: Request) -> Answer:
        keystone.identify(request)
        network = neutron.networks.get(request.variables["id"])
        if network is None:
            words = f"Network {request.variables['id']} could not be found."
            raise HttpError(Answer(404, {"NeutronError": {"type": "NetworkNotFound", "message": words, "detail": ""}}))
        return Answer(200, {"network": network})

    router.add("GET", "/", versions)
    router.add("GET", "/v2.0", lambda _: Answer(200, {"resources": []}))
    router.add("GET", "/v2.0/networks", listed)
    router.add("GET", "/v2.0/networks/{id}", shown)
    router.add("GET", "/v2.0/extensions", lambda _: Answer(200, {"extensions": []}))
    return router
