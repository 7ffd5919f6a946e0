"""Budgets of a project: how much of one is used, what is expected, and what follows from that. No clock and no database here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID


class Kind(StrEnum):
    """What is bounded."""

    MONEY = "money"  #: in one currency, over a period
    ENERGY = "energy"  #: kWh at the data centre's meter, over a period
    POWER = "power"  #: watts that the clusters may draw at their highest, at any moment


class Period(StrEnum):
    """Over which a sum is bounded: a month or a day of UTC."""

    MONTH = "month"
    DAY = "day"


class Of(StrEnum):
    """What a threshold is held against."""

    ACTUAL = "actual"
    FORECAST = "forecast"  #: the period's end, if all that runs now runs on


class Action(StrEnum):
    """What happens at a threshold."""

    NOTIFY = "notify"
    REFUSE = "refuse_new"
    HIBERNATE = "hibernate"


#: The unit of each kind; money has its currency.
UNITS: Final = {Kind.ENERGY: "kWh", Kind.POWER: "W"}


@dataclass(frozen=True, slots=True)
class Threshold:
    """``at``: the part of the amount, such as 0.8."""

    at: Decimal
    action: Action
    of: Of = Of.ACTUAL

    def as_dict(self) -> dict[str, Any]:
        """As stored and shown."""
        return {"at": float(self.at), "action": self.action.value, "of": self.of.value}


#: What holds where a budget names no thresholds.
USUAL: Final = (
    Threshold(Decimal("0.8"), Action.NOTIFY),
    Threshold(Decimal(1), Action.NOTIFY),
    Threshold(Decimal(1), Action.REFUSE),
)


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget as it was given. ``binding``: an administrator set it, and the project's members can't take it away."""

    id: UUID
    project_id: str
    name: str
    kind: Kind
    amount: Decimal
    thresholds: tuple[Threshold, ...] = USUAL
    currency: str | None = None
    period: Period | None = None
    binding: bool = False

    @property
    def unit(self) -> str:
        """Of ``amount``."""
        return UNITS.get(self.kind) or str(self.currency)


@dataclass(frozen=True, slots=True)
class State:
    """How a budget stands. ``passed``: numbers of the thresholds that are reached now."""

    used: Decimal
    forecast: Decimal | None
    passed: tuple[int, ...]

    def does(self, budget: Budget, action: Action) -> bool:
        """Whether this action is called for now."""
        return any(budget.thresholds[number].action is action for number in self.passed)


def span_of(period: Period, now: datetime) -> tuple[datetime, datetime]:
    """The period that ``now`` is in: its begin, and its end, which is not part of it."""
    start = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.DAY:
        return start, start + timedelta(days=1)
    start = start.replace(day=1)
    return start, (start + timedelta(days=32)).replace(day=1)


def state_of(budget: Budget, used: Decimal, forecast: Decimal | None) -> State:
    """Which thresholds are reached. One at the forecast is reached too where the actual use is there already."""
    ahead = used if forecast is None else max(used, forecast)
    reached = [
        number
        for number, one in enumerate(budget.thresholds)
        if (ahead if one.of is Of.FORECAST else used) >= one.at * budget.amount
    ]
    return State(used, forecast, tuple(reached))


def fresh(state: State, told: Sequence[int]) -> tuple[int, ...]:
    """Thresholds that are reached now and were not told of in this period."""
    return tuple(number for number in state.passed if number not in set(told))
