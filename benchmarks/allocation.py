"""How much of a production GPU cluster each way of placing fills: the published experiment on the openb trace.

Tasks arrive in random order, sampled with replacement once all have come, until the GPUs asked for are 130 % of the cluster's; each is
placed at once on a node with room for its cores, memory and GPU share, or dropped where there is none; nothing leaves. The figure is the
share of all GPU capacity that is allocated in the end (Weng et al., "Beware of Fragmentation", USENIX ATC 2023). Random, BestFit and FGD are
implemented here, as that paper describes them; all four go through the same ``Capacity`` as ``POST /match/workload``.
"""

from __future__ import annotations

import csv
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared.domain.capacity import WHOLE, Capacity, Floats, Ints, Ranked, Scorer, Shape
from shared.domain.pricing import LearntPrices

LISTS: Final = ("default", "cpu050", "gpuspec33")
SEEDS: Final = 10
LOAD: Final = 1.3
#: Of FGD's typical tasks: those that make up this share of all.
_TYPICAL: Final = 0.95
PUBLISHED: Final = {
    "default": {"random": 87.5, "bestfit": 93.1, "fgd": 95.4},
    "cpu050": {"random": 91.2, "bestfit": 93.8, "fgd": 95.2},
    "gpuspec33": {"random": 86.5, "bestfit": 93.1, "fgd": 94.5},
}


@dataclass(frozen=True)
class Trace:
    """The nodes, and the tasks of one list."""

    nodes: list[tuple[int, int, int, str]]
    tasks: list[Shape]


def read(folder: Path, name: str) -> Trace:
    """The list ``name`` of the trace in ``folder``."""
    with (folder / "openb_node_list_gpu_node.csv").open(encoding="utf-8") as file:
        nodes = [(int(r["cpu_milli"]), int(r["memory_mib"]), int(r["gpu"]), r["model"]) for r in csv.DictReader(file)]
    with (folder / f"openb_pod_list_{name}.csv").open(encoding="utf-8") as file:
        tasks = [_shape(row) for row in csv.DictReader(file)]
    return Trace(nodes, tasks)


def _shape(row: dict[str, str]) -> Shape:
    count = int(row["num_gpu"])
    share = int(row["gpu_milli"] or WHOLE) if count == 1 else WHOLE
    models = frozenset(word for word in row["gpu_spec"].split("|") if word)
    return Shape(int(row["cpu_milli"]), int(row["memory_mib"]), count, share, models if count and models else None)


def arrivals(tasks: list[Shape], devices: int, seed: int) -> list[Shape]:
    """Tasks in the order of their coming."""
    chance = random.Random(seed)
    order = list(tasks)
    chance.shuffle(order)
    asked = sum(task.devices_milli for task in order)
    while asked < LOAD * devices * WHOLE:
        task = chance.choice(tasks)
        order.append(task)
        asked += task.devices_milli
    return order


class _Cached:
    """Scores by shape and slot, renewed where nodes changed. The last node wins among equals, as in the paper's simulator."""

    def __init__(self) -> None:
        self._known: OrderedDict[Shape, tuple[Floats, int]] = OrderedDict()

    def rank(self, capacity: Capacity, shape: Shape, slots: Ints, *, limit: int) -> Ranked:
        """The best one of ``slots``."""
        del limit
        scores, at = self._known.get(shape, (np.zeros(capacity.size), -1))
        changed = np.arange(capacity.size) if at < 0 else capacity.changed_since(at)
        if len(changed):
            scores[changed] = self.score(capacity, shape, changed)
        self._known[shape] = (scores, capacity.changes)
        mine = scores[slots]
        best = slots[len(mine) - 1 - int(np.argmin(mine[::-1]))]
        return Ranked(np.array([best]), np.array([scores[best]]), np.zeros(1))

    def score(self, capacity: Capacity, shape: Shape, slots: Ints) -> Floats:
        """Smaller is better."""
        raise NotImplementedError

    def devices(self, capacity: Capacity, shape: Shape, slot: int) -> tuple[int, ...] | None:
        """Of a share, the fullest device with room."""
        return capacity.devices_for(slot, shape)

    def learn(self, shape: Shape) -> None:
        """Nothing."""


