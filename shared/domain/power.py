"""Watts of nodes and clusters: meters that overlap are told apart, and what no meter shows is modelled.

Containment (FACTS.md, D4): a meter of the whole machine contains its processors and its accelerators; of the processors'
zones, psys contains package, and package contains core and uncore, while dram stands beside package. What a node draws contains what
its containers draw. A value is taken from one level only.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.domain import rating
from shared.domain.accelerators import NodeShape
from shared.domain.telemetry import Basis, Part, Quantity, Sample


class Layer(StrEnum):
    """The level a reading was taken at."""

    METER = "meter"  #: the whole machine: IPMI, Redfish
    MACHINE = "machine"  #: the hypervisor's reading of a virtual machine
    NODE = "node"  #: a reading inside the node
    WORKLOADS = "workloads"  #: the sum over a node's containers
    DEVICE = "device"  #: an accelerator


#: The whole draw of containers, accelerators included: Kepler's former total.
WHOLE: Final = "whole"
#: Which level stands for a node's processors, best first. A hypervisor measures; inside a virtual machine there is no sensor.
_CPU_LAYERS: Final = (Layer.MACHINE, Layer.NODE, Layer.WORKLOADS)
#: How much the parts may exceed the meter of the whole machine, before that is worth a word: they are read at different moments.
_SLACK: Final = 1.1
_SLACK_W: Final = 10.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A sample before overlaps are told apart. ``rank``: smaller is preferred, among families that say the same."""

    layer: Layer
    rank: int
    zone: str  #: of the processors
    space: str  #: within which ``sample.accelerator`` names a device
    sample: Sample


@dataclass(frozen=True, slots=True)
class Doubt:
    """Readings that don't fit together."""

    source: str
    family: str
    rule: str
    detail: str


def zones_to_sum(zones: Iterable[str]) -> frozenset[str]:
    """Of a processor's zones, those that cover the most and don't overlap."""
    there = frozenset(zones)
    if "psys" in there:
        return frozenset({"psys"})
    if "package" in there:
        return there & {"package", "dram"}
    if there & {"core", "uncore", "dram"}:
        return there & {"core", "uncore", "dram"}
    return there & {WHOLE}


def disjoint(readings: Iterable[Reading]) -> tuple[list[Sample], list[Doubt]]:
    """The samples of which no two say the same: one per device or node and quantity, and for power one level per node."""
    power: list[Reading] = []
    others: dict[tuple[str, ...], Reading] = {}
    for reading in readings:
        sample = reading.sample
        if sample.quantity is Quantity.POWER:
            power.append(reading)
            continue
        which = sample.model if sample.part is Part.NODE else sample.accelerator
        key = (sample.cluster, _place(sample), reading.space, sample.part, sample.quantity, which)
        held = others.get(key)
        if held is None or _order(reading) < _order(held):
            others[key] = reading
    samples, doubts = _power(power)
    return samples + [reading.sample for reading in others.values()], doubts


def _order(reading: Reading) -> tuple[int, bool]:
    return reading.rank, reading.sample.basis is not Basis.MEASURED


def _place(sample: Sample) -> str:
    return sample.instance or sample.node


def _power(readings: Sequence[Reading]) -> tuple[list[Sample], list[Doubt]]:
    doubts: list[Doubt] = []
    devices = _devices([r for r in readings if r.layer is Layer.DEVICE])
    hosts: dict[tuple[str, str], list[Reading]] = defaultdict(list)
    for reading in readings:
        if reading.layer is not Layer.DEVICE:
            hosts[reading.sample.cluster, _place(reading.sample)].append(reading)
    _forget_guests_seen_twice(hosts, doubts)
    samples: list[Sample] = []
    for key in dict.fromkeys((*hosts, *devices)):
        own = devices.get(key, [])
        mine = hosts.get(key, [])
        cpu = _cpu(mine, sum(sample.value for sample in own))
        parts = [*([cpu] if cpu else []), *own]
        samples += parts
        meter = min((r for r in mine if r.layer is Layer.METER), key=_order, default=None)
        if meter is not None:
            samples.append(_rest(meter.sample, parts, doubts))
    return samples, doubts


def _devices(readings: Sequence[Reading]) -> dict[tuple[str, str], list[Sample]]:
    """The devices of each node, each once.

    An id that is unique in the world counts once per cluster, whatever name each exporter gives its node. Of two spaces of
    ids on one node (two exporters for the same cards), the better one is taken whole.
    """
    best: dict[tuple[str, str, str], Reading] = {}
    for reading in readings:
        sample = reading.sample
        where = "" if len(sample.accelerator) >= 16 else _place(sample)  # noqa: PLR2004 - shorter than any uuid: a number on its node
        key = (sample.cluster, f"{reading.space}|{where}", sample.accelerator)
        held = best.get(key)
        if held is None or _order(reading) < _order(held):
            best[key] = reading
    chosen: dict[tuple[str, str, str], tuple[int, str]] = {}
    for reading in best.values():
        vendor = reading.space.partition("/")[0]
        key = (reading.sample.cluster, _place(reading.sample), vendor)
        offer = (reading.rank, reading.space)
        if key not in chosen or offer < chosen[key]:
            chosen[key] = offer
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for reading in best.values():
        sample = reading.sample
        if chosen[sample.cluster, _place(sample), reading.space.partition("/")[0]][1] == reading.space:
            found[sample.cluster, _place(sample)].append(sample)
    return found


