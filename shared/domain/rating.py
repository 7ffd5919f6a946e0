"""Money and watts of a node, modelled from its flavor, until rate cards and measurements say better.

Prices per device-hour and per core and GB-hour are the defaults found in openkcloud's scheduler configuration; watts are
the vendors' TDP (FACTS.md, D5 and D6). The host model is P = base + cores x c x u + GB x m + sum of
accel_idle + (TDP - accel_idle) x u, with u the utilisation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from shared.domain.ports import Flavor

CURRENCY: Final = "USD"
PRICE_PER_CORE_HOUR: Final = 0.05
PRICE_PER_GB_HOUR: Final = 0.01
BASE_W: Final = 50.0
W_PER_CORE: Final = 15.0
W_PER_GB: Final = 0.5
#: Utilisation assumed where nothing is measured, and an accelerator's idle draw as a share of its TDP.
ASSUMED_UTILISATION: Final = 0.5
IDLE_SHARE: Final = 0.15

#: model -> (price per device-hour, TDP in W)
DEVICES: Final[dict[str, tuple[float, float]]] = {
    "h200": (4.0, 700.0),
    "h100": (4.0, 700.0),
    "b200": (5.5, 1000.0),
    "a100": (2.0, 400.0),
    "l40s": (1.55, 350.0),
    "l4": (0.5, 72.0),
    "t4": (0.35, 70.0),
    "a10": (0.8, 150.0),
    "a6000": (1.2, 300.0),
    "v100": (0.79, 300.0),
    "rngd": (0.8, 180.0),
    "warboy": (0.5, 100.0),
    "furiosa": (0.8, 180.0),
    "atom": (2.0, 85.0),
    "npu": (2.0, 100.0),
    "gpu": (2.0, 400.0),
}


@dataclass(frozen=True, slots=True)
class NodeRate:
    """What one node of a flavor costs per hour and draws in watts (``modelled``)."""

    flavor: str
    price_per_hour: float
    watts: float

    def as_dict(self) -> dict[str, Any]:
        """For SQL."""
        return {"flavor": self.flavor, "price_per_hour": self.price_per_hour, "watts": self.watts}


#: A node whose flavor is not known.
DEFAULT_VCPUS: Final = 4
DEFAULT_MEMORY_GB: Final = 16
DEFAULT_RATE: Final = NodeRate(
    "",
    DEFAULT_VCPUS * PRICE_PER_CORE_HOUR + DEFAULT_MEMORY_GB * PRICE_PER_GB_HOUR,
    BASE_W + DEFAULT_VCPUS * W_PER_CORE * ASSUMED_UTILISATION + DEFAULT_MEMORY_GB * W_PER_GB,
)


def accelerators_of(flavor: Flavor) -> tuple[str, int]:
    """Kind of device (a key of DEVICES, "" for none) and how many a node of this flavor has.

    Read from ``accelerator:model`` and ``accelerator:count``, else from a PCI alias (``a100:4``), else from the name.
    """
    specs = flavor.extra_specs
    model = specs.get("accelerator:model", "").lower()
    count = _integer(specs.get("accelerator:count"))
    alias = specs.get("pci_passthrough:alias", "")
    if not model and alias:
        model, _, amount = alias.partition(":")
        count = count or _integer(amount) or 1
    if not model:
        words = flavor.name.lower().replace("-", ".").split(".")
        if words[0] not in {"gpu", "npu"}:
            return "", 0
        model = words[1] if len(words) > 1 else words[0]
    known = next((name for name in DEVICES if name in model.lower()), specs.get("accelerator:type", "gpu").lower())
    return (known if known in DEVICES else "gpu"), count or 1


def rate_of(flavor: Flavor) -> NodeRate:
    """The modelled rate of one node of ``flavor``."""
    device, count = accelerators_of(flavor)
    device_price, tdp = DEVICES.get(device, (0.0, 0.0))
    gb = flavor.ram_mb / 1024
    idle = IDLE_SHARE * tdp
    return NodeRate(
        flavor.name,
        price_per_hour=flavor.vcpus * PRICE_PER_CORE_HOUR + gb * PRICE_PER_GB_HOUR + count * device_price,
        watts=BASE_W
        + flavor.vcpus * W_PER_CORE * ASSUMED_UTILISATION
        + gb * W_PER_GB
        + count * (idle + (tdp - idle) * ASSUMED_UTILISATION),
    )


def rates_of(flavors: Iterable[Flavor]) -> dict[str, NodeRate]:
    """Rates by the flavor's name and by its id, as clusters may name either."""
    rates: dict[str, NodeRate] = {}
    for flavor in flavors:
        rate = rate_of(flavor)
        rates[flavor.name] = rate
        rates[flavor.id] = NodeRate(flavor.id, rate.price_per_hour, rate.watts)
    return rates


def cost(rate: NodeRate, node_seconds: float) -> Decimal:
    """The price of a number of node-seconds, exact to a millionth."""
    return (Decimal(str(rate.price_per_hour)) * Decimal(str(node_seconds)) / 3600).quantize(Decimal("0.000001"))


def energy_kwh(rate: NodeRate, node_seconds: float) -> float:
    """The modelled energy of a number of node-seconds."""
    return rate.watts * node_seconds / 3.6e6


def node_seconds(nodes: int, start: datetime, end: datetime) -> float:
    """Nodes times the span's length."""
    return nodes * (end - start).total_seconds()


def _integer(words: str | None) -> int:
    return int(words) if words and words.isdigit() else 0
