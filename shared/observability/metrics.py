"""Our own Prometheus metrics: what each process counts by itself.

What is true of the whole system (jobs by state, queue age) is read from the database when asked, so that the answer does
not depend on which process answers.
"""

import os
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

REGISTRY: Final = CollectorRegistry()

CLOUD_CALL_SECONDS: Final = Histogram(
    "kcloud_cloud_call_seconds",
    "Calls to OpenStack by service, operation and outcome (HTTP status or error)",
    ["service", "operation", "outcome"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
)
TICK_SECONDS: Final = Histogram(
    "kcloud_tick_seconds",
    "Length of convergence ticks",
    ["look"],
    registry=REGISTRY,
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30),
)
JOBS_FINISHED: Final = Counter(
    "kcloud_jobs_finished_total", "Jobs that ended, by kind, state and reason", ["kind", "state", "reason"], registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "kcloud_request_seconds", "HTTP requests by endpoint, method and status", ["endpoint", "method", "status"], registry=REGISTRY
)
COLLECTIONS_FAILED: Final = Counter(
    "kcloud_collections_failed_total",
    "Collections in which a source of measurements failed",
    ["source", "reason"],
    registry=REGISTRY,
)
TURNS_FAILED: Final = Counter(
    "kcloud_turns_failed_total", "Projects that beat's work could not be done for, by task", ["task"], registry=REGISTRY
)
TASKS_FAILED: Final = Counter("kcloud_tasks_failed_total", "Tasks that ended with an error", ["task"], registry=REGISTRY)


class Figures(Collector):
    """Gauges that are read when asked. Not the library's own: where several processes count together, each of those writes its values to a
    file that outlives it, and would be told beside the present ones.
    """

    def __init__(self) -> None:
        self._families: list[GaugeMetricFamily] = []

    def add(self, name: str, about: str, rows: Iterable[tuple[Sequence[str], float]], *labels: str) -> None:
        """One gauge; each row: the labels' values, and the number."""
        family = GaugeMetricFamily(f"kcloud_{name}", about, labels=labels)
        for values, number in rows:
            family.add_metric(values, number)
        self._families.append(family)

    def one(self, name: str, about: str, number: float) -> None:
        """A gauge without labels."""
        self.add(name, about, [((), number)])

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """For a registry."""
        return self._families


def counted() -> bytes:
    """What this process counted by itself; with PROMETHEUS_MULTIPROC_DIR, all that write there."""
    return generate_latest(_registry())


def serve(host: str, port: int) -> None:
    """Tell :func:`counted` over HTTP, from a thread of its own. Raises OSError where the port is taken."""
    start_http_server(port, host, registry=_registry())


def _registry() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client leaves it untyped
    return registry
