"""Matches and placements, from the request to what is held."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.api.harness import Caller, World, a_body, problem, problemless
from tests.builders import OTHER_PROJECT, PROJECT

TRAINING = {
    "type": "ml_training",
    "gpu_required": True,
    "gpu_count": 4,
    "cpu_cores": 32,
    "memory_gb": 128,
    "power_budget": 2000,
}
NOW = {"Prefer": "wait=10"}


@pytest.fixture
def cluster(world: World, member: Caller) -> dict[str, Any]:
    """Two nodes, each with four GPUs, 32 cores and 128 GiB."""
    return a_cluster(world, member, "training", node_count=2)


def a_cluster(world: World, member: Caller, name: str, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = problemless(member("POST", "/clusters", a_body(name, **changes)))
    assert world.complete(made["job_id"], PROJECT)["state"] == "succeeded"
    return made


def match(member: Caller, body: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = problemless(member("POST", "/match/workload", (body or TRAINING) | changes, headers=NOW))
    return found


def codes(answer: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = answer["rejections"]
    return found


def test_the_example_of_the_first_description_finds_the_cluster_with_room(member: Caller, cluster: dict[str, Any]) -> None:
    answer = match(member)
    assert answer["action"] == "use_existing"
    assert (answer["cluster"]["id"], answer["cluster"]["name"]) == (cluster["id"], "training")
    assert answer["cluster"]["available_resources"] == {"cpu_cores": 64.0, "memory_gb": 256.0, "accelerators": 8.0}
    assert answer["alternatives"] == [], "the same cluster, grown, is no other one"
    best = answer["candidates"][0]
    assert (best["nodes"], best["accelerator"], best["added_cost_per_hour"]) == (1, "nvidia-a100", 0.0)
    assert best["watts"] == pytest.approx(4 * (400 - 60) + 32 * 15 * 0.5)  # what the devices and cores add to idle ones
    assert best["wait_seconds"]["p50"] == 0
    assert {one["way"] for one in answer["candidates"]} == {"use_existing", "scale_existing", "create_new"}
    assert answer["placements"] == []


def test_the_same_question_has_the_same_answer(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    answers = [match(member) for _ in range(3)]
    for answer in answers:
        del answer["match_id"], answer["timestamp"]
    assert answers[0] == answers[1] == answers[2]


def test_a_match_is_a_job_like_the_others(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    response = member("POST", "/match/workload", TRAINING)
    assert response.status_code == 202
    job_id = response.get_json()["job_id"]
    assert response.headers["Operation-Location"] == f"/jobs/{job_id}"
    assert member("GET", f"/jobs/{job_id}").get_json()["state"] == "queued"
    job = world.complete(job_id, PROJECT)
    assert (job["state"], job["kind"], job["cluster_id"]) == ("succeeded", "match", None)
    assert job["result"]["cluster"]["id"] == cluster["id"]
    at_once = match(member)
    assert member("GET", f"/jobs/{at_once['match_id']}").get_json()["result"]["action"] == "use_existing"
    assert [one["kind"] for one in member("GET", "/jobs?kind=match").get_json()] == ["match", "match"]


def test_without_any_cluster_one_is_recommended(member: Caller) -> None:
    answer = match(member)
    assert answer["action"] == "create_new"
    assert answer["cluster"] is None
    assert answer["recommended_template"]["flavor"] == "gpu.a100.large"
    assert answer["estimated_cost"] == answer["recommended_template"]["estimated_cost_per_hour"] > 0
    assert answer["estimated_creation_time"] > 0
    assert codes(answer)["NO_SUCH_NODE"] >= 1  # the types without such GPUs


def test_a_pod_must_fit_on_one_node(world: World, member: Caller) -> None:
    a_cluster(world, member, "training", node_count=4)
    answer = match(member, gpu_count=8, cpu_cores=8, memory_gb=8, power_budget=9000)  # 16 GPUs in all, four on each node
    assert answer["action"] is None
    assert codes(answer)["NO_SUCH_NODE"] >= 1
    assert "4 GPU" in str(answer["rejected"]) or "holds" in str(answer["rejected"])


def test_watts_and_money_are_hard_ceilings(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    cold = match(member, power_budget=1500)
    assert cold["action"] is None
    assert codes(cold)["POWER_CEILING"] >= 1
    assert any("1500" in one["detail"] for one in cold["rejected"])
    poor = match(member, max_cost_per_hour=0.5)
    assert poor["action"] is None
    assert codes(poor)["COST_CEILING"] >= 1


def test_a_deadline_leaves_out_what_comes_too_late(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    now = world.container.clock.now()
    soon = now.replace(microsecond=0).isoformat()
    problem(member("POST", "/match/workload", TRAINING | {"deadline": soon}, headers=NOW), 422)
    in_a_minute = now.replace(year=now.year + 1).isoformat()
    answer = match(member, deadline=in_a_minute, duration_seconds=366 * 86_400)
    assert answer["action"] is None
    assert codes(answer)["DEADLINE"] >= 1
    assert match(member, deadline=in_a_minute, duration_seconds=60)["cluster"]["id"] == cluster["id"]


def test_two_matches_never_take_the_same_gpu(member: Caller, cluster: dict[str, Any]) -> None:
    first, second = match(member, place=True), match(member, place=True)
    taken = [(one["node"], tuple(one["devices"])) for answer in (first, second) for one in answer["placements"]]
    assert sorted(taken) == [(0, (0, 1, 2, 3)), (1, (0, 1, 2, 3))]
    full = match(member)
    assert full["action"] != "use_existing"
    assert codes(full)["NO_ROOM"] == 1
    held = member("GET", "/placements?active=true").get_json()
    assert {one["cluster_id"] for one in held} == {cluster["id"]}
    available = member("GET", "/clusters/available").get_json()
    assert available["total_count"] == 1
    assert (available["clusters"][0]["available_gpu"], available["clusters"][0]["placements"]) == (0, 2)
    assert available["clusters"][0]["utilization"] == 1


def test_what_is_ended_is_free_again(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    first = match(member, place=True)
    match(member, place=True)
    placement = first["placements"][0]["id"]
    ended = problemless(member("DELETE", f"/placements/{placement}"))
    assert ended["end_reason"] == "RELEASED"
    assert problemless(member("DELETE", f"/placements/{placement}"))["ended_at"] == ended["ended_at"]
    assert match(member, place=True)["action"] == "use_existing"
    body = problem(member("PUT", f"/placements/{placement}", {"lease_seconds": 60}), 409, "PLACEMENT_ENDED")
    assert "ended" in body["detail"]


def test_a_lease_that_has_run_out_holds_nothing(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    for _ in range(2):
        match(member, place=True, lease_seconds=600)
    assert match(member)["action"] != "use_existing"
    with world.container.database.engine.begin() as connection:
        connection.execute(text("UPDATE placements SET expires_at = now() + interval '0.2 s' WHERE node = 1"))
    assert match(member)["action"] != "use_existing"  # it is still held
    with world.container.database.engine.begin() as connection:
        connection.execute(text("SELECT pg_sleep(0.3)"))
    assert match(member, place=True)["action"] == "use_existing"
    assert world.container.placements.sweep() == 1
    held = member("GET", "/placements").get_json()
    assert sorted(str(one["end_reason"]) for one in held) == ["EXPIRED", "None", "None"]


def test_a_lease_is_extended_from_now_on(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    placement = match(member, place=True, lease_seconds=60)["placements"][0]["id"]
    before = member("GET", f"/placements/{placement}").get_json()["expires_at"]
    after = problemless(member("PUT", f"/placements/{placement}", {"lease_seconds": 6000}))["expires_at"]
    assert after > before


def test_shares_lie_together_on_one_gpu(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    small = {"cpu_cores": 1, "memory_gb": 1, "accelerator": {"share": 0.5, "kind": "gpu"}, "place": True}
    seats = [match(member, small)["placements"][0] for _ in range(3)]
    assert [(one["node"], one["devices"]) for one in seats] == [(0, [0]), (0, [0]), (0, [1])]


def test_replicas_come_together_or_not_at_all(member: Caller, cluster: dict[str, Any]) -> None:
    body = {"cpu_cores": 8, "memory_gb": 16, "accelerator": {"count": 1}, "replicas": 8, "place": True}
    answer = match(member, body)
    assert answer["action"] == "use_existing"
    assert len({(one["node"], one["devices"][0]) for one in answer["placements"]}) == 8
    assert answer["cluster"]["id"] == cluster["id"]
    assert match(member, body | {"place": False})["action"] != "use_existing"


def test_nothing_shares_with_what_wants_to_be_alone(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    alone = {"cpu_cores": 1, "memory_gb": 1, "isolation": "node", "place": True}
    first = match(member, alone)["placements"][0]["node"]
    shared = {"cpu_cores": 1, "memory_gb": 1, "place": True}
    others = {match(member, shared)["placements"][0]["node"] for _ in range(3)}
    assert others == {1 - first}
    assert match(member, alone | {"place": False})["action"] != "use_existing"
    assert codes(match(member, shared | {"isolation": "cluster", "place": False}))["NOT_EMPTY"] == 1


def test_preferred_clusters_come_first_and_forbidden_ones_never(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    other = a_cluster(world, member, "second", node_count=1)
    assert match(member, preferred_clusters=["second"])["cluster"]["id"] == other["id"]
    assert match(member, preferred_clusters=[cluster["id"]])["cluster"]["id"] == cluster["id"]
    answer = match(member, forbidden_clusters=["second", "training"])
    assert answer["action"] == "create_new"
    assert codes(answer)["FORBIDDEN"] == 2
    assert match(member, labels={"workload_type": "inference"})["action"] != "use_existing"


def test_a_lack_of_nodes_is_mended_and_the_new_ones_are_held(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    for _ in range(2):
        match(member, place=True)
    response = member("POST", "/match/workload", TRAINING | {"place": True})
    job = world.complete(response.get_json()["job_id"], PROJECT)
    assert job["state"] == "succeeded", job
    result = job["result"]
    assert (result["action"], result["cluster"]["id"]) == ("scale_existing", cluster["id"])
    assert [(one["node"], one["devices"]) for one in result["placements"]] == [(2, [0, 1, 2, 3])]
    assert match(member)["action"] != "use_existing"  # the new node is promised to somebody, and not there yet
    assert world.complete(result["job_id"], PROJECT)["state"] == "succeeded"
    assert member("GET", f"/clusters/{cluster['id']}").get_json()["node_count"] == 3
    assert match(member)["action"] != "use_existing"  # it is there, and held
    assert "decided" not in member("GET", f"/jobs/{response.get_json()['job_id']}").get_json()["params"]


def test_who_comes_while_a_cluster_is_made_shares_it(world: World, member: Caller) -> None:
    small = {"type": "ml_training", "gpu_required": True, "gpu_count": 1, "cpu_cores": 8, "memory_gb": 32, "place": True}
    jobs = []
    for _ in range(4):
        jobs.append(member("POST", "/match/workload", small).get_json()["job_id"])
        world.run(jobs[-1])
    results = [member("GET", f"/jobs/{job}").get_json()["result"] for job in jobs]
    [made] = member("GET", "/clusters").get_json()
    assert [one["action"] for one in results] == ["create_new", "use_existing", "use_existing", "use_existing"]
    assert {one["cluster"]["id"] for one in results[1:]} == {made["id"]}
    assert all(one["candidates"][0]["wait_seconds"]["p50"] > 0 for one in results)
    assert "on their way" in results[1]["candidates"][0]["reasons"][0]
    held = [one for result in results for one in result["placements"]]
    assert sorted(device for one in held for device in one["devices"]) == [0, 1, 2, 3]
    # Its only node is full: the fifth waits for another one of the same cluster, behind its creation.
    fifth = problemless(member("POST", "/match/workload", small | {"place": False}, headers=NOW))
    assert {one["way"] for one in fifth["candidates"]} == {"scale_existing", "create_new"}
    grow = next(one for one in fifth["candidates"] if one["way"] == "scale_existing")
    assert (grow["target_nodes"], grow["cluster_id"]) == (2, made["id"])
    assert grow["wait_seconds"]["p50"] > results[1]["candidates"][0]["wait_seconds"]["p50"]
    assert world.complete(results[0]["job_id"], PROJECT)["state"] == "succeeded"
    there = problemless(member("GET", "/clusters/available"))["clusters"][0]
    assert (there["placements"], there["displaced"]) == (4, 0)


def test_a_cluster_that_grows_goes_on_taking_work_on_the_nodes_that_it_has(
    world: World, member: Caller, cluster: dict[str, Any]
) -> None:
    grown = problemless(member("PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 3}))
    for number in range(3):
        answer = match(member, place=True)
        assert (answer["action"], answer["cluster"]["id"]) == ("use_existing", cluster["id"])
        assert (answer["candidates"][0]["wait_seconds"]["p50"] > 0) == (number == 2)
    assert match(member)["action"] != "use_existing"
    assert world.complete(grown["job_id"], PROJECT)["state"] == "succeeded"
    # One that shrinks does not: which of its nodes go is not known.
    member("PUT", f"/clusters/{cluster['id']}/scale", {"node_count": 2})
    assert codes(match(member, gpu_count=1, cpu_cores=1, memory_gb=1))["CHANGING"] == 1


def requeue(world: World, job_id: str) -> None:
    """As the relay does when a worker's lease runs out."""
    with world.container.database.engine.begin() as connection:
        words = "state = 'queued', lease_token = NULL, lease_owner = NULL, lease_expires_at = NULL, due_at = now()"
        connection.execute(text(f"UPDATE jobs SET {words} WHERE id = :id"), {"id": job_id})  # noqa: S608 - fixed words


