"""Plans of consolidation, carried out on PostgreSQL and the fake cloud: as approved, or not at all."""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.domain.cleanup_policy import DAYS
from shared.domain.consolidation.model import Spot
from shared.domain.consolidation.plan import Act
from shared.domain.plans import PlanState, PlanStep, StepState
from shared.errors import Conflict, Forbidden, InvalidRequest, NotFound
from shared.services.plans import Shown
from shared.settings import DenyWindow, PlacementSettings
from tests.builders import PROJECT, SCOPE
from tests.fake_cloud import Fault, Trouble
from tests.staging import POD, Staging, acts, stale

WORKERS = "default-worker"


@pytest.fixture
def world(database_url: str) -> Iterator[Staging]:
    made = Staging(database_url)
    yield made
    made.close()


def shrinking(world: Staging) -> Shown:
    """Two half-empty clusters of two nodes: one goes, the other becomes smaller."""
    one, two = world.make("one", 2), world.make("two", 2)
    world.hold(one, 2)
    world.hold(two, 2)
    shown = world.propose()
    assert acts(shown) == [Act.MOVE, Act.SHRINK, Act.DELETE]
    return shown


def growing(world: Staging) -> Shown:
    """What must stay has too little room beside it: its cluster grows, and the other one goes."""
    one, two = world.make("one", 1), world.make("two", 1)
    world.hold(one, 3, movable=False)
    world.hold(two, 2)
    shown = world.propose()
    assert acts(shown) == [Act.GROW, Act.MOVE, Act.DELETE]
    return shown


def creating(world: Staging) -> Shown:
    """Any accelerator will do, and a cluster of NPUs is cheaper than both."""
    one, two = world.make("one", 2), world.make("two", 2)
    world.hold(one, 2)
    world.hold(two, 2)
    shown = world.propose(new_clusters=True)
    assert acts(shown) == [Act.CREATE, Act.GROW, Act.MOVE, Act.MOVE, Act.DELETE, Act.DELETE]
    return shown


def renumbering(world: Staging) -> Shown:
    """Node 0 goes and node 1 stays: what lies there is on node 0 afterwards."""
    one, two = world.make("one", 2), world.make("two", 1)
    moves, stays = world.hold(one, 2), world.hold(one, 3, movable=False)
    world.hold(two, 2, movable=False)
    assert (world.spots()[str(moves)][2], world.spots()[str(stays)][2]) == (0, 1)
    shown = world.propose()
    assert acts(shown) == [Act.MOVE, Act.SHRINK]
    assert shown.steps[1].keeps == (1,)
    return shown


FLEETS = [shrinking, growing, creating, renumbering]


def foretold(
    shown: Shown, sizes: dict[str, dict[str, int]], spots: dict[str, tuple[str, str, int]]
) -> tuple[dict[str, dict[str, int]], dict[str, tuple[str, str, int]]]:
    """What a plan says that there will be, out of its steps as they were told."""
    sizes, spots = {key: dict(groups) for key, groups in sizes.items()}, dict(spots)
    for step in shown.steps:
        if step.act is Act.DELETE:
            del sizes[step.ref]
        elif step.act in {Act.GROW, Act.SHRINK}:
            assert step.group
            sizes.setdefault(step.ref, {})[step.group] = step.nodes
        elif step.is_move:
            assert step.target
            spots[str(step.placement_id)] = (step.target.cluster, step.target.group, step.target.node)
    for step in shown.steps:
        if step.act is Act.SHRINK:
            on = sorted({node for cluster, group, node in spots.values() if (cluster, group) == (step.ref, step.group)})
            free = [number for number in range(step.nodes) if number not in step.keeps]
            for node in on:
                assert node in step.keeps
                if node >= step.nodes:
                    place = free.pop(0)
                    spots = {
                        pod: (c, g, place) if (c, g, n) == (step.ref, step.group, node) else (c, g, n)
                        for pod, (c, g, n) in spots.items()
                    }
    return sizes, spots


