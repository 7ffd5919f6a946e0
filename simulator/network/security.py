"""Security groups and their rules."""

import ipaddress
from typing import Any

from simulator.network.base import Base, Thing, fault

_DIRECTIONS = ("ingress", "egress")
_ETHERTYPES = ["IPv4", "IPv6"]
_PROTOCOLS = (
    *(None, "any", "ah", "dccp", "egp", "esp", "gre", "hopopt", "icmp", "igmp", "ip", "ipip", "ipv6-encap", "ipv6-frag"),
    *("ipv6-icmp", "icmpv6", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp", "sctp", "tcp", "udp", "udplite"),
    "vrrp",
)
_IN_WORDS = (
    "Security group rule protocol {} not supported. Only protocol values ({}) and integer representations [0 to 255] are supported."
)
_MAX_PORT = 65535
_MAX_PROTOCOL = 255


def new_group(base: Base, project: str, given: Thing) -> Thing:
    """Make a group with the two rules that let everything out. Raises 409 for a second one called default."""
    default_group(base, project)
    if given.get("name") == "default":
        raise fault(409, "SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
    return _grouped(base, project, given)


def _grouped(base: Base, project: str, given: Thing) -> Thing:
    made = base.insert("security_group", project, {"stateful": True, "shared": False, **given})
    for ethertype in reversed(_ETHERTYPES):
        _ruled(base, project, {"security_group_id": made["id"], "direction": "egress", "ethertype": ethertype})
    return made


def default_group(base: Base, project: str) -> Thing:
    """The project's group called default, made where it is missing: it lets in what comes from its own members."""
    for group in base.all("security_group", project_id=project, name="default"):
        return group
    made = _grouped(base, project, {"name": "default", "description": "Default security group"})
    for ethertype in reversed(_ETHERTYPES):
        rule = {"security_group_id": made["id"], "direction": "ingress", "ethertype": ethertype, "remote_group_id": made["id"]}
        _ruled(base, project, rule)
    return made


def new_rule(base: Base, project: str, given: Thing) -> Thing:
    """Make a rule. Raises 400 for values that don't go together, 409 for one that is there already."""
    group = base.find("security_group", given.get("security_group_id"))
    body = {"ethertype": "IPv4", "description": "", **given, "security_group_id": group["id"]}
    _check(body)
    keys = ("direction", "ethertype", "protocol", "remote_ip_prefix", "remote_group_id", "port_range_min", "port_range_max")
    for rule in base.all("security_group_rule", security_group_id=group["id"]):
        if all(rule.get(key) == body.get(key) for key in keys):
            raise fault(409, "SecurityGroupRuleExists", f"Security group rule already exists. Rule id is {rule['id']}.")
    return _ruled(base, project, body)


def _ruled(base: Base, project: str, given: Thing) -> Thing:
    usual = dict.fromkeys(("protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id"))
    prefix = given.get("remote_ip_prefix")
    more = {
        "remote_address_group_id": None,
        "normalized_cidr": str(ipaddress.ip_network(prefix, strict=False)) if prefix else None,
        "belongs_to_default_sg": base.find("security_group", given["security_group_id"])["name"] == "default",
        "revision_number": 0,
    }
    return base.insert("security_group_rule", project, {**usual, "description": None, **given, **more})


def _check(rule: Thing) -> None:
    if rule.get("direction") not in _DIRECTIONS:
        words = f"Invalid input for direction. Reason: {rule.get('direction')} is not in valid_values."
        raise fault(400, "HTTPBadRequest", words)
    if rule["ethertype"] not in _ETHERTYPES:
        words = f"Security group rule for ethertype '{rule['ethertype']}' not supported. Allowed values are {_ETHERTYPES}."
        raise fault(400, "SecurityGroupRuleInvalidEtherType", words)
    protocol = rule.get("protocol")
    if protocol not in _PROTOCOLS and not (str(protocol).isdigit() and int(str(protocol)) <= _MAX_PROTOCOL):
        known = ", ".join(repr(one) for one in _PROTOCOLS)
        raise fault(400, "SecurityGroupRuleInvalidProtocol", _IN_WORDS.format(protocol, known))
    _check_ports(rule.get("port_range_min"), rule.get("port_range_max"), protocol)
    prefix = rule.get("remote_ip_prefix")
    if prefix is not None and rule.get("remote_group_id") is not None:
        words = "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided."
        raise fault(400, "SecurityGroupMultipleRemoteEntites", words)
    if prefix is not None:
        _check_prefix(prefix, rule["ethertype"])


def _check_ports(least: Any, most: Any, protocol: Any) -> None:
    if least is None and most is None:
        return
    if protocol is None:
        words = "Must also specify protocol if port range is given."
        raise fault(400, "SecurityGroupProtocolRequiredWithPorts", words)
    for value in (least, most):
        if value is not None and not (isinstance(value, int) and 0 <= value <= _MAX_PORT):
            raise fault(400, "SecurityGroupInvalidPortValue", f"Invalid value for port {value}")
    if protocol in {"tcp", "udp"} and (least is None or most is None or least > most):
        words = "For TCP/UDP protocols, port_range_min must be <= port_range_max"
        raise fault(400, "SecurityGroupInvalidPortRange", words)


def _check_prefix(prefix: Any, ethertype: str) -> None:
    try:
        found = ipaddress.ip_network(prefix, strict=False)
    except ValueError:
        raise fault(400, "InvalidCIDR", f"Invalid CIDR {prefix} given as IP prefix.") from None
    if f"IPv{found.version}" != ethertype:
        words = f"Conflicting value ethertype {ethertype} for CIDR {prefix}"
        raise fault(400, "SecurityGroupRuleParameterConflict", words)


def drop_group(base: Base, group: Thing) -> None:
    """Remove a group and its rules. Raises 409 while a port has it, and for the default group."""
    if any(group["id"] in port["security_groups"] for port in base.all("port")):
        raise fault(409, "SecurityGroupInUse", f"Security Group {group['id']} in use.")
    if group["name"] == "default":
        raise fault(409, "SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
    for rule in base.all("security_group_rule"):
        if group["id"] in {rule["security_group_id"], rule["remote_group_id"]}:
            base.forget("security_group_rule", rule["id"])
    base.forget("security_group", group["id"])


def drop_rule(base: Base, rule: Thing) -> None:
    """Remove a rule."""
    base.forget("security_group_rule", rule["id"])
