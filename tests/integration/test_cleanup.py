"""Cleanup on PostgreSQL and the fake cloud: what goes, what stays, and that nothing goes twice."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event

from shared.domain.cleanup_policy import Source
from shared.domain.clusters import Phase
from shared.domain.idleness import Placed, Usage
from shared.domain.jobs import JobKind
from shared.errors import Conflict, InvalidRequest, NotFound, Unavailable
from shared.services.idleness import Watch
from shared.services.sweeping import SWEEPER
from tests.builders import PROJECT, an_actor
from tests.rehearsal import IDLE, Rehearsal


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the few clusters of a test are several pages."""
    monkeypatch.setattr("shared.services.sweeping._PAGE", 2)


@pytest.fixture
def world(database_url: str) -> Iterator[Rehearsal]:
    made = Rehearsal(database_url)
    yield made
    made.close()


WAY = [
    ("active", "candidate", "IDLE"),
    ("candidate", "notified", "IDLE_LONG_ENOUGH"),
    ("notified", "marked", "NOTICE_OUT"),
    ("marked", "confirmed", "GRACE_OVER"),
    ("confirmed", "deleting", "IDLE"),
]


def test_an_idle_cluster_goes_the_whole_way_and_is_deleted(world: Rehearsal) -> None:
    world.policy(hibernate_first=False)
    idle, busy = world.make("idle"), world.make("busy", measured=IDLE | {"gpu_usage": 80.0})
    began = world.clock.now()
    world.until(idle, "deleting")
    assert world.clock.now() - began >= timedelta(hours=3)  # two of idleness, one of grace
    assert world.way_of(idle) == WAY
    assert world.way_of(busy) == []
    (job,) = world.jobs_of_kind(JobKind.DELETE)
    assert (job["cluster_id"], job["requested_by"], job["params"]["reason"]) == (idle.id, SWEEPER, "IDLE")
    assert [one["status"] for one in job["params"]["evidence"]["sources"]] == ["idle"] * 7
    audit = world.rows("SELECT action, cluster_id FROM audit_events WHERE action = 'cleanup:delete'")
    assert [row["cluster_id"] for row in audit] == [idle.id]
    world.run_until_quiet()
    with pytest.raises(NotFound):
        world.clusters.get(world.actor, str(idle.id))
    assert world.clusters.get(world.actor, str(busy.id)).phase is Phase.READY
    world.sweep()
    assert len(world.jobs_of_kind(JobKind.DELETE)) == 1


def test_it_is_hibernated_first_and_deleted_when_it_has_slept_long(world: Rehearsal) -> None:
    world.policy(asleep_hours=5)
    cluster = world.make()
    world.until(cluster, "deleting")
    assert [job["cluster_id"] for job in world.jobs_of_kind(JobKind.HIBERNATE)] == [cluster.id]
    world.run_until_quiet()
    world.measured.clear()  # there is no worker left that anybody could measure
    world.sweep()
    assert world.way_of(cluster)[-1] == ("deleting", "active", "HIBERNATED")
    slept = world.clock.now()
    world.until(cluster, "deleting", minutes=20)
    assert world.clock.now() - slept >= timedelta(hours=6)
    assert len(world.jobs_of_kind(JobKind.DELETE)) == 1
    world.run_until_quiet()
    assert world.rows("SELECT 1 FROM clusters WHERE deleted_at IS NOT NULL")


@pytest.mark.parametrize("missing", IDLE)
@pytest.mark.parametrize("how", ["absent", "stale", "busy"])
def test_nothing_goes_with_one_measure_absent_stale_or_busy(world: Rehearsal, missing: str, how: str) -> None:
    world.policy(min_idle_hours=0, grace_hours=0)
    changes: dict[str, dict[str, float | None]] = {"absent": {missing: None}, "stale": {}, "busy": {missing: 50.0}}
    cluster = world.make(measured=IDLE | changes[how])
    if how == "stale":
        world.clock.advance(16 * 60)
        world.measured[cluster.id][missing] = None
    for _ in range(8):
        world.sweep()
    assert world.stage(cluster) == "active"
    word = "ACTIVE" if how == "busy" else "UNKNOWN"
    source = {"gpu_usage": "ACCELERATOR_USE", "cpu_usage": "CPU_USE", "running_pods": "RUNNING_PODS"}[missing]
    assert [reason["code"] for reason in world.why(cluster)] == [f"{source}_{word}"]
    assert not world.unfinished()


