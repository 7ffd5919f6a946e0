"""Plans over all clusters of a project."""

from marshmallow import fields

from api.schemas.fields import Amount, Flag, RequestSchema, Strict
from api.schemas.jobs import Job
from shared.domain.consolidation.plan import Act
from shared.services.consolidation import COST_PER_MOVE, SECONDS, SECONDS_MAX


class OptimizeRequest(RequestSchema):
    """What the plan is to weigh."""

    cost_per_move = Amount(
        least=0,
        most=1_000_000,
        metadata={
            "description": "What moving a pod of normal priority must save per hour, in the price currency, to be worth it.",
            "default": COST_PER_MOVE,
        },
    )
    max_seconds = Amount(least=1, most=SECONDS_MAX, unit="s", metadata={"description": "To search for.", "default": SECONDS})
    new_clusters = Flag(metadata={"description": "Whether clusters may be made, of any usable type.", "default": True})


class PlanStep(Strict):
    """One step. Room is made first, and taken away last."""

    number = fields.Integer(required=True)
    action = fields.Enum(Act, by_value=True, required=True)
    cluster_id = fields.UUID(required=True, allow_none=True, metadata={"description": "None for one that is to be created."})
    name = fields.String(required=True, metadata={"description": "The cluster's name, or the type's of one that is to be created."})
    node_group = fields.String(required=True, allow_none=True)
    nodes_before = fields.Integer(required=True, allow_none=True)
    nodes = fields.Integer(required=True, allow_none=True)
    keeps = fields.List(
        fields.Integer(), required=True, metadata={"description": "Numbers of the nodes that a shrink leaves; empty otherwise."}
    )
    placement_id = fields.UUID(required=True, allow_none=True, metadata={"description": "What is moved."})
    source = fields.Dict(required=True, allow_none=True, metadata={"description": "Cluster, group and number of the node."})
    target = fields.Dict(required=True, allow_none=True, metadata={"description": "Cluster, group and number of the node."})
    reason = fields.String(required=True)


class KeptCluster(Strict):
    """A cluster that stays as it is, or is not made."""

    cluster_id = fields.String(required=True)
    name = fields.String(required=True)
    reason = fields.String(required=True)


class Objective(Strict):
    """Money per hour: price, watts at the electricity rate, and moves. No plan is below `bound`; `gap` is the distance as a part."""

    before = fields.Float(required=True)
    after = fields.Float(required=True)
    bound = fields.Float(required=True)
    gap = fields.Float(required=True)
    optimal = fields.Boolean(required=True, metadata={"description": "Proven that nothing is better."})


class Change(Strict):
    """Before the plan, and after it."""

    before = fields.Float(required=True)
    after = fields.Float(required=True)


class Plan(Strict):
    """The plan."""

    message = fields.String(required=True)
    plan_id = fields.UUID(required=True, metadata={"description": "Its job's id, and its own: GET /plans/{id}."})
    steps = fields.List(fields.Nested(PlanStep), required=True)
    steps_in_all = fields.Integer(required=True)
    kept = fields.List(fields.Nested(KeptCluster), required=True)
    objective = fields.Nested(Objective, required=True)
    cost_per_hour = fields.Nested(Change, required=True)
    watts = fields.Nested(Change, required=True, metadata={"description": "Of all nodes at their highest."})
    moves = fields.Integer(required=True)
    timestamp = fields.DateTime(required=True)


class PlanAccepted(Strict):
    """A plan that was promised: `job.result` will have it."""

    message = fields.String(required=True)
    job = fields.Nested(Job, required=True)
    job_id = fields.UUID(required=True)
    timestamp = fields.DateTime(required=True)
