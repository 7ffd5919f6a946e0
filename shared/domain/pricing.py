"""Placement by price: what the room on a node is worth to the mix of work that the system has seen.

A node's free devices are worth what the usual mix could make of them: each device's free part has the value of the best set of shares that
fits into it, at prices that are the dual values of a cutting-stock programme over the mix (Gilmore and Gomory, 1961: patterns by a knapsack).
Free devices whose node has too few cores or too little memory left for them are worth less. A pod goes where it lessens the worth of
its node least and draws the fewest watts; the more of the fleet is taken, the less the watts count. Everything is learnt from the shapes that were asked for; nothing is fitted to a list of tasks.

The experiment that this is measured by is that of Weng et al., "Beware of Fragmentation" (USENIX ATC 2023); see benchmarks/allocation.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.domain.capacity import WHOLE, Capacity, Floats, Ints, Ranked, Shape
from shared.domain.scoring import best_of

#: A device is cut in parts of a hundredth.
PARTS: Final = 100
#: What a free device is worth less, of 1000, where its node has no cores at all for it; the same for memory.
_LACK: Final = 100.0
#: Of the mean cores (memory) per device of the mix, how much a free device should find on its node: lighter work fills what is left.
_ENOUGH: Final = 0.875
#: An idle node costs this more: only among equals does it matter whether a node has work already.
_TIE: Final = 0.01
#: What a watt costs (a device is worth 1000) while no more than `_ROOMY` of the fleet is taken; nothing any more from `_SCARCE` on, where
#: room is worth more than watts. In between it falls in steps, since scores are kept as long as the cost of a watt stays.
WATT: Final = 0.1
_ROOMY, _SCARCE, _STEPS = 0.4, 0.8, 20
#: What is equal even then is parted by a number mixed out of the slot: in any order that means something, equals fill up together.
_TINY: Final = 1e-6
#: Pods after which half of what was learnt before is forgotten.
_HALF_LIFE: Final = 20_000
_FIRST_LESSON, _LONGEST_PAUSE = 1, 2_000
_SHAPES_HELD: Final = 256
_ROUNDS_MAX: Final = 200


@dataclass
class Mix:
    """How often each shape was asked for, the older the less it counts."""

    weights: dict[tuple[int, int, int, int], float] = field(default_factory=dict)
    seen: float = 0.0
    _growth: float = 1.0

    def learn(self, shape: Shape, weight: float = 1.0) -> None:
        """A shape was asked for, so many times."""
        key = (shape.cpu_milli, shape.memory_mib, shape.accelerators, shape.share_milli)
        self._growth *= 2 ** (weight / _HALF_LIFE)
        self.weights[key] = self.weights.get(key, 0.0) + weight * self._growth
        self.seen += weight
        if self._growth > 1e6:  # noqa: PLR2004 - far from overflow
            self.weights = {key: value / self._growth for key, value in self.weights.items() if value / self._growth > 1e-6}  # noqa: PLR2004
            self._growth = 1.0

    @property
    def devices(self) -> float:
        """Devices that the mix asks for."""
        return sum(weight * count * share / WHOLE for (_, _, count, share), weight in self.weights.items())

    def per_device(self) -> tuple[float, float]:
        """Cores (thousandths) and memory (MiB) for each device asked for, the mean over devices; zeros where none were."""
        devices = self.devices
        if not devices:
            return 0.0, 0.0
        cpu = sum(weight * cpu for (cpu, _, count, _), weight in self.weights.items() if count)
        memory = sum(weight * memory for (_, memory, count, _), weight in self.weights.items() if count)
        return cpu / devices, memory / devices

    def sizes(self) -> dict[int, float]:
        """How many parts of devices were asked for by size: hundredths of one device, rounded up; a whole device is 100."""
        found: dict[int, float] = {}
        for (_, _, count, share), weight in self.weights.items():
            if count:
                size = -(-share * PARTS // WHOLE)
                found[size] = found.get(size, 0.0) + weight * count
        return found


@dataclass(frozen=True)
class Prices:
    """What was learnt: ``room[g]`` is the worth of a device of which g thousandths are free (a whole one is worth about 1000);
    ``cpu_milli`` and ``memory_mib`` are what a free device should find on its node.
    """

    room: Floats
    cpu_milli: float
    memory_mib: float

    @classmethod
    def plain(cls) -> Prices:
        """Before anything was seen: room is worth its size."""
        return cls(np.arange(WHOLE + 1, dtype=float), 0.0, 0.0)

    @classmethod
    def of(cls, mix: Mix) -> Prices:
        """The prices of a mix."""
        sizes = mix.sizes()
        if not sizes:
            return cls.plain()
        cpu, memory = mix.per_device()
        worth = hole_worth(sizes)
        room = np.repeat(worth, WHOLE // PARTS)[: WHOLE + 1] * (WHOLE / PARTS)
        return cls(room, _ENOUGH * cpu, _ENOUGH * memory)

    def as_dict(self) -> dict[str, Any]:
        """For storing."""
        hundredths = self.room[:: WHOLE // PARTS]
        return {
            "room": [round(float(v), 6) for v in hundredths],
            "cpu_milli": self.cpu_milli,
            "memory_mib": self.memory_mib,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Prices:
        """What was stored."""
        room = np.repeat(np.array(document["room"], dtype=float), WHOLE // PARTS)[: WHOLE + 1]
        return cls(room, float(document["cpu_milli"]), float(document["memory_mib"]))


def hole_worth(sizes: Mapping[int, float]) -> Floats:
    """The worth of 0 to 100 hundredths of a device, where work of these sizes comes as often as given, and as much of it in all as there
    are devices.

    The programme: fill one device's worth of capacity with patterns (sets of sizes that fit into one device) so that as much as possible
    is used, no size more often than it comes. Its duals price the sizes; a hole is worth the best set that fits into it.
    """
    from ortools.linear_solver import pywraplp

    kinds = sorted(sizes)
    total = sum(size * sizes[size] for size in kinds) / PARTS
    demand = [sizes[size] / total for size in kinds]
    solver = pywraplp.Solver.CreateSolver("GLOP")
    objective = solver.Objective()
    objective.SetMaximization()
    limits = [solver.Constraint(-solver.infinity(), amount) for amount in demand]
    room = solver.Constraint(-solver.infinity(), 1.0)

    def add(pattern: dict[int, int]) -> None:
        variable = solver.NumVar(0.0, solver.infinity(), "")
        objective.SetCoefficient(variable, float(sum(kinds[place] * count for place, count in pattern.items())))
        room.SetCoefficient(variable, 1.0)
        for place, count in pattern.items():
            limits[place].SetCoefficient(variable, float(count))

    for place, size in enumerate(kinds):
        add({place: PARTS // size})
    worth = np.zeros(PARTS + 1)
    for _ in range(_ROUNDS_MAX):
        if solver.Solve() != pywraplp.Solver.OPTIMAL:
            break
        gain = [size - limits[place].dual_value() for place, size in enumerate(kinds)]
        worth, pattern = _knapsack(kinds, gain)
        if worth[PARTS] <= room.dual_value() + 1e-6:
            break
        add(pattern)
    return worth


def _knapsack(kinds: list[int], gain: list[float]) -> tuple[Floats, dict[int, int]]:
    """The best worth that fits into each room from 0 to 100, and the set that fills a whole device so."""
    worth = np.zeros(PARTS + 1)
    chosen: list[tuple[int, int] | None] = [None] * (PARTS + 1)
    for room in range(1, PARTS + 1):
        worth[room], chosen[room] = worth[room - 1], chosen[room - 1]
        for place, size in enumerate(kinds):
            if size <= room and gain[place] > 0 and worth[room - size] + gain[place] > worth[room] + 1e-9:
                worth[room], chosen[room] = worth[room - size] + gain[place], (place, room)
    pattern: dict[int, int] = {}
    step = chosen[PARTS]
    while step is not None:
        place, room = step
        pattern[place] = pattern.get(place, 0) + 1
        step = chosen[room - kinds[place]]
    return worth, pattern


def _mixed(slots: Ints) -> Floats:
    """A number from 0 to 1 for each slot, always the same one (multiplicative hashing)."""
    return ((slots * 2_654_435_761) % 4_294_967_296) / 4_294_967_296


def _need_to_save(capacity: Capacity) -> float:
    """How much watts count, from 1 down to 0: the less, the more of the fleet's devices or cores is taken."""
    size = capacity.size
    load = 0.0
    for free, there in ((capacity.cpu, capacity.cpu_all), (capacity.free_milli, capacity.count)):
        whole = int(there[:size].sum()) * (WHOLE if there is capacity.count else 1)
        load = max(load, 1 - int(free[:size].sum()) / whole) if whole else load
    step = int(load * _STEPS + 1e-9) / _STEPS
    return min(1.0, max(0.0, (_SCARCE - step) / (_SCARCE - _ROOMY)))


