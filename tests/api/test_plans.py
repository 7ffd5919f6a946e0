"""Plans over HTTP: shown, approved, applied, reported, withdrawn; who may, and what is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.api.harness import Caller, World, problem, problemless
from tests.api.test_match import NOW, a_cluster
from tests.builders import OTHER_PROJECT, PROJECT

POD = {"cpu_cores": 1, "memory_gb": 1, "accelerator": {"count": 2}, "movable": True}
NONE = "6f2f2c9e-3a0e-4c58-9d7e-0e0a4d8f9b11"


@pytest.fixture
def plan(world: World, member: Caller) -> dict[str, Any]:
    """Two half-empty clusters, and the plan that makes them one."""
    for name in ("one", "two"):
        made = a_cluster(world, member, name, node_count=2)
        held = member("POST", "/placements", POD | {"preferred_clusters": [made["id"]]}, headers=NOW)
        assert problemless(held)["placements"][0]["cluster_id"] == made["id"]
    return propose(world, member)


def propose(world: World, member: Caller, **body: Any) -> dict[str, Any]:
    promised = problemless(member("POST", "/optimize/clusters", {"max_seconds": 5, "new_clusters": False} | body))
    told = world.complete(promised["job_id"], PROJECT)
    assert told["state"] == "succeeded"
    found: dict[str, Any] = problemless(member("GET", f"/plans/{promised['job_id']}"))
    return found


def beat(world: World, member: Caller, plan_id: str) -> dict[str, Any]:
    """Jobs of the plan end, and it is looked at."""
    shown: dict[str, Any] = problemless(member("GET", f"/plans/{plan_id}"))
    for step in shown["steps"]:
        if step["state"] == "running" and step["job_id"]:
            world.complete(step["job_id"], PROJECT)
    world.container.applier.apply_all(budget_s=5.0)
    after: dict[str, Any] = problemless(member("GET", f"/plans/{plan_id}"))
    return after


def test_what_was_told_is_what_is_kept(world: World, member: Caller, plan: dict[str, Any]) -> None:
    told = problemless(member("GET", f"/jobs/{plan['id']}"))["result"]
    assert plan["state"] == "proposed"
    assert {name: plan[name] for name in ("objective", "cost_per_hour", "watts", "moves", "kept")} == {
        name: told[name] for name in ("objective", "cost_per_hour", "watts", "moves", "kept")
    }
    assert [{name: step[name] for name in one} for step, one in zip(plan["steps"], told["steps"], strict=True)] == told["steps"]
    assert plan["step_states"] == {"waiting": 3}
    assert {step["state"] for step in plan["steps"]} == {"waiting"}
    assert world.counts()[1] > 0


def test_the_whole_way(world: World, member: Caller, reader: Caller, plan: dict[str, Any]) -> None:
    path = f"/plans/{plan['id']}"
    approved = problemless(member("POST", f"{path}/approve"))
    assert (approved["state"], approved["approved_by"] is not None) == ("approved", True)
    assert problemless(member("POST", f"{path}/approve")) == approved
    response = member("POST", f"{path}/apply")
    assert (response.status_code, response.headers["Location"]) == (202, path)
    applying = response.get_json()
    assert applying["state"] == "applying"
    move, shrink, delete = applying["steps"]
    assert (move["state"], shrink["state"], delete["state"]) == ("running", "waiting", "waiting")
    assert move["state_reason"].startswith("OFFERED: ")
    assert problemless(reader("GET", path))["steps"][1]["state_reason"] is None
    assert beat(world, member, plan["id"])["steps"][1]["state_reason"].startswith("MOVES_UNDER_WAY: 1 move")
    done = problemless(member("POST", f"{path}/moves/{move['number']}/done"))
    assert [step["state"] for step in done["steps"]] == ["done", "running", "waiting"]
    assert problemless(member("GET", f"/placements/{move['placement_id']}"))["cluster_id"] == move["target"]["cluster"]
    job = problemless(member("GET", f"/jobs/{done['steps'][1]['job_id']}"))
    assert (job["kind"], job["cluster_id"]) == ("resize", shrink["cluster_id"])
    assert [step["state"] for step in beat(world, member, plan["id"])["steps"]] == ["done", "done", "running"]
    end = beat(world, member, plan["id"])
    assert (end["state"], end["reason"]) == ("applied", "APPLIED")
    clusters: Any = problemless(member("GET", "/clusters"))
    assert [one["node_count"] for one in clusters] == [1]
    for way in ("approve", "apply"):
        assert "The plan is applied" in problem(member("POST", f"{path}/{way}"), 409, "PLAN_STATE")["detail"]
    problem(member("DELETE", path), 409, "PLAN_STATE")


def test_plans_are_listed_by_pages_and_state(world: World, member: Caller, plan: dict[str, Any]) -> None:
    second = propose(world, member)
    problemless(member("DELETE", f"/plans/{plan['id']}"))
    listed: Any = problemless(member("GET", "/plans"))
    assert [(one["id"], one["state"]) for one in listed] == [(second["id"], "proposed"), (plan["id"], "cancelled")]
    assert "steps" not in listed[0]
    first = member("GET", "/plans?limit=1")
    assert [one["id"] for one in first.get_json()] == [second["id"]]
    assert f"marker={second['id']}" in first.headers["Link"]
    rest: Any = problemless(member("GET", f"/plans?limit=1&marker={second['id']}"))
    assert [one["id"] for one in rest] == [plan["id"]]
    cancelled: Any = problemless(member("GET", "/plans?state=cancelled"))
    assert [one["id"] for one in cancelled] == [plan["id"]]
    with world.container.database.engine.begin() as connection:
        connection.execute(text("UPDATE plans SET valid_until = now() - interval '1 s' WHERE state = 'proposed'"))
    expired: Any = problemless(member("GET", "/plans?state=expired"))
    assert [(one["id"], one["state"]) for one in expired] == [(second["id"], "expired")]
    assert not problemless(member("GET", "/plans?state=proposed"))


def test_what_is_wrong_is_said(member: Caller, plan: dict[str, Any]) -> None:
    wrong = problem(member("GET", "/plans?state=done&marker=x&limit=0&unknown=1"), 422, "INVALID_REQUEST")
    assert {one["field"] for one in wrong["errors"]} == {"state", "marker", "limit", "unknown"}
    assert problem(member("GET", f"/plans?marker={NONE}"), 422)["errors"][0]["field"] == "marker"
    for path in (NONE, "x"):
        problem(member("GET", f"/plans/{path}"), 404, "PLAN_NOT_FOUND")
        for way in ("approve", "apply", "moves/0/done"):
            problem(member("POST", f"/plans/{path}/{way}"), 404, "PLAN_NOT_FOUND")
        problem(member("DELETE", f"/plans/{path}"), 404, "PLAN_NOT_FOUND")
    path = f"/plans/{plan['id']}"
    assert "can't become applying" in problem(member("POST", f"{path}/apply"), 409, "PLAN_STATE")["detail"]
    problem(member("POST", f"{path}/moves/0/done"), 409, "MOVE_NOT_OFFERED")
    problem(member("POST", f"{path}/moves/1/done"), 404, "MOVE_NOT_FOUND")
    problem(member("POST", f"{path}/moves/zero/done"), 404, "MOVE_NOT_FOUND")
    bodies: list[tuple[Any, set[str]]] = [
        ({"along": 1, "with": []}, {"along", "with"}),
        ({"along": ["1", -1, True]}, {"along.0", "along.1", "along.2"}),
        ({"along": [0] * 1001}, {"along"}),
        ({"along": [7, 0, 1]}, {"along.0", "along.2"}),
    ]
    for body, fields in bodies:
        found = problem(member("POST", f"{path}/moves/0/done", body), 422, "INVALID_REQUEST")
        assert {one["field"] for one in found["errors"]} == fields


def test_another_projects_plans_are_not_found(world: World, plan: dict[str, Any]) -> None:
    other = world.caller("admin", OTHER_PROJECT)
    assert not problemless(other("GET", "/plans"))
    problem(other("GET", f"/plans/{plan['id']}"), 404, "PLAN_NOT_FOUND")
    problem(other("POST", f"/plans/{plan['id']}/approve"), 404, "PLAN_NOT_FOUND")
    problem(other("GET", f"/plans?marker={plan['id']}"), 422)


def test_a_cluster_that_somebody_keeps_is_not_planned_away_and_not_deleted(
    world: World, member: Caller, plan: dict[str, Any]
) -> None:
    gone = plan["steps"][-1]["cluster_id"]
    hold = {"until": (datetime.now(UTC) + timedelta(days=1)).isoformat(), "why": "a demo"}
    assert member("PUT", f"/clusters/{gone}/hold", hold).status_code == 200
    problemless(member("POST", f"/plans/{plan['id']}/approve"))
    applied = member("POST", f"/plans/{plan['id']}/apply").get_json()
    assert applied["state"] == "stale"
    assert f"Cluster {gone} is kept until" in applied["detail"]
    again = propose(world, member)
    assert gone not in {step["cluster_id"] for step in again["steps"] if step["action"] == "delete"}
