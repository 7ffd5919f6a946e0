"""Keystone's groups in the simulator. Words and statuses are those of a real Keystone (30, OpenStack 2026.2)."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.simulator_heat.conftest import Caller

NOBODY = "0" * 32


@pytest.fixture
def admin(caller: Callable[..., Caller]) -> Caller:
    return caller("admin")


@pytest.fixture
def user(admin: Caller) -> str:
    users = admin.ask("GET", "/identity/v3/users?name=operator").json()["users"]
    return str(users[0]["id"])


@pytest.fixture
def group(admin: Caller) -> Iterator[str]:
    key = ask(admin, "POST", "", {"group": {"name": "ops"}}).json()["group"]["id"]
    yield str(key)
    assert ask(admin, "DELETE", f"/{key}").status_code == 204


def ask(caller: Caller, method: str, path: str, body: Any = None) -> Any:
    return caller.ask(method, f"/identity/v3/groups{path}", body)


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["message"]


def test_groups_are_made_found_and_changed(admin: Caller, group: str) -> None:
    shown = ask(admin, "GET", f"/{group}").json()["group"]
    assert (shown["name"], shown["description"], shown["domain_id"]) == ("ops", "", "default")
    assert [one["id"] for one in ask(admin, "GET", "?name=ops").json()["groups"]] == [group]
    assert ask(admin, "GET", "?name=others").json()["groups"] == []
    assert ask(admin, "PATCH", f"/{group}", {"group": {"description": "d"}}).json()["group"]["description"] == "d"
    duplicate = "Conflict occurred attempting to store group - Duplicate entry found with name ops at domain ID default."
    assert refused(ask(admin, "POST", "", {"group": {"name": "ops"}})) == (409, duplicate)
    missing = "Invalid input for field/attribute group. Value: {}. 'name' is a required property"
    assert refused(ask(admin, "POST", "", {"group": {}})) == (400, missing)
    assert refused(ask(admin, "GET", f"/{NOBODY}")) == (404, f"Could not find group: {NOBODY}.")


def test_members_come_and_go(admin: Caller, member: Caller, group: str, user: str) -> None:
    path = f"/{group}/users/{user}"
    assert ask(admin, "HEAD", path).status_code == 404
    assert ask(admin, "PUT", path).status_code == 204
    assert ask(admin, "HEAD", path).status_code == 204
    assert [one["id"] for one in ask(admin, "GET", f"/{group}/users").json()["users"]] == [user]
    mine = member.ask("GET", f"/identity/v3/users/{user}/groups").json()["groups"]
    assert [(one["id"], one["name"], "members" in one) for one in mine] == [(group, "ops", False)]
    assert ask(admin, "DELETE", path).status_code == 204
    assert refused(ask(admin, "DELETE", path)) == (404, f"User '{user}' not found in group '{group}'")
    assert member.ask("GET", f"/identity/v3/users/{user}/groups").json()["groups"] == []
    assert refused(ask(admin, "PUT", f"/{group}/users/{NOBODY}")) == (404, f"Could not find user: {NOBODY}.")
    assert refused(ask(admin, "PUT", f"/{NOBODY}/users/{user}")) == (404, f"Could not find group: {NOBODY}.")


def test_members_of_projects_may_ask_for_their_own_groups_alone(member: Caller, admin: Caller, group: str) -> None:
    words = "You are not authorized to perform the requested action: identity:{}."
    assert refused(ask(member, "POST", "", {"group": {"name": "x"}})) == (403, words.format("create_group"))
    assert refused(ask(member, "GET", "")) == (403, words.format("list_groups"))
    assert refused(ask(member, "DELETE", f"/{group}")) == (403, words.format("delete_group"))
    other = admin.ask("GET", "/identity/v3/users?name=viewer").json()["users"][0]["id"]
    assert refused(member.ask("GET", f"/identity/v3/users/{other}/groups")) == (403, words.format("list_groups_for_user"))
    assert refused(admin.ask("GET", f"/identity/v3/users/{NOBODY}/groups")) == (404, f"Could not find user: {NOBODY}.")
