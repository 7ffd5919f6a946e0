"""Faults that are scripted: each meets what it should, and nothing else, and ends."""

import time
from pathlib import Path
from typing import Any

import pytest
import requests

from simulator.testing import running_simulator
from tests.simulator.conftest import QUICK, SLOW, TEMPLATE, Caller
from tests.waiting import wait_until

WRITING = "Invalid input for field/attribute master_count. Value: '0'. Value should be greater or equal to 1"


def seconds(caller: Caller, path: str = "/clusters", **how: Any) -> float:
    began = time.monotonic()
    assert caller.ask("GET", path, **how).status_code == 200
    return time.monotonic() - began


def detail(answer: requests.Response) -> str:
    return str(answer.json()["errors"][0]["detail"])


def ever_made(caller: Caller) -> set[str]:
    return {str(row["name"]) for row in caller.control("GET", "/audit")["clusters"]}


# -- faults of requests -------------------------------------------------------------------------------------------------------


def test_latency_slows_the_requests_that_it_meets_and_no_others(caller: Caller) -> None:
    caller.fault("latency", seconds=0.4, match={"service": "magnum", "method": "GET", "path": "^/v1/clusters$"}, count=1)
    assert seconds(caller, "/flavors", service="compute") < 0.4
    assert seconds(caller, "/clusters/detail") < 0.4
    assert seconds(caller) >= 0.4
    assert seconds(caller) < 0.4, "it was to strike once"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_status_comes_instead_of_the_work_in_the_form_of_who_says_it(caller: Caller, status: int) -> None:
    caller.fault("status", status=status, retry_after=7, match={"method": "POST"}, count=1)
    body = {"name": f"status-{status}", "cluster_template_id": TEMPLATE}
    refused = caller.ask("POST", "/clusters", json=body)
    assert (refused.status_code, refused.headers["Retry-After"]) == (status, "7")
    assert refused.headers["Content-Type"].startswith("text/html" if status == 503 else "application/json")
    assert f"status-{status}" not in ever_made(caller)
    assert caller.ask("POST", "/clusters", json=body).status_code == 202


def test_a_dropped_request_does_nothing_and_a_lost_answer_was_given(caller: Caller) -> None:
    for kind in ("drop", "answer_lost"):
        caller.fault(kind, match={"method": "POST", "path": "^/v1/clusters$"}, count=1)
        with pytest.raises(requests.ConnectionError):
            caller.ask("POST", "/clusters", json={"name": f"lost-{kind}", "cluster_template_id": TEMPLATE})
    assert "lost-answer_lost" in ever_made(caller)
    assert "lost-drop" not in ever_made(caller)


def test_a_fault_by_chance_strikes_that_often(caller: Caller) -> None:
    caller.fault("status", status=500, probability=0.3, match={"service": "nova"})
    answers = [caller.ask("GET", "/limits", service="compute").status_code for _ in range(100)]
    assert set(answers) == {200, 500}
    assert 10 < answers.count(500) < 50


def test_faults_are_listed_counted_and_ended_one_by_one(caller: Caller) -> None:
    first = caller.fault("status", status=500, match={"service": "nova"})
    caller.fault("latency", seconds=0, match={"service": "glance"})
    assert caller.ask("GET", "/limits", service="compute").status_code == 500
    assert [(row["kind"], row["struck"]) for row in caller.control("GET", "/faults")["faults"]] == [("status", 1), ("latency", 0)]
    caller.control("DELETE", f"/faults/{first['id']}")
    assert caller.ask("GET", "/limits", service="compute").status_code == 200
    assert requests.delete(f"{caller.url}/_control/faults/{first['id']}", timeout=5).status_code == 404


