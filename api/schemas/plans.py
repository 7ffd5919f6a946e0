"""Plans of consolidation that are kept, and how far they have come."""

from typing import Any

from marshmallow import fields

from api.schemas.fields import Count, RequestSchema, Strict, name_of, refuse
from api.schemas.optimize import Change, KeptCluster, Objective, PlanStep
from shared.domain.plans import PlanState, StepState

_MOST_STEPS = 100_000


class Numbers(fields.List[Any]):
    """A list of numbers of steps."""

    def __init__(self, *, most: int, **kwargs: Any) -> None:
        metadata = {"minItems": 0, "maxItems": most} | kwargs.pop("metadata", {})
        super().__init__(Count(least=0, most=_MOST_STEPS), metadata=metadata, **kwargs)
        self._most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if type(value) is not list:
            raise refuse("array", f"Must be an array of numbers of steps, not {name_of(value)}.")
        if len(value) > self._most:
            raise refuse("length", f"Must have at most {self._most} entries; it has {len(value)}.")
        return super()._deserialize(value, attr, data, **kwargs) or []


class MoveDone(RequestSchema):
    """A move that was done, with what was done in the same stroke."""

    along = Numbers(
        most=1000,
        metadata={
            "description": "Numbers of further moves that were done with it: pods that swap places find room only together.",
            "default": [],
        },
    )


class StoredPlanStep(PlanStep):
    """A step, and how far it has come."""

    state = fields.Enum(StepState, by_value=True, required=True)
    state_reason = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Why it waits, or what became of it; `reason` says why it was planned."},
    )
    workload = fields.String(required=True, allow_none=True)
    job_id = fields.UUID(required=True, allow_none=True)
    began_at = fields.DateTime(required=True, allow_none=True)
    ended_at = fields.DateTime(required=True, allow_none=True)
    deadline_at = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "By when an offered move must be reported."}
    )


class StoredPlanHead(Strict):
    """A plan without its steps."""

    id = fields.UUID(required=True, metadata={"description": "That of the job that made it, too."})
    state = fields.Enum(PlanState, by_value=True, required=True)
    reason = fields.String(required=True, allow_none=True, metadata={"description": "Why it has ended: a code."})
    detail = fields.String(required=True, allow_none=True, metadata={"description": "The same in words."})
    objective = fields.Nested(Objective, required=True)
    cost_per_hour = fields.Nested(Change, required=True)
    watts = fields.Nested(Change, required=True, metadata={"description": "Of all nodes at their highest."})
    moves = fields.Integer(required=True)
    step_states = fields.Dict(
        keys=fields.String(), values=fields.Integer(), required=True, metadata={"description": "How many steps are in which state."}
    )
    requested_by = fields.String(required=True, allow_none=True)
    approved_by = fields.String(required=True, allow_none=True)
    applied_by = fields.String(required=True, allow_none=True)
    created_at = fields.DateTime(required=True)
    valid_until = fields.DateTime(required=True, metadata={"description": "Not applied by then, it expires."})
    approved_at = fields.DateTime(required=True, allow_none=True)
    began_at = fields.DateTime(required=True, allow_none=True)
    finished_at = fields.DateTime(required=True, allow_none=True)


class StoredPlan(StoredPlanHead):
    """A plan with its steps, in the order in which they run."""

    kept = fields.List(fields.Nested(KeptCluster), required=True)
    steps = fields.List(fields.Nested(StoredPlanStep), required=True)
