"""What is free on each of many nodes, in arrays, and how many pods of a shape each could still take.

A node has cores (in thousandths), memory (MiB) and devices, each device free in thousandths. A pod that wants several devices, or one
whole one, takes devices that are wholly free; a pod that wants a share takes it of one device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

#: Devices that a node may have.
DEVICES_MAX: Final = 64
WHOLE: Final = 1000
_FIRST: Final = 64
_LOG_MAX: Final = 200_000
_COLUMNS: Final = (
    *("there", "cpu", "memory", "cpu_all", "memory_all", "model", "count", "whole", "largest", "free_milli"),
    *("idle_w", "device_w"),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What one pod asks of one node. ``share_milli`` of a device, below 1000 only where ``accelerators`` is 1.

    ``models``: accelerator models that it may have; None: any. Of nodes without devices it asks nothing if ``accelerators`` is 0.
    """

    cpu_milli: int
    memory_mib: int
    accelerators: int = 0
    share_milli: int = WHOLE
    models: frozenset[str] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for sizes that no pod has."""
        if self.cpu_milli < 0 or self.memory_mib < 0 or self.accelerators < 0:
            msg = "a pod's sizes are not negative"
            raise ValueError(msg)
        if not 1 <= self.share_milli <= WHOLE or (self.share_milli < WHOLE and self.accelerators != 1):
            msg = "a share is 1 to 1000 thousandths, and only of one device"
            raise ValueError(msg)

    @property
    def devices_milli(self) -> int:
        """Thousandths of devices in all."""
        return self.accelerators * self.share_milli


class NodeFree(NamedTuple):
    """What is free on one node."""

    cpu_milli: int
    memory_mib: int
    devices: tuple[int, ...]


class Capacity:
    """Nodes by slot. Slots of removed nodes are given again."""

    def __init__(self) -> None:
        self._size = 0
        self._unused: list[int] = []
        self._models: dict[str, int] = {"": 0}
        self._names: list[str] = [""]
        self._log: list[int] = []
        self.oldest = 0  #: changes before this one are not remembered one by one
        self.there: Bools = np.zeros(_FIRST, dtype=bool)
        self.cpu: Ints = np.zeros(_FIRST, dtype=np.int64)
        self.memory: Ints = np.zeros(_FIRST, dtype=np.int64)
        self.cpu_all: Ints = np.zeros(_FIRST, dtype=np.int64)
        self.memory_all: Ints = np.zeros(_FIRST, dtype=np.int64)
        self.model: Ints = np.zeros(_FIRST, dtype=np.int64)
        self.count: Ints = np.zeros(_FIRST, dtype=np.int64)  #: devices of the node
        self.whole: Ints = np.zeros(_FIRST, dtype=np.int64)  #: devices that are wholly free
        self.largest: Ints = np.zeros(_FIRST, dtype=np.int64)  #: the most that is free of any one device
        self.free_milli: Ints = np.zeros(_FIRST, dtype=np.int64)  #: sum over devices
        self.idle_w: Floats = np.zeros(_FIRST)  #: watts of the node while it does nothing
        self.device_w: Floats = np.zeros(_FIRST)  #: watts that one busy device adds
        self.device: NDArray[np.int16] = np.zeros((_FIRST, 1), dtype=np.int16)

    @property
    def changes(self) -> int:
        """How many changes of nodes there have been."""
        return self.oldest + len(self._log)

    def changed_since(self, change: int) -> Ints:
        """Slots that changed after so many changes, each once. Only for what is not older than ``oldest``."""
        return np.unique(np.array(self._log[change - self.oldest :], dtype=np.int64))

    def _note(self, slot: int) -> None:
        self._log.append(slot)
        if len(self._log) > _LOG_MAX:
            half = len(self._log) // 2
            del self._log[:half]
            self.oldest += half

    @property
    def size(self) -> int:
        """Slots, those of removed nodes included."""
        return self._size

    def model_id(self, name: str) -> int:
        """The number that stands for a model in ``model``; a new one where it is new."""
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = len(self._names)
            self._names.append(name)
        return found

    def model_name(self, number: int) -> str:
        """The model of a number."""
        return self._names[number]

    def add(
        self, *, cpu_milli: int, memory_mib: int, model: str = "", devices: int = 0, idle_w: float = 0.0, device_w: float = 0.0
    ) -> int:
        """An empty node; its slot. ``idle_w``: watts of it while it does nothing; ``device_w``: that one busy device adds.

        ValueError for more devices than a node can have.
        """
        if not 0 <= devices <= DEVICES_MAX:
            msg = f"a node has 0 to {DEVICES_MAX} devices, not {devices}"
            raise ValueError(msg)
        slot = self._unused.pop() if self._unused else self._next()
        if devices > self.device.shape[1]:
            wider = np.zeros((len(self.device), devices), dtype=np.int16)
            wider[:, : self.device.shape[1]] = self.device
            self.device = wider
        self.there[slot] = True
        self.cpu[slot] = self.cpu_all[slot] = cpu_milli
        self.memory[slot] = self.memory_all[slot] = memory_mib
        self.model[slot] = self.model_id(model if devices else "")
        self.count[slot] = devices
        self.idle_w[slot], self.device_w[slot] = idle_w, device_w
        self.device[slot] = 0
        self.device[slot, :devices] = WHOLE
        self._sum(slot)
        self._note(slot)
        return slot

    def remove(self, slot: int) -> None:
        """The node is gone, with whatever lay on it."""
        self.there[slot] = False
        for array in (self.cpu, self.memory, self.cpu_all, self.memory_all, self.model, self.count):
            array[slot] = 0
        self.device[slot] = 0
        self._sum(slot)
        self._note(slot)
        self._unused.append(slot)

    def free(self, slot: int) -> NodeFree:
        """What is free on a node."""
        return NodeFree(
            int(self.cpu[slot]), int(self.memory[slot]), tuple(int(v) for v in self.device[slot, : int(self.count[slot])])
        )

    def take(self, slot: int, shape: Shape, devices: tuple[int, ...]) -> None:
        """A pod takes what it asks for, on these devices. ValueError, and nothing taken, where that is not free."""
        if not self._may(slot, shape, devices):
            msg = f"{shape} does not fit on devices {devices} of slot {slot}: {self.free(slot)} is free"
            raise ValueError(msg)
        self._change(slot, shape, devices, -1)

    def give(self, slot: int, shape: Shape, devices: tuple[int, ...]) -> None:
        """A pod gives back what it took. ValueError where the node would have more than all."""
        over = [d for d in devices if int(self.device[slot, d]) + shape.share_milli > WHOLE]
        if (
            over
            or self.cpu[slot] + shape.cpu_milli > self.cpu_all[slot]
            or self.memory[slot] + shape.memory_mib > self.memory_all[slot]
        ):
            msg = f"{shape} did not lie on slot {slot}"
            raise ValueError(msg)
        self._change(slot, shape, devices, 1)

    def devices_for(self, slot: int, shape: Shape) -> tuple[int, ...] | None:
        """Devices of a node for a pod: wholly free ones in order, or for a share the one that it leaves the least free on."""
        if not self.there[slot] or self.cpu[slot] < shape.cpu_milli or self.memory[slot] < shape.memory_mib:
            return None
        if not shape.accelerators:
            return ()
        if shape.models is not None and self._names[int(self.model[slot])] not in shape.models:
            return None
        free = self.device[slot, : int(self.count[slot])]
        fitting = np.flatnonzero(free >= shape.share_milli)
        if shape.share_milli < WHOLE:
            return (int(fitting[np.argmin(free[fitting])]),) if len(fitting) else None
        return tuple(int(v) for v in fitting[: shape.accelerators]) if len(fitting) >= shape.accelerators else None

    def count_fits(self, shape: Shape) -> Ints:
        """By slot: how many such pods the node could take now, one after the other."""
        size = self._size
        limit = np.full(size, np.iinfo(np.int32).max, dtype=np.int64)
        if shape.cpu_milli:
            limit = np.minimum(limit, self.cpu[:size] // shape.cpu_milli)
        if shape.memory_mib:
            limit = np.minimum(limit, self.memory[:size] // shape.memory_mib)
        if shape.accelerators:
            if shape.share_milli < WHOLE:
                devices = (self.device[:size] // shape.share_milli).sum(axis=1, dtype=np.int64)
            else:
                devices = self.whole[:size] // shape.accelerators
            limit = np.minimum(limit, devices) * self.has_model(shape)
        elif not (shape.cpu_milli or shape.memory_mib):
            limit = np.minimum(limit, 1)
        return limit * self.there[:size]

    def fits(self, shape: Shape) -> Bools:
        """By slot: whether the node could take one such pod now."""
        size = self._size
        fit = self.there[:size] & (self.cpu[:size] >= shape.cpu_milli) & (self.memory[:size] >= shape.memory_mib)
        if shape.accelerators:
            fit &= (
                (self.largest[:size] >= shape.share_milli)
                if shape.share_milli < WHOLE
                else (self.whole[:size] >= shape.accelerators)
            )
            fit &= self.has_model(shape)
        return fit

    def has_model(self, shape: Shape) -> Bools:
        """By slot: whether the node's devices are of a model that the pod may have."""
        size = self._size
        if shape.models is None:
            return self.count[:size] > 0
        known = np.zeros(len(self._names), dtype=bool)
        for name in shape.models:
            if name in self._models:
                known[self._models[name]] = True
        known[0] = False
        return known[self.model[:size]]

    def _may(self, slot: int, shape: Shape, devices: tuple[int, ...]) -> bool:
        if not self.there[slot] or self.cpu[slot] < shape.cpu_milli or self.memory[slot] < shape.memory_mib:
            return False
        if len(devices) != shape.accelerators or len(set(devices)) != len(devices):
            return False
        if shape.accelerators and shape.models is not None and self._names[int(self.model[slot])] not in shape.models:
            return False
        count = int(self.count[slot])
        return all(0 <= d < count and self.device[slot, d] >= shape.share_milli for d in devices)

    def _change(self, slot: int, shape: Shape, devices: tuple[int, ...], by: int) -> None:
        self._note(slot)
        self.cpu[slot] += by * shape.cpu_milli
        self.memory[slot] += by * shape.memory_mib
        if devices:
            self.device[slot, list(devices)] += by * shape.share_milli
            self._sum(slot)

    def _sum(self, slot: int) -> None:
        row = self.device[slot]
        self.whole[slot] = int((row == WHOLE).sum())
        self.largest[slot] = int(row.max(initial=0))
        self.free_milli[slot] = int(row.sum(dtype=np.int64))

    def _next(self) -> int:
        slot, self._size = self._size, self._size + 1
        if slot >= len(self.there):
            more = 2 * len(self.there)
            for name in _COLUMNS:
                old = getattr(self, name)
                new = np.zeros(more, dtype=old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)
            wider = np.zeros((more, self.device.shape[1]), dtype=np.int16)
            wider[: len(self.device)] = self.device
            self.device = wider
        return slot


@dataclass(frozen=True, slots=True)
class Ranked:
    """Slots for one pod, best first, with the price of each: smaller is better. ``fragmentation``: thousandths of devices that
    placing it there makes useless to the mix of other work; below zero where it heals.
    """

    slots: Ints
    scores: Floats
    fragmentation: Floats


class Scorer(Protocol):
    """What decides between nodes that all have room."""

    def rank(self, capacity: Capacity, shape: Shape, slots: Ints, *, limit: int) -> Ranked:
        """The best ``limit`` of ``slots``, all of which have room."""
        ...

    def devices(self, capacity: Capacity, shape: Shape, slot: int) -> tuple[int, ...] | None:
        """The devices of a slot for it; None where there is no room."""
        ...

    def learn(self, shape: Shape) -> None:
        """Such a pod was asked for."""
        ...
