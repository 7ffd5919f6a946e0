"""What consolidation is told: clusters, their nodes, the pods on them, clusters that could be made, and budgets.

Money is per hour, watts are of whole nodes at their highest. A node either exists or not: its watts and price do not depend on what lies
on it, so the sums over a plan are exact and a budget is kept whatever the work does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.domain.workloads import Isolation
from shared.errors import FieldError

WHOLE: Final = 1000
#: A pod of this priority weighs one move; one of twice it, two.
NORMAL_PRIORITY: Final = 100


@dataclass(frozen=True, slots=True)
class Group:
    """A node group. ``cost_per_hour`` and ``watts`` are of one node; it has ``nodes`` now, and ``least`` to ``most`` while it is there."""

    name: str
    flavor: str
    cpu_milli: int
    memory_mib: int
    model: str | None
    devices: int
    cost_per_hour: float
    watts: float
    nodes: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, or with ``exists`` False one that could be made. ``tenancy``: pods lie only on clusters of their own.

    ``fixed``: stays as it is, with all its nodes and pods. ``deletable``: may be removed once nothing lies on it.
    """

    id: str
    tenancy: str
    project: str
    site: str
    control_cost_per_hour: float
    control_watts: float
    groups: tuple[Group, ...]
    exists: bool = True
    fixed: bool = False
    deletable: bool = True


@dataclass(frozen=True, slots=True)
class Spot:
    """A node: the cluster's id, the group's name, and the node's number in it."""

    cluster: str
    group: str
    node: int


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod, all on one node. ``share_milli`` of a device, below 1000 only where ``accelerators`` is 1; ``models``: None is any.

    A pod of isolation ``cluster`` stays where it is, and nothing joins it there; one of isolation ``node`` has its node alone.
    """

    id: str
    workload: str
    tenancy: str
    at: Spot
    cpu_milli: int = 0
    memory_mib: int = 0
    accelerators: int = 0
    share_milli: int = WHOLE
    models: frozenset[str] | None = None
    movable: bool = True
    isolation: Isolation = Isolation.SHARED
    priority: int = NORMAL_PRIORITY
    forbidden: frozenset[str] = frozenset()  #: ids of clusters that it may not move to


@dataclass(frozen=True, slots=True)
class Problem:
    """A question. ``money_per_watt`` (lambda): what a watt costs per hour; ``money_per_move`` (mu): what a move of a pod of normal
    priority must save per hour to be worth it. Budgets are in watts, of all nodes and control planes of a site or a project.
    """

    clusters: tuple[Cluster, ...]
    pods: tuple[Pod, ...]
    money_per_watt: float = 0.0
    money_per_move: float = 0.0
    site_watts: Mapping[str, float] = field(default_factory=dict)
    project_watts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """A state of the fleet: for each pod its spot, and the nodes that are there, for each cluster that is there."""

    spots: Mapping[str, Spot]
    nodes: Mapping[str, Mapping[str, frozenset[int]]]


def present(problem: Problem) -> Layout:
    """The fleet as it is."""
    return Layout(
        {pod.id: pod.at for pod in problem.pods},
        {c.id: {g.name: frozenset(range(g.nodes)) for g in c.groups} for c in problem.clusters if c.exists},
    )


def findings(problem: Problem) -> list[FieldError]:
    """Everything about a question that makes no sense, each with the field and the rule."""
    return [*_of_numbers(problem), *_of_clusters(problem), *_of_pods(problem)]


def _of_numbers(problem: Problem) -> Iterator[FieldError]:
    amounts = [("money_per_watt", problem.money_per_watt), ("money_per_move", problem.money_per_move)]
    amounts += [(f"site_watts.{name}", value) for name, value in problem.site_watts.items()]
    amounts += [(f"project_watts.{name}", value) for name, value in problem.project_watts.items()]
    for name, value in amounts:
        if not (math.isfinite(value) and value >= 0):
            yield FieldError(name, "range", f"{value} must be a number of at least 0.")


def _of_clusters(problem: Problem) -> Iterator[FieldError]:
    seen: set[str] = set()
    for cluster in problem.clusters:
        at = f"clusters.{cluster.id}"
        if cluster.id in seen:
            yield FieldError(at, "unique", "Two clusters have this id.")
        seen.add(cluster.id)
        if not (cluster.control_cost_per_hour >= 0 and cluster.control_watts >= 0):
            yield FieldError(at, "range", "The control plane's cost and watts are not negative.")
        if len({group.name for group in cluster.groups}) < len(cluster.groups):
            yield FieldError(at, "unique", "Two node groups have the same name.")
        for group in cluster.groups:
            if not 0 <= group.least <= group.most or group.nodes > group.most or group.nodes < 0:
                words = f"{group.least} to {group.most} nodes are no bounds of a group that has {group.nodes}."
                yield FieldError(f"{at}.{group.name}", "range", words)
            if not cluster.exists and group.nodes:
                yield FieldError(f"{at}.{group.name}", "range", "A cluster that is not there has no nodes.")
            if min(group.cpu_milli, group.memory_mib, group.devices, group.cost_per_hour, group.watts) < 0:
                yield FieldError(f"{at}.{group.name}", "range", "Sizes, cost and watts of a node are not negative.")


def _of_pods(problem: Problem) -> Iterator[FieldError]:
    groups = {(c.id, g.name): (c, g) for c in problem.clusters for g in c.groups}
    seen: set[str] = set()
    for pod in problem.pods:
        at = f"pods.{pod.id}"
        if pod.id in seen:
            yield FieldError(at, "unique", "Two pods have this id.")
        seen.add(pod.id)
        if min(pod.cpu_milli, pod.memory_mib, pod.accelerators, pod.priority) < 0:
            yield FieldError(at, "range", "A pod's sizes and priority are not negative.")
        if not 1 <= pod.share_milli <= WHOLE or (pod.share_milli < WHOLE and pod.accelerators != 1):
            yield FieldError(at, "range", "A share is 1 to 1000 thousandths, and only of one device.")
        found = groups.get((pod.at.cluster, pod.at.group))
        if found is None or not 0 <= pod.at.node < found[1].nodes:
            yield FieldError(
                at, "exists", f"There is no node {pod.at.node} of group {pod.at.group!r} of cluster {pod.at.cluster!r}."
            )
        elif found[0].tenancy != pod.tenancy:
            yield FieldError(at, "tenancy", f"It lies on a cluster of tenancy {found[0].tenancy!r}, but is of {pod.tenancy!r}.")
