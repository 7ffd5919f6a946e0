"""How a tick looks, and how often: never more than its share of Magnum's time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.pacing import FEW, Costs, Look, choose, look_again_s, next_interval


@pytest.mark.parametrize(
    "in_flight,changes_per_s,expected",
    [
        (0, 1.0, Look.NOTHING),
        (1, 1000.0, Look.GETS),
        (FEW, 0.0, Look.GETS),
        (20, 0.1, Look.NEWEST),  # 20 GETs are 240 ms, a page of a few rows 20
        (20, 1000.0, Look.GETS),  # a stormy project: the page would be huge, the 20 are not
        (10_000, 100.0, Look.NEWEST),
    ],
)
def test_choose(in_flight: int, changes_per_s: float, expected: Look) -> None:
    assert choose(in_flight, Costs(changes_per_s=changes_per_s), 5.0)[0] is expected


@given(st.integers(FEW + 1, 20_000), st.floats(0, 1000), st.floats(0, 60))
def test_the_chosen_way_is_the_cheaper_one(in_flight: int, rate: float, interval_s: float) -> None:
    costs = Costs(changes_per_s=rate)
    look, page = choose(in_flight, costs, interval_s)
    gets = in_flight * costs.get_s
    pages = 0.008 + (int(rate * max(interval_s, 1.0) * 1.25) + 5) * costs.listed_s
    assert look is (Look.GETS if gets <= pages else Look.NEWEST)
    assert (page > 0) == (look is Look.NEWEST)


@given(st.integers(1, 20_000), st.floats(0, 1000), st.floats(0, 100), st.floats(0.001, 1.0))
def test_ticks_keep_to_their_share(in_flight: int, spent_s: float, work_s: float, share: float) -> None:
    took_s = spent_s + work_s
    interval = next_interval(in_flight=in_flight, spent_s=spent_s, took_s=took_s, share=share, minimum_s=2, idle_s=300)
    assert spent_s / interval <= share * (1 + 1e-9)
    assert interval >= (1 if in_flight <= FEW else 2)
    assert interval > took_s
    assert interval <= max(2, spent_s / share, took_s + 0.1)


def test_idle_scopes_are_seldom_looked_at() -> None:
    assert next_interval(in_flight=0, spent_s=9, took_s=10, share=0.5, minimum_s=2, idle_s=300) == 310


@pytest.mark.parametrize("age_s,delete,other", [(0, 2, 45), (16, 2, 45), (80, 10, 45), (400, 30, 100), (86_400, 30, 300)])
def test_look_again(age_s: float, delete: float, other: float) -> None:
    assert look_again_s(age_s, gone_is_the_goal=True) == delete
    assert look_again_s(age_s, gone_is_the_goal=False) == other


def test_costs_are_learnt_and_bounded() -> None:
    costs = Costs()
    for _ in range(200):
        costs = costs.learn(gets=10, gets_s=0.5, pages=1, listed=100, listed_s=0.508)
    assert costs.get_s == pytest.approx(0.05)
    assert costs.listed_s == pytest.approx(0.005, rel=0.01)
    for _ in range(200):
        costs = costs.learn(gets=1, gets_s=100.0, pages=1, listed=20, listed_s=100.0)
    assert costs.get_s <= 0.05
    assert costs.listed_s <= 0.05 * (1 + 1e-9)
    for _ in range(500):
        costs = costs.learn(gets=1, gets_s=0.0, pages=1, listed=20, listed_s=0.0)
    assert costs.get_s >= 0.002 * (1 - 1e-9)
    assert costs.listed_s >= 0.0002 * (1 - 1e-9)


def test_nothing_is_learnt_from_nothing_or_from_a_handful_of_rows() -> None:
    assert Costs().learn(gets=0, gets_s=0.0, pages=1, listed=19, listed_s=9.0) == Costs()


def test_rate_of_changes_follows_the_last_interval() -> None:
    assert Costs(changes_per_s=1.0).saw_changes(50, 5.0).changes_per_s == pytest.approx(5.5)
    assert Costs(changes_per_s=1.0).saw_changes(50, 0.0).changes_per_s == pytest.approx(25.5)


def test_costs_survive_their_row() -> None:
    costs = Costs(0.003, 0.02, 7.0)
    assert Costs.from_dict(costs.as_dict()) == costs
    assert Costs.from_dict({"get_s": 0.02, "of_another_release": 1}) == Costs(get_s=0.02)
