"""Consolidation of generated fleets: how far below the present and below first-fit decreasing, and how near to the proven bound."""

import random
import time
from dataclasses import replace
from typing import Any, Final

from shared.domain.consolidation.fleet import Fleet
from shared.domain.consolidation.model import WHOLE, Cluster, Group, Pod, Problem, Spot, present
from shared.domain.consolidation.packing import kind_of, objective, violations
from shared.domain.consolidation.plan import consolidate
from shared.domain.consolidation.search import first_fit_decreasing

SEED: Final = 20260304
_SECONDS: Final = 28.0
#: Model, devices, cores, memory in GiB, price per hour, watts of a node: sizes as clouds sell them, prices and watts rounded.
_NODES: Final = (
    ("A100", 8, 96, 1152, 22.0, 4100.0),
    ("A30", 4, 64, 512, 6.0, 1250.0),
    ("T4", 2, 32, 128, 1.6, 420.0),
    (None, 0, 32, 128, 1.2, 300.0),
)
_FLEETS: Final = ((20, 200, 1), (20, 200, 4), (200, 2000, 20))  #: clusters, pods, tenancies


def fleet_of(clusters: int, pods: int, tenancies: int, seed: int = SEED) -> Problem:
    """A fleet of clusters of two to six nodes; each pod is drawn to a node, and drawn again where it does not fit. 5 % of them may not move."""
    rng = random.Random(seed)
    made = []
    for number in range(clusters):
        model, devices, cores, memory, cost, watts = rng.choices(_NODES, (2, 3, 3, 1))[0]
        nodes = rng.randint(2, 6)
        group = Group("w", "flavor", cores * 1000, memory * 1024, model, devices, cost, watts, nodes, 0, nodes + 1)
        tenancy = f"t{number % tenancies}"
        masters = rng.choice((1, 3))
        made.append(Cluster(f"c{number:03}", tenancy, tenancy, f"s{number % 2}", 0.12 * masters, 60.0 * masters, (group,)))
    problem = Problem(tuple(made), (), money_per_watt=0.0002, money_per_move=0.02)
    room = Fleet(problem, grow=0)
    placed: list[Pod] = []
    while len(placed) < pods:
        cluster = rng.choice(made)
        cores, accelerators, share = rng.choice(
            ((2, 1, 250), (4, 1, 500), (6, 1, WHOLE), (8, 1, WHOLE), (12, 2, WHOLE), (8, 0, WHOLE))
        )
        node = rng.randrange(cluster.groups[0].nodes)
        pod = Pod(
            f"p{len(placed):04}",
            f"w{len(placed) // 3}",
            cluster.tenancy,
            Spot(cluster.id, "w", node),
            cores * 1000,
            cores * 4096,
            accelerators,
            share,
            movable=rng.random() < 0.95,
        )
        place = room.of_group[made.index(cluster)][node]
        kind = kind_of(pod)
        if place.takes(kind):
            place.put(pod.id, kind)
            placed.append(pod)
    return replace(problem, pods=tuple(placed))


def measure() -> dict[str, Any]:
    """Each fleet: the present, first-fit decreasing, the plan and its bound, in money per hour."""
    return {"fleets": [_one(clusters, pods, tenancies) for clusters, pods, tenancies in _FLEETS]}


def _one(clusters: int, pods: int, tenancies: int) -> dict[str, Any]:
    problem = fleet_of(clusters, pods, tenancies)
    began = time.monotonic()
    greedy = Fleet(problem, grow=0)
    first_fit_decreasing(greedy, lambda: True)
    greedy_s = time.monotonic() - began
    began = time.monotonic()
    plan = consolidate(problem, seconds=_SECONDS)
    seconds = time.monotonic() - began
    broken = violations(problem, plan.layout) + violations(problem, greedy.layout())
    if broken:
        raise RuntimeError("; ".join(broken))
    return {
        "clusters": clusters,
        "pods": pods,
        "tenancies": tenancies,
        "seed": SEED,
        "present": round(objective(problem, present(problem)), 3),
        "first_fit_decreasing": round(objective(problem, greedy.layout()), 3),
        "first_fit_decreasing_s": round(greedy_s, 2),
        "plan": round(plan.objective, 3),
        "bound": round(plan.bound, 3),
        "gap_percent": round(100 * plan.gap, 3),
        "optimal": plan.optimal,
        "seconds": round(seconds, 1),
        "moves": sum(step.act == "move" for step in plan.steps),
        "deleted": sum(step.act == "delete" for step in plan.steps),
    }
