"""What room is worth to a mix of work, against values worked out by hand, and placement that goes by it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.capacity import WHOLE, Capacity, Shape
from shared.domain.pricing import PARTS, LearntPrices, Mix, Prices, hole_worth

sizes = st.dictionaries(st.integers(1, 100), st.integers(1, 500).map(float), min_size=1, max_size=8)


def test_without_anything_seen_room_is_worth_its_size() -> None:
    assert Prices.of(Mix()).room.tolist() == list(range(WHOLE + 1))


def test_work_of_whole_devices_makes_parts_worthless() -> None:
    worth = hole_worth({100: 5.0})
    assert worth[PARTS] == pytest.approx(100)
    assert not worth[:PARTS].any()


def test_of_halves_only_halves_are_worth_something() -> None:
    worth = hole_worth({50: 3.0})
    assert worth[49] == 0
    assert worth[50] == worth[99] == pytest.approx(50)
    assert worth[100] == pytest.approx(100)


def test_a_size_that_fills_no_device_makes_the_others_that_fill_it_up_dear() -> None:
    # Sixties leave forties. Each sixty needs a device of its own, and there are more forties than sixties leave room for.
    worth = hole_worth({60: 1.0, 40: 1.0})
    assert worth[100] == pytest.approx(100)
    assert worth[60] + worth[40] == pytest.approx(100)
    assert worth[39] == 0


@settings(max_examples=100, deadline=None)
@given(sizes)
def test_worth_never_falls_with_room_and_never_exceeds_it_in_sum(given_sizes: dict[int, float]) -> None:
    worth = hole_worth(given_sizes)
    assert (np.diff(worth) >= -1e-9).all()
    assert worth[0] == 0
    assert worth[PARTS] <= 100 + 1e-6
    # Two holes together are never worth more than one hole of both: what fits into two fits into one.
    for one in range(PARTS + 1):
        other = np.arange(PARTS + 1 - one)
        assert (worth[one] + worth[other] <= worth[one + other] + 1e-6).all()


@settings(max_examples=50, deadline=None)
@given(sizes)
def test_prices_bound_what_any_mix_can_use(given_sizes: dict[int, float]) -> None:
    """Weak duality: the worth of a whole device plus what the sizes earn above it is at least what any packing uses."""
    worth = hole_worth(given_sizes)
    total = sum(size * count for size, count in given_sizes.items()) / PARTS
    bound = worth[PARTS] + sum(count / total * max(0.0, size - worth[size]) for size, count in given_sizes.items())
    used = max(size * (PARTS // size) * min(1.0, count / total / (PARTS // size)) for size, count in given_sizes.items())
    assert used <= bound + 1e-6


def test_prices_survive_being_stored() -> None:
    mix = Mix()
    for share, cpu in ((1000, 12_000), (500, 4_000), (250, 2_000)):
        mix.learn(Shape(cpu, 16_384, 1, share), 7)
    prices = Prices.of(mix)
    read = Prices.from_dict(prices.as_dict())
    assert np.allclose(read.room, prices.room, atol=1e-5)
    assert (read.cpu_milli, read.memory_mib) == (prices.cpu_milli, prices.memory_mib)


def test_what_is_long_ago_counts_less() -> None:
    mix = Mix()
    mix.learn(Shape(1000, 1024, 1, 500), 1000)
    mix.learn(Shape(1000, 1024, 1, 1000), 100_000)
    found = mix.sizes()
    assert found[50] / found[100] < 0.01 * 1000 / 100_000 * 100
    plain = Mix()
    plain.learn(Shape(1000, 1024, 1, 1000), 100_000)
    assert plain.per_device() == pytest.approx((1000, 1024))


def _fleet() -> Capacity:
    capacity = Capacity()
    for cpu in (64_000, 16_000):
        capacity.add(cpu_milli=cpu, memory_mib=262_144, model="nvidia-a100", devices=4)
    return capacity


def test_work_without_accelerators_leaves_the_cores_that_devices_need() -> None:
    mix = Mix()
    mix.learn(Shape(8_000, 32_768, 1), 100)
    scorer = LearntPrices(Prices.of(mix))
    capacity = _fleet()
    work = Shape(12_000, 8_192)
    best = scorer.rank(capacity, work, np.arange(2), limit=2)
    # 64 cores for 4 devices are more than enough; of 16 for 4, none can be spared.
    assert best.slots.tolist() == [0, 1]
    assert best.fragmentation[1] > best.fragmentation[0]


def test_a_share_keeps_off_the_hole_that_the_mix_wants() -> None:
    mix = Mix()
    mix.learn(Shape(1_000, 1_024, 1, 600), 100)
    mix.learn(Shape(1_000, 1_024, 1, 400), 10)
    scorer = LearntPrices(Prices.of(mix))
    capacity = Capacity()
    capacity.add(cpu_milli=64_000, memory_mib=262_144, model="a", devices=2)
    capacity.take(0, Shape(1_000, 1_024, 1, 400), (0,))
    # The fullest device that has room is 0, whose 60 % are just what most of the work asks for; a whole device keeps its 60 % too.
    assert scorer.devices(capacity, Shape(1_000, 1_024, 1, 400), 0) == (1,)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(100, 9_000), st.integers(0, 2), st.integers(1, 1000)), min_size=1, max_size=40))
def test_kept_scores_are_those_of_a_scorer_that_knows_nothing(steps: list[tuple[int, int, int]]) -> None:
    mix = Mix()
    mix.learn(Shape(4_000, 16_384, 1, 500), 10)
    mix.learn(Shape(4_000, 16_384, 1), 10)
    prices = Prices.of(mix)
    kept = LearntPrices(prices)
    capacity = Capacity()
    for node in range(5):
        capacity.add(cpu_milli=16_000 + 8_000 * node, memory_mib=65_536, model="a", devices=node)
    for cpu, count, share in steps:
        shape = Shape(cpu, 1_024, count, share if count == 1 else WHOLE)
        roomy = np.flatnonzero(capacity.fits(shape))
        if not len(roomy):
            continue
        mine = kept.rank(capacity, shape, roomy, limit=5)
        fresh = LearntPrices(prices).rank(capacity, shape, roomy, limit=5)
        assert mine.slots.tolist() == fresh.slots.tolist()
        assert mine.scores.tolist() == fresh.scores.tolist()
        slot = int(mine.slots[0])
        devices = kept.devices(capacity, shape, slot)
        assert devices is not None
        capacity.take(slot, shape, devices)
