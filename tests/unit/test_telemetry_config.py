"""The file of sources is checked whole, and every finding names its field and rule."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.telemetry import Basis
from shared.errors import ConfigurationError
from shared.telemetry import config
from shared.telemetry.families import FAMILIES, READERS
from shared.telemetry.promql import expressions

GOOD: dict[str, Any] = {"name": "central", "url": "http://prometheus:9090/"}


def findings_of(content: Any) -> list[tuple[str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        config.parse(content)
    for error in caught.value.errors:
        assert f"{error.field}: {error.detail}" in caught.value.detail
    return [(error.field, error.rule) for error in caught.value.errors]


def test_an_empty_file_means_no_source(tmp_path: Path) -> None:
    file = tmp_path / "telemetry.yaml"
    file.write_text("# nothing yet\n", encoding="utf-8")
    assert config.load(file).sources == ()


def test_a_source_needs_a_name_and_an_address() -> None:
    (source,) = config.parse({"sources": [GOOD]}).sources
    assert (source.name, source.url, source.readers, source.families) == ("central", "http://prometheus:9090", READERS, FAMILIES)


def test_what_an_exporter_may_change_can_be_set() -> None:
    metrics = {
        "rebellions_old_power": {"scale": 1, "plausible": [3, 200], "sentinels": [-1], "basis": "modelled"},
        "dcgm_energy": {"unit": "J", "names": "my_energy_total"},
        "ipmi_power": {"enabled": False},
    }
    (source,) = config.parse({"sources": [GOOD | {"metrics": metrics, "selector": 'region="a",job=~"b|c"'}]}).sources
    power = source.families["rebellions_old_power"]
    assert (power.factor, power.low, power.high, power.sentinels, power.basis) == (1.0, 3.0, 200.0, (-1.0,), Basis.MODELLED)
    assert source.families["dcgm_energy"].factor == 1.0
    assert source.families["dcgm_energy"].metrics == ("my_energy_total",)
    asked = expressions(source)
    assert "ipmi" not in asked
    assert '__name__="my_energy_total",region="a",job=~"b|c"' in asked["dcgm"]


def test_all_findings_are_told_at_once() -> None:
    content = {
        "budget_s": 0,
        "surces": [],
        "sources": [
            {
                "name": "bad name!",
                "url": "ftp://x",
                "selector": '{job="a"}',
                "cluster": "no-uuid",
                "readers": ["kepler", "amd"],
                "node_labels": ["with space"],
                "window_s": 2.5,
                "timeout_s": True,
                "username": "u",
                "color": "red",
                "metrics": {
                    "dcgm_power": {
                        "unit": "J",
                        "scale": "1000",
                        "plausible": [5, 1],
                        "basis": [],
                        "enabled": "yes",
                        "names": ["a b"],
                    },
                    "nvidia": {},
                },
            },
            GOOD,
            GOOD,
            {"name": "third", "bearer_token_file": "/t", "username": "u", "password_file": "", "url": "http://u:p@x"},
            [],
        ],
    }
    assert sorted(findings_of(content)) == sorted(
        [
            ("surces", "unknown"),
            ("budget_s", "range"),
            ("sources[0].color", "unknown"),
            ("sources[0].name", "pattern"),
            ("sources[0].url", "url"),
            ("sources[0].selector", "selector"),
            ("sources[0].cluster", "uuid"),
            ("sources[0].readers", "one_of"),
            ("sources[0].node_labels", "pattern"),
            ("sources[0].window_s", "range"),
            ("sources[0].timeout_s", "range"),
            ("sources[0].password_file", "required"),
            ("sources[0].metrics.nvidia", "unknown"),
            ("sources[0].metrics.dcgm_power.unit", "one_of"),
            ("sources[0].metrics.dcgm_power.scale", "range"),
            ("sources[0].metrics.dcgm_power.plausible", "range"),
            ("sources[0].metrics.dcgm_power.basis", "one_of"),
            ("sources[0].metrics.dcgm_power.enabled", "boolean"),
            ("sources[0].metrics.dcgm_power.names", "pattern"),
            ("sources[2].name", "unique"),
            ("sources[3].password_file", "text"),
            ("sources[3].bearer_token_file", "one_of"),
            ("sources[3].url", "no_secret"),
            ("sources[4]", "mapping"),
            ("sources[4].name", "required"),
            ("sources[4].url", "required"),
        ]
    )


@pytest.mark.parametrize("content", [[], "text", 5, {"sources": {}}, {"sources": [GOOD] * 101}])
def test_another_shape_is_refused(content: Any) -> None:
    assert findings_of(content)


@pytest.mark.parametrize("selector", ['a="b"} or up{c="d"', 'a="b" or', "a=b", 'a="b\n"', 'a=="b"', ["a"], 'a="b",,c="d"'])
def test_a_selector_cannot_leave_its_braces(selector: Any) -> None:
    assert findings_of({"sources": [GOOD | {"selector": selector}]}) == [("sources[0].selector", "selector")]


@pytest.mark.parametrize(
    "url", ["http://", "prometheus:9090", "http://x:0", "http://x:99999", "http://[::1", "http://x/?a=b", 9090]
)
def test_an_address_is_checked(url: Any) -> None:
    assert [field for field, _ in findings_of({"sources": [GOOD | {"url": url}]})] == ["sources[0].url"]


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.parse({"sources": [GOOD | {"url": "http://u:hunter2@x"}]})
    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize("text", ["a: [", "\x00", b"\xff\xfe\x00\xd8"])
def test_what_is_no_yaml_is_said_to_be_none(tmp_path: Path, text: str | bytes) -> None:
    file = tmp_path / "telemetry.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match="no YAML"):
        config.load(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml cannot be read: No such file"):
        config.load(tmp_path / "absent.yaml")


def test_no_metric_belongs_to_two_families_of_a_reader() -> None:
    names = [(family.reader, metric) for family in FAMILIES.values() for metric in family.metrics]
    assert len(names) == len(set(names))
    assert all(family.low < family.high and family.factor > 0 for family in FAMILIES.values())
