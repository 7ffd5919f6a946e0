"""Networks, subnets and ports: what they take, which addresses are free, and what keeps them from going."""

import ipaddress
import uuid
from typing import Any

from simulator.network.base import Base, Thing, fault, invalid
from simulator.network.security import default_group

#: Ports that only the call which made them may remove.
ROUTER_OWNERS = ("network:router_interface", "network:router_gateway")
_FREE: Thing = {
    "admin_state_up": True,
    "mtu": 1450,
    "status": "ACTIVE",
    "shared": False,
    "port_security_enabled": True,
    "router:external": False,
    "vlan_transparent": False,
    "is_default": False,
    "ipv4_address_scope": None,
    "ipv6_address_scope": None,
}


def new_network(base: Base, project: str, given: Thing) -> Thing:
    """Make a network, and the project's default security group, which comes with its first network."""
    default_group(base, project)
    return base.insert(
        "network", project, {**_FREE, "availability_zone_hints": [], "availability_zones": [], "subnets": [], **given}
    )


def new_subnet(base: Base, project: str, given: Thing) -> Thing:
    """Make a subnet. Raises 400 for a range that is none, or that meets another of the network."""
    network = base.find("network", given.get("network_id"))
    try:
        cidr = ipaddress.ip_network(given.get("cidr", ""), strict=False)
    except ValueError:
        raise invalid(f"{given.get('cidr')} is not in a CIDR format.") from None
    if cidr.version != given.get("ip_version", 4):
        raise invalid(f"cidr '{cidr}' does not match the ip_version '{given['ip_version']}'.")
    for other in network["subnets"]:
        known = ipaddress.ip_network(base.things["subnet"][other]["cidr"])
        if known.version == cidr.version and known.overlaps(cidr):
            raise invalid(f"Requested subnet with cidr: {cidr} for network: {network['id']} overlaps with another subnet.")
    gateway = given["gateway_ip"] if "gateway_ip" in given else str(cidr[1])
    if gateway is not None and ipaddress.ip_address(gateway) not in cidr:
        raise invalid(f"Gateway is not valid on subnet {cidr}.")
    usual: Thing = {
        "enable_dhcp": True,
        "subnetpool_id": None,
        "ipv6_ra_mode": None,
        "ipv6_address_mode": None,
        "router:external": False,
    }
    usual |= {"dns_nameservers": [], "host_routes": [], "service_types": []}
    body = {
        "id": str(uuid.uuid4()),
        "ip_version": cidr.version,
        **usual,
        **given,
        "cidr": str(cidr),
        "gateway_ip": gateway,
        "allocation_pools": given.get("allocation_pools") or _pools(cidr, gateway),
    }
    network["subnets"].append(body["id"])
    base.keep("network", network)
    return base.insert("subnet", project, body)


def _pools(cidr: Any, gateway: str | None) -> list[dict[str, str]]:
    first, last = int(cidr[1]), int(cidr[-2])
    if gateway == str(cidr[1]):
        first += 1
    kind = type(cidr[0])
    return [{"start": str(kind(first)), "end": str(kind(last))}] if first <= last else []


def new_port(base: Base, project: str, given: Thing) -> Thing:
    """Make a port. Raises 400, 404 and 409 where an address or a group can't be had."""
    network = base.find("network", given.get("network_id"))
    secure = given.get("port_security_enabled", True)
    groups = given.get("security_groups")
    if groups is None:
        groups = [default_group(base, project)["id"]] if secure and project else []
    for group in groups:
        base.find("security_group", group)
    wanted = given.get("fixed_ips")
    if wanted is None:
        wanted = [{"subnet_id": subnet} for subnet in network["subnets"][:1]]
    usual = {
        "admin_state_up": True,
        "status": "DOWN",
        "device_id": "",
        "device_owner": "",
        "port_security_enabled": True,
        "binding:vnic_type": "normal",
        "mac_address": "fa:16:3e:" + ":".join(uuid.uuid4().hex[i : i + 2] for i in (0, 2, 4)),
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
    }
    addresses = [address(base, network, one) for one in wanted]
    return base.insert("port", project, {**usual, **given, "fixed_ips": addresses, "security_groups": list(groups)})


