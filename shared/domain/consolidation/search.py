"""A good layout, quickly: pods leave whole clusters and nodes for the room that others have, as long as that is worth it.

First-fit decreasing alone is the baseline that benchmarks compare with; the search starts from the present, so that it moves little.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterable
from functools import partial

from shared.domain.consolidation.fleet import Fleet
from shared.domain.consolidation.packing import Kind, Node


def first_fit_decreasing(fleet: Fleet, allowed: Callable[[], bool]) -> None:
    """Per cluster, smallest first: its pods go, largest first, to the first node elsewhere in use that takes them; all of them or none."""
    order = sorted(range(len(fleet.clusters)), key=lambda c: (sum(len(n.pods) for n in _nodes(fleet, c)), c))
    for cluster in order:
        spec = fleet.clusters[cluster]
        names = [name for node in _nodes(fleet, cluster) for name in node.pods]
        if not spec.exists or spec.fixed or not spec.deletable or any(name in fleet.pinned for name in names):
            continue
        _try(fleet, names, partial(_in_use_elsewhere, cluster), allowed, best=False, worth=False)


def improve(fleet: Fleet, allowed: Callable[[], bool], over: Callable[[], bool], *, seed: int) -> None:
    """Close clusters and nodes, cheapest work first, until nothing more is gained or time is over."""
    rng = random.Random(seed)  # noqa: S311 - orders are varied, nothing is hidden
    gained = True
    while gained and not over():
        gained = _close_clusters(fleet, allowed, over, rng)
        gained |= _close_nodes(fleet, allowed, over)
        gained |= _go_home(fleet)


def _elsewhere(cluster: int, node: Node) -> bool:
    return node.cluster != cluster


def _in_use_elsewhere(cluster: int, node: Node) -> bool:
    return node.cluster != cluster and bool(node.pods)


def _close_clusters(fleet: Fleet, allowed: Callable[[], bool], over: Callable[[], bool], rng: random.Random) -> bool:
    gained = False
    order = list(range(len(fleet.clusters)))
    rng.shuffle(order)
    order.sort(key=lambda c: _load(fleet, c) / max(1, fleet.cluster_price(c)))
    for cluster in order:
        if over():
            break
        spec = fleet.clusters[cluster]
        names = [name for node in _nodes(fleet, cluster) for name in node.pods]
        if not names or spec.fixed or (spec.exists and not spec.deletable) or any(name in fleet.pinned for name in names):
            continue
        gained |= _try(fleet, names, partial(_elsewhere, cluster), allowed)
    return gained


def _close_nodes(fleet: Fleet, allowed: Callable[[], bool], over: Callable[[], bool]) -> bool:
    gained = False
    for node in sorted((n for n in fleet.nodes if n.pods and not n.closed), key=lambda n: (len(n.pods), n.index)):
        if over():
            break
        if not any(name in fleet.pinned for name in node.pods):
            gained |= _try(fleet, list(node.pods), partial(operator.is_not, node), allowed)
    return gained


def _go_home(fleet: Fleet) -> bool:
    """Pods whose old node is there and has room for them go back: a move that buys nothing is not made."""
    gained = False
    for name, home in fleet.home.items():
        here = fleet.where[name]
        if here is not home and home.pods and fleet.move_price(fleet.kinds[name]) and fleet.may(name, home):
            fleet.move(name, home)
            gained = True
    return gained


def _try(
    fleet: Fleet,
    names: Iterable[str],
    target: Callable[[Node], bool],
    allowed: Callable[[], bool],
    *,
    best: bool = True,
    worth: bool = True,
) -> bool:
    """Move all of these pods to nodes that ``target`` takes, or none; with ``worth``, only where the objective falls."""
    ordered = sorted(names, key=lambda name: (*_size(fleet.kinds[name]), name), reverse=True)
    if not ordered:
        return False
    before = {name: fleet.where[name] for name in ordered}
    nodes = [node for node in fleet.tenants[fleet.kinds[ordered[0]].tenancy] if not node.closed and target(node)]
    touched = {node.cluster for node in before.values()}
    old: dict[int, int] = {c: fleet.cluster_price(c) for c in touched}
    done = True
    for name in ordered:
        found = _place(fleet, name, nodes, best=best)
        if found is None:
            done = False
            break
        if found.cluster not in old:
            old[found.cluster] = fleet.cluster_price(found.cluster)
        fleet.move(name, found)
    if done:
        change = sum(fleet.cluster_price(c) - was for c, was in old.items())
        change += sum(
            _moved(fleet, name) - (_price(fleet, name) if before[name] is not fleet.home[name] else 0) for name in ordered
        )
        if (change < 0 or not worth) and allowed():
            return True
    for name in ordered:
        if fleet.where[name] is not before[name]:
            fleet.move(name, before[name])
    return False


def _place(fleet: Fleet, name: str, nodes: list[Node], *, best: bool) -> Node | None:
    found: Node | None = None
    mark: tuple[float, ...] = ()
    empty: set[tuple[int, bool]] = set()
    for node in nodes:
        if not node.pods:
            key = (node.group, node.exists)
            if key in empty:
                continue  # as good as the one before it
        if not fleet.may(name, node):
            continue
        if not best:
            return node
        if not node.pods:
            empty.add((node.group, node.exists))
        new = _opening(fleet, node)
        home = 0 if node is fleet.home[name] else _price(fleet, name)
        left = float(
            node.whole * 1000 + node.cpu_milli / max(1, node.type.cpu_milli) + node.memory_mib / max(1, node.type.memory_mib)
        )
        here = (float(new + home), left, float(node.index))
        if found is None or here < mark:
            found, mark = node, here
    return found


def _opening(fleet: Fleet, node: Node) -> int:
    """What it costs that this node is used, per hour."""
    if node.pods:
        return 0
    price = fleet.node_price(node.group)
    used = sum(1 for other in fleet.of_group[node.group] if other.pods)
    if used < fleet.groups[node.group][1].least and fleet.stays(node.cluster):
        price = 0
    return price if fleet.stays(node.cluster) else price + fleet.control_price(node.cluster)


def _price(fleet: Fleet, name: str) -> int:
    return fleet.move_price(fleet.kinds[name])


def _moved(fleet: Fleet, name: str) -> int:
    return 0 if fleet.where[name] is fleet.home[name] else _price(fleet, name)


def _nodes(fleet: Fleet, cluster: int) -> list[Node]:
    return [node for group in fleet.groups_of[cluster] for node in fleet.of_group[group]]


def _load(fleet: Fleet, cluster: int) -> float:
    return sum(
        fleet.kinds[name].cpu_milli / max(1, node.type.cpu_milli)
        + fleet.kinds[name].devices_milli / max(1000, node.type.devices * 1000)
        for node in _nodes(fleet, cluster)
        for name in node.pods
    )


def _size(kind: Kind) -> tuple[int, int, int]:
    return (kind.devices_milli, kind.cpu_milli, kind.memory_mib)