def test_a_match_that_a_worker_repeats_grows_the_cluster_once(
    world: World, member: Caller, cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        match(member, place=True)
    job_id = member("POST", "/match/workload", TRAINING | {"place": True}).get_json()["job_id"]
    service = world.container.matching
    begin, calls = service._begin, []

    def killed(*args: Any) -> Any:
        calls.append(begin(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "_begin", killed)
    with pytest.raises(KeyboardInterrupt):
        world.run(job_id)
    monkeypatch.setattr(service, "_begin", begin)
    requeue(world, job_id)
    world.run(job_id)
    result = member("GET", f"/jobs/{job_id}").get_json()["result"]
    assert result["job_id"] == str(calls[0].job.id)
    assert [one["kind"] for one in member("GET", f"/jobs?cluster_id={cluster['id']}").get_json()] == ["resize", "create"]
    assert len(member("GET", "/placements?active=true").get_json()) == 3


def test_a_hibernated_cluster_is_woken(world: World, member: Caller) -> None:
    cluster = a_cluster(world, member, "training", node_count=1)
    asleep = problemless(member("POST", f"/clusters/{cluster['id']}/hibernate"))
    assert world.complete(asleep["job_id"], PROJECT)["state"] == "succeeded"
    answer = match(member)
    assert (answer["action"], answer["cluster"]["id"]) == ("wake_existing", cluster["id"])
    job = world.complete(member("POST", "/placements", TRAINING).get_json()["job_id"], PROJECT)
    assert job["result"]["action"] == "wake_existing"
    assert world.complete(job["result"]["job_id"], PROJECT)["state"] == "succeeded"
    assert member("GET", f"/clusters/{cluster['id']}").get_json()["phase"] == "Ready"
    free = member("GET", "/clusters/available").get_json()["clusters"][0]
    assert (free["available_gpu"], free["placements"]) == (0, 1)


def test_many_workloads_in_one_call_each_take_what_the_others_left(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    body = {"workloads": [{"name": f"w{n}", "gpu_count": 2, "cpu_cores": 4, "memory_gb": 8} for n in range(6)], "place": True}
    response = member("POST", "/match/workloads", body, headers={"Prefer": "wait=0"})
    assert response.status_code == 202  # two of them need nodes that are not there: that is a worker's
    body["workloads"] = body["workloads"][:4]  # type: ignore[index]
    answer = problemless(member("POST", "/match/workloads", body, headers=NOW))
    taken = {(one["node"], tuple(one["devices"])) for result in answer["results"] for one in result["placements"]}
    assert taken == {(node, devices) for node in (0, 1) for devices in ((0, 1), (2, 3))}


def test_workloads_of_one_call_share_what_is_made_for_them(world: World, member: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"type": "ml_training", "gpu_required": True, "gpu_count": 2, "cpu_cores": 8, "memory_gb": 32}
    impossible = small | {"name": "too large", "gpu_count": 64}
    works = [small | {"name": f"w{number}"} for number in range(4)]
    body = {"workloads": [*works[:2], impossible, *works[2:]], "place": True}
    job_id = member("POST", "/match/workloads", body).get_json()["job_id"]
    service = world.container.matching
    begin, calls = service._begin, []

    def killed(*args: Any) -> Any:
        calls.append(begin(*args))
        raise KeyboardInterrupt

    # Its worker is killed after each thing that it began, before it could write down that it had.
    for _ in range(2):
        monkeypatch.setattr(service, "_begin", killed)
        with pytest.raises(KeyboardInterrupt):
            world.run(job_id)
        monkeypatch.setattr(service, "_begin", begin)
        requeue(world, job_id)
    world.run(job_id)
    job = member("GET", f"/jobs/{job_id}").get_json()
    assert job["state"] == "succeeded", job
    results = job["result"]["results"]
    assert [one["workload"] for one in results] == ["w0", "w1", "too large", "w2", "w3"]
    assert [one["action"] for one in results] == ["create_new", "use_existing", None, "scale_existing", "use_existing"]
    [made] = member("GET", "/clusters").get_json()
    assert {one["cluster"]["id"] for one in results if one["cluster"]} == {made["id"]}
    held = member("GET", "/placements?active=true").get_json()
    assert len(held) == 4
    assert {(one["node"], device) for one in held for device in one["devices"]} == {(n, d) for n in (0, 1) for d in range(4)}
    jobs = [results[0]["job_id"], results[3]["job_id"]]
    assert [world.complete(one, PROJECT)["state"] for one in jobs] == ["succeeded", "succeeded"]
    assert member("GET", f"/clusters/{made['id']}").get_json()["node_count"] == 2


def test_a_key_repeats_the_answer(member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    headers = NOW | {"Idempotency-Key": "k1"}
    first = member("POST", "/match/workload", TRAINING | {"place": True}, headers=headers)
    again = member("POST", "/match/workload", TRAINING | {"place": True}, headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.get_json()["placements"] == again.get_json()["placements"]
    assert len(member("GET", "/placements").get_json()) == 1
    problem(member("POST", "/match/workload", TRAINING, headers=headers), 422, "IDEMPOTENCY_KEY_REUSED")


def test_a_match_that_waits_is_cancelled(world: World, member: Caller) -> None:
    job_id = member("POST", "/match/workload", TRAINING).get_json()["job_id"]
    assert problemless(member("DELETE", f"/jobs/{job_id}"))["job"]["state"] == "cancelled"
    world.run(job_id)
    assert member("GET", f"/jobs/{job_id}").get_json()["state"] == "cancelled"


def test_only_to_be_validated(world: World, member: Caller) -> None:
    before = world.counts()
    answer = problemless(member("POST", "/match/workload?validate_only=true", TRAINING))
    assert answer == {"valid": True, "findings": []}
    assert world.counts() == before


def test_another_project_sees_and_changes_nothing(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    del cluster
    placement = match(member, place=True)["placements"][0]["id"]
    stranger = world.caller("admin", OTHER_PROJECT)
    assert stranger("GET", "/placements").get_json() == []
    for method in ("GET", "DELETE"):
        problem(stranger(method, f"/placements/{placement}"), 404, "PLACEMENT_NOT_FOUND")
    assert stranger("GET", "/clusters/available").get_json()["clusters"] == []
    assert match(stranger)["action"] != "use_existing"


@pytest.mark.parametrize(
    "body,field,rule",
    [
        ({}, "cpu_cores", "something"),
        ({"cpu_cores": -1}, "cpu_cores", "range"),
        ({"cpu_cores": "4"}, "cpu_cores", "number"),
        ({"cpu_cores": True}, "cpu_cores", "number"),
        ({"memory_gb": 1e12}, "memory_gb", "range"),
        ({"replicas": 0, "cpu_cores": 1}, "replicas", "range"),
        ({"gpu_required": False, "gpu_count": 2}, "gpu_count", "conflict"),
        ({"gpu_required": True, "gpu_count": 0, "cpu_cores": 1}, "gpu_count", "conflict"),
        ({"gpu_count": 1, "accelerator": {"count": 1}}, "gpu_count", "conflict"),
        ({"accelerator": {"count": 2, "share": 0.5}}, "accelerator.share", "conflict"),
        ({"accelerator": {"share": 0}}, "accelerator.share", "range"),
        ({"accelerator": {"colour": "blue"}}, "accelerator.colour", "unknown"),
        ({"accelerator": {"models": ["h1000"]}}, "accelerator.models.0", "exists"),
        ({"accelerator": {"models": ["rngd"], "kind": "gpu"}}, "accelerator.models.0", "kind"),
        ({"accelerator": []}, "accelerator", "object"),
        ({"cpu_cores": 1, "type": "mining"}, "type", "choice"),
        ({"cpu_cores": 1, "deadline": "tomorrow"}, "deadline", "date_time"),
        ({"cpu_cores": 1, "deadline": "2026-01-01T00:00:00"}, "deadline", "date_time"),
        ({"cpu_cores": 1, "preferred_clusters": ["a"], "forbidden_clusters": ["a"]}, "forbidden_clusters", "conflict"),
        ({"cpu_cores": 1, "lease_seconds": 60}, "lease_seconds", "conflict"),
        ({"cpu_cores": 1, "place": True, "lease_seconds": 31_000_000}, "lease_seconds", "range"),
        ({"cpu_cores": 1, "priority": "urgent"}, "priority", "choice"),
    ],
)
def test_what_is_wrong_is_named(world: World, member: Caller, body: dict[str, Any], field: str, rule: str) -> None:
    before = world.counts()
    answer = problem(member("POST", "/match/workload", body, headers=NOW), 422)
    assert (field, rule) in {(one["field"], one["rule"]) for one in answer["errors"]}
    assert world.counts() == before


def test_findings_of_many_name_the_workload(member: Caller) -> None:
    body = {"workloads": [{"cpu_cores": 1}, {"cpu_cores": -1}, {"memory_gb": 0}]}
    answer = problem(member("POST", "/match/workloads", body), 422)
    assert [one["field"] for one in answer["errors"]] == ["workloads.1.cpu_cores"]
    answer = problem(member("POST", "/match/workloads", {"workloads": [{"cpu_cores": 1}, {"memory_gb": 0}]}), 422)
    assert [one["field"] for one in answer["errors"]] == ["workloads.1.cpu_cores"]


def test_unknown_keys_of_which_one_begins_another_are_told_apart(member: Caller) -> None:
    told = problem(member("POST", "/match/workloads", {"workloads": [{"cpu_cores": 1, "a": 1, "a.b": 2, "a.b.c": 3}]}), 422)
    assert {error["field"] for error in told["errors"]} == {"workloads.0.a", "workloads.0.a.b", "workloads.0.a.b.c"}


def test_accelerators_and_flavors_are_shown(member: Caller) -> None:
    rows = {one["id"]: one for one in member("GET", "/accelerators").get_json()}
    assert rows["furiosa-rngd"]["max_w"] == 180
    assert rows["nvidia-a100-3g.40gb"]["slice_of"] == "nvidia-a100"
    flavors = {one["flavor"]: one for one in member("GET", "/flavors").get_json()}
    assert (flavors["gpu.a100.large"]["accelerator"], flavors["gpu.a100.large"]["accelerator_count"]) == ("nvidia-a100", 4)
    assert flavors["gpu.a100.large"]["read_from"] == "pci_passthrough:alias"
    assert flavors["cpu.large"]["accelerator"] is None


def test_what_is_held_remembers_which_accelerators_will_do(world: World, member: Caller, cluster: dict[str, Any]) -> None:
    """By kind, by memory: wherever it is moved to later, that still holds."""
    for wish in ({"kind": "gpu"}, {"memory_gb": 60}):
        held = match(member, {"cpu_cores": 1, "accelerator": wish}, place=True)
        (one,) = held["placements"]
        with world.container.database.engine.connect() as connection:
            models = connection.execute(text("SELECT models FROM placements WHERE id = :id"), {"id": one["id"]}).scalar_one()
        assert "nvidia-a100" in models
        assert "furiosa-rngd" not in models, "an NPU, and of 48 GB"
    assert cluster["id"]
