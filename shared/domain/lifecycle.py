"""What to do about a cluster a job waits for: a pure decision from what was wanted, what is seen, and the time.

An accepted call is not an executed one. Magnum answers 202 to a resize and may drop it in its conductor without a word,
and for some tens of milliseconds after any accepted call the old status stays (openstack-facts.md, "What a client must
survive", 3). A job has therefore arrived when the *change* is seen, never because a status says COMPLETE.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from shared.domain.clusters import MagnumStatus, ObservedCluster, Phase
from shared.domain.jobs import CHANGES, Job, JobError, JobKind
from shared.domain.reasons import classify


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet. ``condition`` is progressing, slow or stalled."""

    reason: str
    condition: str = "progressing"


@dataclass(frozen=True, slots=True)
class Succeed:
    """The change is there."""

    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fail:
    """It cannot arrive."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Resubmit:
    """The cloud dropped an accepted call: make it again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Continue:
    """One call of several is done: make the next."""

    reason: str


Decision = Wait | Succeed | Fail | Resubmit | Continue


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is too long, in seconds. ``slow_after_s`` is the expected duration (p90 of recorded ones)."""

    appear_s: float = 60.0  #: a created cluster may be invisible this long: the conductor writes it after the answer
    drop_s: float = 20.0  #: an accepted change not seen to begin by then was dropped
    settle_s: float = 15.0  #: an unchanged `updated_at` is believed after this long (its resolution is a second)
    slow_after_s: float = 900.0
    stall_s: float = 900.0  #: no change at all for this long is a stall
    max_resubmits: int = 3


def baseline_of(observed: ObservedCluster | None) -> dict[str, Any]:
    """What is kept of the cluster as it stood just before a mutating call."""
    if observed is None:
        return {}
    return {
        "status": observed.raw_status,
        "node_count": observed.node_count,
        "updated_at": observed.updated_at.isoformat() if observed.updated_at else None,
    }


def fingerprint(observed: ObservedCluster) -> tuple[Any, ...]:
    """What counts as progress when it changes."""
    return (observed.raw_status, observed.status_reason, observed.node_count, observed.updated_at)


def decide(job: Job, observed: ObservedCluster | None, *, seen_before: bool, now: datetime, limits: Limits) -> Decision:
    """What to do about converging ``job``, whose cluster Magnum shows as ``observed`` (None: Magnum answered 404).

    ``seen_before`` says whether Magnum ever showed this cluster: only then does a 404 mean that it is gone.
    """
    submitted = job.submitted_at or job.created_at
    age = now - submitted
    decision = _DECIDERS[job.kind](job, observed, seen_before=seen_before, age=age, limits=limits)
    if not isinstance(decision, Wait):
        return decision
    if job.deadline_at is not None and now >= job.deadline_at:
        return Fail(_too_late(job, observed, now, limits))
    return Wait(decision.reason, _condition(job, age, now, limits))


def _condition(job: Job, age: timedelta, now: datetime, limits: Limits) -> str:
    still_for = now - (job.progress_at or job.submitted_at or job.created_at)
    if still_for.total_seconds() >= limits.stall_s:
        return "stalled"
    if age.total_seconds() >= limits.slow_after_s:
        return "slow"
    return "progressing"


def _too_late(job: Job, observed: ObservedCluster | None, now: datetime, limits: Limits) -> JobError:
    still_for = now - (job.progress_at or job.submitted_at or job.created_at)
    last = observed.raw_status if observed else "not visible in Magnum"
    words = f"Magnum's last word was {last}"
    if observed and observed.status_reason:
        words += f": {observed.status_reason}"
    if still_for.total_seconds() >= limits.stall_s:
        return JobError(
            "STALLED",
            f"Nothing changed for {int(still_for.total_seconds())} s, and the deadline has passed. {words}.",
            "Look at the driver's logs (conductor, or the management cluster). Delete the cluster to clean up.",
        )
    return JobError(
        "DRIVER_TIMEOUT",
        f"The deadline has passed while the cluster was still changing. {words}.",
        "It may still arrive: GET /clusters/{id}/status keeps following Magnum. Raise the deadline if this is normal here.",
    )


def _gone(job: Job) -> Fail:
    return Fail(
        JobError(
            "CLUSTER_GONE",
            f"The cluster vanished from Magnum while its {job.kind} was under way.",
            "Somebody removed it outside this system.",
        )
    )


def _decide_create(
    job: Job,
    observed: ObservedCluster | None,
    *,
    seen_before: bool,
    age: timedelta,  # noqa: ARG001 - the deciders share one signature
    limits: Limits,  # noqa: ARG001
) -> Decision:
    if observed is None:
        # The conductor may be down, and write the cluster much later: only a cluster once seen can vanish.
        return _gone(job) if seen_before else Wait("accepted, not visible in Magnum yet")
    status = observed.status
    if status is MagnumStatus.CREATE_FAILED:
        return Fail(classify(JobKind.CREATE, _words(observed)))
    if status in {MagnumStatus.DELETE_IN_PROGRESS, MagnumStatus.DELETE_COMPLETE, MagnumStatus.DELETE_FAILED}:
        return _gone(job)
    if status.complete or status in {MagnumStatus.UPDATE_IN_PROGRESS, MagnumStatus.UPDATE_FAILED}:
        return Succeed({"node_count": observed.node_count, "api_address": observed.api_address})
    if status is MagnumStatus.UNKNOWN:
        return Wait(f"Magnum says {observed.raw_status!r}, which is not a known status")
    return Wait(observed.raw_status)


def _decide_resize(job: Job, observed: ObservedCluster | None, *, seen_before: bool, age: timedelta, limits: Limits) -> Decision:
    if observed is None:
        return _gone(job) if seen_before else Wait("not visible in Magnum yet")
    status = observed.status
    if status in {MagnumStatus.DELETE_IN_PROGRESS, MagnumStatus.DELETE_COMPLETE}:
        return _gone(job)
    if status.in_progress or status is MagnumStatus.UNKNOWN:
        return Wait(observed.raw_status)
    moved = _moved(job, observed)
    settled = age.total_seconds() >= limits.settle_s
    if status.complete and observed.node_count == job.params["target_total"] and (moved or settled):
        return Succeed({"node_count": observed.node_count})
    if status is MagnumStatus.UPDATE_FAILED and moved:
        return Fail(classify(job.kind, _words(observed)))
    return _dropped(job, age, limits, f"Magnum still says {observed.raw_status} with {observed.node_count} nodes")


def _decide_sizing(job: Job, observed: ObservedCluster | None, *, seen_before: bool, age: timedelta, limits: Limits) -> Decision:
    """Several groups, one call after the other: Magnum drops a resize that comes while another is under way."""
    decision = _decide_resize(job, observed, seen_before=seen_before, age=age, limits=limits)
    if isinstance(decision, Succeed) and job.params.get("calls_left"):
        return Continue(f"{job.params['calls_left']} more node groups to resize")
    return decision


def _decide_upgrade(job: Job, observed: ObservedCluster | None, *, seen_before: bool, age: timedelta, limits: Limits) -> Decision:
    if observed is None:
        return _gone(job) if seen_before else Wait("not visible in Magnum yet")
    status = observed.status
    if status in {MagnumStatus.DELETE_IN_PROGRESS, MagnumStatus.DELETE_COMPLETE}:
        return _gone(job)
    if status.in_progress or status is MagnumStatus.UNKNOWN:
        return Wait(observed.raw_status)
    if _moved(job, observed):
        if status is MagnumStatus.UPDATE_FAILED:
            return Fail(classify(JobKind.UPGRADE, _words(observed)))
        if status.complete:
            return Succeed({"coe_version": observed.coe_version, "template_id": observed.template_id})
    return _dropped(job, age, limits, f"Magnum still says {observed.raw_status} and shows no change")


def _decide_delete(job: Job, observed: ObservedCluster | None, *, seen_before: bool, age: timedelta, limits: Limits) -> Decision:
    if observed is None:
        if seen_before or age.total_seconds() >= limits.appear_s:
            return Succeed({"deleted": True})
        return Wait("not visible in Magnum; it may still be about to appear")
    status = observed.status
    if status is MagnumStatus.DELETE_COMPLETE:
        return Succeed({"deleted": True})
    if status is MagnumStatus.DELETE_FAILED and (_moved(job, observed) or age.total_seconds() >= limits.settle_s):
        return Fail(classify(JobKind.DELETE, _words(observed)))
    if status is MagnumStatus.DELETE_IN_PROGRESS or status is MagnumStatus.UNKNOWN:
        return Wait(observed.raw_status)
    return _dropped(job, age, limits, f"Magnum still says {observed.raw_status}")


_DECIDERS: Final = {
    JobKind.CREATE: _decide_create,
    JobKind.RESIZE: _decide_resize,
    JobKind.DELETE: _decide_delete,
    JobKind.ADD_NODE_GROUP: _decide_resize,
    JobKind.REMOVE_NODE_GROUP: _decide_resize,
    JobKind.HIBERNATE: _decide_sizing,
    JobKind.WAKE: _decide_sizing,
    JobKind.UPGRADE: _decide_upgrade,
}


def _moved(job: Job, observed: ObservedCluster) -> bool:
    """Whether Magnum changed the cluster's status since the call was made (node groups are written apart from it)."""
    if not job.baseline:
        return True
    seen = observed.updated_at.isoformat() if observed.updated_at else None
    return seen != job.baseline.get("updated_at") or observed.raw_status != job.baseline.get("status")


