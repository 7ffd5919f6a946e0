"""Sends hints: jobs whose turn has come and scopes whose look is due. It may run nowhere, once or many times.

Rows are marked as sent in one transaction and sent after it. A crash in between, or a broker that loses everything, costs
``redispatch_s``; a hint sent twice finds nothing to claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.clusters import Phase
from shared.domain.ports import Announcer, Dispatcher
from shared.errors import Unavailable
from shared.observability.logging import get_logger
from shared.services.sizing import after_end

if TYPE_CHECKING:
    from shared.db.uow import Database
    from shared.settings import EngineSettings

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sent:
    """What one pass sent. ``more`` says that another pass would find more to do now."""

    jobs: int = 0
    ticks: int = 0
    inventories: int = 0
    more: bool = False
    next_due_s: float | None = None  #: when the next tick is due


class Relay:
    """One pass at a time; see :meth:`dispatch`."""

    def __init__(self, database: Database, dispatcher: Dispatcher, announcer: Announcer, *, engine: EngineSettings) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._announcer = announcer
        self._engine = engine

    def dispatch(self) -> Sent:
        """Take back jobs of dead workers, then send what is due. Raises Unavailable where database or broker is away."""
        engine = self._engine
        room = max(engine.dispatch_window - self._dispatcher.waiting(), 0)
        with self._database.begin() as uow:
            lost = uow.jobs.reclaim_expired(max_crashes=engine.max_crashes)
            for job in lost:
                if job.is_terminal:
                    if job.stack_id is not None:
                        error = job.error or {}
                        uow.stacks.set_phase(job.stack_id, Phase.FAILED, error.get("reason"), error.get("detail"))
                    else:
                        uow.clusters.job_failed(job)
                        after_end(uow, [job])
        with self._database.begin() as uow:
            jobs = uow.jobs.take_due(limit=room, again_after_s=engine.redispatch_s) if room else []
            ticks = uow.scopes.take_due(again_after_s=engine.redispatch_s)
            inventories = uow.scopes.take_due_inventories(again_after_s=engine.redispatch_s)
            next_due_s = uow.scopes.next_due_s()
        for job in lost:
            log.warning("job.lease_expired", job_id=str(job.id), kind=job.kind.value, crashes=job.crashes)
            if job.is_terminal:
                self._announcer.finished(job)
        try:
            for scope in ticks:
                self._dispatcher.send_tick(scope)
            for scope in inventories:
                self._dispatcher.send_inventory(scope)
            for job in jobs:
                self._dispatcher.send_job(job)
        except Unavailable:
            # All are due again at once; those that did get through find nothing to claim the second time.
            with self._database.begin() as uow:
                uow.jobs.untake([job.id for job in jobs])
                for scope in {*ticks, *inventories}:
                    uow.scopes.untake(scope)
            raise
        return Sent(len(jobs), len(ticks), len(inventories), more=bool(jobs) and len(jobs) == room, next_due_s=next_due_s)
