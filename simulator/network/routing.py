"""Routers: their way outside, their interfaces and extra routes, and the floating IPs that depend on both."""

import ipaddress
import uuid
from typing import Any

from simulator.network.base import Base, Thing, fault
from simulator.network.segments import address, new_port, remove_port

_INTERFACE = "network:router_interface"
_GATEWAY = "network:router_gateway"


def _bad(words: str) -> Exception:
    return fault(400, "BadRequest", f"Bad router request: {words}")


def new_router(base: Base, project: str, given: Thing) -> Thing:
    """Make a router, with its way outside where one is named."""
    _check_gateway(base, given.get("external_gateway_info"))
    usual = {"admin_state_up": True, "status": "ACTIVE", "routes": [], "availability_zones": [], "availability_zone_hints": []}
    made = base.insert("router", project, {**usual, "flavor_id": None, **given, "external_gateway_info": None})
    _set_gateway(base, made, given.get("external_gateway_info"))
    return made


def changed_router(base: Base, router: Thing, given: Thing) -> Thing:
    """Another way outside, other routes."""
    if "routes" in given:
        _check_routes(base, router, given["routes"])
    if "external_gateway_info" not in given:
        return given
    wanted = given["external_gateway_info"]
    _check_gateway(base, wanted)
    held = router["external_gateway_info"]
    kept = wanted and held and wanted["network_id"] == held["network_id"]
    if not kept:
        if held and any(base.all("floatingip", router_id=router["id"])):
            words = f"since a gateway to external network {held['network_id']} is required by one or more floating IPs."
            message = f"Gateway cannot be updated for router {router['id']}, {words}"
            raise fault(409, "RouterExternalGatewayInUseByFloatingIp", message)
        _set_gateway(base, router, wanted)
    return {**given, "external_gateway_info": router["external_gateway_info"]}


def _check_gateway(base: Base, wanted: Any) -> None:
    if not wanted:
        return
    network = base.find("network", wanted.get("network_id"))
    if not network["router:external"]:
        raise _bad(f"Network {network['id']} is not an external network.")


def _set_gateway(base: Base, router: Thing, wanted: Thing | None) -> None:
    for port in base.all("port", device_id=router["id"], device_owner=_GATEWAY):
        remove_port(base, port["id"])
    router["external_gateway_info"] = None
    if wanted:
        # It belongs to no project: that is why members see no such port.
        port = new_port(base, "", {"network_id": wanted["network_id"], "device_id": router["id"], "device_owner": _GATEWAY})
        router["external_gateway_info"] = {
            "network_id": wanted["network_id"],
            "external_fixed_ips": port["fixed_ips"],
            "enable_snat": wanted.get("enable_snat", True),
        }
    base.keep("router", router)


def drop_router(base: Base, router: Thing) -> None:
    """Remove a router. Raises 409 while it has interfaces."""
    held = [port["id"] for port in base.all("port", device_id=router["id"]) if port["device_owner"] != _GATEWAY]
    if held:
        raise fault(409, "RouterInUse", f"Router {router['id']} has ports still attached: {', '.join(held)}")
    _set_gateway(base, router, None)
    base.forget("router", router["id"])


# -- interfaces -----------------------------------------------------------------------------------------------------------


def attach(base: Base, router: Thing, *, subnet: str | None, port: str | None) -> Thing:
    """Let a router into a subnet, by a port of its own or by one that there is; the port."""
    if port is not None and subnet is not None:
        raise _bad("Cannot specify both subnet-id and port-id.")
    if port is None and subnet is None:
        raise _bad("Either subnet_id or port_id must be specified.")
    if port is not None:
        found = base.find("port", port)
        if found["device_id"]:
            words = f"Unable to complete operation on port {port} for network {found['network_id']}."
            raise fault(409, "PortInUse", f"{words} Port already has an attached device {found['device_id']}.")
        for ip in found["fixed_ips"]:
            _check_overlap(base, router, base.find("subnet", ip["subnet_id"]))
        return base.touch("port", found, device_id=router["id"], device_owner=_INTERFACE, security_groups=[])
    wanted = base.find("subnet", subnet)
    _check_overlap(base, router, wanted)
    if wanted["gateway_ip"] is None:
        raise _bad("Subnet for router interface must have a gateway IP")
    body = {"network_id": wanted["network_id"], "device_id": router["id"], "device_owner": _INTERFACE, "security_groups": []}
    place = {"subnet_id": wanted["id"], "ip_address": wanted["gateway_ip"]}
    return new_port(base, router["project_id"], {**body, "fixed_ips": [place]})


