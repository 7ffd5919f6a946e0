"""A plan of consolidation on its way: its states, those of its steps, and what comes next. Pure: nothing is asked, nothing is done."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from shared.domain.consolidation.model import Spot
from shared.domain.consolidation.plan import Act
from shared.domain.jobs import JobState
from shared.errors import Conflict

#: What ids of clusters that are still to be made begin with.
NEW: Final = "new:"


class PlanState(StrEnum):
    """Where a plan is."""

    PROPOSED = "proposed"  #: made; waits for somebody to approve it
    APPROVED = "approved"  #: somebody stands for it; waits to be applied
    APPLYING = "applying"  #: its steps are taken, one after the other
    APPLIED = "applied"  #: every step is done
    STALE = "stale"  #: the present is not what a step rests on; nothing after it was begun
    FAILED = "failed"  #: a step did not come to its end; nothing after it was begun
    CANCELLED = "cancelled"  #: withdrawn
    EXPIRED = "expired"  #: not applied in time


class StepState(StrEnum):
    """Where a step is."""

    WAITING = "waiting"  #: for those before it, for a window, for the budget of disruption
    RUNNING = "running"  #: its job is under way; of a move: it was offered to the scheduler
    DONE = "done"  #: its job has succeeded; of a move: it was reported
    SKIPPED = "skipped"  #: there was nothing left to do: what was to move has ended
    FAILED = "failed"  #: its job has not succeeded, or the move was not reported in time
    DROPPED = "dropped"  #: the plan ended before it


#: From each state, the states a plan may go to, and what moves it.
TRANSITIONS: Final[dict[PlanState, dict[PlanState, str]]] = {
    PlanState.PROPOSED: {
        PlanState.APPROVED: "somebody who may approves it",
        PlanState.CANCELLED: "somebody withdraws it",
        PlanState.EXPIRED: "it was not applied in time",
    },
    PlanState.APPROVED: {
        PlanState.APPLYING: "somebody has it applied",
        PlanState.CANCELLED: "somebody withdraws it",
        PlanState.EXPIRED: "it was not applied in time",
    },
    PlanState.APPLYING: {
        PlanState.APPLIED: "every step is done",
        PlanState.STALE: "the present is not what the next step rests on",
        PlanState.FAILED: "a job failed, or moves were not reported in time",
        PlanState.CANCELLED: "somebody withdraws what has not begun",
    },
    PlanState.APPLIED: {},
    PlanState.STALE: {},
    PlanState.FAILED: {},
    PlanState.CANCELLED: {},
    PlanState.EXPIRED: {},
}
ENDED: Final = frozenset(state for state, ways in TRANSITIONS.items() if not ways)
#: What room is made by; what takes it away again.
MAKING: Final = frozenset({Act.CREATE, Act.GROW})
TAKING: Final = frozenset({Act.SHRINK, Act.DELETE})


def check_transition(old: PlanState, new: PlanState) -> None:
    """Raise Conflict ``PLAN_STATE`` unless a plan may go from ``old`` to ``new``."""
    if new not in TRANSITIONS[old]:
        ways = ", ".join(TRANSITIONS[old]) or "nothing else: it has ended"
        msg = f"The plan is {old} and can't become {new}; from there it can become {ways}."
        raise Conflict(msg, reason="PLAN_STATE", hint="Make a new plan: POST /optimize/clusters." if old in ENDED else None)


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step. ``ref``: its cluster's id, or ``new:<type>``; of a move, that of its source. ``keeps``: the numbers of the nodes that a
    shrink leaves. ``reason`` says why it was planned, ``state_reason`` why it is where it is.
    """

    number: int
    act: Act
    ref: str
    name: str
    reason: str
    group: str | None = None
    nodes_before: int = 0
    nodes: int = 0
    keeps: tuple[int, ...] = ()
    placement_id: UUID | None = None
    workload: str | None = None
    source: Spot | None = None
    target: Spot | None = None
    state: StepState = StepState.WAITING
    state_reason: str | None = None
    cluster_id: UUID | None = None  #: None: of a cluster that is not made yet
    job_id: UUID | None = None
    began_at: datetime | None = None
    ended_at: datetime | None = None
    deadline_at: datetime | None = None

    @property
    def is_move(self) -> bool:
        """Whether a scheduler takes it, not a job."""
        return self.act is Act.MOVE

    @property
    def disrupts(self) -> bool:
        """Whether work that runs may feel it."""
        return self.act is Act.MOVE or self.act in TAKING


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan as its row says. ``summary``: what was told besides the steps; ``basis``: the clusters and placements that it rests on."""

    id: UUID
    project_id: str
    region: str
    state: PlanState
    created_at: datetime
    valid_until: datetime
    seq: int = 0
    reason: str | None = None
    detail: str | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    basis: Mapping[str, Any] = field(default_factory=dict)
    requested_by: str | None = None
    approved_by: str | None = None
    approved_at: datetime | None = None
    applied_by: str | None = None
    began_at: datetime | None = None
    looked_at: datetime | None = None
    finished_at: datetime | None = None

    def at(self, now: datetime) -> StoredPlan:
        """As it counts at a moment: past its time, it has expired, whether that was written or not."""
        if PlanState.EXPIRED in TRANSITIONS[self.state] and now >= self.valid_until:
            return replace(
                self, state=PlanState.EXPIRED, reason="EXPIRED", detail=f"It was not applied by {self.valid_until:%H:%MZ}."
            )
        return self


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a plan ends before its last step, and how."""

    state: PlanState
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The steps after a look at what became of those that had begun; ``stop`` where one of them ends the plan."""

    steps: tuple[PlanStep, ...]
    stop: Stop | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be disturbed. ``clusters`` in any ``window``; ``recent``: those in which something was begun within the last one."""

    clusters: int
    window: timedelta
    recent: frozenset[str] = frozenset()
    denied_by: str | None = None  #: the window in which nothing is begun, where one is open now


