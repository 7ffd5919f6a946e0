"""Our own Prometheus metrics: what each process counts by itself.

What is true of the whole system (jobs by state, queue age) is read from the database when asked, so that the answer does
not depend on which process answers.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

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
