"""What changes save: never more than ran, nothing twice, and what an independent count by the minute says."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.costing import Use
from shared.domain.savings import HORIZON, Change, Entry, Ran, predicted, realised
from tests.builders import NOW

CLUSTER = uuid4()
GROUP = "default-worker"


def minute(number: float) -> datetime:
    return NOW + timedelta(minutes=number)


def an_entry(at: float, before: int, after: int, kind: str = "scale_in") -> Entry:
    return Entry(uuid4(), CLUSTER, "c", kind, "user", minute(at), {GROUP: Change("worker", "gpu", before, after)})


def runs(*steps: tuple[float, float, int]) -> list[Ran]:
    return [Ran(GROUP, nodes, minute(start), minute(end)) for start, end, nodes in steps if nodes]


def node_minutes(uses: list[Use]) -> float:
    return sum(use.nodes * (use.end - use.start) / timedelta(minutes=1) for use in uses)


def test_it_saves_from_when_its_nodes_are_gone_until_they_are_back() -> None:
    entry = an_entry(10, 6, 2)
    history = runs((0, 15, 6), (15, 40, 2), (40, 100, 5))
    assert node_minutes(predicted(entry, minute(0), minute(100))) == 4 * 90
    assert node_minutes(realised(entry, history, None, minute(0), minute(100))) == 4 * 25 + 1 * 60
    assert realised(entry, runs((0, 100, 6)), None, minute(0), minute(100)) == []  # it failed


def test_once_its_nodes_were_back_it_saves_no_more() -> None:
    history = runs((0, 10, 6), (10, 20, 2), (20, 30, 6), (30, 100, 2))
    assert node_minutes(realised(an_entry(10, 6, 2), history, None, minute(0), minute(100))) == 4 * 10
    assert node_minutes(realised(an_entry(30, 6, 2), history, None, minute(0), minute(100))) == 4 * 70


def test_what_ended_otherwise_would_have_run_no_longer() -> None:
    history = runs((0, 10, 6), (10, 30, 2))
    assert node_minutes(realised(an_entry(10, 6, 2), history, minute(30), minute(0), minute(100))) == 4 * 20
    assert node_minutes(realised(an_entry(30, 2, 0, "delete"), history, minute(30), minute(0), minute(100))) == 2 * 70


def test_it_is_credited_for_thirty_days() -> None:
    entry, late = an_entry(0, 3, 1), NOW + timedelta(days=90)
    assert node_minutes(predicted(entry, NOW, late)) == 2 * (HORIZON / timedelta(minutes=1))
    assert node_minutes(realised(entry, runs((0, 90 * 1440, 1)), None, NOW, late)) == 2 * (HORIZON / timedelta(minutes=1))
    assert predicted(entry, NOW + HORIZON, late) == []


SIZES = st.lists(st.integers(0, 6), min_size=2, max_size=12)


def story(sizes: list[int]) -> tuple[list[Ran], list[Entry]]:
    """Ten minutes of each size; every fall is a change that was asked for two minutes before."""
    history = runs(*((10.0 * place, 10.0 * (place + 1), size) for place, size in enumerate(sizes)))
    falls = [
        an_entry(10 * place + 8, sizes[place], sizes[place + 1])
        for place in range(len(sizes) - 1)
        if sizes[place + 1] < sizes[place]
    ]
    return history, falls


@given(SIZES)
def test_nothing_is_saved_twice_and_never_more_than_once_ran(sizes: list[int]) -> None:
    history, falls = story(sizes)
    for place, size in enumerate(sizes):
        start, end = minute(10 * place + 1), minute(10 * place + 2)
        saved = sum(node_minutes(realised(entry, history, None, start, end)) for entry in falls)
        assert size + saved <= max(sizes[: place + 1])


@given(SIZES, st.integers(0, 119))
def test_it_is_the_sum_over_minutes_and_windows_add_up(sizes: list[int], cut: int) -> None:
    history, falls = story(sizes)
    end = 10 * len(sizes)
    for entry in falls:
        change = entry.groups[GROUP]
        asked = int((entry.at - NOW) / timedelta(minutes=1))
        expected, most, begun = 0, 0, False
        for at in range(asked, end):
            size = sizes[at // 10]
            begun = begun or size <= change.after
            most = max(most, size, change.after) if begun else 0
            expected += max(0, change.before - most) if begun else 0
        whole = realised(entry, history, None, minute(0), minute(end))
        middle = minute(min(cut, end))
        parts = realised(entry, history, None, minute(0), middle) + realised(entry, history, None, middle, minute(end))
        assert node_minutes(whole) == pytest.approx(expected)
        assert node_minutes(parts) == pytest.approx(expected)
        assert node_minutes(whole) <= node_minutes(predicted(entry, minute(0), minute(end)))


def test_groups_are_told_apart() -> None:
    groups = {GROUP: Change("worker", "gpu", 3, 0), "pool": Change("worker", "cpu", 2, 0)}
    entry = Entry(UUID(int=1), CLUSTER, "c", "hibernate", "cleanup", minute(0), groups)
    history = [Ran("pool", 2, minute(0), minute(50))]
    uses = realised(entry, history, None, minute(0), minute(100))
    assert {(use.node_group, use.flavor, use.nodes, use.start) for use in uses} == {
        (GROUP, "gpu", 3, minute(0)),
        ("pool", "cpu", 2, minute(50)),
    }
