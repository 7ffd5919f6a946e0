"""The part of a tick that looks at stacks: one GET for each job that waits for one, or one list where they are many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shared.domain.clusters import Phase
from shared.domain.jobs import Job, JobKind, JobState
from shared.domain.lifecycle import Continue, Decision, Fail, Limits, Resubmit, Succeed, Wait
from shared.domain.stacks import ObservedStack, Stack, decide_stack, phase_of_stack
from shared.observability.metrics import JOBS_FINISHED

if TYPE_CHECKING:
    from datetime import datetime

    from shared.db.uow import Database
    from shared.domain.clusters import Scope
    from shared.domain.ports import Announcer, Clock, Cloud
    from shared.settings import EngineSettings

#: So many stacks are looked at by a list of all, because then it costs less than their GETs (about 25 ms each in Heat).
_MANY: Final = 8
_DUE_MAX: Final = 200
_LOOK_S: Final = (1.5, 30.0)


class StackWatch:
    """Moves stacks' jobs that have arrived."""

    def __init__(self, database: Database, cloud: Cloud, clock: Clock, announcer: Announcer, *, engine: EngineSettings) -> None:
        self._database = database
        self._cloud = cloud
        self._clock = clock
        self._announcer = announcer
        self._engine = engine

    def look(self, scope: Scope) -> int:
        """Look at the scope's stacks that are due; how many jobs moved. Raises CloudError where Heat does not answer."""
        with self._database.begin() as uow:
            due = uow.stacks.converging_due(scope, limit=_DUE_MAX)
        if not due:
            return 0
        gateway = self._cloud.stacks(scope)
        listed = {stack.id: stack for stack in gateway.listed()} if len(due) > _MANY else None
        moved = 0
        for job, stack in due:
            ref = stack.heat_id or stack.heat_name
            if listed is not None and ref in listed and listed[ref].status.endswith("_IN_PROGRESS"):
                seen: ObservedStack | None = listed[ref]
            else:  # the list has neither outputs nor what is deleted
                seen = gateway.get(ref)
            moved += self._settle(job, stack, seen, self._clock.now())
        return moved

    def _settle(self, job: Job, stack: Stack, seen: ObservedStack | None, at: datetime) -> int:
        limits = Limits(stall_s=self._engine.stall_s)
        decision = decide_stack(job, seen, seen_before=stack.first_seen_at is not None, now=at, limits=limits)
        row = self._row(job, stack, seen, decision, at)
        state = JobState(row["state"])
        with self._database.begin() as uow:
            fresh = uow.stacks.by_id(stack.id, lock=True)
            settled = uow.jobs.settle([row])
            if not settled or fresh is None:
                return 0
            (after,) = settled
            if seen is not None:
                active = job.kind if state in {JobState.CONVERGING, JobState.QUEUED} else None
                arrived = state is JobState.SUCCEEDED
                uow.stacks.observe(fresh, seen, at, phase_of_stack(seen, active), arrived=arrived)
            if state is JobState.CONVERGING:
                if row["progressed"] and seen is not None:
                    uow.jobs.record([(job.id, "observed", state.value, {"status": seen.status})])
                return 0
            step = after.step if state is JobState.QUEUED else state.value
            uow.jobs.record([(job.id, step, state.value, after.error or after.result or {})])
            uow.series.record_durations([job.id] if state is JobState.SUCCEEDED else [])
            if state is JobState.SUCCEEDED and job.kind is JobKind.DELETE_STACK:
                uow.stacks.mark_deleted(stack.id)
            elif state is JobState.FAILED:
                error = after.error or {}
                uow.stacks.set_phase(stack.id, Phase.FAILED, error.get("reason"), error.get("detail"))
        if after.is_terminal:
            JOBS_FINISHED.labels(job.kind.value, after.state.value, (after.error or {}).get("reason", "")).inc()
            self._announcer.finished(after)
        return 1

    def _row(self, job: Job, stack: Stack, seen: ObservedStack | None, decision: Decision, at: datetime) -> dict[str, Any]:
        age_s = (at - (job.submitted_at or job.created_at)).total_seconds()
        row: dict[str, Any] = {
            "id": job.id,
            "submitted_at": job.submitted_at,
            "state": JobState.CONVERGING.value,
            "step": None,
            "condition": None,
            "progressed": seen is not None and (seen.status, seen.status_reason) != (stack.status, stack.status_reason),
            "look_after_s": min(max(_LOOK_S[0], age_s / 8), _LOOK_S[1]),
            "result": None,
            "error": None,
        }
        match decision:
            case Wait(condition=condition):
                return row | {"condition": condition}
            case Succeed(result):
                return row | {"state": JobState.SUCCEEDED.value, "step": "succeeded", "result": result}
            case Fail(error):
                return row | {"state": JobState.FAILED.value, "step": "failed", "error": error.as_dict()}
            case Resubmit(reason) | Continue(reason):
                return row | {"state": JobState.QUEUED.value, "step": "resubmitted", "result": {"dropped": reason}}
