"""Jobs from promise to end: the real services on a real PostgreSQL, with the cloud misbehaving one way at a time."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from shared.domain.clusters import Phase
from shared.domain.jobs import Job, JobState
from shared.domain.ports import Accepted
from shared.errors import AlreadyExists, Conflict, Forbidden, InvalidRequest, NotFound
from tests.builders import KEYPAIR, OTHER_PROJECT, PROJECT, TEMPLATE_ID, TEMPLATE_NAME, an_actor
from tests.fake_cloud import Fault, Trouble
from tests.world import World

ACTOR = an_actor()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World(database_url)
    yield made
    made.close()


def create(world: World, name: str = "training", **fields: Any) -> Accepted:
    wanted = {"name": name, "cluster_template_id": TEMPLATE_NAME, "node_count": 1, **fields}
    accepted = world.clusters.request_create(ACTOR, wanted)
    assert accepted is not None
    return accepted


def resize(world: World, cluster: object, count: int) -> Accepted:
    accepted = world.clusters.request_resize(ACTOR, str(cluster), {"node_count": count})
    assert accepted is not None
    return accepted


def delete(world: World, cluster: object) -> Accepted:
    accepted = world.clusters.request_delete(ACTOR, str(cluster))
    assert accepted is not None
    return accepted


def ready(world: World, **fields: Any) -> Accepted:
    accepted = create(world, **fields)
    world.run_until_quiet()
    assert world.job(accepted.job.id).state is JobState.SUCCEEDED
    return accepted


def ended(world: World, accepted: Accepted) -> Job:
    world.run_until_quiet()
    return world.job(accepted.job.id)


# -- create -----------------------------------------------------------------------------------------------------------------


def test_create_goes_all_the_way(world: World) -> None:
    accepted = create(world, labels={"team": "ml"})
    assert accepted.cluster.phase is Phase.PENDING
    job = ended(world, accepted)
    assert job.state is JobState.SUCCEEDED
    assert job.result is not None
    assert job.result["node_count"] == 1
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.phase, cluster.status, cluster.observed_node_count) == (Phase.READY, "CREATE_COMPLETE", 1)
    assert cluster.observed_generation == cluster.generation
    [made] = world.cloud.made
    assert made.labels["team"] == "ml"
    assert made.labels["kcloud_job_id"] == str(job.id)
    assert made.keypair == KEYPAIR
    assert made.template.uuid == TEMPLATE_ID
    assert world.steps(job.id)[:3] == ["accepted", "claimed", "submitted"]
    assert world.steps(job.id)[-1] == "succeeded"
    assert world.announcer.ended == [(job.id, JobState.SUCCEEDED)]
    assert world.clusters.get(ACTOR, made.uuid).id == cluster.id  # Magnum's uuid works too


@pytest.mark.parametrize("trouble", [trouble for trouble in Trouble if trouble is not Trouble.DROPPED])
@pytest.mark.parametrize("operation", ["find", "create", "get", "page"])
def test_create_survives_one_trouble_with_one_cluster(world: World, operation: str, trouble: Trouble) -> None:
    world.cloud.faults = [Fault(operation, trouble)]
    job = ended(world, create(world))
    assert job.state is JobState.SUCCEEDED
    assert len(world.cloud.made) == len(world.cloud.clusters) == 1


def test_lost_answer_is_found_again_and_adopted(world: World) -> None:
    world.cloud.faults = [Fault("create", Trouble.LOST_EXECUTED)]
    job = ended(world, create(world))
    assert "adopted" in world.steps(job.id)
    assert len(world.cloud.made) == 1


def test_lost_create_is_not_repeated_while_a_slow_conductor_may_still_make_it(world: World) -> None:
    world.cloud.lag_s = world.settings.lost_answer_grace_s - 5
    world.cloud.faults = [Fault("create", Trouble.LOST_EXECUTED)]
    assert ended(world, create(world)).state is JobState.SUCCEEDED
    assert len(world.cloud.made) == 1


def test_create_whose_answer_is_always_lost_ends(world: World) -> None:
    # A Magnum that answers each create with 500 must not keep a job for ever.
    world.cloud.faults = [Fault("create", Trouble.UNAVAILABLE) for _ in range(1000)]
    accepted = create(world)
    job = ended(world, accepted)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["reason"] == "CLOUD_UNAVAILABLE"
    assert "Service Unavailable" in job.error["detail"]
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).live is False
    world.cloud.faults.clear()
    create(world)  # the name is free


@pytest.mark.parametrize("operation", ["resize", "delete"])
def test_change_whose_answer_is_always_lost_ends(world: World, operation: str) -> None:
    accepted = ready(world)
    world.cloud.faults = [Fault(operation, Trouble.UNAVAILABLE) for _ in range(1000)]
    call: Callable[[], Accepted] = {
        "resize": lambda: resize(world, accepted.cluster.id, 3),
        "delete": lambda: delete(world, accepted.cluster.id),
    }[operation]
    job = ended(world, call())
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["reason"] == "CLOUD_UNAVAILABLE"


def test_refused_create_fails_with_magnums_words_and_frees_the_name(world: World) -> None:
    world.cloud.quotas[PROJECT] = 0
    accepted = create(world)
    job = ended(world, accepted)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["reason"] == "QUOTA_EXCEEDED"
    assert job.error["upstream_status"] == 403
    assert job.error["upstream_request_id"].startswith("req-")
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.phase, cluster.reason, cluster.live) == (Phase.FAILED, "QUOTA_EXCEEDED", False)
    world.cloud.quotas.clear()
    assert ended(world, create(world)).state is JobState.SUCCEEDED


def test_failed_create_keeps_its_row_and_can_be_deleted(world: World) -> None:
    accepted = create(world, labels={"rig_fail": "create"})
    job = ended(world, accepted)
    assert job.error is not None
    assert job.error["reason"] == "NO_VALID_HOST"
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.phase, cluster.status) == (Phase.FAILED, "CREATE_FAILED")
    with pytest.raises(Conflict) as caught:
        resize(world, accepted.cluster.id, 3)
    assert caught.value.reason == "CREATE_FAILED"
    assert ended(world, delete(world, accepted.cluster.id)).state is JobState.SUCCEEDED
    assert not world.cloud.clusters


def test_create_that_never_appears_ends_by_its_deadline(world: World) -> None:
    world.cloud.faults = [Fault("create", Trouble.DROPPED)]
    accepted = create(world)
    job = ended(world, accepted)
    assert job.error is not None
    assert job.error["reason"] == "STALLED"
    assert "not visible in Magnum" in job.error["detail"]
    assert ended(world, delete(world, accepted.cluster.id)).state is JobState.SUCCEEDED


def test_conductor_that_comes_back_late_makes_one_cluster(world: World) -> None:
    world.cloud.conductor_up = False
    accepted = create(world)
    for _ in range(100):
        world.round(10.0)
    assert world.job(accepted.job.id).state is JobState.CONVERGING
    world.cloud.start_conductor()
    assert ended(world, accepted).state is JobState.SUCCEEDED
    assert len(world.cloud.made) == 1


def test_create_that_stalls_says_so_and_ends_by_its_deadline(world: World) -> None:
    accepted = create(world, labels={"rig_create_seconds": "1000000"})
    for _ in range(100):
        world.round(10.0)
    status = world.clusters.status(ACTOR, str(accepted.cluster.id))
    assert (status["condition"], status["reason"]) == ("stalled", "STALLED")
    job = ended(world, accepted)
    assert job.error is not None
    assert job.error["reason"] == "STALLED"


def test_vanished_while_it_was_made(world: World) -> None:
    accepted = create(world, labels={"rig_create_seconds": "600"})
    for _ in range(20):
        world.round()
    world.cloud.vanish(world.cloud.made[0].uuid)
    job = ended(world, accepted)
    assert job.error is not None
    assert job.error["reason"] == "CLUSTER_GONE"
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.phase, cluster.gone, cluster.live) == (Phase.FAILED, True, False)


# -- leases -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Trouble.KILLED_BEFORE, Trouble.KILLED_AFTER])
def test_killed_worker_costs_its_lease_and_no_second_cluster(world: World, trouble: Trouble) -> None:
    world.cloud.faults = [Fault("create", trouble)]
    accepted = create(world)
    world.round()
    assert world.job(accepted.job.id).state is JobState.RUNNING
    job = ended(world, accepted)
    assert (job.state, job.crashes) == (JobState.SUCCEEDED, 1)
    assert len(world.cloud.made) == 1


def test_stale_worker_writes_nothing_and_its_twin_is_removed(world: World) -> None:
    accepted = create(world)

    def meanwhile() -> None:  # the first worker hangs before its call, beyond its lease; a second one does the work
        world.clock.advance(world.settings.lease_ttl_s + 1)
        world.relay.dispatch()
        world.clock.advance(world.settings.lost_answer_grace_s + 1)
        second.run(accepted.job.id)

    second = world.a_runner("worker-2")
    world.cloud.faults = [Fault("create", None, meanwhile)]
    world.relay.dispatch()
    assert world.runner.run(accepted.job.id) is None  # it lost its lease, and knows it
    held = world.clusters.get(ACTOR, str(accepted.cluster.id)).magnum_uuid
    job = ended(world, accepted)
    assert job.state is JobState.SUCCEEDED
    assert len(world.cloud.made) == 2
    world.inventory_now()
    world.run_until_quiet()
    assert list(world.cloud.clusters) == [held]
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).magnum_uuid == held


def test_twins_of_one_name_are_not_left_behind(world: World) -> None:
    # Both workers' creates are executed and neither is written down: Magnum then refuses to find the name.
    accepted = create(world)

    def meanwhile() -> None:
        world.clock.advance(world.settings.lease_ttl_s + 1)
        world.relay.dispatch()
        world.clock.advance(world.settings.lost_answer_grace_s + 1)
        world.cloud.faults.insert(0, Fault("create", Trouble.KILLED_AFTER))
        world.work(accepted.job.id)

    world.cloud.faults = [Fault("create", Trouble.KILLED_AFTER, meanwhile)]
    world.relay.dispatch()
    world.work(accepted.job.id)
    world.cloud.advance()
    job = ended(world, accepted)
    world.clock.advance(5)
    world.cloud.advance()
    assert len(world.cloud.made) == 2
    assert job.state is JobState.SUCCEEDED
    for _ in range(3):
        world.inventory_now()
        world.run_until_quiet()
    assert len(world.cloud.clusters) == 1


def test_twins_of_one_name_are_deleted_by_a_delete(world: World) -> None:
    accepted = create(world)

    def meanwhile() -> None:
        world.clock.advance(world.settings.lease_ttl_s + 1)
        world.relay.dispatch()
        world.clock.advance(world.settings.lost_answer_grace_s + 1)
        world.cloud.faults.insert(0, Fault("create", Trouble.KILLED_AFTER))
        world.work(accepted.job.id)

    world.cloud.faults = [Fault("create", Trouble.KILLED_AFTER, meanwhile)]
    world.relay.dispatch()
    world.work(accepted.job.id)
    removal = delete(world, accepted.cluster.id)
    assert ended(world, removal).state is JobState.SUCCEEDED
    for _ in range(3):
        world.inventory_now()
        world.run_until_quiet()
    assert not world.cloud.clusters


def test_job_that_kills_its_workers_is_given_up(database_url: str) -> None:
    world = World(database_url, max_crashes=3)
    world.cloud.faults = [Fault("find", Trouble.KILLED_BEFORE) for _ in range(10)]
    accepted = create(world)
    job = ended(world, accepted)
    world.close()
    assert (job.state, job.crashes) == (JobState.FAILED, 3)
    assert job.error is not None
    assert job.error["reason"] == "POISON_JOB"
    assert world.announcer.ended == [(job.id, JobState.FAILED)]


# -- resize -------------------------------------------------------------------------------------------------------------------


def test_resize_goes_all_the_way(world: World) -> None:
    accepted = ready(world)
    job = ended(world, resize(world, accepted.cluster.id, 4))
    assert job.state is JobState.SUCCEEDED
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.phase, cluster.node_count, cluster.observed_node_count) == (Phase.READY, 4, 4)


@pytest.mark.parametrize("trouble", list(Trouble))
@pytest.mark.parametrize("operation", ["resize", "get", "node_groups"])
def test_resize_survives_one_trouble(world: World, operation: str, trouble: Trouble) -> None:
    accepted = ready(world)
    world.cloud.faults = [Fault(operation, trouble)]
    job = ended(world, resize(world, accepted.cluster.id, 4))
    assert job.state is JobState.SUCCEEDED
    [cluster] = world.cloud.clusters.values()
    assert cluster.groups == {"default-worker": 4}


def test_dropped_resize_is_sent_again(world: World) -> None:
    accepted = ready(world)
    world.cloud.faults = [Fault("resize", Trouble.DROPPED), Fault("resize", Trouble.DROPPED)]
    job = ended(world, resize(world, accepted.cluster.id, 4))
    assert (job.state, job.resubmits) == (JobState.SUCCEEDED, 2)


def test_resize_that_magnum_always_drops_ends(world: World) -> None:
    accepted = ready(world)
    world.cloud.faults = [Fault("resize", Trouble.DROPPED) for _ in range(20)]
    job = ended(world, resize(world, accepted.cluster.id, 4))
    assert job.error is not None
    assert job.error["reason"] == "NOT_EXECUTED"


def test_failed_resize_keeps_the_cluster_and_can_be_repeated(world: World) -> None:
    accepted = ready(world, labels={"rig_fail": "update", "rig_fail_reason": "No valid host was found"})
    job = ended(world, resize(world, accepted.cluster.id, 4))
    assert job.error is not None
    assert job.error["reason"] == "NO_VALID_HOST"
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.phase, cluster.live) == (Phase.FAILED, True)
    world.cloud.clusters[cluster.magnum_uuid or ""].labels.pop("rig_fail")
    assert ended(world, resize(world, accepted.cluster.id, 5)).state is JobState.SUCCEEDED


def test_resize_counts_the_nodes_of_other_groups(world: World) -> None:
    accepted = ready(world)
    [cluster] = world.cloud.clusters.values()
    cluster.groups["gpu"] = 2
    job = ended(world, resize(world, accepted.cluster.id, 4))
    assert job.state is JobState.SUCCEEDED
    assert cluster.groups == {"default-worker": 4, "gpu": 2}
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).observed_node_count == 6


def test_resize_to_what_is_there_ends_at_once(world: World) -> None:
    accepted = ready(world)
    job = ended(world, resize(world, accepted.cluster.id, 1))
    assert job.result == {"node_count": 1, "changed": False}
    assert "resize" not in world.cloud.calls


def test_resizes_queue_up_behind_the_create(world: World) -> None:
    accepted = create(world)
    first, second = resize(world, accepted.cluster.id, 3), resize(world, accepted.cluster.id, 5)
    assert world.job(second.job.id).blocked_by == accepted.job.id
    world.run_until_quiet()
    jobs = [world.job(each.job.id) for each in (accepted, first, second)]
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 3
    for before, after in pairwise(jobs):
        assert before.finished_at is not None
        assert after.started_at is not None
        assert before.finished_at <= after.started_at
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).observed_node_count == 5


# -- delete ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", list(Trouble))
@pytest.mark.parametrize("operation", ["delete", "get"])
def test_delete_survives_one_trouble(world: World, operation: str, trouble: Trouble) -> None:
    accepted = ready(world)
    world.cloud.faults = [Fault(operation, trouble)]
    job = ended(world, delete(world, accepted.cluster.id))
    assert job.state is JobState.SUCCEEDED
    assert not world.cloud.clusters
    with pytest.raises(NotFound):
        world.clusters.get(ACTOR, str(accepted.cluster.id))
    create(world)  # the name is free


def test_delete_overtakes_a_create_that_waits(world: World) -> None:
    accepted = create(world)
    removal = delete(world, accepted.cluster.id)
    assert world.job(accepted.job.id).state is JobState.CANCELLED
    assert ended(world, removal).state is JobState.SUCCEEDED
    assert not world.cloud.made


def test_delete_overtakes_a_create_under_way(world: World) -> None:
    accepted = create(world, labels={"rig_create_seconds": "600"})
    waiting = resize(world, accepted.cluster.id, 3)
    world.round()
    removal = delete(world, accepted.cluster.id)
    assert world.job(accepted.job.id).state is JobState.CANCELLED
    assert world.job(waiting.job.id).state is JobState.CANCELLED
    assert ended(world, removal).state is JobState.SUCCEEDED
    assert not world.cloud.clusters


def test_delete_during_the_create_call_leaves_nothing(world: World) -> None:
    accepted = create(world)
    removals: list[Accepted] = []
    world.cloud.faults = [Fault("create", None, lambda: removals.append(delete(world, accepted.cluster.id)))]
    world.round()
    assert world.job(accepted.job.id).state is JobState.CANCELLED
    assert ended(world, removals[0]).state is JobState.SUCCEEDED
    assert len(world.cloud.made) == 1
    assert not world.cloud.clusters


def test_delete_of_a_create_whose_answer_was_lost_leaves_nothing(world: World) -> None:
    world.cloud.faults = [Fault("create", Trouble.LOST_EXECUTED)]
    accepted = create(world)
    world.round()
    removal = delete(world, accepted.cluster.id)
    assert ended(world, removal).state is JobState.SUCCEEDED
    assert world.job(accepted.job.id).state is JobState.CANCELLED
    assert not world.cloud.clusters


def test_second_delete_finds_the_first_ones_job(world: World) -> None:
    accepted = ready(world)
    first, second = delete(world, accepted.cluster.id), delete(world, accepted.cluster.id)
    assert (second.job.id, second.replayed) == (first.job.id, True)


def test_failed_delete_can_be_repeated(world: World) -> None:
    accepted = ready(world, labels={"rig_fail": "delete", "rig_fail_reason": "ports still in use on the network"})
    job = ended(world, delete(world, accepted.cluster.id))
    assert job.error is not None
    assert job.error["reason"] == "PORT_IN_USE"
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).phase is Phase.FAILED
    assert ended(world, delete(world, accepted.cluster.id)).state is JobState.SUCCEEDED


def test_resize_of_a_cluster_that_goes_is_refused(world: World) -> None:
    accepted = ready(world)
    delete(world, accepted.cluster.id)
    with pytest.raises(Conflict) as caught:
        resize(world, accepted.cluster.id, 3)
    assert caught.value.reason == "CLUSTER_DELETING"


def test_delete_accepted_by_a_dead_conductor_is_seen_through(world: World) -> None:
    accepted = ready(world)
    world.cloud.conductor_up = False
    removal = delete(world, accepted.cluster.id)
    for _ in range(20):
        world.round(5.0)
    world.cloud.start_conductor()
    assert ended(world, removal).state is JobState.SUCCEEDED
    assert not world.cloud.clusters


def test_create_executed_after_its_delete_is_removed(world: World) -> None:
    world.cloud.conductor_up = False
    accepted = create(world)
    world.round()
    removal = delete(world, accepted.cluster.id)
    assert ended(world, removal).state is JobState.SUCCEEDED
    world.cloud.start_conductor()
    world.clock.advance(10)
    assert len(world.cloud.clusters) == 1
    world.inventory_now()
    world.run_until_quiet()
    assert not world.cloud.clusters


# -- cancel ---------------------------------------------------------------------------------------------------------------------


def test_cancel_before_anything_was_asked(world: World) -> None:
    accepted = create(world)
    cancelled = world.jobs.cancel(ACTOR, accepted.job.id)
    assert cancelled.state is JobState.CANCELLED
    world.run_until_quiet()
    assert not world.cloud.made
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.phase, cluster.live) == (Phase.FAILED, False)
    create(world)
    again = world.jobs.cancel(ACTOR, accepted.job.id)
    assert (again.id, again.state) == (accepted.job.id, JobState.CANCELLED)


def test_cancel_of_a_create_under_way_undoes_it(world: World) -> None:
    accepted = create(world, labels={"rig_create_seconds": "600"})
    world.round()
    world.jobs.cancel(ACTOR, accepted.job.id)
    world.run_until_quiet()
    assert world.job(accepted.job.id).state is JobState.CANCELLED
    assert not world.cloud.clusters


def test_cancel_of_a_waiting_resize_restores_what_was_wanted(world: World) -> None:
    accepted = ready(world)
    first, second = resize(world, accepted.cluster.id, 3), resize(world, accepted.cluster.id, 5)
    world.jobs.cancel(ACTOR, second.job.id)
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).node_count == 3
    world.jobs.cancel(ACTOR, first.job.id)
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.node_count, cluster.phase) == (1, Phase.READY)


@pytest.mark.parametrize("seconds_in", ["submitted", "ended"])
def test_cancel_that_comes_too_late_is_refused(world: World, seconds_in: str) -> None:
    accepted = ready(world)
    change = resize(world, accepted.cluster.id, 3)
    world.round(0.01)
    if seconds_in == "ended":
        world.run_until_quiet()
    with pytest.raises(Conflict) as caught:
        world.jobs.cancel(ACTOR, change.job.id)
    assert caught.value.reason == {"submitted": "NOT_CANCELLABLE", "ended": "JOB_ENDED"}[seconds_in]


def test_delete_can_not_be_cancelled(world: World) -> None:
    accepted = ready(world)
    with pytest.raises(Conflict) as caught:
        world.jobs.cancel(ACTOR, delete(world, accepted.cluster.id).job.id)
    assert caught.value.reason == "NOT_CANCELLABLE"


# -- requests ---------------------------------------------------------------------------------------------------------------------


def test_all_findings_come_at_once(world: World) -> None:
    wanted = {"name": "x", "cluster_template_id": "none", "keypair": "nope", "flavor_id": "big", "master_count": 3}
    with pytest.raises(InvalidRequest) as caught:
        world.clusters.request_create(ACTOR, wanted)
    assert {error.field for error in caught.value.errors} == {"cluster_template_id", "keypair", "flavor_id"}
    with pytest.raises(InvalidRequest) as caught:
        world.clusters.request_create(ACTOR, {**wanted, "cluster_template_id": TEMPLATE_NAME})
    assert {error.field for error in caught.value.errors} == {"keypair", "flavor_id", "master_count"}
    assert not world.rows("SELECT 1 FROM clusters")


def test_validate_only_writes_nothing_and_looks_at_the_name(world: World) -> None:
    wanted = {"name": "x", "cluster_template_id": TEMPLATE_NAME}
    assert world.clusters.request_create(ACTOR, wanted, validate_only=True) is None
    assert not world.rows("SELECT 1 FROM clusters")
    create(world, "x")
    with pytest.raises(AlreadyExists):
        world.clusters.request_create(ACTOR, wanted, validate_only=True)


def test_project_without_a_credential_is_refused_and_told_what_to_grant(world: World) -> None:
    world.cloud.allowed.discard(OTHER_PROJECT)
    with pytest.raises(Forbidden) as caught:
        world.clusters.request_create(an_actor(OTHER_PROJECT), {"name": "x", "cluster_template_id": TEMPLATE_NAME})
    assert caught.value.reason == "NO_CREDENTIAL"
    assert "member" in (caught.value.hint or "")


def test_another_projects_objects_are_not_there(world: World) -> None:
    accepted = ready(world)
    stranger = an_actor(OTHER_PROJECT)
    for call in (
        lambda: world.clusters.get(stranger, str(accepted.cluster.id)),
        lambda: world.clusters.get(stranger, world.cloud.made[0].uuid),
        lambda: world.clusters.status(stranger, str(accepted.cluster.id)),
        lambda: world.clusters.request_resize(stranger, str(accepted.cluster.id), {"node_count": 2}),
        lambda: world.clusters.request_delete(stranger, str(accepted.cluster.id)),
        lambda: world.jobs.get(stranger, accepted.job.id),
        lambda: world.jobs.events(stranger, accepted.job.id),
        lambda: world.jobs.cancel(stranger, accepted.job.id),
    ):
        with pytest.raises(NotFound):
            call()
    # The same name in another project is another cluster.
    other = world.clusters.request_create(stranger, {"name": "training", "cluster_template_id": TEMPLATE_NAME})
    assert other is not None
