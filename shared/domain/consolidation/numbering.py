"""Numbers of nodes, and the order of moves: what the solver is free to choose, and whoever carries a plan out is not.

Nodes of a group are all alike, so the solver may use the third new one and not the first. A group has nodes 0 to n - 1, though: the
numbers that a plan names are those that exist once it has grown what it grows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.consolidation.fleet import Fleet
from shared.domain.consolidation.model import Layout, Problem, Spot

if TYPE_CHECKING:
    from collections.abc import Iterable


def numbered(problem: Problem, layout: Layout) -> Layout:
    """The same layout with node numbers below what each group has at its largest: now, or once it has grown."""
    new: dict[Spot, Spot] = {}
    nodes: dict[str, dict[str, frozenset[int]]] = {}
    for cluster in problem.clusters:
        there = layout.nodes.get(cluster.id)
        if there is None:
            continue
        nodes[cluster.id] = {}
        for group in cluster.groups:
            kept = there.get(group.name, frozenset())
            size = max(group.nodes, len(kept))
            # The new ones first: nobody has to leave them before.
            places = iter(sorted(set(range(size)) - kept, reverse=True))
            numbers = {number: number if number < size else next(places) for number in sorted(kept)}
            nodes[cluster.id][group.name] = frozenset(numbers.values())
            for old, number in numbers.items():
                new[Spot(cluster.id, group.name, old)] = Spot(cluster.id, group.name, number)
    return Layout({pod: new.get(spot, spot) for pod, spot in layout.spots.items()}, nodes)


def in_turn(problem: Problem, layout: Layout) -> list[str]:
    """Pods that move, in an order in which each finds its place free, as far as there is one: those that swap places come last."""
    moving = {pod.id for pod in problem.pods if layout.spots[pod.id] != pod.at}
    if not moving:
        return []
    most = max(len(kept) for groups in layout.nodes.values() for kept in groups.values())
    fleet = Fleet(problem, grow=most)
    at = {Spot(fleet.clusters[n.cluster].id, fleet.groups[n.group][1].name, n.number): n for n in fleet.nodes}
    order: list[str] = []
    left: Iterable[str] = sorted(moving, key=lambda pod: (layout.spots[pod].cluster, layout.spots[pod].group, pod))
    while True:
        blocked = []
        for pod in left:
            node = at[layout.spots[pod]]
            if node.takes(fleet.kinds[pod]):
                fleet.move(pod, node)
                order.append(pod)
            else:
                blocked.append(pod)
        if not blocked or len(blocked) == len(list(left)):
            return [*order, *blocked]
        left = blocked
