"""The families of metrics that are read: their names, units, what they say, and which values can be true.

Names and pitfalls: FACTS.md, D4. Everything here that an exporter's release may change (names, unit, scale, plausible range,
sentinels) can be set anew per source, see ``shared.telemetry.config``.

Counters are turned into rates by Prometheus: it has every scrape, so it sees each reset, also one between two of our visits.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from shared.domain.power import WHOLE, Layer
from shared.domain.telemetry import Basis, Part, Quantity


class Kind(StrEnum):
    """How a metric counts."""

    GAUGE = "gauge"
    COUNTER = "counter"


class Merge(StrEnum):
    """What several series of one thing (a node's zone, a device) are together."""

    SUM = "sum"  #: sockets, modes, chassis; one unknown makes the sum unknown
    MEAN = "mean"  #: cores of a device
    MAX = "max"  #: repetitions, and sensors of one device


#: Factor from each unit to the base unit of its quantity. A counter's unit is that of its count: joules become watts.
FACTORS: Final[dict[Quantity, dict[str, float]]] = {
    Quantity.POWER: {"W": 1.0, "mW": 1e-3, "uW": 1e-6, "kW": 1e3},
    Quantity.UTILISATION: {"ratio": 1.0, "percent": 0.01},
    Quantity.TEMPERATURE: {"C": 1.0, "mC": 1e-3},
    Quantity.MEMORY_USED: {"bytes": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3, "MB": 1e6, "GB": 1e9},
    Quantity.MEMORY_TOTAL: {"bytes": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3, "MB": 1e6, "GB": 1e9},
    Quantity.ALLOCATABLE: {"devices": 1.0},
    Quantity.REQUESTED: {"devices": 1.0},
    Quantity.PODS: {"pods": 1.0},
}
#: Of counters of energy.
COUNTER_FACTORS: Final[dict[str, float]] = {"J": 1.0, "mJ": 1e-3, "uJ": 1e-6, "kJ": 1e3, "Wh": 3600.0, "kWh": 3.6e6}

#: A number without a value, as NVIDIA's DCGM writes it (dcgm_structs.h: DCGM_INT32_BLANK, DCGM_INT64_BLANK, DCGM_FP64_BLANK,
#: and after each: not found, not supported, not permitted).
_BLANKS: Final = frozenset({*range(0x7FFFFFF0, 0x7FFFFFF4), *(140737488355328.0 + n for n in range(4))})
_INT64_BLANK: Final = float(0x7FFFFFFFFFFFFFF0)


def is_blank(value: float) -> bool:
    """Whether DCGM means "no value" by this number. As a float, the four 64-bit blanks are one number, 2**63."""
    return value in _BLANKS or value >= _INT64_BLANK


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics that say the same of the same things. The bounds are in the base unit of the quantity, for one series."""

    name: str
    reader: str
    metrics: tuple[str, ...]
    quantity: Quantity
    unit: str
    low: float
    high: float
    part: Part
    layer: Layer = Layer.DEVICE
    kind: Kind = Kind.GAUGE
    merge: Merge = Merge.MAX
    rank: int = 0
    space: str = ""
    zone: str = ""  #: fixed, where no label says it
    zone_label: str = ""
    device_labels: tuple[str, ...] = ()
    model_labels: tuple[str, ...] = ()
    has_node: bool = True  #: False: the node label names the hypervisor
    apart: tuple[str, ...] = ()  #: more labels that tell series of one thing from each other
    where: str = ""  #: fixed matchers
    basis: Basis = Basis.MEASURED
    scale: float = 1.0
    sentinels: tuple[float, ...] = ()
    enabled: bool = True
    in_prometheus: str = "max"  #: how series that differ in no label we keep are joined there
    running_only: bool = False  #: count pods that run, not those that ended
    pods: bool = False  #: count pods themselves

    @property
    def factor(self) -> float:
        """From the exporter's number (a counter's: per second) to the base unit."""
        table = COUNTER_FACTORS if self.kind is Kind.COUNTER else FACTORS[self.quantity]
        return table[self.unit] * self.scale


_ZONES: Final = ("package", "core", "uncore", "dram")
_NVIDIA: Final[dict[str, Any]] = {
    "space": "nvidia",
    "device_labels": ("UUID", "gpu_uuid", "uuid", "gpu"),
    "model_labels": ("modelName", "gpu_name"),
}
_FURIOSA: Final[dict[str, Any]] = {"space": "furiosa/official", "device_labels": ("uuid", "device"), "model_labels": ("arch",)}
_ETRI: Final[dict[str, Any]] = {
    "space": "furiosa/kcloud",
    "device_labels": ("uuid", "device", "npu", "card"),
    "model_labels": ("arch", "model"),
    "rank": 1,
}
_RBLN: Final[dict[str, Any]] = {"space": "rebellions", "device_labels": ("uuid", "card", "name"), "model_labels": ("name",)}
_MAX_TEMPERATURE: Final = 150.0
_TIB: Final = 1024.0**4


def _device(name: str, reader: str, metric: str, quantity: Quantity, unit: str, low: float, high: float, **more: Any) -> Family:
    return Family(name, reader, (metric,), quantity, unit, low, high, Part.ACCELERATOR, **more)


def _cpu(name: str, metric: str, layer: Layer, **more: Any) -> Family:
    settings: dict[str, Any] = {"kind": Kind.COUNTER, "unit": "J", "merge": Merge.SUM, "low": 0.0, "high": 20_000.0} | more
    return Family(name, "kepler", (metric,), Quantity.POWER, part=Part.CPU, layer=layer, **settings)


def _former(level: str, layer: Layer, rank: int, **more: Any) -> list[Family]:
    return [
        _cpu(
            f"kepler_old_{level}_{zone}",
            f"kepler_{level}_{zone}_joules_total",
            layer,
            zone=zone,
            rank=rank,
            apart=("mode", "package", "source") if layer is Layer.NODE else ("mode",),
            **more,
        )
        for zone in _ZONES
    ]


def _kepler() -> list[Family]:
    """Release 0.10 and later (zones in a label), and up to 0.9 (zones in the name, ``mode`` idle and dynamic to be summed).

    The ``_active_`` and ``_idle_`` variants are parts of what is read here, and not read. What a virtual machine or a
    container draws is a share of the node's reading by processor time: modelled.
    """
    new: dict[str, Any] = {"zone_label": "zone", "apart": ("path",)}
    split: dict[str, Any] = {"basis": Basis.MODELLED}
    machine: dict[str, Any] = new | split | {"has_node": False}
    summed: dict[str, Any] = split | {"in_prometheus": "sum"}
    watts: dict[str, Any] = {"kind": Kind.GAUGE, "unit": "W", "rank": 1}
    return [
        _cpu("kepler_node", "kepler_node_cpu_joules_total", Layer.NODE, **new),
        _cpu("kepler_node_watts", "kepler_node_cpu_watts", Layer.NODE, **(new | watts)),
        _cpu("kepler_machine", "kepler_vm_cpu_joules_total", Layer.MACHINE, **machine),
        _cpu("kepler_machine_watts", "kepler_vm_cpu_watts", Layer.MACHINE, **(machine | watts)),
        _cpu("kepler_containers", "kepler_container_cpu_joules_total", Layer.WORKLOADS, **(new | summed)),
        *_former("node", Layer.NODE, 2),
        *_former("vm", Layer.MACHINE, 2, has_node=False, **split),
        *_former("container", Layer.WORKLOADS, 2, **summed),
        _cpu("kepler_old_container", "kepler_container_joules_total", Layer.WORKLOADS, zone=WHOLE, rank=3, apart=("mode",), **summed),
        Family(
            "kepler_platform", "kepler", ("kepler_platform_watts",), Quantity.POWER, "W", 5.0, 50_000.0, Part.REST, Layer.METER,
            merge=Merge.SUM, rank=1, apart=("chassis_id",),
        ),
        Family(
            "kepler_old_platform", "kepler", ("kepler_node_platform_joules_total",), Quantity.POWER, "J", 0.0, 50_000.0,
            Part.REST, Layer.METER, Kind.COUNTER, Merge.SUM, rank=3, apart=("mode", "source"),
        ),
        Family(
            "kepler_node_use", "kepler", ("kepler_node_cpu_usage_ratio",), Quantity.UTILISATION, "ratio", 0.0, 1.01, Part.CPU,
            Layer.NODE,
        ),
        _device("kepler_gpu", "kepler", "kepler_node_gpu_watts", Quantity.POWER, "W", 1.0, 2000.0, rank=2, **_NVIDIA),
    ]  # fmt: skip


def _dcgm() -> list[Family]:
    """NVIDIA's exporter. It repeats a card's power per pod and per MIG slice: the largest stands for the card, never the sum.

    GPU_UTIL says that some kernel ran; GR_ENGINE_ACTIVE, which says how much of the engine did, is preferred.
    """

    def card(name: str, metric: str, quantity: Quantity, unit: str, low: float, high: float, **more: Any) -> Family:
        return _device(f"dcgm_{name}", "dcgm", f"DCGM_FI_{metric}", quantity, unit, low, high, **(_NVIDIA | more))

    return [
        card("energy", "DEV_TOTAL_ENERGY_CONSUMPTION", Quantity.POWER, "mJ", 1.0, 2000.0, kind=Kind.COUNTER),
        card("power", "DEV_POWER_USAGE", Quantity.POWER, "W", 1.0, 2000.0, rank=1),
        card("active", "PROF_GR_ENGINE_ACTIVE", Quantity.UTILISATION, "ratio", 0.0, 1.01),
        card("use", "DEV_GPU_UTIL", Quantity.UTILISATION, "percent", 0.0, 1.01, rank=1),
        card("temperature", "DEV_GPU_TEMP", Quantity.TEMPERATURE, "C", 0.0, _MAX_TEMPERATURE),
        card("memory_used", "DEV_FB_USED", Quantity.MEMORY_USED, "MiB", 0.0, _TIB),
    ]


def _npus() -> list[Family]:
    """Furiosa's own exporter and K-Cloud's; Rebellions' present names and the deprecated ones.

    The deprecated names were measured at a thousandth of watts and degrees (2026-08-24, against rbln-stat), hence their scale. An idle
    card draws tens of watts, so that a wrong scale leaves the plausible range and is told.
    """
    old = _RBLN | {"rank": 1}
    total = ("RBLN_DEVICE_STATUS:DRAM_TOTAL", Quantity.MEMORY_TOTAL, "bytes", 0.0, _TIB)
    return [
        _device("furiosa_power", "furiosa", "furiosa_npu_hw_power", Quantity.POWER, "W", 2.0, 500.0, **_FURIOSA),
        _device(
            "furiosa_use", "furiosa", "furiosa_npu_core_utilization", Quantity.UTILISATION, "percent", 0.0, 1.01,
            merge=Merge.MEAN, apart=("core",), **_FURIOSA,
        ),
        _device(
            "furiosa_temperature", "furiosa", "furiosa_npu_hw_temperature", Quantity.TEMPERATURE, "C", 0.0, _MAX_TEMPERATURE,
            where='label="peak"', **_FURIOSA,
        ),
        _device("furiosa_kcloud_power", "furiosa", "kcloud_furiosa_power_watts", Quantity.POWER, "W", 2.0, 500.0, **_ETRI),
        _device(
            "furiosa_kcloud_use", "furiosa", "kcloud_furiosa_core_utilization", Quantity.UTILISATION, "percent", 0.0, 1.01,
            merge=Merge.MEAN, apart=("core",), **_ETRI,
        ),
        _device(
            "furiosa_kcloud_temperature", "furiosa", "kcloud_furiosa_temperature_celsius", Quantity.TEMPERATURE, "C", 0.0,
            _MAX_TEMPERATURE, where='sensor="soc_peak"', **_ETRI,
        ),
        _device("rebellions_power", "rebellions", "rbln_npu_power", Quantity.POWER, "W", 2.0, 500.0, **_RBLN),
        _device("rebellions_use", "rebellions", "rbln_npu_utilization", Quantity.UTILISATION, "percent", 0.0, 1.01, **_RBLN),
        _device(
            "rebellions_temperature", "rebellions", "rbln_npu_temperature", Quantity.TEMPERATURE, "C", 0.0, _MAX_TEMPERATURE, **_RBLN
        ),
        _device("rebellions_memory_used", "rebellions", "rbln_npu_memory_used", Quantity.MEMORY_USED, "bytes", 0.0, _TIB, **_RBLN),
        _device("rebellions_memory_total", "rebellions", "rbln_npu_memory_total", Quantity.MEMORY_TOTAL, "bytes", 1.0, _TIB, **_RBLN),
        _device(
            "rebellions_old_power", "rebellions", "RBLN_DEVICE_STATUS:CARD_POWER", Quantity.POWER, "W", 2.0, 500.0,
            scale=1000.0, **old,
        ),
        _device(
            "rebellions_old_use", "rebellions", "RBLN_DEVICE_STATUS:UTILIZATION", Quantity.UTILISATION, "percent", 0.0, 1.01, **old
        ),
        _device(
            "rebellions_old_temperature", "rebellions", "RBLN_DEVICE_STATUS:TEMPERATURE", Quantity.TEMPERATURE, "C", 5.0,
            _MAX_TEMPERATURE, scale=1000.0, **old,
        ),
        _device("rebellions_old_memory_used", "rebellions", "RBLN_DEVICE_STATUS:DRAM_USED", Quantity.MEMORY_USED, *total[2:], **old),
        _device("rebellions_old_memory_total", "rebellions", *total, **old),
    ]  # fmt: skip


def _meters() -> list[Family]:
    """Meters of whole machines. Readings of single power supplies are parts of these, and not read."""
    common = (Quantity.POWER, "W", 5.0, 50_000.0, Part.REST, Layer.METER)
    return [
        Family("redfish_power", "redfish", ("redfish_chassis_power_average_consumed_watts",), *common, merge=Merge.SUM,
               apart=("chassis_id",)),
        Family("ipmi_power", "ipmi", ("ipmi_dcmi_power_consumption_watts",), *common, rank=2),
    ]  # fmt: skip


#: kube-state-metrics writes a resource's name with underscores: nvidia_com_gpu, furiosa_ai_rngd, rebellions_ai_npu.
_RESOURCES: Final = 'resource=~"nvidia_com_(gpu|mig_.+)|furiosa_ai_.+|rebellions_ai_.+"'


def _kube_state() -> list[Family]:
    counts: dict[str, Any] = {"merge": Merge.SUM, "model_labels": ("resource",), "where": _RESOURCES, "layer": Layer.NODE}
    return [
        Family("kube_allocatable", "kube_state", ("kube_node_status_allocatable",), Quantity.ALLOCATABLE, "devices", 0.0, 1000.0,
               Part.NODE, **counts),
        Family("kube_requested", "kube_state", ("kube_pod_container_resource_requests",), Quantity.REQUESTED, "devices", 0.0,
               1000.0, Part.NODE, in_prometheus="sum", running_only=True, **counts),
        Family("kube_pods", "kube_state", ("kube_pod_status_phase",), Quantity.PODS, "pods", 0.0, 1e6, Part.CLUSTER, Layer.NODE,
               has_node=False, in_prometheus="sum", pods=True),
    ]  # fmt: skip


FAMILIES: Final[dict[str, Family]] = {
    family.name: family for family in (*_kepler(), *_dcgm(), *_npus(), *_meters(), *_kube_state())
}
READERS: Final[tuple[str, ...]] = tuple(dict.fromkeys(family.reader for family in FAMILIES.values()))
#: Says which Nova instance a node is: not a value, so no family.
NODE_INFO: Final = "kube_node_info"
