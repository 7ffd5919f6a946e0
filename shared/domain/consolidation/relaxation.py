"""A bound from below that is quick to prove: each group of nodes taken as one big node.

Take any layout that keeps the rules and add it up over the nodes of each group. Its sums keep every rule here: what lies on a node that is
there fits it, so what lies on a group fits as many nodes as are kept; a pod that stays on its node stays in its group, so no more moves are
counted here than are made; and prices are the same. Hence no layout costs less than the best of these sums. Budgets, devices as single
things and company are left out, which can only make it cheaper. Being small, it is often solved to the end where the exact model is not:
whole nodes are bought here, where the exact model's own relaxation buys parts of many.

Groups whose nodes are alike and cost the same are added up once more. That says nothing new, but gives the solver the number of nodes of a
type to decide first, of which there are few, in place of that of each group, of which many differ by moves alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.domain.consolidation.fleet import Fleet
from shared.domain.consolidation.packing import Kind


@dataclass(frozen=True, slots=True)
class Relaxed:
    """``bound``: millionths of the currency that no layout is below, 0 where nothing was proven. ``kept``: by group, the nodes of the
    cheapest sums that were found; None where none were.
    """

    bound: int
    kept: tuple[int, ...] | None = None


def relax(fleet: Fleet, *, seed: int, effort_s: float, wall_s: float) -> Relaxed:
    """The bound of a fleet, and the sizes of groups that lead to it."""
    from ortools.sat.python import cp_model  # loading it takes longer than all else that a process loads at its start

    model = cp_model.CpModel()
    terms: list[Any] = []
    kept = _nodes(fleet, model, terms)
    _pods(fleet, model, terms, kept)
    model.minimize(sum(terms))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.linearization_level = 2
    solver.parameters.max_deterministic_time = effort_s
    solver.parameters.max_time_in_seconds = wall_s
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return Relaxed(0)  # the exact model finds and says that itself
    found = status in {cp_model.OPTIMAL, cp_model.FEASIBLE}
    sizes = tuple(solver.value(count) for count in kept) if found else None
    return Relaxed(max(0, round(solver.best_objective_bound)), sizes)


def _devices(fleet: Fleet, group: int) -> int:
    """Thousandths of devices of one node of a group; a group that may have no node has none."""
    nodes = fleet.of_group[group]
    return nodes[0].type.devices * 1000 if nodes else 0


def _sizes(kind: Kind) -> tuple[int, int, int]:
    return (kind.cpu_milli, kind.memory_mib, kind.devices_milli)


def _nodes(fleet: Fleet, model: Any, terms: list[Any]) -> list[Any]:
    kept: list[Any] = []
    on: list[Any] = []
    for number, spec in enumerate(fleet.clusters):
        there = model.new_bool_var("")
        on.append(there)
        terms.append(fleet.control_price(number) * there)
        if spec.exists and (spec.fixed or not spec.deletable):
            model.add(there == 1)
    for index, (number, group) in enumerate(fleet.groups):
        count = model.new_int_var(0, max(group.most, group.nodes), "")
        kept.append(count)
        terms.append(fleet.node_price(index) * count)
        if fleet.clusters[number].fixed:
            model.add(count == group.nodes)
            continue
        stuck = {fleet.home[name].index for name in fleet.pinned if fleet.home[name].group == index}
        model.add(count <= len(fleet.of_group[index]) * on[number])
        model.add(count >= group.least * on[number])
        model.add(count >= len(stuck))
    return kept


def needs_of(fleet: Fleet) -> list[list[int]]:
    """By group: what the pods that stay take of cores, memory and devices."""
    needs = [[0, 0, 0] for _ in fleet.groups]
    for name in fleet.pinned:
        for part, size in enumerate(_sizes(fleet.kinds[name])):
            needs[fleet.home[name].group][part] += size
    return needs


def _pods(fleet: Fleet, model: Any, terms: list[Any], kept: list[Any]) -> None:
    free: dict[Kind, list[str]] = defaultdict(list)
    for name, kind in fleet.kinds.items():
        if name not in fleet.pinned:
            free[kind].append(name)
    counts: dict[tuple[Kind, int], Any] = {}
    for kind, names in free.items():
        _lie(fleet, model, terms, kind, names, counts)
    needs = needs_of(fleet)
    hold(fleet, model, kept, counts, needs)
    add_up(fleet, model, kept, counts, {kind: len(names) for kind, names in free.items()}, needs)


def hold(
    fleet: Fleet, model: Any, kept: Sequence[Any], counts: Mapping[tuple[Kind, int], Any], needs: Sequence[Sequence[int]]
) -> None:
    """What lies on a group fits as many nodes as it keeps. ``counts``: by class and group."""
    on: dict[int, list[tuple[Kind, Any]]] = defaultdict(list)
    for (kind, index), count in counts.items():
        on[index].append((kind, count))
    for index, (_, group) in enumerate(fleet.groups):
        for part, size in enumerate((group.cpu_milli, group.memory_mib, _devices(fleet, index))):
            model.add(sum(_sizes(kind)[part] * count for kind, count in on[index]) + needs[index][part] <= size * kept[index])


def add_up(
    fleet: Fleet,
    model: Any,
    kept: Sequence[Any],
    counts: Mapping[tuple[Kind, int], Any],
    pods: Mapping[Kind, int],
    needs: Sequence[Sequence[int]],
) -> None:
    """The same rules once more over all groups of alike nodes. ``counts``: by class and group; ``needs``: what pods that stay take."""
    alike: dict[Any, list[int]] = defaultdict(list)
    for index, nodes in enumerate(fleet.of_group):
        if nodes:
            alike[nodes[0].type, fleet.node_price(index)].append(index)
    for indices in alike.values():
        first = fleet.groups[indices[0]][1]
        nodes_of_type = model.new_int_var(0, sum(max(fleet.groups[i][1].most, fleet.groups[i][1].nodes) for i in indices), "")
        model.add(nodes_of_type == sum(kept[i] for i in indices))
        there: dict[Kind, Any] = {}
        for kind, most in pods.items():
            mine = [counts[kind, i] for i in indices if (kind, i) in counts]
            if mine:
                there[kind] = model.new_int_var(0, most, "")
                model.add(there[kind] == sum(mine))
        for part, size in enumerate((first.cpu_milli, first.memory_mib, _devices(fleet, indices[0]))):
            taken = sum(_sizes(kind)[part] * count for kind, count in there.items())
            model.add(taken + sum(needs[i][part] for i in indices) <= size * nodes_of_type)


def _lie(
    fleet: Fleet,
    model: Any,
    terms: list[Any],
    kind: Kind,
    names: list[str],
    counts: dict[tuple[Kind, int], Any],
) -> None:
    homes: dict[int, int] = defaultdict(int)
    for name in names:
        homes[fleet.home[name].group] += 1
    near = {fleet.groups[index][0] for index in homes}
    price = fleet.move_price(kind)
    there = []
    for index, (number, _) in enumerate(fleet.groups):
        asked = kind._replace(forbidden=frozenset()) if number in near else kind
        open_ = any(fleet.could(asked, node) for node in fleet.of_group[index])
        most = len(names) if open_ else homes[index]
        if not most:
            continue
        count = model.new_int_var(0, most, "")
        there.append(count)
        counts[kind, index] = count
        if homes[index] and price:
            stay = model.new_int_var(0, homes[index], "")
            model.add(stay <= count)
            terms.append(price * (homes[index] - stay))
    model.add(sum(there) == len(names))
