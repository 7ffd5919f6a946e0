"""A question as nodes and classes of pods: the form that search and solver work on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

from shared.domain.consolidation.model import NORMAL_PRIORITY, Cluster, Group, Layout, Pod, Problem, Spot
from shared.domain.consolidation.packing import Kind, Node, kind_of, suits, type_of
from shared.domain.workloads import Isolation

#: Whole numbers for the solver: millionths of the currency, thousandths of a watt.
MONEY: Final = 1_000_000
WATT: Final = 1000


class Fleet:
    """Nodes there are and could be, and where each pod lies. Changes as the search moves pods.

    ``grow``: the most nodes beyond the present ones that each group may get; fewer than its bound narrows the search, not the truth.
    """

    def __init__(self, problem: Problem, *, grow: int) -> None:
        self.problem = problem
        self.clusters = problem.clusters
        self.pods: dict[str, Pod] = {pod.id: pod for pod in sorted(problem.pods, key=lambda p: p.id)}
        self.kinds: dict[str, Kind] = {name: kind_of(pod) for name, pod in self.pods.items()}
        self.nodes: list[Node] = []
        self.groups: list[tuple[int, Group]] = []
        self.of_group: list[list[Node]] = []
        self.groups_of: list[list[int]] = []
        self.narrowed = False
        taken = {pod.at.cluster for pod in problem.pods if pod.isolation is Isolation.CLUSTER}
        self.pinned: set[str] = set()  #: pods that stay
        fixed = {c.id for c in self.clusters if c.fixed}
        for name, pod in self.pods.items():
            if not pod.movable or pod.isolation is Isolation.CLUSTER or pod.at.cluster in fixed:
                self.pinned.add(name)
        at: dict[Spot, Node] = {}
        for number, cluster in enumerate(self.clusters):
            self.groups_of.append([])
            for group in cluster.groups:
                self._add(number, cluster, group, 0 if cluster.fixed else grow, cluster.fixed or cluster.id in taken, at)
        self.where: dict[str, Node] = {}
        for name, pod in self.pods.items():
            at[pod.at].put(name, self.kinds[name])
            self.where[name] = at[pod.at]
        self.home = dict(self.where)
        #: Nodes that are kept though nothing lies there are those of bounds; the others go as soon as they are empty.
        self.tenants: dict[str, list[Node]] = {}
        for node in self.nodes:
            self.tenants.setdefault(node.type.tenancy, []).append(node)

    def _add(self, number: int, cluster: Cluster, group: Group, grow: int, closed: bool, at: dict[Spot, Node]) -> None:
        index = len(self.groups)
        self.groups.append((number, group))
        self.groups_of[number].append(index)
        self.of_group.append([])
        kind = type_of(cluster, group)
        most = min(group.most, group.nodes + grow)
        self.narrowed |= most < group.most and not cluster.fixed
        for place in range(most):
            there = place < group.nodes
            if closed and not there:
                continue
            node = Node(
                index=len(self.nodes),
                cluster=number,
                group=index,
                number=place,
                type=kind,
                exists=there,
                closed=closed,
                pods=set(),
                cpu_milli=group.cpu_milli,
                memory_mib=group.memory_mib,
                whole=kind.devices,
                shares=Counter(),
            )
            self.nodes.append(node)
            self.of_group[index].append(node)
            at[Spot(cluster.id, group.name, place)] = node

    # -- prices, in whole numbers ---------------------------------------------------------------------------------------------

    def price(self, money: float, watts: float) -> int:
        """Money per hour and watts, as the objective weighs them, in millionths of the currency."""
        return round((money + self.problem.money_per_watt * watts) * MONEY)

    def node_price(self, group: int) -> int:
        """Of one node of a group."""
        one = self.groups[group][1]
        return self.price(one.cost_per_hour, one.watts)

    def control_price(self, cluster: int) -> int:
        """Of a cluster's control plane."""
        one = self.clusters[cluster]
        return self.price(one.control_cost_per_hour, one.control_watts)

    def move_price(self, kind: Kind) -> int:
        """Of moving one pod of a class."""
        return round(self.problem.money_per_move * kind.priority / NORMAL_PRIORITY * MONEY)

    def watts_of(self, watts: float) -> int:
        """Watts as the solver counts them: never less than they are."""
        return math.ceil(watts * WATT - 1e-6)

    # -- what may be ----------------------------------------------------------------------------------------------------------

    def may(self, name: str, node: Node) -> bool:
        """Whether a pod may lie on a node and fits there now."""
        return (
            node.takes(self.kinds[name])
            and (self.clusters[node.cluster].id not in self.kinds[name].forbidden or node.cluster == self.home[name].cluster)
            and name not in self.pinned
        )

    def could(self, kind: Kind, node: Node) -> bool:
        """Whether pods of a class may come to a node, were it empty."""
        return not node.closed and suits(kind, node.type) and self.clusters[node.cluster].id not in kind.forbidden

    def move(self, name: str, node: Node) -> None:
        """A pod moves."""
        self.where[name].drop(name, self.kinds[name])
        node.put(name, self.kinds[name])
        self.where[name] = node

    def lie(self, where: Mapping[str, Node]) -> None:
        """All pods lie there."""
        for name, node in self.where.items():
            node.drop(name, self.kinds[name])
        for name, node in where.items():
            node.put(name, self.kinds[name])
        self.where = dict(where)

    # -- what that makes ------------------------------------------------------------------------------------------------------

    def counts(self, cluster: int) -> dict[int, list[Node]]:
        """By group of a cluster: the nodes that stay, those with pods and so many more as its bounds ask for."""
        kept: dict[int, list[Node]] = {}
        spec = self.clusters[cluster]
        for index in self.groups_of[cluster]:
            nodes = self.of_group[index]
            if spec.fixed:
                kept[index] = nodes
                continue
            used = [node for node in nodes if node.pods]
            short = self.groups[index][1].least - len(used)
            if short > 0:
                used += sorted((n for n in nodes if not n.pods), key=lambda n: (not n.exists, n.number))[:short]
            kept[index] = used
        return kept

    def stays(self, cluster: int) -> bool:
        """Whether a cluster is there in the end."""
        spec = self.clusters[cluster]
        if spec.exists and (spec.fixed or not spec.deletable):
            return True
        return any(node.pods for index in self.groups_of[cluster] for node in self.of_group[index])

    def cluster_price(self, cluster: int) -> int:
        """What a cluster costs as it stands."""
        if not self.stays(cluster):
            return 0
        return self.control_price(cluster) + sum(self.node_price(g) * len(nodes) for g, nodes in self.counts(cluster).items())

    def total(self) -> int:
        """The objective, in millionths of the currency."""
        moved = sum(self.move_price(self.kinds[name]) for name, node in self.where.items() if node is not self.home[name])
        return moved + sum(self.cluster_price(c) for c in range(len(self.clusters)))

    def layout(self) -> Layout:
        """As a layout."""
        spots = {}
        for name, node in self.where.items():
            spots[name] = Spot(self.clusters[node.cluster].id, self.groups[node.group][1].name, node.number)
        nodes = {
            spec.id: {self.groups[g][1].name: frozenset(n.number for n in kept) for g, kept in self.counts(number).items()}
            for number, spec in enumerate(self.clusters)
            if self.stays(number)
        }
        return Layout(spots, nodes)