def _check_overlap(base: Base, router: Thing, wanted: Thing) -> None:
    for other in subnets_of(base, router):
        if other["id"] == wanted["id"]:
            raise _bad(f"Router already has a port on subnet {other['id']}.")
        if ipaddress.ip_network(other["cidr"]).overlaps(ipaddress.ip_network(wanted["cidr"])):
            words = f"Cidr {wanted['cidr']} of subnet {wanted['id']} overlaps with cidr {other['cidr']} of subnet {other['id']}."
            raise _bad(words)


def detach(base: Base, router: Thing, *, subnet: str | None, port: str | None) -> Thing:
    """Take a router out of a subnet; its port goes. Raises 409 where a route or a floating IP needs it."""
    if port is None and subnet is None:
        raise _bad("Either subnet_id or port_id must be specified.")
    for one in base.all("port", device_id=router["id"], device_owner=_INTERFACE):
        if one["id"] == port or (port is None and any(ip["subnet_id"] == subnet for ip in one["fixed_ips"])):
            found = one
            break
    else:
        if port is not None:
            raise fault(404, "RouterInterfaceNotFound", f"Router {router['id']} does not have an interface with id {port}")
        words = f"Router {router['id']} has no interface on subnet {subnet}"
        raise fault(404, "RouterInterfaceNotFoundForSubnet", words)
    for ip in found["fixed_ips"]:
        _check_unneeded(base, router, base.find("subnet", ip["subnet_id"]))
    remove_port(base, found["id"])
    return found


def _check_unneeded(base: Base, router: Thing, subnet: Thing) -> None:
    words = (
        f"Router interface for subnet {subnet['id']} on router {router['id']} cannot be deleted, as it is required by one or more"
    )
    reach = ipaddress.ip_network(subnet["cidr"])
    if any(ipaddress.ip_address(route["nexthop"]) in reach for route in router["routes"]):
        raise fault(409, "RouterInterfaceInUseByRoute", f"{words} routes.")
    for floating in base.all("floatingip", router_id=router["id"]):
        if floating["fixed_ip_address"] and ipaddress.ip_address(floating["fixed_ip_address"]) in reach:
            raise fault(409, "RouterInterfaceInUseByFloatingIP", f"{words} floating IPs.")


def subnets_of(base: Base, router: Thing) -> list[Thing]:
    """Those that a router has a port in, the outside included."""
    ports = base.all("port", device_id=router["id"])
    return [base.things["subnet"][ip["subnet_id"]] for port in ports for ip in port["fixed_ips"]]


# -- routes -----------------------------------------------------------------------------------------------------------------


def _check_routes(base: Base, router: Thing, routes: Any) -> None:
    for route in routes if isinstance(routes, list) else [{}]:
        try:
            ipaddress.ip_network(route["destination"])
            ipaddress.ip_address(route["nexthop"])
        except (KeyError, TypeError):
            reason = f"Invalid data format for hostroute: '{routes}'"
            raise fault(400, "HTTPBadRequest", f"Invalid input for routes. Reason: {reason}.") from None
        except ValueError as exc:
            wrong = route["destination"] if route["destination"] in str(exc) else route["nexthop"]
            kind = "CIDR" if wrong == route["destination"] else "IP address"
            raise fault(400, "HTTPBadRequest", f"Invalid input for routes. Reason: '{wrong}' is not a valid {kind}.") from None
    ranges = [ipaddress.ip_network(subnet["cidr"]) for subnet in subnets_of(base, router)]
    for route in routes:
        if not any(ipaddress.ip_address(route["nexthop"]) in one for one in ranges):
            words = f"Invalid format for routes: {routes}, the nexthop is not connected with router"
            raise fault(400, "InvalidRoutes", words)


