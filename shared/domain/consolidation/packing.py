"""Nodes with what lies on them: fit per node, never in sums; shares of a device lie on one device.

What a pod needs is its *class*: pods of one class can stand in for each other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from shared.domain.consolidation.model import NORMAL_PRIORITY, WHOLE, Cluster, Group, Layout, Pod, Problem, Spot, present
from shared.domain.workloads import Isolation


class Kind(NamedTuple):
    """What pods of one class have in common."""

    tenancy: str
    cpu_milli: int
    memory_mib: int
    accelerators: int
    share_milli: int
    models: frozenset[str] | None
    alone: bool
    forbidden: frozenset[str]
    priority: int

    @property
    def sort_key(self) -> tuple[object, ...]:
        """An order that does not depend on hashes."""
        models = () if self.models is None else tuple(sorted(self.models))
        return (*self[:5], self.models is None, models, self.alone, tuple(sorted(self.forbidden)), self.priority)

    @property
    def devices_milli(self) -> int:
        """Thousandths of devices."""
        return self.accelerators * self.share_milli


def kind_of(pod: Pod) -> Kind:
    """A pod's class."""
    return Kind(
        pod.tenancy,
        pod.cpu_milli,
        pod.memory_mib,
        pod.accelerators,
        pod.share_milli if pod.accelerators else WHOLE,
        pod.models if pod.accelerators else None,
        pod.isolation is Isolation.NODE,
        pod.forbidden,
        pod.priority,
    )


class NodeType(NamedTuple):
    """Nodes of one type take the same pods."""

    tenancy: str
    cpu_milli: int
    memory_mib: int
    model: str
    devices: int


def type_of(cluster: Cluster, group: Group) -> NodeType:
    """A group's type of node."""
    return NodeType(cluster.tenancy, group.cpu_milli, group.memory_mib, group.model or "", group.devices if group.model else 0)


@cache
def suits(kind: Kind, node: NodeType) -> bool:
    """Whether an empty node of the type takes a pod of the class."""
    if kind.tenancy != node.tenancy or kind.cpu_milli > node.cpu_milli or kind.memory_mib > node.memory_mib:
        return False
    if kind.accelerators and kind.models is not None and node.model not in kind.models:
        return False
    return kind.accelerators <= node.devices


def shares_fit(shares: list[int], devices: int) -> bool:
    """Whether shares lie on so many devices, each on one. Exact; nodes have few devices and shares few sizes."""
    if not shares:
        return True
    if sum(shares) > devices * WHOLE:
        return False
    return _fit(tuple(sorted(shares, reverse=True)), (0,) * devices)


@cache
def _fit(shares: tuple[int, ...], used: tuple[int, ...]) -> bool:
    if not shares:
        return True
    first, rest = shares[0], shares[1:]
    tried: set[int] = set()
    for at, level in enumerate(used):
        if level in tried or level + first > WHOLE:
            continue
        tried.add(level)
        if _fit(rest, tuple(sorted((*used[:at], level + first, *used[at + 1 :])))):
            return True
    return False


@dataclass(slots=True, eq=False)
class Node:
    """One node and what lies on it."""

    index: int
    cluster: int
    group: int
    number: int
    type: NodeType
    exists: bool  #: it is there now
    closed: bool  #: takes no further pods
    pods: set[str]
    cpu_milli: int
    memory_mib: int
    whole: int  #: devices that no whole-device pod has
    shares: Counter[int]
    alone: bool = False

    def takes(self, kind: Kind) -> bool:
        """Whether a pod of the class fits beside what lies here."""
        if self.closed or self.alone or self.cpu_milli < kind.cpu_milli or self.memory_mib < kind.memory_mib:
            return False
        if (kind.alone and self.pods) or not suits(kind, self.type):
            return False
        if not kind.accelerators:
            return True
        shares = list(self.shares.elements())
        if kind.share_milli < WHOLE:
            return shares_fit([*shares, kind.share_milli], self.whole)
        return self.whole >= kind.accelerators and shares_fit(shares, self.whole - kind.accelerators)

    def put(self, pod: str, kind: Kind) -> None:
        """A pod that :meth:`takes` allows, or that lies here already."""
        self.pods.add(pod)
        self.cpu_milli -= kind.cpu_milli
        self.memory_mib -= kind.memory_mib
        self.alone = self.alone or kind.alone
        if kind.accelerators and kind.share_milli < WHOLE:
            self.shares[kind.share_milli] += 1
        else:
            self.whole -= kind.accelerators

    def drop(self, pod: str, kind: Kind) -> None:
        """A pod leaves."""
        self.pods.remove(pod)
        self.cpu_milli += kind.cpu_milli
        self.memory_mib += kind.memory_mib
        if kind.alone:
            self.alone = False
        if kind.accelerators and kind.share_milli < WHOLE:
            self.shares[kind.share_milli] -= 1
        else:
            self.whole += kind.accelerators


def weight_of(pod: Pod) -> float:
    """How many moves of a pod of normal priority its move weighs."""
    return pod.priority / NORMAL_PRIORITY


def cost_per_hour(problem: Problem, layout: Layout) -> float:
    """Money of all nodes and control planes that are there."""
    return sum(
        c.control_cost_per_hour + sum(g.cost_per_hour * len(layout.nodes[c.id].get(g.name, ())) for g in c.groups)
        for c in problem.clusters
        if c.id in layout.nodes
    )


