"""Wrong requests: each is a clear 4xx that names what is wrong, and leaves nothing behind."""

import json
from typing import Any

import pytest

from tests.api.harness import Caller, World, a_body, problem
from tests.builders import OTHER_PROJECT

_MISSING = object()

#: name of the case: (changes to a right body, wrong field, rule)
FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no name": ({"name": _MISSING}, "name", "required"),
    "name null": ({"name": None}, "name", "not_null"),
    "name a number": ({"name": 5}, "name", "string"),
    "name empty": ({"name": ""}, "name", "length"),
    "name begins with a digit": ({"name": "1abc"}, "name", "pattern"),
    "name with a space": ({"name": "p m"}, "name", "pattern"),
    "name with a line break at its end": ({"name": "abc\n"}, "name", "pattern"),
    "name of 234 characters": ({"name": "a" * 234}, "name", "length"),
    "no template": ({"cluster_template_id": _MISSING}, "cluster_template_id", "required"),
    "unknown template": ({"cluster_template_id": "no-such"}, "cluster_template_id", "exists"),
    "template a list": ({"cluster_template_id": ["x"]}, "cluster_template_id", "string"),
    "node_count 0": ({"node_count": 0}, "node_count", "range"),
    "node_count negative": ({"node_count": -1}, "node_count", "range"),
    "node_count huge": ({"node_count": 2**31}, "node_count", "range"),
    "node_count of 400 digits": ({"node_count": 10**400}, "node_count", "range"),
    "node_count 1001": ({"node_count": 1001}, "node_count", "range"),
    "node_count a string": ({"node_count": "3"}, "node_count", "integer"),
    "node_count 1.5": ({"node_count": 1.5}, "node_count", "integer"),
    "node_count true": ({"node_count": True}, "node_count", "integer"),
    "node_count null": ({"node_count": None}, "node_count", "not_null"),
    "node_count an object": ({"node_count": {}}, "node_count", "integer"),
    "master_count even": ({"master_count": 2}, "master_count", "odd"),
    "master_count 9": ({"master_count": 9}, "master_count", "range"),
    "master_count without a load balancer": ({"master_count": 3}, "master_count", "load_balancer"),
    "keypair a number": ({"keypair": 7}, "keypair", "string"),
    "keypair empty": ({"keypair": ""}, "keypair", "length"),
    "unknown keypair": ({"keypair": "no-such"}, "keypair", "exists"),
    "labels a list": ({"labels": ["a"]}, "labels", "object"),
    "labels null": ({"labels": None}, "labels", "not_null"),
    "a label that is a number": ({"labels": {"a": 1}}, "labels.a", "string"),
    "a label that is null": ({"labels": {"a": None}}, "labels.a", "string"),
    "a reserved label": ({"labels": {"kcloud_job_id": "x"}}, "labels.kcloud_job_id", "reserved"),
    "65 labels": ({"labels": {f"l{n}": "" for n in range(65)}}, "labels", "max_labels"),
    "a label's name of 256": ({"labels": {"n" * 256: "x"}}, "labels." + "n" * 256, "length"),
    "a label's value of 256": ({"labels": {"a": "v" * 256}}, "labels.a", "length"),
    "a label without a name": ({"labels": {"": "x"}}, "labels.", "length"),
    "unknown flavor": ({"flavor_id": "no-such"}, "flavor_id", "exists"),
    "unknown master flavor": ({"master_flavor_id": "no-such"}, "master_flavor_id", "exists"),
    "create_timeout 0": ({"create_timeout": 0}, "create_timeout", "range"),
    "docker_volume_size a string": ({"docker_volume_size": "50"}, "docker_volume_size", "integer"),
    "floating_ip_enabled a string": ({"floating_ip_enabled": "true"}, "floating_ip_enabled", "boolean"),
    "merge_labels 1": ({"merge_labels": 1}, "merge_labels", "boolean"),
    "fixed_network an object": ({"fixed_network": {}}, "fixed_network", "string"),
    "an unknown field": ({"node_cuont": 3}, "node_cuont", "unknown"),
    "a zero character in the name": ({"name": "a\0b"}, "name", "characters"),
    "a zero character in a label": ({"labels": {"a": "\0"}}, "labels.a", "characters"),
    "half a surrogate pair in a label": ({"labels": {"a": "\ud800"}}, "labels.a", "characters"),
    "half a surrogate pair in a label's name": ({"labels": {"\udfff": "a"}}, "labels.\udfff", "characters"),
    "a zero character in the template": ({"cluster_template_id": "\0"}, "cluster_template_id", "characters"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_wrong_field_is_named_and_nothing_is_enqueued(world: World, member: Caller, case: str) -> None:
    changes, wrong, rule = FIELDS[case]
    body = {name: value for name, value in a_body(**changes).items() if value is not _MISSING}
    found = problem(member("POST", "/clusters", body), 422, "INVALID_REQUEST")
    assert [(error["field"], error["rule"]) for error in found["errors"]] == [(wrong, rule)]
    assert wrong.split(".")[0] in found["detail"]
    assert found["errors"][0]["pointer"].startswith("/" + wrong.split(".")[0])
    assert world.counts() == (0, 0, 0)


def test_all_wrong_fields_are_named_at_once(world: World, member: Caller) -> None:
    body = a_body(name="1a", cluster_template_id="none", node_count="3", labels={"kcloud_x": "y", "b": 1}, flavour="x")
    found = problem(member("POST", "/clusters", body, headers={"Idempotency-Key": "k"}), 422)
    assert {(error["field"], error["rule"]) for error in found["errors"]} == {
        ("name", "pattern"),
        ("cluster_template_id", "exists"),
        ("node_count", "integer"),
        ("labels.kcloud_x", "reserved"),
        ("labels.b", "string"),
        ("flavour", "unknown"),
    }
    assert world.counts() == (0, 0, 0)


def test_what_was_probably_meant_is_suggested(member: Caller) -> None:
    found = problem(member("POST", "/clusters", a_body(node_cuont=3)), 422)
    assert "Did you mean 'node_count'?" in found["errors"][0]["detail"]


#: name of the case: (raw body, content type, status, reason, words of the detail)
BODIES: dict[str, tuple[bytes, str | None, int, str, str]] = {
    "cut short": (b'{"name": "a"', "application/json", 400, "MALFORMED_JSON", "line 1, column 13"),
    "a comma too many": (b'{\n"name": "a",\n}', "application/json", 400, "MALFORMED_JSON", "line 3, column 1"),
    "empty": (b"", "application/json", 400, "EMPTY_BODY", "empty"),
    "blank": (b" \n", "application/json", 400, "EMPTY_BODY", "empty"),
    "an array": (b"[]", "application/json", 400, "NOT_AN_OBJECT", "object"),
    "null": (b"null", "application/json", 400, "NOT_AN_OBJECT", "object"),
    "a string": (b'"x"', "application/json", 400, "NOT_AN_OBJECT", "object"),
    "a name twice": (b'{"name": "a", "name": "b"}', "application/json", 400, "MALFORMED_JSON", "'name' stands twice"),
    "a label twice": (b'{"labels": {"a": "1", "a": "2"}}', "application/json", 400, "MALFORMED_JSON", "'a' stands twice"),
    "NaN": (b'{"node_count": NaN}', "application/json", 400, "MALFORMED_JSON", "NaN is not JSON"),
    "Infinity": (b'{"node_count": -Infinity}', "application/json", 400, "MALFORMED_JSON", "-Infinity is not JSON"),
    "5000 digits": (b'{"node_count": ' + b"9" * 5000 + b"}", "application/json", 400, "MALFORMED_JSON", "too long"),
    "100000 brackets": (b"[" * 100_000, "application/json", 400, "MALFORMED_JSON", "deeply"),
    "not UTF-8": (b'{"name": "\xff"}', "application/json", 400, "MALFORMED_JSON", "byte 10"),
    "UTF-16": ('{"name": "a"}'.encode("utf-16"), "application/json", 400, "MALFORMED_JSON", "byte 0"),
    "a control character": (b'{"name": "a\0b"}', "application/json", 400, "MALFORMED_JSON", "line 1"),
    "form data": (b"name=a", "application/x-www-form-urlencoded", 415, "UNSUPPORTED_MEDIA_TYPE", "x-www-form-urlencoded"),
    "text": (b'{"name": "a"}', "text/plain", 415, "UNSUPPORTED_MEDIA_TYPE", "text/plain"),
    "no content type": (b'{"name": "a"}', None, 415, "UNSUPPORTED_MEDIA_TYPE", "Content-Type"),
    "latin-1": (b'{"name": "a"}', "application/json; charset=latin-1", 415, "UNSUPPORTED_MEDIA_TYPE", "latin-1"),
    "10 MB": (b'{"name": "' + b"a" * 10_000_000 + b'"}', "application/json", 413, "BODY_TOO_LARGE", "1048576"),
}


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("method,path", [("POST", "/clusters"), ("PUT", "/clusters/c85dbbc6-6a32-4df0-a34c-1ec0b9b12f2d/scale")])
def test_a_body_that_cannot_be_read(world: World, member: Caller, case: str, method: str, path: str) -> None:
    raw, content_type, status, reason, words = BODIES[case]
    found = problem(member(method, path, raw=raw, content_type=content_type), status, reason)
    assert words in found["detail"]
    assert world.counts() == (0, 0, 0)


def test_json_with_a_charset_is_taken(member: Caller) -> None:
    body = json.dumps(a_body()).encode()
    assert member("POST", "/clusters", raw=body, content_type="application/json; charset=UTF-8").status_code == 202


@pytest.mark.parametrize("escaped", ["\\u0041bc", "a\\\\u0000"])
def test_escapes_that_stand_for_nothing_bad_are_judged_as_what_they_are(member: Caller, escaped: str) -> None:
    labels = f'{{"note": "{escaped}"}}'
    raw = f'{{"name": "a", "cluster_template_id": "gpu-intensive-template", "labels": {labels}}}'.encode()
    assert member("POST", "/clusters", raw=raw).status_code == 202


@pytest.mark.parametrize(
    "query,field",
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%2B5", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=5&limit=6", "limit"),
        ("limit=%D9%A3", "limit"),
        ("marker=x", "marker"),
        ("marker=c85dbbc6-6a32-4df0-a34c-1ec0b9b12f2d", "marker"),
        ("status=Redy", "status"),
        ("managed=yes", "managed"),
        ("workload_type=", "workload_type"),
        ("workload_type=%00", "workload_type"),
        ("lmit=5", "lmit"),
    ],
)
def test_a_wrong_query_parameter_is_named(reader: Caller, query: str, field: str) -> None:
    found = problem(reader("GET", f"/clusters?{query}"), 422)
    assert [error["field"] for error in found["errors"]] == [field]
    assert "pointer" not in found["errors"][0]