class PaperBestFit(_Cached):
    """The least left: half by cores, half by GPUs, each as a part of the largest node's; an integer of 0 to 100, as there."""

    def score(self, capacity: Capacity, shape: Shape, slots: Ints) -> Floats:
        """Smaller is better."""
        cpu = (capacity.cpu[slots] - shape.cpu_milli) / 128_000
        gpu = (capacity.free_milli[slots] - shape.devices_milli) / 8_000
        return -np.floor(100 * (1 - 0.5 * cpu - 0.5 * gpu))


class Random:
    """Any node, any device."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def rank(self, capacity: Capacity, shape: Shape, slots: Ints, *, limit: int) -> Ranked:
        """One of them."""
        del capacity, shape, limit
        return Ranked(np.array([slots[self._chance.randrange(len(slots))]]), np.zeros(1), np.zeros(1))

    def devices(self, capacity: Capacity, shape: Shape, slot: int) -> tuple[int, ...] | None:
        """Any with room."""
        first = capacity.devices_for(slot, shape)
        if not first or shape.share_milli == WHOLE:
            return first
        fitting = [d for d, free in enumerate(capacity.free(slot).devices) if free >= shape.share_milli]
        return (self._chance.choice(fitting),)

    def learn(self, shape: Shape) -> None:
        """Nothing."""


@dataclass(frozen=True)
class _Typical:
    cpu: Ints
    share: Ints
    count: Ints
    part: Floats
    models: list[frozenset[str] | None]


class Fgd(_Cached):
    """Fragmentation gradient descent: the node (and device) whose expected fragmentation grows least, over the list's typical tasks."""

    def __init__(self, tasks: list[Shape]) -> None:
        super().__init__()
        often = Counter((t.cpu_milli, t.accelerators, t.share_milli, t.models) for t in tasks)
        kept: list[tuple[Any, int]] = []
        total = 0
        for key, count in sorted(often.items(), key=lambda item: (-item[1], str(item[0]))):
            if total >= _TYPICAL * len(tasks):
                break
            kept.append((key, count))
            total += count
        self._typical = _Typical(
            np.array([key[0] for key, _ in kept]),
            np.array([key[2] for key, _ in kept]),
            np.array([key[1] for key, _ in kept]),
            np.array([count / total for _, count in kept]),
            [key[3] for key, _ in kept],
        )
        self._may: dict[int, np.ndarray] = {}

    def score(self, capacity: Capacity, shape: Shape, slots: Ints) -> Floats:
        """Smaller is better: the negative of the paper's integer of 0 to 100."""
        free = capacity.device[slots].astype(np.int64)
        cpu, model = capacity.cpu[slots], capacity.model[slots]
        before = self._fragments(capacity, free, cpu, model)
        after = self._after(capacity, shape, free, cpu, model).min(axis=0)
        scores: Floats = -np.floor(100 / (1 + np.exp((after - before) / WHOLE)))
        return scores

    def devices(self, capacity: Capacity, shape: Shape, slot: int) -> tuple[int, ...] | None:
        """Of a share, the device that leaves the least fragmentation."""
        first = capacity.devices_for(slot, shape)
        if not first or shape.share_milli == WHOLE:
            return first
        one = np.array([slot])
        free = capacity.device[one].astype(np.int64)
        after = self._after(capacity, shape, free, capacity.cpu[one], capacity.model[one])[:, 0]
        return (int(np.argmin(after)),)

    def _after(self, capacity: Capacity, shape: Shape, free: np.ndarray, cpu: Ints, model: Ints) -> np.ndarray:
        """Fragmentation by choice of device (rows) and node (columns); infinite where it does not fit."""
        left = cpu - shape.cpu_milli
        if not shape.accelerators:
            return self._fragments(capacity, free, left, model)[None, :]
        if shape.share_milli == WHOLE:
            taken = np.cumsum(free == WHOLE, axis=1) <= shape.accelerators
            return self._fragments(capacity, np.where((free == WHOLE) & taken, 0, free), left, model)[None, :]
        rows = []
        for device in range(free.shape[1]):
            mine = free.copy()
            mine[:, device] -= shape.share_milli
            found = self._fragments(capacity, mine, left, model)
            rows.append(np.where(mine[:, device] >= 0, found, np.inf))
        return np.array(rows)

    def _fragments(self, capacity: Capacity, free: np.ndarray, cpu: Ints, model: Ints) -> Floats:
        """Thousandths of GPUs that a typical task can't use, expected over the typical tasks (the paper's equations 1 to 4)."""
        typical = self._typical
        total = free.sum(axis=1)
        found = np.zeros(len(free))
        shares = np.unique(typical.share)
        fitting = {int(share): (free >= share).sum(axis=1) for share in shares}
        rest = {int(share): np.where(free < share, free, 0).sum(axis=1) for share in shares}
        for place in range(len(typical.part)):
            count, share = int(typical.count[place]), int(typical.share[place])
            if not count:
                found += typical.part[place] * total
                continue
            runs = (fitting[share] >= count) & (cpu >= typical.cpu[place]) & self._allowed(capacity, typical.models[place], model)
            found += typical.part[place] * np.where(runs, rest[share], total)
        return found

    def _allowed(self, capacity: Capacity, models: frozenset[str] | None, model: Ints) -> np.ndarray:
        if models is None:
            return np.ones(len(model), dtype=bool)
        known = np.array([capacity.model_id(name) for name in sorted(models)])
        return np.isin(model, known)


