"""Watts drawn at 25, 50 and 75 % load on the openb trace, and what that costs in allocation at saturation.

The arrivals are those of the allocation experiment. A node without work is switched off and draws nothing; one with work draws as the
product models it (``shared/domain/rating.py``): a base, memory, cores at the assumed utilisation, and its devices, idle or busy (a share of a
device as a part of the rise). The lower bound is a linear programme in which tasks and nodes may be divided at will: no placement of the
same tasks draws less.
"""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.allocation import LISTS, Trace, experiment, read, scorer_of
from shared.domain import rating
from shared.domain.capacity import WHOLE, Capacity, Shape
from shared.domain.pricing import LearntPrices

LOADS: Final = (0.25, 0.5, 0.75)
SEEDS: Final = 3
#: The weights of a watt that are measured: room alone, the default, and the one that saves most.
WEIGHTS: Final = {"ours, watts ignored": 0.0, "ours": 0.1, "ours, watts first": 2.0}
#: Highest and idle watts of a device: vendors' figures, and the idle draw that the product's catalogue assumes of such cards. The trace
#: names G2 and G3 by code; taken for the A10 and the A100, as their places in the published list of models suggest.
DEVICE_W: Final = {
    "A10": (150, 20),
    "G2": (150, 20),
    "G3": (400, 60),
    "T4": (70, 10),
    "P100": (250, 25),
    "V100M16": (300, 40),
    "V100M32": (300, 40),
}
_CORE_W: Final = rating.W_PER_CORE * rating.ASSUMED_UTILISATION / 1000


def node_watts(memory_mib: int, devices: int, model: str) -> tuple[float, float]:
    """Watts of a node that is on and idle, and by how much one busy device raises them."""
    most, idle = DEVICE_W[model]
    return rating.BASE_W + memory_mib / 1024 * rating.W_PER_GB + idle * devices, most - idle


def drawn(capacity: Capacity) -> float:
    """Watts of all nodes that have work."""
    size = capacity.size
    cores = (capacity.cpu_all - capacity.cpu)[:size]
    devices = capacity.count[:size] * WHOLE - capacity.free_milli[:size]
    memory = (capacity.memory_all - capacity.memory)[:size]
    on = (cores > 0) | (devices > 0) | (memory > 0)
    return float((capacity.idle_w[:size] * on).sum() + (capacity.device_w[:size] * devices / WHOLE).sum() + cores.sum() * _CORE_W)


def least(trace: Trace, tasks: Counter[Shape]) -> float:
    """Watts below which these tasks can't be placed, in whatever way."""
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    objective = solver.Objective()
    objective.SetMinimization()
    placed = {task: solver.Constraint(float(count), float(count)) for task, count in tasks.items()}
    for (cpu, memory, devices, model), count in Counter(trace.nodes).items():
        idle, rise = node_watts(memory, devices, model)
        nodes = solver.NumVar(0.0, float(count), "")
        objective.SetCoefficient(nodes, idle)
        room = [solver.Constraint(-solver.infinity(), 0.0) for _ in range(3)]
        for constraint, has in zip(room, (cpu, memory, devices * WHOLE), strict=True):
            constraint.SetCoefficient(nodes, -float(has))
        for task, constraint in placed.items():
            if task.accelerators > devices or (task.accelerators and task.models is not None and model not in task.models):
                continue
            here = solver.NumVar(0.0, solver.infinity(), "")
            constraint.SetCoefficient(here, 1.0)
            objective.SetCoefficient(here, rise * task.devices_milli / WHOLE)
            for limit, asked in zip(room, (task.cpu_milli, task.memory_mib, task.devices_milli), strict=True):
                limit.SetCoefficient(here, float(asked))
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        msg = "the bound has no solution"
        raise RuntimeError(msg)
    return float(objective.Value()) + sum(task.cpu_milli * count for task, count in tasks.items()) * _CORE_W


class _Watch:
    """Notes watts, and the tasks placed so far, when each load is first reached."""

    def __init__(self) -> None:
        self.watts: list[float] = []
        self.placed: list[Counter[Shape]] = []
        self._tasks: Counter[Shape] = Counter()

    def __call__(self, load: float, task: Shape, capacity: Capacity) -> None:
        self._tasks[task] += 1
        if len(self.watts) < len(LOADS) and load >= LOADS[len(self.watts)]:
            self.watts.append(drawn(capacity))
            self.placed.append(Counter(self._tasks))


def measure(folder: str, *, seeds: int = SEEDS) -> dict[str, Any]:
    """All policies on all lists."""
    figures: dict[str, Any] = {"seeds": seeds, "loads": list(LOADS)}
    for name in LISTS:
        trace = read(Path(folder), name)
        found: dict[str, Any] = {}
        bounds: list[list[float]] = []
        for policy in ("bestfit", "fgd", *WEIGHTS):
            watts: list[list[float]] = []
            allocated: list[float] = []
            for seed in range(seeds):
                scorer = LearntPrices(online=True, watt=WEIGHTS[policy]) if policy in WEIGHTS else scorer_of(policy, trace, seed)
                watch = _Watch()
                run = experiment(trace, scorer, seed, watts=node_watts, watch=watch)
                watts.append(watch.watts)
                allocated.append(run.allocated)
                if policy == "ours":
                    bounds.append([least(trace, tasks) for tasks in watch.placed])
            found[policy] = {
                "kilowatts": [round(float(v) / 1000, 1) for v in np.mean(watts, axis=0)],
                "allocated": round(float(np.mean(allocated)), 2),
            }
        found["bound"] = {"kilowatts": [round(float(v) / 1000, 1) for v in np.mean(bounds, axis=0)]}
        figures[name] = found
    return figures
