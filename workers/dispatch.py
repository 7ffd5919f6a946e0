"""Hints into the broker (the port ``Dispatcher``)."""

from celery import Celery
from kombu.exceptions import KombuError
from redis import RedisError

from shared.domain.clusters import Scope
from shared.domain.jobs import DECISIONS, Job
from shared.errors import Unavailable
from shared.observability.broker import BrokerProbe
from workers.app import JOBS, TICKS


class CeleryDispatcher:
    """Sends tasks, each once: what does not get through is sent again by the relay's next pass."""

    def __init__(self, app: Celery, probe: BrokerProbe) -> None:
        self._app = app
        self._probe = probe

    def waiting(self) -> int:
        """How many hints about jobs wait in the broker."""
        return self._probe.length(JOBS)

    def send_job(self, job: Job) -> None:
        """The task's id is the job's, so Flower shows one row per job however often it is sent."""
        # Shown in Flower: names and ids, nothing else.
        what = "workload" if job.kind in DECISIONS else "stack" if job.stack_id else "cluster"
        named = {what: job.cluster_name}
        self._send(f"jobs.{job.kind}", JOBS, [str(job.id)], named, task_id=str(job.id))

    def send_tick(self, scope: Scope) -> None:
        """A convergence tick."""
        self._send("ticks.converge", TICKS, [scope.region, scope.project_id], {})

    def send_inventory(self, scope: Scope) -> None:
        """A slice of the inventory."""
        self._send("ticks.inventory", TICKS, [scope.region, scope.project_id], {})

    def _send(self, name: str, queue: str, args: list[str], kwargs: dict[str, str | None], task_id: str | None = None) -> None:
        try:
            self._app.send_task(name, args=args, kwargs=kwargs, task_id=task_id, queue=queue, retry=False, ignore_result=True)
        except (KombuError, RedisError, OSError) as exc:
            msg = f"The broker does not take messages: {exc}"
            raise Unavailable(msg, reason="BROKER_UNAVAILABLE") from exc
