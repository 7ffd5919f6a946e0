"""What a worker does with a job it was pointed at: take the lease, look, make the one call, write, be free.

Between the look and the call stands a mark in the row (``intent_at``): whoever finds the mark later knows that the call may
have been made, and looks for its effect until a grace has passed, instead of making it again.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from shared.domain.clusters import (
    LABEL_CLUSTER,
    LABEL_JOB,
    Cluster,
    ClusterSpec,
    MagnumStatus,
    ObservedCluster,
    Phase,
    Scope,
)
from shared.domain.jobs import Job, JobError, JobKind, JobState
from shared.domain.lifecycle import baseline_of
from shared.domain.ports import Announcer, Clock, Cloud, CloudGateway
from shared.domain.reasons import classify
from shared.errors import CloudBeingWritten, CloudError, CloudRejected, CloudThrottled, CloudTimeout, LeaseLost, Unavailable
from shared.observability.logging import bound, get_logger
from shared.observability.metrics import JOBS_FINISHED
from shared.services.hot import HotTemplates
from shared.services.sizing import Call, after_end, next_call
from shared.services.stack_jobs import drop_network
from shared.services.stack_runner import StackRunner
from shared.services.templates import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.db.uow import Database
    from shared.domain.stacks import Stack
    from shared.settings import EngineSettings

log = get_logger(__name__)

#: How soon to look again for a create whose answer was lost, and at a cluster that is busy.
_LOOK_AGAIN_S = 2.0
_BUSY_S = 5.0
_FIRST_LOOK_S = {JobKind.CREATE: 45.0, JobKind.DELETE: 2.0}
_FIRST_LOOK_OF_CHANGE_S = 20.0


class Runner:
    """Runs jobs' calls. One instance serves all threads of a worker."""

    def __init__(
        self,
        database: Database,
        cloud: Cloud,
        clock: Clock,
        announcer: Announcer,
        *,
        engine: EngineSettings,
        owner: str,
        backoff_s: Callable[[int], float],
        templates: HotTemplates | None = None,
        decisions: Mapping[JobKind, Callable[[Job], Job]] | None = None,
    ) -> None:
        self._database = database
        self._cloud = cloud
        self._clock = clock
        self._announcer = announcer
        self._engine = engine
        self._owner = owner
        self._backoff_s = backoff_s
        self._decisions = dict(decisions or {})
        self._stacks = StackRunner(database, cloud, templates or HotTemplates(), clock, engine=engine, backoff_s=backoff_s)

    def run(self, job_id: UUID) -> Job | None:
        """Take the job if it is due and free, and bring it one call further; None where there was nothing to take."""
        with self._database.begin() as uow:
            job = uow.jobs.claim(job_id, owner=self._owner, token=uuid4(), ttl_s=self._engine.lease_ttl_s)
            if job is None:
                return None
            cluster = uow.clusters.by_id(job.cluster_id) if job.cluster_id else None
            stack = uow.stacks.by_id(job.stack_id) if job.stack_id else None
            uow.scopes.ensure(Scope(job.region, job.project_id))
        # Every line that is written meanwhile, whoever writes it, leads back to the request.
        with bound(job_id=job.id, cluster_id=job.cluster_id, request_id=job.request_id):
            return self._further(job, cluster, stack)

    def _further(self, job: Job, cluster: Cluster | None, stack: Stack | None) -> Job | None:
        after = None
        if job.kind in self._decisions:
            log.info("job.claimed", kind=job.kind.value, attempt=job.attempts)
            after = self._decided(job)
        elif cluster is not None:
            log.info("job.claimed", kind=job.kind.value, cluster=cluster.name, attempt=job.attempts)
            after = self._guarded(job, lambda: self._step(job, cluster), lambda exc: self._after_error(job, cluster, exc))
        elif stack is not None:  # the table's check sees to it that a job has one of the two
            log.info("job.claimed", kind=job.kind.value, stack=stack.name, attempt=job.attempts)
            after = self._guarded(job, lambda: self._stacks.step(job, stack), lambda exc: self._stacks.after_error(job, stack, exc))
        if after is not None and after.is_terminal:
            JOBS_FINISHED.labels(after.kind.value, after.state.value, (after.error or {}).get("reason", "")).inc()
            self._announcer.finished(after)
        return after

    def _decided(self, job: Job) -> Job | None:
        """A job that needs no cluster of its own. What does not answer now may do so later."""
        try:
            try:
                return self._decisions[job.kind](job)
            except Unavailable as exc:
                error = JobError(exc.reason, exc.detail, exc.hint).as_dict()
            except CloudError as exc:
                error = _error_of(exc, job.kind).as_dict()
            with self._database.begin() as uow:
                if self._is_used_up(job):
                    after = uow.jobs.finish(job, JobState.FAILED, error=error)
                else:
                    after = uow.jobs.release_queued(job, after_s=self._backoff_s(job.attempts), step="retry", forget_intent=True)
                uow.jobs.record([(job.id, after.step, after.state.value, error)])
        except LeaseLost:
            log.warning("job.lease_lost", job_id=str(job.id))
            return None
        return after

    def _guarded(self, job: Job, step: Callable[[], Job], after_error: Callable[[CloudError], Job]) -> Job | None:
        try:
            try:
                return step()
            except CloudError as exc:
                log.warning(
                    "job.cloud_error",
                    job_id=str(job.id),
                    kind=job.kind.value,
                    reason=exc.reason,
                    detail=exc.detail,
                    upstream_request_id=exc.upstream_request_id,
                    executed=exc.executed,
                )
                return after_error(exc)
        except LeaseLost:
            log.warning("job.lease_lost", job_id=str(job.id))
            return None

    def _step(self, job: Job, cluster: Cluster) -> Job:
        gateway = self._cloud.gateway(cluster.scope)
        if job.kind is JobKind.CREATE:
            return self._create(job, cluster, gateway)
        if job.kind is JobKind.DELETE:
            return self._delete(job, cluster, gateway)
        return self._change(job, cluster, gateway)

    # -- create ---------------------------------------------------------------------------------------------------

    def _create(self, job: Job, cluster: Cluster, gateway: CloudGateway) -> Job:
        name = cluster.magnum_name or cluster.name
        existing = self._find(gateway, name, cluster.scope)
        if existing is not None:
            return self._created(job, cluster, existing.uuid, adopted=True)
        if job.intent_at is not None and self._within_grace(job):
            return self._later(job, _LOOK_AGAIN_S, "looking_for_lost_answer", forget_intent=False, count=False)
        if job.cancel_requested_at is not None:
            return self._end_unmade(job, cluster, JobState.CANCELLED, None, job.cancel_reason or "CANCELLED")
        if job.intent_at is not None and self._is_used_up(job):
            error = self._last_error(job)
            return self._end_unmade(job, cluster, JobState.FAILED, error, str(error["reason"]))
        network = self._network_of(job, cluster)
        if isinstance(network, JobError):
            return self._end_unmade(job, cluster, JobState.FAILED, network.as_dict(), network.reason)
        template = cluster.template_id
        if not template:
            template = ensure(gateway, job.params["template"])
            with self._database.begin() as uow:
                uow.clusters.set_template(cluster.id, template, job.params["template"]["name"])
        spec = ClusterSpec(
            name=name,
            template=template,
            node_count=job.params.get("node_count", cluster.node_count),
            master_count=cluster.master_count,
            keypair=cluster.keypair,
            labels={**cluster.labels, LABEL_JOB: str(job.id), LABEL_CLUSTER: str(cluster.id)},
            options=cluster.options | network,
        )
        job = self._intend(job, {})
        uuid = gateway.create(spec)
        return self._created(job, cluster, uuid, adopted=False)

    def _network_of(self, job: Job, cluster: Cluster) -> dict[str, str] | JobError:
        """The options that put a cluster into the network made for it; why there is none where that failed."""
        if cluster.network_stack_id is None:
            return {}
        with self._database.begin() as uow:
            stack = uow.stacks.by_id(cluster.network_stack_id)
            before = uow.jobs.get(job.after_id) if job.after_id else None
        if before is not None and before.state is not JobState.SUCCEEDED:
            error = before.error or {"detail": f"its job {before.state}", "reason": before.cancel_reason or before.state.value}
            words = f"The cluster's network was not made: {error['detail']}"
            return JobError("NETWORK_FAILED", words, f"The history of job {before.id} has the whole of it.")
        outputs = stack.outputs if stack is not None else {}
        if not (outputs.get("network_id") and outputs.get("subnet_id")):
            return JobError("NETWORK_FAILED", "The cluster's network does not tell its network_id and subnet_id.")
        return {"fixed_network": str(outputs["network_id"]), "fixed_subnet": str(outputs["subnet_id"])}

    def _created(self, job: Job, cluster: Cluster, uuid: str, *, adopted: bool) -> Job:
        with self._database.begin() as uow:
            uow.scopes.wake(cluster.scope, within_s=self._engine.tick_min_s)
            fresh = uow.clusters.by_id(cluster.id, lock=True)
            uow.clusters.bind(cluster.id, uuid)
            step = "adopted" if adopted else "submitted"
            now_job = uow.jobs.get(job.id)
            if now_job is not None and now_job.cancel_requested_at is not None:
                after = uow.jobs.finish(job, JobState.CANCELLED, result={"reason": now_job.cancel_reason, "magnum_uuid": uuid})
                uow.jobs.record([(job.id, "cancelled", after.state.value, {"magnum_uuid": uuid, "found": step})])
                return after
            after = uow.jobs.release_converging(job, look_after_s=_FIRST_LOOK_S[JobKind.CREATE])
            if fresh is not None and fresh.phase is Phase.PENDING:
                uow.clusters.set_phase(cluster.id, Phase.PROVISIONING)
            uow.jobs.record([(job.id, step, after.state.value, {"magnum_uuid": uuid})])
        log.info("job.submitted", job_id=str(job.id), kind="create", magnum_uuid=uuid, adopted=adopted)
        return after

    def _end_unmade(self, job: Job, cluster: Cluster, state: JobState, error: Mapping[str, object] | None, reason: str) -> Job:
        with self._database.begin() as uow:
            uow.clusters.by_id(cluster.id, lock=True)
            if state is JobState.FAILED:
                uow.clusters.never_made(cluster.id, reason, str((error or {}).get("detail", "")))
            after = uow.jobs.finish(job, state, error=error, result=None if error else {"reason": reason})
            uow.jobs.record([(job.id, state.value, state.value, dict(error or {"reason": reason}))])
            drop_network(uow, cluster, after, self._clock.now())  # nobody will use it
        return after

    # -- changes of a cluster that exists -------------------------------------------------------------------------

    def _change(self, job: Job, cluster: Cluster, gateway: CloudGateway) -> Job:
        if cluster.magnum_uuid is None:
            words = cluster.reason_detail or "The cluster was never made."
            return self._fail(job, cluster, JobError(cluster.reason or "CLUSTER_NOT_MADE", words), touch_phase=False)
        if job.cancel_requested_at is not None and job.intent_at is None:
            return self._end_cancelled(job)
        observed = gateway.get(cluster.magnum_uuid)
        if observed is None:
            if cluster.first_seen_at is None and self._within(cluster.created_at, timedelta(minutes=5)):
                return self._later(job, _BUSY_S, "waiting_to_appear", forget_intent=True, count=False)
            return self._fail(job, cluster, JobError("CLUSTER_GONE", "Magnum has no such cluster any more."))
        status = observed.status
        if status in {MagnumStatus.CREATE_FAILED, MagnumStatus.DELETE_IN_PROGRESS, MagnumStatus.DELETE_FAILED}:
            words = f"Magnum does not change a cluster in {observed.raw_status}. {observed.status_reason or ''}".strip()
            return self._fail(job, cluster, JobError(observed.raw_status, words), touch_phase=False)
        if status.in_progress or status is MagnumStatus.UNKNOWN:
            # Magnum accepts a change now and drops it without a word: wait.
            return self._later(job, _BUSY_S, f"waiting_for_{observed.raw_status.lower()}", forget_intent=True, count=False)
        if job.kind is JobKind.UPGRADE:
            return self._upgrade(job, cluster, gateway, observed)
        return self._resize_now(job, cluster, gateway, observed)

    def _resize_now(self, job: Job, cluster: Cluster, gateway: CloudGateway, observed: ObservedCluster) -> Job:
        groups = gateway.node_groups(observed.uuid, detailed=job.kind is JobKind.HIBERNATE)
        call = next_call(job, groups, remembered=cluster.hibernated_sizes)
        if isinstance(call, JobError):
            return self._fail(job, cluster, call, touch_phase=False)
        if call.sizes is not None:
            with self._database.begin() as uow:
                uow.clusters.remember_sizes(cluster.id, call.sizes)
        if call.nothing and observed.status.complete and job.intent_at is None:
            return self._nothing_to_do(job, cluster, call)
        if call.spec is not None and job.intent_at is not None and self._within_grace(job):
            return self._later(job, _LOOK_AGAIN_S, "looking_for_lost_answer", forget_intent=False, count=False)
        job = self._intend(job, baseline_of(observed))
        if not call.nothing:
            call.make(gateway, observed.uuid)
        return self._submitted(job, cluster, call.params)

    def _nothing_to_do(self, job: Job, cluster: Cluster, call: Call) -> Job:
        with self._database.begin() as uow:
            uow.clusters.by_id(cluster.id, lock=True)
            result = {"node_count": call.params["target_total"], "changed": False}
            after = uow.jobs.finish(job, JobState.SUCCEEDED, result=result)
            uow.jobs.record([(job.id, "succeeded", "succeeded", {"changed": False})])
            after_end(uow, [after])
            uow.clusters.set_phase(cluster.id, Phase.HIBERNATED if job.kind is JobKind.HIBERNATE else Phase.READY)
        return after

    def _upgrade(self, job: Job, cluster: Cluster, gateway: CloudGateway, observed: ObservedCluster) -> Job:
        if not job.params["template_id"]:
            made = {"template_id": ensure(gateway, job.params["template"]), "template_name": job.params["template"]["name"]}
            with self._database.begin() as uow:
                job = uow.jobs.keep_params(job, {**job.params, **made})
        job = self._intend(job, baseline_of(observed))
        gateway.upgrade(
            observed.uuid,
            job.params["template_id"],
            max_batch_size=job.params["max_batch_size"],
            node_group=job.params.get("node_group"),
        )
        return self._submitted(job, cluster, job.params)

    # -- delete ---------------------------------------------------------------------------------------------------

    def _delete(self, job: Job, cluster: Cluster, gateway: CloudGateway) -> Job:
        uuid = cluster.magnum_uuid
        if uuid is None:
            found = self._find(gateway, cluster.magnum_name, cluster.scope) if cluster.magnum_name else None
            if found is None:
                return self._deleted(job, cluster, existed=False)
            uuid = found.uuid
            with self._database.begin() as uow:
                uow.clusters.bind(cluster.id, uuid)
        observed = gateway.get(uuid)
        if observed is None:
            if cluster.first_seen_at is None and self._within(cluster.updated_at, timedelta(seconds=60)):
                # Accepted moments ago and never seen yet: the conductor may be about to write it.
                return self._later(job, _LOOK_AGAIN_S, "waiting_to_appear", forget_intent=True, count=False)
            return self._deleted(job, cluster, existed=cluster.first_seen_at is not None)
        if observed.status is not MagnumStatus.DELETE_IN_PROGRESS:
            job = self._intend(job, baseline_of(observed))
            gateway.delete(uuid)
        return self._submitted(job, cluster, job.params, seen=observed)

    def _deleted(self, job: Job, cluster: Cluster, *, existed: bool) -> Job:
        with self._database.begin() as uow:
            uow.clusters.by_id(cluster.id, lock=True)
            after = uow.jobs.finish(job, JobState.SUCCEEDED, result={"deleted": True, "existed": existed})
            uow.jobs.record([(job.id, "succeeded", "succeeded", {"existed": existed})])
            uow.usage.close([cluster.id])
            uow.clusters.mark_deleted([cluster.id])
        return after

    # -- parts ----------------------------------------------------------------------------------------------------

    def _intend(self, job: Job, baseline: Mapping[str, object]) -> Job:
        with self._database.begin() as uow:
            return uow.jobs.declare_intent(job, ttl_s=self._engine.lease_ttl_s, baseline=baseline)

    def _submitted(self, job: Job, cluster: Cluster, params: Mapping[str, object], *, seen: ObservedCluster | None = None) -> Job:
        with self._database.begin() as uow:
            uow.scopes.wake(cluster.scope, within_s=self._engine.tick_min_s)
            uow.clusters.by_id(cluster.id, lock=True)
            if seen is not None:
                uow.clusters.seen(cluster.id, seen.raw_status)
            after = uow.jobs.release_converging(
                job, look_after_s=_FIRST_LOOK_S.get(job.kind, _FIRST_LOOK_OF_CHANGE_S), params=params
            )
            uow.jobs.record([(job.id, "submitted", after.state.value, {"baseline": job.baseline})])
        log.info("job.submitted", job_id=str(job.id), kind=job.kind.value, magnum_uuid=cluster.magnum_uuid)
        return after

    def _later(self, job: Job, after_s: float, step: str, *, forget_intent: bool, count: bool = True) -> Job:
        if self._is_late(job) and job.kind is not JobKind.CREATE:  # a create may have left a cluster: it looks to the end
            error = JobError("DEADLINE", f"The job's time ran out while it was {step.replace('_', ' ')}.").as_dict()
            with self._database.begin() as uow:
                after = uow.jobs.finish(job, JobState.FAILED, error=error)
                uow.jobs.record([(job.id, "failed", "failed", error)])
                after_end(uow, [after])
            return after
        with self._database.begin() as uow:
            waited_for = uow.jobs.last_wait(job.id)
            after = uow.jobs.release_queued(job, after_s=after_s, step=step, forget_intent=forget_intent, count=count)
            if waited_for != step:  # a wait of many looks is one step of the history
                uow.jobs.record([(job.id, step, after.state.value, {"after_s": round(after_s, 1)})])
        return after

    def _end_cancelled(self, job: Job) -> Job:
        with self._database.begin() as uow:
            after = uow.jobs.finish(job, JobState.CANCELLED, result={"reason": job.cancel_reason})
            uow.jobs.record([(job.id, "cancelled", "cancelled", {"reason": job.cancel_reason})])
        return after

    def _fail(self, job: Job, cluster: Cluster, error: JobError, *, touch_phase: bool = True) -> Job:
        with self._database.begin() as uow:
            uow.clusters.by_id(cluster.id, lock=True)
            after = uow.jobs.finish(job, JobState.FAILED, error=error.as_dict())
            uow.jobs.record([(job.id, "failed", "failed", error.as_dict())])
            after_end(uow, [after])
            if touch_phase:
                uow.clusters.set_phase(cluster.id, Phase.FAILED, error.reason, error.detail)
        log.info("job.failed", job_id=str(job.id), kind=job.kind.value, reason=error.reason)
        return after

    def _after_error(self, job: Job, cluster: Cluster, exc: CloudError) -> Job:
        if exc.retryable or exc.executed is None:
            return self._retry(job, cluster, exc)
        return self._refused(job, cluster, exc)

    def _retry(self, job: Job, cluster: Cluster, exc: CloudError) -> Job:
        # A create whose answer was lost may have made a cluster: its last attempt looks for that first (see _create).
        if self._is_used_up(job) and (exc.executed is not None or job.kind is not JobKind.CREATE):
            return self._refused(job, cluster, exc)
        wait = self._backoff_s(job.attempts)
        if isinstance(exc, CloudThrottled) and exc.retry_after_s:
            wait = max(wait, exc.retry_after_s)
        if exc.executed is None or isinstance(exc, CloudBeingWritten):
            wait = _LOOK_AGAIN_S
        with self._database.begin() as uow:
            after = uow.jobs.release_queued(job, after_s=wait, step=exc.reason.lower(), forget_intent=exc.executed is False)
            detail = {**_error_of(exc, job.kind).as_dict(), "after_s": round(wait, 1), "executed": exc.executed}
            uow.jobs.record([(job.id, "retry", after.state.value, detail)])
        return after

    def _refused(self, job: Job, cluster: Cluster, exc: CloudError) -> Job:
        error = _error_of(exc, job.kind)
        if job.kind is JobKind.CREATE and cluster.magnum_uuid is None:
            return self._end_unmade(job, cluster, JobState.FAILED, error.as_dict(), error.reason)
        # The cluster is as it was: what it is, inventory and ticks say. Only the wish failed.
        return self._fail(job, cluster, error, touch_phase=job.kind is JobKind.DELETE)

    def _find(self, gateway: CloudGateway, name: str, scope: Scope) -> ObservedCluster | None:
        """The cluster of this name; of twins (two workers' creates were executed) one, and inventory removes the others."""
        try:
            return gateway.find(name)
        except CloudRejected as exc:
            if exc.reason != "CLOUD_CONFLICT":
                raise
        until = time.monotonic() + self._engine.tick_budget_s
        marker: str | None = None
        while time.monotonic() < until:
            items = gateway.page(limit=self._engine.page_size, marker=marker, newest_first=True)
            for item in items:
                if item.name == name and item.project_id in {None, scope.project_id}:
                    return item
            if len(items) < self._engine.page_size:
                return None
            marker = items[-1].uuid
        msg = f"Several clusters in Magnum are named {name!r}, and its lists are too long to find them in time."
        raise CloudTimeout(msg)

    def _last_error(self, job: Job) -> Mapping[str, object]:
        with self._database.single() as uow:
            known = uow.jobs.last_error(job.id)
        return known or JobError("DEADLINE", "The job's time ran out before Magnum showed a cluster of it.").as_dict()

    def _is_used_up(self, job: Job) -> bool:
        return job.attempts >= self._engine.max_attempts or self._is_late(job)

    def _is_late(self, job: Job) -> bool:
        return job.deadline_at is not None and self._clock.now() > job.deadline_at

    def _within_grace(self, job: Job) -> bool:
        return job.intent_at is not None and self._within(job.intent_at, timedelta(seconds=self._engine.lost_answer_grace_s))

    def _within(self, since: datetime, span: timedelta) -> bool:
        return self._clock.now() - since < span


def _error_of(exc: CloudError, kind: JobKind) -> JobError:
    reason, hint = exc.reason, exc.hint
    if isinstance(exc, CloudRejected) and exc.reason == "CLOUD_REJECTED":
        known = classify(kind, exc.detail)
        if known.hint and known.reason not in {"CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED"}:
            reason, hint = known.reason, known.hint
    return JobError(reason, exc.detail, hint, exc.upstream_request_id, exc.upstream_status)
