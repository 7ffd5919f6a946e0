"""How nodes that all have room are told apart."""

from __future__ import annotations

from typing import Final

import numpy as np

from shared.domain.capacity import Capacity, Ints, Ranked, Shape

_FEW: Final = 8


def best_of(slots: Ints, scores: np.ndarray, limit: int) -> np.ndarray:
    """Positions of the ``limit`` smallest scores, in order; among equals the lowest slot comes first. ``slots`` ascend."""
    if limit <= _FEW < len(scores):
        left = scores.copy()
        few = np.empty(limit, dtype=np.int64)
        for place in range(limit):  # a look at all of them costs less than a partition
            few[place] = best = int(np.argmin(left))
            left[best] = np.inf
        return few
    if len(scores) > limit:
        bound = np.partition(scores, limit - 1)[limit - 1]
        near = np.flatnonzero(scores <= bound)
    else:
        near = np.arange(len(scores))
    order = np.lexsort((slots[near], scores[near]))
    found: np.ndarray = near[order[:limit]]
    return found


class BestFit:
    """The node that has the least left: the sum over cores, memory and devices of what remains, as parts of the node's own."""

    def rank(self, capacity: Capacity, shape: Shape, slots: Ints, *, limit: int) -> Ranked:
        """The best ``limit`` of ``slots``."""
        cpu = (capacity.cpu[slots] - shape.cpu_milli) / np.maximum(capacity.cpu_all[slots], 1)
        memory = (capacity.memory[slots] - shape.memory_mib) / np.maximum(capacity.memory_all[slots], 1)
        milli = capacity.free_milli[slots] - shape.devices_milli
        devices = milli / np.maximum(capacity.count[slots] * 1000, 1)
        # Work without accelerators keeps off nodes that have some, as long as there are others.
        wasted = (capacity.count[slots] > 0) * (10.0 if not shape.accelerators else 0.0)
        scores = np.round(cpu + memory + devices + wasted, 9)
        best = best_of(slots, scores, limit)
        stranded = np.where(cpu[best] <= 0, milli[best], 0).astype(float)
        return Ranked(slots[best], scores[best], stranded)

    def devices(self, capacity: Capacity, shape: Shape, slot: int) -> tuple[int, ...] | None:
        """Of a share, the device that it leaves the least free on."""
        return capacity.devices_for(slot, shape)

    def learn(self, shape: Shape) -> None:
        """It has nothing to learn."""