def _forget_guests_seen_twice(hosts: dict[tuple[str, str], list[Reading]], doubts: list[Doubt]) -> None:
    """Where a cluster's machines are read by their hypervisors and by themselves, and nothing links the two names of a machine,
    the hypervisors' readings stand.
    """
    outside = {cluster for (cluster, _), mine in hosts.items() if all(r.layer is Layer.MACHINE for r in mine)}
    for (cluster, place), mine in hosts.items():
        if cluster not in outside or any(r.layer is Layer.MACHINE for r in mine) or mine[0].sample.instance:
            continue
        inner = [r for r in mine if r.layer in {Layer.NODE, Layer.WORKLOADS} and r.sample.basis is Basis.MODELLED]
        if inner:
            first = inner[0].sample
            words = (
                f"cluster {cluster}: node {place} is read from inside, other machines of the cluster by their hypervisor; no"
                " kube_node_info says which is which, so the reading from inside is left out"
            )
            doubts.append(Doubt(first.source, first.family, "seen_twice", words))
            mine[:] = [r for r in mine if r not in inner]


def _cpu(readings: Sequence[Reading], devices_w: float) -> Sample | None:
    """One sample for the processors: the best layer, in it the best family that has zones to sum, of that the zones."""
    for layer in _CPU_LAYERS:
        ranked: dict[int, dict[str, Reading]] = defaultdict(dict)
        for reading in readings:
            if reading.layer is layer:
                held = ranked[reading.rank].get(reading.zone)
                if held is None or _order(reading) < _order(held):
                    ranked[reading.rank][reading.zone] = reading
        for rank in sorted(ranked):
            by_zone = ranked[rank]
            zones = zones_to_sum(by_zone)
            if not zones:
                continue
            watts = sum(by_zone[zone].sample.value for zone in sorted(zones))
            if zones == {WHOLE}:
                watts = max(0.0, watts - devices_w)
            measured = all(by_zone[zone].sample.basis is Basis.MEASURED for zone in zones)
            first = by_zone[min(zones)].sample
            return _with(first, watts, Part.CPU, Basis.MEASURED if measured else Basis.MODELLED)
    return None


def _rest(meter: Sample, parts: Sequence[Sample], doubts: list[Doubt]) -> Sample:
    known = sum(part.value for part in parts)
    if known > meter.value * _SLACK + _SLACK_W:
        words = f"node {_place(meter)}: its parts draw {known:.0f} W, its meter shows {meter.value:.0f} W: check units and scales"
        doubts.append(Doubt(meter.source, meter.family, "parts_exceed_meter", words))
    return _with(meter, max(0.0, meter.value - known), Part.REST, meter.basis)


def _with(sample: Sample, value: float, part: Part, basis: Basis) -> Sample:
    return Sample(
        sample.cluster,
        sample.node,
        sample.instance,
        "",
        part,
        sample.quantity,
        value,
        sample.at,
        basis,
        sample.source,
        sample.family,
    )


# -- the model -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """A node as far as its power can be modelled; ``device_idle_w`` and ``device_max_w`` of one accelerator."""

    vcpus: int = rating.DEFAULT_VCPUS
    ram_gb: float = rating.DEFAULT_MEMORY_GB
    devices: int = 0
    device_idle_w: float = 0.0
    device_max_w: float = 0.0

    @classmethod
    def of(cls, shape: NodeShape | None) -> "Machine":
        """A node of this shape; of an unknown one, a usual node without accelerators."""
        if shape is None:
            return cls()
        device = shape.accelerator
        idle_w, max_w = (device.idle_w, device.max_w) if device else (0.0, 0.0)
        return cls(shape.vcpus, shape.memory_gb, shape.devices, idle_w, max_w)


@dataclass(frozen=True, slots=True)
class PowerModel:
    """The constants of the model; by default those of ``shared.domain.rating``."""

    base_w: float = rating.BASE_W
    w_per_core: float = rating.W_PER_CORE
    w_per_gb: float = rating.W_PER_GB
    utilisation: float = rating.ASSUMED_UTILISATION  #: assumed where none is measured


@dataclass(frozen=True, slots=True)
class ClusterPower:
    """What a cluster draws, in watts. Measured and modelled parts add up to the whole; ``nodes`` have some part measured."""

    measured_w: float
    modelled_w: float
    nodes: int
    nodes_modelled: int  #: nodes of which nothing at all was read

    @property
    def watts(self) -> float:
        """The whole."""
        return self.measured_w + self.modelled_w

    @property
    def basis(self) -> Basis:
        """Measured only where nothing had to be modelled."""
        return Basis.MODELLED if self.modelled_w or self.nodes_modelled else Basis.MEASURED