def test_a_misspelt_validate_only_creates_nothing(world: World, member: Caller) -> None:
    found = problem(member("POST", "/clusters?validate_olny=true", a_body()), 422)
    assert "Did you mean 'validate_only'?" in found["errors"][0]["detail"]
    assert world.counts() == (0, 0, 0)


@pytest.mark.parametrize("query", ["state=done", "kind=rename", "cluster_id=x", "limit=0", "marker=y"])
def test_a_wrong_query_parameter_of_jobs_is_named(reader: Caller, query: str) -> None:
    found = problem(reader("GET", f"/jobs?{query}"), 422)
    assert [error["field"] for error in found["errors"]] == [query.split("=", maxsplit=1)[0]]


@pytest.mark.parametrize(
    "query,field",
    [
        ("start=yesterday", "start"),
        ("start=2026-01-01", "start"),
        ("start=0001-01-01T00:00:00Z", "start"),
        ("end=9999-12-31T00:00:00Z", "end"),
        ("start=2026-02-01T00:00:00Z&end=2026-01-01T00:00:00Z", "start"),
        ("step=0", "step"),
        ("step=1.5", "step"),
        ("start=2026-01-01T00:00:00Z&end=2026-12-01T00:00:00Z&step=1", "step"),
    ],
)
def test_a_wrong_window_is_named(member: Caller, query: str, field: str) -> None:
    cluster = member("POST", "/clusters", a_body()).get_json()["id"]
    found = problem(member("GET", f"/clusters/{cluster}/metrics?{query}"), 422)
    assert [error["field"] for error in found["errors"]] == [field]


