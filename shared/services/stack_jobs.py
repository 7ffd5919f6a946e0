"""Jobs of stacks, written in whatever transaction promises them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from shared.domain.clusters import Phase
from shared.domain.jobs import OF_STACKS, Job, JobKind, JobState

if TYPE_CHECKING:
    from shared.db.uow import UnitOfWork
    from shared.domain.clusters import Cluster
    from shared.domain.stacks import Stack

#: What a stack may take, waiting apart; Heat gives up by itself a little earlier.
DEADLINE: Final = timedelta(minutes=30)
TIMEOUT_MINUTES: Final = 25


def stack_job(
    stack: Stack,
    kind: JobKind,
    *,
    now: datetime,
    requested_by: str | None,
    request_id: str | None,
    job_id: UUID | None = None,
    after: Job | None = None,
) -> Job:
    """A job on a stack, to be written. ``after``: the job of a cluster that must have succeeded before."""
    waits = after.deadline_at - now if after is not None and after.deadline_at is not None else timedelta(0)
    return Job(
        id=job_id or uuid4(),
        project_id=stack.project_id,
        region=stack.region,
        cluster_id=None,
        stack_id=stack.id,
        after_id=after.id if after is not None else None,
        kind=kind,
        state=JobState.QUEUED,
        created_at=now,
        due_at=now,
        deadline_at=now + waits + DEADLINE,
        requested_by=requested_by,
        request_id=request_id,
        cluster_name=stack.name,
    )


def delete_stack_within(uow: UnitOfWork, stack: Stack, job: Job) -> Job:
    """Write a stack's delete in an open transaction; what waits on the stack is overtaken. The delete that is under way, if any."""
    under_way = [known for known in uow.jobs.active_of(stack.id) if known.kind is JobKind.DELETE_STACK]
    if under_way:
        return under_way[0]
    uow.jobs.overtake(stack.id, reason="PREEMPTED_BY_DELETE", by=job.id, kinds=OF_STACKS - {JobKind.DELETE_STACK})
    uow.accept.change(job)
    uow.stacks.want(stack.id, phase=Phase.DELETING)
    return job


def drop_network(uow: UnitOfWork, cluster: Cluster, job: Job, now: datetime) -> Job | None:
    """The delete of a cluster's own network, after ``job`` where that still has something to do; None where it has none."""
    if cluster.network_stack_id is None:
        return None
    stack = uow.stacks.by_id(cluster.network_stack_id, lock=True)
    if stack is None or stack.deleted_at is not None:
        return None
    made = stack_job(
        stack,
        JobKind.DELETE_STACK,
        now=now,
        requested_by=job.requested_by,
        request_id=job.request_id,
        after=None if job.is_terminal else job,
    )
    return delete_stack_within(uow, stack, made)
