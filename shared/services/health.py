"""Is the service well, can it take requests, and what does it count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest

from shared.errors import KcloudError
from shared.observability.metrics import Figures, counted

if TYPE_CHECKING:
    from shared.db.gauges import GaugeRepository
    from shared.db.uow import Database
    from shared.domain.ports import Clock, Cloud

_PING_TTL_S = 5.0
#: For so long the figures of the database are told again: every API process is scraped, and some by two Prometheus servers.
_FIGURES_TTL_S = 1.0


class HealthService:
    """Answers for /health, /ready and /metrics. Broker and cloud are asked at most once in five seconds."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        clock: Clock,
        *,
        broker_ping: Callable[[], str],
        is_migrated: Callable[[], bool],
        power_budgets: Mapping[str, float],
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._clock = clock
        self._broker_ping = broker_ping
        self._is_migrated = is_migrated
        self._budgets = power_budgets
        self._held: tuple[dict[str, str], float] = ({}, 0.0)
        self._lock = threading.Lock()
        self._figures: tuple[bytes, float] = (b"", 0.0)
        self._reading = threading.Lock()
        self._migrated = False

    def health(self) -> tuple[bool, dict[str, Any]]:
        """State of every part. Well means: database, Keystone and Magnum answer (a broker that is away delays jobs)."""
        states = self._states()
        well = all(states.get(name) == "up" for name in ("database", "identity", "magnum"))
        services = dict(states)
        services["openstack"] = "up" if states.get("identity") == "up" else states.get("identity", "unknown")
        return well, {
            "status": "healthy" if well else "unhealthy",
            "timestamp": self._clock.now(),
            "services": services,
        }

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether requests can be taken: the database is there with the newest schema, and tokens can be checked."""
        database = self._database_state()
        states = self._states()
        checks = {
            "database": database,
            "schema": "current" if self._schema_is_current(database) else "not migrated",
            "identity": states.get("identity", "unknown"),
            "broker": states.get("broker", "unknown"),
        }
        fine = database == "up" and checks["schema"] == "current" and checks["identity"] == "up"
        return fine, {"ready": fine, "timestamp": self._clock.now(), "checks": checks}

    def metrics(self) -> bytes:
        """Prometheus text: what this host's processes counted, and the whole system's state from the database (at most a second old)."""
        with self._reading:  # whoever comes meanwhile is told the same
            told, until = self._figures
            if until <= time.monotonic():
                told = self._from_database()
                self._figures = (told, time.monotonic() + _FIGURES_TTL_S)
        return told + counted()

    def forget(self) -> None:
        """Let the next answer be read anew."""
        self._figures = (b"", 0.0)

    def _from_database(self) -> bytes:
        figures = Figures()
        with self._database.begin() as uow:
            jobs = [((kind, state), count) for kind, state, count in uow.jobs.counts()]
            figures.add("jobs", "Jobs by kind and state (ended ones: of the last day)", jobs, "kind", "state")
            figures.one(
                "queue_age_seconds", "How long the longest-waiting due job has waited for a worker", uow.jobs.oldest_due_s()
            )
            figures.add(
                "clusters", "Live clusters by phase", [((phase,), count) for phase, count in uow.clusters.counts()], "phase"
            )
            figures.one("jobs_stalled", "Converging jobs whose cluster shows no change", uow.jobs.stalled())
            figures.one("jobs_slow", "Converging jobs that take longer than nine in ten of their kind did", uow.gauges.slow_jobs())
            figures.one(
                "unsent_age_seconds", "How long the longest-waiting due job has waited for the relay", uow.gauges.unsent_s()
            )
            self._system(figures, uow.gauges)
        registry = CollectorRegistry()
        registry.register(figures)
        return generate_latest(registry)

    def _system(self, figures: Figures, found: GaugeRepository) -> None:
        draws = found.draws()
        watts = [((d.project_id,), d.watts) for d in draws]
        figures.add("project_watts", "Watts of a project's clusters, latest samples", watts, "project_id")
        told = [((d.project_id,), d.cost_per_hour) for d in draws]
        figures.add("project_cost_per_hour", "Cost per hour of a project's clusters, latest samples", told, "project_id")
        drawn, measured = found.drawn()
        figures.one("watts", "Watts of all clusters, latest samples", drawn)
        figures.one("measured_watts", "Watts of clusters whose draw is measured, in whole or in part", measured)
        limits = [((scope,), watts) for scope, watts in self._budgets.items()]
        figures.add("power_budget_watts", "Watts that may be drawn at most, by setting", limits, "scope")
        meters = found.meters()
        for name, about, place in (
            ("meter_up", "1: the source of measurements answered last time", 2),
            ("meter_age_seconds", "Since the source last answered as a whole", 3),
            ("meter_samples", "Samples of the source's last answer", 4),
            ("meter_findings", "Kinds of values that were left out of it", 5),
        ):
            figures.add(name, about, [((m[0], m[1]), float(m[place])) for m in meters], "region", "source")
        for name, about, label, counts in (
            ("webhook_deliveries", "Deliveries to webhooks (ended ones: of the last day)", "state", found.deliveries()),
            ("plans", "Plans of consolidation", "state", found.plans()),
            ("cleanup_clusters", "Clusters that cleanup takes for idle", "stage", found.cleanup()),
        ):
            figures.add(name, about, [((key,), count) for key, count in counts], label)
        figures.one("placements", "Placements that hold something", found.placements())
        figures.one("webhook_late_seconds", "How long the longest-waiting delivery is past its time", found.oldest_delivery_s())
        figures.one("tick_late_seconds", "How long the most overdue look at a project is past its time", found.late_tick_s())
        figures.one("inventory_late_seconds", "The same of inventories", found.late_inventory_s())
        ages = [((name,), age) for name, age in found.periodic()]
        figures.add("periodic_age_seconds", "Since beat's task was last done", ages, "task")
        turns = [((name,), age) for name, age in found.turns()]
        figures.add("turn_age_seconds", "Since the project that waits longest had its turn", turns, "task")

    def _states(self) -> dict[str, str]:
        with self._lock:
            held, until = self._held
            if until > time.monotonic():
                return held
            states = {"database": self._database_state(), "broker": self._broker_ping()}
            states |= self._cloud.ping()
            self._held = (states, time.monotonic() + _PING_TTL_S)
            return states

    def _database_state(self) -> str:
        try:
            with self._database.single() as uow:
                uow.jobs.now()
        except KcloudError as exc:
            return exc.detail
        return "up"

    def _schema_is_current(self, database: str) -> bool:
        if not self._migrated and database == "up":
            self._migrated = self._is_migrated()
        return self._migrated
