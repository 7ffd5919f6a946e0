"""Spans of time, shares of nodes, and amounts."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.accelerators import Accelerator, NodeShape
from shared.domain.costing import Held, Line, Rater, Use, _divided, allocated, metered, spans, watts
from shared.domain.rates import Book, Electricity, RateCard
from shared.services.costs import as_csv, money_text
from tests.builders import NOW

SHAPE = NodeShape("gpu", 16_000, 65_536, 16, 64.0, Accelerator("a", "v", "gpu", "A", 80.0, 60.0, 400.0, 2.0), 4)
HOUR = 3_600_000_000


def held(workload: str, cpu: int, memory: int = 0, devices: int = 0, *, node: int = 0, hours: tuple[float, float] = (0, 1)) -> Held:
    start, end = (NOW + timedelta(hours=hour) for hour in hours)
    return Held(workload, node, cpu, memory, devices, start, end)


def shares(*on: Held, nodes: int = 1, shape: NodeShape | None = SHAPE) -> dict[str, Fraction]:
    use = Use(uuid4(), "worker", "g", "gpu", nodes, NOW, NOW + timedelta(hours=1), held=on)
    return {name: amount / HOUR for name, amount in allocated(use, shape, use.start, use.end).items()}


@pytest.mark.parametrize(
    "on,expected",
    [
        ([], {}),
        ([held("a", 4_000)], {"a": Fraction(1, 4)}),
        ([held("a", 4_000, 32_768)], {"a": Fraction(1, 2)}),
        ([held("a", 4_000, 0, 3_000)], {"a": Fraction(3, 4)}),
        ([held("a", 99_000)], {"a": 1}),
        ([held("a", 16_000), held("b", 16_000)], {"a": Fraction(1, 2), "b": Fraction(1, 2)}),
        # Each takes half of something else: together they hold half of the node.
        ([held("a", 8_000), held("b", 0, 32_768)], {"a": Fraction(1, 4), "b": Fraction(1, 4)}),
        ([held("a", 4_000, hours=(0.5, 9))], {"a": Fraction(1, 8)}),
        ([held("a", 4_000, hours=(-1, 0.25)), held("a", 8_000, hours=(0.5, 1))], {"a": Fraction(5, 16)}),
        ([held("a", 4_000, node=1)], {}),
        ([held("a", 0)], {"a": 0}),
    ],
)
def test_what_is_held_of_a_node(on: list[Held], expected: dict[str, Any]) -> None:
    assert shares(*on) == expected


def test_of_a_node_of_unknown_size_all_is_held() -> None:
    assert shares(held("a", 1), held("b", 1), shape=None) == {"a": Fraction(1, 2), "b": Fraction(1, 2)}


@given(
    st.lists(
        st.builds(
            lambda name, cpu, memory, devices, node, start, length: held(
                name, cpu, memory, devices, node=node, hours=(start, start + length)
            ),
            st.sampled_from("abc"),
            st.integers(0, 20_000),
            st.integers(0, 70_000),
            st.integers(0, 5_000),
            st.integers(0, 3),
            st.floats(-1, 1),
            st.floats(0, 2),
        ),
        max_size=8,
    ),
    st.integers(0, 3),
)
def test_no_more_is_held_than_there_is(on: list[Held], nodes: int) -> None:
    found = shares(*on, nodes=nodes)
    assert all(share >= 0 for share in found.values())
    assert sum(found.values()) <= nodes


@given(
    st.timedeltas(timedelta(0), timedelta(days=1000)).map(lambda since: datetime(2024, 1, 1, tzinfo=UTC) + since),
    st.timedeltas(timedelta(seconds=1), timedelta(days=100)),
    st.sampled_from(["total", "hour", "day", "month"]),
)
def test_spans_cover_the_window_once(start: datetime, length: timedelta, granularity: str) -> None:
    end = start + length
    cuts = spans(start, end, granularity)
    assert (cuts[0], cuts[-1]) == (start, end)
    assert all(a < b for a, b in pairwise(cuts))
    for cut in cuts[1:-1]:
        assert (cut.minute, cut.second, cut.microsecond) == (0, 0, 0)
        assert granularity == "hour" or cut.hour == 0
        assert granularity != "month" or cut.day == 1


WHEN = st.integers(0, 200).map(lambda quarter: NOW + timedelta(minutes=15 * quarter))
SOMEONE = uuid4()


@given(
    st.lists(
        st.builds(
            lambda role, flavor, nodes, span, gb, on: Use(SOMEONE, role, "g", flavor, nodes, min(span), max(span), gb, 1, on),
            st.sampled_from(["worker", "master"]),
            st.sampled_from(["gpu", "cpu"]),
            st.integers(1, 9),
            st.tuples(WHEN, WHEN).filter(lambda span: span[0] != span[1]),
            st.integers(0, 3),
            st.sampled_from([None, (), (held("a", 4_000, hours=(3, 30)),)]),
        ),
        max_size=6,
    ),
    st.sampled_from(["total", "hour", "day"]),
)
def test_uses_told_together_cost_what_they_cost_one_by_one(uses: list[Use], granularity: str) -> None:
    end = NOW + timedelta(minutes=15 * 200)
    tariff = Electricity(Decimal("120.5"), pue=Decimal("1.3"), carbon=Decimal(430))
    card = RateCard(
        uuid4(), "KRW", NOW + timedelta(hours=7), flavors={"gpu": Decimal("5000.01")}, address=Decimal(1), electricity=tariff
    )
    rater = Rater(Book([card]), {"gpu": SHAPE}, NOW, end)
    cuts = spans(NOW, end, granularity)
    together = rater.rate(uses, cuts, lambda _use, _workload: "")
    whole, alone = Line(), Line()
    for line in together.values():
        whole.add(line)
    for use in uses:
        for line in rater.rate([use], cuts, lambda _use, _workload: "").values():
            alone.add(line)
    assert (whole.energy, whole.carbon, whole.sources) == (alone.energy, alone.carbon, alone.sources)
    assert (whole.node_micros, whole.accelerator_micros, whole.gb_micros) == (
        alone.node_micros,
        alone.accelerator_micros,
        alone.gb_micros,
    )
    assert whole.node_micros == sum((use.end - use.start) // timedelta(microseconds=1) * use.nodes for use in uses)
    shown, expected = whole.shown(), alone.shown()
    assert shown.keys() == expected.keys()
    for currency, parts in shown.items():
        for part, amount in parts.items():
            assert abs(amount - expected[currency][part]) <= Decimal("1e-9")


OTHER = uuid4()
SHAPES = {"gpu": SHAPE}


@given(
    st.lists(
        st.builds(
            lambda cluster, role, flavor, nodes, span: Use(cluster, role, "g", flavor, nodes, min(span), max(span)),
            st.sampled_from([SOMEONE, OTHER]),
            st.sampled_from(["worker", "master"]),
            st.sampled_from(["gpu", "cpu"]),
            st.integers(1, 9),
            st.tuples(WHEN, WHEN).filter(lambda span: span[0] != span[1]),
        ),
        max_size=6,
    ),
    st.dictionaries(st.integers(-1, 51), st.floats(0, 1e5), max_size=12),
    st.integers(1, 199),
    st.sampled_from(["total", "hour", "day"]),
)
def test_measured_energy_is_the_integral_of_what_was_drawn(
    uses: list[Use], drawn: dict[int, float], cut: int, granularity: str
) -> None:
    """Of one cluster some hours are measured: in them it draws that, whatever it runs; all else draws what the model says."""
    first = NOW.replace(minute=0, second=0, microsecond=0)
    hours = {first + timedelta(hours=hour): watts_then for hour, watts_then in drawn.items()}
    quarter = timedelta(minutes=15)
    expected = 0.0
    for step in range(200 * 15):
        at = NOW + timedelta(minutes=step)
        measured = hours.get(at.replace(minute=0, second=0, microsecond=0))
        running = [use for use in uses if use.start <= at < use.end]
        own = [use for use in running if use.cluster_id == SOMEONE]
        others = [use for use in running if use.cluster_id == OTHER or measured is None]
        expected += 60 * (measured if own and measured is not None else 0.0)
        expected += 60 * sum(float(watts(SHAPES.get(use.flavor or ""))) * use.nodes for use in others)
    end = NOW + 200 * quarter
    tariff = Electricity(Decimal("0.25"), pue=Decimal("1.5"), carbon=Decimal(400))
    book = Book([RateCard(uuid4(), "USD", NOW - timedelta(days=1), electricity=tariff)])

    def line(start: datetime, finish: datetime) -> Line:
        cut_uses = [
            Use(use.cluster_id, use.role, "g", use.flavor, use.nodes, max(use.start, start), min(use.end, finish))
            for use in uses
            if use.start < finish and use.end > start
        ]
        rater = Rater(book, SHAPES, start, finish)
        found = rater.rate(metered(cut_uses, {SOMEONE: hours}, SHAPES), spans(start, finish, granularity), lambda *_: "")
        whole = Line()
        for one in found.values():
            whole.add(one)
        return whole

    whole = line(NOW, end)
    parts = [line(NOW, NOW + cut * quarter), line(NOW + cut * quarter, end)]
    assert float(whole.energy_kwh) == pytest.approx(1.5 * expected / 3.6e6, rel=1e-9, abs=1e-9)
    assert whole.energy == sum(part.energy for part in parts)
    assert whole.carbon_g == whole.energy_kwh * 400 or not whole.energy
    paid = whole.shown().get("USD", {}).get("electricity", Decimal(0))
    assert float(paid) == pytest.approx(float(whole.energy_kwh) * 0.25, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "amount,text",
    [
        (Decimal(0), "0.000000"),
        (Decimal("1E+3"), "1000.000000"),
        (Decimal(10) ** 20 + Decimal("0.5"), "100000000000000000000.500000"),
        (Decimal("0.100000000000"), "0.100000"),
        (Decimal("0.123456789012"), "0.123456789012"),
    ],
)
def test_money_is_plain_text(amount: Decimal, text: str) -> None:
    assert money_text(amount) == text


def test_large_amounts_keep_their_last_places() -> None:
    line = Line()
    line.money["KRW"]["idle"] = (10**30 * 10**33 + 10**33 // 3) * 3_600_000_000
    line.settle()
    assert str(line.shown()["KRW"]["idle"]) == "1" + "0" * 30 + ".333333333333"
    assert money_text(line.shown()["KRW"]["idle"]) == "1" + "0" * 30 + ".333333333333"


def test_no_text_of_a_csv_is_a_formula() -> None:
    shown = as_csv([{"start": NOW, "workload": "=1+1", "type": None, "cluster": 'a,"b"', "total": "-1"}], str)
    assert shown.splitlines()[1] == f'{NOW},\'=1+1,,"a,""b""",\'-1'


