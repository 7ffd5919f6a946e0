"""How budgets stand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.budgets import Action, Budget, Kind, Of, Period, Threshold, fresh, span_of, state_of

AMOUNTS = st.decimals(0, 1_000_000, places=3)


def a_budget(*thresholds: Threshold) -> Budget:
    return Budget(uuid4(), "p", "b", Kind.MONEY, Decimal(100), thresholds, "USD", Period.MONTH)


def test_a_threshold_is_reached_at_its_very_part_and_one_of_the_forecast_before() -> None:
    budget = a_budget(
        Threshold(Decimal("0.5"), Action.NOTIFY),
        Threshold(Decimal(1), Action.REFUSE),
        Threshold(Decimal(1), Action.HIBERNATE, Of.FORECAST),
    )
    assert state_of(budget, Decimal("49.999"), Decimal("99.999")).passed == ()
    assert state_of(budget, Decimal(50), Decimal(100)).passed == (0, 2)
    full = state_of(budget, Decimal(100), Decimal(90))  # more is used than was expected
    assert full.passed == (0, 1, 2)
    assert full.does(budget, Action.REFUSE)
    assert not state_of(budget, Decimal(60), None).does(budget, Action.REFUSE)


@given(AMOUNTS, AMOUNTS, st.lists(st.tuples(st.decimals("0.01", 10, places=2), st.sampled_from(Of)), max_size=5))
def test_more_use_never_reaches_fewer_thresholds(used: Decimal, more: Decimal, parts: list[tuple[Decimal, Of]]) -> None:
    budget = a_budget(*(Threshold(at, Action.NOTIFY, of) for at, of in parts))
    before, after = state_of(budget, used, used), state_of(budget, used + more, used + more)
    assert set(before.passed) <= set(after.passed)
    assert set(fresh(after, before.passed)) == set(after.passed) - set(before.passed)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)), st.sampled_from(Period))  # noqa: DTZ001 - given a zone below
def test_periods_follow_one_another(moment: datetime, period: Period) -> None:
    now = moment.replace(tzinfo=UTC)
    start, end = span_of(period, now)
    assert start <= now < end
    assert span_of(period, end)[0] == end
    assert span_of(period, start - timedelta(microseconds=1))[1] == start


@pytest.mark.parametrize("hour,day", [(23, 1), (0, 2)])
def test_a_day_is_one_of_utc(hour: int, day: int) -> None:
    assert span_of(Period.DAY, datetime(2026, 5, day, hour, tzinfo=UTC))[0].day == day