def test_without_any_measurement_nothing_ever_goes_and_the_answer_says_why(world: Rehearsal) -> None:
    world.policy(min_idle_hours=0, grace_hours=0)
    accepted = world.clusters.request_create(
        world.actor, {"name": "a", "cluster_template_id": "gpu-intensive-template", "keypair": "kcloud-keypair"}
    )
    assert accepted is not None
    world.run_until_quiet()
    for _ in range(8):
        world.sweep()
    assert world.stage(accepted.cluster) == "active"
    assert {reason["code"] for reason in world.why(accepted.cluster)} == {
        "ACCELERATOR_USE_UNKNOWN",
        "CPU_USE_UNKNOWN",
        "RUNNING_PODS_UNKNOWN",
    }


def test_an_operator_without_measurements_may_rely_on_what_is_known(world: Rehearsal) -> None:
    world.policy(sources=[])
    cluster = world.make(measured={})
    world.until(cluster, "deleting")


class Failing:
    """Sources that do not answer."""

    def usage(self, cluster_ids: Sequence[UUID], *, since: datetime) -> Mapping[UUID, Usage]:
        del cluster_ids, since
        raise Unavailable("Prometheus did not answer in time.")

    def placed(self, cluster_ids: Sequence[UUID]) -> Mapping[UUID, Placed]:
        del cluster_ids
        raise Unavailable("The scheduler did not answer in time.")


@pytest.mark.parametrize("source", [Source.CPU_USE, Source.PLACEMENTS])
def test_a_source_that_fails_at_the_last_look_keeps_the_cluster(world: Rehearsal, source: Source) -> None:
    world.policy()
    cluster = world.make()
    world.until(cluster, "confirmed")
    way: dict[str, Any] = {"usage": lambda _uow: Failing()} if source is Source.CPU_USE else {"placements": lambda _uow: Failing()}
    blind = Watch(world.watch._accelerators, world.catalogs, world.clock, region="RegionOne", **way)
    world.clock.advance(60)
    world.look_at_cloud()
    world.a_sweeper(blind).sweep(PROJECT)
    assert world.way_of(cluster)[-1] == ("confirmed", "active", "NOT_IDLE")
    assert not world.unfinished()


@pytest.mark.parametrize("stage", ["candidate", "notified", "marked", "confirmed"])
@pytest.mark.parametrize("what", ["use", "hold", "placement", "job", "label", "cancel", "gap"])
def test_at_every_stage_use_and_people_lead_back(world: Rehearsal, stage: str, what: str) -> None:
    world.policy()
    cluster = world.make()
    world.until(cluster, stage)
    ref = str(cluster.id)
    if what == "use":
        world.measured[cluster.id]["cpu_usage"] = 10.0
    elif what == "hold":
        world.cleanup.hold(world.actor, ref, {"until": world.clock.now() + timedelta(days=1), "why": "a demo"})
    elif what == "placement":
        place(world, cluster.id)
    elif what == "job":
        world.clusters.request_resize(world.actor, ref, {"node_count": 3})
    elif what == "label":
        world.execute("""UPDATE clusters SET labels = '{"persistent": "true"}'""")
    elif what == "cancel":
        assert world.cleanup.cancel(world.actor, ref).progress.stage == "active"
        assert world.way_of(cluster)[-1] == (stage, "active", "CANCELLED")
        world.sweep()
        assert world.stage(cluster) == "candidate"  # from the beginning
        assert world.rows("SELECT idle_since FROM cleanup_states")[0]["idle_since"] > world.clock.now() - timedelta(minutes=2)
        return
    world.sweep(31.0 if what == "gap" else 1.0)
    assert world.way_of(cluster)[-1] == (stage, "active", "UNWATCHED" if what == "gap" else "NOT_IDLE")
    assert not [job for job in world.unfinished() if job["requested_by"] == SWEEPER]


