"""Meters that overlap are told apart, and what no meter shows is modelled."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import rating
from shared.domain.power import (
    WHOLE,
    Layer,
    Machine,
    PowerModel,
    Reading,
    cluster_power,
    device_w,
    disjoint,
    energy_kwh,
    host_w,
    interpolate,
    zones_to_sum,
)
from shared.domain.telemetry import Basis, Part, Quantity, Sample

AT = datetime(2026, 5, 1, tzinfo=UTC)
GPU = "GPU-5c7f0f6e-0000-0000-0000-000000000001"
MODEL = PowerModel()


def a_sample(value: float = 100.0, **over: Any) -> Sample:
    fields: dict[str, Any] = {
        "cluster": "c1",
        "node": "n1",
        "instance": "",
        "accelerator": "",
        "part": Part.CPU,
        "quantity": Quantity.POWER,
        "value": value,
        "at": AT,
        "basis": Basis.MEASURED,
        "source": "s",
        "family": "f",
    }
    return Sample(**(fields | over))


def node(zone: str, watts: float, *, layer: Layer = Layer.NODE, rank: int = 0, **over: Any) -> Reading:
    return Reading(layer, rank, zone, "", a_sample(watts, **over))


def meter(watts: float, rank: int = 0, **over: Any) -> Reading:
    return Reading(Layer.METER, rank, "", "", a_sample(watts, part=Part.REST, **over))


def device(watts: float, ident: str = GPU, *, rank: int = 0, space: str = "nvidia", **over: Any) -> Reading:
    return Reading(Layer.DEVICE, rank, "", space, a_sample(watts, part=Part.ACCELERATOR, accelerator=ident, **over))


def total(readings: list[Reading]) -> float:
    return sum(sample.value for sample in disjoint(readings)[0])


@pytest.mark.parametrize(
    "there,taken",
    [
        ({"psys", "package", "core", "uncore", "dram"}, {"psys"}),
        ({"package", "core", "uncore", "dram"}, {"package", "dram"}),
        ({"package", "core"}, {"package"}),
        ({"core", "uncore", "dram"}, {"core", "uncore", "dram"}),
        ({"package", WHOLE}, {"package"}),
        ({WHOLE}, {WHOLE}),
        ({"something new"}, set()),
    ],
)
def test_zones_that_contain_each_other_are_not_summed(there: set[str], taken: set[str]) -> None:
    assert zones_to_sum(there) == taken


def test_a_node_is_not_summed_with_its_containers_nor_with_its_hypervisors_reading() -> None:
    containers = [node("package", 70.0, layer=Layer.WORKLOADS, basis=Basis.MODELLED)]
    inside = [node("package", 80.0), node("dram", 20.0)]
    outside = [node("package", 90.0, layer=Layer.MACHINE, basis=Basis.MODELLED)]
    assert total(containers) == 70.0
    assert total(containers + inside) == 100.0
    assert total(containers + inside + outside) == 90.0


def test_two_generations_of_names_are_not_mixed() -> None:
    # The former exporter still runs beside the present one: its dram must not join the present one's package.
    assert total([node("package", 80.0), node("package", 75.0, rank=2), node("dram", 20.0, rank=2)]) == 80.0


def test_a_meter_contains_processors_and_accelerators() -> None:
    samples, doubts = disjoint([meter(500.0), node("package", 100.0), node("dram", 30.0), device(250.0)])
    assert {(s.part, s.value) for s in samples} == {(Part.CPU, 130.0), (Part.ACCELERATOR, 250.0), (Part.REST, 120.0)}
    assert doubts == []


def test_parts_beyond_their_meter_are_told_and_leave_no_negative_rest() -> None:
    samples, doubts = disjoint([meter(100.0), device(300.0)])
    assert {(s.part, s.value) for s in samples} == {(Part.ACCELERATOR, 300.0), (Part.REST, 0.0)}
    assert [d.rule for d in doubts] == ["parts_exceed_meter"]


def test_of_several_meters_one_counts() -> None:
    assert total([meter(480.0, rank=2), meter(500.0), meter(490.0, rank=1)]) == 500.0


def test_a_card_counts_once_whatever_its_node_is_called_and_whoever_reads_it() -> None:
    assert total([device(300.0), device(290.0, rank=1), device(280.0, rank=2, node="n1.example")]) == 300.0


def test_a_card_whose_best_family_is_missing_is_read_from_the_next() -> None:
    other = GPU[:-1] + "2"
    assert total([device(300.0), device(290.0, rank=1), device(200.0, other, rank=1)]) == 500.0


def test_of_two_exporters_that_number_the_same_cards_otherwise_one_counts() -> None:
    official = [device(60.0, f"uuid-of-a-card-000{i}", space="furiosa/official") for i in range(2)]
    own = [device(61.0, f"npu{i}", space="furiosa/kcloud", rank=1) for i in range(2)]
    assert total(official + own) == 120.0
    assert total(own) == 122.0


def test_short_numbers_of_devices_are_of_their_node() -> None:
    assert total([device(60.0, "npu0"), device(60.0, "npu0", node="n2")]) == 120.0


def test_a_former_total_of_containers_leaves_out_accelerators_read_elsewhere() -> None:
    whole = node(WHOLE, 400.0, layer=Layer.WORKLOADS, basis=Basis.MODELLED, rank=3)
    samples, _ = disjoint([whole, device(250.0)])
    assert {(s.part, s.value) for s in samples} == {(Part.CPU, 150.0), (Part.ACCELERATOR, 250.0)}


def test_a_machine_under_two_names_that_nothing_links_counts_once() -> None:
    outside = node("package", 90.0, layer=Layer.MACHINE, node="", instance="i1", basis=Basis.MODELLED)
    inside = node("package", 60.0, basis=Basis.MODELLED)
    samples, doubts = disjoint([inside, outside])
    assert [s.value for s in samples] == [90.0]
    assert [d.rule for d in doubts] == ["seen_twice"]


def test_a_bare_machine_beside_virtual_ones_keeps_its_reading() -> None:
    outside = node("package", 90.0, layer=Layer.MACHINE, node="", instance="i1", basis=Basis.MODELLED)
    assert total([node("package", 60.0), outside]) == 150.0


def test_processors_are_measured_only_if_each_zone_is() -> None:
    samples, _ = disjoint([node("package", 80.0), node("dram", 20.0, basis=Basis.MODELLED)])
    assert [(s.value, s.basis) for s in samples] == [(100.0, Basis.MODELLED)]


def test_of_a_devices_use_the_better_family_counts() -> None:
    use: dict[str, Any] = {"quantity": Quantity.UTILISATION}
    samples, _ = disjoint([device(1.0, rank=1, **use), device(0.2, **use)])
    assert [s.value for s in samples] == [0.2]


def test_counts_of_several_resources_stay_apart() -> None:
    counts = [a_sample(4.0, part=Part.NODE, quantity=Quantity.ALLOCATABLE, model=m) for m in ("nvidia_com_gpu", "furiosa_ai_rngd")]
    assert len(disjoint([Reading(Layer.NODE, 0, "", "", c) for c in counts])[0]) == 2


_ZONES = ["psys", "package", "core", "uncore", "dram", WHOLE]
_READINGS = st.lists(
    st.builds(
        node,
        st.sampled_from(_ZONES),
        st.floats(0, 1000),
        layer=st.sampled_from([Layer.NODE, Layer.MACHINE, Layer.WORKLOADS]),
        rank=st.integers(0, 3),
        node=st.sampled_from(["n1", "n2"]),
    )
    | st.builds(meter, st.floats(5, 5000), st.integers(0, 3), node=st.sampled_from(["n1", "n2"]))
    | st.builds(device, st.floats(1, 900), st.sampled_from([GPU, "0", "1"]), node=st.sampled_from(["n1", "n2"])),
    max_size=25,
)


@given(_READINGS)
def test_no_node_has_two_samples_for_one_part(readings: list[Reading]) -> None:
    samples, _ = disjoint(readings)
    parts = [(s.cluster, s.node, s.part, s.accelerator) for s in samples]
    assert len(parts) == len(set(parts))
    for name in ("n1", "n2"):
        shown = [r.sample.value for r in readings if r.layer is Layer.METER and r.sample.node == name]
        mine = [s.value for s in samples if s.node == name]
        parts_w = sum(s.value for s in samples if s.node == name and s.part is not Part.REST)
        if shown:
            # A node under a meter draws what one meter shows, or what its parts draw where that is more.
            assert any(sum(mine) == pytest.approx(max(watts, parts_w)) for watts in shown)


@given(_READINGS, st.randoms())
def test_repeating_readings_changes_nothing(readings: list[Reading], random: Any) -> None:
    again = [*readings, *random.sample(readings, len(readings) // 2)]
    assert total(again) == pytest.approx(total(readings))


# -- the model --------------------------------------------------------------------------------------------------------


def test_the_model_runs_from_idle_to_the_highest_draw() -> None:
    assert [interpolate(50, 250, u) for u in (0, 0.5, 1)] == [50, 150, 250]


@pytest.mark.parametrize(
    "idle,highest,use", [(100, 50, 0.5), (-1, 50, 0.5), (0, float("inf"), 0.5), (0, 1, 1.1), (0, 1, float("nan"))]
)
def test_the_model_refuses_what_cannot_be(idle: float, highest: float, use: float) -> None:
    with pytest.raises(ValueError, match="must"):
        interpolate(idle, highest, use)


GPU_NODE = Machine(16, 64, 2, 60.0, 400.0)
CPU_NODE = Machine(4, 16)


def test_the_model_agrees_with_the_flavors_rate() -> None:
    assert host_w(CPU_NODE, MODEL) == pytest.approx(rating.DEFAULT_RATE.watts)


def test_without_any_meter_the_model_alone_works() -> None:
    power = cluster_power([], [(GPU_NODE, 1), (CPU_NODE, 3)])
    expected = host_w(GPU_NODE, MODEL) + 2 * device_w(GPU_NODE, MODEL) + 3 * host_w(CPU_NODE, MODEL)
    assert power.watts == pytest.approx(expected)
    assert (power.basis, power.nodes, power.nodes_modelled) == (Basis.MODELLED, 0, 4)


def test_what_is_fully_measured_is_not_modelled() -> None:
    samples, _ = disjoint([meter(700.0), device(250.0), device(240.0, GPU[:-1] + "2")])
    power = cluster_power(samples, [(GPU_NODE, 1)])
    assert (power.watts, power.basis) == (700.0, Basis.MEASURED)


def test_missing_processors_and_cards_are_modelled_with_their_use() -> None:
    samples = [
        a_sample(250.0, part=Part.ACCELERATOR, accelerator=GPU),
        a_sample(1.0, part=Part.ACCELERATOR, accelerator="GPU-of-which-only-use-is-known", quantity=Quantity.UTILISATION),
        a_sample(0.0, quantity=Quantity.UTILISATION),
    ]
    power = cluster_power(samples, [(CPU_NODE, 1), (GPU_NODE, 1)])
    assert power.measured_w == 250.0
    assert power.modelled_w == pytest.approx(host_w(GPU_NODE, MODEL, 0.0) + 400.0 + host_w(CPU_NODE, MODEL))
    assert (power.nodes, power.nodes_modelled) == (1, 1)


def test_a_hypervisors_and_an_exporters_view_of_one_machine_are_one_node() -> None:
    samples = [
        a_sample(90.0, node="", instance="i1", basis=Basis.MODELLED),
        a_sample(250.0, part=Part.ACCELERATOR, accelerator=GPU),
        a_sample(240.0, part=Part.ACCELERATOR, accelerator=GPU[:-1] + "2"),
    ]
    power = cluster_power(samples, [(GPU_NODE, 1), (CPU_NODE, 1)])
    assert power.watts == pytest.approx(90.0 + 490.0 + host_w(CPU_NODE, MODEL))
    assert power.nodes == 1


def test_more_nodes_read_than_known_are_counted_as_read() -> None:
    power = cluster_power([a_sample(100.0), a_sample(100.0, node="n2")], [(CPU_NODE, 1)])
    assert (power.watts, power.nodes, power.nodes_modelled) == (200.0, 2, 0)


def test_energy() -> None:
    assert energy_kwh(1000.0, 3600.0) == 1.0
