"""Who may do what: every operation by every role, and by those without a token."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api.app import describe
from api.policy import RULES, Policy
from api.spec import document_of
from shared.domain.access import LEAST
from shared.errors import ConfigurationError
from tests.api.harness import Caller, World, a_body, problem
from tests.builders import OTHER_PROJECT, PROJECT, TEMPLATE_NAME

_CREDENTIAL = {"application_credential_id": "ac1", "secret": "secret-of-ac1"}
_GROUP = {"name": "gpu-pool", "flavor_id": "gpu.a100.large"}
_GRANT = {"subject_type": "user", "subject_id": "someone", "role": "viewer"}
_DOCS = Path(__file__).resolve().parents[2] / "docs"
_ROLES = ["reader", "member", "admin"]
_GRANTS = ["viewer", "operator", "owner"]
_GUEST = "0f0e0d0c0b0a09080706050403020100"
_UUID = "6f2f2c9e-3a0e-4c58-9d7e-0e0a4d8f9b11"

#: What the operations that take a body are sent.
_BODIES: dict[str, Any] = {
    "POST /clusters": a_body("another"),
    "POST /clusters/import": {"magnum_uuid": _UUID},
    "PUT /clusters/{cluster_id}/scale": {"node_count": 2},
    "POST /clusters/{cluster_id}/node-groups": _GROUP,
    "PUT /clusters/{cluster_id}/node-groups/{node_group}": {"node_count": 2},
    "POST /clusters/{cluster_id}/upgrade": {"cluster_template_id": TEMPLATE_NAME},
    "PUT /clusters/{cluster_id}/grants": _GRANT,
    "POST /templates": {
        "name": "mine-too",
        "image": "ubuntu-24.04-kube-v1.33.1",
        "flavor": "cpu.large",
        "master_flavor": "cpu.large",
    },
    "PUT /templates/{template_id}": {"image": "ubuntu-24.04-kube-v1.33.1", "flavor": "cpu.medium", "master_flavor": "cpu.large"},
    "POST /stacks": {"name": "net-b", "template": "network"},
    "POST /stacks/preview": {"name": "net-b", "template": "network"},
    "PUT /stacks/{stack_id}": {"parameters": {"dns": ["9.9.9.9"]}},
    "PUT /clusters/{cluster_id}/scale-policy": {"enabled": False},
    "POST /match/workload": {"cpu_cores": 1},
    "POST /optimize/clusters": {},
    "POST /scale-decisions": {"workloads": [{"cpu_cores": 1}]},
    "POST /match/workloads": {"workloads": [{"cpu_cores": 1}]},
    "POST /placements": {"cpu_cores": 1},
    "PUT /placements/{placement_id}": {"lease_seconds": 60},
    "POST /rate-cards": {"name": "x", "currency": "USD", "valid_from": "2026-01-01T00:00:00Z", "core_hour": "0.05"},
    "POST /budgets": {"name": "x", "kind": "energy", "amount": "100"},
    "PUT /credentials": _CREDENTIAL,
    "POST /cleanup/idle-clusters": {},
    "PUT /cleanup/policy": {},
    "PUT /cleanup/floor": {},
    "PUT /clusters/{cluster_id}/hold": {"until": (datetime.now(UTC) + timedelta(days=1)).isoformat(), "why": "a demo"},
    "POST /webhooks": {"url": "https://hooks.example.com/kcloud"},
}


def _table() -> list[tuple[str, str, str]]:
    """Operation, least role and least grant of each row of docs/security.md."""
    rows = re.findall(
        r"^\| ((?:GET|POST|PUT|DELETE) \S+) \| (\w+) \| (\w*) ?\|$",
        (_DOCS / "security.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return [(operation, role, grant) for operation, role, grant in rows]


TABLE = _table()
GUARDED = [row for row in TABLE if row[1] != "any"]


def _send(caller: Caller, operation: str, made: Mapping[str, str]) -> TestResponse:
    method, path = operation.split()
    filled = path.format(
        cluster_id=made["id"],
        job_id=made["job_id"],
        stack_id=made["stack_id"],
        template_id="mine",
        placement_id=_UUID,
        webhook_id=_UUID,
        card_id=_UUID,
        budget_id=_UUID,
        plan_id=_UUID,
        number="0",
        node_group="default-worker",
        slug="conflict",
    )
    if operation == "DELETE /clusters/{cluster_id}/grants":
        filled += "?subject_type=user&subject_id=someone"
    if operation == "DELETE /clusters/{cluster_id}/node-groups/{node_group}":
        filled = filled.replace("default-worker", "pool")
    return caller(method, filled, _BODIES.get(operation))


def _is_let_in(response: TestResponse) -> bool:
    """Taken, or refused for what it asks and not for who asks."""
    return response.status_code not in {401, 403}


def _made(world: World) -> dict[str, Any]:
    """A cluster, ready, of somebody who asks for nothing else here."""
    maker = world.caller("admin", PROJECT, user="maker")
    made: dict[str, Any] = maker("POST", "/clusters", a_body()).get_json()
    world.complete(made["job_id"], PROJECT)
    world.cloud.put_foreign(_UUID, "by-hand")
    stack = maker("POST", "/stacks", {"name": "net-a", "template": "network"}).get_json()
    world.complete(stack["job_id"], PROJECT)
    mine = {"name": "mine", "image": "ubuntu-24.04-kube-v1.33.1", "flavor": "cpu.large", "master_flavor": "cpu.large"}
    assert maker("POST", "/templates", mine).status_code == 201
    return made | {"stack_id": stack["id"]}


def test_the_table_has_every_operation() -> None:
    paths = document_of(describe())["paths"]
    operations = {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method != "parameters"}
    assert {operation for operation, _, _ in TABLE} == operations
    assert len(TABLE) == len(operations)


@pytest.mark.parametrize("role", [*_ROLES, "auditor", None])
@pytest.mark.parametrize("operation,least,grant", GUARDED)
def test_an_operation_is_open_to_its_roles_alone(world: World, role: str | None, operation: str, least: str, grant: str) -> None:
    del grant
    made = _made(world)
    before = world.counts()
    response = _send(world.caller(role, PROJECT), operation, made)
    if role in _ROLES and _ROLES.index(role) >= _ROLES.index(least):
        assert _is_let_in(response), response.text
    else:
        problem(response, 403, "POLICY")
        assert world.counts() == before


@pytest.mark.parametrize("granted", _GRANTS)
@pytest.mark.parametrize("operation,least,grant", GUARDED)
def test_an_operation_is_open_to_its_grants_alone(world: World, granted: str, operation: str, least: str, grant: str) -> None:
    del least
    made = _made(world)
    maker = world.caller("admin", PROJECT, user="maker")
    body = {"subject_type": "user", "subject_id": _GUEST, "role": granted}
    assert maker("PUT", f"/clusters/{made['id']}/grants", body).status_code == 200
    before = world.counts()
    response = _send(world.caller("auditor", PROJECT, user=_GUEST), operation, made)
    if grant and _GRANTS.index(granted) >= _GRANTS.index(grant):
        assert _is_let_in(response), response.text
    else:
        problem(response, 403, "POLICY")
        assert world.counts() == before


@pytest.mark.parametrize("operation,least,grant", GUARDED)
def test_to_a_foreign_project_there_is_no_such_object(world: World, operation: str, least: str, grant: str) -> None:
    del least, grant
    made = _made(world)
    jobs = world.counts()[1]
    response = _send(world.caller("admin", OTHER_PROJECT), operation, made)
    if "{" in operation:
        problem(response, 404)
        assert world.counts()[1] == jobs
    elif operation.startswith("GET") and response.content_type == "application/json":
        assert made["id"] not in response.text


@pytest.mark.parametrize("operation,least,grant", GUARDED)
def test_without_a_token_nothing_is_served(world: World, operation: str, least: str, grant: str) -> None:
    del least, grant
    problem(_send(world.stranger(), operation, {"id": "x", "job_id": "x", "stack_id": "x"}), 401, "TOKEN_MISSING")
    assert world.counts() == (0, 0, 0)


@pytest.mark.parametrize("operation", [operation for operation, least, _ in TABLE if least == "any"])
def test_the_service_itself_needs_no_token(world: World, operation: str) -> None:
    assert _send(world.stranger(), operation, {"id": "x", "job_id": "x", "stack_id": "x"}).status_code in {200, 503}


def test_every_rule_is_asked_by_some_operation() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in _DOCS.parent.joinpath("api").glob("*.py"))
    assert [rule for rule in RULES if ":" in rule and f'("{rule}"' not in source] == []
    assert set(LEAST) <= set(RULES)


def test_an_administrator_of_one_project_sees_no_other(world: World) -> None:
    world.caller("member", PROJECT)("POST", "/clusters", a_body())
    assert world.caller("admin", "f00d")("GET", "/clusters").get_json() == []


# -- the policy file -----------------------------------------------------------------------------------------------------


def _policy(path: Path, text: str) -> Policy:
    file = path / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    return Policy(str(file))


def test_a_policy_file_replaces_single_rules(tmp_path: Path) -> None:
    policy = _policy(tmp_path, '"clusters:create": "role:cluster-maker"\n')
    creds = {"user_id": "u", "project_id": PROJECT}
    assert policy.allows("clusters:create", {**creds, "roles": ["cluster-maker"]})
    assert not policy.allows("clusters:create", {**creds, "roles": ["admin"]})
    assert policy.allows("clusters:delete", {**creds, "roles": ["member"]})


def test_a_policy_file_can_open_the_metrics(tmp_path: Path) -> None:
    nobody: dict[str, Any] = {"roles": [], "user_id": None, "project_id": None}
    assert _policy(tmp_path, '"service:metrics": "@"\n').allows("service:metrics", nobody)
    assert not Policy().allows("service:metrics", nobody)


@pytest.mark.parametrize("text", ['"clusters:creat": "@"\n', "[1, 2]\n", '"clusters:create": [\n'])
def test_a_wrong_policy_file_ends_the_start(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="POLICY_FILE"):
        _policy(tmp_path, text)


def test_a_missing_policy_file_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no file"):
        Policy(str(tmp_path / "none.yaml"))