@given(amount=st.integers(-(10**6), 10**6), by=st.integers(1, 50))
def test_amounts_are_rounded_to_the_nearest_and_halves_to_the_even(amount: int, by: int) -> None:
    assert _divided(amount, by) == _divided(Fraction(amount), by) == round(Fraction(amount, by))


def rated(use: Use, *cards: RateCard, cuts: list[datetime] | None = None) -> dict[Any, Line]:
    cuts = cuts or [use.start, use.end]
    return Rater(Book(cards), {"gpu": SHAPE}, cuts[0], cuts[-1]).rate([use], cuts, lambda *_: "all")


def test_prices_are_said_to_come_from_where_they_do_also_where_they_are_nothing() -> None:
    use = Use(uuid4(), "worker", "g", "gpu", 1, NOW, NOW + timedelta(hours=1), gb=10)
    card = RateCard(uuid4(), "USD", NOW - timedelta(days=1), flavors={"gpu": Decimal(0)})
    [line] = rated(use).values()
    assert line.sources == {"default"}
    [line] = rated(use, card).values()  # storage has no price of its own, which is not worth a word
    assert line.sources == {str(card.id)}


def test_what_ends_where_a_span_begins_is_no_part_of_it() -> None:
    use = Use(uuid4(), "worker", "g", "gpu", 1, NOW, NOW + timedelta(hours=1))
    cuts = [NOW + timedelta(hours=hour) for hour in range(3)]
    [((begin, _), line)] = rated(use, cuts=cuts).items()
    assert (begin, line.node_micros) == (NOW, HOUR)
