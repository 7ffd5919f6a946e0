"""Nodes and what is free on them, against a plain account of every pod; fleets, and seats that move when nodes go."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.capacity import Capacity, Shape
from shared.domain.fleet import ProjectFleet, pods_that_fit
from shared.domain.scoring import BestFit
from shared.domain.workloads import Isolation, Placement
from shared.services.accelerators import load_catalogue
from shared.settings import PlacementSettings
from tests.builders import PROJECT, REGION, a_flavor

CATALOGUE = load_catalogue(PlacementSettings())
SHAPES = {
    name: CATALOGUE.node(a_flavor(name, vcpus=vcpus, ram_mb=ram, **specs))
    for name, vcpus, ram, specs in (
        ("gpu", 32, 131_072, {"pci_passthrough__alias": "a100:4"}),
        ("cpu", 16, 65_536, {}),
    )
}

shapes = st.one_of(
    st.builds(Shape, st.integers(0, 9000), st.integers(0, 40_000), st.integers(0, 5)),
    st.builds(Shape, st.integers(0, 9000), st.integers(0, 40_000), st.just(1), st.integers(1, 999)),
    st.builds(Shape, st.integers(1, 9000), st.just(0), st.just(1), st.just(1000), st.just(frozenset({"nvidia-a100"}))),
)
nodes = st.lists(st.tuples(st.integers(0, 33_000), st.integers(0, 140_000), st.integers(0, 8)), min_size=1, max_size=6)


@settings(max_examples=150)
@given(nodes, st.lists(st.tuples(shapes, st.booleans()), max_size=60), st.randoms(use_true_random=False))
def test_no_node_is_ever_over_its_capacity(given_nodes: list[Any], steps: list[tuple[Shape, bool]], chance: Any) -> None:
    capacity, scorer = Capacity(), BestFit()
    whole = {}
    for cpu, memory, devices in given_nodes:
        slot = capacity.add(cpu_milli=cpu, memory_mib=memory, model="nvidia-a100" if devices % 2 else "nvidia-t4", devices=devices)
        whole[slot] = (cpu, memory, devices)
    lying: list[tuple[int, Shape, tuple[int, ...]]] = []
    for shape, leave in steps:
        if leave and lying:
            slot, gone, devices = lying.pop(chance.randrange(len(lying)))
            capacity.give(slot, gone, devices)
        fits = capacity.fits(shape)
        counts = capacity.count_fits(shape)
        assert ((counts > 0) == fits).all()
        roomy = np.flatnonzero(fits)
        assert set(roomy) == {slot for slot in whole if capacity.devices_for(slot, shape) is not None}
        if len(roomy):
            best = int(scorer.rank(capacity, shape, roomy, limit=1).slots[0])
            taken = scorer.devices(capacity, shape, best)
            assert taken is not None
            before = int(counts[best])
            capacity.take(best, shape, taken)
            assert capacity.count_fits(shape)[best] == before - 1 or before > 1_000_000
            lying.append((best, shape, taken))
    for slot, (cpu, memory, devices) in whole.items():
        mine = [(shape, taken) for s, shape, taken in lying if s == slot]
        milli = [sum(shape.share_milli for shape, taken in mine if d in taken) for d in range(devices)]
        free = capacity.free(slot)
        assert free.cpu_milli == cpu - sum(shape.cpu_milli for shape, _ in mine) >= 0
        assert free.memory_mib == memory - sum(shape.memory_mib for shape, _ in mine) >= 0
        assert free.devices == tuple(1000 - used for used in milli)
        assert all(used <= 1000 for used in milli)


def test_what_does_not_fit_is_refused_and_takes_nothing() -> None:
    capacity = Capacity()
    slot = capacity.add(cpu_milli=1000, memory_mib=1000, model="nvidia-t4", devices=2)
    before = capacity.free(slot)
    for shape, devices in (
        (Shape(1001, 0), ()),
        (Shape(0, 1001), ()),
        (Shape(0, 0, 1), ()),
        (Shape(0, 0, 1), (2,)),
        (Shape(0, 0, 2), (0, 0)),
        (Shape(0, 0, 1, 1000, frozenset({"nvidia-a100"})), (0,)),
    ):
        with pytest.raises(ValueError, match="does not fit"):
            capacity.take(slot, shape, devices)
    with pytest.raises(ValueError, match="did not lie"):
        capacity.give(slot, Shape(1, 0), ())
    assert capacity.free(slot) == before


@pytest.mark.parametrize(
    "wrong", [{"cpu_milli": -1}, {"share_milli": 0}, {"share_milli": 500}, {"share_milli": 500, "accelerators": 2}]
)
def test_shapes_that_no_pod_has(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"pod|share"):
        Shape(**{"cpu_milli": 1, "memory_mib": 1, **wrong})


@settings(max_examples=60)
@given(shapes)
def test_an_empty_node_takes_as_many_as_are_counted(shape: Shape) -> None:
    for node in SHAPES.values():
        capacity = Capacity()
        model = node.accelerator.id if node.accelerator else ""
        slot = capacity.add(cpu_milli=node.cpu_milli, memory_mib=node.memory_mib, model=model, devices=node.devices)
        if shape.cpu_milli or shape.memory_mib or shape.accelerators:
            assert pods_that_fit(node, shape) == capacity.count_fits(shape)[slot]


# -- fleets -----------------------------------------------------------------------------------------------------------------


def a_row(cluster_id: UUID, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": cluster_id,
        "name": f"c-{cluster_id.hex[:6]}",
        "phase": "Ready",
        "live": True,
        "managed": True,
        "flavor": "gpu",
        "master_flavor": "cpu",
        "template_id": "t",
        "template_name": None,
        "node_count": 2,
        "observed_node_count": 2,
        "masters": 1,
        "labels": {},
        "health_status": "HEALTHY",
        "hibernated_sizes": None,
        "status": "CREATE_COMPLETE",
        "groups": [],
    }
    return row | changes


def a_placement(cluster_id: UUID, node: int = 0, devices: tuple[int, ...] = (0, 1), **changes: Any) -> Placement:
    made = Placement(
        id=uuid4(),
        request_id=uuid4(),
        project_id=PROJECT,
        region=REGION,
        cluster_id=cluster_id,
        node_group="default-worker",
        node=node,
        workload="w",
        replica=0,
        cpu_milli=1000,
        memory_mib=1000,
        accelerators=len(devices),
        share_milli=1000,
        devices=devices,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return replace(made, **changes)


def free_devices(fleet: ProjectFleet, cluster_id: UUID) -> list[int]:
    return [sum(fleet.capacity.free(slot).devices) // 1000 for group in fleet.members[cluster_id].groups for slot in group.slots]


def test_what_lay_on_nodes_that_are_no_more_moves_or_is_displaced() -> None:
    fleet, key = ProjectFleet(BestFit()), uuid4()
    first, second, third = a_placement(key, 0), a_placement(key, 1), a_placement(key, 1, (2, 3))
    fleet.put(a_row(key), [first, second, third], SHAPES)
    assert free_devices(fleet, key) == [2, 0]
    fleet.put(a_row(key, node_count=1, observed_node_count=1), [first, second, third], SHAPES)
    assert free_devices(fleet, key) == [0]
    assert [one.id for one in fleet.members[key].displaced] == [third.id]
    assert fleet.is_seated(second.id)
    assert not fleet.is_seated(third.id)
    fleet.put(a_row(key), [first, second, third], SHAPES)
    assert free_devices(fleet, key) == [2, 0]  # and back where it was


def test_a_fleet_that_is_kept_up_is_the_same_as_one_read_anew() -> None:
    keys = [uuid4() for _ in range(5)]
    kept = ProjectFleet(BestFit())
    for step in range(4):
        held = {key: [a_placement(key, n % 2, (step % 4,)) for n in range(step)] for key in keys}
        for key in keys:
            kept.put(a_row(key, observed_node_count=1 + (step + key.int) % 3, live=step < 3 or key != keys[0]), held[key], SHAPES)
        anew = ProjectFleet(BestFit())
        for key in keys:
            anew.put(a_row(key, observed_node_count=1 + (step + key.int) % 3, live=step < 3 or key != keys[0]), held[key], SHAPES)
        assert kept.members.keys() == anew.members.keys()
        assert {key: free_devices(kept, key) for key in anew.members} == {key: free_devices(anew, key) for key in anew.members}
        assert kept.max_w() == pytest.approx(anew.max_w())
    assert len(kept.capacity.there) < 256  # slots of nodes that went are given again


def test_promised_nodes_count_for_watts_and_take_no_work() -> None:
    fleet, key = ProjectFleet(BestFit()), uuid4()
    fleet.put(a_row(key, phase="Updating", node_count=5), [], SHAPES)
    assert fleet.members[key].closed == "CHANGING"
    assert fleet.max_w() == 5 * SHAPES["gpu"].max_w + SHAPES["cpu"].max_w
    fleet.put(
        a_row(key, phase="Hibernated", node_count=2, observed_node_count=0, hibernated_sizes={"default-worker": 2}), [], SHAPES
    )
    assert fleet.max_w() == SHAPES["cpu"].max_w


def test_who_wants_to_be_alone_is() -> None:
    fleet, key = ProjectFleet(BestFit()), uuid4()
    one = a_placement(key, 0, isolation=Isolation.NODE)
    fleet.put(a_row(key), [one], SHAPES)
    slots = fleet.members[key].groups[0].slots
    assert fleet.alone_on[slots].tolist() == [True, False]
    fleet.unseat(one.id)
    assert not fleet.alone_on[slots].any()
    whole = a_placement(key, 0, isolation=Isolation.CLUSTER)
    fleet.seat(whole, slots[0])
    assert fleet.clusters.column("alone")[fleet.members[key].index]
    fleet.unseat(whole.id)
    assert not fleet.clusters.column("alone")[fleet.members[key].index]