@pytest.mark.parametrize("fleet", FLEETS)
def test_a_plan_applied_is_the_plan_approved(world: Staging, fleet: Callable[[Staging], Shown]) -> None:
    shown = fleet(world)
    sizes, spots = foretold(shown, world.sizes(), world.spots())
    before = shown.plan.summary["cost_per_hour"]
    assert world.begin(shown.plan.id).plan.state is PlanState.APPLYING
    end = world.go(shown.plan.id)
    assert end.plan.state is PlanState.APPLIED, end.plan.detail
    assert {step.state for step in end.steps} == {StepState.DONE}
    made = {step.ref: str(step.cluster_id) for step in end.steps if step.act is Act.CREATE}
    assert world.sizes() == {made.get(ref, ref): groups for ref, groups in sizes.items()}
    assert world.spots() == {pod: (made.get(ref, ref), group, node) for pod, (ref, group, node) in spots.items()}
    # And the next plan finds nothing better, at the price that this one promised.
    again = world.propose(new_clusters=bool(made))
    assert again.steps == ()
    assert again.plan.summary["cost_per_hour"]["before"] == pytest.approx(before["after"])


def over(step: PlanStep, world: Staging) -> bool:
    """Whether nothing keeps the next step, though nobody has looked yet."""
    return step.state in {StepState.DONE, StepState.SKIPPED} or (
        step.job_id is not None and world.job(step.job_id).state == "succeeded"
    )


def pause_before(world: Staging, shown: Shown, number: int) -> None:
    """Apply a plan up to the moment before a step would begin."""
    plan_id = shown.plan.id
    world.container.plans.approve(world.actor, str(plan_id))
    if number == 0:
        with world.database.begin() as uow:
            plan = uow.plans.get(PROJECT, plan_id)
            assert plan is not None
            uow.plans.put(replace(plan, state=PlanState.APPLYING, applied_by=world.actor.user_id))
        return
    world.container.plans.apply(world.actor, str(plan_id))
    if shown.steps[number - 1].is_move and not shown.steps[number].is_move:
        world.go(plan_id, until=lambda _now: len(world.offered(plan_id)) > 0, moving=False)
        return
    world.go(plan_id, until=lambda now: all(over(step, world) for step in now.steps[:number]))


def resize(world: Staging, ref: str) -> None:
    """Somebody scales a cluster by hand."""
    accepted = world.clusters.request_resize(world.actor, ref, {"node_count": 5})
    assert accepted is not None


def place(world: Staging, ref: str) -> None:
    """Somebody holds capacity there who has not heard of the plan, as a match that was decided before it began."""
    (one,) = world.rows("SELECT id FROM placements ORDER BY seq LIMIT 1")
    with world.database.begin() as uow:
        held = uow.placements.get(PROJECT, one["id"])
        assert held is not None
        late = replace(
            held, id=uuid4(), cluster_id=UUID(ref), node_group=WORKERS, node=0, movable=False, accelerators=0, devices=()
        )
        uow.placements.add([late], lease_s=864_000.0)


def keep(world: Staging, ref: str) -> None:
    """Somebody makes it bigger in Magnum itself, and the inventory sees it."""
    cluster = world.clusters.get(world.actor, ref)
    world.container.cloud.gateway(cluster.scope).resize(str(cluster.magnum_uuid), 7)
    world.clock.advance(60)
    world.cloud.advance()
    world.clock.advance(60)
    world.inventory_now(passes=2)


#: Each fleet with the numbers of the steps that begin by themselves: a new cluster's nodes come with it, moves are offered together.
CASES = {shrinking: (0, 1, 2), growing: (0, 1, 2), creating: (0, 2, 4, 5), renumbering: (0, 1)}


