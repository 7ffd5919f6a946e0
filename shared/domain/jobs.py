"""What a job is, which states it passes, and who may move it.

A job is a row in PostgreSQL. Celery tasks are only hints that a row is worth looking at.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from shared.errors import InvalidTransition


class JobKind(StrEnum):
    """What a job does to its cluster or its stack."""

    CREATE = "create"  #: make the cluster in Magnum, and see it through to CREATE_COMPLETE
    RESIZE = "resize"  #: bring the worker count to the wanted number
    DELETE = "delete"  #: remove the cluster from Magnum, and see that it is gone
    ADD_NODE_GROUP = "add_node_group"  #: give the cluster one more group of workers
    REMOVE_NODE_GROUP = "remove_node_group"  #: take a group of workers away
    UPGRADE = "upgrade"  #: bring the cluster to another template's version of Kubernetes
    HIBERNATE = "hibernate"  #: take all workers away, and remember how many there were
    WAKE = "wake"  #: bring the workers back
    CREATE_STACK = "create_stack"  #: make a Heat stack out of a shipped template
    UPDATE_STACK = "update_stack"  #: change a stack's parameters
    DELETE_STACK = "delete_stack"  #: remove a stack and what it made
    MATCH = "match"  #: find the best cluster for a workload, and hold its capacity where that is asked
    OPTIMIZE = "optimize"  #: plan how many clusters could become fewer, or cheaper


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"  #: accepted; waits for a worker, for its turn on the cluster, or for a retry
    RUNNING = "running"  #: a worker holds the lease and talks to the cloud, for seconds
    CONVERGING = "converging"  #: the cloud took the request and works; ticks watch it, no worker is held
    SUCCEEDED = "succeeded"  #: the change was seen in the cloud
    FAILED = "failed"  #: it cannot arrive; `error` says why, in the cloud's own words
    CANCELLED = "cancelled"  #: withdrawn by the caller, or overtaken by a delete


#: Kinds that work on a Heat stack; the others work on a cluster.
OF_STACKS: Final = frozenset({JobKind.CREATE_STACK, JobKind.UPDATE_STACK, JobKind.DELETE_STACK})
#: Kinds that look at many clusters and work on none: they decide, and need no cloud.
DECISIONS: Final = frozenset({JobKind.MATCH, JobKind.OPTIMIZE})
#: Kinds that change the number of a cluster's workers, and have arrived when Magnum shows the number.
SIZING: Final = frozenset({JobKind.RESIZE, JobKind.ADD_NODE_GROUP, JobKind.REMOVE_NODE_GROUP, JobKind.HIBERNATE, JobKind.WAKE})
#: What a delete of the cluster overtakes.
OVERTAKEN: Final = frozenset(JobKind) - OF_STACKS - DECISIONS - {JobKind.DELETE}
#: What changes a cluster that exists.
CHANGES: Final = OVERTAKEN - {JobKind.CREATE}

ACTIVE: Final = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.CONVERGING})
TERMINAL: Final = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

#: From each state, the states a job may go to, and what moves it.
TRANSITIONS: Final[dict[JobState, dict[JobState, str]]] = {
    JobState.QUEUED: {
        JobState.RUNNING: "a worker claims it",
        JobState.CANCELLED: "the caller cancels it, or a delete overtakes it",
        JobState.FAILED: "what it was to come after has failed",
    },
    JobState.RUNNING: {
        JobState.CONVERGING: "the cloud accepted the call",
        JobState.QUEUED: "a passing error: retried later; or the lease ran out",
        JobState.SUCCEEDED: "there was nothing left to do",
        JobState.FAILED: "the cloud refused, or attempts are used up",
        JobState.CANCELLED: "a cancel was honoured at a safe point",
    },
    JobState.CONVERGING: {
        JobState.SUCCEEDED: "the change was seen in the cloud",
        JobState.FAILED: "the cloud reports a failure, or the deadline passed",
        JobState.QUEUED: "the cloud dropped an accepted call; it is sent again. Or one of several calls is done",
        JobState.CANCELLED: "a delete overtakes it",
    },
    JobState.SUCCEEDED: {},
    JobState.FAILED: {},
    JobState.CANCELLED: {},
}


def check_transition(old: JobState, new: JobState) -> None:
    """Raise :class:`InvalidTransition` unless a job may go from ``old`` to ``new``."""
    if new not in TRANSITIONS[old]:
        msg = f"A job cannot go from {old} to {new}."
        raise InvalidTransition(msg, old=str(old), new=str(new))


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: a stable code, the cloud's own words, its request id, and what to do."""

    reason: str
    detail: str
    hint: str | None = None
    upstream_request_id: str | None = None
    upstream_status: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """The form stored in the row and shown to callers; empty parts are left out."""
        fields = {
            "reason": self.reason,
            "detail": self.detail,
            "hint": self.hint,
            "upstream_request_id": self.upstream_request_id,
            "upstream_status": self.upstream_status,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Job:
    """One job as its row says. Times are aware UTC."""

    id: UUID
    project_id: str
    region: str
    cluster_id: UUID | None  #: None where it is a stack's job
    kind: JobKind
    state: JobState
    created_at: datetime
    due_at: datetime
    seq: int = 0
    params: dict[str, Any] = field(default_factory=dict)
    step: str = "accepted"
    attempts: int = 0  #: claims so far that came to talk to the cloud
    resubmits: int = 0  #: accepted calls that the cloud dropped, sent again
    crashes: int = 0  #: leases that ran out: workers that died or hung with this job
    lease_owner: str | None = None
    lease_token: UUID | None = None
    lease_expires_at: datetime | None = None
    intent_at: datetime | None = None  #: when a mutating call was last about to be made
    submitted_at: datetime | None = None  #: when the cloud last accepted a call of this job
    baseline: dict[str, Any] = field(default_factory=dict)  #: the cluster as seen just before that call
    progress_at: datetime | None = None  #: when the cluster was last seen to change
    look_at: datetime | None = None  #: when the cluster should be looked at by itself, next
    condition: str | None = None  #: progressing, slow or stalled, while converging
    deadline_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    requested_by: str | None = None
    request_id: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    stack_id: UUID | None = None  #: the stack that it works on
    after_id: UUID | None = None  #: a job of another cluster or stack that must have succeeded before this one begins
    blocked_by: UUID | None = None  #: the earlier job on the same cluster or stack that this one waits for
    cluster_name: str | None = None  #: the cluster's or stack's name

    @property
    def of_cluster(self) -> UUID:
        """The cluster of a job that has one."""
        if self.cluster_id is None:
            msg = f"Job {self.id} ({self.kind}) has no cluster."
            raise TypeError(msg)
        return self.cluster_id

    @property
    def of_stack(self) -> UUID:
        """The stack of a job that has one."""
        if self.stack_id is None:
            msg = f"Job {self.id} ({self.kind}) has no stack."
            raise TypeError(msg)
        return self.stack_id

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can move this job any more."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One step of a job's history."""

    job_id: UUID
    at: datetime
    step: str
    state: JobState
    detail: dict[str, Any] = field(default_factory=dict)
    seq: int = 0