def _watts(capacity: Capacity, shape: Shape, slots: Ints) -> Floats:
    """Watts that one such pod draws on each node: its devices', and of what the node draws idle as large a part as the pod makes of the
    node's scarcest resource unusable for others. To charge the whole of it to the pod that switches a node on would favour small
    nodes, however much they draw for what they hold.
    """
    taken: Any = 0.0
    more: Any = 0.0
    for free, whole, asked in (
        (capacity.cpu[slots], capacity.cpu_all[slots], shape.cpu_milli),
        (capacity.memory[slots], capacity.memory_all[slots], shape.memory_mib),
        (capacity.free_milli[slots], capacity.count[slots] * WHOLE, shape.devices_milli),
    ):
        full = np.maximum(whole, 1)
        taken = np.maximum(taken, (whole - free) / full)
        more = np.maximum(more, (whole - free + asked) / full)
    found: Floats = capacity.idle_w[slots] * (more - taken) + capacity.device_w[slots] * (shape.devices_milli / WHOLE)
    return found


@dataclass
class _Known:
    """Scores of one shape by slot: what placing one such pod there costs, and up to which change of the nodes they are right."""

    scores: Floats
    at: int


class LearntPrices:
    """Scores by what a pod lessens the worth of its node (the port ``Scorer``). ``online``: learn from every shape at once.

    ``watt``: what a watt weighs while there is much room, in thousandths of a device.
    """

    def __init__(self, prices: Prices | None = None, *, online: bool = False, watt: float = WATT) -> None:
        self.mix = Mix()
        self.prices = prices or Prices.plain()
        self._online = online
        self._watt_at_most = watt
        self._next_lesson = float(_FIRST_LESSON)
        self._known: OrderedDict[Shape, _Known] = OrderedDict()
        self._watt = 0.0  #: what a watt costs at the present load
        self._need = 0.0
        self._load_of: Capacity | None = None  #: of which nodes, and after how many of their changes, that load was
        self._load_at = -1

    def learn(self, shape: Shape) -> None:
        """Such a pod was asked for."""
        self.mix.learn(shape)
        if self._online and self.mix.seen >= self._next_lesson:
            self.use(Prices.of(self.mix))
            self._next_lesson = self.mix.seen + min(self.mix.seen, _LONGEST_PAUSE)

    def use(self, prices: Prices) -> None:
        """Score by these from now on."""
        self.prices = prices
        self._known.clear()

    def rank(self, capacity: Capacity, shape: Shape, slots: Ints, *, limit: int) -> Ranked:
        """The best ``limit`` of ``slots``."""
        scores = self._scores(capacity, shape)[slots]
        best = best_of(slots, scores, limit)
        return Ranked(slots[best], scores[best], self._useless_more(capacity, shape, slots[best]))

    def devices(self, capacity: Capacity, shape: Shape, slot: int) -> tuple[int, ...] | None:
        """Of a share, the device whose room loses the least worth; among equals the fullest."""
        if not shape.accelerators or shape.share_milli == WHOLE:
            return capacity.devices_for(slot, shape)
        if capacity.devices_for(slot, shape) is None:
            return None
        order = self._order_of_devices(shape.share_milli)[capacity.device[slot, : int(capacity.count[slot])]]
        return (int(np.argmin(order)),)

    def _order_of_devices(self, share: int) -> Floats:
        """By what is free of a device: how late it comes in question for a share; never, where it can't give it."""
        room = self.prices.room
        order = np.full(WHOLE + 1, np.inf)
        order[share:] = np.round(room[share:] - room[: WHOLE + 1 - share], 6) + np.arange(share, WHOLE + 1) * 1e-10
        return order

    # -- scores ---------------------------------------------------------------------------------------------------------------

    def _scores(self, capacity: Capacity, shape: Shape) -> Floats:
        if self._load_of is not capacity or self._load_at != capacity.changes:
            self._need, self._load_of, self._load_at = _need_to_save(capacity), capacity, capacity.changes
        watt = self._watt_at_most * self._need
        if watt != self._watt:
            self._watt = watt
            self._known.clear()
        known = self._known.get(shape)
        size = capacity.size
        if known is None or len(known.scores) < size or known.at < capacity.oldest:
            slots = np.arange(size)
            known = self._known[shape] = _Known(np.empty(max(size, 64) * 2), capacity.changes)
            if len(self._known) > _SHAPES_HELD:
                self._known.popitem(last=False)
        else:
            slots = capacity.changed_since(known.at)
            known.at = capacity.changes
            self._known.move_to_end(shape)
        if len(slots):
            known.scores[slots] = self._loss(capacity, shape, slots)
        return known.scores

    def _loss(self, capacity: Capacity, shape: Shape, slots: Ints) -> Floats:
        """What the nodes are worth less with one such pod more; of nodes without room, any number."""
        whole = self.prices.room[WHOLE]
        cpu, memory = capacity.cpu[slots], capacity.memory[slots]
        free = capacity.free_milli[slots].astype(float)
        if not shape.accelerators:
            lost: Any = 0.0
        elif shape.share_milli == WHOLE:
            lost = shape.accelerators * whole
        else:
            lost = self._least_loss(capacity.device[slots], shape.share_milli)
        before = self._lack(cpu, memory, free)
        after = self._lack(cpu - shape.cpu_milli, memory - shape.memory_mib, free - shape.devices_milli)
        idle = (cpu == capacity.cpu_all[slots]) & (free == capacity.count[slots] * WHOLE)
        # Work without accelerators keeps off nodes that have some, as long as there are others.
        strange = (capacity.count[slots] > 0) * (0.0 if shape.accelerators else 1.0)
        found: Floats = (
            lost + (after - before) + strange + self._watt * _watts(capacity, shape, slots) + _TIE * idle + _TINY * _mixed(slots)
        )
        return np.round(found, 9)

    def _least_loss(self, devices: NDArray[np.int16], share: int) -> Floats:
        """By node, what its best device loses by giving this share; 0 where none can give it."""
        room = self.prices.room
        loss = np.full(WHOLE + 1, np.inf)
        loss[share:] = room[share:] - room[: WHOLE + 1 - share]
        least = np.full(len(devices), np.inf)
        for column in devices.T:  # far faster than the least of each short row
            np.minimum(least, loss[column], out=least)
        least[np.isinf(least)] = 0.0
        return least

    def _lack(self, cpu: Any, memory: Any, free: Any) -> Any:
        """What free devices are worth less for want of cores and memory."""
        worth: Any = 0.0
        for there, each in ((cpu, self.prices.cpu_milli), (memory, self.prices.memory_mib)):
            if each > 0:
                worth = worth + _LACK * np.maximum(0.0, free / WHOLE - there / each)
        return worth

    def _useless_more(self, capacity: Capacity, shape: Shape, slots: Ints) -> Floats:
        """Thousandths of devices that one such pod makes useless to the mix on each node: parts that no usual share fills, and devices
        without cores.
        """
        devices = capacity.device[slots]
        hole = np.arange(WHOLE + 1) - self.prices.room / max(float(self.prices.room[WHOLE]), 1e-9) * WHOLE
        holes = hole[devices].sum(axis=1)
        then = holes
        if shape.accelerators and shape.share_milli < WHOLE and len(slots):
            chosen = np.argmin(self._order_of_devices(shape.share_milli)[devices], axis=1)
            free = devices[np.arange(len(slots)), chosen].astype(np.int64)
            then = holes - hole[free] + hole[np.maximum(free - shape.share_milli, 0)]
        cpu, memory, whole = capacity.cpu[slots], capacity.memory[slots], capacity.free_milli[slots]
        now = self._useless(whole, holes, cpu, memory)
        after = self._useless(whole - shape.devices_milli, then, cpu - shape.cpu_milli, memory - shape.memory_mib)
        return after - now

    def _useless(self, free: Any, holes: Floats, cpu: Any, memory: Any) -> Floats:
        usable: Any = free / WHOLE
        for there, each in ((cpu, self.prices.cpu_milli), (memory, self.prices.memory_mib)):
            if each > 0:
                usable = np.minimum(usable, there / each)
        found: Floats = holes + np.maximum(0.0, free - usable * WHOLE)
        return found
