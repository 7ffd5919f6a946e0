"""The ledger of savings, from changes to answers."""

import csv
import io
from typing import Any

import pytest
from sqlalchemy import text

from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import OTHER_PROJECT, PROJECT


@pytest.fixture(autouse=True)
def _no_savings(world: World) -> None:
    with world.container.database.engine.begin() as connection:
        connection.execute(text("TRUNCATE savings"))


@pytest.fixture
def cluster(world: World, member: Caller) -> dict[str, Any]:
    made: dict[str, Any] = problemless(member("POST", "/clusters", a_body(node_count=4)))
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    return made


def change(world: World, member: Caller, method: str, path: str, body: Any = None) -> dict[str, Any]:
    made: dict[str, Any] = problemless(member(method, path, body))
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    return made


def earlier(world: World, hours: float) -> None:
    """All of this happened so many hours before."""
    with world.container.database.engine.begin() as connection:
        ago = {"ago": hours * 3600}
        connection.execute(text("UPDATE savings SET at = at - make_interval(secs => :ago)"), ago)
        connection.execute(
            text(
                "UPDATE usage_intervals SET started_at = started_at - make_interval(secs => :ago),"
                " ended_at = ended_at - make_interval(secs => :ago)"
            ),
            ago,
        )


def test_a_scale_in_is_told_with_what_it_was_to_save_and_does(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    job = change(world, member, "PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 1})
    earlier(world, 10)
    told = problemless(member("GET", "/savings"))
    [row] = told["rows"]
    assert (row["kind"], row["cause"], row["cluster_id"], row["job_id"]) == ("scale_in", "user", cluster["id"], job["job_id"])
    hourly = problemless(member("GET", f"/clusters/{cluster['id']}/costs"))["costs"]["items"]
    worker = next(item for item in hourly if item["role"] == "worker")
    assert float(row["predicted"]) == pytest.approx(3 * 10 * worker["price_per_node_hour"], rel=0.01)
    assert 0.99 * float(row["predicted"]) <= float(row["realised"]) <= float(row["predicted"])
    assert row["realised_kwh"] == pytest.approx(3 * 10 * worker["watts_per_node"] / 1000, rel=0.01)
    assert told["totals"] == [{name: row[name] for name in ("currency", "predicted", "realised", "predicted_kwh", "realised_kwh")}]


def test_growing_saves_nothing_and_takes_back_what_shrinking_saved(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}/scale"
    change(world, member, "PUT", path, {"node_count": 1})
    change(world, member, "PUT", path, {"node_count": 6})
    earlier(world, 10)
    [row] = problemless(member("GET", "/savings"))["rows"]
    assert float(row["realised"]) < 0.01 * float(row["predicted"])


def test_each_kind_is_in_it_and_groups_add_up(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    path = f"/clusters/{cluster['id']}"
    change(world, member, "PUT", f"{path}/scale", {"node_count": 3})
    change(world, member, "POST", f"{path}/hibernate")
    change(world, member, "DELETE", path)
    earlier(world, 10)
    told = problemless(member("GET", "/savings?group_by=kind"))
    assert {row["kind"] for row in told["rows"]} == {"scale_in", "hibernate", "delete"}
    assert all(row.keys() == {"kind", "currency", "predicted", "realised", "predicted_kwh", "realised_kwh"} for row in told["rows"])
    single = problemless(member("GET", "/savings"))
    assert sum(float(row["realised"]) for row in single["rows"]) == pytest.approx(float(told["totals"][0]["realised"]), abs=1e-5)
    by_cluster = problemless(member("GET", "/savings?group_by=cluster,cause"))["rows"]
    assert [(row["cluster"], row["cause"]) for row in by_cluster] == [("training", "user")]
    delete = next(row for row in told["rows"] if row["kind"] == "delete")
    assert float(delete["realised"]) > 0  # its master


def test_as_csv_and_when_there_is_nothing(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    empty = member("GET", "/savings", headers={"Accept": "text/csv"}).get_data(as_text=True)
    assert empty.strip().split(",")[:2] == ["job_id", "at"]
    change(world, member, "PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 1})
    rows = list(csv.DictReader(io.StringIO(member("GET", "/savings", headers={"Accept": "text/csv"}).get_data(as_text=True))))
    assert [(row["kind"], row["cluster"]) for row in rows] == [("scale_in", "training")]
    assert ",".join(rows[0]) == empty.strip()


def test_a_failed_change_saves_nothing_and_another_project_sees_nothing(
    world: World, member: Caller, cluster: dict[str, Any]
) -> None:
    problemless(member("PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 1}))  # promised, and never done
    earlier(world, 10)
    [row] = problemless(member("GET", "/savings"))["rows"]
    assert float(row["realised"]) == 0
    assert problemless(world.caller("member", OTHER_PROJECT)("GET", "/savings"))["rows"] == []


def test_what_is_wrong_is_named(member: Caller) -> None:
    told = problem(member("GET", "/savings?group_by=colour"), 422)
    assert told["errors"][0]["field"] == "group_by"
    problem(member("GET", "/savings?start=2026-05-02T00:00:00Z&end=2026-05-01T00:00:00Z"), 422)