@dataclass(frozen=True, slots=True)
class Due:
    """What comes next: steps to begin together, or the reason why those that are next wait. Neither: others are under way."""

    steps: tuple[PlanStep, ...] = ()
    waits: tuple[PlanStep, ...] = ()
    why: str | None = None


def settle(
    steps: Sequence[PlanStep], jobs: Mapping[UUID, tuple[JobState | None, str]], held: Collection[UUID], now: datetime
) -> Settled:
    """What became of the steps that had begun.

    ``jobs``: by id their state (None: it is not known any more) and what went wrong; ``held``: placements that have not ended.
    """
    after, stop = [], None
    for step in steps:
        new = step
        if step.is_move and step.state in {StepState.WAITING, StepState.RUNNING}:
            new = _settled_move(step, held, now)
        elif step.state is StepState.RUNNING and step.job_id is not None:
            new = _settled_job(step, *jobs.get(step.job_id, (None, "")), now)
        if new.state is StepState.FAILED and stop is None and step.state is not StepState.FAILED:
            reason = "MOVES_NOT_DONE" if step.is_move else "STEP_FAILED"
            stop = Stop(PlanState.FAILED, reason, f"Step {step.number} ({step.act}): {new.state_reason}")
        after.append(new)
    return Settled(tuple(after), stop)


def _settled_move(step: PlanStep, held: Collection[UUID], now: datetime) -> PlanStep:
    if step.placement_id not in held:
        return replace(step, state=StepState.SKIPPED, state_reason="What was to move has ended.", ended_at=now)
    if step.state is StepState.RUNNING and step.deadline_at is not None and now >= step.deadline_at:
        words = f"It was offered, and not reported as done by {step.deadline_at:%Y-%m-%dT%H:%M:%SZ}."
        return replace(step, state=StepState.FAILED, state_reason=words, ended_at=now)
    return step


def _settled_job(step: PlanStep, state: JobState | None, error: str, now: datetime) -> PlanStep:
    if state is JobState.SUCCEEDED:
        return replace(step, state=StepState.DONE, state_reason=None, ended_at=now)
    if state in {JobState.FAILED, JobState.CANCELLED, None}:
        word = "is past its keeping time" if state is None else f"has {'failed' if state is JobState.FAILED else 'been cancelled'}"
        return replace(step, state=StepState.FAILED, state_reason=f"Its job {word}{': ' + error if error else '.'}", ended_at=now)
    return step


def due(steps: Sequence[PlanStep], limits: Limits) -> Due:
    """What comes next. Room is made first, one step after the other; then all moves are offered, as far as the budget goes; what takes
    room away waits until every move is over, and goes one step after the other.
    """
    waiting = [step for step in steps if step.state is StepState.WAITING]
    running = [step for step in steps if step.state is StepState.RUNNING]
    if not waiting or any(not step.is_move for step in running):
        return Due()
    first = waiting[0]
    if first.is_move:
        chosen = tuple(step for step in waiting if step.is_move)
    elif running:
        names = f"{len(running)} move{'s' if len(running) > 1 else ''}, such as step {running[0].number}"
        return Due(waits=(first,), why=f"MOVES_UNDER_WAY: {names}, must be reported as done, or end, before.")
    else:
        chosen = (first,)
    if limits.denied_by is not None:
        return Due(waits=chosen, why=f"DENY_WINDOW: nothing is begun in the window {limits.denied_by}.")
    return _within_budget(chosen, limits)


def _within_budget(chosen: Sequence[PlanStep], limits: Limits) -> Due:
    disturbed = set(limits.recent)
    may, must_wait = [], []
    for step in chosen:
        if not step.disrupts or step.ref in disturbed or len(disturbed) < limits.clusters:
            may.append(step)
            disturbed |= {step.ref} if step.disrupts else set()
        else:
            must_wait.append(step)
    if not must_wait:
        return Due(tuple(may))
    hours = limits.window.total_seconds() / 3600
    words = f"at most {limits.clusters} clusters are disturbed in {hours:g} h, and {len(disturbed)} are"
    return Due(tuple(may), tuple(must_wait), f"DISRUPTION_BUDGET: {words}.")
