"""Which attributes each kind has, who may give them and when, and what a value must look like."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.network.base import Thing, fault, invalid

_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}\Z")
_TRUE, _FALSE = {"true", "1"}, {"false", "0"}
Convert = Callable[[str, Any], Any]


def _bad(name: str, reason: str) -> Exception:
    return fault(400, "HTTPBadRequest", f"Invalid input for {name}. Reason: {reason}.")


def _text(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        raise _bad(name, f"'{value}' is not a valid string")
    return value


def _flag(_name: str, value: Any) -> bool:
    if str(value).lower() in _TRUE | _FALSE:
        return str(value).lower() in _TRUE
    raise invalid(f"'{value}' cannot be converted to boolean.")


def _number(_name: str, value: Any) -> Any:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise invalid(f"'{value}' is not an integer.") from None


def _uuid(name: str, value: Any) -> Any:
    if value is not None and not (isinstance(value, str) and _UUID.match(value)):
        raise _bad(name, f"'{value}' is not a valid UUID")
    return value


def _list(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, list):
        raise _bad(name, f"'{value}' is not a list")
    return value or []


def _places(name: str, value: Any) -> Any:
    found = _list(name, value)
    for one in found:
        if not isinstance(one, dict) or set(one) - {"subnet_id", "ip_address"}:
            raise _bad(name, f"'{one}' is not a valid fixed IP")
    return found


def _gateway(name: str, value: Any) -> Any:
    if value in (None, {}):
        return None
    if not isinstance(value, dict):
        raise _bad(name, f"'{value}' is not a dictionary")
    if "network_id" not in value:
        raise _bad(name, "Validation of dictionary's keys failed. Expected keys: {'network_id'}")
    _uuid(name, value["network_id"])
    return value


def _any(_name: str, value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Attribute:
    """One attribute that a caller may give."""

    convert: Convert = _text
    needed: bool = False
    new: bool = True  #: may be given to a new thing
    later: bool = True  #: may be changed
    admin: bool = False


_COMMON = {
    "name": Attribute(),
    "description": Attribute(),
    "project_id": Attribute(later=False),
    "tenant_id": Attribute(later=False),
}
ATTRIBUTES: dict[str, dict[str, Attribute]] = {
    "network": {
        "admin_state_up": Attribute(_flag),
        "mtu": Attribute(_number),
        "shared": Attribute(_flag, admin=True),
        "router:external": Attribute(_flag, admin=True),
        "is_default": Attribute(_flag, admin=True),
        "port_security_enabled": Attribute(_flag),
        "availability_zone_hints": Attribute(_list, later=False),
        "dns_domain": Attribute(),
    },
    "subnet": {
        "network_id": Attribute(_uuid, needed=True, later=False),
        "ip_version": Attribute(_number, needed=True, later=False),
        "cidr": Attribute(_any, needed=True, later=False),
        "gateway_ip": Attribute(_any),
        "enable_dhcp": Attribute(_flag),
        "allocation_pools": Attribute(_list),
        "dns_nameservers": Attribute(_list),
        "host_routes": Attribute(_list),
        "service_types": Attribute(_list),
    },
    "router": {
        "admin_state_up": Attribute(_flag),
        "external_gateway_info": Attribute(_gateway),
        "routes": Attribute(_list, new=False),
        "availability_zone_hints": Attribute(_list, later=False),
    },
    "port": {
        "network_id": Attribute(_uuid, needed=True, later=False),
        "admin_state_up": Attribute(_flag),
        "fixed_ips": Attribute(_places),
        "device_id": Attribute(),
        "device_owner": Attribute(),
        "security_groups": Attribute(_list),
        "port_security_enabled": Attribute(_flag),
        "mac_address": Attribute(later=False),
        "allowed_address_pairs": Attribute(_list),
        "extra_dhcp_opts": Attribute(_list),
        "binding:vnic_type": Attribute(),
    },
    "security_group": {"stateful": Attribute(_flag)},
    "security_group_rule": {
        "security_group_id": Attribute(_uuid, needed=True, later=False),
        "direction": Attribute(_any, needed=True, later=False),
        "ethertype": Attribute(_any, later=False),
        "protocol": Attribute(_any, later=False),
        "port_range_min": Attribute(_number, later=False),
        "port_range_max": Attribute(_number, later=False),
        "remote_ip_prefix": Attribute(_any, later=False),
        "remote_group_id": Attribute(_uuid, later=False),
    },
    "floatingip": {
        "floating_network_id": Attribute(_uuid, needed=True, later=False),
        "port_id": Attribute(_uuid),
        "floating_ip_address": Attribute(later=False),
        "subnet_id": Attribute(_uuid, later=False),
    },
}
#: What is shown and can be filtered by, but is never given.
SHOWN = {
    "network": {"status", "subnets", "availability_zones", "ipv4_address_scope", "ipv6_address_scope", "vlan_transparent"},
    "subnet": {"subnetpool_id", "ipv6_ra_mode", "ipv6_address_mode", "router:external"},
    "router": {"status", "availability_zones", "flavor_id"},
    "port": {"status"},
    "security_group": {"shared", "security_group_rules"},
    "security_group_rule": {"remote_address_group_id", "normalized_cidr", "belongs_to_default_sg"},
    "floatingip": {"status", "router_id", "fixed_ip_address", "port_details"},
}
_OF_ALL = {"id", "tags", "created_at", "updated_at", "revision_number"}


def known(kind: str) -> set[str]:
    """Every attribute's name."""
    return set(ATTRIBUTES[kind]) | SHOWN[kind] | set(_COMMON) | _OF_ALL


def checked(kind: str, given: Any, *, new: bool, admin: bool) -> Thing:
    """A caller's attributes, converted. Raises what Neutron answers to those that it does not take."""
    if not isinstance(given, dict):
        raise fault(400, "HTTPBadRequest", f"Invalid input: '{kind}' is not a dictionary")
    table = _COMMON | ATTRIBUTES[kind]
    for name, attribute in table.items():
        if new and attribute.needed and given.get(name) is None:
            raise fault(400, "HTTPBadRequest", f"Failed to parse request. Required attribute '{name}' not specified")
    unknown = sorted(set(given) - known(kind))
    if unknown:
        raise fault(400, "HTTPBadRequest", f"Unrecognized attribute(s) '{', '.join(unknown)}'")
    values = {}
    for name, value in given.items():
        found = table.get(name)
        if found is None or not (found.new if new else found.later):
            words = f"Attribute '{name}' not allowed in POST" if new else f"Cannot update read-only attribute {name}"
            raise fault(400, "HTTPBadRequest", words)
        if found.admin and not admin and value not in (None, False):
            verb = "create" if new else "update"
            words = f"(rule:{verb}_{kind} and rule:{verb}_{kind}:{name}) is disallowed by policy"
            raise fault(403, "PolicyNotAuthorized", words)
        values[name] = found.convert(name, value)
    return values
