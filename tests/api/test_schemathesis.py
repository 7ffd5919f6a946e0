"""Generated requests, right and wrong ones, against what /openapi.json promises: no 5xx, no undocumented answer."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode

from api.app import describe
from api.spec import document_of
from tests.api.harness import World, a_body, problemless
from tests.builders import KEYPAIR, PROJECT, TEMPLATE_NAME

EXAMPLES = 150 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 30
DOCUMENT = document_of(describe())
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in item if method != "parameters"]
WITH_SOMETHING_TO_GET_WRONG = [
    (method, path) for method, path in OPERATIONS if {"parameters", "requestBody"} & DOCUMENT["paths"][path][method].keys()
]

_REFUSED = ("400", "401", "403", "404", "405", "406", "409", "415", "422", "428", "429", "5xx")
FOREIGN = "6f2f2c9e-3a0e-4c58-9d7e-0e0a4d8f9b11"


#: What exists in the project, and what the document can't say of two fields together: these take the place of what was generated.
_KNOWN: dict[str, dict[str, Any]] = {
    "cluster_template_id": {"cluster_template_id": TEMPLATE_NAME},
    "keypair": {"keypair": KEYPAIR},
    "flavor_id": {"flavor_id": "cpu.large"},
    "master_flavor_id": {"master_flavor_id": "cpu.large"},
    "master_count": {"master_count": 1},
    "magnum_uuid": {"magnum_uuid": FOREIGN},
    "network_cidr": {"network": "isolated", "network_cidr": "10.77.0.0/24"},
    "secret": {"application_credential_id": "ac1", "secret": "secret-of-ac1"},
    "template": {"template": "network"},
    "image": {"image": "ubuntu-24.04-kube-v1.33.1"},
    "flavor": {"flavor": "cpu.large"},
    "master_flavor": {"master_flavor": "cpu.large"},
    "coe": {"coe": "kubernetes"},
}
#: What the template, the project or another field decides; left out.
_DEPENDENT = ("parameters", "members", "stack_id", "min_node_count", "max_node_count", "fixed_network", "fixed_subnet")
#: What a cluster type's own rules decide, beyond what a schema says.
_OF_TYPES = ("driver", "images", "network_drivers", "node_groups", "keypair", "labels")


def _keep_rules(path: str, body: dict[str, Any]) -> None:
    """Rules between fields that the operations' descriptions tell in words."""
    if path.startswith(("/match", "/placements", "/scale-decisions")) and not path.endswith("{placement_id}"):
        for work in [body, *body.get("workloads", [])]:
            if "workloads" not in work:
                work["cpu_cores"] = 2
            for name in ("gpu_count", "gpu_required", "deadline"):
                work.pop(name, None)
            if "forbidden_clusters" in work:
                work.pop("preferred_clusters", None)
            if "accelerator" in work:
                work["accelerator"] = {"models": ["nvidia-a100"]}
        if path == "/placements":
            body.pop("place", None)
        if "lease_seconds" in body:
            body["lease_seconds"] = 600
            body["place"] = True
    _keep_rules_of_rarer(path, body)


def _keep_rules_of_rarer(path: str, body: dict[str, Any]) -> None:
    if path == "/rate-cards":
        body |= {"currency": "KRW", "valid_from": "2026-01-01T00:00:00Z", "core_hour": "1"}
        for name in ("valid_to", "flavors", "accelerators"):
            body.pop(name, None)
        if "electricity" in body:
            body["electricity"] |= {"time_zone": "Asia/Seoul", "pue": "1.3", "windows": []}
    if path == "/budgets":
        body |= {"kind": "money", "currency": "KRW", "amount": "100", "name": "ours"}
        body.pop("thresholds", None)
    if path.endswith("/scale-policy"):
        body |= {"scale_in_below": 0.2, "target_utilization": 0.5, "scale_out_above": 0.8}
        for name in ("min_nodes", "max_nodes", "schedule"):
            body.pop(name, None)
        if "time_zone" in body:
            body["time_zone"] = "Asia/Seoul"


def _keep_rules_of_cleanup(path: str, body: dict[str, Any]) -> None:
    """The same for cleanup, holds and webhooks."""
    if path in {"/cleanup/policy", "/cleanup/floor"} and "window" in body:
        body["window"] |= {"start": "08:00", "end": "18:00", "time_zone": "Asia/Seoul"}
    if path == "/cleanup/idle-clusters":
        body.pop("dry_run", None)
    if path.endswith("/hold"):
        body["until"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    if path == "/webhooks":
        body |= {"url": "https://hooks.example.com/kcloud", "events": ["cleanup.*"]}


def _make_known(case: Case[Any]) -> None:
    """Put known names where a schema can only say "a string": what exists in the project is not in the document."""
    body: Any = case.body
    if isinstance(body, dict):
        _keep_rules(case.path, body)
        _keep_rules_of_cleanup(case.path, body)
        for name, values in _KNOWN.items():
            if name in body and not (name == "secret" and case.path == "/webhooks"):
                body |= values
        for name in _DEPENDENT:
            body.pop(name, None)
        if case.path.startswith("/templates"):
            for name in _OF_TYPES:
                body.pop(name, None)
            if case.method == "PUT":
                body["name"] = "mine"
        if case.path == "/stacks/preview":
            body["template"] = "network"
    if "Idempotency-Key" in case.headers:  # one that no earlier example used
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}{uuid4()}"
    for name in ("marker", "start", "end"):  # ids of the list, and a window of less than 10,000 steps
        case.query.pop(name, None)
    if "step" in case.query:
        case.query["step"] = 60


def _examples(world: World, method: str, path: str, mode: GenerationMode, prepare: Callable[[Case[Any]], None]) -> None:
    token = {"X-Auth-Token": world.tokens.issue(("admin",), PROJECT)}
    made = problemless(world.caller("admin", PROJECT)("POST", "/clusters", a_body("zero")))
    world.cloud.put_foreign(FOREIGN, "made-elsewhere")
    schema = schemathesis.openapi.from_wsgi("/openapi.json", world.app)
    # A list that is longer than allowed may make the body larger than allowed.
    schema.config.checks.negative_data_rejection.expected_statuses = [*_REFUSED, "413"]
    mine = {"name": "mine", "image": "ubuntu-24.04-kube-v1.33.1", "flavor": "cpu.large", "master_flavor": "cpu.large"}
    problemless(world.caller("admin", PROJECT)("POST", "/templates", mine))
    known = {"template_id": "mine", "cluster_id": made["id"], "job_id": made["job_id"], "slug": "conflict"}

    @given(case=schema[path][method].as_strategy(mode, headers=token), exists=st.booleans())
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def run(case: Case[Any], exists: bool) -> None:
        if exists:
            case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
        # Waits and streams have tests of their own, in which something ends them.
        case.headers.pop("Prefer", None)
        prepare(case)
        # As an explicit header too, so that schemathesis also tries the request without it.
        case.call_and_validate(headers=token)

    run()


@pytest.mark.parametrize("method,path", OPERATIONS)
def test_right_requests_are_taken_and_answered_as_documented(world: World, method: str, path: str) -> None:
    _examples(world, method, path, GenerationMode.POSITIVE, _make_known)


@pytest.mark.parametrize("method,path", WITH_SOMETHING_TO_GET_WRONG)
def test_wrong_requests_are_refused_as_documented(world: World, method: str, path: str) -> None:
    _examples(world, method, path, GenerationMode.NEGATIVE, lambda _case: None)
