"""What a workload asks for, and a placement: what is held for one of its pods."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

#: Workload types that the platform's other modules use (FACTS.md, D2), and those of the examples.
TYPES: Final = (
    "ml_training",
    "training",
    "inference",
    "batch",
    "realtime",
    "deployment",
    "web",
    "database",
    "cache",
    "storage",
    "development",
    "mixed",
    "general",
)
#: Words for how urgent work is (FACTS.md, D2).
PRIORITIES: Final = {"low": 10, "normal": 100, "high": 500, "critical": 1000}
REPLICAS_MAX: Final = 1000


class Isolation(StrEnum):
    """With what a workload may share."""

    SHARED = "shared"  #: nodes with other work of the project
    NODE = "node"  #: its nodes with nothing else
    CLUSTER = "cluster"  #: its cluster with nothing else


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload. Sizes are of one pod, of which there are ``replicas``; each must find all it wants on one node.

    ``cpu_milli`` thousandths of a core; ``memory_mib``; ``share_milli`` thousandths of one accelerator, below 1000 only where
    ``accelerators`` is 1. The ceilings are of the whole workload: ``max_watts`` W, ``max_cost_per_hour`` in the price currency.
    """

    name: str
    type: str = "general"
    replicas: int = 1
    cpu_milli: int = 0
    memory_mib: int = 0
    accelerators: int = 0
    share_milli: int = 1000
    kind: str | None = None
    models: tuple[str, ...] = ()
    accelerator_memory_gb: float | None = None
    max_watts: float | None = None
    max_cost_per_hour: float | None = None
    deadline: datetime | None = None
    duration_s: float | None = None
    preferred: frozenset[str] = frozenset()  #: ids or names of clusters
    forbidden: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=dict)  #: that the cluster must have
    isolation: Isolation = Isolation.SHARED
    priority: int = 100
    movable: bool = False

    @property
    def devices(self) -> float:
        """Accelerators of one pod, a share counting as a part."""
        return self.accelerators * self.share_milli / 1000


@dataclass(frozen=True, slots=True)
class Placement:
    """Capacity of one node that is held for one pod. ``node`` counts from 0 in its group; ``devices`` are numbers on that node."""

    id: UUID
    request_id: UUID
    project_id: str
    region: str
    cluster_id: UUID
    node_group: str
    node: int
    workload: str
    replica: int
    cpu_milli: int
    memory_mib: int
    accelerators: int
    share_milli: int
    devices: tuple[int, ...]
    created_at: datetime
    workload_type: str | None = None
    accelerator: str | None = None
    models: tuple[str, ...] | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    isolation: Isolation = Isolation.SHARED
    priority: int = 100
    movable: bool = False
    watts: float = 0.0
    cost_per_hour: float = 0.0
    job_id: UUID | None = None
    created_by: str | None = None
    expires_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None
