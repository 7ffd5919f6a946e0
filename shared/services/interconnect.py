"""Connections between clusters' own networks: who can be connected, and what the template is told of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


def parameters_for(template: HotTemplate, members: Sequence[Member]) -> dict[str, Any]:
    """What the interconnection's template is given besides the caller's parameters."""
    if template.name != INTERCONNECT:
        return {}
    return {"members": [{name: member.stack.outputs[name] for name in _OUTPUTS} for member in members]}
