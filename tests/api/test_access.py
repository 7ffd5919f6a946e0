"""Grants on single clusters, and kubeconfigs."""

import base64
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from tests.api.harness import USER, Caller, World, a_body, problem, problemless
from tests.authority import AUTHORITY
from tests.builders import OTHER_PROJECT, PROJECT

GUEST = "0f0e0d0c0b0a09080706050403020100"


@pytest.fixture
def cluster(world: World, member: Caller) -> dict[str, Any]:
    """A cluster that the member made, ready."""
    made: dict[str, Any] = problemless(member("POST", "/clusters", a_body()))
    world.complete(made["job_id"], PROJECT)
    return made


@pytest.fixture
def guest(world: World) -> Caller:
    """A user of the project whose role there allows nothing."""
    return world.caller("auditor", PROJECT, user=GUEST)


def _grant(role: str, subject: str = GUEST, kind: str = "user") -> dict[str, str]:
    return {"subject_type": kind, "subject_id": subject, "role": role}


def test_a_grant_opens_one_cluster_and_no_other(member: Caller, guest: Caller, cluster: dict[str, Any]) -> None:
    other = problemless(member("POST", "/clusters", a_body("another")))
    path = f"/clusters/{cluster['id']}"
    problem(guest("GET", path), 403)
    given = member("PUT", f"{path}/grants", _grant("viewer")).get_json()
    assert [(one["subject_id"], one["role"], one["granted_by"]) for one in given] == [(GUEST, "viewer", USER)]
    assert guest("GET", path).status_code == 200
    assert guest("GET", f"/jobs/{cluster['job_id']}").status_code == 200
    problem(guest("PUT", f"{path}/scale", {"node_count": 2}), 403)
    problem(guest("GET", f"/clusters/{other['id']}"), 403)
    problem(guest("GET", f"/jobs/{other['job_id']}"), 403)
    problem(guest("GET", "/clusters"), 403)
    assert member("DELETE", f"{path}/grants?subject_type=user&subject_id={GUEST}").status_code == 204
    problem(guest("GET", path), 403)
    problem(member("DELETE", f"{path}/grants?subject_type=user&subject_id={GUEST}"), 404, "GRANT_NOT_FOUND")


def test_a_group_s_grant_is_its_members(world: World, member: Caller, guest: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}"
    problemless(member("PUT", f"{path}/grants", _grant("operator", "team-a", "group")))
    problem(guest("PUT", f"{path}/scale", {"node_count": 2}), 403)
    world.cloud.groups[GUEST] = ["team-a"]
    assert guest("PUT", f"{path}/scale", {"node_count": 2}).status_code == 202
    problem(guest("DELETE", path), 403)


def test_a_second_grant_replaces_the_first(member: Caller, guest: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}"
    problemless(member("PUT", f"{path}/grants", _grant("owner")))
    assert len(guest("PUT", f"{path}/grants", _grant("viewer")).get_json()) == 1
    problem(guest("PUT", f"{path}/grants", _grant("owner")), 403)


def test_who_made_a_cluster_may_share_it_and_other_members_may_not(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    colleague = world.caller("member", PROJECT, user="another-member")
    path = f"/clusters/{cluster['id']}/grants"
    problem(colleague("PUT", path, _grant("viewer")), 403)
    assert member("PUT", path, _grant("viewer")).status_code == 200
    assert world.caller("admin", PROJECT, user="an-admin")("PUT", path, _grant("viewer")).status_code == 200
    demoted = world.caller("reader", PROJECT)  # the same user, who is no member any more
    problem(demoted("PUT", path, _grant("owner", USER)), 403)


def test_a_grant_reaches_no_token_of_another_project(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    problemless(member("PUT", f"/clusters/{cluster['id']}/grants", _grant("owner")))
    abroad = world.caller("admin", OTHER_PROJECT, user=GUEST)
    problem(abroad("GET", f"/clusters/{cluster['id']}"), 404)
    assert abroad("GET", "/clusters").get_json() == []


def test_every_wrong_field_of_a_grant_is_named(member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/grants"
    found = problem(member("PUT", path, {"subject_type": "robot", "subject_id": "", "role": "king", "x": 1}), 422)
    assert {error["field"] for error in found["errors"]} == {"subject_type", "subject_id", "role", "x"}
    found = problem(member("DELETE", f"{path}?subject_type=robot"), 422)
    assert {error["field"] for error in found["errors"]} == {"subject_type", "subject_id"}
    assert member("GET", path).get_json() == []


# -- kubeconfig ------------------------------------------------------------------------------------------------------------


def test_a_kubeconfig_holds_a_fresh_key_and_a_certificate_of_the_cluster(
    world: World, member: Caller, cluster: dict[str, Any]
) -> None:
    response = member("GET", f"/clusters/{cluster['id']}/kubeconfig")
    assert response.status_code == 200
    assert response.content_type == "application/yaml"
    assert response.headers["Cache-Control"] == "no-store"
    config = _read(response.text)
    user = config["users"][0]["user"]
    signed = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    key = load_pem_private_key(base64.b64decode(user["client-key-data"]), password=None)
    assert signed.public_key() == key.public_key()
    signed.verify_directly_issued_by(x509.load_pem_x509_certificate(AUTHORITY.pem().encode()))
    names = {name.oid: name.value for name in signed.subject}
    assert names[NameOID.COMMON_NAME] == "operator"
    assert names[NameOID.ORGANIZATION_NAME] == "system:masters"
    (only,) = world.cloud.clusters.values()
    assert config["clusters"][0]["cluster"]["server"] == only.api_address
    assert response.headers["Kubeconfig-Expires-At"] == signed.not_valid_after_utc.isoformat()[:-6] + "Z"

    again = _read(member("GET", f"/clusters/{cluster['id']}/kubeconfig").text)
    assert again["users"][0]["user"]["client-key-data"] != user["client-key-data"]


def test_the_key_is_kept_nowhere_and_the_giving_is_written_down(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    config = _read(member("GET", f"/clusters/{cluster['id']}/kubeconfig").text)
    secret = config["users"][0]["user"]["client-key-data"]
    with world.container.database.engine.connect() as connection:
        line = connection.execute(text("SELECT * FROM audit_events WHERE action = 'clusters:kubeconfig'")).mappings().one()
        tables = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        for table in tables:
            rows = connection.execute(
                text(f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE :key'),  # noqa: S608 - names out of the catalog
                {"key": f"%{secret[:80]}%"},
            )
            assert rows.scalar_one() == 0, table
    assert (line["user_id"], str(line["cluster_id"])) == (USER, cluster["id"])
    assert set(line["detail"]) == {"serial", "expires_at"}


def test_readers_and_clusters_without_an_address_get_no_kubeconfig(reader: Caller, member: Caller, cluster: dict[str, Any]) -> None:
    problem(reader("GET", f"/clusters/{cluster['id']}/kubeconfig"), 403)
    pending = problemless(member("POST", "/clusters", a_body("pending")))
    problem(member("GET", f"/clusters/{pending['id']}/kubeconfig"), 409)


def _read(words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(words)
    assert (found["apiVersion"], found["kind"]) == ("v1", "Config")
    return found
