"""A cluster's samples become one line; what was not read is unknown, never zero."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.accelerators import Accelerator, NodeShape
from shared.domain.power import Machine, cluster_power
from shared.domain.readings import Nodes, by_cluster, read
from shared.domain.telemetry import Basis, Part, Quantity, Sample

AT = datetime(2026, 5, 1, tzinfo=UTC)
A100 = Accelerator("nvidia-a100", "nvidia", "gpu", "A100", 80, 60.0, 400.0, 2.0)
SLICE = Accelerator("nvidia-a100-1g.10gb", "nvidia", "gpu", "MIG", 10, 8.0, 55.0, 0.2, slice_of="nvidia-a100", slices=7)
CPU = NodeShape("cpu", 4000, 16384, 4, 16.0)
GPU = NodeShape("gpu", 16000, 65536, 16, 64.0, A100, 2)


def a_sample(part: Part, quantity: Quantity, value: float, *, node: str = "n1", device: str = "", cluster: str = "c") -> Sample:
    return Sample(cluster, node, "", device, part, quantity, value, AT, Basis.MEASURED, "s", "f")


def use(part: Part, value: float, *, node: str = "n1", device: str = "") -> Sample:
    return a_sample(part, Quantity.UTILISATION, value, node=node, device=device)


def card(number: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{number:012d}"


def test_nothing_read_is_nothing_known() -> None:
    line = read([], [Nodes(CPU, 2)], AT)
    assert (line.watts, line.cpu_usage, line.gpu_usage, line.running_pods) == (None, None, None, None)
    assert (line.cpu_usage_peak, line.gpu_usage_peak, line.nodes_read, line.accelerators_read) == (None, None, 0, 0)


def test_peaks_are_known_where_every_node_and_card_was_read() -> None:
    samples = [
        use(Part.CPU, 0.2),
        use(Part.CPU, 0.4, node="n2"),
        use(Part.ACCELERATOR, 0.0, device=card(1)),
        use(Part.ACCELERATOR, 0.8, device=card(2)),
    ]
    line = read(samples, [Nodes(GPU, 1), Nodes(CPU, 1)], AT)
    assert line.cpu_usage == pytest.approx(30)
    assert line.gpu_usage == pytest.approx(40)
    assert (line.cpu_usage_peak, line.gpu_usage_peak) == (40, 80)
    more = read(samples, [Nodes(GPU, 2), Nodes(CPU, 1)], AT)
    assert (more.cpu_usage_peak, more.gpu_usage_peak) == (None, None)


def test_memory_and_heat_are_those_of_the_accelerators_that_were_read() -> None:
    samples = [
        a_sample(Part.ACCELERATOR, Quantity.MEMORY_USED, 20e9, device=card(1)),
        a_sample(Part.ACCELERATOR, Quantity.MEMORY_USED, 20e9, device=card(1), node="named otherwise"),
        a_sample(Part.ACCELERATOR, Quantity.MEMORY_USED, 60e9, device=card(2)),
        a_sample(Part.ACCELERATOR, Quantity.TEMPERATURE, 41.5, device=card(1)),
        a_sample(Part.ACCELERATOR, Quantity.TEMPERATURE, 77.0, device=card(2)),
    ]
    line = read(samples, [Nodes(GPU, 2)], AT)
    assert line.gpu_memory_used_gb == pytest.approx(40)
    assert line.gpu_temperature_celsius == 77.0
    assert (line.gpu_usage, line.accelerators_read) == (None, 0)
    assert (read([], [Nodes(GPU, 2)], AT).gpu_memory_used_gb, read([], [], AT).gpu_temperature_celsius) == (None, None)


def test_slices_are_read_as_the_cards_they_are_of() -> None:
    sliced = NodeShape("mig", 16000, 65536, 16, 64.0, SLICE, 7)
    line = read([use(Part.ACCELERATOR, 0.5, device=card(1))], [Nodes(sliced, 1)], AT)
    assert line.gpu_usage_peak == 50
    assert read([use(Part.ACCELERATOR, 0.5, device=card(1))], [Nodes(sliced, 2)], AT).gpu_usage_peak is None


def test_a_card_under_two_names_of_its_node_is_one_and_numbers_belong_to_their_node() -> None:
    once = [use(Part.ACCELERATOR, 0.5, device=card(1)), use(Part.ACCELERATOR, 0.4, device=card(1), node="n1.example")]
    assert read(once, [Nodes(GPU, 1)], AT).accelerators_read == 1
    twice = [use(Part.ACCELERATOR, 0.5, device="npu0"), use(Part.ACCELERATOR, 0.4, device="npu0", node="n2")]
    assert read(twice, [Nodes(GPU, 1)], AT).accelerators_read == 2


def test_no_pods_differs_from_not_known() -> None:
    assert read([a_sample(Part.CLUSTER, Quantity.PODS, 0.0, node="")], [Nodes(CPU, 1)], AT).running_pods == 0


def test_samples_are_parted_by_cluster() -> None:
    one, two = a_sample(Part.CPU, Quantity.POWER, 1.0), a_sample(Part.CPU, Quantity.POWER, 2.0, cluster="d")
    assert by_cluster([one, two]) == {"c": [one], "d": [two]}


@given(
    watts=st.lists(st.floats(0, 2000), min_size=1, max_size=6),
    uses=st.lists(st.floats(0, 1), max_size=6),
    workers=st.integers(0, 6),
)
def test_bounds(watts: list[float], uses: list[float], workers: int) -> None:
    """The mean lies within what was read, the peak is the highest or unknown, and power agrees with the model of clusters."""
    samples = [a_sample(Part.CPU, Quantity.POWER, w, node=f"n{i}") for i, w in enumerate(watts)]
    samples += [use(Part.CPU, u, node=f"n{i}") for i, u in enumerate(uses)]
    line = read(samples, [Nodes(CPU, workers)], AT)
    assert line.watts == cluster_power(samples, [(Machine.of(CPU), workers)]).watts
    assert line.measured_watts == pytest.approx(sum(watts))
    if not uses:
        assert line.cpu_usage is None
        return
    assert line.cpu_usage is not None
    assert min(uses) * 100 - 1e-9 <= line.cpu_usage <= max(uses) * 100 + 1e-9
    assert line.cpu_usage_peak == (pytest.approx(max(uses) * 100) if len(uses) >= workers else None)