@pytest.mark.parametrize("ref", ["x", "1", "c85dbbc6-6a32-4df0-a34c-1ec0b9b12f2d", "%00", "a%2Fb", "..", "%F0%9F%92%A9"])
@pytest.mark.parametrize(
    "method,path", [("GET", ""), ("DELETE", ""), ("GET", "/status"), ("GET", "/metrics"), ("GET", "/costs"), ("PUT", "/scale")]
)
def test_an_unknown_cluster(world: World, member: Caller, ref: str, method: str, path: str) -> None:
    problem(member(method, f"/clusters/{ref}{path}", {"node_count": 2} if method == "PUT" else None), 404)
    assert world.counts() == (0, 0, 0)


@pytest.mark.parametrize("ref", ["x", "c85dbbc6-6a32-4df0-a34c-1ec0b9b12f2d", "%00"])
@pytest.mark.parametrize("method,path", [("GET", ""), ("DELETE", ""), ("GET", "/events")])
def test_an_unknown_job(member: Caller, ref: str, method: str, path: str) -> None:
    problem(member(method, f"/jobs/{ref}{path}"), 404, "JOB_NOT_FOUND")


@pytest.mark.parametrize(
    "body", [{"node_count": 0}, {"node_count": "3"}, {"node_count": True}, {"node_count": None}, {}, {"nodes": 3}]
)
def test_a_wrong_size_is_named_and_nothing_is_enqueued(world: World, member: Caller, body: dict[str, Any]) -> None:
    cluster = member("POST", "/clusters", a_body()).get_json()["id"]
    before = world.counts()
    found = problem(member("PUT", f"/clusters/{cluster}/scale", body), 422)
    assert "node_count" in {error["field"] for error in found["errors"]}
    assert world.counts() == before