def add_routes(base: Base, router: Thing, routes: Any) -> Thing:
    """More routes; those that are there stay as they are. Raises 400 where a next hop is in none of the router's subnets."""
    whole = router["routes"] + [route for route in routes if route not in router["routes"]]
    _check_routes(base, router, whole)
    return base.touch("router", router, routes=whole)


def remove_routes(base: Base, router: Thing, routes: Any) -> Thing:
    """Fewer routes; those that are not there are no error."""
    return base.touch("router", router, routes=[route for route in router["routes"] if route not in routes])


# -- floating IPs -----------------------------------------------------------------------------------------------------------


def new_floating(base: Base, project: str, given: Thing) -> Thing:
    """Make a floating IP. Raises 400 where its network is not external."""
    network = base.find("network", given.get("floating_network_id"))
    if not network["router:external"]:
        raise fault(400, "BadRequest", f"Bad floatingip request: Network {network['id']} is not a valid external network.")
    given = {**given}
    wish = {"subnet_id": given.pop("subnet_id", None), "ip_address": given.pop("floating_ip_address", None)}
    free = address(base, network, wish)["ip_address"]
    nowhere = {"port_id": None, "fixed_ip_address": None, "router_id": None, "port_details": None}
    body = {"id": str(uuid.uuid4()), "status": "DOWN", "floating_network_id": network["id"], "floating_ip_address": free}
    body |= nowhere | given
    if given.get("port_id"):
        body |= _joined(base, body, given["port_id"])
    return base.insert("floatingip", project, body)


def changed_floating(base: Base, floating: Thing, given: Thing) -> Thing:
    """Give it to a port, or to none."""
    if "port_id" not in given:
        return given
    if given["port_id"] is None:
        return {**given, "fixed_ip_address": None, "router_id": None, "port_details": None}
    return {**given, **_joined(base, floating, given["port_id"])}


def _joined(base: Base, floating: Thing, key: str) -> Thing:
    port = base.find("port", key)
    if not port["fixed_ips"]:
        raise fault(
            400, "BadRequest", f"Bad floatingip request: Cannot add floating IP to port {key} that has no fixed IPv4 addresses."
        )
    place = port["fixed_ips"][0]
    outside = floating["floating_network_id"]
    for other in base.all("floatingip", port_id=key):
        if other["id"] != floating["id"] and other["floating_network_id"] == outside:
            words = (
                f"Cannot associate floating IP {floating['floating_ip_address']} ({floating['id']}) with port {key} using fixed IP"
                f" {place['ip_address']}, as that fixed IP already has a floating IP on external network {outside}."
            )
            raise fault(409, "FloatingIPPortAlreadyAssociated", words)
    for router in base.all("router"):
        way = router["external_gateway_info"]
        if way and way["network_id"] == outside and place["subnet_id"] in {one["id"] for one in subnets_of(base, router)}:
            shown = ("name", "network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner")
            details = {name: port[name] for name in shown}
            return {"port_id": key, "fixed_ip_address": place["ip_address"], "router_id": router["id"], "port_details": details}
    words = (
        f"External network {outside} is not reachable from subnet {place['subnet_id']}.  Therefore, cannot associate Port {key} with a"
        " Floating IP."
    )
    raise fault(404, "ExternalGatewayForFloatingIPNotFound", words)


def drop_floating(base: Base, floating: Thing) -> None:
    """Give it back."""
    base.forget("floatingip", floating["id"])
