"""Outages of the cloud while jobs are under way: they end well, with one cluster each. OUTAGE_SECONDS says how long they last."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from deployment.local.parts import Parts

pytestmark = pytest.mark.timeout(600)

OUTAGE_S = float(os.environ.get("OUTAGE_SECONDS", "8"))
FAULTS: dict[str, dict[str, Any]] = {
    # What Magnum answers while its database is away, and what a balancer answers in front of a service that is away.
    "Magnum has lost its database": {"kind": "status", "status": 500, "match": {"service": "magnum"}, "probability": 1.0},
    "Magnum's API is away": {"kind": "status", "status": 503, "match": {"service": "magnum"}, "probability": 1.0},
    "Keystone expires every token": {"kind": "expire_tokens"},
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with Parts(tmp_path_factory.mktemp("outages")) as running:
        yield running


def _post(system: Parts, name: str, seconds: float) -> dict[str, Any]:
    body = {
        "name": name,
        "cluster_template_id": "gpu-intensive-template",
        "node_count": 1,
        "labels": {"rig_create_seconds": str(seconds), "rig_update_seconds": "2", "rig_delete_seconds": "2"},
    }
    headers = {"X-Auth-Token": system.token()}
    answer = requests.post(f"{system.api}/clusters", json=body, headers=headers, timeout=10)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


def _all_ended(system: Parts) -> bool:
    return not system.rows("SELECT 1 FROM jobs WHERE finished_at IS NULL")


@pytest.mark.parametrize("outage", list(FAULTS))
def test_jobs_outlive_an_outage(system: Parts, outage: str) -> None:
    mark = f"o{list(FAULTS).index(outage)}"
    before = [_post(system, f"{mark}-before-{number}", 3.0) for number in range(3)]
    system.until(lambda: len(system.control("GET", "/audit")["clusters"]) >= len(before), 30, "Magnum has begun")
    system.control("POST", "/faults", FAULTS[outage])
    during = [_post(system, f"{mark}-during-{number}", 1.0) for number in range(3)]
    time.sleep(OUTAGE_S)
    system.control("DELETE", "/faults")
    system.until(lambda: _all_ended(system), 90, "every job has ended")

    made_for: dict[str, list[str]] = {}
    for cluster in system.control("GET", "/audit")["clusters"]:
        made_for.setdefault(cluster["labels"].get("kcloud_job_id", ""), []).append(cluster["uuid"])
    for made in [*before, *during]:
        job = system.rows("SELECT state, error FROM jobs WHERE id = %s", made["job_id"])[0]
        assert job["state"] == "succeeded", (outage, job)
        assert len(made_for[made["job_id"]]) == 1, (outage, made["name"])
