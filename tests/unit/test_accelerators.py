"""The catalogue of accelerators: what is wrong in its file is named, and flavors are mapped to it."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.accelerators import Catalogue, Reserve, read
from shared.errors import ConfigurationError
from shared.services.accelerators import load_catalogue
from shared.settings import PlacementSettings
from tests.builders import a_flavor

ROW: dict[str, Any] = {
    "id": "card",
    "vendor": "nvidia",
    "kind": "gpu",
    "name": "A card",
    "memory_gb": 40,
    "idle_w": 10,
    "max_w": 100,
    "price_per_hour": 1.0,
}


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return load_catalogue(PlacementSettings())


def found(*rows: Any, **more: Any) -> dict[str, str]:
    catalogue, wrong = read({"accelerators": list(rows), **more})
    assert (catalogue is None) == bool(wrong)
    return {one.field: one.rule for one in wrong}


def test_the_shipped_file_is_right(shipped: Catalogue) -> None:
    assert {row.vendor for row in shipped.rows.values()} >= {"nvidia", "furiosa", "rebellions"}
    assert {row.kind for row in shipped.rows.values()} == {"gpu", "npu"}
    assert sum(row.slice_of is not None for row in shipped.rows.values()) >= 6
    assert all(row.source for row in shipped.rows.values())


@pytest.mark.parametrize(
    "specs,name,expected",
    [
        ({"accelerator:model": "nvidia-a100", "accelerator:count": "4"}, "x", ("nvidia-a100", 4, "accelerator:model")),
        ({"pci_passthrough:alias": "h100:8"}, "x", ("nvidia-h100", 8, "pci_passthrough:alias")),
        ({"pci_passthrough:alias": "a100-40:2"}, "x", ("nvidia-a100-40", 2, "pci_passthrough:alias")),
        ({"accel:device_profile": "npu-furiosa-x4"}, "x", ("furiosa-rngd", 4, "accel:device_profile")),
        ({"resources:CUSTOM_NPU_FURIOSA": "4"}, "x", ("furiosa-rngd", 4, "resources:CUSTOM_NPU_FURIOSA")),
        (
            {"resources:VGPU": "2", "trait:CUSTOM_A100_3G.40GB": "required"},
            "x",
            ("nvidia-a100-3g.40gb", 2, "resources:VGPU"),
        ),
        ({"resources:VGPU": "1"}, "x", ("generic-gpu", 1, "resources:VGPU")),
        ({}, "gpu.l40s.large", ("nvidia-l40s", 1, "name")),
        ({}, "npu.intel.medium", ("generic-npu", 1, "name")),
        ({}, "gpu-of-an-unknown-kind", ("generic-gpu", 1, "name")),
        ({"pci_passthrough:alias": "nic:1"}, "net.large", (None, 0, "none")),
        ({}, "cpu.large", (None, 0, "none")),
    ],
)
def test_flavors_are_mapped(shipped: Catalogue, specs: dict[str, str], name: str, expected: tuple[str | None, int, str]) -> None:
    flavor = a_flavor(name)
    flavor.extra_specs.update(specs)
    shape = shipped.node(flavor)
    assert (shape.accelerator.id if shape.accelerator else None, shape.devices, shape.read_from) == expected


def test_configuration_comes_before_extra_specs() -> None:
    catalogue, wrong = read({"accelerators": [ROW], "flavors": [{"flavor": "g1.*", "accelerator": "card", "count": 3}]})
    assert not wrong
    assert catalogue is not None
    shape = catalogue.node(a_flavor("g1.big", pci_passthrough__alias="other:8"))
    assert (shape.devices, shape.read_from) == (3, "configuration")


def test_a_node_keeps_something_for_itself() -> None:
    catalogue, _ = read({"accelerators": [ROW]}, reserve=Reserve(500, 0.1))
    assert catalogue is not None
    shape = catalogue.node(a_flavor(vcpus=4, ram_mb=10_000))
    assert (shape.cpu_milli, shape.memory_mib, shape.vcpus) == (3500, 9000, 4)


def test_watts_are_those_of_the_model(shipped: Catalogue) -> None:
    shape = shipped.node(a_flavor("x", vcpus=32, ram_mb=256 * 1024, pci_passthrough__alias="a100:4"))
    assert shape.idle_w == 50 + 256 * 0.5 + 4 * 60
    assert shape.max_w == 50 + 256 * 0.5 + 32 * 15 + 4 * 400
    assert shape.draw_w(8000, 0.5) == 8 * 15 * 0.5 + 0.5 * 340
    assert shape.price_per_hour == pytest.approx(32 * 0.05 + 256 * 0.01 + 4 * 2.0)


@pytest.mark.parametrize(
    "change,field,rule",
    [
        ({"id": None}, "id", "pattern"),
        ({"id": "Big Card"}, "id", "pattern"),
        ({"kind": "tpu"}, "kind", "choice"),
        ({"max_w": "100"}, "max_w", "range"),
        ({"max_w": -1}, "max_w", "range"),
        ({"max_w": True}, "max_w", "range"),
        ({"price_per_hour": float("nan")}, "price_per_hour", "range"),
        ({"idle_w": 200}, "idle_w", "max_w"),
        ({"colour": "green"}, "colour", "unknown"),
        ({"aliases": "a,b"}, "aliases", "type"),
        ({"slices": 0}, "slices", "range"),
        ({"slice_of": "no-such-card"}, "slice_of", "exists"),
        ({"vendor": 7}, "vendor", "type"),
    ],
)
def test_what_is_wrong_in_a_row_is_named(change: dict[str, Any], field: str, rule: str) -> None:
    assert found(ROW | change) == {f"accelerators.0.{field}": rule}


def test_slices_are_no_more_than_their_card() -> None:
    part = ROW | {"id": "part", "slice_of": "card", "slices": 4, "memory_gb": 11, "max_w": 25}
    assert found(ROW, part) == {"accelerators.1.memory_gb": "sum"}
    assert found(ROW, part | {"memory_gb": 10, "max_w": 26}) == {"accelerators.1.max_w": "sum"}
    assert found(ROW, part | {"memory_gb": 10}) == {}


def test_all_is_told_at_once() -> None:
    lacking = {name: value for name, value in ROW.items() if name != "vendor"}
    wrong = found(
        lacking,
        ROW | {"id": "b", "aliases": ["c"]},
        ROW | {"id": "c"},
        ROW | {"id": "b"},
        "text",
        flavors=[{"flavor": "x", "accelerator": "b", "count": 0}, {"flavor": "y", "accelerator": "zz"}, {"accelerator": "b"}],
        colour=1,
    )
    assert wrong["accelerators.0.vendor"] == "required"
    assert wrong["accelerators.2.aliases"] == "unique"
    assert wrong["accelerators.3.id"] == "unique"
    assert wrong["accelerators.4"] == "type"
    assert (wrong["flavors.0.count"], wrong["flavors.1.accelerator"], wrong["flavors.2"]) == ("range", "exists", "fields")
    assert wrong["colour"] == "unknown"


@pytest.mark.parametrize("text", ["", "[]", "accelerators: 7", "a: [", "\x00"])
def test_a_file_that_can_not_be_used_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "accelerators.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="ACCELERATORS_FILE"):
        load_catalogue(PlacementSettings(accelerators_file=str(path)))
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_catalogue(PlacementSettings(accelerators_file=str(tmp_path / "missing.yaml")))
