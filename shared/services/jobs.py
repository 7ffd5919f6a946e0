"""What callers ask of jobs: follow them, wait for them, cancel them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from shared.domain.clusters import Cluster, Phase
from shared.domain.jobs import DECISIONS, OF_STACKS, SIZING, Job, JobEvent, JobKind, JobState
from shared.domain.ports import Actor, JobFilter, Page
from shared.errors import Conflict, FieldError, InvalidRequest, NotFound
from shared.services.clusters import ClusterService, as_marker
from shared.services.sizing import take_back
from shared.services.stack_jobs import delete_stack_within, drop_network, stack_job

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork

#: Seconds that a job of each kind takes where nothing was recorded yet (FACTS.md, B10: "5-10 minutes" is the usual answer).
_USUAL_S = {JobKind.CREATE: 300.0, JobKind.DELETE: 120.0, JobKind.UPGRADE: 900.0}
_USUAL_OF_CHANGE_S = 180.0
_POLL_S = (0.05, 0.5)


class JobService:
    """Jobs of the actor's project."""

    def __init__(self, database: Database, clusters: ClusterService, *, nudge: Callable[[], None]) -> None:
        self._database = database
        self._clusters = clusters
        self._nudge = nudge
        self._expected: dict[tuple[str, str], tuple[float, float]] = {}

    def get(self, actor: Actor, job_id: UUID) -> Job:
        """One job."""
        with self._database.single() as uow:
            job = uow.jobs.get(job_id, actor.project_id)
        if job is None:
            raise _no_job(job_id)
        return job

    def events(self, actor: Actor, job_id: UUID, after_seq: int = 0) -> list[JobEvent]:
        """Its history, oldest first, after the event ``after_seq``."""
        self.get(actor, job_id)
        with self._database.single() as uow:
            return uow.jobs.events(job_id, after_seq)

    def wait(self, actor: Actor, job_id: UUID, seconds: float) -> Job:
        """The job once it has ended, or as it is after ``seconds``."""
        until = time.monotonic() + seconds
        pause = _POLL_S[0]
        while True:
            job = self.get(actor, job_id)
            left = until - time.monotonic()
            if job.is_terminal or left <= 0:
                return job
            time.sleep(min(pause, left))
            pause = min(pause * 1.3, _POLL_S[1])

    def retry_after(self, job: Job) -> int:
        """Whole seconds after which looking again makes sense: a tenth of what such jobs take, from 1 to 30."""
        held = self._expected.get((job.region, job.kind))
        if held is None or held[1] < time.monotonic():
            with self._database.single() as uow:
                known = uow.series.expected_any_s(job.region, job.kind.value)
            held = (known if known is not None else _USUAL_S.get(job.kind, _USUAL_OF_CHANGE_S), time.monotonic() + 60.0)
            self._expected[(job.region, job.kind)] = held
        return int(min(max(held[0] / 10, 1), 30))

    def cancel(self, actor: Actor, job_id: UUID) -> Job:
        """Withdraw a job: at once while it waits, else at its next safe point.

        A create that Magnum already works on is undone by a delete of its cluster. A resize or delete that Magnum already
        works on can't be called back: :class:`Conflict`.
        """
        job = self.get(actor, job_id)
        if job.kind in OF_STACKS:
            return self._cancel_stack(actor, job)
        if job.kind in DECISIONS:
            return self._cancel_decision(job)
        with self._database.begin() as uow:
            cluster = uow.clusters.by_id(job.of_cluster, lock=True)
            fresh = uow.jobs.get(job_id, actor.project_id)
            if cluster is None or fresh is None:
                raise _no_job(job_id)
            if fresh.state is JobState.CANCELLED or (fresh.cancel_requested_at and not fresh.is_terminal):
                return fresh
            _refuse(fresh)
            cancelled = uow.jobs.cancel_one(job_id, reason="CANCELLED_BY_CALLER")
            if cancelled is not None:
                self._undo_promise(uow, cluster, cancelled)
            elif fresh.kind is JobKind.CREATE:
                self._clusters.delete_within(uow, actor, cluster, reason="CANCELLED_BY_CALLER")
            else:
                raise _too_late(fresh)
            after = uow.jobs.get(job_id)
        self._nudge()
        return after or fresh

    def _cancel_decision(self, job: Job) -> Job:
        """A match or a plan: while it waits. Once a worker has it, it ends by itself within moments."""
        if job.is_terminal and job.state is not JobState.CANCELLED:
            _refuse(job)
        with self._database.begin() as uow:
            cancelled = uow.jobs.cancel_one(job.id, reason="CANCELLED_BY_CALLER")
            after = uow.jobs.get(job.id) or job
        if cancelled is None and after.state is not JobState.CANCELLED:
            raise _too_late(after)
        return after

    def _cancel_stack(self, actor: Actor, job: Job) -> Job:
        """A stack's job: at once while it waits. A create that Heat works on is undone by a delete of the stack."""
        with self._database.begin() as uow:
            stack = uow.stacks.by_id(job.of_stack, lock=True)
            fresh = uow.jobs.get(job.id, actor.project_id)
            if stack is None or fresh is None:
                raise _no_job(job.id)
            if fresh.state is JobState.CANCELLED or (fresh.cancel_requested_at and not fresh.is_terminal):
                return fresh
            _refuse(fresh)
            if uow.jobs.waiting_for(fresh.id):
                msg = "A cluster waits for this network."
                raise Conflict(msg, reason="NOT_CANCELLABLE", hint="Cancel the cluster's create: its network goes with it.")
            cancelled = uow.jobs.cancel_one(job.id, reason="CANCELLED_BY_CALLER")
            if cancelled is not None and job.kind is JobKind.CREATE_STACK:
                uow.stacks.never_made(stack.id, "CANCELLED", "The creation was cancelled before Heat was asked.")
            elif cancelled is not None:
                uow.stacks.set_phase(stack.id, Phase.READY)
            elif job.kind is JobKind.CREATE_STACK:
                made = stack_job(
                    stack,
                    JobKind.DELETE_STACK,
                    now=uow.jobs.now(),
                    requested_by=actor.user_id,
                    request_id=actor.request_id,
                )
                delete_stack_within(uow, stack, made)
            else:
                raise _too_late(fresh)
            after = uow.jobs.get(job.id)
        self._nudge()
        return after or fresh

    def _undo_promise(self, uow: UnitOfWork, cluster: Cluster, job: Job) -> None:
        if job.kind is JobKind.CREATE:
            uow.clusters.never_made(cluster.id, "CANCELLED", "The creation was cancelled before Magnum was asked.")
            drop_network(uow, cluster, job, job.finished_at or job.created_at)
            return
        wanted = take_back(uow, cluster, job) if job.kind in SIZING else None
        rest = Phase.HIBERNATED if cluster.hibernated_sizes is not None else Phase.READY
        idle = not uow.jobs.active_of(cluster.id)
        uow.clusters.want(cluster.id, phase=rest if idle else cluster.phase, node_count=wanted)

    def list(self, actor: Actor, where: JobFilter, *, limit: int, marker: str | None) -> Page[Job]:
        """The project's jobs, newest first, after ``marker``."""
        after = as_marker(marker)
        with self._database.single() as uow:
            if after and uow.jobs.get(after, actor.project_id) is None:
                words = f"{marker!r} is not the id of a job in this list."
                raise InvalidRequest(words, errors=[FieldError("marker", "exists", words)])
            items = uow.jobs.select(actor.project_id, where, limit=limit + 1, after=after)
        return Page(items[:limit], str(items[limit - 1].id) if len(items) > limit else None)


def _no_job(job_id: UUID) -> NotFound:
    return NotFound(f"The project has no job {str(job_id)!r}.", reason="JOB_NOT_FOUND")


def _refuse(job: Job) -> None:
    if job.is_terminal:
        msg = f"The job has ended: {job.state}."
        raise Conflict(msg, reason="JOB_ENDED")
    if job.kind in {JobKind.DELETE, JobKind.DELETE_STACK}:
        msg = "A delete can't be cancelled: what was pending has already been withdrawn for it."
        raise Conflict(msg, reason="NOT_CANCELLABLE")


def _too_late(job: Job) -> Conflict:
    msg = f"The {job.kind} is with the cloud already, which can't call it back."
    return Conflict(msg, reason="NOT_CANCELLABLE", hint="Ask for what you want instead; it waits its turn.")
