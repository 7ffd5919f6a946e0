"""Errors: each class has a status and a page, and each answer has the one form."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from api import problem_pages, problems
from shared.errors import CloudThrottled, FieldError, InvalidRequest, KcloudError
from tests.api.harness import Caller, World, a_body, problem

ROOT = Path(__file__).resolve().parents[2]


def _all(cls: type[KcloudError]) -> Iterator[type[KcloudError]]:
    for below in cls.__subclasses__():
        yield below
        yield from _all(below)


def test_every_error_has_a_status_of_its_own() -> None:
    importlib.import_module("api.app")  # whatever classes the product adds are known then
    missing = [error.__name__ for error in _all(KcloudError) if not error.__name__.startswith("_") and error not in problems.STATUS]
    assert missing == []


def test_every_kind_of_problem_has_a_page() -> None:
    assert problem_pages.missing() == set()
    assert set(problem_pages.PAGES) == set(problem_pages.kinds())


def test_the_list_of_errors_is_current() -> None:
    written = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert written == problem_pages.as_markdown(), "stale: python -m api.spec docs/errors.md"


@pytest.mark.parametrize("slug", sorted(problem_pages.kinds()))
def test_the_type_of_a_problem_leads_to_its_page(world: World, slug: str) -> None:
    response = world.stranger()("GET", f"/problems/{slug}")
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    assert slug in response.text


def test_an_unknown_kind_of_problem_is_not_found(world: World) -> None:
    assert problem(world.stranger()("GET", "/problems/%3Cscript%3E"), 404)["detail"] == "There is no kind of problem '<script>'."


def test_an_unknown_path(world: World) -> None:
    body = problem(world.stranger()("GET", "/cluster"), 404, "UNKNOWN_PATH")
    assert body["instance"] == "/cluster"


@pytest.mark.parametrize(
    "method,path,allowed",
    [
        ("PATCH", "/clusters", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/clusters/x", {"GET", "HEAD", "OPTIONS", "DELETE"}),
        ("GET", "/clusters/x/scale", {"PUT", "OPTIONS"}),
        ("DELETE", "/jobs", {"GET", "HEAD", "OPTIONS"}),
        ("BREW", "/health", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_method_that_a_path_does_not_take(member: Caller, method: str, path: str, allowed: set[str]) -> None:
    response = member(method, path)
    problem(response, 405, "METHOD_NOT_ALLOWED")
    assert set(response.headers["Allow"].split(", ")) == allowed


def test_options_tell_the_methods_without_a_token(world: World) -> None:
    response = world.stranger()("OPTIONS", "/clusters")
    assert response.status_code == 200
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


def test_head_has_the_headers_of_get_and_no_body(reader: Caller) -> None:
    got, headed = reader("GET", "/clusters"), reader("HEAD", "/clusters")
    assert (headed.status_code, headed.data) == (200, b"")
    assert headed.headers["Content-Length"] == str(len(got.data))


def test_a_fault_of_ours_shows_no_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        msg = "the password is hunter2"
        raise RuntimeError(msg)

    monkeypatch.setattr(world.container.health, "health", fail)
    body = problem(world.stranger()("GET", "/health"), 500, "INTERNAL")
    assert "hunter2" not in json.dumps(body)
    assert "Traceback" not in json.dumps(body)


def test_a_known_error_shows_its_words_hint_and_fields() -> None:
    app = Flask("probe")
    problems.install(app)

    @app.post("/things")
    def things() -> str:
        raise InvalidRequest("Wrong.", hint="Do so.", errors=[FieldError("labels.a/b~c.d", "length", "Too long.")])

    body = app.test_client().post("/things").get_json()
    assert body["hint"] == "Do so."
    assert body["errors"] == [
        {"field": "labels.a/b~c.d", "rule": "length", "detail": "Too long.", "pointer": "/labels/a~1b~0c.d"},
    ]


def test_a_passing_error_says_when_to_come_back() -> None:
    app = Flask("probe")
    problems.install(app)

    @app.get("/slow")
    def slow() -> str:
        raise CloudThrottled("Slow down.", retry_after_s=12.4, upstream_status=429, upstream_request_id="req-up")

    response = app.test_client().get("/slow")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "12")
    assert response.get_json()["upstream_status"] == 429
    assert response.get_json()["upstream_request_id"] == "req-up"


def test_every_answer_carries_the_headers_of_security(member: Caller, world: World) -> None:
    for response in (
        member("GET", "/clusters"),
        member("POST", "/clusters", a_body()),
        member("GET", "/nowhere"),
        world.stranger()("GET", "/"),
        world.stranger()("GET", "/docs"),
    ):
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        assert len(response.headers.getlist("Content-Security-Policy")) == 1


def test_the_request_id_is_the_callers_where_it_is_one(reader: Caller) -> None:
    given = "req-9f8e7d6c-5b4a-4c3d-8e2f-1a0b9c8d7e6f"
    assert reader("GET", "/clusters", headers={"X-Openstack-Request-Id": given}).headers["x-openstack-request-id"] == given


@pytest.mark.parametrize("given", ["req-a b", "abc", "req-" + "a" * 200, "req-ü"])
def test_another_request_id_is_replaced(reader: Caller, given: str) -> None:
    found = reader("GET", "/clusters", headers={"X-Openstack-Request-Id": given}).headers["x-openstack-request-id"]
    assert found != given
    assert found.startswith("req-")