@dataclass
class Run:
    """One run's outcome: the allocated share, the load at which the first task was dropped, and drops by class of task."""

    allocated: float
    first_drop: float
    dropped: Counter[str] = field(default_factory=Counter)
    came: Counter[str] = field(default_factory=Counter)


def class_of(task: Shape) -> str:
    """The class that a task counts under."""
    return "share" if task.share_milli < WHOLE else f"{task.accelerators} GPU"


def experiment(
    trace: Trace,
    scorer: Scorer,
    seed: int,
    *,
    watts: Callable[[int, int, str], tuple[float, float]] = lambda _memory, _count, _model: (0.0, 0.0),
    watch: Callable[[float, Shape, Capacity], None] = lambda _load, _task, _capacity: None,
) -> Run:
    """One run. ``watts``: of a node with so much memory (MiB) and so many devices of a model, idle and by which a busy device adds;
    ``watch`` is told of each task that found room: the load asked for so far, the task, and the nodes.
    """
    capacity = Capacity()
    for cpu, memory, count, model in trace.nodes:
        idle, device = watts(memory, count, model)
        capacity.add(cpu_milli=cpu, memory_mib=memory, model=model, devices=count, idle_w=idle, device_w=device)
    total = sum(count for _, _, count, _ in trace.nodes)
    run = Run(0.0, LOAD)
    asked = placed = 0
    for task in arrivals(trace.tasks, total, seed):
        asked += task.devices_milli
        run.came[class_of(task)] += 1
        scorer.learn(task)
        roomy = np.flatnonzero(capacity.fits(task))
        slot = 0
        devices: tuple[int, ...] | None = None
        if len(roomy):
            slot = int(scorer.rank(capacity, task, roomy, limit=1).slots[0])
            devices = scorer.devices(capacity, task, slot)
        if devices is None:
            run.dropped[class_of(task)] += 1
            run.first_drop = min(run.first_drop, asked / total / WHOLE)
            continue
        capacity.take(slot, task, devices)
        placed += task.devices_milli
        watch(asked / total / WHOLE, task, capacity)
    run.allocated = 100 * placed / total / WHOLE
    return run


def scorer_of(policy: str, trace: Trace, seed: int) -> Scorer:
    """A policy by name."""
    if policy == "random":
        return Random(seed)
    if policy == "bestfit":
        return PaperBestFit()
    return Fgd(trace.tasks) if policy == "fgd" else LearntPrices(online=True)


def measure(folder: str, *, seeds: int = SEEDS) -> dict[str, Any]:
    """All policies on all lists."""
    figures: dict[str, Any] = {"seeds": seeds}
    for name in LISTS:
        trace = read(Path(folder), name)
        figures[name] = {}
        for policy in ("random", "bestfit", "fgd", "ours"):
            runs = [experiment(trace, scorer_of(policy, trace, seed), seed) for seed in range(seeds)]
            kinds = sorted({kind for run in runs for kind in run.came})
            figures[name][policy] = {
                "allocated": round(float(np.mean([run.allocated for run in runs])), 2),
                "first_drop": round(float(np.mean([run.first_drop for run in runs])), 3),
                "dropped": {kind: round(float(np.mean([run.dropped[kind] for run in runs])), 1) for kind in kinds},
            }
    return figures
