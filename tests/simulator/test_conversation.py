"""The simulator against what real services answered to the same requests (``real.json``): statuses, versions, and words of refusals.

``KNOWN`` are the answers that differ; docs/openstack.md says how. An answer that begins to agree must leave the list.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from simulator.testing import running_simulator
from tests.simulator.conversation import RECORDING, Account, Cloud, compare, hold

REAL: dict[str, Any] = json.loads(RECORDING.read_text(encoding="utf-8"))
_VERSIONS = ("openstack-api-maximum-version", "openstack-api-minimum-version", "openstack-api-version")

KNOWN = {
    "cluster: upgrade, nothing",
    "credential: a reader's",
    "groups: made",
    "groups: made empty at 1.9",
    "groups: made with a restricted label",
    "groups: made, shown",
    "groups: most changed",
    "groups: shown",
    "node groups at 1.8",
    "template: a volume of zero",
    "template: changed to nonsense",
    "template: devicemapper without a volume",
    "template: labels that are a list",
    "template: one of two",
    "template: public, by a member",
    "template: renamed while in use",
    "template: unknown keypair",
    "template: unknown network driver",
    "template: unknown server type",
    "template: unknown volume driver",
}


@pytest.fixture(scope="module")
def heard() -> Iterator[dict[str, Any]]:
    with running_simulator() as running:
        running.control("POST", "/settings", {"half_written_s": 0})  # in which lists are refused: tests of the contract have it
        accounts = {
            "admin": Account("admin", "secretpassword", "kcloud"),
            "operator": Account("operator", "operator-password", "kcloud"),
            "viewer": Account("viewer", "viewer-password", "kcloud"),
            "outsider": Account("outsider", "outsider-password", "other"),
        }
        yield hold(Cloud(running.auth_url, accounts))


def _essence(answer: Any) -> Any:
    """What a client acts on: status, versions, and the words of a refusal; of a good answer, the names of its fields."""
    if not isinstance(answer, dict) or "status" not in answer or "headers" not in answer:
        return None
    body = answer["body"]
    told: Any = sorted(body) if isinstance(body, dict) else type(body).__name__
    if answer["status"] >= 400 and isinstance(body, dict):
        told = [error.get("detail") for error in body.get("errors", [])] or body.get("error", {}).get("message")
    headers = {name: value for name, value in answer["headers"].items() if name in _VERSIONS}
    return {"status": answer["status"], "told": told, "headers": headers}


def test_everything_was_asked(heard: dict[str, Any]) -> None:
    assert heard.keys() == REAL.keys()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("label", sorted(REAL))
def test_the_answer_is_the_real_one(heard: dict[str, Any], label: str) -> None:
    differences = list(compare(_essence(REAL[label]), _essence(heard[label])))
    if label in KNOWN:
        assert differences, "it agrees now: take it out of KNOWN"
    else:
        assert not differences, "\n".join(differences)