def _dropped(job: Job, age: timedelta, limits: Limits, words: str) -> Decision:
    # Each further try waits twice as long, because a conductor that is down keeps accepted calls and runs them later.
    patience = limits.drop_s * 2**job.resubmits
    if age.total_seconds() < patience:
        return Wait(words)
    if job.resubmits < limits.max_resubmits:
        return Resubmit(words)
    return Fail(
        JobError(
            "NOT_EXECUTED",
            f"Magnum accepted the {job.kind} {job.resubmits + 1} times and never began it. {words}.",
            "Magnum's conductor may be down or refuses the change in this state; its log says which.",
        )
    )


def _words(observed: ObservedCluster) -> str:
    parts = [observed.status_reason or ""]
    parts += [f"{name}: {text}" for name, text in observed.faults.items() if str(text) not in parts[0]]
    return "; ".join(part for part in parts if part)


def phase_of(
    observed: ObservedCluster, active: JobKind | None, *, hibernated: bool = False
) -> tuple[Phase, str | None, str | None]:
    """The phase that follows from Magnum's word and from the kind of job under way; with it reason code and words.

    ``hibernated``: its workers were taken away for later, so that being complete means asleep.
    """
    status = observed.status
    if status.failed:
        kind = {
            MagnumStatus.CREATE_FAILED: JobKind.CREATE,
            MagnumStatus.DELETE_FAILED: JobKind.DELETE,
        }.get(status, JobKind.RESIZE)
        error = classify(kind, _words(observed))
        if active is None or active is kind or (kind is JobKind.RESIZE and active in CHANGES):
            return Phase.FAILED, error.reason, error.detail
    if active is JobKind.DELETE or status in {MagnumStatus.DELETE_IN_PROGRESS, MagnumStatus.DELETE_COMPLETE}:
        return Phase.DELETING, None, None
    if status is MagnumStatus.CREATE_IN_PROGRESS:
        return Phase.PROVISIONING, None, None
    if active in CHANGES or status.in_progress:
        return Phase.UPDATING, None, None
    if status is MagnumStatus.UNKNOWN:
        return Phase.UPDATING, "UNKNOWN_STATUS", f"Magnum says {observed.raw_status!r}, which is not a known status."
    return (Phase.HIBERNATED if hibernated else Phase.READY), None, None
