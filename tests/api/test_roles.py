"""Who may do what: every operation by every role, and by those without a token."""

from pathlib import Path
from typing import Any

import pytest

from api.policy import RULES, Policy
from shared.errors import ConfigurationError
from tests.api.harness import World, a_body, problem
from tests.builders import PROJECT

_CREDENTIAL = {"application_credential_id": "ac1", "secret": "secret-of-ac1"}

Operation = tuple[str, str, Any, set[str]]


def _name(operation: Operation) -> str:
    return f"{operation[0]} {operation[1]}"


#: method, path, body, and the roles that it is open to; {id} and {job} are filled in.
OPERATIONS: list[Operation] = [
    ("POST", "/clusters", a_body("another"), {"member", "admin"}),
    ("GET", "/clusters", None, {"reader", "member", "admin"}),
    ("GET", "/clusters/{id}", None, {"reader", "member", "admin"}),
    ("GET", "/clusters/{id}/status", None, {"reader", "member", "admin"}),
    ("GET", "/clusters/{id}/metrics", None, {"reader", "member", "admin"}),
    ("GET", "/clusters/{id}/costs", None, {"reader", "member", "admin"}),
    ("PUT", "/clusters/{id}/scale", {"node_count": 2}, {"member", "admin"}),
    ("DELETE", "/clusters/{id}", None, {"member", "admin"}),
    ("GET", "/jobs", None, {"reader", "member", "admin"}),
    ("GET", "/jobs/{job}", None, {"reader", "member", "admin"}),
    ("GET", "/jobs/{job}/events", None, {"reader", "member", "admin"}),
    ("DELETE", "/jobs/{job}", None, {"member", "admin"}),
    ("PUT", "/credentials", _CREDENTIAL, {"admin"}),
    ("GET", "/credentials", None, {"admin"}),
    ("DELETE", "/credentials", None, {"admin"}),
    ("GET", "/metrics", None, {"reader", "member", "admin"}),
]
OPEN = ["/", "/health", "/ready", "/openapi.json", "/docs", "/problems/conflict"]


@pytest.mark.parametrize("role", ["reader", "member", "admin", "auditor", None])
@pytest.mark.parametrize("operation", OPERATIONS, ids=_name)
def test_an_operation_is_open_to_its_roles_alone(world: World, role: str | None, operation: Operation) -> None:
    method, path, body, allowed = operation
    made = world.caller("admin", PROJECT)("POST", "/clusters", a_body()).get_json()
    before = world.counts()
    response = world.caller(role, PROJECT)(method, path.format(id=made["id"], job=made["job_id"]), body)
    if role in allowed:
        assert response.status_code < 300 or (path == "/credentials" and response.status_code == 404), response.text
    else:
        problem(response, 403, "POLICY")
        assert world.counts() == before


@pytest.mark.parametrize("operation", OPERATIONS, ids=_name)
def test_without_a_token_nothing_is_served(world: World, operation: Operation) -> None:
    method, path, body, _ = operation
    response = world.stranger()(method, path.format(id="x", job="x"), body)
    problem(response, 401, "TOKEN_MISSING")
    assert world.counts() == (0, 0, 0)


@pytest.mark.parametrize("path", OPEN)
def test_the_service_itself_needs_no_token(world: World, path: str) -> None:
    assert world.stranger()("GET", path).status_code in {200, 503}


def test_every_rule_is_asked_by_some_operation() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).resolve().parents[2].joinpath("api").glob("*.py"))
    assert [rule for rule in RULES if ":" in rule and f'("{rule}")' not in source] == []


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
