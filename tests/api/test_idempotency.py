"""A repeated request makes nothing new."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.api.harness import Caller, World, a_body, problem
from tests.builders import OTHER_PROJECT, PROJECT

KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def test_a_repeat_gets_the_same_job(world: World, member: Caller) -> None:
    first = member("POST", "/clusters", a_body(), headers=KEY)
    second = member("POST", "/clusters", a_body(), headers=KEY)
    assert (first.status_code, second.status_code) == (202, 202)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.get_json()["job_id"] == first.get_json()["job_id"]
    assert second.headers["Location"] == first.headers["Location"]
    assert world.counts() == (1, 1, 1)


def test_a_repeat_after_the_end_shows_the_end(world: World, member: Caller) -> None:
    first = member("POST", "/clusters", a_body(), headers=KEY).get_json()
    world.finish(first["job_id"], PROJECT)
    second = member("POST", "/clusters", a_body(), headers=KEY)
    assert (second.get_json()["job"]["state"], second.get_json()["id"]) == ("succeeded", first["id"])


def test_the_spelling_of_the_body_does_not_matter(world: World, member: Caller) -> None:
    body = a_body()
    first = member("POST", "/clusters", body, headers=KEY)
    second = member("POST", "/clusters", dict(reversed(body.items())), headers=KEY)
    assert second.get_json()["job_id"] == first.get_json()["job_id"]
    assert world.counts() == (1, 1, 1)


def test_the_same_key_with_another_body_is_refused(world: World, member: Caller) -> None:
    member("POST", "/clusters", a_body(), headers=KEY)
    problem(member("POST", "/clusters", a_body(node_count=5), headers=KEY), 422, "IDEMPOTENCY_KEY_REUSED")
    problem(member("POST", "/clusters", a_body("other"), headers=KEY), 422, "IDEMPOTENCY_KEY_REUSED")
    assert world.counts() == (1, 1, 1)


def test_the_same_key_at_another_path_is_refused(member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    member("PUT", f"/clusters/{made['id']}/scale", {"node_count": 5}, headers=KEY)
    problem(member("DELETE", f"/clusters/{made['id']}", headers=KEY), 422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize("method,path,body", [("PUT", "/scale", {"node_count": 5}), ("DELETE", "", None)])
def test_changes_are_repeated_safely(world: World, member: Caller, method: str, path: str, body: Any) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    first = member(method, f"/clusters/{made['id']}{path}", body, headers=KEY).get_json()
    second = member(method, f"/clusters/{made['id']}{path}", body, headers=KEY)
    assert second.get_json()["job_id"] == first["job_id"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert world.counts() == (1, 2, 1)


def test_keys_belong_to_a_project_whoever_sends_them(world: World, member: Caller, admin: Caller) -> None:
    first = member("POST", "/clusters", a_body(), headers=KEY).get_json()
    assert admin("POST", "/clusters", a_body(), headers=KEY).get_json()["job_id"] == first["job_id"]
    other = world.caller("member", OTHER_PROJECT)("POST", "/clusters", a_body(), headers=KEY)
    assert other.get_json()["job_id"] != first["job_id"]
    assert world.counts() == (2, 2, 2)


def test_a_refused_request_does_not_use_its_key_up(member: Caller) -> None:
    problem(member("POST", "/clusters", a_body(node_count=0), headers=KEY), 422)
    assert member("POST", "/clusters", a_body(), headers=KEY).status_code == 202


def test_one_of_many_at_the_same_time_makes_the_cluster(world: World) -> None:
    clients = 12
    together = threading.Barrier(clients)

    def send(_: int) -> TestResponse:
        caller = world.caller("member", PROJECT)
        together.wait(10)
        return caller("POST", "/clusters", a_body(), headers=KEY)

    with ThreadPoolExecutor(clients) as pool:
        responses = list(pool.map(send, range(clients)))
    assert {response.status_code for response in responses} <= {202, 409}
    assert len({response.get_json()["job_id"] for response in responses if response.status_code == 202}) == 1
    # What came while the first was still being written is told to come back, and then gets the same.
    late = [response for response in responses if response.status_code == 409]
    assert all(response.get_json()["reason"] == "IDEMPOTENCY_KEY_IN_USE" for response in late)
    assert sum("Idempotent-Replayed" not in response.headers for response in responses if response.status_code == 202) == 1
    assert world.counts() == (1, 1, 1)


def test_one_of_many_of_the_same_name_makes_the_cluster(world: World) -> None:
    clients = 8
    together = threading.Barrier(clients)

    def send(_: int) -> TestResponse:
        caller = world.caller("member", PROJECT)
        together.wait(10)
        return caller("POST", "/clusters", a_body())

    with ThreadPoolExecutor(clients) as pool:
        responses = list(pool.map(send, range(clients)))
    assert sorted(response.status_code for response in responses) == [202] + [409] * (clients - 1)
    assert world.counts() == (1, 1, 0)
