"""Cleanup, holds and webhooks through the API: what is asked for, what is refused, and by which rule."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.harness import Caller, World, problem, problemless
from tests.api.test_match import a_cluster
from tests.builders import OTHER_PROJECT


def _in(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


#: name of the case: (method, path, body, wrong field, rule)
WRONG: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "percent above 100": ("PUT", "/cleanup/policy", {"max_cpu_percent": 101}, "max_cpu_percent", "range"),
    "negative grace": ("PUT", "/cleanup/policy", {"grace_hours": -1}, "grace_hours", "range"),
    "unknown source": ("PUT", "/cleanup/policy", {"sources": ["moon"]}, "sources", "choice"),
    "unknown zone": ("PUT", "/cleanup/policy", {"window": {"time_zone": "Mars/Base"}}, "window.time_zone", "exists"),
    "empty window": ("PUT", "/cleanup/policy", {"window": {"start": "09:00", "end": "09:00"}}, "window.end", "range"),
    "hour 25": ("PUT", "/cleanup/floor", {"window": {"start": "25:00"}}, "window.start", "pattern"),
    "no url": ("POST", "/webhooks", {}, "url", "required"),
    "file url": ("POST", "/webhooks", {"url": "file:///etc/passwd"}, "url", "pattern"),
    "loopback": ("POST", "/webhooks", {"url": "http://127.0.0.1:9/x"}, "url", "address"),
    "mapped loopback": ("POST", "/webhooks", {"url": "http://[::ffff:127.0.0.1]/x"}, "url", "address"),
    "metadata service": ("POST", "/webhooks", {"url": "http://169.254.169.254/"}, "url", "address"),
    "private address": ("POST", "/webhooks", {"url": "https://10.0.0.1/"}, "url", "address"),
    "unknown event": ("POST", "/webhooks", {"url": "https://a.example.com/", "events": ["moon"]}, "events", "choice"),
    "short secret": ("POST", "/webhooks", {"url": "https://a.example.com/", "secret": "short"}, "secret", "length"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_fields_are_named_with_their_rule(admin: Caller, case: str) -> None:
    method, path, body, field, rule = WRONG[case]
    found = problem(admin(method, path, body), 422)
    assert (field, rule) in {(one["field"], one["rule"]) for one in found["errors"]}, found


def test_all_findings_come_at_once(admin: Caller) -> None:
    body = {"grace_hours": -1, "sources": ["moon"], "window": {"time_zone": "Mars/Base"}}
    found = problem(admin("PUT", "/cleanup/policy", body), 422)
    assert {one["field"] for one in found["errors"]} >= {"grace_hours", "sources"}


def test_a_cluster_that_nothing_measures_is_no_candidate_and_the_answer_says_why(world: World, member: Caller) -> None:
    cluster = a_cluster(world, member, "training", node_count=2)
    found = problemless(member("GET", f"/cleanup/candidates/{cluster['id']}"))
    assert (found["stage"], found["idle"]) == ("active", False)
    assert "CPU_USE_UNKNOWN" in {reason["code"] for reason in found["reasons"]}
    assert len(found["sources"]) == 7
    listed = member("GET", "/cleanup/candidates").get_json()
    assert [one["cluster_id"] for one in listed] == [cluster["id"]]
    ran = problemless(member("POST", "/cleanup/idle-clusters", {}))
    assert (ran["cleaned_clusters"], ran["dry_run"], ran["looked_at"]) == ([], True, 1)
    assert {"message", "timestamp"} <= ran.keys()


def test_the_default_policy_refuses_more_than_a_dry_run(member: Caller) -> None:
    found = problem(member("POST", "/cleanup/idle-clusters", {"dry_run": False}), 422)
    assert [(one["field"], one["rule"]) for one in found["errors"]] == [("dry_run", "policy")]


def test_members_cannot_go_below_the_floor(member: Caller, admin: Caller) -> None:
    problem(member("PUT", "/cleanup/floor", {"grace_hours": 24}), 403)
    problemless(admin("PUT", "/cleanup/floor", {"grace_hours": 24, "dry_run": True}))
    found = problem(member("PUT", "/cleanup/policy", {"grace_hours": 1, "dry_run": False}), 422)
    assert {(one["field"], one["rule"]) for one in found["errors"]} == {("grace_hours", "floor"), ("dry_run", "floor")}
    shown = problemless(member("PUT", "/cleanup/policy", {"min_idle_hours": 3}))["effective"]
    assert (shown["grace_hours"], shown["dry_run"], shown["min_idle_hours"]) == (24, True, 3)


def test_a_hold_keeps_a_cluster_until_it_is_let_go(world: World, member: Caller) -> None:
    cluster = a_cluster(world, member, "training", node_count=2)
    path = f"/clusters/{cluster['id']}/hold"
    problem(member("DELETE", path), 404, "HOLD_NOT_FOUND")
    problem(member("PUT", path, {"until": _in(days=400), "why": "for ever"}), 422)
    problem(member("PUT", path, {"until": _in(days=-1), "why": "yesterday"}), 422)
    problemless(member("PUT", path, {"until": _in(days=1), "why": "a demo"}))
    found = problemless(member("GET", f"/cleanup/candidates/{cluster['id']}"))
    assert found["hold"]["why"] == "a demo"
    assert "HOLD_ACTIVE" in {reason["code"] for reason in found["reasons"]}
    assert member("DELETE", path).status_code == 204


def test_another_project_sees_nothing(world: World, member: Caller) -> None:
    cluster = a_cluster(world, member, "training", node_count=2)
    made = problemless(member("POST", "/webhooks", {"url": "https://a.example.com/"}))
    other = world.caller("admin", OTHER_PROJECT)
    problem(other("GET", f"/cleanup/candidates/{cluster['id']}"), 404)
    problem(other("PUT", f"/clusters/{cluster['id']}/hold", {"until": _in(days=1), "why": "x"}), 404)
    problem(other("POST", f"/cleanup/candidates/{cluster['id']}/cancel"), 404)
    problem(other("DELETE", f"/webhooks/{made['id']}"), 404)
    assert other("GET", "/webhooks").get_json() == []


def test_a_secret_is_shown_once(member: Caller) -> None:
    made = problemless(member("POST", "/webhooks", {"url": "https://a.example.com/", "secret": "sixteen-letters-x"}))
    assert made["secret"] == "sixteen-letters-x"
    assert "sixteen-letters-x" not in member("GET", "/webhooks").text
    assert member("GET", f"/webhooks/{made['id']}/deliveries").get_json() == []
    assert member("DELETE", f"/webhooks/{made['id']}").status_code == 204
    assert member("GET", "/webhooks").get_json() == []