def watts(problem: Problem, layout: Layout, *, site: str | None = None, project: str | None = None) -> float:
    """Watts of all nodes and control planes that are there, of one site or project where that is given."""
    return sum(
        c.control_watts + sum(g.watts * len(layout.nodes[c.id].get(g.name, ())) for g in c.groups)
        for c in problem.clusters
        if c.id in layout.nodes and site in {None, c.site} and project in {None, c.project}
    )


def disruption(problem: Problem, layout: Layout) -> float:
    """Weighted moves: pods that lie on another node than before."""
    return sum(weight_of(pod) for pod in problem.pods if layout.spots[pod.id] != pod.at)


def objective(problem: Problem, layout: Layout) -> float:
    """Cost per hour + lambda x watts + mu x disruption."""
    return (
        cost_per_hour(problem, layout)
        + problem.money_per_watt * watts(problem, layout)
        + problem.money_per_move * disruption(problem, layout)
    )


def violations(problem: Problem, layout: Layout) -> list[str]:
    """Every rule that a layout breaks, in words. Written apart from the solver, so that each can be held against the other."""
    found = [*_of_bounds(problem, layout), *_of_budgets(problem, layout)]
    clusters = {c.id: c for c in problem.clusters}
    taken = {pod.at.cluster for pod in problem.pods if pod.isolation is Isolation.CLUSTER}
    on: dict[Spot, list[Pod]] = {}
    for pod in problem.pods:
        spot = layout.spots[pod.id]
        on.setdefault(spot, []).append(pod)
        stays = not pod.movable or pod.isolation is Isolation.CLUSTER or clusters[pod.at.cluster].fixed
        if spot != pod.at:
            if stays:
                found.append(f"pod {pod.id} may not move")
            if spot.cluster != pod.at.cluster and (spot.cluster in pod.forbidden or clusters[spot.cluster].fixed):
                found.append(f"pod {pod.id} may not move to {spot.cluster}")
            if clusters[spot.cluster].tenancy != pod.tenancy:
                found.append(f"pod {pod.id} is on a cluster of another tenancy")
            if spot.cluster in taken:
                found.append(f"pod {pod.id} joined a cluster that a pod has to itself")
    for spot, pods in on.items():
        if spot.node not in layout.nodes.get(spot.cluster, {}).get(spot.group, ()):
            found.append(f"{spot} is not there")
            continue
        group = next(g for g in clusters[spot.cluster].groups if g.name == spot.group)
        found += _of_node(group, spot, pods)
    return found


def _of_node(group: Group, spot: Spot, pods: list[Pod]) -> list[str]:
    found = []
    if sum(p.cpu_milli for p in pods) > group.cpu_milli or sum(p.memory_mib for p in pods) > group.memory_mib:
        found.append(f"{spot} is over its cores or memory")
    whole = sum(p.accelerators for p in pods if p.share_milli == WHOLE)
    shares = [p.share_milli for p in pods if p.accelerators and p.share_milli < WHOLE]
    if whole > group.devices or not shares_fit(shares, group.devices - whole):
        found.append(f"{spot} is over its devices")
    if any(p.accelerators and p.models is not None and group.model not in p.models for p in pods):
        found.append(f"{spot} has devices of a model that a pod may not have")
    if len(pods) > 1 and any(p.isolation is Isolation.NODE for p in pods):
        found.append(f"{spot} has company for a pod that wants it alone")
    return found


def _of_bounds(problem: Problem, layout: Layout) -> list[str]:
    found = []
    for cluster in problem.clusters:
        there = layout.nodes.get(cluster.id)
        if there is None:
            if cluster.exists and (cluster.fixed or not cluster.deletable):
                found.append(f"cluster {cluster.id} may not be deleted")
            continue
        for group in cluster.groups:
            count = len(there.get(group.name, ()))
            if not group.least <= count <= group.most:
                found.append(f"group {group.name} of {cluster.id} has {count} nodes, not {group.least} to {group.most}")
            if cluster.fixed and count != group.nodes:
                found.append(f"cluster {cluster.id} is fixed")
    return found


def _of_budgets(problem: Problem, layout: Layout) -> list[str]:
    # On the way, what is new is there before what is old has gone: a hard limit holds then too.
    now = present(problem)
    peak = Layout(
        layout.spots,
        {
            c: {
                g: layout.nodes.get(c, {}).get(g, frozenset()) | now.nodes.get(c, {}).get(g, frozenset())
                for g in {*layout.nodes.get(c, {}), *now.nodes.get(c, {})}
            }
            for c in {*layout.nodes, *now.nodes}
        },
    )
    found = []
    for key, budgets in (("site", problem.site_watts), ("project", problem.project_watts)):
        for name, budget in budgets.items():
            after, most, before = (watts(problem, one, **{key: name}) for one in (layout, peak, now))
            slack = 1e-6
            if after > budget + slack:
                found.append(f"{key} {name} draws {after:g} W, over its budget of {budget:g} W")
            elif most > max(budget, before) + slack:
                found.append(f"{key} {name} would draw {most:g} W on the way, over its budget of {budget:g} W")
    return found
