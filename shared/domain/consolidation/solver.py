"""The exact model of a fleet: how many pods of each class lie on each node, by CP-SAT.

Pods of one class on one node stand in for each other, so the model counts them instead of naming them; what a pod that stays saves is
counted by ``stay``. Each class of solution that the count leaves out differs from one that it keeps only in names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from shared.domain.consolidation.fleet import Fleet
from shared.domain.consolidation.model import WHOLE
from shared.domain.consolidation.packing import Kind, Node
from shared.domain.consolidation.relaxation import add_up, hold, needs_of

#: ("site" or "project", its name) to the milliwatts that may be drawn at the end, and on the way there.
Limits = Mapping[tuple[str, str], tuple[int, int]]
SEED: Final = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the solver found: whether there is any layout (the fleet then lies so), and the bound that it proved, in millionths."""

    found: bool
    impossible: bool
    bound: int


class Model:
    """A fleet's layouts as a constraint programme. The fleet's lie at the time of making is the solver's hint.

    ``least``: millionths that no layout is below, as proven elsewhere. ``sizes``: by group, the nodes that it must have; what is found
    then is a layout, and what is proven says nothing of others.
    """

    def __init__(self, fleet: Fleet, limits: Limits, least: int = 0, sizes: Sequence[int] | None = None) -> None:
        from ortools.sat.python import cp_model  # loading it takes longer than all else that a process loads at its start

        self.fleet = fleet
        self.model = cp_model.CpModel()
        self.free: dict[Kind, list[str]] = defaultdict(list)  #: movable pods by class
        for name, kind in fleet.kinds.items():
            if name not in fleet.pinned:
                self.free[kind].append(name)
        self.homes: dict[Kind, dict[int, int]] = {}
        for kind, names in self.free.items():
            self.homes[kind] = defaultdict(int)
            for name in names:
                self.homes[kind][fleet.home[name].index] += 1
        self.count: dict[tuple[Kind, int], Any] = {}
        self.used: dict[int, Any] = {}
        self.terms: list[Any] = []
        self._clusters()
        self._pods()
        for node in fleet.nodes:
            self._fits(node)
        self._alike()
        self._sums()
        self._budgets(limits)
        for kept, size in zip(self.kept, sizes or (), strict=bool(sizes)):
            self.model.add(kept == size)
        self.model.add(sum(self.terms) >= least)
        self.model.minimize(sum(self.terms))

    def solve(self, *, effort_s: float, wall_s: float) -> Answer:
        """Search for ``effort_s`` of the solver's own deterministic time, and ``wall_s`` of the clock at most (a guard for slow
        machines, where the answer may then differ); the fleet then lies as the best layout that was found.
        """
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1  # more would make the answer depend on how threads race
        solver.parameters.random_seed = SEED
        solver.parameters.linearization_level = 2
        solver.parameters.max_deterministic_time = effort_s
        solver.parameters.max_time_in_seconds = wall_s
        status = solver.solve(self.model)
        found = status in {cp_model.OPTIMAL, cp_model.FEASIBLE}
        if found:
            self._lay(solver)
        # The bound is a whole number of millionths in truth; the solver hands it out as a float.
        bound = round(solver.best_objective_bound) if status != cp_model.INFEASIBLE else 0
        return Answer(found, status == cp_model.INFEASIBLE, max(0, bound))

    # -- variables ------------------------------------------------------------------------------------------------------------

    def _clusters(self) -> None:
        fleet, model = self.fleet, self.model
        self.on: list[Any] = []
        self.kept: list[Any] = []
        for number, spec in enumerate(fleet.clusters):
            on = model.new_bool_var("")
            self.on.append(on)
            model.add_hint(on, fleet.stays(number))
            self.terms.append(on * fleet.control_price(number))
            if spec.exists and (spec.fixed or not spec.deletable):
                model.add(on == 1)
        for index, (number, group) in enumerate(fleet.groups):
            spec = fleet.clusters[number]
            kept = model.new_int_var(0, max(group.most, group.nodes), "")
            self.kept.append(kept)
            self.terms.append(kept * fleet.node_price(index))
            if spec.fixed:
                model.add(kept == group.nodes)
                continue
            # What is left of the group's bounds once nodes that may not be added are taken off.
            model.add(kept <= len(fleet.of_group[index]) * self.on[number])
            model.add(kept >= group.least * self.on[number])
            for node in fleet.of_group[index]:
                self.used[node.index] = model.new_bool_var("")
                model.add_hint(self.used[node.index], bool(node.pods))
                model.add_implication(self.used[node.index], self.on[number])
            model.add(kept >= sum(self.used[node.index] for node in fleet.of_group[index]))

    def _pods(self) -> None:
        fleet, model = self.fleet, self.model
        lies: dict[tuple[Kind, int], int] = defaultdict(int)
        for names in self.free.values():
            for name in names:
                lies[fleet.kinds[name], fleet.where[name].index] += 1
        for kind, names in self.free.items():
            there = []
            price = fleet.move_price(kind)
            homes: dict[int, int] = defaultdict(int)
            guests: dict[int, list[Any]] = defaultdict(list)
            for node in fleet.nodes:
                home = self.homes[kind].get(node.index, 0)
                homes[node.cluster] += home
            for node in fleet.nodes:
                home = self.homes[kind].get(node.index, 0)
                kept_in = kind._replace(forbidden=frozenset()) if homes[node.cluster] else kind
                most = len(names) if fleet.could(kept_in, node) else home
                if not most:
                    continue
                count = model.new_int_var(0, most, "")
                self.count[kind, node.index] = count
                model.add_hint(count, lies[kind, node.index])
                there.append(count)
                guests[node.cluster].append(count)
                if home and price:
                    stay = model.new_int_var(0, home, "")
                    model.add(stay <= count)
                    self.terms.append(price * (home - stay))
            model.add(sum(there) == len(names))
            for number, counts in guests.items():
                if fleet.clusters[number].id in kind.forbidden:
                    model.add(sum(counts) <= homes[number])  # only those that are there already

    def _fits(self, node: Node) -> None:
        fleet, model = self.fleet, self.model
        group = fleet.groups[node.group][1]
        stuck = [fleet.kinds[n] for n in fleet.pinned if fleet.home[n] is node]
        here = [(kind, self.count[kind, node.index]) for kind in self.free if (kind, node.index) in self.count]
        used = self.used.get(node.index, 1)
        if stuck and node.index in self.used:
            model.add(used == 1)
        for kind, count in here:
            model.add(count <= len(self.free[kind]) * used)
        model.add(sum(k.cpu_milli * c for k, c in here) + sum(k.cpu_milli for k in stuck) <= group.cpu_milli * used)
        model.add(sum(k.memory_mib * c for k, c in here) + sum(k.memory_mib for k in stuck) <= group.memory_mib * used)
        alone = [count for kind, count in here if kind.alone] + [1 for kind in stuck if kind.alone]
        if alone:
            lonely = model.new_bool_var("")
            model.add(sum(alone) == lonely)
            pods = sum(count for _, count in here) + len(stuck)
            model.add(pods <= 1).only_enforce_if(lonely)
        self._devices(node, here, stuck, used)

    def _devices(self, node: Node, here: list[tuple[Kind, Any]], stuck: list[Kind], used: Any) -> None:
        model, devices = self.model, node.type.devices
        whole = [k.accelerators * c for k, c in here if k.share_milli == WHOLE]
        whole += [k.accelerators for k in stuck if k.share_milli == WHOLE]
        parts: dict[int, list[Any]] = defaultdict(list)
        for kind, count in [*here, *((kind, 1) for kind in stuck)]:
            if kind.accelerators and kind.share_milli < WHOLE:
                parts[kind.share_milli].append(count)
        if not parts:
            model.add(sum(whole) <= devices * used)
            return
        shared = [model.new_bool_var("") for _ in range(devices)]
        model.add(sum(whole) + sum(shared) <= devices * used)
        on: dict[int, list[Any]] = {s: [model.new_int_var(0, WHOLE // s, "") for _ in shared] for s in parts}
        for share, counts in parts.items():
            model.add(sum(on[share]) == sum(counts))
        for place, device in enumerate(shared):
            model.add(sum(share * on[share][place] for share in parts) <= WHOLE * device)
            if place:
                model.add_implication(device, shared[place - 1])  # devices of a node are alike

    def _alike(self) -> None:
        """New nodes of a group are alike: they are taken in order, and so is what lies on them."""
        for nodes in self.fleet.of_group:
            new = [node for node in nodes if not node.exists and node.index in self.used]
            for one, other in pairwise(new):
                self.model.add_implication(self.used[other.index], self.used[one.index])

    def _sums(self) -> None:
        """Rules that follow from the others, for groups as one big node each and for all groups of alike nodes: few numbers to decide by."""
        fleet = self.fleet
        counts: dict[tuple[Kind, int], Any] = {}
        for kind, names in self.free.items():
            by_group: dict[int, list[Any]] = defaultdict(list)
            for node in fleet.nodes:
                if (kind, node.index) in self.count:
                    by_group[node.group].append(self.count[kind, node.index])
            for index, mine in by_group.items():
                counts[kind, index] = self.model.new_int_var(0, len(names), "")
                self.model.add(counts[kind, index] == sum(mine))
        needs = needs_of(fleet)
        pods = {kind: len(names) for kind, names in self.free.items()}
        hold(fleet, self.model, self.kept, counts, needs)
        add_up(fleet, self.model, self.kept, counts, pods, needs)

    def _budgets(self, limits: Limits) -> None:
        fleet, model = self.fleet, self.model
        for (key, name), (limit, peak) in limits.items():
            after: list[Any] = []
            most: list[Any] = []
            for number, spec in enumerate(fleet.clusters):
                if (spec.site if key == "site" else spec.project) != name:
                    continue
                control = fleet.watts_of(spec.control_watts)
                after.append(control * self.on[number])
                most.append(control * (1 if spec.exists else self.on[number]))
                for index in fleet.groups_of[number]:
                    group = fleet.groups[index][1]
                    one = fleet.watts_of(group.watts)
                    after.append(one * self.kept[index])
                    most.append(one * group.nodes)
                    added = model.new_int_var(0, max(0, group.most), "")
                    new = [self.used[n.index] for n in fleet.of_group[index] if not n.exists and n.index in self.used]
                    model.add(added >= sum(new))
                    model.add(added >= self.kept[index] - group.nodes)
                    most.append(one * added)
            model.add(sum(after) <= limit)
            model.add(sum(most) <= peak)

    # -- the answer -----------------------------------------------------------------------------------------------------------

    def _lay(self, solver: Any) -> None:
        """Give the pods' names to the counts: those that can stay do, those of a cluster are taken first for its other nodes."""
        fleet = self.fleet
        for kind, names in self.free.items():
            room = {n.index: solver.value(self.count[kind, n.index]) for n in fleet.nodes if (kind, n.index) in self.count}
            left = []
            for name in names:
                home = fleet.home[name]
                if room.get(home.index, 0):
                    room[home.index] -= 1
                    fleet.move(name, home)
                else:
                    left.append(name)
            for inside in (True, False):
                for name in list(left):
                    home = fleet.home[name]
                    to = next((i for i, n in room.items() if n and (not inside or fleet.nodes[i].cluster == home.cluster)), None)
                    if to is not None:
                        room[to] -= 1
                        fleet.move(name, fleet.nodes[to])
                        left.remove(name)
