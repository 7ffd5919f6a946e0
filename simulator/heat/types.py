"""The resource types that the simulated Heat knows."""

from typing import Any

from simulator.heat.makers import ClusterTemplate, InNeutron, Interface, Routes, ServerGroup, Value
from simulator.heat.schema import Property, Type


def _fixed(**changes: Any) -> Property:
    return Property(later=False, **changes)


_TEXT, _FLAG, _LIST = Property(), Property("flag"), Property("list")
_NAMED = {"name": _TEXT, "tags": _LIST}
_SHOWN = frozenset({"name", "status", "admin_state_up", "tenant_id", "project_id", "description", "id"})
_TEMPLATE_TEXTS = ("name", "dns_nameserver", "http_proxy", "https_proxy", "no_proxy", "fixed_network", "fixed_subnet")
TYPES: dict[str, Type] = {
    "OS::Neutron::Net": InNeutron(
        {**_NAMED, "admin_state_up": _FLAG, "shared": _FLAG, "port_security_enabled": _FLAG},
        _SHOWN | {"subnets", "mtu", "port_security_enabled"},
        kind="network",
    ),
    "OS::Neutron::Subnet": InNeutron(
        {
            **_NAMED,
            "network": _fixed(needed=True, ref="neutron.network"),
            "cidr": _fixed(ref="net_cidr"),
            "ip_version": _fixed(kind="number"),
            "gateway_ip": Property(null=True),
            "enable_dhcp": _FLAG,
            "dns_nameservers": _LIST,
            "host_routes": _LIST,
            "allocation_pools": _LIST,
        },
        _SHOWN | {"cidr", "gateway_ip", "network_id", "dns_nameservers", "allocation_pools", "host_routes", "ip_version"},
        kind="subnet",
    ),
    "OS::Neutron::Router": InNeutron(
        {**_NAMED, "admin_state_up": _FLAG, "external_gateway_info": Property("map")},
        _SHOWN | {"external_gateway_info"},
        kind="router",
    ),
    "OS::Neutron::Port": InNeutron(
        {
            **_NAMED,
            "network": _fixed(needed=True, ref="neutron.network"),
            "fixed_ips": _fixed(kind="list"),
            "security_groups": _LIST,
            "port_security_enabled": _FLAG,
            "device_id": _TEXT,
            "device_owner": _TEXT,
            "admin_state_up": _FLAG,
        },
        _SHOWN | {"fixed_ips", "mac_address", "network_id", "device_id", "device_owner", "security_groups", "subnets"},
        kind="port",
    ),
    "OS::Neutron::SecurityGroup": InNeutron({"name": _TEXT, "description": _TEXT, "rules": _LIST}, _SHOWN, kind="security_group"),
    "OS::Neutron::SecurityGroupRule": InNeutron(
        {
            "security_group": _fixed(needed=True, ref="neutron.security_group"),
            "description": _fixed(),
            "direction": _fixed(choices=("ingress", "egress")),
            "ethertype": _fixed(choices=("IPv4", "IPv6")),
            "protocol": _fixed(),
            "port_range_min": _fixed(kind="number"),
            "port_range_max": _fixed(kind="number"),
            "remote_ip_prefix": _fixed(ref="net_cidr"),
            "remote_group": _fixed(ref="neutron.security_group"),
        },
        kind="security_group_rule",
    ),
    "OS::Neutron::FloatingIP": InNeutron(
        {"floating_network": _fixed(needed=True, ref="neutron.network"), "port_id": Property(ref="neutron.port")},
        frozenset({"floating_ip_address", "fixed_ip_address", "floating_network_id", "port_id", "router_id", "status"}),
        kind="floatingip",
    ),
    "OS::Neutron::RouterInterface": Interface(
        {
            "router": _fixed(needed=True, ref="neutron.router"),
            "subnet": _fixed(ref="neutron.subnet"),
            "port": _fixed(ref="neutron.port"),
        }
    ),
    "OS::Neutron::ExtraRouteSet": Routes(
        {"router": _fixed(needed=True, ref="neutron.router"), "routes": Property("list", needed=True)}
    ),
    "OS::Nova::ServerGroup": ServerGroup({"name": _fixed(), "policies": _fixed(kind="list"), "rules": _fixed(kind="map")}),
    "OS::Magnum::ClusterTemplate": ClusterTemplate(
        {
            **dict.fromkeys(_TEMPLATE_TEXTS, _fixed()),
            "coe": _fixed(needed=True, choices=("kubernetes", "swarm", "mesos")),
            "image": _fixed(needed=True, ref="glance.image"),
            "flavor": _fixed(ref="nova.flavor"),
            "master_flavor": _fixed(ref="nova.flavor"),
            "keypair": _fixed(ref="nova.keypair"),
            "external_network": _fixed(needed=True, ref="neutron.network"),
            "network_driver": _fixed(),
            "volume_driver": _fixed(),
            "docker_volume_size": _fixed(kind="number"),
            "docker_storage_driver": _fixed(choices=("devicemapper", "overlay")),
            "server_type": _fixed(choices=("vm", "bm")),
            "labels": _fixed(kind="map"),
            **{name: _fixed(kind="flag") for name in ("public", "tls_disabled", "registry_enabled")},
            **{name: _fixed(kind="flag") for name in ("master_lb_enabled", "floating_ip_enabled")},
        },
        frozenset({"name", "uuid"}),
    ),
    "OS::Heat::Value": Value({"value": Property("any", needed=True), "type": _TEXT}, frozenset({"value"})),
    "OS::Heat::TestResource": Value(
        {"value": _TEXT, "fail": _FLAG, "action_wait_secs": Property("map"), "wait_secs": Property("number")},
        frozenset({"output"}),
    ),
}
