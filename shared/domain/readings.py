"""One cluster's samples of one collection as one line: what it draws, how much it is used, and how much of it was read."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.domain.accelerators import NodeShape
from shared.domain.power import Machine, cluster_power
from shared.domain.telemetry import Part, Quantity, Sample

#: Shorter than any uuid: a device's number on its node.
_UNIQUE: Final = 16


@dataclass(frozen=True, slots=True)
class Nodes:
    """So many nodes of a shape; None: of an unknown one."""

    shape: NodeShape | None
    count: int

    @property
    def devices(self) -> int:
        """Accelerators that an exporter can see: cards, not their slices."""
        device = self.shape.accelerator if self.shape else None
        return math.ceil(self.shape.devices / device.slices) * self.count if self.shape and device else 0


@dataclass(frozen=True, slots=True)
class ClusterReading:
    """What was read of a cluster. Use in percent, on average over what was read.

    The peaks are those of the busiest node and accelerator, and None unless every one was read: what nobody read may be in use.
    """

    at: datetime
    watts: float | None  #: None where no power was read: the model alone says more truly what it is
    measured_watts: float | None  #: the part of them that a sensor read; the rest is modelled
    cpu_usage: float | None
    cpu_usage_peak: float | None
    gpu_usage: float | None
    gpu_usage_peak: float | None
    gpu_memory_used_gb: float | None  #: gigabytes of an accelerator's own memory, on average over those read
    gpu_temperature_celsius: float | None  #: of the hottest accelerator that was read
    running_pods: int | None
    nodes_read: int
    accelerators_read: int


def read(samples: Iterable[Sample], nodes: Sequence[Nodes], at: datetime) -> ClusterReading:
    """The line of one cluster; ``nodes``: all that it has."""
    held = list(samples)
    cpu, cards = _highest(held, Part.CPU), _highest(held, Part.ACCELERATOR)
    memory = _highest(held, Part.ACCELERATOR, Quantity.MEMORY_USED, 1e-9)
    heat = _highest(held, Part.ACCELERATOR, Quantity.TEMPERATURE, 1.0)
    machines = sum(one.count for one in nodes)
    devices = sum(one.devices for one in nodes)
    pods = [one.value for one in held if one.quantity is Quantity.PODS]
    power = None
    if any(one.quantity is Quantity.POWER for one in held):
        power = cluster_power(held, [(Machine.of(one.shape), one.count) for one in nodes])
    return ClusterReading(
        at,
        watts=power.watts if power else None,
        measured_watts=power.measured_w if power else None,
        cpu_usage=_mean(cpu),
        cpu_usage_peak=_peak(cpu, machines),
        gpu_usage=_mean(cards),
        gpu_usage_peak=_peak(cards, devices),
        gpu_memory_used_gb=_mean(memory),
        gpu_temperature_celsius=max(heat.values(), default=None),
        running_pods=round(max(pods)) if pods else None,
        nodes_read=len({one.instance or one.node for one in held if one.instance or one.node}),
        accelerators_read=len(cards),
    )


def by_cluster(samples: Iterable[Sample]) -> Mapping[str, list[Sample]]:
    """The samples of each cluster, by Magnum's uuid."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for one in samples:
        found[one.cluster].append(one)
    return found


def _highest(
    samples: Iterable[Sample], part: Part, quantity: Quantity = Quantity.UTILISATION, scale: float = 100.0
) -> dict[tuple[str, str], float]:
    """The highest value, times ``scale``, that was read of each node's processors, or of each accelerator: by default its use in percent."""
    found: dict[tuple[str, str], float] = {}
    for one in samples:
        if one.part is part and one.quantity is quantity:
            # An id of a device that is unique in the world is one device, whatever each exporter calls its node.
            place = "" if len(one.accelerator) >= _UNIQUE else one.instance or one.node
            value = one.value * scale
            found[place, one.accelerator] = max(value, found.get((place, one.accelerator), value))
    return found


def _mean(use: Mapping[tuple[str, str], float]) -> float | None:
    return math.fsum(use.values()) / len(use) if use else None


def _peak(use: Mapping[tuple[str, str], float], needed: int) -> float | None:
    return max(use.values()) if use and len(use) >= needed else None
