"""What is read from Magnum's JSON, and which microversion is asked for."""

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.domain.clusters import MagnumStatus
from shared.openstack.catalog import template_from
from shared.openstack.magnum import _pattern, observed_from, supported_version

# As the services of 2026.2 answered.
BODY: dict[str, Any] = {
    "status": "CREATE_FAILED",
    "health_status": "UNKNOWN",
    "cluster_template_id": "57ac16d1-ebc7-46fc-a84e-45ed5b2e7eeb",
    "node_addresses": [],
    "uuid": "731387cf-a92b-4c36-981e-3271d63e5597",
    "stack_id": "31c1ee6c-081e-4f39-9f0f-f1d87a7defa1",
    "created_at": "2026-05-05T10:00:00+00:00",
    "updated_at": None,
    "api_address": None,
    "coe_version": None,
    "labels": {"kube_tag": "v1.33.1"},
    "faults": {"default-worker": "No valid host was found."},
    "health_status_reason": {},
    "node_count": 3,
    "master_count": 1,
    "name": "training-0a1b2c3d",
    "keypair": "kcloud-keypair",
    "flavor_id": "gpu.a100.large",
    "master_flavor_id": "cpu.large",
    "status_reason": "Stack CREATE failed",
    "project_id": "c33fb42164fd4835b593c26776e6a6a9",
}


def test_observed_from_a_whole_body() -> None:
    seen = observed_from(BODY)
    assert (seen.uuid, seen.name, seen.node_count, seen.master_count) == (BODY["uuid"], "training-0a1b2c3d", 3, 1)
    assert seen.status is MagnumStatus.CREATE_FAILED
    assert seen.faults == {"default-worker": "No valid host was found."}
    assert seen.health_status_reason is None
    assert seen.created_at == datetime(2026, 5, 5, 10, tzinfo=UTC)
    assert seen.updated_at is None
    assert seen.project_id == BODY["project_id"]


def test_observed_from_the_least_that_is_answered() -> None:
    seen = observed_from({"uuid": "u", "node_count": None, "labels": None})
    assert (seen.raw_status, seen.node_count, seen.labels, seen.project_id) == ("UNKNOWN", 0, {}, None)


def test_times_without_a_zone_are_utc() -> None:
    assert observed_from({"uuid": "u", "updated_at": "2026-05-05T10:00:00"}).updated_at == datetime(2026, 5, 5, 10, tzinfo=UTC)


def test_template_from_a_body_with_gaps() -> None:
    template = template_from({"uuid": "u", "name": None, "labels": None})
    assert (template.name, template.labels, template.master_lb_enabled, template.flavor) == ("", {}, False, None)


@pytest.mark.parametrize(
    "wanted,highest,expected",
    [
        ("1.10", None, "1.10"),
        ("1.15", (1, 14), "1.14"),  # never existed
        ("latest", (1, 11), "1.11"),
        ("latest", None, "1.14"),
        ("latest", (1, 99), "1.14"),
        ("1.9", (1, 14), "1.9"),
        ("1.12", (1, 9), "1.9"),
    ],
)
def test_supported_version(wanted: str, highest: tuple[int, int] | None, expected: str) -> None:
    assert supported_version(wanted, highest) == expected


@pytest.mark.parametrize(
    "path,pattern",
    [
        ("/clusters", "/clusters"),
        ("/clusters/detail", "/clusters/detail"),
        ("/clusters/0af3", "/clusters/{id}"),
        ("/clusters/0af3/actions/resize", "/clusters/{id}/actions/resize"),
    ],
)
def test_calls_are_counted_by_pattern_not_by_id(path: str, pattern: str) -> None:
    assert _pattern(path) == pattern
