"""Units, sentinels, bounds and joins: from a series to a reading."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.power import Reading
from shared.domain.telemetry import Basis, Finding, Inventory, Quantity
from shared.telemetry.config import Source, parse
from shared.telemetry.families import NODE_INFO, is_blank
from shared.telemetry.http import Series
from shared.telemetry.promql import METRIC
from shared.telemetry.reading import Findings, Joins, readings

AT = datetime(2026, 5, 1, tzinfo=UTC)
CLUSTER = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"
NOVA = "aaaaaaaa-0000-0000-0000-000000000001"
GPU = "GPU-5c7f0f6e-0000-0000-0000-000000000001"
HERE = {"magnum_cluster_uuid": CLUSTER, "node": "n1"}


def a_source(**over: Any) -> Source:
    return parse({"sources": [{"name": "s", "url": "http://x"} | over]}).sources[0]


def series(metric: str, value: object, **labels: str) -> Series:
    return {METRIC: metric, **labels}, str(value)


def read(
    reader: str, *given: Series, source: Source | None = None, inventory: Inventory | None = None, info: tuple[Series, ...] = ()
) -> tuple[list[Reading], tuple[Finding, ...]]:
    findings = Findings()
    joins = Joins(inventory or Inventory())
    chosen = source or a_source()
    joins.learn(chosen, info)
    return readings(chosen, reader, given, joins, findings, AT), findings.all()


def values(found: list[Reading]) -> list[float]:
    return [reading.sample.value for reading in found]


@pytest.mark.parametrize(
    "reader,metric,value,expected",
    [
        ("dcgm", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 250_000, 250.0),  # mJ per second
        ("dcgm", "DCGM_FI_DEV_POWER_USAGE", 61.5, 61.5),
        ("dcgm", "DCGM_FI_DEV_GPU_UTIL", 75, 0.75),
        ("dcgm", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.25, 0.25),
        ("dcgm", "DCGM_FI_DEV_FB_USED", 1024, 1024.0**3),
        ("furiosa", "furiosa_npu_hw_power", 42, 42.0),
        ("rebellions", "RBLN_DEVICE_STATUS:CARD_POWER", 0.031, 31.0),
        ("rebellions", "RBLN_DEVICE_STATUS:TEMPERATURE", 0.041, 41.0),
        ("rebellions", "rbln_npu_power", 31, 31.0),
        ("kepler", "kepler_node_cpu_joules_total", 88.5, 88.5),
        ("kepler", "kepler_node_platform_joules_total", 300, 300.0),
        ("ipmi", "ipmi_dcmi_power_consumption_watts", 480, 480.0),
        ("redfish", "redfish_chassis_power_average_consumed_watts", 470, 470.0),
        ("kube_state", "kube_node_status_allocatable", 8, 8.0),
    ],
)
def test_values_become_base_units(reader: str, metric: str, value: float, expected: float) -> None:
    found, findings = read(reader, series(metric, value, **HERE, uuid=GPU, resource="nvidia_com_gpu", zone="package"))
    assert values(found) == [pytest.approx(expected)]
    assert findings == ()
    assert found[0].sample.at == AT


@pytest.mark.parametrize("text", ["NaN", "+Inf", "-Inf", "", "abc"])
def test_what_is_no_number_is_left_out(text: str) -> None:
    found, findings = read("dcgm", series("DCGM_FI_DEV_POWER_USAGE", text, **HERE, UUID=GPU))
    assert found == []
    assert [f.rule for f in findings] == ["not_a_number"]


@pytest.mark.parametrize("text", ["9223372036854775794", "9.223372036854775807e18", "2147483632", "2147483635", "140737488355329"])
def test_blanks_of_dcgm_are_left_out(text: str) -> None:
    found, findings = read("dcgm", series("DCGM_FI_DEV_GPU_TEMP", text, **HERE, UUID=GPU))
    assert found == []
    assert [f.rule for f in findings] == ["sentinel"]


def test_a_large_true_value_is_no_blank() -> None:
    assert not any(is_blank(v) for v in (2147483631.0, 2147483636.0, 140737488355327.0, 9.2e18))


def test_a_sentinel_of_ones_own_is_left_out() -> None:
    source = a_source(metrics={"furiosa_power": {"sentinels": [-1, 99]}})
    found, findings = read("furiosa", series("furiosa_npu_hw_power", 99, **HERE, uuid=GPU), source=source)
    assert (found, [f.rule for f in findings]) == ([], ["sentinel"])


@pytest.mark.parametrize(
    "reader,metric,value,hint",
    [
        ("rebellions", "rbln_npu_power", 0.031, "With 1000 times the scale (1000) it would be"),
        ("rebellions", "RBLN_DEVICE_STATUS:CARD_POWER", 31, "With 0.001 times the scale (1) it would be"),
        ("dcgm", "DCGM_FI_DEV_POWER_USAGE", 300_000, "With 0.001 times the scale (0.001) it would be"),
        ("dcgm", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 300, "With 1000 times the scale (1000) it would be"),
        ("dcgm", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 75, "With 0.01 times the scale (0.01) it would be"),
    ],
)
def test_a_wrong_unit_is_told_and_not_guessed(reader: str, metric: str, value: float, hint: str) -> None:
    found, findings = read(reader, series(metric, value, **HERE, uuid=GPU))
    assert found == []
    assert [f.rule for f in findings] == ["implausible"]
    assert hint in findings[0].detail


def test_findings_are_counted_with_one_example() -> None:
    _, findings = read("dcgm", *[series("DCGM_FI_DEV_POWER_USAGE", "NaN", **HERE, UUID=f"{GPU}{i}") for i in range(5)])
    assert [(f.source, f.family, f.rule, f.count) for f in findings] == [("s", "dcgm_power", "not_a_number", 5)]
    assert f'UUID="{GPU}0"' in findings[0].detail


def test_sockets_and_modes_are_summed_and_two_scrapes_are_not() -> None:
    metric = "kepler_node_package_joules_total"
    given = [
        series(metric, watts, **HERE, package=package, mode=mode, source="rapl-sysfs", instance=instance)
        for instance in ("10.0.0.1:9102", "n1:9102")
        for package, mode, watts in (("0", "dynamic", 10), ("0", "idle", 30), ("1", "dynamic", 5), ("1", "idle", 30))
    ]
    found, _ = read("kepler", *given)
    assert values(found) == [75.0]


def test_a_sum_with_an_unknown_member_is_unknown() -> None:
    labels = HERE | {"zone": "package"}
    metric = "kepler_node_cpu_joules_total"
    found, findings = read("kepler", series(metric, 50, **labels, path="0"), series(metric, "NaN", **labels, path="1"))
    assert found == []
    assert [f.rule for f in findings] == ["not_a_number"]


def test_zones_of_several_sockets_are_one_zone() -> None:
    metric = "kepler_node_cpu_joules_total"
    found, _ = read("kepler", *[series(metric, 40, **HERE, zone=f"package-{i}", path=f"/rapl:{i}") for i in (0, 1)])
    assert [(r.zone, r.sample.value) for r in found] == [("package", 80.0)]


def test_cores_of_a_device_are_averaged() -> None:
    given = [series("furiosa_npu_core_utilization", i * 10, **HERE, uuid=GPU, core=str(i)) for i in range(8)]
    assert values(read("furiosa", *given)[0]) == [pytest.approx(0.35)]


@pytest.mark.parametrize("origin,basis", [("rapl-sysfs", Basis.MEASURED), ("trained_power_model", Basis.MODELLED)])
def test_an_exporters_estimate_is_no_measurement(origin: str, basis: Basis) -> None:
    found, _ = read("kepler", series("kepler_node_package_joules_total", 50, **HERE, mode="idle", source=origin))
    assert [r.sample.basis for r in found] == [basis]


def test_a_share_of_a_measurement_is_modelled() -> None:
    found, _ = read("kepler", series("kepler_vm_cpu_joules_total", 50, **HERE, zone="package", vm_id=NOVA))
    assert [r.sample.basis for r in found] == [Basis.MODELLED]


# -- joins ------------------------------------------------------------------------------------------------------------

POWER = "DCGM_FI_DEV_POWER_USAGE"


def places(found: list[Reading]) -> list[tuple[str, str, str]]:
    return [(r.sample.cluster, r.sample.node, r.sample.instance) for r in found]


def test_the_clusters_label_joins() -> None:
    assert places(read("dcgm", series(POWER, 60, **HERE))[0]) == [(CLUSTER, "n1", "")]


def test_another_label_can_be_configured() -> None:
    source = a_source(cluster_labels="cluster_id", node_labels=["k8s_node"])
    found, _ = read("dcgm", series(POWER, 60, cluster_id=CLUSTER.upper(), k8s_node="n7", node="exporter"), source=source)
    assert places(found) == [(CLUSTER, "n7", "")]


def test_a_source_may_be_of_one_cluster() -> None:
    found, _ = read("dcgm", series(POWER, 60, instance="10.0.0.5:9400"), source=a_source(cluster=CLUSTER))
    assert places(found) == [(CLUSTER, "10.0.0.5", "")]


def test_the_nova_instance_joins_a_hypervisors_reading() -> None:
    machine = series("kepler_vm_cpu_joules_total", 50, zone="package", vm_id=NOVA.upper(), node_name="hypervisor-3")
    found, _ = read("kepler", machine, inventory=Inventory(instances={NOVA: CLUSTER}))
    assert places(found) == [(CLUSTER, "", NOVA)]


def info(node: str, cluster: str, **labels: str) -> Series:
    return series(NODE_INFO, 1, node=node, magnum_cluster_uuid=cluster, **labels)


@pytest.mark.parametrize(
    "labels", [{"provider_id": f"openstack:///{NOVA}"}, {"provider_id": f"openstack://R1/{NOVA}"}, {"system_uuid": NOVA.upper()}]
)
def test_kube_node_info_links_a_node_and_its_instance(labels: dict[str, str]) -> None:
    machine = series("kepler_vm_cpu_joules_total", 50, zone="package", vm_id=NOVA)
    known = Inventory(instances={NOVA: CLUSTER})
    links = (info("n1", CLUSTER, **labels),)
    assert places(read("dcgm", series(POWER, 60, **HERE), info=links)[0]) == [(CLUSTER, "n1", NOVA)]
    assert places(read("kepler", machine, info=links, inventory=known)[0]) == [(CLUSTER, "n1", NOVA)]


def test_a_node_of_one_cluster_joins_by_its_name_and_one_of_two_does_not() -> None:
    given = series(POWER, 60, node="n1")
    assert places(read("dcgm", given, info=(info("n1", CLUSTER),))[0]) == [(CLUSTER, "n1", "")]
    found, findings = read("dcgm", given, info=(info("n1", CLUSTER), info("n1", OTHER)))
    assert (found, [f.rule for f in findings]) == ([], ["no_cluster"])


def test_other_clusters_are_left_out_in_silence() -> None:
    wanted = Inventory(clusters=frozenset({OTHER}))
    assert read("dcgm", series(POWER, 60, **HERE), inventory=wanted) == ([], ())


def test_the_exporters_own_node_label_counts() -> None:
    given = series(POWER, 60, magnum_cluster_uuid=CLUSTER, node="where-the-exporter-runs", exported_node="n1")
    assert places(read("dcgm", given)[0]) == [(CLUSTER, "n1", "")]


def test_counts_carry_their_resource() -> None:
    given = [
        series("kube_node_status_allocatable", n, **HERE, resource=r) for r, n in (("nvidia_com_gpu", 4), ("furiosa_ai_rngd", 2))
    ]
    found, _ = read("kube_state", *given)
    assert [(r.sample.model, r.sample.value, r.sample.accelerator, r.sample.quantity) for r in found] == [
        ("nvidia_com_gpu", 4.0, "", Quantity.ALLOCATABLE),
        ("furiosa_ai_rngd", 2.0, "", Quantity.ALLOCATABLE),
    ]
