"""Costs over HTTP: JSON and CSV, by group and by span."""

import csv
import io
from decimal import Decimal
from typing import Any

import pytest

from shared.domain.costing import PARTS
from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import OTHER_PROJECT, PROJECT


@pytest.fixture
def cluster(world: World, member: Caller) -> dict[str, Any]:
    made: dict[str, Any] = problemless(member("POST", "/clusters", a_body()))
    world.complete(made["job_id"], PROJECT)
    return made


def test_a_clusters_costs_have_the_keys_of_always_and_the_parts(member: Caller, cluster: dict[str, Any]) -> None:
    found = problemless(member("GET", f"/clusters/{cluster['id']}/costs"))
    costs = found["costs"]
    assert found["cluster_id"] == cluster["id"]
    assert {"start", "end", "currency", "total_cost", "cost_per_hour", "energy_kwh", "source", "items"} <= costs.keys()
    assert {"role", "flavor", "node_seconds", "cost", "energy_kwh", "price_per_node_hour", "watts_per_node", "rate"} <= costs[
        "items"
    ][0].keys()
    [total] = costs["totals"]
    assert sum(Decimal(total[part]) for part in PARTS) == Decimal(costs["total_cost"]) > 0
    assert costs["cost_per_hour"] > 0
    assert Decimal(costs["forecast"]["total_cost"]) >= Decimal(costs["total_cost"])


def test_a_rate_card_re_rates_the_past(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/costs?end=2099-01-01T00:00:00Z"
    before = problemless(member("GET", path))["costs"]
    admin = world.caller("admin", PROJECT)
    card = {"name": "x", "currency": "EUR", "valid_from": "2020-01-01T00:00:00Z", "core_hour": "0", "memory_gb_hour": "0"}
    gpus = [{"accelerator": row["id"], "price_per_hour": "0"} for row in member("GET", "/accelerators").get_json()]
    made = problemless(admin("POST", "/rate-cards", card | {"accelerators": gpus}))
    free = problemless(member("GET", path))["costs"]
    assert (before["currency"], free["currency"], free["total_cost"]) == ("USD", "EUR", "0.000000")
    assert {source for item in free["items"] for source in item["price_sources"]} == {made["id"]}
    assert admin("DELETE", f"/rate-cards/{made['id']}").status_code == 204
    again = problemless(member("GET", path))["costs"]
    assert Decimal(again["total_cost"]) >= Decimal(before["total_cost"]) > 0


def test_the_projects_costs_by_group(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    found = problemless(member("GET", "/costs?group_by=type,cluster,workload&granularity=day"))
    assert found["group_by"] == ["type", "cluster", "workload"]
    assert {row["cluster_id"] for row in found["rows"]} == {cluster["id"]}
    assert sum(Decimal(row["total"]) for row in found["rows"]) == Decimal(found["total_cost"]) > 0
    assert problemless(member("GET", "/costs"))["group_by"] == ["cluster"]
    other = problemless(world.caller("reader", OTHER_PROJECT)("GET", "/costs"))
    assert (other["rows"], other["totals"], other["total_cost"]) == ([], [], "0.000000")


def test_csv_for_who_asks_for_it(member: Caller, cluster: dict[str, Any]) -> None:
    for path in (f"/clusters/{cluster['id']}/costs?granularity=day", "/costs?granularity=day&group_by=cluster"):
        answer = member("GET", path, headers={"Accept": "text/csv"})
        assert (answer.status_code, answer.content_type) == (200, "text/csv; charset=utf-8")
        rows = list(csv.DictReader(io.StringIO(answer.get_data(as_text=True))))
        assert rows
        assert all(sum(Decimal(row[part]) for part in PARTS) == Decimal(row["total"]) for row in rows)
        assert rows[0]["carbon_g"] == ""
        assert rows[0]["start"].endswith("Z")
    assert member("GET", "/costs", headers={"Accept": "*/*"}).content_type == "application/json"


def test_csv_of_nothing_has_its_columns(world: World) -> None:
    answer = world.caller("reader", OTHER_PROJECT)("GET", "/costs", headers={"Accept": "text/csv"})
    assert answer.get_data(as_text=True).startswith("start,end,currency,allocated,idle,")


@pytest.mark.parametrize(
    "query,field", [("group_by=colour", "group_by"), ("group_by=type,", "group_by"), ("granularity=week", "granularity")]
)
def test_wrong_questions_are_named(member: Caller, query: str, field: str) -> None:
    assert problem(member("GET", f"/costs?{query}"), 422)["errors"][0]["field"] == field