@pytest.mark.parametrize("key", ["", "a" * 256, "é", "tab\there"])
def test_a_malformed_idempotency_key_is_named(world: World, member: Caller, key: str) -> None:
    found = problem(member("POST", "/clusters", a_body(), headers={"Idempotency-Key": key}), 400, "INVALID_IDEMPOTENCY_KEY")
    assert found["errors"][0]["field"] == "Idempotency-Key"
    assert world.counts() == (0, 0, 0)


def test_a_name_that_is_taken(world: World, member: Caller) -> None:
    member("POST", "/clusters", a_body())
    found = problem(member("POST", "/clusters", a_body()), 409, "ALREADY_EXISTS")
    assert [(error["field"], error["rule"]) for error in found["errors"]] == [("name", "unique")]
    assert world.counts() == (1, 1, 0)


def test_the_same_name_in_another_project_is_free(world: World, member: Caller) -> None:
    member("POST", "/clusters", a_body())
    assert world.caller("member", OTHER_PROJECT)("POST", "/clusters", a_body()).status_code == 202


def test_a_project_in_which_the_service_may_not_act(world: World) -> None:
    found = problem(world.caller("member", "f00d")("POST", "/clusters", a_body()), 403, "NO_CREDENTIAL")
    assert "PUT /credentials" in found["hint"]
    assert world.counts() == (0, 0, 0)


def test_another_projects_cluster_is_not_found(world: World, member: Caller) -> None:
    cluster = member("POST", "/clusters", a_body()).get_json()
    stranger = world.caller("admin", OTHER_PROJECT)
    for method, path, body in (
        ("GET", f"/clusters/{cluster['id']}", None),
        ("GET", f"/clusters/{cluster['id']}/status", None),
        ("GET", f"/clusters/{cluster['id']}/costs", None),
        ("PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 2}),
        ("DELETE", f"/clusters/{cluster['id']}", None),
        ("GET", f"/jobs/{cluster['job_id']}", None),
        ("GET", f"/jobs/{cluster['job_id']}/events", None),
        ("DELETE", f"/jobs/{cluster['job_id']}", None),
    ):
        problem(stranger(method, path, body), 404)
    assert stranger("GET", "/clusters").get_json() == []
    assert stranger("GET", "/jobs").get_json() == []
    assert problem(stranger("GET", f"/clusters?marker={cluster['id']}"), 422)["errors"][0]["field"] == "marker"
    assert world.counts() == (1, 1, 0)


def test_validate_only_answers_with_all_findings_and_does_nothing(world: World, member: Caller) -> None:
    assert member("POST", "/clusters?validate_only=true", a_body()).get_json() == {"valid": True, "findings": []}
    found = problem(member("POST", "/clusters?validate_only=true", a_body(name="1", node_count=0, keypair="none")), 422)
    assert [error["field"] for error in found["errors"]] == ["name", "node_count", "keypair"]
    assert world.counts() == (0, 0, 0)
    made = member("POST", "/clusters", a_body()).get_json()
    problem(member("POST", "/clusters?validate_only=true", a_body()), 409, "ALREADY_EXISTS")
    for method, path, body in (("PUT", "/scale", {"node_count": 9}), ("DELETE", "", None)):
        answer = member(method, f"/clusters/{made['id']}{path}?validate_only=true", body)
        assert (answer.status_code, answer.get_json()) == (200, {"valid": True, "findings": []})
    assert world.counts() == (1, 1, 0)
    assert member("GET", f"/clusters/{made['id']}").get_json()["node_count"] == 4


def test_no_token_and_a_wrong_one(world: World) -> None:
    stranger = world.stranger()
    response = stranger("POST", "/clusters", a_body())
    problem(response, 401, "TOKEN_MISSING")
    assert response.headers["WWW-Authenticate"].startswith("Keystone uri=")
    for token in ("gAAAAAexpired", "é", "x" * 9000, "a\tb"):
        response = stranger("POST", "/clusters", a_body(), headers={"X-Auth-Token": token})
        problem(response, 401, "TOKEN_INVALID")
        assert response.headers["WWW-Authenticate"].startswith("Keystone uri=")
    assert world.counts() == (0, 0, 0)


def test_a_token_of_no_project(world: World) -> None:
    problem(world.caller("member", None)("GET", "/clusters"), 403, "PROJECT_REQUIRED")
