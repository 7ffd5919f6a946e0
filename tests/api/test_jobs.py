"""Jobs over HTTP: followed, listed, cancelled, and streamed."""

import json
import threading
import time
from typing import Any

from werkzeug.test import TestResponse

from tests.api.harness import Caller, World, a_body, problem
from tests.builders import PROJECT


def test_a_job_says_when_to_look_again_until_it_ended(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    response = member("GET", f"/jobs/{made['job_id']}")
    assert (response.status_code, response.get_json()["state"]) == (200, "queued")
    assert int(response.headers["Retry-After"]) >= 1
    world.finish(made["job_id"], PROJECT)
    response = member("GET", f"/jobs/{made['job_id']}")
    assert response.get_json()["state"] == "succeeded"
    assert response.get_json()["result"]
    assert "Retry-After" not in response.headers


def test_a_jobs_answer_shows_nothing_of_the_leases(member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    assert not {"lease_token", "lease_owner", "baseline", "project_id"} & member("GET", f"/jobs/{made['job_id']}").get_json().keys()


def test_a_job_that_waits_its_turn_says_for_which(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    world.run(made["job_id"])
    scaled = member("PUT", f"/clusters/{made['id']}/scale", {"node_count": 6}).get_json()
    assert member("GET", f"/jobs/{scaled['job_id']}").get_json()["blocked_by"] == made["job_id"]


def test_jobs_are_listed_newest_first_and_filtered(world: World, member: Caller) -> None:
    first = member("POST", "/clusters", a_body("first")).get_json()
    second = member("POST", "/clusters", a_body("second")).get_json()
    world.finish(first["job_id"], PROJECT)

    def ids(query: str) -> list[str]:
        return [job["id"] for job in member("GET", f"/jobs?{query}").get_json()]

    assert ids("") == [second["job_id"], first["job_id"]]
    assert ids("state=succeeded") == ids(f"cluster_id={first['id']}") == [first["job_id"]]
    assert ids("kind=delete") == []
    page = member("GET", "/jobs?limit=1&kind=create")
    assert page.headers["Link"] == f'</jobs?kind=create&limit=1&marker={second["job_id"]}>; rel="next"'
    assert ids(f"limit=1&kind=create&marker={second['job_id']}") == [first["job_id"]]


def test_a_waiting_job_is_cancelled_at_once(member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    response = member("DELETE", f"/jobs/{made['job_id']}")
    assert (response.status_code, response.get_json()["job"]["state"]) == (200, "cancelled")
    assert response.headers["Operation-Location"] == f"/jobs/{made['job_id']}"
    assert member("DELETE", f"/jobs/{made['job_id']}").status_code == 200  # a second time changes nothing


def test_a_job_that_ended_is_not_cancelled(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    world.finish(made["job_id"], PROJECT)
    problem(member("DELETE", f"/jobs/{made['job_id']}"), 409, "JOB_ENDED")


def test_a_history_is_a_list_of_steps(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    world.finish(made["job_id"], PROJECT)
    path = f"/jobs/{made['job_id']}/events"
    events = member("GET", path).get_json()
    assert events[0]["step"] == "accepted"
    assert events[-1]["state"] == "succeeded"
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert member("GET", f"{path}?after={events[1]['seq']}").get_json() == events[2:]


def _parse(stream: str) -> list[tuple[str, str | None, Any]]:
    found = []
    for block in stream.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((lines["event"], lines.get("id"), json.loads(lines["data"])))
    return found


STREAM = {"Accept": "text/event-stream"}


def _read(response: TestResponse) -> str:
    """The whole stream, closed at its end, as a server does."""
    assert response.mimetype == "text/event-stream", response.text
    text = response.text
    response.close()
    return text


def test_a_stream_follows_a_job_to_its_end(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()

    def work() -> None:
        time.sleep(0.3)
        world.finish(made["job_id"], PROJECT)

    worker = threading.Thread(target=work)
    worker.start()
    events = _parse(_read(member("GET", f"/jobs/{made['job_id']}/events", headers=STREAM)))
    worker.join()
    listed = member("GET", f"/jobs/{made['job_id']}/events").get_json()
    assert [data for name, _, data in events if name == "step"] == listed
    assert [number for name, number, _ in events if name == "step"] == [str(event["seq"]) for event in listed]
    assert (events[-1][0], events[-1][2]["state"]) == ("end", "succeeded")


def test_a_stream_goes_on_where_it_stopped(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    world.finish(made["job_id"], PROJECT)
    path = f"/jobs/{made['job_id']}/events"
    listed = member("GET", path).get_json()
    again = _parse(_read(member("GET", path, headers={**STREAM, "Last-Event-ID": str(listed[1]["seq"])})))
    assert [data for name, _, data in again if name == "step"] == listed[2:]


def test_a_malformed_last_event_id_is_named(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    path = f"/jobs/{made['job_id']}/events"
    for given in ("x", "-1", "9" * 30, "²"):
        found = problem(member("GET", path, headers={**STREAM, "Last-Event-ID": given}), 422)
        assert found["errors"][0]["field"] == "Last-Event-ID"
    world.finish(made["job_id"], PROJECT)


def test_streams_are_limited_in_number_and_given_back(world: World, member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    path = f"/jobs/{made['job_id']}/events"
    most = max(1, world.container.settings.api.threads // 4)
    open_ones = [member("GET", path, headers=STREAM) for _ in range(most)]
    refused = member("GET", path, headers=STREAM)
    assert problem(refused, 503, "TOO_MANY_STREAMS")["hint"]
    assert "Retry-After" in refused.headers
    assert member("GET", path).status_code == 200  # without a stream there is room
    for response in open_ones:
        response.close()  # as a client that goes away
    world.finish(made["job_id"], PROJECT)
    for _ in range(most + 1):
        assert "event: end" in _read(member("GET", path, headers=STREAM))


def test_asking_for_a_streams_headers_alone_opens_none(member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    for _ in range(5):
        response = member("HEAD", f"/jobs/{made['job_id']}/events", headers=STREAM)
        assert (response.status_code, response.mimetype, response.data) == (200, "text/event-stream", b"")


def test_a_stream_of_an_unknown_job_is_a_404(member: Caller) -> None:
    problem(member("GET", "/jobs/c85dbbc6-6a32-4df0-a34c-1ec0b9b12f2d/events", headers=STREAM), 404)


def test_browsers_and_curl_get_the_list(member: Caller) -> None:
    made = member("POST", "/clusters", a_body()).get_json()
    for accept in ("*/*", "text/html,application/xhtml+xml,*/*;q=0.8", "application/json"):
        assert member("GET", f"/jobs/{made['job_id']}/events", headers={"Accept": accept}).mimetype == "application/json"
