"""Heat stacks: networks of their own for clusters, connections between them, and what else is made out of a shipped template."""

from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Network
from typing import Any, Final
from uuid import UUID

from shared.domain.clusters import Phase, Scope
from shared.domain.jobs import Job, JobError, JobKind
from shared.domain.lifecycle import Decision, Fail, Limits, Resubmit, Succeed, Wait

#: Heat's tags of every stack of ours, by which they are listed together.
TAG: Final = "kcloud"
NETWORK: Final = "network"  #: the template of a cluster's own network
INTERCONNECT: Final = "interconnect"  #: the template that connects such networks
WITH_RANGE: Final = frozenset({NETWORK, INTERCONNECT})  #: templates whose parameter cidr is allocated
_FAILED, _IN_PROGRESS = "_FAILED", "_IN_PROGRESS"
#: Seconds in which an accepted call must have begun, else it is made again.
_BEGIN_S: Final = 10.0
#: How often a delete that failed is made again by itself.
_DELETES: Final = 3


@dataclass(frozen=True, slots=True)
class ObservedStack:
    """A stack as Heat shows it."""

    id: str
    name: str
    status: str  #: such as CREATE_COMPLETE
    status_reason: str | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    updated_at: datetime | None = None
    created_at: datetime | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StackResource:
    """One thing that a stack made."""

    name: str
    type: str
    status: str
    physical_id: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something in the project that carries a cluster's name or id. ``kind``: port, floating_ip, load_balancer or volume."""

    kind: str
    id: str
    name: str
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack as its row says: what is wanted is ours, what is observed Heat's last word."""

    id: UUID
    project_id: str
    region: str
    name: str
    heat_name: str
    template: str
    created_at: datetime
    updated_at: datetime
    parameters: dict[str, Any] = field(default_factory=dict)
    heat_id: str | None = None
    cluster_id: UUID | None = None  #: whose isolated network it is
    members: dict[str, str] = field(default_factory=dict)  #: clusters that it connects: id -> name
    phase: Phase = Phase.PENDING
    reason: str | None = None
    reason_detail: str | None = None
    status: str | None = None
    status_reason: str | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    live: bool = True
    generation: int = 1
    observed_generation: int = 0
    first_seen_at: datetime | None = None
    observed_at: datetime | None = None
    deleted_at: datetime | None = None
    created_by: str | None = None

    @property
    def scope(self) -> Scope:
        """The project and region it lives in."""
        return Scope(self.region, self.project_id)


def heat_name(name: str, job_id: UUID) -> str:
    """A stack's name in Heat. Heat refuses a second one of a name in the project, so the creating job's mark is part of it."""
    return f"{name}-{job_id.hex[-8:]}"


def decide_stack(job: Job, seen: ObservedStack | None, *, seen_before: bool, now: datetime, limits: Limits) -> Decision:
    """What to do about a job that waits for its stack, which Heat shows as ``seen`` (None: not there)."""
    age_s = (now - (job.submitted_at or job.created_at)).total_seconds()
    decision = _DECIDERS[job.kind](job, seen, seen_before=seen_before, age_s=age_s)
    if not isinstance(decision, Wait):
        return decision
    if job.deadline_at is None or now < job.deadline_at:
        return Wait(decision.reason, "slow" if age_s >= limits.slow_after_s else "progressing")
    last = f"{seen.status}: {seen.status_reason}" if seen else "that there is no such stack"
    return Fail(
        JobError(
            "STACK_TIMEOUT",
            f"The stack was not done in {int(age_s)} s. Heat's last word was {last}.",
            "GET /stacks/{id} lists its resources; the one that is IN_PROGRESS is what it waits for.",
        )
    )


def _gone() -> Fail:
    return Fail(JobError("STACK_GONE", "The stack vanished from Heat while its job was under way."))


