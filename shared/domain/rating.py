"""Money and watts of a node, modelled from its flavor, until rate cards and measurements say better.

Prices per device-hour and per core and GB-hour are the defaults found in openkcloud's scheduler configuration; watts are
the vendors' TDP (FACTS.md, D5 and D6). The host model is P = base + cores x c x u + GB x m + sum of
accel_idle + (TDP - accel_idle) x u, with u the utilisation.
"""

from dataclasses import dataclass
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


def _integer(words: str | None) -> int:
    return int(words) if words and words.isdigit() else 0
