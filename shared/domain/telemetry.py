"""What meters say about clusters: samples, what went wrong on the way, and the port that brings both.

A sample belongs to a cluster by Magnum's uuid. Its value is in the base unit of its quantity, whatever the exporter uses.
The power samples of one collection never overlap: their sum over a cluster is what that cluster draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol


class Quantity(StrEnum):
    """What is measured."""

    POWER = "power"
    UTILISATION = "utilisation"  #: of a node's processors, or of one accelerator
    TEMPERATURE = "temperature"
    MEMORY_USED = "memory_used"  #: of an accelerator
    MEMORY_TOTAL = "memory_total"
    ALLOCATABLE = "allocatable"  #: accelerators that Kubernetes can give to pods of a node
    REQUESTED = "requested"  #: accelerators that running pods of a node hold
    PODS = "pods"  #: of a cluster, that run or wait for a node: neither the system's, nor a daemon's or a node's own


#: The base unit of each quantity.
UNITS: Final[dict[Quantity, str]] = {
    Quantity.POWER: "W",
    Quantity.UTILISATION: "ratio",
    Quantity.TEMPERATURE: "C",
    Quantity.MEMORY_USED: "bytes",
    Quantity.MEMORY_TOTAL: "bytes",
    Quantity.ALLOCATABLE: "devices",
    Quantity.REQUESTED: "devices",
    Quantity.PODS: "pods",
}


class Part(StrEnum):
    """Which part of a node a sample is about. The parts of a node don't overlap."""

    CPU = "cpu"  #: processors and their memory
    ACCELERATOR = "accelerator"  #: one device
    REST = "rest"  #: what a meter of the whole machine shows beyond the other parts
    NODE = "node"  #: no part: counts of the whole node
    CLUSTER = "cluster"  #: no node: counts of the whole cluster


class Basis(StrEnum):
    """Where a value comes from."""

    MEASURED = "measured"  #: a sensor's reading
    MODELLED = "modelled"  #: computed: a measured total that was split by use, an exporter's estimate, or our own model


@dataclass(frozen=True, slots=True)
class Sample:
    """One value at one moment. Empty strings: not about one accelerator, or the name is not known."""

    cluster: str  #: Magnum's uuid
    node: str  #: Kubernetes' name of the node
    instance: str  #: Nova's id of the node
    accelerator: str  #: the device's own id
    part: Part
    quantity: Quantity
    value: float
    at: datetime
    basis: Basis
    source: str  #: the Prometheus it came from
    family: str  #: the family of metrics it came from
    model: str = ""  #: the device's model in its exporter's words; for counts, Kubernetes' name of the resource

    @property
    def unit(self) -> str:
        """The unit of ``value``."""
        return UNITS[self.quantity]


@dataclass(frozen=True, slots=True)
class Failure:
    """A source, or one reader of it, gave nothing. ``reason`` is a stable code, ``detail`` says it in words."""

    source: str
    reader: str  #: empty: the whole source
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Values that were left out, or don't fit together: how many broke the rule, and one of them."""

    source: str
    family: str
    rule: str
    detail: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Inventory:
    """Which clusters to collect, and what is known of their nodes.

    ``clusters``: Magnum's uuids, None for all that the sources know. ``instances``: Nova's id of a node to its cluster's uuid.
    ``nodes``: a node's name to its cluster's uuid, only where no two clusters have a node of that name.
    """

    clusters: frozenset[str] | None = None
    instances: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collected:
    """One collection. ``queries``: how many were asked, a number that does not depend on how many clusters there are."""

    at: datetime
    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...] = ()
    findings: tuple[Finding, ...] = ()
    queries: int = 0


class Telemetry(Protocol):
    """The meters. Bounded in time; what fails is part of the answer and never raised."""

    def collect(self, inventory: Inventory, at: datetime) -> Collected:
        """The samples at ``at``, a moment of the last minutes. A value that a meter does not give is missing, never zero."""
        ...