def address(base: Base, network: Thing, wish: Thing) -> dict[str, str]:
    """One address on a network: the one that is wished for, or the first free one."""
    key, wanted = wish.get("subnet_id") or wish.get("subnet"), wish.get("ip_address")
    if key is None and wanted is not None:
        key = next((one for one in network["subnets"] if _within(wanted, base.things["subnet"][one])), None)
        if key is None:
            raise fault(400, "InvalidIpForNetwork", f"IP address {wanted} is not a valid IP for any of the subnets on the network.")
    if key is None and network["subnets"]:
        key = network["subnets"][0]
    subnet = base.find("subnet", key)
    if subnet["network_id"] != network["id"]:
        words = f"because fixed_ips included invalid subnet {subnet['id']}."
        raise invalid(f"Failed to create port on network {network['id']}, {words}")
    taken = _taken(base, subnet)
    if wanted is not None:
        if not _within(wanted, subnet):
            raise fault(400, "InvalidIpForSubnet", f"IP address {wanted} is not a valid IP for the specified subnet.")
        if wanted in taken:
            words = f"IP address {wanted} already allocated in subnet {subnet['id']}"
            raise fault(409, "IpAddressAlreadyAllocated", words)
        return {"subnet_id": subnet["id"], "ip_address": wanted}
    for pool in subnet["allocation_pools"]:
        first, last = ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])
        for number in range(int(first), int(last) + 1):
            free = str(type(first)(number))
            if free not in taken:
                return {"subnet_id": subnet["id"], "ip_address": free}
    raise fault(409, "IpAddressGenerationFailure", f"No more IP addresses available on network {subnet['network_id']}.")


def _within(wanted: str, subnet: Thing) -> bool:
    try:
        return ipaddress.ip_address(wanted) in ipaddress.ip_network(subnet["cidr"])
    except ValueError:
        raise fault(400, "HTTPBadRequest", f"Invalid input for fixed_ips. Reason: '{wanted}' is not a valid IP address.") from None


def _taken(base: Base, subnet: Thing) -> set[str]:
    ports = {ip["ip_address"] for port in base.all("port") for ip in port["fixed_ips"] if ip["subnet_id"] == subnet["id"]}
    floating = {one["floating_ip_address"] for one in base.all("floatingip", floating_network_id=subnet["network_id"])}
    return ports | floating


def changed_subnet(_base: Base, subnet: Thing, given: Thing) -> Thing:
    """A gateway must lie in the subnet's range."""
    gateway = given.get("gateway_ip")
    if gateway is not None and not _within(gateway, subnet):
        raise invalid(f"Gateway is not valid on subnet {subnet['cidr']}.")
    return given


def changed_port(base: Base, port: Thing, given: Thing) -> Thing:
    """New groups and new addresses of a port."""
    for group in given.get("security_groups") or []:
        base.find("security_group", group)
    wanted = given.get("fixed_ips")
    if wanted is None:
        return given
    held = {ip["ip_address"]: ip for ip in port["fixed_ips"]}
    network = base.find("network", port["network_id"])
    new = [held.get(one.get("ip_address", "")) or address(base, network, one) for one in wanted]
    return {**given, "fixed_ips": new}


def drop_network(base: Base, network: Thing) -> None:
    """Remove a network and its subnets. Raises 409 while there are ports on it."""
    ports = [port["id"] for port in base.all("port", network_id=network["id"])]
    if ports:
        words = f"There are one or more ports still in use on the network, id for these ports is: {','.join(ports)}."
        raise fault(409, "NetworkInUse", f"Unable to complete operation on network {network['id']}. {words}")
    for key in network["subnets"]:
        base.forget("subnet", key)
    base.forget("network", network["id"])


def drop_subnet(base: Base, subnet: Thing) -> None:
    """Remove a subnet. Raises 409 while a port has an address in it."""
    if any(ip["subnet_id"] == subnet["id"] for port in base.all("port") for ip in port["fixed_ips"]):
        words = "One or more ports have an IP allocation from this subnet."
        raise fault(409, "SubnetInUse", f"Unable to complete operation on subnet {subnet['id']}: {words}")
    network = base.things["network"].get(subnet["network_id"])
    if network is not None:
        network["subnets"].remove(subnet["id"])
        base.keep("network", network)
    base.forget("subnet", subnet["id"])


def drop_port(base: Base, port: Thing) -> None:
    """Remove a port; a floating IP of it stays, without it. Raises 409 for a router's."""
    if port["device_owner"] in ROUTER_OWNERS:
        words = f"Port {port['id']} cannot be deleted directly via the port API: has device owner {port['device_owner']}."
        raise fault(409, "ServicePortInUse", words)
    remove_port(base, port["id"])


def remove_port(base: Base, key: str) -> None:
    """Remove a port, whoever owns it."""
    for floating in base.all("floatingip", port_id=key):
        base.touch("floatingip", floating, port_id=None, fixed_ip_address=None, router_id=None, port_details=None)
    base.forget("port", key)