def _decide_create(job: Job, seen: ObservedStack | None, *, seen_before: bool, age_s: float) -> Decision:
    del job, age_s
    if seen is None:
        return _gone() if seen_before else Wait("accepted, not visible in Heat yet")
    if seen.status.startswith("DELETE"):
        return _gone()
    if seen.status == "CREATE_FAILED":
        return Fail(
            JobError("STACK_CREATE_FAILED", seen.status_reason or "Heat tells no reason.", "Delete it, and create it again.")
        )
    return Succeed({"outputs": seen.outputs}) if seen.status != "CREATE_IN_PROGRESS" else Wait(seen.status)


def _decide_update(job: Job, seen: ObservedStack | None, *, seen_before: bool, age_s: float) -> Decision:
    if seen is None:
        return _gone() if seen_before else Wait("not visible in Heat yet")
    if seen.status.startswith("DELETE"):
        return _gone()
    begun = _stamp(seen) != job.baseline.get("updated_at")
    if seen.status.endswith(_IN_PROGRESS):
        return Wait(seen.status)
    if not begun:
        words = f"Heat still says {seen.status}"
        return Wait(words) if age_s < _BEGIN_S else Resubmit(words)
    if seen.status == "UPDATE_FAILED":
        words = seen.status_reason or "Heat tells no reason."
        return Fail(JobError("STACK_UPDATE_FAILED", words, "Mend what it says, and update the stack again."))
    return Succeed({"outputs": seen.outputs})


def _decide_delete(job: Job, seen: ObservedStack | None, *, seen_before: bool, age_s: float) -> Decision:
    del seen_before
    if seen is None or seen.status == "DELETE_COMPLETE":
        return Succeed({"deleted": True})
    if seen.status == "DELETE_IN_PROGRESS":
        return Wait(seen.status)
    words = f"Heat says {seen.status}: {seen.status_reason}"
    if age_s < _BEGIN_S:
        return Wait(words)
    if seen.status != "DELETE_FAILED" or job.resubmits < _DELETES:
        return Resubmit(words)  # what still uses a network is often gone a little later
    return Fail(
        JobError(
            "STACK_DELETE_FAILED",
            seen.status_reason or "Heat tells no reason.",
            "Something still uses what the stack made, such as a port on its network. Remove it, then delete again.",
        )
    )


_DECIDERS: Final = {
    JobKind.CREATE_STACK: _decide_create,
    JobKind.UPDATE_STACK: _decide_update,
    JobKind.DELETE_STACK: _decide_delete,
}


def _stamp(seen: ObservedStack) -> str | None:
    return seen.updated_at.isoformat() if seen.updated_at else None


def phase_of_stack(seen: ObservedStack, active: JobKind | None) -> tuple[Phase, str | None, str | None]:
    """The phase that follows from Heat's word and from the kind of job under way, with reason code and words."""
    if seen.status.endswith(_FAILED):
        verb = seen.status.removesuffix(_FAILED)
        return Phase.FAILED, f"STACK_{verb}_FAILED", seen.status_reason
    if active is JobKind.DELETE_STACK or seen.status.startswith("DELETE"):
        return Phase.DELETING, None, None
    if seen.status == "CREATE_IN_PROGRESS":
        return Phase.PROVISIONING, None, None
    if seen.status.endswith(_IN_PROGRESS) or active is JobKind.UPDATE_STACK:
        return Phase.UPDATING, None, None
    return Phase.READY, None, None


def first_free(pool: IPv4Network, prefix: int, taken: list[IPv4Network]) -> IPv4Network | None:
    """The first range of this prefix length in the pool that overlaps none that is taken; None where there is none."""
    inside = sorted((net for net in taken if net.overlaps(pool)), key=lambda net: int(net.network_address))
    size = 2 ** (32 - prefix)
    start, end = int(pool.network_address), int(pool.broadcast_address) + 1
    for net in inside:
        if start + size <= int(net.network_address):
            break
        behind = int(net.broadcast_address) + 1
        start = max(start, -(-behind // size) * size)
    return IPv4Network((start, prefix)) if start + size <= end else None