def place(world: Rehearsal, cluster_id: UUID, *, ended: bool = False) -> None:
    world.execute(
        "INSERT INTO placements (id, request_id, project_id, region, cluster_id, node_group, node, workload, cpu_milli, memory_mib,"
        " created_at, ended_at, end_reason) VALUES (gen_random_uuid(), gen_random_uuid(), :project, 'RegionOne', :id,"
        " 'default-worker', 0, 'w', 1, 1, now(), CASE WHEN :ended THEN now() END, CASE WHEN :ended THEN 'released' END)",
        project=PROJECT,
        id=cluster_id,
        ended=ended,
    )


def test_a_placement_between_two_looks_is_seen(world: Rehearsal) -> None:
    world.policy()
    cluster = world.make()
    world.until(cluster, "marked")
    world.clock.advance(30)
    place(world, cluster.id, ended=True)
    world.sweep()
    assert world.way_of(cluster)[-1] == ("marked", "active", "USED")


def test_the_last_look_comes_just_before_the_job(world: Rehearsal) -> None:
    """What began after the sweep had looked, and before it acts."""
    world.policy()
    cluster = world.make()
    world.until(cluster, "confirmed")
    world.clock.advance(60)
    world.look_at_cloud()
    look = world.watch.look
    looks: list[int] = []

    class Interrupted(Watch):
        def look(self, *args: Any, **kwargs: Any) -> Any:
            found = look(*args, **kwargs)
            if not looks:
                looks.append(1)
                place(world, cluster.id)
            return found

    watch = Interrupted(world.watch._accelerators, world.catalogs, world.clock, region="RegionOne")
    assert world.a_sweeper(watch).sweep(PROJECT).done == ()
    assert world.way_of(cluster)[-1] == ("confirmed", "active", "NOT_IDLE")
    assert not world.unfinished()


def test_two_beats_at_once_make_one_job_each(world: Rehearsal) -> None:
    world.policy(hibernate_first=False)
    clusters = [world.make(f"c{number}") for number in range(3)]
    for cluster in clusters:
        world.until(cluster, "confirmed", minutes=10)
        if world.unfinished():
            break
    barrier = threading.Barrier(4)

    def beat() -> None:
        sweeper = world.a_sweeper()
        barrier.wait()
        for _ in range(3):
            try:
                sweeper.sweep(PROJECT)
            except Conflict as exc:
                assert exc.reason == "SWEEP_RUNNING"  # noqa: PT017 - one of several at once is refused

    world.clock.advance(60)
    world.look_at_cloud()
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(beat) for _ in range(4)]:
            done.result()
    jobs = world.jobs_of_kind(JobKind.DELETE)
    assert sorted(str(job["cluster_id"]) for job in jobs) == sorted(str(cluster.id) for cluster in clusters)
    assert [world.stage(cluster) for cluster in clusters] == ["deleting"] * 3


def test_a_dry_run_goes_all_the_way_but_for_the_deed(world: Rehearsal) -> None:
    world.policy(dry_run=True)
    cluster = world.make()
    world.until(cluster, "confirmed")
    for _ in range(5):
        assert world.sweep().done == ()
    assert world.stage(cluster) == "confirmed"
    assert world.cleanup.candidate(world.actor, str(cluster.id))[0].waits_for[0] == "DRY_RUN"
    world.policy(dry_run=False)  # what was told was told of a rehearsal
    assert world.way_of(cluster)[-1] == ("confirmed", "active", "POLICY_CHANGED")
    assert not world.unfinished()


