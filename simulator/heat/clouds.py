"""The services in which stacks make their resources, and how Heat finds things there by id or name."""

import ipaddress
from dataclasses import dataclass

from simulator.compute import Nova
from simulator.heat.wire import HotError
from simulator.image import Glance
from simulator.magnum.service import Magnum
from simulator.network import Neutron

_NEUTRON = {
    "neutron.network": "network",
    "neutron.subnet": "subnet",
    "neutron.router": "router",
    "neutron.port": "port",
    "neutron.security_group": "security_group",
}


@dataclass(frozen=True)
class Clouds:
    """One project's way to them."""

    neutron: Neutron
    nova: Nova
    glance: Glance
    magnum: Magnum
    project: str
    user: str
    stack: str = ""  #: begins the names of what the template gives no name

    def found(self, kind: str, ref: str) -> str:
        """The id of a network, subnet, router, port or security group that the project sees. Raises :class:`HotError`."""
        thing = self.neutron.named(kind, ref, self.project)
        if thing is None:
            raise HotError(f"Unable to find {kind} with name or id '{ref}'")
        return str(thing["id"])

    def check(self, constraint: str, value: str) -> str | None:
        """What a custom constraint says against a value; None: nothing."""
        wrong: str | None = None
        if constraint in _NEUTRON:
            kind = _NEUTRON[constraint]
            if self.neutron.named(kind, value, self.project) is None:
                wrong = f"Unable to find {kind} with name or id '{value}'"
        elif constraint == "net_cidr":
            wrong = _wrong_cidr(value)
        elif constraint == "ip_addr":
            wrong = None if _is_address(value) else "Invalid IP address"
        elif constraint == "nova.flavor":
            wrong = None if self.nova.has_flavor(value) else f"No Flavor matching {{'name': '{value}'}}. (HTTP 404)"
        elif constraint == "nova.keypair":
            wrong = None if self.nova.has_keypair(self.user, value) else f"The Key ({value}) could not be found."
        elif constraint == "glance.image":
            wrong = None if self.glance.find(value) else f"No images matching {{'name': '{value}'}}."
        else:
            return f'"{value}" does not validate {constraint} (constraint not found)'
        return None if wrong is None else f"Error validating value '{value}': {wrong}"


def _wrong_cidr(value: str) -> str | None:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return f"Invalid net cidr invalid IPNetwork {value} "
    return None if "/" in value else f"Invalid net cidr {value}"


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