@pytest.mark.parametrize("how", [resize, place, keep])
@pytest.mark.parametrize("fleet,number", [(fleet, number) for fleet, numbers in CASES.items() for number in numbers])
def test_drift_before_a_step_stops_the_plan_there(
    world: Staging, fleet: Callable[[Staging], Shown], number: int, how: Callable[[Staging, str], None]
) -> None:
    shown = fleet(world)
    step = shown.steps[number]
    pause_before(world, shown, number)
    asked_before, spots = len(world.plan_jobs()), world.spots()
    concerned = step.ref if not step.ref.startswith("new:") else shown.steps[-1].ref
    how(world, concerned)
    spots |= {pod: spot for pod, spot in world.spots().items() if pod not in spots}
    if world.offered(shown.plan.id):
        report_all(world, shown.plan.id)
        spots = world.spots()
    end = world.go(shown.plan.id)
    name = world.clusters.get(world.actor, concerned).name
    # Moves that are out find it first, where it is their target.
    found_by = [number] if not shown.steps[number - 1].is_move or step.is_move else [number, number - 1]
    assert any(f"Before step {one} ({shown.steps[one].act}): Cluster {name!r}" in stale(end) for one in found_by)
    assert [one.state for one in end.steps[number:]] == [StepState.DROPPED] * (len(end.steps) - number)
    assert {one.state for one in end.steps[:number]} <= {StepState.DONE, StepState.RUNNING}
    assert len(world.plan_jobs()) == asked_before
    assert world.spots() == spots
    world.clock.advance(3600)
    assert world.container.applier.apply_all(budget_s=5.0) == 0


def test_what_was_moved_draws_and_costs_what_it_does_where_it_is(world: Staging) -> None:
    words = "SELECT accelerator, cpu_milli, memory_mib, watts, cost_per_hour FROM placements WHERE ended_at IS NULL ORDER BY id"
    shown = creating(world)
    before = world.rows(words)
    world.begin(shown.plan.id)
    assert world.go(shown.plan.id).plan.state is PlanState.APPLIED
    after = world.rows(words)
    shapes = world.container.accelerators.shapes(world.container.catalogs.get(SCOPE)).values()
    for old, row in zip(before, after, strict=True):
        assert row["accelerator"] != old["accelerator"]
        shape = next(one for one in shapes if one.accelerator and one.accelerator.id == row["accelerator"])
        share = max(2 / shape.devices, row["cpu_milli"] / shape.cpu_milli, row["memory_mib"] / shape.memory_mib)
        assert row["watts"] == pytest.approx(shape.draw_w(row["cpu_milli"], 2), abs=1e-3)
        assert row["cost_per_hour"] == pytest.approx(share * shape.price_per_hour, abs=1e-6)
        assert (row["watts"], row["cost_per_hour"]) != (old["watts"], old["cost_per_hour"])


def report_all(world: Staging, plan_id: UUID) -> None:
    """The scheduler reports what was offered, and is refused where the target was changed meanwhile."""
    for step in world.offered(plan_id):
        try:
            world.container.plans.moved(world.actor, str(plan_id), str(step.number))
        except Conflict:
            assert world.plan(plan_id).plan.state is PlanState.STALE


def test_a_new_pod_where_nothing_of_the_plan_is_stops_nothing(world: Staging) -> None:
    other = world.make("other", 1)
    world.hold(other, 1, movable=False, isolation="cluster")
    shown = shrinking(world)
    world.begin(shown.plan.id)
    resize(world, str(other.id))
    assert world.go(shown.plan.id).plan.state is PlanState.APPLIED


def test_workers_at_once_never_do_a_step_twice(world: Staging) -> None:
    shown = creating(world)
    others = [world.wired() for _ in range(3)]
    world.container.plans.approve(world.actor, str(shown.plan.id))
    world.container.plans.apply(world.actor, str(shown.plan.id))
    gate = threading.Barrier(4)

    def press(container: Any) -> None:
        gate.wait()
        for _ in range(3):
            container.applier.advance(shown.plan.id)

    def press_all() -> None:
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(press, one) for one in (world.container, *others)]:
                done.result()

    for _ in range(40):
        press_all()
        if world.plan(shown.plan.id).plan.state is not PlanState.APPLYING:
            break
        with ThreadPoolExecutor(2) as pool:
            reports = [
                pool.submit(world.container.plans.moved, world.actor, str(shown.plan.id), str(step.number))
                for step in world.offered(shown.plan.id)
                for _ in range(2)
            ]
            for report in reports:
                report.result()
        world.round()
    for one in others:
        one.database.engine.dispose()
    assert world.plan(shown.plan.id).plan.state is PlanState.APPLIED
    asked = [job["params"]["step"] for job in world.plan_jobs()]
    assert sorted(asked) == [0, 4, 5]
    assert [one.number for one in world.cloud.clusters.values()] == [3], "three were ever made, and two have gone"
    assert world.rows("SELECT count(*) AS n FROM audit_events WHERE action = 'plans:moved'")[0]["n"] == 2


