"""Scale policies, and what they decide."""

from typing import Any

from marshmallow import fields

from api.schemas.fields import Amount, Count, Flag, Names, Parts, RequestSchema, Strict, Text
from api.schemas.fields import refuse as refuse_value
from api.schemas.match import WORKLOADS_MAX, Workload
from shared.domain.clusters import NODE_COUNT_MAX
from shared.domain.requirements import Need
from shared.domain.scaling import DAYS, WINDOWS_MAX, Action

_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z"
_DAY_S = 86_400


class Days(Names):
    """Days of the week."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        found = super()._deserialize(value, attr, data, **kwargs)
        if not set(found) <= set(DAYS):
            raise refuse_value("choice", f"Each must be one of: {', '.join(DAYS)}.")
        return found


class ScaleWindow(RequestSchema):
    """A part of the week with bounds of its own; the first that holds counts."""

    days = Days(most=7, longest=3, required=True, metadata={"items": {"type": "string", "enum": list(DAYS)}})
    start = Text(most=5, pattern=_CLOCK, means="Must be a time of day like 08:30.", required=True)
    end = Text(
        most=5,
        pattern=_CLOCK,
        means="Must be a time of day like 18:00.",
        required=True,
        metadata={"description": "Not included. Before `start`: on the next day."},
    )
    min_nodes = Count(least=0, most=NODE_COUNT_MAX, unit="nodes")
    max_nodes = Count(least=0, most=NODE_COUNT_MAX, unit="nodes", allow_none=True)
    hibernate = Flag(metadata={"description": "Sleep, as long as nothing is held there."})


class ScalePolicyPut(RequestSchema):
    """A cluster's policy. Bounds are of all its workers; shares are of the scarcest resource."""

    enabled = Flag(metadata={"description": "Whether it is applied; otherwise it only explains.", "default": False})
    min_nodes = Count(least=0, most=NODE_COUNT_MAX, unit="nodes", metadata={"default": 0})
    max_nodes = Count(
        least=0, most=NODE_COUNT_MAX, unit="nodes", metadata={"description": "Bounds growth; nothing is removed for it."}
    )
    scale_out_above = Amount(least=0.01, most=1, metadata={"default": 0.9})
    scale_in_below = Amount(least=0, most=0.99, metadata={"default": 0.4})
    target_utilization = Amount(least=0.01, most=1, metadata={"description": "What both aim at.", "default": 0.7})
    cool_down_seconds = Amount(
        least=0, most=_DAY_S, unit="s", metadata={"description": "After any change of size.", "default": 600}
    )
    trust_placements = Flag(
        metadata={
            "description": "Placements tell all that runs here. Otherwise nothing shrinks unless the measured use is known to be low.",
            "default": False,
        }
    )
    time_zone = Text(most=64, metadata={"description": "Of the schedule.", "default": "UTC", "examples": ["Asia/Seoul"]})
    schedule = Parts(ScaleWindow, least=0, most=WINDOWS_MAX)


class ScaleWindowShown(Strict):
    """A part of the week."""

    days = fields.List(fields.String(), required=True)
    start = fields.String(required=True)
    end = fields.String(required=True)
    min_nodes = fields.Integer(required=True)
    max_nodes = fields.Integer(required=True, allow_none=True)
    hibernate = fields.Boolean(required=True)


class ScalePolicyShown(Strict):
    """A policy."""

    enabled = fields.Boolean(required=True)
    min_nodes = fields.Integer(required=True)
    max_nodes = fields.Integer(required=True)
    scale_out_above = fields.Float(required=True)
    scale_in_below = fields.Float(required=True)
    target_utilization = fields.Float(required=True)
    cool_down_seconds = fields.Float(required=True)
    trust_placements = fields.Boolean(required=True)
    time_zone = fields.String(required=True)
    schedule = fields.List(fields.Nested(ScaleWindowShown), required=True)


class LastDecision(Strict):
    """What a policy came to."""

    action = fields.Enum(Action, by_value=True, required=True)
    target_nodes = fields.Integer(required=True, allow_none=True, metadata={"description": "All workers after it."})
    targets = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True, metadata={"description": "By node group."})
    reasons = fields.List(fields.String(), required=True)
    blocked = fields.List(fields.String(), required=True, metadata={"description": "What kept more from being done."})
    job_ids = fields.List(fields.UUID(), metadata={"description": "The jobs that were begun."})


class ScalePolicy(ScalePolicyShown):
    """A cluster's policy, and what last came of it."""

    cluster_id = fields.UUID(required=True)
    last_decision = fields.Nested(LastDecision, required=True, allow_none=True)
    decided_at = fields.DateTime(required=True, allow_none=True)
    updated_by = fields.String(required=True, allow_none=True)
    updated_at = fields.DateTime(required=True)


class ScaleDecision(LastDecision):
    """What the policy would do now."""

    cluster_id = fields.UUID(required=True)
    enabled = fields.Boolean(required=True)
    policy = fields.Nested(ScalePolicyShown, required=True)
    timestamp = fields.DateTime(required=True)


class AnalysisRequest(RequestSchema):
    """Workloads that are to run."""

    workloads = Parts(Workload, least=0, most=WORKLOADS_MAX, required=True)
    cluster_id = Text(most=64, metadata={"description": "Only this cluster is looked at.", "format": "uuid"})


class ClusterDecision(Strict):
    """What is to become of one cluster."""

    action = fields.Enum(Need, by_value=True, required=True)
    cluster_id = fields.UUID(required=True, allow_none=True, metadata={"description": "None for one that is to be created."})
    name = fields.String(required=True, metadata={"description": "The cluster's name, or the type's of one that is to be created."})
    target_nodes = fields.Integer(required=True, allow_none=True, metadata={"description": "All workers after it."})
    targets = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True, metadata={"description": "By node group."})
    reasons = fields.List(fields.String(), required=True)
    blocked = fields.List(fields.String(), required=True, metadata={"description": "What keeps more from being done."})


class AnalyzedWorkload(Strict):
    """Where one workload would lie."""

    name = fields.String(required=True)
    cluster = fields.String(
        required=True, allow_none=True, metadata={"description": "Name of the cluster; `type#1` is one that is to be created."}
    )
    reasons = fields.List(fields.String(), required=True)


class Analysis(Strict):
    """The decision that brings the most, and all of them."""

    action = fields.Enum(Need, by_value=True, required=True)
    cluster_id = fields.UUID(required=True, allow_none=True)
    target_nodes = fields.Integer(required=True, allow_none=True)
    reasons = fields.List(fields.String(), required=True)
    decisions = fields.List(fields.Nested(ClusterDecision), required=True)
    workloads = fields.List(fields.Nested(AnalyzedWorkload), required=True)
    timestamp = fields.DateTime(required=True)
