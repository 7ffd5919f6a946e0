"""Rate cards."""

from typing import Any

from marshmallow import fields

from api.schemas.fields import Choice, Moment, Part, Parts, RequestSchema, Strict, Text
from api.schemas.scaling import Days

_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]\Z"
_CLOCK_MEANS = "Must be a time of day like 08:30."


class Money(Text):
    """A decimal amount as text, so that no digit is lost on the way."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            most=26,
            pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?\Z",
            means='Must be an amount as text, like "0.125": at most 12 digits before the point and 12 behind it.',
            **kwargs,
        )


class _Priced(RequestSchema):
    """Either a price per hour, or what it cost to buy."""

    price_per_hour = Money()
    purchase_price = Money(metadata={"description": "Spread over `years` of 8760 hours, of which the share `duty` is used."})
    years = Money(metadata={"description": "From 0.01 to 100."})
    duty = Money(metadata={"description": "From 0.001 to 1.", "default": "1"})


class FlavorPrice(_Priced):
    """What an hour of a node of a flavor costs, electricity not included."""

    flavor = Text(required=True)


class AcceleratorPrice(_Priced):
    """What an hour of an accelerator costs, electricity not included."""

    accelerator = Text(required=True, metadata={"description": "Its id or an alias, as `GET /accelerators` has them."})


class TariffWindow(RequestSchema):
    """A part of the week with a tariff of its own; the first that holds counts."""

    days = Days(most=7, longest=3, required=True)
    start = Text(most=5, pattern=_CLOCK, means=_CLOCK_MEANS, required=True)
    end = Text(
        most=5,
        pattern=_CLOCK,
        means=_CLOCK_MEANS,
        required=True,
        metadata={"description": "Not included. Before `start`: on the next day."},
    )
    price_per_kwh = Money(required=True)


class Tariff(RequestSchema):
    """Electricity. Its cost is the energy of the nodes x PUE x the tariff of the hour."""

    price_per_kwh = Money(required=True, metadata={"description": "Outside all windows."})
    time_zone = Text(most=64, metadata={"description": "Of the windows.", "default": "UTC", "examples": ["Asia/Seoul"]})
    windows = Parts(TariffWindow, least=0, most=32)
    pue = Money(metadata={"description": "Power usage effectiveness, from 1 to 10.", "default": "1"})
    carbon_g_per_kwh = Money(metadata={"description": "Grams of CO2 per kWh."})


class RateCardCreate(RequestSchema):
    """A card prices what it names; what no card prices has the default."""

    name = Text(required=True)
    scope = Choice(("project", "site"), metadata={"description": "`site`: every project's.", "default": "project"})
    currency = Text(least=3, most=3, required=True, metadata={"description": "A code of ISO 4217.", "examples": ["KRW"]})
    valid_from = Moment(required=True)
    valid_to = Moment(metadata={"description": "Not included; without it, the card has no end."})
    flavors = Parts(FlavorPrice, least=0, most=500)
    accelerators = Parts(AcceleratorPrice, least=0, most=500)
    core_hour = Money(metadata={"description": "Of nodes whose flavor has no price."})
    memory_gb_hour = Money(metadata={"description": "Of nodes whose flavor has no price."})
    storage_gb_hour = Money(metadata={"description": "Of volumes."})
    address_hour = Money(metadata={"description": "Of floating addresses."})
    electricity = Part(Tariff)


class _PricedShown(Strict):
    """A price as it was given."""

    price_per_hour = fields.String()
    purchase_price = fields.String()
    years = fields.String()
    duty = fields.String()


class FlavorPriceShown(_PricedShown):
    """What an hour of a node costs."""

    flavor = fields.String(required=True)
    per_node_hour = fields.Decimal(required=True, as_string=True)


class AcceleratorPriceShown(_PricedShown):
    """What an hour of an accelerator costs."""

    accelerator = fields.String(required=True)
    per_device_hour = fields.Decimal(required=True, as_string=True)


class RateCard(Strict):
    """A rate card."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    scope = fields.String(required=True)
    currency = fields.String(required=True)
    valid_from = fields.DateTime(required=True)
    valid_to = fields.DateTime(required=True, allow_none=True)
    flavors = fields.List(fields.Nested(FlavorPriceShown), required=True)
    accelerators = fields.List(fields.Nested(AcceleratorPriceShown), required=True)
    core_hour = fields.String(required=True, allow_none=True)
    memory_gb_hour = fields.String(required=True, allow_none=True)
    storage_gb_hour = fields.String(required=True, allow_none=True)
    address_hour = fields.String(required=True, allow_none=True)
    electricity = fields.Dict(required=True, allow_none=True, metadata={"description": "As it was given."})
    created_by = fields.String(required=True)
    created_at = fields.DateTime(required=True)
