"""What a worker does with a stack's job, under the lease that :class:`~shared.services.runner.Runner` took."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.clusters import Phase
from shared.domain.jobs import Job, JobError, JobKind, JobState
from shared.domain.stacks import INTERCONNECT, ObservedStack, Stack
from shared.errors import CloudError
from shared.observability.logging import get_logger
from shared.services.hot import HotTemplate, HotTemplates
from shared.services.interconnect import document_for, member_of
from shared.services.stack_jobs import TIMEOUT_MINUTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.db.uow import Database
    from shared.domain.ports import Clock, Cloud, StackGateway
    from shared.settings import EngineSettings

log = get_logger(__name__)

_LOOK_AGAIN_S = 2.0
_BUSY_S = 3.0
_FIRST_LOOK_S = 1.0


class StackRunner:
    """Brings a stack's job one call further."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        templates: HotTemplates,
        clock: Clock,
        *,
        engine: EngineSettings,
        backoff_s: Callable[[int], float],
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._templates = templates
        self._clock = clock
        self._engine = engine
        self._backoff_s = backoff_s

    def step(self, job: Job, stack: Stack) -> Job:
        """One call, or the finding that there is none to make. Raises CloudError, and LeaseLost."""
        gateway = self._cloud.stacks(stack.scope)
        if job.kind is JobKind.CREATE_STACK:
            return self._create(job, stack, gateway)
        if job.kind is JobKind.DELETE_STACK:
            return self._delete(job, stack, gateway)
        return self._update(job, stack, gateway)

    # -- create -------------------------------------------------------------------------------------------------------

    def _create(self, job: Job, stack: Stack, gateway: StackGateway) -> Job:
        existing = gateway.get(stack.heat_name)
        if existing is not None:
            return self._created(job, stack, existing.id, step="adopted")
        if job.intent_at is not None and self._clock.now() - job.intent_at < timedelta(seconds=self._engine.lost_answer_grace_s):
            return self._later(job, _LOOK_AGAIN_S, "looking_for_lost_answer", forget_intent=False)
        if job.cancel_requested_at is not None:
            return self._end(job, stack, JobState.CANCELLED, reason=job.cancel_reason or "CANCELLED")
        template = self._template(stack)
        if isinstance(template, JobError):
            return self._end(job, stack, JobState.FAILED, error=template)
        text = self._document(stack, template)
        if not isinstance(text, str):
            return self._end(job, stack, JobState.FAILED, error=text)
        job = self._intend(job, None)
        made = gateway.create(stack.heat_name, text, stack.parameters, timeout_minutes=TIMEOUT_MINUTES)
        return self._created(job, stack, made, step="submitted")

    def _created(self, job: Job, stack: Stack, heat_id: str, *, step: str) -> Job:
        with self._database.begin() as uow:
            uow.scopes.wake(stack.scope, within_s=self._engine.tick_min_s)
            fresh = uow.stacks.by_id(stack.id, lock=True)
            uow.stacks.bind(stack.id, heat_id)
            now_job = uow.jobs.get(job.id)
            if now_job is not None and now_job.cancel_requested_at is not None:
                after = uow.jobs.finish(job, JobState.CANCELLED, result={"reason": now_job.cancel_reason, "heat_id": heat_id})
                uow.jobs.record([(job.id, "cancelled", after.state.value, {"heat_id": heat_id, "found": step})])
                return after
            after = uow.jobs.release_converging(job, look_after_s=_FIRST_LOOK_S)
            if fresh is not None and fresh.phase is Phase.PENDING:
                uow.stacks.set_phase(stack.id, Phase.PROVISIONING)
            uow.jobs.record([(job.id, step, after.state.value, {"heat_id": heat_id})])
        log.info("job.submitted", job_id=str(job.id), kind=job.kind.value, heat_id=heat_id)
        return after

    # -- update -------------------------------------------------------------------------------------------------------

    def _update(self, job: Job, stack: Stack, gateway: StackGateway) -> Job:
        if job.cancel_requested_at is not None and job.intent_at is None:
            return self._end(job, stack, JobState.CANCELLED, reason=job.cancel_reason or "CANCELLED")
        seen = gateway.get(stack.heat_id) if stack.heat_id else None
        if seen is None or seen.status.startswith("DELETE"):
            words = f"Heat shows no stack {stack.heat_name!r} that could be updated."
            return self._end(job, stack, JobState.FAILED, error=JobError("STACK_GONE", words))
        if seen.status.endswith("_IN_PROGRESS"):
            return self._later(job, _BUSY_S, f"waiting_for_{seen.status.lower()}", forget_intent=True)
        template = self._template(stack)
        if isinstance(template, JobError):
            return self._end(job, stack, JobState.FAILED, error=template)
        text = self._document(stack, template)
        if not isinstance(text, str):
            return self._end(job, stack, JobState.FAILED, error=text)
        job = self._intend(job, seen)
        gateway.update(seen.id, stack.heat_name, text, stack.parameters, timeout_minutes=TIMEOUT_MINUTES)
        return self._submitted(job, stack)

    # -- delete -------------------------------------------------------------------------------------------------------

    def _delete(self, job: Job, stack: Stack, gateway: StackGateway) -> Job:
        missed = self._missed(job)
        if missed is not None:
            return self._end(job, stack, JobState.FAILED, error=missed)
        seen = gateway.get(stack.heat_id or stack.heat_name)
        if seen is None or seen.status == "DELETE_COMPLETE":
            return self._deleted(job, stack)
        if stack.heat_id is None:
            with self._database.begin() as uow:
                uow.stacks.bind(stack.id, seen.id)
        if seen.status != "DELETE_IN_PROGRESS":
            job = self._intend(job, seen)
            gateway.delete(seen.id, stack.heat_name)
        return self._submitted(job, stack)

    def _missed(self, job: Job) -> JobError | None:
        """Why the job must not run: the cluster that uses the network is still there."""
        if job.after_id is None:
            return None
        with self._database.single() as uow:
            before = uow.jobs.get(job.after_id)
        if before is None or before.state is JobState.SUCCEEDED:
            return None
        words = f"The {before.kind} of cluster {before.cluster_name!r} {before.state}, so its network is still in use."
        return JobError("CLUSTER_NOT_DELETED", words, "Delete the cluster again: its network goes after it.")

    def _deleted(self, job: Job, stack: Stack) -> Job:
        with self._database.begin() as uow:
            uow.stacks.by_id(stack.id, lock=True)
            after = uow.jobs.finish(job, JobState.SUCCEEDED, result={"deleted": True, "existed": stack.first_seen_at is not None})
            uow.jobs.record([(job.id, "succeeded", "succeeded", {})])
            uow.stacks.mark_deleted(stack.id)
        return after

    # -- parts --------------------------------------------------------------------------------------------------------

    def _template(self, stack: Stack) -> HotTemplate | JobError:
        found = self._templates.get(stack.template)
        return found or JobError("TEMPLATE_GONE", f"The template {stack.template!r} is not shipped any more.")

    def _document(self, stack: Stack, template: HotTemplate) -> str | JobError:
        if template.name != INTERCONNECT:
            return template.text
        members = []
        with self._database.begin() as uow:
            for cluster_id, name in stack.members.items():
                cluster = uow.clusters.get(stack.project_id, cluster_id)
                if cluster is None:
                    return JobError(
                        "MEMBER_GONE", f"Cluster {name!r} does not exist any more.", "Update the connection without it."
                    )
                member = member_of(cluster, uow.stacks.of_clusters([cluster.id]).get(cluster.id))
                if isinstance(member, str):
                    return JobError("MEMBER_NOT_READY", member)
                members.append(member)
        return document_for(template, members)

    def _intend(self, job: Job, seen: ObservedStack | None) -> Job:
        stamp = seen.updated_at.isoformat() if seen and seen.updated_at else None
        baseline = {"status": seen.status if seen else None, "updated_at": stamp}
        with self._database.begin() as uow:
            return uow.jobs.declare_intent(job, ttl_s=self._engine.lease_ttl_s, baseline=baseline)

    def _submitted(self, job: Job, stack: Stack) -> Job:
        with self._database.begin() as uow:
            uow.scopes.wake(stack.scope, within_s=self._engine.tick_min_s)
            after = uow.jobs.release_converging(job, look_after_s=_FIRST_LOOK_S)
            uow.jobs.record([(job.id, "submitted", after.state.value, {"baseline": job.baseline})])
        log.info("job.submitted", job_id=str(job.id), kind=job.kind.value, heat_id=stack.heat_id)
        return after

    def _later(self, job: Job, after_s: float, step: str, *, forget_intent: bool) -> Job:
        if job.deadline_at is not None and self._clock.now() > job.deadline_at:
            error = JobError("DEADLINE", f"The job's time ran out while it was {step.replace('_', ' ')}.").as_dict()
            with self._database.begin() as uow:
                after = uow.jobs.finish(job, JobState.FAILED, error=error)
                uow.jobs.record([(job.id, "failed", "failed", error)])
            return after
        with self._database.begin() as uow:
            waited_for = uow.jobs.last_wait(job.id)
            after = uow.jobs.release_queued(job, after_s=after_s, step=step, forget_intent=forget_intent, count=False)
            if waited_for != step:
                uow.jobs.record([(job.id, step, after.state.value, {"after_s": round(after_s, 1)})])
        return after

    def _end(self, job: Job, stack: Stack, state: JobState, *, error: JobError | None = None, reason: str | None = None) -> Job:
        with self._database.begin() as uow:
            fresh = uow.stacks.by_id(stack.id, lock=True)
            words = error.as_dict() if error else None
            after = uow.jobs.finish(job, state, error=words, result={"reason": reason} if reason else None)
            uow.jobs.record([(job.id, state.value, state.value, words or {"reason": reason})])
            why = (error.reason, error.detail) if error else (reason or "CANCELLED", "It was cancelled before Heat was asked.")
            if job.kind is JobKind.CREATE_STACK and (fresh is None or fresh.heat_id is None):
                uow.stacks.never_made(stack.id, *why)
            elif error is not None:
                uow.stacks.set_phase(stack.id, Phase.FAILED, *why)
            else:
                uow.stacks.set_phase(stack.id, Phase.READY)
        return after

    def after_error(self, job: Job, stack: Stack, exc: CloudError) -> Job:
        """What follows from a call that went wrong: another try later, or the job's end."""
        used_up = job.attempts >= self._engine.max_attempts or (job.deadline_at is not None and self._clock.now() > job.deadline_at)
        error = JobError(exc.reason, exc.detail, exc.hint, exc.upstream_request_id, exc.upstream_status)
        lost_create = job.kind is JobKind.CREATE_STACK and exc.executed is None
        if (exc.retryable or exc.executed is None) and (lost_create or not used_up):
            wait = _LOOK_AGAIN_S if exc.executed is None else self._backoff_s(job.attempts)
            with self._database.begin() as uow:
                after = uow.jobs.release_queued(job, after_s=wait, step=exc.reason.lower(), forget_intent=exc.executed is False)
                detail = {**error.as_dict(), "after_s": round(wait, 1), "executed": exc.executed}
                uow.jobs.record([(job.id, "retry", after.state.value, detail)])
            return after
        return self._end(job, stack, JobState.FAILED, error=error)