def interpolate(idle_w: float, max_w: float, utilisation: float) -> float:
    """Watts at a utilisation of 0..1, on the line from idle to highest draw. Raises ValueError outside of that."""
    if not (0 <= idle_w <= max_w < math.inf):
        raise ValueError(f"idle_w and max_w: 0 <= idle_w <= max_w must hold, got {idle_w!r} and {max_w!r}.")
    if not 0 <= utilisation <= 1:
        raise ValueError(f"utilisation: must be between 0 and 1, got {utilisation!r}.")
    return idle_w + (max_w - idle_w) * utilisation


def host_w(machine: Machine, model: PowerModel, utilisation: float | None = None) -> float:
    """The modelled draw of a node without its accelerators; ``utilisation`` of its processors, 0..1."""
    idle = model.base_w + machine.ram_gb * model.w_per_gb
    share = model.utilisation if utilisation is None else utilisation
    return interpolate(idle, idle + machine.vcpus * model.w_per_core, share)


def device_w(machine: Machine, model: PowerModel, utilisation: float | None = None) -> float:
    """The modelled draw of one of the node's accelerators."""
    share = model.utilisation if utilisation is None else utilisation
    return interpolate(machine.device_idle_w, machine.device_max_w, share)


def cluster_power(
    samples: Iterable[Sample], machines: Sequence[tuple[Machine, int]], model: PowerModel | None = None
) -> ClusterPower:
    """What one cluster draws: its power samples, and the model for what they don't cover.

    ``machines``: the cluster's kinds of nodes and how many there are of each. Which node is of which kind is not known to meters,
    so nodes with accelerators are matched to kinds with as many, or with more. A node under a meter of the whole machine needs no
    model; of another, processors or accelerators without a reading are modelled, with their measured utilisation if any.
    """
    chosen = model or PowerModel()
    nodes: dict[str, _Seen] = defaultdict(_Seen)
    measured = estimated = 0.0
    for sample in samples:
        seen = nodes[_place(sample)]
        seen.named = seen.named or bool(sample.node)
        seen.instance = seen.instance or bool(sample.instance)
        if sample.quantity is Quantity.UTILISATION:
            seen.utilisation[sample.accelerator] = sample.value
        elif sample.quantity is Quantity.POWER:
            seen.parts.add(sample.part)
            if sample.part is Part.ACCELERATOR:
                seen.devices.add(sample.accelerator)
            if sample.basis is Basis.MEASURED:
                measured += sample.value
            else:
                estimated += sample.value
    slots = [machine for machine, count in machines for _ in range(count)]
    read = sorted(_paired(seen for seen in nodes.values() if seen.parts), key=lambda seen: -seen.known)
    for seen in read:
        machine = min(slots, key=lambda m: (m.devices < seen.known, abs(m.devices - seen.known)), default=None)
        if machine is not None:
            slots.remove(machine)
            estimated += _missing_w(machine, seen, chosen)
    estimated += sum(host_w(m, chosen) + m.devices * device_w(m, chosen) for m in slots)
    return ClusterPower(measured, estimated, nodes=len(read), nodes_modelled=len(slots))


class _Seen:
    """What was read of one node."""

    def __init__(self) -> None:
        self.parts: set[Part] = set()
        self.devices: set[str] = set()
        self.utilisation: dict[str, float] = {}
        self.named = False
        self.instance = False

    @property
    def known(self) -> int:
        """How many accelerators it has at least."""
        return len(self.devices.union(filter(None, self.utilisation)))

    def take(self, other: "_Seen") -> None:
        """The other is the same node."""
        self.parts |= other.parts
        self.devices |= other.devices
        self.utilisation |= other.utilisation


def _paired(nodes: Iterable[_Seen]) -> list[_Seen]:
    """Nodes of which a hypervisor tells the processors and an exporter inside the accelerators, where nothing links their two
    names: each of the one kind is one of the other, whichever.
    """
    seen = list(nodes)
    outside = [n for n in seen if n.instance and not n.named and not n.devices]
    inside = [n for n in seen if n.named and not n.instance and n.parts == {Part.ACCELERATOR}]
    for one, other in zip(outside, inside, strict=False):
        other.take(one)
    paired = {id(n) for n in outside[: len(inside)]}
    return [n for n in seen if id(n) not in paired]


def _missing_w(machine: Machine, seen: _Seen, model: PowerModel) -> float:
    if Part.REST in seen.parts:
        return 0.0
    watts = 0.0 if Part.CPU in seen.parts else host_w(machine, model, seen.utilisation.get(""))
    unread: Mapping[str, float] = {d: u for d, u in seen.utilisation.items() if d and d not in seen.devices}
    uses: list[float | None] = [*unread.values(), *([None] * machine.devices)]
    missing = max(0, machine.devices - len(seen.devices))
    return watts + sum(device_w(machine, model, use) for use in uses[:missing])


def energy_kwh(watts: float, seconds: float) -> float:
    """The energy of a constant draw."""
    return watts * seconds / 3.6e6
