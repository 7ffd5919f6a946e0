"""Budgets."""

from marshmallow import fields

from api.schemas.fields import Amount, Choice, Flag, Parts, RequestSchema, Strict, Text
from api.schemas.rates import Money
from shared.domain.budgets import Action, Kind, Of, Period

_KINDS = [one.value for one in Kind]
_PERIODS = [one.value for one in Period]


class ThresholdCreate(RequestSchema):
    """A part of the amount, and what happens there."""

    at = Amount(least=0.01, most=10, required=True, metadata={"description": "1: all of it.", "examples": [0.8]})
    action = Choice([one.value for one in Action], required=True)
    of = Choice([one.value for one in Of], metadata={"description": "Of what is used, or expected.", "default": "actual"})


class BudgetCreate(RequestSchema):
    """A budget."""

    name = Text(required=True, most=120, metadata={"examples": ["team's money"]})
    kind = Choice(_KINDS, required=True, metadata={"description": "`energy` is in kWh, `power` in watts."})
    amount = Money(required=True, metadata={"examples": ["2500"]})
    currency = Text(
        most=3, least=3, pattern=r"^[A-Z]{3}\Z", means="Must be a code like USD.", metadata={"description": "Of `money` alone."}
    )
    period = Choice(_PERIODS, metadata={"description": "Of UTC. Not of `power`.", "default": "month"})
    thresholds = Parts(
        ThresholdCreate, most=10, metadata={"description": "By default told at 0.8 and 1, and at 1 whatever adds is refused."}
    )
    binding = Flag(metadata={"description": "Members can't take it away; needs the role admin.", "default": False})


class BudgetThreshold(Strict):
    """A threshold as it stands."""

    at = fields.Float(required=True)
    action = fields.Enum(Action, by_value=True, required=True)
    of = fields.Enum(Of, by_value=True, required=True)
    reached = fields.Boolean(required=True)
    told = fields.Boolean(required=True, metadata={"description": "In this period."})


class Budget(Strict):
    """A budget, as it stood at `evaluated_at`."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    kind = fields.Enum(Kind, by_value=True, required=True)
    amount = fields.String(required=True)
    unit = fields.String(required=True, metadata={"examples": ["USD", "kWh", "W"]})
    currency = fields.String(required=True, allow_none=True)
    period = fields.String(required=True, allow_none=True, metadata={"enum": [*_PERIODS, None]})
    binding = fields.Boolean(required=True)
    thresholds = fields.List(fields.Nested(BudgetThreshold), required=True)
    start = fields.DateTime(required=True, allow_none=True)
    end = fields.DateTime(required=True, allow_none=True)
    used = fields.String(required=True)
    forecast = fields.String(
        required=True, allow_none=True, metadata={"description": "By the period's end, if all that runs now runs on."}
    )
    evaluated_at = fields.DateTime(required=True, allow_none=True)
    refusing_since = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "Since when changes that add nodes are refused."}
    )
    created_by = fields.String(required=True)
    created_at = fields.DateTime(required=True)
