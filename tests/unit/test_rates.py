"""Rate cards: which price holds, of whom, when; and what is wrong with a card."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.accelerators import Accelerator, NodeShape
from shared.domain.rates import CURRENCIES, Book, Electricity, RateCard, amortised, read_prices
from shared.domain.scaling import Window
from tests.builders import NOW

A100 = Accelerator("nvidia-a100", "nvidia", "gpu", "A100", 80.0, 60.0, 400.0, 2.0, aliases=("a100",))
SHAPE = NodeShape("gpu.large", 16_000, 65_536, 16, 64.0, A100, 4)
PLAIN = NodeShape("cpu.large", 16_000, 65_536, 16, 64.0)


def card(number: int = 1, *, project: str | None = None, start: int = 0, end: int | None = None, **prices: Any) -> RateCard:
    return RateCard(
        UUID(int=number),
        prices.pop("currency", "USD"),
        NOW + timedelta(hours=start),
        None if end is None else NOW + timedelta(hours=end),
        project,
        seq=number,
        **prices,
    )


def node(book: Book, shape: NodeShape | None, hour: int = 0) -> Decimal:
    return sum(
        (price.amount for price in book.node(shape.flavor if shape else None, shape, NOW + timedelta(hours=hour))), Decimal(0)
    )


def test_amortisation_is_the_formula() -> None:
    assert amortised(Decimal(35040), Decimal(4), Decimal(1)) == 1
    assert amortised(Decimal(35040), Decimal(4), Decimal("0.5")) == 2
    assert amortised(Decimal(30000), Decimal(3), Decimal("0.8")) == Decimal("1.426940639269")


def test_without_cards_prices_are_the_defaults_and_say_so() -> None:
    book = Book([])
    assert node(book, SHAPE) == Decimal(16) * Decimal("0.05") + 64 * Decimal("0.01") + 4 * 2
    assert {price.source for price in book.node("gpu.large", SHAPE, NOW)} == {"default"}
    assert node(book, None) == Decimal("0.36")
    assert book.currency == "USD"
    assert book.electricity(NOW) is None
    assert book.storage_gb(NOW).amount == 0


def test_a_flavors_price_comes_before_its_parts() -> None:
    book = Book([card(flavors={"gpu.large": Decimal(7)}, core=Decimal(100))])
    assert node(book, SHAPE) == 7
    assert node(book, PLAIN) == 16 * 100 + Decimal("0.64")


def test_an_accelerators_price_is_found_by_its_alias() -> None:
    assert node(Book([card(accelerators={"a100": Decimal(3)})]), SHAPE) == Decimal("1.44") + 4 * 3


def test_cards_hold_from_their_beginning_and_not_at_their_end() -> None:
    book = Book([card(1, start=1, end=3, flavors={"gpu.large": Decimal(1)}), card(2, start=3, flavors={"gpu.large": Decimal(2)})])
    default = node(Book([]), SHAPE)
    assert [node(book, SHAPE, hour) for hour in range(5)] == [default, 1, 1, 2, 2]
    assert book.edges(NOW, NOW + timedelta(hours=9)) == [NOW + timedelta(hours=hour) for hour in (0, 1, 3)]


def test_the_projects_card_comes_first_then_the_latest() -> None:
    def priced(amount: int) -> dict[str, Decimal]:
        return {"gpu.large": Decimal(amount)}

    site = [card(1, flavors=priced(1)), card(2, start=1, flavors=priced(2)), card(3, start=1, flavors=priced(3))]
    assert [node(Book(site), SHAPE, hour) for hour in (0, 1)] == [1, 3]
    assert node(Book([*site, card(4, project="p", flavors=priced(4))]), SHAPE, 5) == 4
    assert node(Book([*site, card(4, project="p", end=2, flavors=priced(4))]), SHAPE, 2) == 3
    # A card is silent on what it does not name.
    assert node(Book([*site, card(4, project="p", core=Decimal(9))]), SHAPE, 5) == 3


WINDOW = st.builds(
    Window,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.builds(time, st.integers(0, 23), st.sampled_from([0, 30, 59])),
    st.builds(time, st.integers(0, 23), st.sampled_from([0, 30, 59])),
).filter(lambda window: window.start != window.end)


@given(
    st.lists(WINDOW, min_size=1, max_size=3),
    st.sampled_from(["UTC", "Asia/Seoul", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    st.sampled_from(
        [datetime(2026, 3, 28, 20, tzinfo=UTC), datetime(2026, 10, 24, 20, tzinfo=UTC), NOW, datetime(2026, 4, 4, 9, tzinfo=UTC)]
    ),
)
def test_a_tariff_is_constant_between_its_edges(windows: list[Window], zone: str, start: datetime) -> None:
    """Minute by minute, also on the days when clocks are set."""
    tariff = Electricity(Decimal(0), zone, tuple((window, Decimal(number)) for number, window in enumerate(windows, 1)))
    end = start + timedelta(hours=36)
    edges = sorted({start, *tariff.edges(start, end), end})
    for since, until in pairwise(edges):
        minutes = int((until - since).total_seconds() // 60)
        assert {tariff.tariff(since + timedelta(minutes=minute)) for minute in range(minutes)} <= {tariff.tariff(since)}


def test_tariffs_follow_the_local_clock() -> None:
    night = Window(frozenset(range(7)), time(23), time(9))
    tariff = Electricity(Decimal("0.2"), "Asia/Seoul", ((night, Decimal("0.1")),))
    seoul = ZoneInfo("Asia/Seoul")
    hours = [tariff.tariff(datetime(2026, 3, 2, hour, tzinfo=seoul)) for hour in (0, 8, 9, 22, 23)]
    assert hours == [Decimal("0.1"), Decimal("0.1"), Decimal("0.2"), Decimal("0.2"), Decimal("0.1")]


GOOD: dict[str, Any] = {"currency": "KRW", "valid_from": NOW, "core_hour": "1"}


@pytest.mark.parametrize(
    "changes,field,rule",
    [
        ({"currency": "WON"}, "currency", "iso_4217"),
        ({"valid_to": NOW}, "valid_to", "after_from"),
        ({"flavors": [{"flavor": "a"}]}, "flavors.0.price_per_hour", "one_way"),
        ({"flavors": [{"flavor": "a", "price_per_hour": "1", "years": "3"}]}, "flavors.0.price_per_hour", "one_way"),
        ({"flavors": [{"flavor": "a", "price_per_hour": "1"}] * 2}, "flavors.1.flavor", "unique"),
        ({"flavors": [{"flavor": "a", "purchase_price": "9"}]}, "flavors.0.years", "required"),
        ({"accelerators": [{"accelerator": "a", "years": "9"}]}, "accelerators.0.purchase_price", "required"),
        ({"flavors": [{"flavor": "a", "purchase_price": "9", "years": "0"}]}, "flavors.0.years", "range"),
        ({"flavors": [{"flavor": "a", "purchase_price": "9", "years": "1", "duty": "1.1"}]}, "flavors.0.duty", "range"),
        ({"flavors": [{"flavor": "a", "purchase_price": "9", "years": "1", "duty": "0"}]}, "flavors.0.duty", "range"),
        ({"electricity": {"price_per_kwh": "1", "time_zone": "Moon/Base"}}, "electricity.time_zone", "exists"),
        ({"electricity": {"price_per_kwh": "1", "pue": "0.9"}}, "electricity.pue", "range"),
        (
            {
                "electricity": {
                    "price_per_kwh": "1",
                    "windows": [{"days": ["mon"], "start": "08:00", "end": "08:00", "price_per_kwh": "2"}],
                }
            },
            "electricity.windows.0.end",
            "after_start",
        ),
        ({"core_hour": None}, "flavors", "some_price"),
    ],
)
def test_what_is_wrong_with_a_card_is_named(changes: dict[str, Any], field: str, rule: str) -> None:
    _, wrong = read_prices(GOOD | changes)
    assert [(one.field, one.rule) for one in wrong] == [(field, rule)]


def test_a_card_is_read_whole() -> None:
    document = GOOD | {
        "core_hour": "0",
        "flavors": [{"flavor": "a", "purchase_price": "35040", "years": "4", "duty": "0.5"}],
        "electricity": {
            "price_per_kwh": "100",
            "time_zone": "Asia/Seoul",
            "pue": "1.3",
            "carbon_g_per_kwh": "430",
            "windows": [{"days": ["sat", "sun"], "start": "22:00", "end": "06:00", "price_per_kwh": "50"}],
        },
    }
    prices, wrong = read_prices(document)
    assert wrong == []
    made = RateCard(uuid4(), "KRW", NOW, **prices)
    assert made.core == 0
    assert made.flavors == {"a": Decimal(2)}
    assert made.storage_gb is None
    assert made.electricity is not None
    assert (made.electricity.pue, made.electricity.carbon) == (Decimal("1.3"), Decimal(430))
    assert made.electricity.windows[0][0].days == {5, 6}


def test_currencies_are_codes() -> None:
    assert {"KRW", "USD", "EUR", "JPY"} <= CURRENCIES
    assert all(len(code) == 3 and code.isupper() for code in CURRENCIES)
