"""Money and watts of a node, modelled from its flavor, until rate cards and measurements say better.

Prices per core and GB-hour are the defaults found in openkcloud's scheduler configuration; accelerators have their own in the catalogue
(FACTS.md, D5 and D6). The host model is P = base + cores x c x u + GB x m + sum of accel_idle + (max - accel_idle) x u, with u the
utilisation.
"""

from dataclasses import dataclass
from typing import Any, Final

CURRENCY: Final = "USD"
PRICE_PER_CORE_HOUR: Final = 0.05
PRICE_PER_GB_HOUR: Final = 0.01
BASE_W: Final = 50.0
W_PER_CORE: Final = 15.0
W_PER_GB: Final = 0.5
#: Assumed where nothing is measured.
ASSUMED_UTILISATION: Final = 0.5


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
