"""What callers ask of plans: look at them, approve, apply and withdraw them, and report the moves that they did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from shared.domain.clusters import Scope
from shared.domain.matching import share_of
from shared.domain.plans import PlanState, PlanStep, StepState, Stop, StoredPlan, check_transition
from shared.domain.ports import Actor, Page
from shared.domain.workloads import Isolation
from shared.errors import Conflict, FieldError, Forbidden, InvalidRequest, NotFound, as_sentence
from shared.services.applying import note_leaving, stop

if TYPE_CHECKING:
    from shared.db.uow import Database, UnitOfWork
    from shared.domain.accelerators import NodeShape
    from shared.domain.consolidation.model import Spot
    from shared.domain.fleet import Group, ProjectFleet
    from shared.domain.ports import Clock
    from shared.domain.workloads import Placement
    from shared.services.applying import Applier
    from shared.services.catalogs import Catalogs
    from shared.services.fleets import Fleets
    from shared.settings import PlanSettings


#: Refusals of a report that may mean that the present is not the plan's any more.
_DRIFTING = frozenset({"NO_ROOM", "TARGET_CLOSED", "PLACEMENT_ELSEWHERE"})


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan, with its steps where one was asked for; ``counts`` of them by state."""

    plan: StoredPlan
    counts: dict[str, int]
    steps: tuple[PlanStep, ...] = ()


