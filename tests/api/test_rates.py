"""Rate cards over HTTP: given by administrators, seen by all of the project."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import OTHER_PROJECT, PROJECT

CARD: dict[str, Any] = {
    "name": "2026",
    "currency": "KRW",
    "valid_from": "2026-01-01T00:00:00+09:00",
    "flavors": [{"flavor": "gpu.a100.large", "purchase_price": "35040", "years": "4", "duty": "0.5"}],
    "electricity": {"price_per_kwh": "120.5", "pue": "1.3", "time_zone": "Asia/Seoul"},
}


@pytest.fixture
def admin(world: World) -> Caller:
    return world.caller("admin", PROJECT)


def test_a_card_is_given_shown_and_taken_away(world: World, admin: Caller) -> None:
    made = problemless(admin("POST", "/rate-cards", CARD))
    assert (made["scope"], made["valid_from"], made["valid_to"]) == ("project", "2025-12-31T15:00:00Z", None)
    assert made["flavors"] == [CARD["flavors"][0] | {"per_node_hour": "2"}]
    assert made["electricity"] == CARD["electricity"]
    assert world.caller("reader", PROJECT)("GET", "/rate-cards").get_json() == [made]
    assert world.caller("reader", OTHER_PROJECT)("GET", "/rate-cards").get_json() == []
    problem(world.caller("admin", OTHER_PROJECT)("DELETE", f"/rate-cards/{made['id']}"), 404, "RATE_CARD_NOT_FOUND")
    assert admin("DELETE", f"/rate-cards/{made['id']}").status_code == 204
    problem(admin("DELETE", f"/rate-cards/{made['id']}"), 404, "RATE_CARD_NOT_FOUND")
    problem(admin("DELETE", "/rate-cards/none"), 404, "RATE_CARD_NOT_FOUND")
    with world.container.database.engine.begin() as connection:
        actions = connection.execute(text("SELECT action FROM audit_events ORDER BY id")).scalars().all()
    assert actions == ["rates:add", "rates:delete"]


def test_a_card_of_the_site_is_every_projects(world: World, admin: Caller) -> None:
    made = problemless(admin("POST", "/rate-cards", CARD | {"scope": "site"}))
    assert world.caller("reader", OTHER_PROJECT)("GET", "/rate-cards").get_json() == [made]


def test_a_card_can_be_checked_only(admin: Caller) -> None:
    assert problemless(admin("POST", "/rate-cards?validate_only=true", CARD))["valid"] is True
    assert admin("GET", "/rate-cards").get_json() == []


def test_all_that_is_wrong_is_named_at_once(admin: Caller) -> None:
    wrong = problem(
        admin("POST", "/rate-cards", {"name": "x", "currency": "KRW", "valid_from": "soon", "core_hour": 0.5, "flavours": []}), 422
    )
    assert {one["field"] for one in wrong["errors"]} == {"valid_from", "core_hour", "flavours"}
    wrong = problem(
        admin(
            "POST",
            "/rate-cards",
            {
                "name": "x",
                "currency": "XXX",
                "valid_from": "2026-01-01T00:00:00Z",
                "electricity": {"price_per_kwh": "1", "pue": "99"},
            },
        ),
        422,
    )
    assert {one["field"] for one in wrong["errors"]} == {"currency", "electricity.pue"}


def test_members_may_look_only(member: Caller) -> None:
    problem(member("POST", "/rate-cards", CARD), 403, "POLICY")
    assert member("GET", "/rate-cards").status_code == 200


def test_samples_cost_what_the_cards_of_their_project_say(world: World, member: Caller) -> None:
    made = problemless(member("POST", "/clusters", a_body(node_count=2)))
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    admin, told = world.caller("admin", PROJECT), []
    for cards in ([], [{"name": "ours", "currency": "USD", "valid_from": "2026-01-01T00:00:00Z", "core_hour": "7.5"}]):
        for card in cards:
            problemless(admin("POST", "/rate-cards", card))
        with world.container.database.engine.begin() as connection:
            connection.execute(text("DELETE FROM series_state"))
            connection.execute(text("DELETE FROM cluster_metrics"))
        assert world.container.metering.sample(every_s=30.0) == 1
        [point] = problemless(member("GET", f"/clusters/{made['id']}/metrics"))["metrics"]["points"]
        costs = problemless(member("GET", f"/clusters/{made['id']}/costs"))["costs"]
        assert point["cost_per_hour"] == pytest.approx(costs["cost_per_hour"], abs=1e-6)
        told.append(point["cost_per_hour"])
    assert told[1] > 10 * told[0]
