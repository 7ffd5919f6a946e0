"""What keeps the tables clean and the service's own project watched. Beat calls it; twice does no harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import CloudError
from shared.observability.logging import get_logger

if TYPE_CHECKING:
    from shared.db.uow import Database
    from shared.domain.ports import Cloud
    from shared.settings import EngineSettings

log = get_logger(__name__)

_BATCHES = 5


class Upkeep:
    """Retention, and the scope that exists before any job does."""

    def __init__(self, database: Database, cloud: Cloud, *, engine: EngineSettings) -> None:
        self._database = database
        self._cloud = cloud
        self._engine = engine

    def retain(self) -> dict[str, int]:
        """Drop what is past its keeping time, in bounded batches; how many rows went."""
        jobs = 0
        for _ in range(_BATCHES):
            with self._database.begin() as uow:
                gone = uow.jobs.forget_old(days=self._engine.job_retention_days)
            jobs += gone
            if not gone:
                break
        with self._database.begin() as uow:
            samples = uow.metrics.forget_old(days=self._engine.metrics_retention_days)
            samples += uow.series.forget_old(days=self._engine.metrics_retention_days)
        with self._database.begin() as uow:
            # What was found is of use for as long as jobs are kept; why something was deleted, for as long as the samples.
            looks = uow.cleanup.forget_old(
                verdict_days=self._engine.job_retention_days, step_days=self._engine.metrics_retention_days
            )
            saved = uow.savings.forget_old(days=self._engine.metrics_retention_days)
            deliveries = uow.webhooks.forget_old(days=self._engine.job_retention_days)
            plans = uow.plans.forget_old(days=self._engine.job_retention_days)
        counts = {"jobs": jobs, "samples": samples, "looks": looks, "deliveries": deliveries, "savings": saved, "plans": plans}
        if any(counts.values()):
            log.info("upkeep.retained", **counts)
        return counts

    def note_task(self, name: str) -> None:
        """One of beat's tasks was done; that it goes on is told at /metrics."""
        with self._database.begin() as uow:
            uow.series.note_task(name)

    def watch_own_project(self) -> None:
        """The service's own project is inventoried from the start, not only after its first job."""
        try:
            scope = self._cloud.own_scope()
        except CloudError as exc:
            log.warning("upkeep.no_own_project", reason=exc.reason, detail=exc.detail)
            return
        with self._database.begin() as uow:
            uow.scopes.ensure(scope)
