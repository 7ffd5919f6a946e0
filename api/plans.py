"""/plans: plans of consolidation, approved, applied and followed."""

from dataclasses import asdict
from typing import Any, Final

from flask import Response, request

from api import inputs
from api.clusters import next_page
from api.inputs import LIMIT, UUID_MARKER, Param, Query, one_of, read_fields
from api.kit import Kit
from api.render import answer, listing, rfc3339
from api.schemas import plans as schemas
from api.spec import Blueprint, Outcome, operation
from shared.domain.plans import NEW, PlanState, PlanStep
from shared.errors import FieldError
from shared.services.plans import Shown

_DONE: Final = schemas.MoveDone()
_STATES: Final = {state.value: state.value for state in PlanState}
LIST: Final = Query(
    (Param("state", one_of(_STATES), {"type": "string", "enum": list(_STATES)}, "Only those in this state."), LIMIT, UUID_MARKER)
)


class PlanViews:
    """The operations on plans."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def blueprint(self) -> Blueprint:
        """Their paths."""
        made = Blueprint("plans", __name__, description="Plans of consolidation, carried out.")
        made.add_url_rule("/plans", view_func=self.list_plans, methods=["GET"])
        made.add_url_rule("/plans/<plan_id>", view_func=self.get_plan, methods=["GET"])
        made.add_url_rule("/plans/<plan_id>", view_func=self.cancel_plan, methods=["DELETE"])
        made.add_url_rule("/plans/<plan_id>/approve", view_func=self.approve_plan, methods=["POST"])
        made.add_url_rule("/plans/<plan_id>/apply", view_func=self.apply_plan, methods=["POST"])
        made.add_url_rule("/plans/<plan_id>/moves/<number>/done", view_func=self.report_move, methods=["POST"])
        return made

    @operation(
        "List plans",
        {200: Outcome("The project's plans, newest first, without their steps.", schemas.StoredPlanHead, ("Link",), many=True)},
        query=LIST,
    )
    def list_plans(self) -> Response:
        """A bare array. Where there are more, the header Link has the next page's address."""
        actor = self._kit.guard.actor("plans:get")
        asked = LIST.read()
        page = self._kit.container.plans.page(actor, state=asked["state"], limit=asked["limit"], marker=asked["marker"])
        return listing([_head(one) for one in page.items], next_page("/plans", asked, page.next_marker))

    @operation("Show a plan", {200: Outcome("The plan and its steps.", schemas.StoredPlan)}, refusals=(404,), query=inputs.NOTHING)
    def get_plan(self, plan_id: str) -> Response:
        """Each step with its state and the reason for it, its job, and what it was planned for; the objective with its proven bound."""
        actor = self._kit.guard.actor("plans:get")
        inputs.NOTHING.read()
        return answer(_whole(self._kit.container.plans.get(actor, plan_id)))

    @operation(
        "Approve a plan",
        {200: Outcome("It is approved.", schemas.StoredPlan)},
        refusals=(404, 409),
        query=inputs.NOTHING,
    )
    def approve_plan(self, plan_id: str) -> Response:
        """Nothing is begun by that. Who may is a matter of the rule `plans:approve` and of `PLAN_APPROVAL`."""
        actor = self._kit.guard.actor("plans:approve")
        inputs.NOTHING.read()
        return answer(_whole(self._kit.container.plans.approve(actor, plan_id)))

    @operation(
        "Apply a plan",
        {202: Outcome("It is being applied, or was found stale at once: `state` says which.", schemas.StoredPlan, ("Location",))},
        refusals=(404, 409, 502, 504),
        query=inputs.NOTHING,
    )
    def apply_plan(self, plan_id: str) -> Response:
        """Steps run one after the other, each held against the present just before: on any difference the plan is `stale`, and nothing
        more is begun. One plan of a project is applied at a time.
        """
        actor = self._kit.guard.actor("plans:apply")
        inputs.NOTHING.read()
        shown = self._kit.container.plans.apply(actor, plan_id)
        return answer(_whole(shown), 202, {"Location": f"/plans/{shown.plan.id}"})

    @operation(
        "Withdraw a plan",
        {200: Outcome("It is withdrawn.", schemas.StoredPlan)},
        refusals=(404, 409),
        query=inputs.NOTHING,
    )
    def cancel_plan(self, plan_id: str) -> Response:
        """Of one that is being applied, what has begun goes on by itself (`DELETE /jobs/{id}` may end that); nothing more is begun."""
        actor = self._kit.guard.actor("plans:cancel")
        inputs.NOTHING.read()
        return answer(_whole(self._kit.container.plans.cancel(actor, plan_id)))

    @operation(
        "Report a move",
        {200: Outcome("The placement lies on its target.", schemas.StoredPlan)},
        refusals=(404, 409, 502, 504),
        body=schemas.MoveDone,
        body_required=False,
        query=inputs.NOTHING,
    )
    def report_move(self, plan_id: str, number: str) -> Response:
        """By whoever moves pods, after it was done. The target's room is checked, and the placement's row moved, in one transaction. A
        repeated report changes nothing.
        """
        actor = self._kit.guard.actor("plans:moved")
        inputs.NOTHING.read()
        fields: dict[str, Any] = {}
        findings: list[FieldError] = []
        if request.content_length or (request.content_length is None and request.headers.get("Transfer-Encoding")):
            _, fields, findings = read_fields(_DONE)
        shown = self._kit.container.plans.moved(actor, plan_id, number, along=fields.get("along", ()), findings=findings)
        return answer(_whole(shown))


def _head(shown: Shown) -> dict[str, Any]:
    plan = shown.plan
    return {
        "id": str(plan.id),
        "state": plan.state.value,
        "reason": plan.reason,
        "detail": plan.detail,
        **{name: plan.summary[name] for name in ("objective", "cost_per_hour", "watts", "moves")},
        "step_states": shown.counts,
        "requested_by": plan.requested_by,
        "approved_by": plan.approved_by,
        "applied_by": plan.applied_by,
        "created_at": rfc3339(plan.created_at),
        "valid_until": rfc3339(plan.valid_until),
        "approved_at": rfc3339(plan.approved_at),
        "began_at": rfc3339(plan.began_at),
        "finished_at": rfc3339(plan.finished_at),
    }


def _whole(shown: Shown) -> dict[str, Any]:
    return _head(shown) | {"kept": shown.plan.summary["kept"], "steps": [_step(one) for one in shown.steps]}


def _step(step: PlanStep) -> dict[str, Any]:
    cluster_id = step.cluster_id or (None if step.ref.startswith(NEW) else step.ref)
    return {
        "number": step.number,
        "action": step.act.value,
        "cluster_id": str(cluster_id) if cluster_id else None,
        "name": step.name,
        "node_group": step.group,
        "nodes_before": step.nodes_before if step.group else None,
        "nodes": step.nodes if step.group else None,
        "keeps": list(step.keeps),
        "placement_id": str(step.placement_id) if step.placement_id else None,
        "workload": step.workload,
        "source": asdict(step.source) if step.source else None,
        "target": asdict(step.target) if step.target else None,
        "reason": step.reason,
        "state": step.state.value,
        "state_reason": step.state_reason,
        "job_id": str(step.job_id) if step.job_id else None,
        "began_at": rfc3339(step.began_at),
        "ended_at": rfc3339(step.ended_at),
        "deadline_at": rfc3339(step.deadline_at),
    }