@pytest.mark.parametrize("table", ["jobs", "plan_steps", "plans"])
def test_a_worker_that_dies_between_the_job_and_the_note_leaves_neither(world: Staging, table: str) -> None:
    shown = growing(world)
    world.execute(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'"
    )
    pause_before(world, shown, 0)
    world.execute(f"CREATE TRIGGER die AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION die()")
    assert world.container.applier.advance(shown.plan.id) is None
    assert world.plan_jobs() == []
    assert {step.state for step in world.plan(shown.plan.id).steps} == {StepState.WAITING}
    world.execute(f"DROP TRIGGER die ON {table}")
    assert world.go(shown.plan.id).plan.state is PlanState.APPLIED
    assert [job["params"]["step"] for job in world.plan_jobs()] == [0, 2]


def test_in_a_deny_window_nothing_is_begun(world: Staging) -> None:
    today = DAYS[world.clock.now().weekday()]
    world.rewire(deny=(DenyWindow((today,), "00:00", "00:00", "UTC"),))
    shown = shrinking(world)
    world.begin(shown.plan.id)
    for _ in range(3):
        world.container.applier.apply_all(budget_s=5.0)
    waits = world.plan(shown.plan.id)
    assert waits.plan.state is PlanState.APPLYING
    assert waits.steps[0].state is StepState.WAITING
    assert waits.steps[0].state_reason == f"DENY_WINDOW: nothing is begun in the window {today} 00:00-00:00 UTC."
    world.clock.advance(86_400)
    assert world.go(shown.plan.id).plan.state is PlanState.APPLIED


def test_so_many_clusters_are_disturbed_in_a_window(world: Staging) -> None:
    clusters = [world.make(name, 1) for name in ("one", "two", "three")]
    for cluster in clusters:
        world.hold(cluster, 1)
    world.rewire(max_clusters=1, window_s=1800.0, move_deadline_s=7200.0)
    shown = world.propose()
    assert acts(shown) == [Act.MOVE, Act.MOVE, Act.DELETE, Act.DELETE]
    first = world.begin(shown.plan.id)
    assert [step.state for step in first.steps[:2]] == [StepState.RUNNING, StepState.WAITING]
    assert first.steps[1].state_reason == "DISRUPTION_BUDGET: at most 1 clusters are disturbed in 0.5 h, and 1 are."
    world.clock.advance(1801)
    world.container.applier.apply_all(budget_s=5.0)
    assert len(world.offered(shown.plan.id)) == 2
    world.schedule(shown.plan.id)
    # The one that was disturbed last may be disturbed further; the other has to wait again.
    end = world.plan(shown.plan.id)
    waiting = [step for step in end.steps if step.act is Act.DELETE and step.state is StepState.WAITING]
    assert waiting[0].state_reason is None or "DISRUPTION_BUDGET" in waiting[0].state_reason
    for _ in range(6):
        world.clock.advance(1801)
        world.container.applier.apply_all(budget_s=5.0)
        world.run_until_quiet()
    assert world.plan(shown.plan.id).plan.state is PlanState.APPLIED
    began = [step.began_at for step in world.plan(shown.plan.id).steps]
    assert all(one is not None for one in began)


def test_moves_that_are_not_reported_in_time_fail_the_plan_and_nothing_is_deleted(world: Staging) -> None:
    shown = shrinking(world)
    sizes = world.sizes()
    world.begin(shown.plan.id)
    world.clock.advance(3599)
    world.container.applier.apply_all(budget_s=5.0)
    assert world.plan(shown.plan.id).plan.state is PlanState.APPLYING
    world.clock.advance(2)
    world.container.applier.apply_all(budget_s=5.0)
    end = world.plan(shown.plan.id)
    assert (end.plan.state, end.plan.reason) == (PlanState.FAILED, "MOVES_NOT_DONE")
    assert [step.state for step in end.steps] == [StepState.FAILED, StepState.DROPPED, StepState.DROPPED]
    assert (world.sizes(), world.plan_jobs()) == (sizes, [])
    # It was moved all the same: where it is must be known.
    world.container.plans.moved(world.actor, str(shown.plan.id), "0")
    target = shown.steps[0].target
    assert target is not None
    assert world.spots()[str(shown.steps[0].placement_id)] == (target.cluster, target.group, target.node)
    assert world.plan(shown.plan.id).plan.state is PlanState.FAILED