class PlanService:
    """Plans of the actor's project."""

    def __init__(
        self,
        database: Database,
        fleets: Fleets,
        catalogs: Catalogs,
        applier: Applier,
        clock: Clock,
        *,
        settings: PlanSettings,
    ) -> None:
        self._database = database
        self._fleets = fleets
        self._catalogs = catalogs
        self._applier = applier
        self._clock = clock
        self._settings = settings

    # -- looking ----------------------------------------------------------------------------------------------------------

    def page(self, actor: Actor, *, state: str | None, limit: int, marker: UUID | None) -> Page[Shown]:
        """The project's, newest first, without their steps."""
        with self._database.begin() as uow:
            if marker is not None and uow.plans.get(actor.project_id, marker) is None:
                words = f"{str(marker)!r} is not the id of a plan in this list."
                raise InvalidRequest(words, errors=[FieldError("marker", "exists", words)])
            items = uow.plans.select(actor.project_id, state=state, limit=limit + 1, after=marker)
            counts = uow.plans.counts([one.id for one in items])
        now = self._clock.now()
        shown = [Shown(one.at(now), counts[one.id]) for one in items[:limit]]
        return Page(shown, str(items[limit - 1].id) if len(items) > limit else None)

    def get(self, actor: Actor, plan_id: str) -> Shown:
        """One, with its steps."""
        with self._database.begin() as uow:
            return self._shown(uow, self._found(uow, actor, plan_id, lock=False))

    # -- deciding ---------------------------------------------------------------------------------------------------------

    def approve(self, actor: Actor, plan_id: str) -> Shown:
        """Stand for a plan. Approving an approved one changes nothing.

        Raises Forbidden where the settings ask for another user or an admin, Conflict where the plan is past that.
        """
        with self._database.begin() as uow:
            plan = self._found(uow, actor, plan_id)
            if plan.state is PlanState.APPROVED:
                return self._shown(uow, plan)
            check_transition(plan.state, PlanState.APPROVED)
            self._may_approve(actor, plan)
            plan = replace(plan, state=PlanState.APPROVED, approved_by=actor.user_id, approved_at=self._clock.now())
            uow.plans.put(plan)
            uow.audit.record(actor, "plans:approve", None, {"plan_id": str(plan.id)})
            return self._shown(uow, plan)

    def _may_approve(self, actor: Actor, plan: StoredPlan) -> None:
        if self._settings.approval == "other" and actor.user_id == plan.requested_by:
            msg = "Who asked for a plan may not approve it."
            raise Forbidden(msg, reason="APPROVAL_BY_ANOTHER", hint="Another member of the project approves it (PLAN_APPROVAL).")
        if self._settings.approval == "admin" and "admin" not in actor.roles:
            msg = "Plans are approved by an admin of the project."
            raise Forbidden(msg, reason="APPROVAL_BY_ADMIN", hint="Ask one to approve it (PLAN_APPROVAL).")

    def apply(self, actor: Actor, plan_id: str) -> Shown:
        """Begin with an approved plan; what is due first is begun at once. Applying one that is being applied changes nothing."""
        with self._database.begin() as uow:
            plan = self._found(uow, actor, plan_id)
            if plan.state is not PlanState.APPLYING:
                check_transition(plan.state, PlanState.APPLYING)
                plan = replace(plan, state=PlanState.APPLYING, applied_by=actor.user_id, began_at=self._clock.now())
                uow.plans.put(plan)
                note_leaving(uow, plan, uow.plans.steps(plan.id))
                uow.audit.record(actor, "plans:apply", None, {"plan_id": str(plan.id)})
        self._applier.advance(plan.id)
        return self.get(actor, plan_id)

    def cancel(self, actor: Actor, plan_id: str) -> Shown:
        """Withdraw a plan. Of one that is applied, what has begun goes on by itself; nothing more is begun."""
        with self._database.begin() as uow:
            plan = self._found(uow, actor, plan_id)
            if plan.state is not PlanState.CANCELLED:
                words = f"Withdrawn by {actor.user_name or actor.user_id}."
                plan = stop(uow, plan, uow.plans.steps(plan.id), Stop(PlanState.CANCELLED, "CANCELLED", words), self._clock)
                uow.audit.record(actor, "plans:cancel", None, {"plan_id": str(plan.id)})
            return self._shown(uow, plan)

    # -- moves ------------------------------------------------------------------------------------------------------------

    def moved(
        self, actor: Actor, plan_id: str, number: str, *, along: Sequence[int] = (), findings: Sequence[FieldError] = ()
    ) -> Shown:
        """Note that an offered move was done, and with it those of ``along``, as where pods have swapped places: all or none.

        What is held lies on the target from then on. A report that comes late counts, also of a plan that has ended: what was moved is
        where it is. Raises NotFound, or Conflict where it was not offered, has ended, or finds no room.
        """
        with self._database.begin() as uow:
            found = self._found(uow, actor, plan_id)
        scope = Scope(found.region, found.project_id)
        self._catalogs.get(scope)  # it may ask the cloud, which is not for the transaction that holds the row
        fresh: list[PlanStep] = []
        try:
            with self._database.begin() as uow:
                plan = self._found(uow, actor, plan_id)
                chosen = _moves(plan, uow.plans.steps(plan.id), number, along, findings)
                fresh = [step for step in chosen if step.state is not StepState.DONE]
                uow.placements.hold_scope(scope)
                self._move(uow, actor, scope, fresh)
                self._note_moved(uow, actor, plan, fresh)
        except Conflict as exc:
            if exc.reason in _DRIFTING and fresh:
                self._applier.recheck(found.id, fresh)
            raise
        self._applier.advance(found.id)
        return self.get(actor, plan_id)

    def _note_moved(self, uow: UnitOfWork, actor: Actor, plan: StoredPlan, steps: Sequence[PlanStep]) -> None:
        now = self._clock.now()
        uow.plans.put_steps(plan.id, [replace(step, state=StepState.DONE, state_reason=None, ended_at=now) for step in steps])
        for step in steps:
            detail = {"plan_id": str(plan.id), "step": step.number, "placement_id": str(step.placement_id)}
            uow.audit.record(actor, "plans:moved", None, detail)

    def _move(self, uow: UnitOfWork, actor: Actor, scope: Scope, steps: Sequence[PlanStep]) -> None:
        held = [(step, _still_held(uow, actor, step)) for step in steps]
        targets = {UUID(step.target.cluster) for step in steps if step.target is not None}
        for target in sorted(targets):
            fleet, _, _ = self._fleets.imagined(uow, scope, target)
            for _, placement in held:
                fleet.unseat(placement.id)
            for step, placement in held:
                if step.target is not None and UUID(step.target.cluster) == target:
                    group, devices = _seat(fleet, target, step, step.target, placement)
                    watts, cost = _taken(group.shape, placement)
                    uow.placements.move(
                        placement.id,
                        cluster_id=target,
                        group=group.name,
                        node=step.target.node,
                        devices=devices,
                        model=group.shape.accelerator.id if devices and group.shape and group.shape.accelerator else None,
                        watts=watts,
                        cost_per_hour=cost,
                    )

    # -- parts ------------------------------------------------------------------------------------------------------------

    def _found(self, uow: UnitOfWork, actor: Actor, plan_id: str, *, lock: bool = True) -> StoredPlan:
        try:
            key = UUID(plan_id)
        except ValueError:
            raise _no_plan(plan_id) from None
        plan = uow.plans.get(actor.project_id, key, lock=lock)
        if plan is None:
            raise _no_plan(plan_id)
        return plan.at(self._clock.now())

    @staticmethod
    def _shown(uow: UnitOfWork, plan: StoredPlan) -> Shown:
        steps = tuple(uow.plans.steps(plan.id))
        return Shown(plan, dict(Counter(step.state.value for step in steps)), steps)