def test_outside_the_window_a_confirmed_cluster_waits(world: Rehearsal) -> None:
    now = world.clock.now()
    closed = {"start": (now + timedelta(hours=8)).strftime("%H:%M"), "end": (now + timedelta(hours=9)).strftime("%H:%M")}
    world.policy(window=closed)
    cluster = world.make()
    world.until(cluster, "confirmed")
    world.sweep()
    assert world.stage(cluster) == "confirmed"
    assert world.cleanup.candidate(world.actor, str(cluster.id))[0].waits_for[0] == "WINDOW"
    world.until(cluster, "deleting", minutes=15)
    assert closed["start"] <= world.clock.now().strftime("%H:%M") <= closed["end"]


def test_so_many_at_a_time(world: Rehearsal) -> None:
    world.policy(max_per_sweep=1)
    clusters = [world.make(f"c{number}") for number in range(3)]
    counts = []
    for _ in range(60):
        world.sweep(5)
        counts.append(sum(world.stage(cluster) == "deleting" for cluster in clusters))
    assert {later - earlier for earlier, later in pairwise(counts)} <= {0, 1}
    assert counts[-1] == 3


def test_a_job_that_fails_begins_everything_anew(world: Rehearsal) -> None:
    world.policy()
    cluster = world.make()
    world.until(cluster, "deleting")
    (job,) = world.unfinished()
    world.jobs.cancel(world.actor, job["id"])
    world.sweep()
    assert world.way_of(cluster)[-1] == ("deleting", "active", "JOB_ENDED")


def test_a_hibernation_that_waits_can_be_cancelled_and_a_delete_can_not(world: Rehearsal) -> None:
    world.policy()
    cluster = world.make()
    world.until(cluster, "deleting")
    assert world.cleanup.cancel(world.actor, str(cluster.id)).progress.stage == "active"
    assert not world.unfinished()
    world.policy(hibernate_first=False)
    world.until(cluster, "deleting")
    with pytest.raises(Conflict) as refused:
        world.cleanup.cancel(world.actor, str(cluster.id))
    assert refused.value.reason == "NOT_CANCELLABLE"
    assert world.stage(cluster) == "deleting"


def test_a_cluster_that_is_not_on_its_way_has_nothing_to_cancel(world: Rehearsal) -> None:
    cluster = world.make()
    with pytest.raises(Conflict) as refused:
        world.cleanup.cancel(world.actor, str(cluster.id))
    assert refused.value.reason == "NOT_A_CANDIDATE"


def test_what_was_made_elsewhere_is_never_touched(world: Rehearsal) -> None:
    world.policy(sources=[], min_idle_hours=0, grace_hours=0)
    world.make("ours")
    world.cloud.put_foreign("6f2f2c9e-3a0e-4c58-9d7e-0e0a4d8f9b11", "by-hand")
    for _ in range(8):
        world.sweep()
    page = world.cleanup.candidates(world.actor, limit=10, marker=None)
    theirs = next(one for one in page.items if not one.cluster.managed)
    assert "NOT_MANAGED" in [reason["code"] for reason in theirs.verdict.why_not]
    assert not [job for job in world.jobs_of_kind(JobKind.DELETE) if job["cluster_id"] == theirs.cluster.id]


