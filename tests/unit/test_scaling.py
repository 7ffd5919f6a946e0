"""What a scale policy decides."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.fleet import Member, ProjectFleet
from shared.domain.scaling import Action, Decision, ScalePolicy, Use, Window, decide, nodes_that_hold, read_policy, utilisation
from shared.domain.scoring import BestFit
from shared.domain.workloads import Isolation, Placement
from tests.unit.test_capacity import SHAPES, a_placement, a_row

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)  # a Wednesday
TRUST = ScalePolicy(enabled=True, trust_placements=True)
IDLE = Use(0.05, 0.0)


def a_member(held: list[Placement], **changes: Any) -> Member:
    key = held[0].cluster_id if held else uuid4()
    fleet = ProjectFleet(BestFit())
    fleet.put(a_row(key, **changes), held, SHAPES)
    return fleet.members[key]


def held(*devices: int, **changes: Any) -> list[Placement]:
    """A placement for each number of devices."""
    key = uuid4()
    return [a_placement(key, 0, tuple(range(count)), cpu_milli=100, memory_mib=100, **changes) for count in devices]


def decision(policy: ScalePolicy, placements: list[Placement], use: Use = IDLE, **changes: Any) -> Decision:
    changed = changes.pop("changed_at", None)
    at = changes.pop("now", NOW)
    slept = changes.pop("slept_by_policy", False)
    member = a_member(placements, **changes)
    return decide(policy, member, placements, now=at, changed_at=changed, use=use, slept_by_policy=slept)


def test_what_does_not_fit_makes_it_grow() -> None:
    found = decision(TRUST, held(4, 4, 4))  # two nodes of four each
    assert (found.action, found.targets) == (Action.SCALE_OUT, {"default-worker": 5})  # 12 of 20 are below 70 %
    assert "3 placements need 3 nodes" in found.reasons[0]


def test_what_is_nearly_full_grows_to_the_target() -> None:
    assert decision(TRUST, held(4, 4)).targets == {"default-worker": 3}
    assert decision(replace(TRUST, target=0.9, scale_out_above=1.0), held(4, 4)).action is Action.NONE


def test_what_is_nearly_empty_shrinks() -> None:
    found = decision(TRUST, held(1), node_count=6, observed_node_count=6)
    assert (found.action, found.targets, found.target_nodes) == (Action.SCALE_IN, {"default-worker": 1}, 1)
    assert decision(TRUST, [], node_count=6, observed_node_count=6).targets == {"default-worker": 0}


@pytest.mark.parametrize("use", [Use(), Use(0.05, None), Use(None, 0.0), Use(0.5, 0.0), Use(0.0, 0.4)])
def test_nothing_shrinks_on_an_unknown_or_in_use(use: Use) -> None:
    found = decision(replace(TRUST, trust_placements=False), [], use, node_count=6, observed_node_count=6)
    assert found.action is Action.NONE
    assert found.blocked


def test_it_waits_after_a_change() -> None:
    found = decision(TRUST, held(4, 4, 4), changed_at=NOW - timedelta(seconds=599))
    assert found.action is Action.NONE
    assert "599" in found.blocked[0]
    assert decision(TRUST, held(4, 4, 4), changed_at=NOW - timedelta(seconds=600)).action is Action.SCALE_OUT


def test_bounds_are_kept_and_told() -> None:
    found = decision(replace(TRUST, most=3), held(4, 4, 4))
    assert found.targets == {"default-worker": 3}
    assert "allows 3" in found.blocked[0]
    assert decision(replace(TRUST, least=4), [], node_count=6, observed_node_count=6).targets == {"default-worker": 4}
    assert decision(replace(TRUST, least=4), []).targets == {"default-worker": 4}  # two of them were missing


def test_groups_are_sized_each_by_itself() -> None:
    group = {"name": "cpu", "flavor": "cpu", "node_count": 2, "least": 0, "most": 2}
    key = uuid4()
    on_cpu = [a_placement(key, n % 2, (), node_group="cpu", cpu_milli=15_000, memory_mib=1) for n in range(3)]
    placements = [*on_cpu, a_placement(key, 0, (0, 1, 2))]
    found = decision(TRUST, placements, groups=[group], node_count=4, observed_node_count=4)
    assert found.action is Action.NONE
    assert any("may have 2 nodes" in words for words in found.blocked)
    found = decision(TRUST, placements, groups=[group | {"most": 9}], node_count=4, observed_node_count=4)
    assert found.targets == {"default-worker": 2, "cpu": 5}


@pytest.mark.parametrize("phase", ["Updating", "Provisioning", "Failed", "Deleting"])
def test_a_cluster_that_changes_is_left_alone(phase: str) -> None:
    assert decision(TRUST, held(4, 4, 4), phase=phase).action is Action.NONE


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


SLEEP = Window(frozenset(range(5)), at("2026-01-01T20:00").time(), at("2026-01-01T07:00").time(), hibernate=True)
SEOUL = replace(TRUST, zone="Asia/Seoul", schedule=(SLEEP,))


@pytest.mark.parametrize(
    "moment,asleep",
    [
        ("2026-03-04T12:00:00+00:00", True),  # 21:00 on Wednesday in Seoul
        ("2026-03-04T10:59:00+00:00", False),  # 19:59
        ("2026-03-04T21:59:00+00:00", True),  # 06:59 on Thursday
        ("2026-03-04T22:00:00+00:00", False),  # 07:00
        ("2026-03-06T21:00:00+00:00", True),  # 06:00 on Saturday: the night of Friday
        ("2026-03-07T12:00:00+00:00", False),  # 21:00 on Saturday
    ],
)
def test_the_schedule_is_local(moment: str, asleep: bool) -> None:
    found = decision(SEOUL, [], now=at(moment), node_count=2)
    assert (found.action is Action.HIBERNATE) == asleep
    slept = decision(SEOUL, [], now=at(moment), phase="Hibernated", observed_node_count=0, slept_by_policy=True)
    assert (slept.action is Action.WAKE) == (not asleep)
    by_hand = decision(SEOUL, [], now=at(moment), phase="Hibernated", observed_node_count=0)
    assert by_hand.action is Action.NONE


def test_summer_time_moves_the_window() -> None:
    window = Window(frozenset(range(7)), at("2026-01-01T08:00").time(), at("2026-01-01T18:00").time(), least=3)
    policy = replace(TRUST, zone="Europe/Berlin", schedule=(window,))
    assert policy.window(at("2026-01-15T07:30:00+00:00")) is window  # 08:30
    assert policy.window(at("2026-01-15T06:30:00+00:00")) is None  # 07:30
    assert policy.window(at("2026-07-15T06:30:00+00:00")) is window  # 08:30 in summer


def test_it_does_not_sleep_on_what_is_held_or_not_known() -> None:
    night = at("2026-03-04T12:00:00+00:00")
    assert "1 placements" in decision(SEOUL, held(1), now=night).blocked[0]
    doubtful = replace(SEOUL, trust_placements=False)
    assert "not known" in decision(doubtful, [], Use(), now=night).blocked[0]
    assert decision(doubtful, [], IDLE, now=night).action is Action.HIBERNATE


placements = st.lists(
    st.builds(
        lambda cpu, memory, count, share, alone: (cpu, memory, count, share, alone),
        st.integers(0, 32_000),
        st.integers(0, 131_072),
        st.integers(0, 4),
        st.sampled_from([1000, 500, 250]),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=120)
@given(placements, st.integers(0, 12), st.floats(0.3, 1.0))
def test_after_the_change_all_that_is_held_fits_and_nothing_more_is_wanted(wants: list[Any], count: int, target: float) -> None:
    key = uuid4()
    mine = [
        a_placement(
            key,
            0,
            tuple(range(devices)),
            cpu_milli=cpu,
            memory_mib=memory,
            share_milli=share if devices == 1 else 1000,
            isolation=Isolation.NODE if alone else Isolation.SHARED,
        )
        for cpu, memory, devices, share, alone in wants
    ]
    policy = replace(TRUST, target=target, scale_in_below=target / 2, scale_out_above=min(1.0, target + 0.2))
    first = decision(policy, mine, node_count=count, observed_node_count=count)
    after = first.targets.get("default-worker", count)
    need = nodes_that_hold(SHAPES["gpu"], mine)
    assert need is not None
    if first.action is not Action.NONE:
        assert after >= need
        assert utilisation(SHAPES["gpu"], after, mine) <= target
        again = decision(policy, mine, node_count=after, observed_node_count=after)
        assert again.action is Action.NONE, (first, again)


@pytest.mark.parametrize(
    "fields,field,rule",
    [
        ({"min_nodes": 3, "max_nodes": 2}, "min_nodes", "max_nodes"),
        ({"target_utilization": 0.95}, "target_utilization", "between"),
        ({"scale_in_below": 0.7}, "target_utilization", "between"),
        ({"time_zone": "Mars/Olympus"}, "time_zone", "exists"),
        ({"time_zone": "../etc/passwd"}, "time_zone", "exists"),
        ({"schedule": [{"days": ["mon"], "start": "08:00", "end": "08:00"}]}, "schedule.0.end", "after_start"),
        (
            {"schedule": [{"days": ["mon"], "start": "08:00", "end": "09:00", "min_nodes": 3, "max_nodes": 1}]},
            "schedule.0.min_nodes",
            "max_nodes",
        ),
        (
            {"schedule": [{"days": ["mon"], "start": "08:00", "end": "09:00", "min_nodes": 3, "hibernate": True}]},
            "schedule.0.min_nodes",
            "hibernate",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(fields: dict[str, Any], field: str, rule: str) -> None:
    _, wrong = read_policy(fields)
    assert [(one.field, one.rule) for one in wrong] == [(field, rule)]


def test_a_policy_is_stored_as_it_was_given() -> None:
    given_fields = SEOUL.as_dict()
    assert read_policy(given_fields) == (SEOUL, [])