@pytest.mark.parametrize("how", ["ended", "expired"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_has_ended_need_not_be_moved(world: Staging, how: str, when: str) -> None:
    shown = shrinking(world)
    placement = shown.steps[0].placement_id
    assert placement is not None
    if when == "after":
        world.begin(shown.plan.id)
        assert [step.number for step in world.offered(shown.plan.id)] == [0]
    if how == "ended":
        world.container.placements.end(world.actor, str(placement))
    else:
        world.execute("UPDATE placements SET expires_at = now() WHERE id = :id", id=placement)
    if when == "before":
        world.begin(shown.plan.id)
    end = world.go(shown.plan.id, moving=False)
    assert end.plan.state is PlanState.APPLIED
    assert [step.state for step in end.steps] == [StepState.SKIPPED, StepState.DONE, StepState.DONE]


def test_a_job_that_does_not_succeed_fails_the_plan(world: Staging) -> None:
    shown = growing(world)
    begun = world.begin(shown.plan.id)
    job_id = begun.steps[0].job_id
    assert job_id is not None
    world.container.jobs.cancel(world.actor, job_id)
    world.container.applier.apply_all(budget_s=5.0)
    end = world.plan(shown.plan.id)
    assert (end.plan.state, end.plan.reason) == (PlanState.FAILED, "STEP_FAILED")
    assert end.steps[0].state_reason == "Its job has been cancelled: CANCELLED_BY_CALLER"
    assert [step.state for step in end.steps] == [StepState.FAILED, StepState.DROPPED, StepState.DROPPED]


def test_the_scheduler_is_told_what_to_move_and_how_the_plan_ended(world: Staging) -> None:
    world.container.webhooks.create(world.actor, {"url": "https://hooks.example.com/kcloud", "events": ["plan.*"]})
    shown = shrinking(world)
    world.begin(shown.plan.id)
    world.go(shown.plan.id)
    bodies = [row["body"] for row in world.rows("SELECT CAST(body AS jsonb) AS body FROM webhook_deliveries ORDER BY seq")]
    assert [body["event"] for body in bodies] == ["plan.moves.offered", "plan.applied"]
    (move,) = bodies[0]["data"]["moves"]
    step = shown.steps[0]
    assert step.source
    assert step.target
    assert move["placement_id"] == str(step.placement_id)
    assert (move["workload"], move["from"]["cluster"], move["to"]["cluster"]) == (
        "general",
        step.source.cluster,
        step.target.cluster,
    )
    assert move["report"] == f"/plans/{shown.plan.id}/moves/0/done"


def test_one_plan_of_a_project_is_applied_at_a_time(world: Staging) -> None:
    first = shrinking(world)
    second = world.propose()
    world.begin(first.plan.id)
    with pytest.raises(Conflict, match="Another plan"):
        world.begin(second.plan.id)
    world.go(first.plan.id)
    assert "is gone" in stale(world.container.plans.apply(world.actor, str(second.plan.id)))


def test_a_withdrawn_plan_begins_nothing_more(world: Staging) -> None:
    shown = growing(world)
    world.begin(shown.plan.id)
    world.container.plans.cancel(world.actor, str(shown.plan.id))
    world.run_until_quiet()
    world.container.applier.apply_all(budget_s=5.0)
    end = world.plan(shown.plan.id)
    assert end.plan.state is PlanState.CANCELLED
    assert [step.state for step in end.steps] == [StepState.RUNNING, StepState.DROPPED, StepState.DROPPED]
    assert len(world.plan_jobs()) == 1


def test_a_plan_that_nobody_applies_expires(world: Staging) -> None:
    shown = shrinking(world)
    world.container.plans.approve(world.actor, str(shown.plan.id))
    world.clock.advance(3601)
    assert world.plan(shown.plan.id).plan.state is PlanState.EXPIRED
    with pytest.raises(Conflict, match="expired"):
        world.container.plans.apply(world.actor, str(shown.plan.id))
    world.container.applier.apply_all(budget_s=5.0)
    assert world.rows("SELECT state, reason FROM plans") == [{"state": "expired", "reason": "EXPIRED"}]
    assert {step.state for step in world.plan(shown.plan.id).steps} == {StepState.DROPPED}


def test_power_budgets_stop_a_plan_that_would_break_them(world: Staging) -> None:
    shown = growing(world)
    sizes = world.sizes()
    world.rewire(placement=PlacementSettings(project_power_w=1.0))
    end = world.begin(shown.plan.id)
    assert "Before step 0 (grow): POWER_BUDGET: The project's power budget is 1 W." in stale(end)
    assert {step.state for step in end.steps} == {StepState.DROPPED}
    assert (world.sizes(), world.plan_jobs()) == (sizes, [])


def test_a_cloud_that_does_not_answer_only_delays_a_plan(world: Staging) -> None:
    shown = growing(world)
    pause_before(world, shown, 0)
    world.container.catalogs.forget()
    world.cloud.faults.append(Fault("catalog", Trouble.UNAVAILABLE))
    assert world.container.applier.advance(shown.plan.id) is None
    assert world.cloud.faults == []
    assert (world.plan(shown.plan.id).steps[0].state_reason or "").startswith("CLOUD_UNAVAILABLE: ")
    assert world.go(shown.plan.id).plan.state is PlanState.APPLIED


@pytest.mark.parametrize(
    "approval,roles,same_user,reason",
    [
        ("member", {"member"}, True, None),
        ("other", {"member"}, True, "APPROVAL_BY_ANOTHER"),
        ("other", {"member", "admin"}, True, "APPROVAL_BY_ANOTHER"),
        ("other", {"member"}, False, None),
        ("admin", {"member"}, True, "APPROVAL_BY_ADMIN"),
        ("admin", {"member"}, False, "APPROVAL_BY_ADMIN"),
        ("admin", {"member", "admin"}, True, None),
    ],
)
def test_who_may_approve_is_a_setting(world: Staging, approval: str, roles: set[str], same_user: bool, reason: str | None) -> None:
    shown = world.propose()
    world.rewire(approval=approval)
    actor = replace(world.actor, roles=frozenset(roles), user_id=world.actor.user_id if same_user else "another")
    if reason is None:
        assert world.container.plans.approve(actor, str(shown.plan.id)).plan.approved_by == actor.user_id
        return
    with pytest.raises(Forbidden) as refused:
        world.container.plans.approve(actor, str(shown.plan.id))
    assert refused.value.reason == reason
    assert world.plan(shown.plan.id).plan.state is PlanState.PROPOSED


def test_plans_are_forgotten_with_the_jobs_of_their_time(world: Staging) -> None:
    ended, waits = world.propose().plan.id, world.propose().plan.id
    world.container.plans.cancel(world.actor, str(ended))
    world.execute("UPDATE plans SET valid_until = now() + interval '60 days'")
    world.clock.advance(29 * 86_400)
    assert world.container.upkeep.retain()["plans"] == 0
    world.clock.advance(2 * 86_400)
    assert world.container.upkeep.retain()["plans"] == 1
    assert world.rows("SELECT id FROM plans") == [{"id": waits}]


# -- moves ------------------------------------------------------------------------------------------------------------------


def test_a_report_is_taken_once_and_only_of_what_was_offered(world: Staging) -> None:
    shown = growing(world)
    plans, plan_id = world.container.plans, str(shown.plan.id)
    world.begin(shown.plan.id)
    with pytest.raises(Conflict) as early:
        plans.moved(world.actor, plan_id, "1")
    assert early.value.reason == "MOVE_NOT_OFFERED"
    for number in ("0", "7", "x", "-1", "99999999999999999999"):
        with pytest.raises(NotFound) as none:
            plans.moved(world.actor, plan_id, number)
        assert none.value.reason == "MOVE_NOT_FOUND"
    world.go(shown.plan.id, until=lambda now: len(world.offered(now.plan.id)) > 0, moving=False)
    with pytest.raises(InvalidRequest) as wrong:
        plans.moved(world.actor, plan_id, "1", along=[0, 1, 9])
    assert [one.field for one in wrong.value.errors] == ["along.0", "along.2"]
    plans.moved(world.actor, plan_id, "1")
    spots = world.spots()
    plans.moved(world.actor, plan_id, "1")
    assert world.spots() == spots
    assert world.rows("SELECT count(*) AS n FROM audit_events WHERE action = 'plans:moved'")[0]["n"] == 1


def test_a_report_without_room_is_refused_and_what_is_held_stays_where_it_is(world: Staging) -> None:
    shown = growing(world)
    world.begin(shown.plan.id)
    world.go(shown.plan.id, until=lambda now: len(world.offered(now.plan.id)) > 0, moving=False)
    assert acts(shown)[0] is Act.GROW
    (step,) = world.offered(shown.plan.id)
    assert step.target
    target = world.clusters.get(world.actor, step.target.cluster)
    for _ in range(4):
        world.hold(target, 1)
    spots = world.spots()
    with pytest.raises(Conflict) as full:
        world.container.plans.moved(world.actor, str(shown.plan.id), str(step.number))
    assert full.value.reason == "NO_ROOM"
    assert world.spots() == spots
    assert "has come to it" in stale(world.plan(shown.plan.id))
    # A report of what was offered is taken whenever there is room, though nothing follows from it any more.
    for pod in set(spots) - {str(step.placement_id)}:
        world.container.placements.end(world.actor, pod)
    world.container.plans.moved(world.actor, str(shown.plan.id), str(step.number))
    assert world.spots()[str(step.placement_id)][0] == str(target.id)
    assert len(world.plan_jobs()) == 1


def test_room_that_a_move_leaves_is_seen_by_whoever_matches_next(world: Staging) -> None:
    shown = shrinking(world)
    world.begin(shown.plan.id)
    (step,) = world.offered(shown.plan.id)
    source = world.clusters.get(world.actor, step.ref)
    world.container.plans.cancel(world.actor, str(shown.plan.id))
    world.container.plans.moved(world.actor, str(shown.plan.id), str(step.number))
    for gpus in (4, 4):
        world.hold(source, gpus)
    assert {spot[2] for spot in world.spots().values() if spot[0] == str(source.id)} == {0, 1}


def test_what_a_plan_deletes_takes_no_new_work_while_it_is_applied(world: Staging) -> None:
    shown = shrinking(world)
    going = shown.steps[-1].cluster_id
    assert going is not None

    def room() -> set[str]:
        return {one["id"] for one in world.container.placements.available(world.actor)}

    assert str(going) in room()
    world.begin(shown.plan.id)
    assert str(going) not in room()
    rejected = world.container.matching.request(
        world.actor, [POD | {"preferred_clusters": [str(going)]}], many=False, place=False, lease_s=None, at_once=True
    )
    assert rejected is not None
    assert rejected.job.result is not None
    assert "LEAVING" in rejected.job.result["rejections"]
    world.container.plans.cancel(world.actor, str(shown.plan.id))
    assert str(going) in room()


def test_pods_that_swap_places_are_reported_together(world: Staging) -> None:
    one, two = world.make("one", 1), world.make("two", 1)
    pods = [(world.hold(one, 4), one, two), (world.hold(two, 4), two, one)]
    made = world.propose().plan
    steps = [
        PlanStep(
            number,
            Act.MOVE,
            str(source.id),
            source.name,
            "To try it.",
            placement_id=pod,
            source=Spot(str(source.id), WORKERS, 0),
            target=Spot(str(target.id), WORKERS, 0),
        )
        for number, (pod, source, target) in enumerate(pods)
    ]
    with world.database.begin() as uow:
        seen = world.snapshot()
        plan = replace(made, id=uuid4(), basis=seen)
        uow.plans.add(plan, steps)
    world.begin(plan.id)
    with pytest.raises(Conflict) as full:
        world.container.plans.moved(world.actor, str(plan.id), "0")
    assert full.value.reason == "NO_ROOM"
    end = world.container.plans.moved(world.actor, str(plan.id), "0", along=[1])
    assert end.plan.state is PlanState.APPLIED
    assert world.spots() == {str(pod): (str(target.id), WORKERS, 0) for pod, _, target in pods}


# -- whatever happens ---------------------------------------------------------------------------------------------------------


def anything(world: Staging, chance: random.Random) -> None:
    """Something that may happen to a project at any time."""
    held = sorted(world.spots())
    clusters = [row["id"] for row in world.rows("SELECT id FROM clusters WHERE live AND phase = 'Ready' ORDER BY seq")]
    what = chance.choice(["nothing", "nothing", "end", "place", "resize"])
    if what == "end" and held:
        world.container.placements.end(world.actor, chance.choice(held))
    elif what == "place" and clusters:
        body = POD | {"accelerator": {"count": 1}, "preferred_clusters": [str(chance.choice(clusters))]}
        world.container.matching.request(world.actor, [body], many=False, place=True, lease_s=864_000.0, at_once=True)
    elif what == "resize" and clusters:
        world.clusters.request_resize(world.actor, str(chance.choice(clusters)), {"node_count": chance.randint(1, 4)})


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_a_plan_is_carried_out_as_approved_or_stops(world: Staging, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(4):
        cluster = world.make(f"c{number}", chance.randint(1, 3))
        for _ in range(chance.randint(1, 2)):
            world.hold(cluster, chance.randint(1, 2), movable=chance.random() < 0.8)
    shown = world.propose(new_clusters=seed % 2 == 0)
    assert shown.steps
    sizes, spots = foretold(shown, world.sizes(), world.spots())
    world.begin(shown.plan.id)
    calm = seed % 4 == 0
    for _ in range(80):
        now = world.plan(shown.plan.id)
        if now.plan.state is not PlanState.APPLYING:
            break
        world.container.applier.apply_all(budget_s=10.0)
        if not calm and chance.random() < 0.2:
            anything(world, chance)
        for step in world.offered(shown.plan.id):
            with contextlib.suppress(Conflict):
                world.container.plans.moved(world.actor, str(shown.plan.id), str(step.number))
        world.round()
    world.run_until_quiet()
    end = world.plan(shown.plan.id)
    assert end.plan.state in {PlanState.APPLIED, PlanState.STALE}, end.plan.detail
    assert not calm or end.plan.state is PlanState.APPLIED
    made = {step.ref: str(step.cluster_id) for step in end.steps if step.act is Act.CREATE and step.cluster_id}
    if end.plan.state is PlanState.APPLIED:
        # Whoever resizes a cluster once the plan is done with it takes nothing back of what was approved.
        by_hand = {
            str(row["cluster_id"]) for row in world.rows("SELECT * FROM jobs WHERE kind = 'resize' AND params -> 'reason' IS NULL")
        }
        touched = {made.get(step.ref, step.ref) for step in end.steps if not step.is_move} - by_hand
        found = world.sizes()
        told = {made.get(ref, ref): groups for ref, groups in sizes.items()}
        assert {ref: found.get(ref) for ref in touched} == {ref: told.get(ref) for ref in touched}
        planned = {pod: (made.get(ref, ref), group, node) for pod, (ref, group, node) in spots.items()}
        assert {pod: spot for pod, spot in world.spots().items() if pod in planned} == {
            pod: spot for pod, spot in planned.items() if pod in world.spots()
        }
    else:
        stopped = next(step.number for step in end.steps if step.state in {StepState.DROPPED, StepState.RUNNING})
        assert {step.state for step in end.steps[stopped:]} <= {
            StepState.DROPPED,
            StepState.DONE,
            StepState.SKIPPED,
            StepState.RUNNING,
        }
        assert not [step for step in end.steps[stopped:] if step.job_id is not None]
    # What is held lies on nodes that are there, and nothing was deleted from under it.
    live = {str(row["id"]) for row in world.rows("SELECT id FROM clusters WHERE live")}
    assert {spot[0] for spot in world.spots().values()} <= live
    assert not world.rows("SELECT 1 FROM placements WHERE end_reason = 'CLUSTER_GONE'")
    asked = [job["params"]["step"] for job in world.plan_jobs()]
    assert len(asked) == len(set(asked))
