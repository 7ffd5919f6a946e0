"""Usage of node groups, out of what Magnum shows."""

from datetime import timedelta
from typing import Any

import pytest

from shared.domain.clusters import NodeGroup
from shared.domain.usage import GroupUse, Known, Wanted, changed_at, changes, counts_stand, of_groups, split
from tests.builders import NOW, an_observed


def group(name: str, nodes: int, flavor: str | None = "gpu.large") -> GroupUse:
    return GroupUse(name, "worker", flavor, nodes)


def sizes(told: list[GroupUse]) -> dict[str, tuple[str | None, int]]:
    return {use.group: (use.flavor, use.nodes) for use in told if use.role == "worker"}


@pytest.mark.parametrize(
    "shown,wanted,expected,known",
    [
        (3, Wanted(3), {"default-worker": ("cpu", 3)}, True),
        (5, Wanted(5, (group("gpu", 2),)), {"default-worker": ("cpu", 3), "gpu": ("gpu.large", 2)}, True),
        (5, Wanted(5, (group("more", 2, None),)), {"default-worker": ("cpu", 3), "more": ("cpu", 2)}, True),
        (0, Wanted(5, (group("gpu", 2),), asleep=True), {}, True),
        # Not the number that was wanted: a guess.
        (4, Wanted(5, (group("gpu", 2),)), {"default-worker": ("cpu", 2), "gpu": ("gpu.large", 2)}, False),
        (1, Wanted(5, (group("gpu", 2),)), {"default-worker": ("cpu", 0), "gpu": ("gpu.large", 1)}, False),
        (4, Wanted(3), {"default-worker": ("cpu", 4)}, False),
        (1, Wanted(1, (group("gpu", 2),)), {"default-worker": ("cpu", 0), "gpu": ("gpu.large", 1)}, False),
        (2, Wanted(2, (group("gpu", 2),), asleep=True), {"default-worker": ("cpu", 0), "gpu": ("gpu.large", 2)}, False),
        (3, Wanted(3, managed=False), {"default-worker": ("cpu", 3)}, False),
    ],
)
def test_workers_are_split_as_wanted_or_guessed(
    shown: int, wanted: Wanted, expected: dict[str, tuple[str | None, int]], *, known: bool
) -> None:
    told, sure = split(an_observed(node_count=shown, master_count=1, flavor="cpu", master_flavor="m"), wanted)
    assert (sizes(told), sure) == (expected, known)
    assert sum(nodes for _, nodes in sizes(told).values()) == shown
    assert [use for use in told if use.role == "master"] == [GroupUse("default-master", "master", "m", 1)]


def test_changes_name_what_differs_and_what_has_ended() -> None:
    running = {"default-worker": group("default-worker", 2, "cpu"), "old": group("old", 1), "same": group("same", 4)}
    told = [group("default-worker", 3, "cpu"), group("same", 4, None), group("new", 1), group("empty", 0)]
    assert changes(told, running) == [group("default-worker", 3, "cpu"), group("new", 1), group("old", 0)]
    assert changes([group("same", 4, "other")], {"same": running["same"]}) == [group("same", 4, "other")]


@pytest.mark.parametrize(
    "status,stand",
    [
        ("CREATE_COMPLETE", True),
        ("UPDATE_FAILED", True),
        ("UPDATE_IN_PROGRESS", False),
        ("CREATE_IN_PROGRESS", False),
        ("CREATE_FAILED", False),
        ("DELETE_IN_PROGRESS", False),
        ("DELETE_FAILED", False),
        ("DELETE_COMPLETE", False),
        ("SOMETHING_NEW", False),
    ],
)
def test_counts_stand_once_a_change_has_ended(status: str, *, stand: bool) -> None:
    assert counts_stand(an_observed(status)) is stand


@pytest.mark.parametrize(
    "dates,known,expected",
    [
        ({"updated_at": NOW, "created_at": NOW - timedelta(1)}, Known(), NOW),
        ({"updated_at": None, "created_at": NOW}, Known(), NOW),
        ({"updated_at": NOW}, Known("CREATE_COMPLETE", NOW - timedelta(1)), NOW),
        ({"updated_at": NOW}, Known("CREATE_IN_PROGRESS", NOW), NOW),  # within one second, which is as fine as Magnum dates
        ({"updated_at": NOW}, Known("CREATE_COMPLETE", NOW), NOW + timedelta(2)),  # not dated by Magnum
        ({"updated_at": None, "created_at": None}, Known(), NOW + timedelta(2)),
    ],
)
def test_a_change_counts_from_magnums_date(dates: dict[str, Any], known: Known, expected: Any) -> None:
    assert changed_at(an_observed(**dates), known, NOW + timedelta(2)) == expected


def test_groups_read_by_themselves_are_dated_by_magnum() -> None:
    read = [
        NodeGroup("u1", "default-master", "master", 1, "m", created_at=NOW),
        NodeGroup("u2", "gpu", "training", 2, "g", created_at=NOW, updated_at=NOW + timedelta(1)),
    ]
    assert of_groups(read) == [
        GroupUse("default-master", "master", "m", 1, NOW),
        GroupUse("gpu", "worker", "g", 2, NOW + timedelta(1)),
    ]