def _no_plan(ref: str) -> NotFound:
    return NotFound(f"The project has no plan {ref[:100]!r}.", reason="PLAN_NOT_FOUND")


def _moves(
    plan: StoredPlan, steps: Sequence[PlanStep], number: str, along: Sequence[int], findings: Sequence[FieldError]
) -> list[PlanStep]:
    """The steps that are reported. Raises NotFound, InvalidRequest that names every wrong one, or Conflict."""
    by_number = {step.number: step for step in steps if step.is_move}
    first = by_number.get(int(number)) if number.isascii() and number.isdigit() and len(number) < 10 else None  # noqa: PLR2004
    if first is None:
        raise NotFound(f"The plan has no move {number[:20]!r}.", reason="MOVE_NOT_FOUND")
    wrong = [
        *findings,
        *(
            FieldError(f"along.{at}", "exists", f"Step {one} is no move of the plan.")
            for at, one in enumerate(along)
            if one not in by_number
        ),
    ]
    if wrong:
        raise InvalidRequest(as_sentence(wrong), errors=wrong)
    chosen = list({one.number: one for one in (first, *(by_number[one] for one in along))}.values())
    for step in chosen:
        if step.state in {StepState.DONE, StepState.RUNNING} or (step.state is StepState.FAILED and step.began_at is not None):
            continue
        msg = f"Step {step.number} is {step.state}: {step.state_reason or 'it was not offered yet.'}"
        raise Conflict(msg, reason="MOVE_NOT_OFFERED", hint=f"The plan is {plan.state}; moves are done once they are offered.")
    return chosen


def _still_held(uow: UnitOfWork, actor: Actor, step: PlanStep) -> Placement:
    placement = uow.placements.get(actor.project_id, step.placement_id, lock=True) if step.placement_id else None
    if placement is None or not uow.placements.still_held([placement.id]):
        msg = f"The placement of step {step.number} has ended."
        raise Conflict(msg, reason="PLACEMENT_ENDED", hint="Nothing is left to move; the plan goes on without it.")
    source = step.source
    at = (str(placement.cluster_id), placement.node_group, placement.node)
    if source is None or at != (source.cluster, source.group, source.node):
        msg = f"The placement of step {step.number} is not where the plan takes it from: it lies on {'/'.join(map(str, at))}."
        raise Conflict(msg, reason="PLACEMENT_ELSEWHERE")
    return placement


def _taken(shape: NodeShape | None, placement: Placement) -> tuple[float, float]:
    """Watts and cost per hour of what is held, on a node of this shape; as before where the shape is not known."""
    if shape is None:
        return placement.watts, placement.cost_per_hour
    watts = shape.draw_w(placement.cpu_milli, placement.accelerators * placement.share_milli / 1000)
    return round(watts, 3), round(share_of(shape, placement) * shape.price_per_hour, 6)


def _seat(fleet: ProjectFleet, target: UUID, step: PlanStep, spot: Spot, placement: Placement) -> tuple[Group, tuple[int, ...]]:
    """Seat it in a fleet that nobody else sees; its group and devices. Raises Conflict where it may not lie there."""
    member = fleet.members.get(target)
    if member is None or member.closed is not None:
        msg = f"The target of step {step.number} takes no work: it is {member.closed if member else 'gone'}."
        raise Conflict(msg, reason="TARGET_CLOSED")
    group = next((one for one in member.groups if one.name == spot.group), None)
    if group is None or spot.node >= len(group.slots):
        msg = f"There is no node {spot.node} of group {spot.group} in cluster {member.name!r}."
        raise Conflict(msg, reason="NO_ROOM")
    slot = group.slots[spot.node]
    devices = fleet.devices_at(slot, placement)
    alone = placement.isolation is Isolation.NODE and fleet.pods_on[slot]
    if devices is None or fleet.alone_on[slot] or alone or member.loners:
        msg = f"Node {spot.node} of group {spot.group} in cluster {member.name!r} has no room for step {step.number}."
        hint = "Another move may have to go first; those that swap places are reported together (along)."
        raise Conflict(msg, reason="NO_ROOM", hint=hint)
    fleet.seat(replace(placement, devices=devices), slot)
    return group, devices
