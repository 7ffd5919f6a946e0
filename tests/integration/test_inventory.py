"""What happens outside is noticed; what of ours should not be there is removed; nothing is taken for gone on a guess."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from shared.domain.clusters import ClusterSpec, Phase, Scope
from shared.domain.jobs import JobState
from shared.domain.ports import Accepted, ClusterFilter
from tests.builders import KEYPAIR, OTHER_PROJECT, REGION, SCOPE, TEMPLATE_ID, TEMPLATE_NAME, an_actor
from tests.fake_cloud import Fault, Trouble
from tests.world import World

ACTOR = an_actor()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World(database_url)
    with made.database.begin() as uow:
        uow.scopes.ensure(SCOPE)
    yield made
    made.close()


def by_hand(world: World, name: str = "by-hand", *, scope: Scope = SCOPE, labels: dict[str, str] | None = None) -> str:
    uuid = world.cloud.gateway(scope).create(ClusterSpec(name, TEMPLATE_ID, 2, 1, KEYPAIR, labels or {}))
    world.clock.advance(10)
    world.cloud.advance()
    return uuid


def ready(world: World, name: str = "training") -> Accepted:
    accepted = world.clusters.request_create(ACTOR, {"name": name, "cluster_template_id": TEMPLATE_NAME})
    assert accepted is not None
    world.run_until_quiet()
    return accepted


def test_cluster_made_elsewhere_is_shown_and_left_alone(world: World) -> None:
    uuid = by_hand(world)
    by_hand(world)  # Magnum allows a second one of the name
    world.inventory_now(passes=2)
    found = world.clusters.get(ACTOR, uuid)
    assert (found.managed, found.name, found.phase, found.node_count) == (False, "by-hand", Phase.READY, 2)
    assert len(world.clusters.list(ACTOR, ClusterFilter(managed=False), limit=10, marker=None).items) == 2
    assert not world.rows("SELECT 1 FROM jobs")
    assert len(world.rows("SELECT 1 FROM usage_intervals")) == 4
    # It may be changed when somebody asks for it.
    resized = world.clusters.request_resize(ACTOR, uuid, {"node_count": 5})
    assert resized is not None
    world.run_until_quiet()
    assert world.cloud.clusters[uuid].groups == {"default-worker": 5}


def test_cluster_removed_elsewhere_is_gone_after_a_second_look(world: World) -> None:
    accepted, other = ready(world), ready(world, "other")
    uuid = world.clusters.get(ACTOR, str(accepted.cluster.id)).magnum_uuid
    assert uuid is not None
    world.cloud.vanish(uuid)
    world.clock.advance(5)
    world.cloud.calls.clear()
    world.inventory_now()
    assert "get" in world.cloud.calls
    gone = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (gone.gone, gone.live, gone.phase, gone.reason) == (True, False, Phase.FAILED, "CLUSTER_GONE")
    assert world.clusters.get(ACTOR, str(other.cluster.id)).phase is Phase.READY
    open_ones = {row["cluster_id"] for row in world.rows("SELECT cluster_id FROM usage_intervals WHERE ended_at IS NULL")}
    assert open_ones == {other.cluster.id}
    ready(world)  # the name is free
    removal = world.clusters.request_delete(ACTOR, str(gone.id))
    assert removal is not None
    world.run_until_quiet()
    assert world.job(removal.job.id).state is JobState.SUCCEEDED


def test_list_that_misses_a_cluster_does_not_make_it_gone(world: World) -> None:
    accepted = ready(world)
    [held] = world.cloud.clusters.values()
    world.clock.advance(5)
    # The whole list lacks it (a stale replica, say), but a GET still shows it.
    real_page = type(world.cloud.gateway(SCOPE))._page
    world.cloud.clusters[held.uuid] = held
    try:
        type(world.cloud.gateway(SCOPE))._page = lambda *_args, **_kwargs: []  # type: ignore[method-assign]
        world.inventory_now()
    finally:
        type(world.cloud.gateway(SCOPE))._page = real_page  # type: ignore[method-assign]
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).gone is False


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.UNAVAILABLE, Trouble.THROTTLED, Trouble.KILLED_BEFORE])
def test_list_that_breaks_off_never_makes_anything_gone(database_url: str, trouble: Trouble) -> None:
    world = World(database_url, page_size=2)
    for number in range(5):
        ready(world, f"c-{number}")
    victim = next(iter(world.cloud.clusters))
    world.cloud.vanish(victim)
    world.clock.advance(5)
    world.cloud.faults = [Fault("get", None), Fault("page", None), Fault("page", trouble)]  # the second page fails
    world.inventory_now()
    assert not world.rows("SELECT 1 FROM clusters WHERE gone")
    world.cloud.faults.clear()
    world.clock.advance(100)
    world.inventory_now(passes=2)
    assert [row["magnum_uuid"] for row in world.rows("SELECT * FROM clusters WHERE gone")] == [victim]
    world.close()


def test_list_that_magnum_refuses_is_no_answer(world: World) -> None:
    ready(world)
    world.cloud.writing_s = 3600
    by_hand(world)  # a cluster that stays half-written makes every list answer 400
    world.clock.advance(5)
    world.inventory_now()
    assert not world.rows("SELECT 1 FROM clusters WHERE gone OR NOT managed")
    assert world.rows("SELECT last_inventory FROM scopes")[0]["last_inventory"] == {"error": "CLUSTER_BEING_WRITTEN"}


def test_jobs_converge_while_lists_are_refused(world: World) -> None:
    world.cloud.writing_s = 36000
    by_hand(world)
    world.cloud.writing_s = 0.05
    made = [world.clusters.request_create(ACTOR, {"name": f"c-{n}", "cluster_template_id": TEMPLATE_NAME}) for n in range(8)]
    world.run_until_quiet(rounds=80)
    assert {world.job(each.job.id).state for each in made if each} == {JobState.SUCCEEDED}


def test_twin_of_a_cluster_is_removed_with_its_reason(world: World) -> None:
    accepted = ready(world)
    [held] = world.cloud.clusters.values()
    twin = by_hand(world, held.name, labels=held.labels)
    world.inventory_now()
    [job] = world.rows("SELECT * FROM jobs WHERE kind = 'delete'")
    [found] = [row for row in world.rows("SELECT * FROM job_events") if row["step"] == "stray_found"]
    assert found["detail"] == {"magnum_uuid": twin, "of_cluster": str(accepted.cluster.id), "of_job": str(accepted.job.id)}
    world.inventory_now()  # a second look asks for nothing new
    world.run_until_quiet()
    assert world.job(job["id"]).state is JobState.SUCCEEDED
    assert list(world.cloud.clusters) == [held.uuid]


def test_marks_of_another_installation_are_not_ours_to_remove(world: World) -> None:
    foreign = {"kcloud_cluster_id": "6d0f1b7e-0000-4000-8000-000000000000", "kcloud_job_id": "not-even-an-id"}
    uuid = by_hand(world, labels=foreign)
    other = by_hand(world, "other", labels={"kcloud_cluster_id": "not-even-an-id"})
    world.inventory_now()
    assert not world.rows("SELECT 1 FROM jobs")
    assert not world.clusters.get(ACTOR, uuid).managed
    assert not world.clusters.get(ACTOR, other).managed


def test_cluster_whose_create_is_being_written_down_is_left_alone(world: World) -> None:
    accepted = world.clusters.request_create(ACTOR, {"name": "x", "cluster_template_id": TEMPLATE_NAME})
    assert accepted is not None
    world.cloud.faults = [Fault("create", Trouble.KILLED_AFTER)]
    world.round(10)
    assert len(world.cloud.clusters) == 1
    world.inventory_now()
    assert len(world.rows("SELECT 1 FROM clusters")) == 1
    world.run_until_quiet()
    assert world.job(accepted.job.id).state is JobState.SUCCEEDED


def test_an_administrators_list_does_not_mix_projects(world: World) -> None:
    world.cloud.administrator = True
    theirs = by_hand(world, "theirs", scope=Scope(REGION, OTHER_PROJECT))
    ours = by_hand(world, "ours")
    world.inventory_now()
    assert [row["magnum_uuid"] for row in world.rows("SELECT * FROM clusters")] == [ours]
    other = Scope(REGION, OTHER_PROJECT)
    with world.database.begin() as uow:
        uow.scopes.ensure(other)
    world.inventory_now(scope=other)
    rows = {row["magnum_uuid"]: row["project_id"] for row in world.rows("SELECT * FROM clusters")}
    assert rows == {ours: SCOPE.project_id, theirs: OTHER_PROJECT}


def test_inventory_in_slices_sees_everything_once(database_url: str) -> None:
    world = World(database_url, page_size=3)
    with world.database.begin() as uow:
        uow.scopes.ensure(SCOPE)
    made = {by_hand(world, f"c-{number}") for number in range(10)}
    world.inventory_now()
    assert {row["magnum_uuid"] for row in world.rows("SELECT * FROM clusters")} == made
    assert world.cloud.calls.count("page") == 4
    world.close()


def test_inventory_whose_marker_has_gone_begins_again(world: World) -> None:
    uuid = by_hand(world)
    world.execute(
        "UPDATE scopes SET last_inventory = jsonb_build_object('marker', CAST(:marker AS text), 'started_at', now())",
        marker="57ac16d1-0000-4000-8000-45ed5b2e7eeb",
    )
    world.inventory_now()
    assert not world.rows("SELECT 1 FROM clusters")
    world.inventory_now()
    assert world.clusters.get(ACTOR, uuid).name == "by-hand"


def test_next_slice_leaves_magnum_its_time(world: World) -> None:
    by_hand(world)
    world.inventory_now()
    [scope] = world.rows("SELECT extract(epoch FROM next_inventory_at - now()) AS due_in, inventory_at FROM scopes")
    assert 50 < scope["due_in"] <= 61
    assert scope["inventory_at"] is not None
    assert world.inventory.take(SCOPE) is None  # not due


def test_health_and_addresses_are_kept_up_to_date(world: World) -> None:
    accepted = ready(world)
    [held] = world.cloud.clusters.values()
    held.api_address = "https://10.9.9.9:6443"
    held.status_reason = "checked"
    held.template = replace(held.template)
    world.clock.advance(5)
    world.inventory_now()
    seen = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (seen.api_address, seen.status_reason, seen.health_status) == ("https://10.9.9.9:6443", "checked", "HEALTHY")


def test_a_job_that_ends_while_a_page_is_written_is_not_overwritten(world: World) -> None:
    accepted = ready(world)
    resized = world.clusters.request_resize(ACTOR, str(accepted.cluster.id), {"node_count": 5})
    assert resized is not None
    for _ in range(60):
        if world.job(resized.job.id).state is JobState.CONVERGING:
            break
        world.round()
    world.clock.advance(60)
    world.cloud.advance()
    # A tick has seen it complete and is about to commit, when the inventory comes with a page that shows it complete too.
    with world.engine.connect() as tick:
        tick.execute(text("SELECT 1 FROM clusters WHERE id = :id FOR NO KEY UPDATE"), {"id": accepted.cluster.id})
        taking = threading.Thread(target=world.inventory_now)
        taking.start()
        _until(lambda: bool(world.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")))
        tick.execute(
            text("UPDATE clusters SET phase = 'Ready', observed_generation = generation WHERE id = :id"),
            {"id": accepted.cluster.id},
        )
        tick.execute(
            text("UPDATE jobs SET state = 'succeeded', step = 'succeeded', finished_at = now() WHERE id = :id"),
            {"id": resized.job.id},
        )
        tick.commit()
    taking.join(20)
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).phase is Phase.READY


def _until(happened: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)
