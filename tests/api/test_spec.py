"""The generated documents, and the page that shows them."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from api.app import describe
from api.spec import document_of
from tests.api.harness import World
from tests.builders import PROJECT

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = document_of(describe())
OPERATIONS = {
    f"{method} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
}


def test_the_committed_document_is_current() -> None:
    written = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(DOCUMENT)), "stale: make openapi"


def test_the_served_document_is_the_committed_one(world: World) -> None:
    response = world.stranger()("GET", "/openapi.json")
    assert response.get_json() == json.loads(json.dumps(DOCUMENT))


def test_every_path_that_is_served_is_documented(world: World) -> None:
    served = {re.sub(r"<([a-z_]+)>", r"{\1}", rule.rule) for rule in world.app.url_map.iter_rules()}
    assert served == set(DOCUMENT["paths"])


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_described_whole(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    assert operation["operationId"]
    public = operation.get("security") == []
    statuses = set(operation["responses"])
    assert "500" in statuses
    assert public or {"401", "403", "503"} <= statuses
    assert "{" not in name or "404" in statuses
    assert "requestBody" not in operation or {"400", "413", "415", "422"} <= statuses


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(names) == len(set(names))


def test_errors_are_documented_as_problems() -> None:
    for response in DOCUMENT["components"]["responses"].values():
        assert list(response["content"]) == ["application/problem+json"]


def test_every_reference_leads_somewhere() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                at: Any = DOCUMENT
                for part in value["$ref"].removeprefix("#/").split("/"):
                    at = at[part]
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(DOCUMENT)


def test_the_page_of_documentation_needs_no_other_host(world: World) -> None:
    response = world.stranger()("GET", "/docs")
    assert response.mimetype == "text/html"
    assert re.findall(r"(?:https?:)?//[a-z]", response.text) == []
    assert re.findall(r'(?:src|href)="(?!/)', response.text) == []
    policy = response.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in policy
    for tag in ("script", "style"):
        inside = re.search(f"<{tag}>(.*?)</{tag}>", response.text, re.DOTALL)
        assert inside
        digest = base64.b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_what_this_is(world: World) -> None:
    body = world.stranger()("GET", "/").get_json()
    assert body.keys() >= {"service", "version", "description", "status"}


def test_health_and_readiness_keep_the_original_keys(world: World) -> None:
    health = world.stranger()("GET", "/health")
    assert health.get_json().keys() == {"status", "timestamp", "services"}
    assert health.get_json()["services"]["openstack"] == "up"
    assert (health.status_code, health.get_json()["status"]) == (200, "healthy")  # though no broker is there
    ready = world.stranger()("GET", "/ready")
    assert (ready.status_code, ready.get_json()["ready"]) == (200, True)
    assert ready.get_json()["checks"]["broker"] != "up"


def test_metrics_count_requests_by_path_and_not_by_id(world: World) -> None:
    reader = world.caller("reader", PROJECT)
    reader("GET", "/clusters/c85dbbc6-6a32-4df0-a34c-1ec0b9b12f2d")
    reader("FROBNICATE", "/nowhere/at/all")
    text = reader("GET", "/metrics").text
    assert 'endpoint="/clusters/<cluster_id>",method="GET",status="404"' in text
    assert 'endpoint="unknown",method="OTHER",status="404"' in text
    assert "c85dbbc6" not in text