@pytest.mark.parametrize(
    "body, word",
    [
        ({"kind": "nothing"}, "kind"),
        ({"kind": "latency", "match": {"host": "x"}}, "host"),
        ({"kind": "latency", "seconds": "long"}, "seconds"),
        ({"kind": "latency", "seconds": -1}, "seconds"),
        ({"kind": "status", "status": 200}, "status"),
        ({"kind": "drop", "probability": 2}, "probability"),
        ({"kind": "stuck", "operation": "resize"}, "operation"),
        ({"kind": "drop", "match": {"path": "("}}, "match.path"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_what_is_wrong(caller: Caller, body: dict[str, Any], word: str) -> None:
    refused = requests.post(f"{caller.url}/_control/faults", json=body, timeout=5)
    assert refused.status_code == 400
    assert word in refused.json()["error"]


# -- faults of clusters ---------------------------------------------------------------------------------------------------------


def test_a_stuck_cluster_stays_in_progress_and_can_be_removed(caller: Caller) -> None:
    caller.fault("stuck", operation="create", match={"name": "^stuck"})
    stuck, other = caller.make("stuck-1"), caller.make("free-1")
    caller.until(other, "CREATE_COMPLETE")
    caller.advance(7200)
    assert caller.shown(stuck)["status"] == "CREATE_IN_PROGRESS"
    assert caller.ask("DELETE", f"/clusters/{stuck}").status_code == 204
    caller.until(stuck, "gone")


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_a_cluster_can_be_stuck_later(caller: Caller, operation: str) -> None:
    uuid = caller.made(f"stuck-in-{operation}")
    caller.fault("stuck", operation=operation, match={"name": f"^stuck-in-{operation}$"}, count=1)
    if operation == "update":
        caller.ask("POST", f"/clusters/{uuid}/actions/resize", json={"node_count": 2})
    else:
        caller.ask("DELETE", f"/clusters/{uuid}")
    caller.advance(60)
    assert caller.shown(uuid)["status"] == f"{operation.upper()}_IN_PROGRESS"
    caller.advance(7200)
    assert caller.shown(uuid)["status"] == f"{operation.upper()}_IN_PROGRESS"


def test_a_failure_has_its_words_and_meets_its_project_alone(caller: Caller) -> None:
    mine, others = caller.cloud.ids["operator.project"], "0" * 32
    caller.fault("fail", operation="create", reason="No more of it.", match={"project": others})
    caller.made("fails-elsewhere")
    caller.fault("fail", operation="create", reason="No more of it.", match={"project": mine}, count=1)
    failed = caller.make("fails-here")
    caller.until(failed, "CREATE_FAILED")
    assert caller.shown(failed)["status_reason"] == "No more of it."
    caller.made("fails-no-more")


# -- orders -----------------------------------------------------------------------------------------------------------------------


def test_quota_of_all_and_of_one_project(caller: Caller) -> None:
    held = len(caller.ask("GET", "/clusters").json()["clusters"])
    caller.control("POST", "/settings", {"quota": held})
    body = {"name": "one-too-many", "cluster_template_id": TEMPLATE}
    refused = caller.ask("POST", "/clusters", json=body)
    assert refused.status_code == 403
    assert detail(refused).startswith(f"Resource limit exceeded: You have reached the maximum clusters per project, {held}.")
    own = {"project_id": caller.cloud.ids["operator.project"], "resource": "Cluster", "hard_limit": held + 1}
    assert caller.ask("POST", "/quotas", who="admin", json=own).status_code == 201
    assert caller.ask("POST", "/clusters", json=body).status_code == 202
    wait_until(lambda: len(caller.ask("GET", "/clusters").json().get("clusters", [])) > held)
    assert caller.ask("POST", "/clusters", json=body).status_code == 403
    assert caller.ask("DELETE", f"/quotas/{own['project_id']}/Cluster", who="admin").status_code == 204


@pytest.mark.parametrize(
    "service, path", [("container-infra", "/clusters"), ("compute", "/flavors"), ("network", "/v2.0/networks")]
)
def test_expired_tokens_are_refused_by_all_services(caller: Caller, service: str, path: str) -> None:
    assert caller.ask("GET", path, service=service).status_code == 200
    caller.fault("expire_tokens")
    refused = caller.ask("GET", path, service=service)
    assert refused.status_code == 401
    assert refused.json()["error"]["title"] == "Unauthorized"
    assert refused.headers["WWW-Authenticate"].startswith("Keystone uri=")
    caller.cloud.sign_out()
    assert caller.ask("GET", path, service=service).status_code == 200


def test_tokens_end_by_themselves(caller: Caller) -> None:
    caller.control("POST", "/settings", {"token_s": 100})
    caller.cloud.sign_out()
    assert caller.ask("GET", "/clusters").status_code == 200
    caller.advance(99)
    assert caller.ask("GET", "/clusters").status_code == 200
    caller.advance(2)
    assert caller.ask("GET", "/clusters").status_code == 401


def test_without_keystone_services_know_the_tokens_that_they_have_seen(caller: Caller) -> None:
    assert caller.ask("GET", "/clusters").status_code == 200
    fresh = caller.cloud.sign_in("viewer")
    caller.fault("keystone_down")
    assert caller.ask("GET", "/clusters").status_code == 200
    for refused in (
        caller.ask("GET", "/clusters", who=None, headers={"X-Auth-Token": fresh}),
        caller.ask("GET", "/flavors", who=None, headers={"X-Auth-Token": "nonsense"}, service="compute"),
        caller.ask("GET", "/auth/projects", service="identity"),
        caller.ask("POST", "/auth/tokens", service="identity", json={}),
    ):
        assert (refused.status_code, refused.headers["Content-Type"]) == (503, "text/html")
    caller.fault("keystone_up")
    assert caller.ask("GET", "/clusters", who=None, headers={"X-Auth-Token": fresh}).status_code == 200


def test_broken_lists_leave_single_clusters_alone(caller: Caller) -> None:
    uuid = caller.made("unbroken")
    caller.fault("lists_broken")
    for path in ("/clusters", "/clusters/detail", "/clusters?limit=1"):
        refused = caller.ask("GET", path)
        assert (refused.status_code, detail(refused)) == (400, WRITING)
    assert caller.shown(uuid)["status"] == "CREATE_COMPLETE"
    assert caller.ask("DELETE", f"/clusters/{uuid}").status_code == 204
    caller.until(uuid, "gone")
    caller.fault("lists_mended")
    assert caller.ask("GET", "/clusters").status_code == 200


def test_a_new_cluster_is_hidden_then_half_written_and_breaks_its_projects_lists(caller: Caller) -> None:
    caller.control("POST", "/settings", {"accept_s": 100, "half_written_s": 100})
    uuid = caller.ask("POST", "/clusters", json={"name": "new", "cluster_template_id": TEMPLATE}).json()["uuid"]
    assert caller.ask("GET", f"/clusters/{uuid}").status_code == 404
    assert "new" not in {row["name"] for row in caller.ask("GET", "/clusters").json()["clusters"]}
    caller.advance(101)
    for path in (f"/clusters/{uuid}", "/clusters", "/clusters/detail"):
        refused = caller.ask("GET", path)
        assert (refused.status_code, detail(refused)) == (400, WRITING)
    assert caller.ask("GET", "/clusters", who="outsider").status_code == 200
    caller.advance(101)
    assert caller.shown(uuid)["status"] == "CREATE_IN_PROGRESS"
    assert caller.ask("GET", "/clusters").status_code == 200


def test_without_its_conductor_magnum_accepts_and_does_it_later(caller: Caller) -> None:
    kept = caller.made("kept")
    caller.fault("conductor_down")
    assert caller.ask("GET", "/mservices", who="admin").json()["mservices"][0]["state"] == "down"
    made = caller.ask("POST", "/clusters", json={"name": "later", "cluster_template_id": TEMPLATE, "labels": QUICK})
    assert made.status_code == 202
    assert caller.ask("POST", f"/clusters/{kept}/actions/resize", json={"node_count": 3}).status_code == 202
    caller.advance(600)
    assert caller.ask("GET", f"/clusters/{made.json()['uuid']}").status_code == 404
    assert caller.shown(kept)["node_count"] == 1
    caller.fault("conductor_up")
    caller.until(made.json()["uuid"], "CREATE_COMPLETE")
    caller.wait(f"/clusters/{kept}", lambda body: body["status"] == "UPDATE_COMPLETE" and body["node_count"] == 3)


def test_what_was_made_is_there_after_a_restart(tmp_path: Path) -> None:
    with running_simulator(state_dir=tmp_path) as running:
        caller = Caller(running)
        done, busy = caller.made("done", node_count=2), caller.make("busy", labels=SLOW)
        group = {"name": "pool", "node_count": 1, "node_taints": [{"key": "gpu", "effect": "NoSchedule"}]}
        assert caller.ask("POST", f"/clusters/{done}/nodegroups", json=group).status_code == 202
        caller.until(done, "UPDATE_COMPLETE")
        quota = {"project_id": caller.cloud.ids["operator.project"], "resource": "Cluster", "hard_limit": 2}
        caller.ask("POST", "/quotas", who="admin", json=quota)
        before = [caller.shown(uuid) for uuid in (done, busy)]
        machines = caller.control("GET", f"/machines/{done}")
        pool = caller.ask("GET", f"/clusters/{done}/nodegroups/pool").json()
        port = int(running.url.rsplit(":", maxsplit=1)[1])
    with running_simulator(state_dir=tmp_path, port=port) as running:
        caller = Caller(running)
        assert [caller.shown(uuid) for uuid in (done, busy)] == before
        assert caller.control("GET", f"/machines/{done}") == machines
        assert caller.ask("GET", f"/clusters/{done}/nodegroups/pool").json() == pool
        assert caller.ask("POST", "/clusters", json={"name": "x", "cluster_template_id": TEMPLATE}).status_code == 403
        caller.advance(600)
        assert caller.shown(busy)["status"] == "CREATE_COMPLETE"
