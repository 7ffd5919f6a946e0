"""Plans that are carried out: one step at a time each, looked at again just before, as ordinary jobs and offered moves.

A plan's row is locked while it is taken further, and a job is promised in the transaction that notes its step: two workers at once, or
one that dies anywhere, never do a step twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from shared.domain.cleanup_policy import Window
from shared.domain.clusters import Scope
from shared.domain.consolidation.plan import Act
from shared.domain.jobs import JobState
from shared.domain.plan_drift import closed_up, concerned, differences, expected
from shared.domain.plans import (
    Limits,
    PlanState,
    PlanStep,
    StepState,
    Stop,
    StoredPlan,
    check_transition,
    due,
    settle,
)
from shared.domain.ports import Actor
from shared.errors import CloudError, KcloudError, NotFound, Unavailable
from shared.observability.logging import get_logger
from shared.services.matching import slug
from shared.services.plan_basis import held_until, look
from shared.services.webhooks import enqueue, enqueue_all

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.matching import TypeOffer
    from shared.domain.ports import Accepted, Clock
    from shared.services.clusters import ClusterService
    from shared.services.matching import MatchService
    from shared.settings import PlanSettings

log = get_logger(__name__)

#: Moves that one event tells of.
_MOVES_TOLD: Final = 500
_MOST_PLANS: Final = 1000
#: Differences that are told in words.
_DIFFERENCES_TOLD: Final = 5


class _Refused(Exception):
    def __init__(self, step: PlanStep, cause: KcloudError) -> None:
        super().__init__(cause.detail)
        self.step = step
        self.cause = cause


class Applier:
    """Takes plans further that are applied."""

    def __init__(
        self,
        database: Database,
        clusters: ClusterService,
        matching: MatchService,
        clock: Clock,
        *,
        region: str,
        settings: PlanSettings,
    ) -> None:
        self._database = database
        self._clusters = clusters
        self._matching = matching
        self._clock = clock
        self._region = region
        self._settings = settings
        self._windows = [Window(one.start, one.end, one.time_zone, one.days) for one in settings.deny]

    def apply_all(self, *, budget_s: float) -> int:
        """Take each plan further by what is due, the longest not looked at first, for up to ``budget_s``; how many were looked at.

        Plans that were not applied in time expire.
        """
        until = time.monotonic() + budget_s
        with self._database.begin() as uow:
            uow.plans.expire()
            waiting = uow.plans.applying(self._region, limit=_MOST_PLANS)
        looked_at = 0
        for plan_id in waiting:
            if time.monotonic() >= until:
                break
            looked_at += self.advance(plan_id) is not None
        return looked_at

    def advance(self, plan_id: UUID) -> StoredPlan | None:
        """Take a plan further by what is due; None where it is not applied, or another worker has it now."""
        with self._database.single() as uow:
            found = uow.plans.peek(plan_id)
        if found is None:
            return None
        actor = Actor(found.applied_by or "", found.project_id, frozenset({"member"}), request_id=f"plan-{found.id}")
        try:
            # What asks the cloud comes before the transaction that holds the row.
            self._clusters.require_credential(Scope(found.region, found.project_id))
            offers = self._matching.offers_of(actor, Scope(found.region, found.project_id))
            with self._database.begin() as uow:
                plan = uow.plans.take(plan_id)
                return self._further(uow, plan, actor, offers) if plan is not None else None
        except _Refused as exc:
            return self._refused(plan_id, exc.step, exc.cause)
        except KcloudError as exc:
            log.warning("plan.not_looked_at", plan_id=str(plan_id), reason=exc.reason, detail=exc.detail)
            with contextlib.suppress(KcloudError):  # the database may be what does not answer
                self._hindered(plan_id, exc)
            return None

    def _hindered(self, plan_id: UUID, cause: KcloudError) -> None:
        """Say on the step that is next why it is not begun."""
        with self._database.begin() as uow:
            plan = uow.plans.take(plan_id)
            waiting = [step for step in uow.plans.steps(plan_id) if step.state is StepState.WAITING] if plan is not None else []
            uow.plans.put_steps(plan_id, [replace(step, state_reason=f"{cause.reason}: {cause.detail}") for step in waiting[:1]])

    def recheck(self, plan_id: UUID, steps: Sequence[PlanStep]) -> None:
        """Moves that found no room: where what they rest on has changed, the plan is stale; otherwise it waits for those before them."""
        with self._database.begin() as uow:
            plan = uow.plans.take(plan_id)
            if plan is None:
                return
            uow.placements.hold_scope(Scope(plan.region, plan.project_id))
            now = uow.plans.steps(plan_id)
            wrong = self._drift(uow, plan, now, steps, ())
            if wrong:
                stop(uow, plan, now, _stale(steps[0], wrong), self._clock)

    def _further(self, uow: UnitOfWork, plan: StoredPlan, actor: Actor, offers: Sequence[TypeOffer]) -> StoredPlan:
        scope = Scope(plan.region, plan.project_id)
        # Until this ends nobody places anything: what is looked at is what the step meets.
        uow.placements.hold_scope(scope)
        before = uow.plans.steps(plan.id)
        now = self._clock.now()
        jobs = {step.job_id: _outcome(uow, step.job_id) for step in before if step.state is StepState.RUNNING and step.job_id}
        moves = [step.placement_id for step in before if step.placement_id and step.state in {StepState.WAITING, StepState.RUNNING}]
        settled = settle(before, jobs, uow.placements.still_held(moves), now)
        steps = list(settled.steps)
        if settled.stop is not None:
            return stop(uow, plan, steps, settled.stop, self._clock)
        if not any(step.state in {StepState.WAITING, StepState.RUNNING} for step in steps):
            return stop(uow, plan, steps, Stop(PlanState.APPLIED, "APPLIED", "Every step is done."), self._clock)
        found = due(steps, self._limits(uow, plan))
        if found.steps:
            # At its beginning all of a plan is held against the present: half a plan that was stale from the start helps nobody.
            fresh = all(step.began_at is None for step in steps)
            rests_on = [step for step in steps if step.state is StepState.WAITING] if fresh else found.steps
            wrong = self._drift(uow, plan, steps, rests_on, offers)
            if wrong:
                return stop(uow, plan, steps, _stale(found.steps[0], wrong), self._clock)
            self._begin(uow, plan, steps, found.steps, actor)
        for step in found.waits:
            steps[step.number] = replace(step, state_reason=found.why)
        uow.plans.put_steps(plan.id, [one for one, old in zip(steps, before, strict=True) if one != old])
        plan = replace(plan, looked_at=now)
        uow.plans.put(plan)
        return plan

    def _limits(self, uow: UnitOfWork, plan: StoredPlan) -> Limits:
        now = self._clock.now()
        window = timedelta(seconds=self._settings.window_s)
        open_now = next((one for one in self._windows if one.holds(now)), None)
        words = f"{','.join(open_now.days)} {open_now.start}-{open_now.end} {open_now.time_zone}" if open_now else None
        recent = uow.plans.disturbed(plan.project_id, plan.region, since=now - window)
        return Limits(self._settings.max_clusters, window, recent, words)

    def _drift(
        self, uow: UnitOfWork, plan: StoredPlan, steps: Sequence[PlanStep], on: Sequence[PlanStep], offers: Sequence[TypeOffer]
    ) -> list[str]:
        """What is not as these steps rest on."""
        refs = concerned(on)
        seen = look(uow, Scope(plan.region, plan.project_id), refs, offers)
        wrong = differences(expected(plan.basis, steps), seen, refs)
        going = [step.cluster_id for step in on if step.act is Act.DELETE and step.cluster_id]
        for cluster_id, until in held_until(uow, going, self._clock.now()).items():
            wrong.append(f"Cluster {cluster_id} is kept until {until:%Y-%m-%dT%H:%M:%SZ}.")
        return wrong

    # -- beginning ----------------------------------------------------------------------------------------------------------

    def _begin(self, uow: UnitOfWork, plan: StoredPlan, steps: list[PlanStep], chosen: Sequence[PlanStep], actor: Actor) -> None:
        if chosen[0].is_move:
            self._offer(uow, plan, steps, chosen)
            return
        (step,) = chosen
        why = {"reason": "PLAN", "plan_id": str(plan.id), "step": step.number}
        try:
            with self._clusters.within_budgets(uow, Scope(plan.region, plan.project_id)):
                accepted = self._promise(uow, plan, steps, step, actor, why)
        except KcloudError as exc:
            raise _Refused(step, exc) from exc
        begun = replace(
            step,
            state=StepState.RUNNING,
            state_reason=None,
            job_id=accepted.job.id,
            cluster_id=accepted.cluster.id,
            began_at=self._clock.now(),
        )
        steps[step.number] = begun
        if step.act is Act.CREATE:
            _name_made(steps, step, begun)
        uow.audit.record(actor, f"plans:{step.act.value}", accepted.cluster.id, {"job_id": str(accepted.job.id), **why})
        log.info("plan.step_begun", plan_id=str(plan.id), step=step.number, act=step.act.value, job_id=str(accepted.job.id))

    def _promise(
        self,
        uow: UnitOfWork,
        plan: StoredPlan,
        steps: Sequence[PlanStep],
        step: PlanStep,
        actor: Actor,
        why: Mapping[str, Any],
    ) -> Accepted:
        if step.act is Act.CREATE:
            nodes = sum(one.nodes for one in steps if one.act is Act.GROW and one.ref == step.ref)
            fields = {
                "name": f"{slug(step.name)}-{plan.id.hex[:8]}",
                "cluster_template_id": step.name,
                "node_count": nodes,
                "master_count": plan.basis["types"][step.ref]["masters"],
            }
            return self._clusters.create_within(uow, actor, fields, params=why)
        cluster = uow.clusters.get(plan.project_id, str(step.cluster_id), lock=True)
        if cluster is None:
            raise NotFound(f"The project has no cluster {step.name!r}.", reason="CLUSTER_NOT_FOUND")
        if step.act is Act.DELETE:
            self._clusters.refuse_delete(uow, cluster)
            return self._clusters.delete_within(uow, actor, cluster, reason="PREEMPTED_BY_PLAN", params=why)
        size = {"node_count": step.nodes, "node_group": step.group}
        if step.act is Act.SHRINK and step.group is not None:
            # Nodes are counted, not named: those that stay are 0 to n - 1 from now on, so that what lies on them has its place.
            uow.placements.renumber(cluster.id, step.group, closed_up(step.keeps, step.nodes))
        return self._clusters.resize_within(uow, actor, cluster, size, params=why)

    def _offer(self, uow: UnitOfWork, plan: StoredPlan, steps: list[PlanStep], moves: Sequence[PlanStep]) -> None:
        """Tell whoever can move pods what to move. Nothing of ours changes until that is reported."""
        now = self._clock.now()
        deadline = now + timedelta(seconds=self._settings.move_deadline_s)
        for step in moves:
            words = f"OFFERED: to be reported at POST /plans/{plan.id}/moves/{step.number}/done."
            steps[step.number] = replace(step, state=StepState.RUNNING, state_reason=words, began_at=now, deadline_at=deadline)
        told = [
            {
                "number": step.number,
                "placement_id": str(step.placement_id),
                "workload": step.workload,
                "from": asdict(step.source) if step.source else None,
                "to": asdict(step.target) if step.target else None,
                "report": f"/plans/{plan.id}/moves/{step.number}/done",
            }
            for step in moves
        ]
        head = {"plan_id": str(plan.id), "deadline_at": deadline.isoformat()}
        batches = [told[at : at + _MOVES_TOLD] for at in range(0, len(told), _MOVES_TOLD)]
        enqueue_all(uow, plan.project_id, [("plan.moves.offered", head | {"moves": batch}) for batch in batches], at=now)
        log.info("plan.moves_offered", plan_id=str(plan.id), moves=len(moves))

    def _refused(self, plan_id: UUID, step: PlanStep, cause: KcloudError) -> StoredPlan | None:
        """A step that could not begin: again later where that may help, else the plan does not fit the present."""
        words = f"{cause.reason}: {cause.detail}"
        log.warning("plan.step_refused", plan_id=str(plan_id), step=step.number, reason=cause.reason, detail=cause.detail)
        with self._database.begin() as uow:
            plan = uow.plans.take(plan_id)
            if plan is None:
                return None
            steps = uow.plans.steps(plan_id)
            if steps[step.number].state is not StepState.WAITING:
                return plan
            if isinstance(cause, Unavailable) or (isinstance(cause, CloudError) and cause.retryable):
                uow.plans.put_steps(plan_id, [replace(steps[step.number], state_reason=words)])
                return plan
            return stop(uow, plan, steps, _stale(step, [words]), self._clock)


def _outcome(uow: UnitOfWork, job_id: UUID) -> tuple[JobState | None, str]:
    job = uow.jobs.get(job_id)
    if job is None:
        return None, ""
    error = job.error or {}
    return job.state, f"{error.get('reason')}: {error.get('detail')}" if error else job.cancel_reason or ""


def _name_made(steps: list[PlanStep], step: PlanStep, begun: PlanStep) -> None:
    """The cluster has an id now: what grows it has come with it, and what moves to it says so."""
    for one in steps:
        if one.act is Act.GROW and one.ref == step.ref:
            words = f"Made with as many nodes by step {step.number}."
            steps[one.number] = replace(begun, **{name: getattr(one, name) for name in _PLANNED}, state_reason=words)
        elif one.target is not None and one.target.cluster == step.ref:
            steps[one.number] = replace(one, target=replace(one.target, cluster=str(begun.cluster_id)))


_PLANNED: Final = ("number", "act", "ref", "name", "reason", "group", "nodes_before", "nodes", "keeps")


def _stale(step: PlanStep, wrong: Sequence[str]) -> Stop:
    more = f" And {len(wrong) - _DIFFERENCES_TOLD} more." if len(wrong) > _DIFFERENCES_TOLD else ""
    return Stop(PlanState.STALE, "DRIFTED", f"Before step {step.number} ({step.act}): {' '.join(wrong[:_DIFFERENCES_TOLD])}{more}")


def note_leaving(uow: UnitOfWork, plan: StoredPlan, steps: Sequence[PlanStep]) -> None:
    """The clusters that a plan deletes take no new work while it is applied: say that this begins or ends."""
    going = [step.cluster_id for step in steps if step.act is Act.DELETE and step.cluster_id is not None]
    uow.placements.note_changed(Scope(plan.region, plan.project_id), going)


def stop(uow: UnitOfWork, plan: StoredPlan, steps: Sequence[PlanStep], why: Stop, clock: Clock) -> StoredPlan:
    """End a plan that this transaction has locked. What has not begun is dropped; what has, goes on by itself."""
    check_transition(plan.state, why.state)
    now = clock.now()
    left = []
    for step in steps:
        if step.state is StepState.WAITING:
            left.append(replace(step, state=StepState.DROPPED, state_reason=f"The plan is {why.state}."))
        elif step.state is StepState.RUNNING:
            words = "if it is done, it should be reported all the same" if step.is_move else "the job goes on by itself"
            left.append(replace(step, state_reason=f"The plan is {why.state}; {words}."))
        else:
            left.append(step)
    uow.plans.put_steps(plan.id, left)
    ended = replace(plan, state=why.state, reason=why.reason, detail=why.detail, looked_at=now, finished_at=now)
    uow.plans.put(ended)
    if plan.state is PlanState.APPLYING:
        note_leaving(uow, plan, steps)
        event = "plan.applied" if why.state is PlanState.APPLIED else "plan.stopped"
        payload = {"plan_id": str(plan.id), "state": why.state.value, "reason": why.reason, "detail": why.detail}
        enqueue(uow, plan.project_id, event, payload, at=now)
    log.info("plan.ended", plan_id=str(plan.id), state=why.state.value, reason=why.reason, detail=why.detail)
    return ended
