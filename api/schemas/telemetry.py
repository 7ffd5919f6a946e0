"""Meters."""

from marshmallow import fields

from api.schemas.fields import Strict


class MeterFailure(Strict):
    """A source, or one reader of it, gave nothing."""

    reader = fields.String(required=True, metadata={"description": "Empty: the whole source."})
    reason = fields.String(required=True, metadata={"examples": ["UNREACHABLE"]})
    detail = fields.String(required=True)


class MeterFinding(Strict):
    """Values that were left out, or don't fit together; `detail` tells the first of `count`."""

    family = fields.String(required=True, metadata={"examples": ["rebellions_power"]})
    rule = fields.String(required=True, metadata={"examples": ["implausible"]})
    detail = fields.String(required=True)
    count = fields.Integer(required=True)


class MeterSource(Strict):
    """A Prometheus, as it was at the last collection."""

    name = fields.String(required=True)
    looked_at = fields.AwareDateTime(required=True, allow_none=True, metadata={"description": "Null: not yet."})
    answered_at = fields.AwareDateTime(
        required=True, allow_none=True, metadata={"description": "When it last answered as a whole."}
    )
    samples = fields.Integer(required=True, metadata={"description": "What the last collection used of its answers."})
    failures = fields.List(fields.Nested(MeterFailure), required=True)
    findings = fields.List(fields.Nested(MeterFinding), required=True)
