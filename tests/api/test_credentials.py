"""The project's application credential."""

import pytest
from sqlalchemy import text

from tests.api.harness import Caller, World, problem
from tests.builders import OTHER_PROJECT, PROJECT

RIGHT = {"application_credential_id": "ac1", "secret": "secret-of-ac1"}


def test_a_credential_is_registered_shown_without_its_secret_and_removed(world: World, admin: Caller) -> None:
    problem(admin("GET", "/credentials"), 404, "CREDENTIAL_NOT_FOUND")
    shown = admin("PUT", "/credentials", RIGHT)
    assert shown.status_code == 200
    assert shown.get_json()["application_credential_id"] == "ac1"
    assert shown.get_json()["project_id"] == PROJECT
    assert "secret-of-ac1" not in shown.text
    assert admin("GET", "/credentials").get_json() == shown.get_json()
    with world.container.database.engine.connect() as connection:
        kept = connection.execute(text("SELECT secret FROM credentials")).scalar_one()
    assert b"secret-of" not in bytes(kept)
    removed = admin("DELETE", "/credentials")
    assert (removed.status_code, removed.data) == (204, b"")
    problem(admin("DELETE", "/credentials"), 404, "CREDENTIAL_NOT_FOUND")


def test_a_credential_that_keystone_refuses(admin: Caller) -> None:
    found = problem(admin("PUT", "/credentials", {**RIGHT, "secret": "wrong"}), 422)
    assert [(error["field"], error["rule"]) for error in found["errors"]] == [("application_credential_id", "accepted")]
    problem(admin("GET", "/credentials"), 404)


def test_a_credential_of_another_project(admin: Caller) -> None:
    other = f"ac2@{OTHER_PROJECT}"
    found = problem(admin("PUT", "/credentials", {"application_credential_id": other, "secret": f"secret-of-{other}"}), 422)
    assert found["errors"][0]["field"] == "application_credential_id"


@pytest.mark.parametrize(
    "body,fields",
    [
        ({}, {"application_credential_id", "secret"}),
        ({**RIGHT, "secret": None}, {"secret"}),
        ({**RIGHT, "secret": ""}, {"secret"}),
        ({**RIGHT, "application_credential_id": "a b"}, {"application_credential_id"}),
        ({**RIGHT, "name": "x"}, {"name"}),
    ],
)
def test_wrong_fields_are_named(admin: Caller, body: object, fields: set[str]) -> None:
    assert {error["field"] for error in problem(admin("PUT", "/credentials", body), 422)["errors"]} == fields


def test_a_secret_is_not_in_the_log(admin: Caller, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level("DEBUG")
    admin("PUT", "/credentials", {**RIGHT, "secret": "wrong-and-very-secret"})
    admin("PUT", "/credentials", RIGHT)
    printed = capsys.readouterr()
    everything = caplog.text + printed.out + printed.err
    assert "very-secret" not in everything
    assert "secret-of-ac1" not in everything
    assert "gAAAAAB" not in everything