def test_a_sweep_takes_a_fixed_number_of_statements_for_a_page(world: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.services.sweeping._PAGE", 500)
    world.policy()
    seen: list[str] = []
    event.listen(world.engine, "before_cursor_execute", lambda _c, _cur, statement, *_: seen.append(statement))

    def statements(minutes: float) -> int:
        world.clock.advance(minutes * 60)
        world.look_at_cloud()
        seen.clear()
        world.sweeper.sweep(PROJECT)
        return len(seen)

    world.make("c0")
    one = [statements(1), statements(1), statements(1)]
    for number in range(1, 12):
        world.make(f"c{number}")
    assert [statements(1), statements(1), statements(1)][1:] == one[1:]
    assert max(one) < 25


def test_history_keeps_what_changed_and_counts_what_did_not(world: Rehearsal) -> None:
    world.policy()
    cluster = world.make(measured=IDLE | {"cpu_usage": 90.0})
    for _ in range(4):
        world.sweep()
    world.measured[cluster.id]["cpu_usage"] = 1.0
    world.sweep(16)
    _, steps, looks = world.cleanup.candidate(world.actor, str(cluster.id))
    assert [(one["idle"], one["looks"]) for one in looks] == [(True, 1), (False, 4)]
    assert looks[1]["first_at"] < looks[1]["at"]
    assert [step["to_stage"] for step in steps] == ["candidate"]
    assert steps[0]["evidence"]["idle"] is True


def test_the_floor_can_not_be_gone_below_and_tightens_what_is_looser(world: Rehearsal) -> None:
    world.policy(min_idle_hours=1)
    admin = an_actor(PROJECT, "admin")
    shown = world.cleanup.put_floor(admin, {"min_idle_hours": 6, "dry_run": True, "max_per_sweep": 1})
    assert shown["effective"]["min_idle_hours"] == 6
    assert shown["effective"]["dry_run"] is True
    with pytest.raises(InvalidRequest) as refused:
        world.cleanup.put_policy(world.actor, {"min_idle_hours": 2, "dry_run": False, "max_per_sweep": 9})
    assert [(one.field, one.rule) for one in refused.value.errors] == [
        ("dry_run", "floor"),
        ("min_idle_hours", "floor"),
        ("max_per_sweep", "floor"),
    ]
    with pytest.raises(InvalidRequest):
        world.cleanup.run(world.actor, dry_run=False)


def test_a_hold_ends_and_the_idle_time_begins_then(world: Rehearsal) -> None:
    world.policy()
    cluster = world.make()
    ref = str(cluster.id)
    world.cleanup.hold(world.actor, ref, {"until": world.clock.now() + timedelta(hours=1), "why": "a demo"})
    assert [reason["code"] for reason in world.why(cluster)] == ["HOLD_ACTIVE"]
    world.clock.advance(3660)
    world.sweep()
    assert world.stage(cluster) == "candidate"
    world.cleanup.hold(world.actor, ref, {"until": world.clock.now() + timedelta(hours=1), "why": "a demo"})
    world.cleanup.release(world.actor, ref)
    world.sweep()
    assert world.way_of(cluster)[-1] == ("candidate", "active", "USED")
    with pytest.raises(NotFound):
        world.cleanup.release(world.actor, ref)


def test_projects_are_swept_in_turn_and_a_disabled_one_is_left_alone(world: Rehearsal) -> None:
    world.policy(enabled=False)
    cluster = world.make()
    assert world.sweeper.sweep_all(every_s=60, budget_s=10) == 1
    assert world.sweeper.sweep_all(every_s=60, budget_s=10) == 0  # a second beat
    assert world.stage(cluster) == "active"
    assert world.cleanup.candidate(world.actor, str(cluster.id))[0].waits_for[0] == "DISABLED"
    world.policy()
    world.clock.advance(60)
    world.look_at_cloud()
    assert world.sweeper.sweep_all(every_s=60, budget_s=10) == 1
    assert world.stage(cluster) == "candidate"


def test_a_cluster_of_flavors_without_accelerators_needs_no_measurement_of_them(world: Rehearsal) -> None:
    plain = world.watch.plain_flavors(PROJECT)
    assert "cpu.large" in plain
    assert "gpu.a100.large" not in plain
    world.policy()
    cluster = world.make(measured=IDLE | {"gpu_usage": None}, flavor_id="cpu.large")
    world.sweep()
    assert world.stage(cluster) == "candidate"


def test_old_looks_and_steps_are_forgotten_but_for_the_latest(world: Rehearsal) -> None:
    world.policy()
    cluster = world.make(measured=IDLE | {"cpu_usage": 90.0})
    world.sweep()
    world.measured[cluster.id]["cpu_usage"] = 1.0
    world.sweep(16)
    world.clock.advance(40 * 86_400)
    with world.database.begin() as uow:
        assert uow.cleanup.forget_old(verdict_days=30, step_days=400) == 1
        assert uow.cleanup.forget_old(verdict_days=30, step_days=30) == 1
    assert len(world.rows("SELECT 1 FROM idle_verdicts")) == 1
