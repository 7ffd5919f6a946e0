"""Guarded writes, one by one, and races with connections that really commit."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from shared.db.clusters import observation
from shared.db.engine import make_engine
from shared.db.uow import Database, UnitOfWork
from shared.domain.clusters import Cluster, Phase
from shared.domain.jobs import Job, JobKind, JobState
from shared.domain.ports import ClusterFilter, Idempotency, JobFilter
from shared.errors import AlreadyExists, Conflict, LeaseLost
from tests.builders import OTHER_PROJECT, PROJECT, REGION, SCOPE, a_cluster, a_job, an_observed

T = TypeVar("T")
TTL_S = 30.0


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    engine = make_engine(database_url, pool_size=24)
    yield Database(engine)
    engine.dispose()


def accepted(database: Database, name: str = "training", **cluster_changes: Any) -> tuple[Cluster, Job]:
    cluster = a_cluster(name, **cluster_changes)
    job = a_job(JobKind.CREATE, cluster_id=cluster.id, project_id=cluster.project_id)
    assert database.acceptor.create(cluster, job, None)
    return cluster, job


def another(database: Database, cluster: Cluster, kind: JobKind) -> Job:
    job = a_job(kind, cluster_id=cluster.id)
    with database.begin() as uow:
        uow.accept.change(job)
    return job


def claim(database: Database, job_id: UUID, owner: str = "worker-1", ttl_s: float = TTL_S) -> Job | None:
    with database.begin() as uow:
        return uow.jobs.claim(job_id, owner=owner, token=uuid4(), ttl_s=ttl_s)


def claimed(database: Database, job_id: UUID, ttl_s: float = TTL_S) -> Job:
    job = claim(database, job_id, ttl_s=ttl_s)
    assert job is not None
    return job


def read(database: Database, job_id: UUID) -> Job:
    with database.single() as uow:
        job = uow.jobs.get(job_id)
    assert job is not None
    return job


def execute(database: Database, statement: str, **values: Any) -> None:
    with database.begin() as uow:
        uow.connection.execute(text(statement), values)


def together(count: int, call: Callable[[int], T]) -> list[T]:
    """Run in so many threads, all let go at one moment."""
    barrier = threading.Barrier(count)

    def one(number: int) -> T:
        barrier.wait(20)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# -- the lease ------------------------------------------------------------------------------------------------------------------


def _finish(uow: UnitOfWork, job: Job) -> Job:
    return uow.jobs.finish(job, JobState.SUCCEEDED, result={"by": "stale"})


def _converge(uow: UnitOfWork, job: Job) -> Job:
    return uow.jobs.release_converging(job, look_after_s=1)


def _queue(uow: UnitOfWork, job: Job) -> Job:
    return uow.jobs.release_queued(job, after_s=1, step="later", forget_intent=True)


def _intend(uow: UnitOfWork, job: Job) -> Job:
    return uow.jobs.declare_intent(job, ttl_s=TTL_S)


WRITES = pytest.mark.parametrize("write", [_finish, _converge, _queue, _intend])


@WRITES
def test_stale_lease_result_is_dropped(database: Database, write: Callable[[UnitOfWork, Job], Job]) -> None:
    _, job = accepted(database)
    stale = claimed(database, job.id)
    execute(database, "UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    with database.begin() as uow:
        assert [lost.id for lost in uow.jobs.reclaim_expired(max_crashes=10)] == [job.id]
    fresh = claimed(database, job.id)
    with pytest.raises(LeaseLost), database.begin() as uow:
        write(uow, stale)
    after = read(database, job.id)
    assert (after.state, after.lease_token, after.intent_at) == (JobState.RUNNING, fresh.lease_token, None)
    assert (after.result, after.crashes) == (None, 1)


@WRITES
def test_ended_job_is_not_written_by_the_worker_that_held_it(database: Database, write: Callable[[UnitOfWork, Job], Job]) -> None:
    _, job = accepted(database)
    held = claimed(database, job.id)
    with database.begin() as uow:
        uow.jobs.finish(held, JobState.FAILED, error={"reason": "X", "detail": "y"})
    with pytest.raises(LeaseLost), database.begin() as uow:
        write(uow, held)
    assert read(database, job.id).state is JobState.FAILED


def test_no_call_is_made_on_a_lease_that_ran_out(database: Database) -> None:
    _, job = accepted(database)
    held = claimed(database, job.id)
    execute(database, "UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    with pytest.raises(LeaseLost), database.begin() as uow:
        uow.jobs.declare_intent(held, ttl_s=TTL_S)


def test_what_was_done_may_be_written_after_the_lease_ran_out_if_nobody_took_it(database: Database) -> None:
    _, job = accepted(database)
    held = claimed(database, job.id)
    execute(database, "UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
    with database.begin() as uow:
        assert uow.jobs.release_converging(held, look_after_s=1).state is JobState.CONVERGING


def test_intent_renews_the_lease_and_stays_until_it_is_known(database: Database) -> None:
    _, job = accepted(database)
    held = claimed(database, job.id, ttl_s=1)
    with database.begin() as uow:
        marked = uow.jobs.declare_intent(held, ttl_s=TTL_S, baseline={"status": "X"})
    assert marked.intent_at is not None
    assert marked.lease_expires_at is not None
    assert held.lease_expires_at is not None
    assert marked.lease_expires_at > held.lease_expires_at
    with database.begin() as uow:
        kept = uow.jobs.release_queued(marked, after_s=0, step="lost", forget_intent=False)
    assert kept.intent_at == marked.intent_at
    assert kept.baseline == {"status": "X"}


def test_waiting_that_does_not_count_takes_its_attempt_back(database: Database) -> None:
    _, job = accepted(database)
    for count, attempts in ((True, 1), (False, 1), (True, 2)):
        with database.begin() as uow:
            held = uow.jobs.claim(job.id, owner="w", token=uuid4(), ttl_s=TTL_S)
            assert held is not None
            assert uow.jobs.release_queued(held, after_s=0, step="x", forget_intent=True, count=count).attempts == attempts


def test_twenty_threads_claim_one_job_and_one_wins(database: Database) -> None:
    _, job = accepted(database)
    won = [held for held in together(20, lambda number: claim(database, job.id, f"worker-{number}")) if held is not None]
    assert len(won) == 1
    after = read(database, job.id)
    assert (after.lease_owner, after.attempts) == (won[0].lease_owner, 1)


@pytest.mark.parametrize("due", ["now() + interval '1 minute'", "now() - interval '1 minute'"])
def test_a_job_is_claimed_when_it_is_due(database: Database, due: str) -> None:
    _, job = accepted(database)
    execute(database, f"UPDATE jobs SET due_at = {due}")  # noqa: S608
    assert (claim(database, job.id) is None) == ("+" in due)


def test_reclaim_gives_up_a_job_that_kills_its_workers(database: Database) -> None:
    _, job = accepted(database)
    for crash in range(1, 4):
        claimed(database, job.id)
        execute(database, "UPDATE jobs SET lease_expires_at = now() - interval '1 s'")
        with database.begin() as uow:
            [lost] = uow.jobs.reclaim_expired(max_crashes=3)
        assert lost.crashes == crash
        assert lost.state is (JobState.FAILED if crash == 3 else JobState.QUEUED)
    after = read(database, job.id)
    assert after.error is not None
    assert after.error["reason"] == "POISON_JOB"
    assert after.finished_at is not None


def test_reclaim_leaves_leases_that_stand(database: Database) -> None:
    _, job = accepted(database)
    claimed(database, job.id)
    with database.begin() as uow:
        assert uow.jobs.reclaim_expired(max_crashes=3) == []


def test_two_relays_reclaim_each_lost_job_once(database: Database) -> None:
    for number in range(10):
        _, job = accepted(database, f"c-{number}")
        claimed(database, job.id)
    execute(database, "UPDATE jobs SET lease_expires_at = now() - interval '1 s'")

    def reclaim(_: int) -> list[UUID]:
        with database.begin() as uow:
            return [job.id for job in uow.jobs.reclaim_expired(max_crashes=10)]

    found = [job_id for part in together(4, reclaim) for job_id in part]
    assert len(found) == len(set(found)) == 10


# -- turns --------------------------------------------------------------------------------------------------------------------------


def test_jobs_on_one_cluster_take_turns(database: Database) -> None:
    cluster, create = accepted(database)
    resize, delete = another(database, cluster, JobKind.RESIZE), another(database, cluster, JobKind.DELETE)
    assert read(database, resize.id).blocked_by == create.id
    assert read(database, delete.id).blocked_by == create.id
    for job in (create, resize, delete):
        waiting = [other for other in (create, resize, delete) if other is not job and not read(database, other.id).is_terminal]
        assert all(claim(database, other.id) is None for other in waiting)
        held = claimed(database, job.id)
        assert all(claim(database, other.id) is None for other in waiting)
        with database.begin() as uow:
            uow.jobs.finish(held, JobState.SUCCEEDED)


def test_racing_claims_of_one_clusters_jobs_let_one_act(database: Database) -> None:
    for _ in range(5):
        cluster, create = accepted(database, f"c-{uuid4().hex[:6]}")
        jobs = [create, *[another(database, cluster, JobKind.RESIZE) for _ in range(3)]]
        won = [job for job in together(8, lambda n, jobs=jobs: claim(database, jobs[n % 4].id)) if job]  # type: ignore[misc]
        assert [job.id for job in won] == [create.id]


def test_constraint_keeps_a_second_job_from_acting(database: Database) -> None:
    cluster, create = accepted(database)
    claimed(database, create.id)
    resize = another(database, cluster, JobKind.RESIZE)
    with pytest.raises(Conflict), database.begin() as uow:
        uow.connection.execute(
            text("UPDATE jobs SET state = 'running', lease_token = gen_random_uuid() WHERE id = :id"), {"id": resize.id}
        )


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE jobs SET state = 'running'",
        "UPDATE jobs SET state = 'succeeded'",
        "UPDATE jobs SET finished_at = now()",
        "UPDATE jobs SET state = 'lost'",
        "UPDATE jobs SET kind = 'explode'",
        "UPDATE clusters SET phase = 'Fine'",
        "UPDATE clusters SET node_count = -1",
    ],
)
def test_constraints_refuse_rows_that_make_no_sense(database: Database, broken: str) -> None:
    accepted(database)
    with pytest.raises(IntegrityError):
        execute(database, broken)


# -- the relay's rows ------------------------------------------------------------------------------------------------------------------


def test_two_relays_never_take_one_job_twice(database: Database) -> None:
    for number in range(60):
        accepted(database, f"c-{number}")

    def take(_: int) -> list[UUID]:
        taken: list[UUID] = []
        while True:
            with database.begin() as uow:
                jobs = uow.jobs.take_due(limit=7, again_after_s=20)
            if not jobs:
                return taken
            taken += [job.id for job in jobs]

    found = [job_id for part in together(4, take) for job_id in part]
    assert len(found) == len(set(found)) == 60


def test_job_locked_by_another_relay_is_skipped_not_waited_for(database: Database) -> None:
    _, first = accepted(database, "a")
    _, second = accepted(database, "b")
    with database.begin() as uow:
        uow.connection.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": first.id})
        with database.begin() as other:
            assert [job.id for job in other.jobs.take_due(limit=10, again_after_s=20)] == [second.id]


def test_take_due_sends_what_has_its_turn_and_again_only_after_a_while(database: Database) -> None:
    cluster, create = accepted(database)
    another(database, cluster, JobKind.RESIZE)

    def take() -> list[UUID]:
        with database.begin() as uow:
            return [job.id for job in uow.jobs.take_due(limit=10, again_after_s=20)]

    assert take() == [create.id]
    assert take() == []
    execute(database, "UPDATE jobs SET dispatched_at = now() - interval '21 s'")
    assert take() == [create.id]
    with database.begin() as uow:
        uow.jobs.untake([create.id])
    assert take() == [create.id]


def test_oldest_due_age_counts_from_the_due_time(database: Database) -> None:
    accepted(database)
    execute(database, "UPDATE jobs SET due_at = now() - interval '90 s'")
    with database.begin() as uow:
        assert 89 < uow.jobs.oldest_due_s() < 100
    execute(database, "UPDATE jobs SET due_at = now() + interval '90 s'")
    with database.begin() as uow:
        assert uow.jobs.oldest_due_s() == 0.0


# -- requests ---------------------------------------------------------------------------------------------------------------------------


def _states(database: Database) -> dict[UUID, str]:
    with database.begin() as uow:
        return {row[0]: row[1] for row in uow.connection.execute(text("SELECT id, state FROM jobs"))}


def test_overtake_ends_what_waits_and_what_converges_and_asks_what_runs(database: Database) -> None:
    cases = {}
    for name in ("queued", "intent", "running", "converging", "ended"):
        cluster, job = accepted(database, name)
        cases[name] = (cluster, job)
        if name == "queued":
            continue
        held = claimed(database, job.id)
        with database.begin() as uow:
            if name == "intent":
                held = uow.jobs.declare_intent(held, ttl_s=TTL_S)
                uow.jobs.release_queued(held, after_s=60, step="lost", forget_intent=False)
            elif name == "converging":
                uow.jobs.release_converging(held, look_after_s=1)
            elif name == "ended":
                uow.jobs.finish(held, JobState.SUCCEEDED)
    with database.begin() as uow:
        for cluster, _ in cases.values():
            uow.jobs.overtake(cluster.id, reason="PREEMPTED_BY_DELETE", by=None, kinds=[JobKind.CREATE])
    after = {name: read(database, job.id) for name, (_, job) in cases.items()}
    assert {name: job.state.value for name, job in after.items()} == {
        "queued": "cancelled",
        "intent": "queued",  # its call may have been made: it looks first
        "running": "running",
        "converging": "cancelled",
        "ended": "succeeded",
    }
    assert after["intent"].cancel_requested_at is not None
    assert after["running"].cancel_requested_at is not None
    assert after["ended"].cancel_requested_at is None
    with database.begin() as uow:
        assert after["intent"].due_at <= uow.jobs.now()  # looks at once


def test_overtake_takes_only_the_kinds_it_is_told(database: Database) -> None:
    cluster, create = accepted(database)
    delete = another(database, cluster, JobKind.DELETE)
    with database.begin() as uow:
        uow.jobs.overtake(cluster.id, reason="X", by=None, kinds=[JobKind.CREATE, JobKind.RESIZE])
    assert _states(database) == {create.id: "cancelled", delete.id: "queued"}


def test_cancel_and_claim_race_has_one_winner(database: Database) -> None:
    outcomes: Counter[str] = Counter()
    for number in range(15):
        _, job = accepted(database, f"c-{number}")

        def act(which: int, job: Job = job) -> str | None:
            if which == 0:
                return "claimed" if claim(database, job.id) else None
            with database.begin() as uow:
                return "cancelled" if uow.jobs.cancel_one(job.id, reason="X") else None

        won = [name for name in together(2, act) if name]
        assert len(won) == 1
        outcomes[won[0]] += 1
        assert read(database, job.id).state.value == {"claimed": "running", "cancelled": "cancelled"}[won[0]]


def test_accept_is_one_transaction(database: Database) -> None:
    accepted(database)
    cluster = a_cluster()  # the same name
    job = a_job(cluster_id=cluster.id)
    with pytest.raises(AlreadyExists) as caught:
        database.acceptor.create(cluster, job, Idempotency("key", "print"))
    assert caught.value.errors[0].field == "name"
    with database.begin() as uow:
        for table, count in {"clusters": 1, "jobs": 1, "job_events": 1, "idempotency_keys": 0}.items():
            assert uow.connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == count  # noqa: S608


def test_accept_that_breaks_in_its_last_part_leaves_nothing(database: Database) -> None:
    execute(database, "ALTER TABLE job_events ADD CONSTRAINT never CHECK (step <> 'accepted')")
    cluster = a_cluster()
    with pytest.raises(psycopg2.IntegrityError):
        database.acceptor.create(cluster, a_job(cluster_id=cluster.id), Idempotency("key", "print"))
    with database.begin() as uow:
        for table in ("clusters", "jobs", "job_events", "idempotency_keys"):
            assert uow.connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0  # noqa: S608


def test_ten_threads_with_one_key_make_one_job(database: Database) -> None:
    def request(number: int) -> bool:
        cluster = a_cluster(f"name-{number}")
        return database.acceptor.create(cluster, a_job(cluster_id=cluster.id), Idempotency("same-key", "print"))

    assert Counter(together(10, request)) == {True: 1, False: 9}
    with database.begin() as uow:
        known = uow.accept.recall(PROJECT, "same-key")
        assert known is not None
        assert known[0] == "print"
        assert uow.jobs.get(known[1]) is not None
        assert uow.accept.recall(OTHER_PROJECT, "same-key") is None
        assert uow.connection.execute(text("SELECT count(*) FROM clusters")).scalar_one() == 1


def test_ten_threads_with_one_name_make_one_cluster(database: Database) -> None:
    def request(_: int) -> str:
        cluster = a_cluster("wanted")
        try:
            database.acceptor.create(cluster, a_job(cluster_id=cluster.id), None)
        except AlreadyExists:
            return "refused"
        return "accepted"

    assert Counter(together(10, request)) == {"accepted": 1, "refused": 9}


def test_creates_that_are_written_together_fail_alone(database: Database) -> None:
    accepted(database, "taken")
    names = ["taken" if number % 8 == 0 else f"free-{number}" for number in range(48)]

    def request(number: int) -> str:
        cluster = a_cluster(names[number])
        try:
            return str(database.acceptor.create(cluster, a_job(cluster_id=cluster.id), None))
        except AlreadyExists:
            return "refused"

    assert Counter(together(48, request)) == {"True": 42, "refused": 6}
    with database.begin() as uow:
        for table in ("clusters", "jobs", "job_events"):
            assert uow.connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 43  # noqa: S608


def test_names_are_free_in_another_project_and_after_the_end(database: Database) -> None:
    cluster, _ = accepted(database)
    accepted(database, project_id=OTHER_PROJECT)
    with database.begin() as uow:
        assert uow.clusters.name_taken(PROJECT, REGION, "training")
        uow.clusters.mark_deleted([cluster.id])
        assert not uow.clusters.name_taken(PROJECT, REGION, "training")
    accepted(database)


# -- ticks -----------------------------------------------------------------------------------------------------------------------------


def converging(database: Database, name: str = "training") -> tuple[Cluster, Job]:
    cluster, job = accepted(database, name)
    held = claimed(database, job.id)
    with database.begin() as uow:
        uow.clusters.bind(cluster.id, str(uuid4()))
        job = uow.jobs.release_converging(held, look_after_s=60)
        fresh = uow.clusters.by_id(cluster.id)
    assert fresh is not None
    return fresh, job


def verdict(job: Job, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": job.id,
        "submitted_at": job.submitted_at,
        "state": "succeeded",
        "step": "succeeded",
        "condition": None,
        "progressed": True,
        "look_after_s": 1.0,
        "result": {"node_count": 1},
        "error": None,
    }
    return row | changes


def test_settle_moves_a_job_once(database: Database) -> None:
    _, job = converging(database)

    def settle(_: int) -> int:
        with database.begin() as uow:
            return len(uow.jobs.settle([verdict(job)]))

    assert sorted(together(4, settle)) == [0, 0, 0, 1]
    after = read(database, job.id)
    assert (after.state, after.result) == (JobState.SUCCEEDED, {"node_count": 1})


def test_settle_drops_what_was_decided_on_an_older_submission(database: Database) -> None:
    _, job = converging(database)
    with database.begin() as uow:
        [queued] = uow.jobs.settle([verdict(job, state="queued", step="dropped")])
    assert (queued.state, queued.resubmits) == (JobState.QUEUED, 1)
    held = claimed(database, job.id)
    with database.begin() as uow:
        uow.jobs.release_converging(held, look_after_s=1)
        assert uow.jobs.settle([verdict(job)]) == []
    assert read(database, job.id).state is JobState.CONVERGING


def test_settle_that_waits_changes_only_when_to_look(database: Database) -> None:
    _, job = converging(database)
    with database.begin() as uow:
        uow.jobs.settle([verdict(job, state="converging", step=None, condition="slow", progressed=False, result=None)])
    after = read(database, job.id)
    assert (after.state, after.step, after.condition) == (JobState.CONVERGING, "submitted", "slow")
    assert after.progress_at == job.progress_at
    assert after.look_at != job.look_at


def test_stalled_jobs_are_marked_once(database: Database) -> None:
    converging(database)
    execute(database, "UPDATE jobs SET progress_at = now() - interval '20 minutes'")
    with database.begin() as uow:
        assert uow.jobs.mark_conditions(SCOPE, stall_s=900) == 1
        assert uow.jobs.mark_conditions(SCOPE, stall_s=900) == 0
        assert uow.jobs.stalled() == 1


def test_due_looks_put_the_late_first_and_then_the_longest_unseen(database: Database) -> None:
    pairs = [converging(database, f"c-{number}") for number in range(4)]
    for number, (cluster, job) in enumerate(pairs):
        execute(
            database,
            "UPDATE jobs SET look_at = now() - interval '1 s', deadline_at = now() + make_interval(secs => :late) WHERE id = :id",
            id=job.id,
            late=-1 if number == 3 else 600,
        )
        execute(
            database,
            "UPDATE clusters SET observed_at = now() - make_interval(secs => :ago) WHERE id = :id",
            id=cluster.id,
            ago=[10, 30, 20, 0][number],
        )
    with database.begin() as uow:
        late = uow.clusters.converging_due(SCOPE, limit=3, which="unlisted")
        due = uow.clusters.converging_due(SCOPE, limit=3, which="listed")
        everyone = uow.clusters.converging_due(SCOPE, limit=3, which="all")
    assert [cluster.name for _, cluster in late] == ["c-3"]
    assert [cluster.name for _, cluster in due] == ["c-1", "c-2", "c-0"]
    assert [cluster.name for _, cluster in everyone] == ["c-3", "c-1", "c-2"]
    execute(database, "UPDATE jobs SET look_at = now() + interval '1 h', deadline_at = now() + interval '1 h'")
    with database.begin() as uow:
        assert uow.clusters.converging_due(SCOPE, limit=9, which="unlisted") == []
        assert uow.clusters.converging_due(SCOPE, limit=9, which="listed") == []
        assert len(uow.clusters.converging_due(SCOPE, limit=9, which="all")) == 4


@pytest.mark.parametrize("what", ["tick", "inventory"])
def test_scope_lease_has_one_holder(database: Database, what: str) -> None:
    with database.begin() as uow:
        uow.scopes.ensure(SCOPE)
        uow.scopes.ensure(SCOPE)

    def take(_: int) -> bool:
        with database.begin() as uow:
            claim_it = uow.scopes.claim_tick if what == "tick" else uow.scopes.claim_inventory
            return claim_it(SCOPE, uuid4(), ttl_s=TTL_S) is not None

    assert Counter(together(12, take)) == {True: 1, False: 11}


def test_tick_that_lost_its_lease_writes_nothing(database: Database) -> None:
    stale, fresh = uuid4(), uuid4()
    with database.begin() as uow:
        uow.scopes.ensure(SCOPE)
        assert uow.scopes.claim_tick(SCOPE, stale, ttl_s=TTL_S) is not None
    execute(database, "UPDATE scopes SET lease_expires_at = now() - interval '1 s'")
    with pytest.raises(LeaseLost), database.begin() as uow:
        uow.scopes.hold_tick(SCOPE, stale)
    with database.begin() as uow:
        assert uow.scopes.claim_tick(SCOPE, fresh, ttl_s=TTL_S) is not None
        uow.scopes.release_tick(SCOPE, stale, after_s=1000, interval_s=1000, watermark=None, pacing={}, last={"by": "stale"})
        uow.scopes.hold_tick(SCOPE, fresh)
    with database.begin() as uow:
        row = uow.connection.execute(text("SELECT lease_token, last_tick FROM scopes")).one()
    assert (row[0], row[1]) == (fresh, {})


def test_tick_takes_turns_and_wakes_early(database: Database) -> None:
    token = uuid4()
    with database.begin() as uow:
        uow.scopes.ensure(SCOPE)
        assert uow.scopes.take_due(again_after_s=20) == [SCOPE]
        assert uow.scopes.take_due(again_after_s=20) == []
        uow.scopes.claim_tick(SCOPE, token, ttl_s=TTL_S)
        uow.scopes.release_tick(SCOPE, token, after_s=300, interval_s=300, watermark=None, pacing={}, last={})
    with database.begin() as uow:
        assert uow.scopes.take_due(again_after_s=20) == []
        assert uow.scopes.claim_tick(SCOPE, uuid4(), ttl_s=TTL_S) is None
        uow.scopes.wake(SCOPE, within_s=0)
    with database.begin() as uow:
        assert uow.scopes.take_due(again_after_s=20) == [SCOPE]
        uow.scopes.untake(SCOPE)
        assert uow.scopes.take_due(again_after_s=20) == [SCOPE]


# -- observations ------------------------------------------------------------------------------------------------------------------------


def _observe(database: Database, cluster: Cluster, at: datetime, phase: Phase = Phase.READY, **seen: Any) -> Cluster:
    with database.begin() as uow:
        uow.clusters.observe([observation(cluster, an_observed(**seen), at, (phase, None, None), arrived=True)])
        fresh = uow.clusters.by_id(cluster.id)
    assert fresh is not None
    return fresh


def test_older_observation_does_not_replace_a_newer_one(database: Database) -> None:
    cluster, _ = accepted(database)
    late, early = datetime.fromisoformat("2026-03-01T12:00:05+00:00"), datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    assert _observe(database, cluster, late, status="UPDATE_COMPLETE").status == "UPDATE_COMPLETE"
    after = _observe(database, cluster, early, status="CREATE_COMPLETE")
    assert (after.status, after.observed_at) == ("UPDATE_COMPLETE", late)


def test_observation_made_before_a_request_leaves_the_requests_phase(database: Database) -> None:
    cluster, _ = accepted(database)
    with database.begin() as uow:
        uow.clusters.want(cluster.id, phase=Phase.DELETING)
    after = _observe(database, cluster, datetime.fromisoformat("2026-03-01T12:00:00+00:00"))
    assert (after.phase, after.status, after.generation) == (Phase.DELETING, "CREATE_COMPLETE", 2)


def test_deleted_cluster_is_not_observed_again(database: Database) -> None:
    cluster, _ = accepted(database)
    with database.begin() as uow:
        uow.clusters.mark_deleted([cluster.id])
    assert _observe(database, cluster, datetime.fromisoformat("2026-03-01T12:00:00+00:00")).status == "DELETE_COMPLETE"


def test_one_magnum_cluster_is_held_by_one_row(database: Database) -> None:
    first, _ = accepted(database, "a")
    second, _ = accepted(database, "b")
    with database.begin() as uow:
        uow.clusters.bind(first.id, "uuid-1")
    with pytest.raises(Conflict), database.begin() as uow:
        uow.clusters.bind(second.id, "uuid-1")


def test_found_cluster_is_added_once(database: Database) -> None:
    def add(_: int) -> bool:
        with database.begin() as uow:
            return uow.clusters.add_found(replace(a_cluster("by-hand"), magnum_uuid="uuid-1", managed=False))

    assert Counter(together(6, add)) == {True: 1, False: 5}


# -- lists --------------------------------------------------------------------------------------------------------------------------------


def test_lists_page_in_order_and_within_the_project(database: Database) -> None:
    made = [accepted(database, f"c-{number}")[0].id for number in range(5)]
    accepted(database, "theirs", project_id=OTHER_PROJECT)
    with database.begin() as uow:
        first = uow.clusters.select(PROJECT, ClusterFilter(), limit=3, after=None)
        rest = uow.clusters.select(PROJECT, ClusterFilter(), limit=3, after=first[-1].id)
        jobs = uow.jobs.select(PROJECT, JobFilter(), limit=3, after=None)
        older = uow.jobs.select(PROJECT, JobFilter(), limit=3, after=jobs[-1].id)
    assert [cluster.id for cluster in [*first, *rest]] == made
    assert [job.cluster_id for job in [*jobs, *older]] == list(reversed(made))


@pytest.mark.parametrize(
    "where,names",
    [
        (ClusterFilter(), ["ready", "new", "found"]),
        (ClusterFilter(status="Ready"), ["ready"]),
        (ClusterFilter(status="ready"), ["ready"]),
        (ClusterFilter(status="create_complete"), ["ready"]),
        (ClusterFilter(status="CREATE_REQUESTED"), ["new", "found"]),
        (ClusterFilter(workload_type="training"), ["new"]),
        (ClusterFilter(managed=False), ["found"]),
        (ClusterFilter(status="ready", managed=False), []),
    ],
)
def test_clusters_are_filtered(database: Database, where: ClusterFilter, names: list[str]) -> None:
    ready, _ = accepted(database, "ready")
    accepted(database, "new", labels={"workload_type": "training"})
    with database.begin() as uow:
        uow.clusters.add_found(replace(a_cluster("found"), magnum_uuid="u", managed=False, phase=Phase.UPDATING))
    _observe(database, ready, datetime.fromisoformat("2026-03-01T12:00:00+00:00"))
    with database.begin() as uow:
        assert [cluster.name for cluster in uow.clusters.select(PROJECT, where, limit=9, after=None)] == names


def test_latest_job_is_the_one_that_acts_else_the_last_that_ended(database: Database) -> None:
    cluster, create = accepted(database)
    resize = another(database, cluster, JobKind.RESIZE)

    def latest() -> UUID:
        with database.begin() as uow:
            return uow.jobs.latest_of([cluster.id])[cluster.id].id

    assert latest() == create.id
    for job, following in ((create, resize), (resize, resize)):
        held = claimed(database, job.id)
        with database.begin() as uow:
            uow.jobs.finish(held, JobState.SUCCEEDED)
        assert latest() == following.id


def test_history_is_kept_in_order_and_can_be_followed(database: Database) -> None:
    _, job = accepted(database)
    held = claimed(database, job.id)
    with database.begin() as uow:
        uow.jobs.record([(held.id, "one", "running", {"n": 1}), (held.id, "two", "running", {}), (uuid4(), "stray", "running", {})])
        events = uow.jobs.events(job.id)
        assert [event.step for event in events] == ["accepted", "claimed", "one", "two"]
        assert [event.step for event in uow.jobs.events(job.id, events[1].seq)] == ["one", "two"]
        assert uow.jobs.last_wait(job.id) == "two"
        assert uow.jobs.last_error(job.id) is None
        uow.jobs.record([(held.id, "retry", "queued", {"reason": "X", "detail": "y", "after_s": 2})])
        assert uow.jobs.last_error(job.id) == {"reason": "X", "detail": "y"}


# -- upkeep ---------------------------------------------------------------------------------------------------------------------------------


def test_retention_drops_ended_jobs_with_their_history_and_old_keys(database: Database) -> None:
    _, old = accepted(database, "old")
    _, fresh = accepted(database, "fresh")
    _, open_ = accepted(database, "open")
    for job in (old, fresh):
        held = claimed(database, job.id)
        with database.begin() as uow:
            uow.jobs.finish(held, JobState.SUCCEEDED)
    with database.begin() as uow:
        uow.accept.remember(PROJECT, Idempotency("old", "p"), old.id)
        uow.accept.remember(PROJECT, Idempotency("fresh", "p"), fresh.id)
    execute(database, "UPDATE jobs SET finished_at = now() - interval '31 days' WHERE id = :id", id=old.id)
    execute(database, "UPDATE jobs SET created_at = now() - interval '31 days'")
    execute(database, "UPDATE idempotency_keys SET created_at = now() - interval '31 days' WHERE key = 'old'")
    with database.begin() as uow:
        assert uow.jobs.forget_old(days=30) == 1
        assert uow.jobs.get(old.id) is None
        assert uow.jobs.events(old.id) == []
        assert uow.jobs.get(fresh.id) is not None
        assert uow.jobs.get(open_.id) is not None
        assert uow.accept.recall(PROJECT, "old") is None
        assert uow.accept.recall(PROJECT, "fresh") is not None


def test_statements_end_in_bounded_time(database: Database) -> None:
    with database.begin() as uow:
        timeouts = uow.connection.execute(
            text("SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'TimeZone')")
        ).all()
        assert dict(timeouts) == {"statement_timeout": "20000", "lock_timeout": "10000", "TimeZone": "UTC"}
        uow.connection.execute(text("SET LOCAL statement_timeout = 50"))
        with pytest.raises(DBAPIError, match="statement timeout"):
            uow.connection.execute(text("SELECT pg_sleep(5)"))
