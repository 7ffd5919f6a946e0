"""Budgets: what they tell, refuse and hibernate, and whose they are."""

import threading
from typing import Any

import pytest
from sqlalchemy import text

from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import OTHER_PROJECT, PROJECT

NOW = {"Prefer": "wait=10"}
WORK = {"type": "ml_training", "gpu_required": True, "gpu_count": 4, "cpu_cores": 8, "memory_gb": 32}


@pytest.fixture(autouse=True)
def _no_budgets(world: World) -> None:
    with world.container.database.engine.begin() as connection:
        connection.execute(text("TRUNCATE budgets, series_state"))


def a_budget(caller: Caller, **changes: Any) -> dict[str, Any]:
    body = {"name": "money", "kind": "money", "amount": "1000", "currency": "USD"} | changes
    made: dict[str, Any] = problemless(caller("POST", "/budgets", body))
    return made


def a_cluster(world: World, member: Caller, name: str, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = problemless(member("POST", "/clusters", a_body(name, node_count=1, **changes)))
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    return made


def spend(world: World) -> None:
    """All clusters have run since midnight."""
    with world.container.database.engine.begin() as connection:
        connection.execute(
            text("UPDATE usage_intervals SET started_at = date_trunc('day', now()) WHERE started_at > date_trunc('day', now())")
        )


def test_a_budget_is_shown_with_what_is_used_and_expected(world: World, member: Caller) -> None:
    a_cluster(world, member, "training")
    spend(world)
    made = a_budget(member, period="day")
    assert (made["unit"], made["period"], made["binding"], made["refusing_since"]) == ("USD", "day", False, None)
    assert [(one["at"], one["action"]) for one in made["thresholds"]] == [(0.8, "notify"), (1.0, "notify"), (1.0, "refuse_new")]
    total = problemless(member("GET", f"/costs?group_by=project&start={made['start']}"))["total_cost"]
    assert float(made["used"]) == pytest.approx(float(total), rel=0.01)
    assert float(made["forecast"]) > float(made["used"]) > 0
    [listed] = member("GET", "/budgets").get_json()
    assert listed == problemless(member("GET", f"/budgets/{made['id']}"))


def test_what_adds_nodes_is_refused_once_it_is_used_up_and_all_else_goes_on(world: World, member: Caller) -> None:
    cluster = a_cluster(world, member, "training")
    spend(world)
    made = a_budget(member, amount="0.000001", period="day")
    assert made["refusing_since"] is not None
    told = problem(member("POST", "/clusters", a_body("more")), 409, "BUDGET_EXCEEDED")
    assert "'money'" in told["detail"]
    assert "0.000001 USD a day" in told["detail"]
    path = f"/clusters/{cluster['id']}"
    problem(member("PUT", f"{path}/scale", {"node_count": 3}), 409, "BUDGET_EXCEEDED")
    problem(member("POST", f"{path}/node-groups", {"name": "gpus", "flavor_id": "gpu.a100.large"}), 409, "BUDGET_EXCEEDED")
    problem(member("POST", "/clusters?validate_only=true", a_body("more")), 409, "BUDGET_EXCEEDED")
    answer = problemless(member("POST", "/match/workload", WORK, headers=NOW))
    assert answer["action"] == "use_existing"  # what is there may be used
    assert answer["rejections"]["COST_BUDGET"] >= 1
    asleep = problemless(member("POST", f"{path}/hibernate"))
    assert world.complete(asleep["job_id"], PROJECT)["state"] == "succeeded"
    problem(member("POST", f"{path}/wake"), 409, "BUDGET_EXCEEDED")
    assert member("DELETE", f"/budgets/{made['id']}").status_code == 204
    assert world.complete(problemless(member("POST", f"{path}/wake"))["job_id"], PROJECT)["state"] == "succeeded"


def test_energy_has_a_budget_too(world: World, member: Caller) -> None:
    a_cluster(world, member, "training")
    spend(world)
    made = problemless(member("POST", "/budgets", {"name": "energy", "kind": "energy", "amount": "0.000001", "period": "day"}))
    assert (made["unit"], made["currency"]) == ("kWh", None)
    problem(member("POST", "/clusters", a_body("more")), 409, "BUDGET_EXCEEDED")


def test_watts_are_a_hard_limit_for_many_at_once(world: World, member: Caller) -> None:
    first = a_cluster(world, member, "first")
    drawn = problemless(member("POST", "/budgets", {"name": "watts", "kind": "power", "amount": "1000000"}))
    each = float(drawn["used"])
    assert each > 0
    member("DELETE", f"/budgets/{drawn['id']}")
    problemless(member("POST", "/budgets", {"name": "watts", "kind": "power", "amount": str(round(3.5 * each))}))
    answers: list[int] = []

    def ask(number: int) -> None:
        answers.append(world.caller("member", PROJECT)("POST", "/clusters", a_body(f"c{number}", node_count=1)).status_code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [202] * 2 + [409] * 6
    told = problem(member("PUT", f"/clusters/{first['id']}/scale", {"node_count": 9}), 409, "POWER_BUDGET")
    assert "(watts)" in told["detail"]


def test_thresholds_are_told_once_and_hibernate_what_may_sleep(world: World, member: Caller) -> None:
    hook = {"url": "https://hooks.example.com/kcloud", "events": ["budget.*"]}
    problemless(world.caller("admin", PROJECT)("POST", "/webhooks", hook))
    kept = a_cluster(world, member, "kept", labels={"persistent": "true"})
    sleeps = a_cluster(world, member, "sleeps", labels={})
    spend(world)
    thresholds = [{"at": 0.5, "action": "notify"}, {"at": 1, "action": "hibernate", "of": "forecast"}]
    a_budget(member, amount="0.000001", period="day", thresholds=thresholds)
    for _ in range(3):
        with world.container.database.engine.begin() as connection:
            connection.execute(text("TRUNCATE series_state"))
        assert world.container.budgets.look_at_all(every_s=60.0) == 1
    assert world.container.budgets.look_at_all(every_s=60.0) == 0  # another beat
    with world.container.database.engine.begin() as connection:
        told = (
            connection.execute(text("SELECT body::jsonb -> 'data' -> 'threshold' ->> 'at' FROM webhook_deliveries")).scalars().all()
        )
    assert sorted(told) == ["0.5", "1.0"]
    jobs = [job for job in member("GET", "/jobs").get_json() if job["kind"] == "hibernate"]
    assert [job["cluster_id"] for job in jobs] == [sleeps["id"]]
    assert kept["id"] not in {job["cluster_id"] for job in jobs}


def test_a_binding_budget_is_an_administrators(world: World, member: Caller) -> None:
    body = {"name": "theirs", "kind": "energy", "amount": "5", "binding": True}
    problem(member("POST", "/budgets", body), 403)
    made = problemless(world.caller("admin", PROJECT)("POST", "/budgets", body))
    problem(member("DELETE", f"/budgets/{made['id']}"), 403)
    assert world.caller("admin", PROJECT)("DELETE", f"/budgets/{made['id']}").status_code == 204


def test_another_project_has_its_own(world: World, member: Caller) -> None:
    made = a_budget(member)
    other = world.caller("member", OTHER_PROJECT)
    assert other("GET", "/budgets").get_json() == []
    problem(other("GET", f"/budgets/{made['id']}"), 404, "BUDGET_NOT_FOUND")
    problem(other("DELETE", f"/budgets/{made['id']}"), 404, "BUDGET_NOT_FOUND")


@pytest.mark.parametrize(
    "body,field,rule",
    [
        ({"kind": "money", "amount": "1"}, "currency", "required"),
        ({"kind": "energy", "amount": "1", "currency": "USD"}, "currency", "only_money"),
        ({"kind": "power", "amount": "1", "period": "day"}, "period", "not_power"),
        ({"kind": "energy", "amount": "0"}, "amount", "positive"),
        ({"kind": "energy", "amount": "-1"}, "amount", "pattern"),
        ({"kind": "energy"}, "amount", "required"),
        ({"kind": "energy", "amount": "1", "period": "week"}, "period", "choice"),
        ({"kind": "energy", "amount": "1", "thresholds": [{"at": 0, "action": "notify"}]}, "thresholds.0.at", "range"),
        (
            {"kind": "power", "amount": "1", "thresholds": [{"at": 1, "action": "notify", "of": "forecast"}]},
            "thresholds.0.of",
            "not_power",
        ),
    ],
)
def test_what_is_wrong_is_named(member: Caller, body: dict[str, Any], field: str, rule: str) -> None:
    told = problem(member("POST", "/budgets", {"name": "x"} | body), 422)
    assert (field, rule) in {(one["field"], one["rule"]) for one in told["errors"]}
    assert member("GET", "/budgets").get_json() == []


def test_two_of_a_name_are_refused(member: Caller) -> None:
    a_budget(member)
    problem(member("POST", "/budgets", {"name": "money", "kind": "energy", "amount": "1"}), 409)
