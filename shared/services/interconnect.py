"""Connections between clusters' own networks: who can be connected, and the document that connects them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from shared.domain.clusters import Phase
from shared.domain.stacks import INTERCONNECT, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.clusters import Cluster
    from shared.services.hot import HotTemplate

#: What the template of a network tells of it.
_OUTPUTS = ("network_id", "subnet_id", "router_id", "security_group_id", "cidr")


@dataclass(frozen=True, slots=True)
class Member:
    """A cluster that can be connected, and its network."""

    cluster: Cluster
    stack: Stack

    @property
    def key(self) -> str:
        """What its resources' names end with: the same whoever else is a member, so that an update leaves them alone."""
        return self.cluster.id.hex[:12]

    def output(self, name: str) -> str:
        """What its network's stack tells."""
        return str(self.stack.outputs[name])


def member_of(cluster: Cluster, stack: Stack | None) -> Member | str:
    """The member, or why the cluster can't be one."""
    if stack is None:
        return f"Cluster {cluster.name!r} has no network of its own: create it with network: isolated."
    if stack.phase is not Phase.READY:
        return f"The network of cluster {cluster.name!r} is {stack.phase.value}."
    missing = [name for name in _OUTPUTS if not stack.outputs.get(name)]
    if missing:
        return f"The network of cluster {cluster.name!r} does not tell its {', '.join(missing)}."
    return Member(cluster, stack)


def document_for(template: HotTemplate, members: Sequence[Member]) -> str:
    """The HOT document that Heat is given: the shipped one, and for a connection what each member adds.

    Between two isolated routers packets need a network that both have a port in, a route each way (Neutron's extra routes), and, since
    security groups admit nothing by default, a rule for each other member's range.
    """
    if template.name != INTERCONNECT:
        return template.text
    document: dict[str, Any] = yaml.safe_load(template.text)
    resources: dict[str, Any] = document["resources"]
    for member in members:
        others = [other for other in members if other is not member]
        resources[f"port_{member.key}"] = {
            "type": "OS::Neutron::Port",
            "properties": {
                "name": {"get_param": "name"},
                "network": {"get_resource": "transit"},
                "fixed_ips": [{"subnet": {"get_resource": "transit_subnet"}}],
                "port_security_enabled": False,
            },
        }
        resources[f"interface_{member.key}"] = {
            "type": "OS::Neutron::RouterInterface",
            "properties": {"router": member.output("router_id"), "port": {"get_resource": f"port_{member.key}"}},
        }
        resources[f"routes_{member.key}"] = {
            "type": "OS::Neutron::ExtraRouteSet",
            "depends_on": [f"interface_{each.key}" for each in members],
            "properties": {
                "router": member.output("router_id"),
                "routes": [
                    {
                        "destination": other.output("cidr"),
                        "nexthop": {"get_attr": [f"port_{other.key}", "fixed_ips", 0, "ip_address"]},
                    }
                    for other in others
                ],
            },
        }
        for other in others:
            resources[f"rule_{member.key}_{other.key}"] = {
                "type": "OS::Neutron::SecurityGroupRule",
                "properties": {
                    "security_group": member.output("security_group_id"),
                    "direction": "ingress",
                    "ethertype": "IPv4",
                    "remote_ip_prefix": other.output("cidr"),
                },
            }
    return yaml.safe_dump(document, sort_keys=False)
