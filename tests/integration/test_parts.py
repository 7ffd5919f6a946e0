"""The relay, the nudge, outages of the database, registered credentials, remembered catalogs, upkeep."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg2
import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from deployment.local.embedded import EmbeddedPostgres
from shared.bootstrap import build
from shared.db.engine import make_engine
from shared.db.notify import Listener, Nudger
from shared.db.uow import Database
from shared.domain.clusters import Scope
from shared.domain.jobs import JobState
from shared.domain.ports import Accepted, Idempotency
from shared.errors import (
    CloudError,
    CloudUnavailable,
    ConfigurationError,
    Conflict,
    IdempotencyMismatch,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from shared.services.catalogs import Catalogs
from shared.services.credentials import Credentials, CredentialService, Vault
from shared.services.upkeep import Upkeep
from tests.builders import (
    OTHER_PROJECT,
    PROJECT,
    REGION,
    SCOPE,
    TEMPLATE_NAME,
    a_template,
    an_actor,
    engine_settings,
    some_settings,
)
from tests.clocks import ManualClock
from tests.fake_cloud import FakeCloud, Fault, Trouble
from tests.world import World

ACTOR = an_actor()
WAIT_S = 10.0


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World(database_url)
    yield made
    made.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    engine = make_engine(database_url)
    yield Database(engine)
    engine.dispose()


def create(world: World, name: str = "training", key: str | None = None, fingerprint: str = "print") -> Accepted:
    fields = {"name": name, "cluster_template_id": TEMPLATE_NAME}
    accepted = world.clusters.request_create(ACTOR, fields, idempotency=Idempotency(key, fingerprint) if key else None)
    assert accepted is not None
    return accepted


# -- the relay ----------------------------------------------------------------------------------------------------------------------


def test_request_touches_neither_broker_nor_magnum(world: World) -> None:
    world.catalogs.get(SCOPE)
    world.dispatcher.away = True
    world.cloud.calls.clear()
    create(world)
    assert world.cloud.calls == []
    assert world.nudges == 1


def test_broker_that_is_away_loses_nothing(world: World) -> None:
    accepted = create(world)
    world.dispatcher.away = True
    with pytest.raises(Unavailable):
        world.relay.dispatch()
    world.dispatcher.away = False
    assert world.relay.dispatch().jobs == 1
    assert world.dispatcher.jobs == [accepted.job.id]


def test_broker_that_goes_away_while_it_is_fed_loses_nothing(world: World) -> None:
    for number in range(5):
        create(world, f"c-{number}")
    send = world.dispatcher.send_job

    def break_after_two(job: Any) -> None:
        if len(world.dispatcher.jobs) == 2:
            raise Unavailable("gone")
        send(job)

    world.dispatcher.send_job = break_after_two  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        world.relay.dispatch()
    world.dispatcher.send_job = send  # type: ignore[method-assign]
    world.dispatcher.flush()
    assert world.relay.dispatch().jobs == 5


def test_lost_messages_are_sent_again_after_a_while(world: World) -> None:
    accepted = create(world)
    assert world.relay.dispatch().jobs == 1
    world.dispatcher.flush()
    assert world.relay.dispatch().jobs == 0
    world.clock.advance(world.settings.redispatch_s + 1)
    assert world.relay.dispatch().jobs == 1
    world.deliver()
    world.work(accepted.job.id)  # a message delivered twice finds nothing to do
    assert world.cloud.calls.count("create") == 1


def test_relay_keeps_the_broker_short(database_url: str) -> None:
    world = World(database_url, dispatch_window=3)
    for number in range(5):
        create(world, f"c-{number}")
    sent = world.relay.dispatch()
    assert (sent.jobs, sent.more) == (3, True)
    assert world.relay.dispatch().jobs == 0
    world.dispatcher.jobs.clear()
    sent = world.relay.dispatch()
    assert (sent.jobs, sent.more) == (2, False)
    world.close()


def test_two_relays_send_each_job_once(world: World) -> None:
    for number in range(30):
        create(world, f"c-{number}")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: world.relay.dispatch(), range(3)))
    assert len(world.dispatcher.jobs) == len(set(world.dispatcher.jobs)) == 30


def test_jobs_given_up_are_announced_and_shown(database_url: str) -> None:
    world = World(database_url, max_crashes=1)
    world.cloud.faults = [Fault("find", Trouble.KILLED_BEFORE)]
    accepted = create(world)
    world.round(world.settings.lease_ttl_s + 1)
    world.relay.dispatch()
    assert world.announcer.ended == [(accepted.job.id, JobState.FAILED)]
    cluster = world.clusters.get(ACTOR, str(accepted.cluster.id))
    assert (cluster.reason, cluster.live) == ("POISON_JOB", False)
    world.close()


# -- repeats of a request ---------------------------------------------------------------------------------------------------------------


def test_same_key_from_ten_threads_is_one_promise(world: World) -> None:
    barrier = threading.Barrier(10)

    def request(_: int) -> Accepted:
        barrier.wait(WAIT_S)
        return create(world, key="once")

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(request, range(10)))
    assert len({answer.job.id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 9
    assert len(world.rows("SELECT 1 FROM clusters")) == 1


def test_key_of_another_request_is_refused(world: World) -> None:
    create(world, key="once")
    with pytest.raises(IdempotencyMismatch):
        create(world, "another", key="once", fingerprint="another")
    assert len(world.rows("SELECT 1 FROM clusters")) == 1


@pytest.mark.parametrize("operation", ["resize", "delete"])
def test_changes_are_repeated_by_key_too(world: World, operation: str) -> None:
    accepted = create(world)
    world.run_until_quiet()
    ref, key = str(accepted.cluster.id), Idempotency("again", "print")
    call: Callable[[Idempotency], Accepted | None] = {
        "resize": lambda key: world.clusters.request_resize(ACTOR, ref, {"node_count": 3}, idempotency=key),
        "delete": lambda key: world.clusters.request_delete(ACTOR, ref, idempotency=key),
    }[operation]
    first, second = call(key), call(key)
    assert first is not None
    assert second is not None
    assert (second.job.id, second.replayed) == (first.job.id, True)
    world.run_until_quiet()
    third = call(key)  # also when it has ended
    assert third is not None
    assert (third.job.id, third.job.state) == (first.job.id, JobState.SUCCEEDED)
    with pytest.raises(IdempotencyMismatch):
        call(replace(key, fingerprint="other"))


# -- the nudge ----------------------------------------------------------------------------------------------------------------------------


def test_nudge_wakes_the_listener_at_once(database: Database) -> None:
    listener, nudge = Listener(database.engine), Nudger(database.engine)
    assert listener.wait(0.05) is False
    started = time.monotonic()
    for _ in range(50):
        nudge()
    assert listener.wait(WAIT_S) is True
    assert time.monotonic() - started < WAIT_S / 2
    listener.close()


def test_listener_outlives_a_restart_of_the_database(postgres: EmbeddedPostgres, database: Database) -> None:
    listener, nudge = Listener(database.engine), Nudger(database.engine)
    listener.wait(0.01)
    postgres.restart()
    until = time.monotonic() + WAIT_S
    woken = False
    while not woken and time.monotonic() < until:
        nudge()
        woken = listener.wait(0.1)
    assert woken
    listener.close()


def test_nudger_outlives_a_connection_that_is_lost_while_it_is_given_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There SQLAlchemy lets the driver's own error through."""
    lost: list[Any] = []
    give_back = database.engine.dialect.reset_isolation_level

    def lose(connection: Any) -> None:
        if lost:
            give_back(connection)
            return
        lost.append(connection)
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(database.engine.dialect, "reset_isolation_level", lose)
    listener, nudge = Listener(database.engine), Nudger(database.engine)
    listener.wait(0.01)
    nudge()
    assert listener.wait(WAIT_S)
    (thread,) = [one for one in threading.enumerate() if one.name == "nudger" and one.is_alive()][-1:]
    until = time.monotonic() + WAIT_S
    while not lost and time.monotonic() < until:
        time.sleep(0.01)
    assert lost
    nudge()
    assert listener.wait(WAIT_S)
    assert thread.is_alive()
    listener.close()


# -- tasks --------------------------------------------------------------------------------------------------------------------------------


def test_every_kind_of_job_has_a_task_that_takes_what_is_sent() -> None:
    """In a process of its own, as importing the workers' application reads the environment."""
    words = (
        "import inspect; from workers import tasks; from shared.domain.jobs import DECISIONS, JobKind;"
        "print([k.value for k in JobKind if f'jobs.{k}' not in tasks.app.tasks]);"
        "print([k.value for k in DECISIONS if 'workload' not in inspect.signature(tasks.app.tasks[f'jobs.{k}'].run).parameters])"
    )
    settings = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "OS_AUTH_URL": "http://127.0.0.1:9/v3",
        "OS_USERNAME": "nobody",
        "OS_PASSWORD": "none",
        "OS_PROJECT_NAME": "none",
    }
    found = subprocess.run(
        [sys.executable, "-c", words], env=os.environ | settings, capture_output=True, text=True, check=False, timeout=60
    )
    assert found.stdout.splitlines()[-2:] == ["[]", "[]"], found.stderr


# -- outages of the database ---------------------------------------------------------------------------------------------------------------


def test_database_that_is_down_is_said_so_and_is_used_again_when_it_is_back(postgres: EmbeddedPostgres, world: World) -> None:
    accepted = create(world)
    postgres.stop()
    for call in (
        lambda: create(world, "another"),
        lambda: world.clusters.get(ACTOR, str(accepted.cluster.id)),
        lambda: world.clusters.request_delete(ACTOR, str(accepted.cluster.id)),
        lambda: world.runner.run(accepted.job.id),
        lambda: world.converger.tick(SCOPE),
        world.relay.dispatch,
    ):
        with pytest.raises(Unavailable) as caught:
            call()
        assert caught.value.reason == "DATABASE_UNAVAILABLE"
        assert caught.value.retry_after_s
    postgres.start()
    until = time.monotonic() + WAIT_S
    while True:  # each pooled connection finds out for itself that it broke
        try:
            create(world, "another")
            break
        except Unavailable:
            assert time.monotonic() < until
    world.run_until_quiet()
    assert {row["state"] for row in world.rows("SELECT state FROM jobs")} == {"succeeded"}
    assert len(world.cloud.made) == 2


def test_database_that_dies_between_call_and_answer_costs_no_second_cluster(postgres: EmbeddedPostgres, world: World) -> None:
    accepted = create(world)
    world.relay.dispatch()

    def die() -> None:
        postgres.kill()

    real_create = world.cloud.accept

    def accept_and_die(execute: Any) -> None:
        real_create(execute)
        die()

    world.cloud.accept = accept_and_die  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        world.runner.run(accepted.job.id)
    world.cloud.accept = real_create  # type: ignore[method-assign]
    postgres.start()
    world.engine.dispose()
    world.clock.advance(world.settings.lease_ttl_s + 1)
    world.run_until_quiet()
    assert world.job(accepted.job.id).state is JobState.SUCCEEDED
    assert len(world.cloud.made) == 1


def test_pool_that_is_exhausted_is_said_so(database_url: str) -> None:
    from sqlalchemy import create_engine

    database = Database(create_engine(database_url, pool_size=1, max_overflow=0, pool_timeout=0.1))
    with database.begin(), pytest.raises(Unavailable) as caught, database.begin():
        raise AssertionError("there was a connection")
    assert caught.value.reason == "DATABASE_BUSY"
    database.engine.dispose()


def test_programming_errors_are_not_taken_for_outages(database: Database) -> None:
    from sqlalchemy.exc import ProgrammingError

    with pytest.raises(ProgrammingError), database.begin() as uow:
        uow.connection.execute(text("SELECT nothing FROM nowhere"))


# -- credentials ------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def vault() -> Vault:
    return Vault(Fernet.generate_key().decode())


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud(ManualClock())


def test_secret_is_sealed_in_the_row_and_found_in_clear(database: Database, vault: Vault, cloud: FakeCloud) -> None:
    service = CredentialService(database, vault, cloud, region=REGION)
    name = f"credential@{PROJECT}"
    shown = service.register(ACTOR, application_credential_id=name, secret=f"secret-of-{name}")
    assert "secret" not in shown
    assert shown["application_credential_id"] == name
    with database.begin() as uow:
        rows = uow.connection.execute(text("SELECT credentials::text, secret FROM credentials")).all()
    assert len(rows) == 1
    assert "secret-of" not in rows[0][0]
    assert b"secret-of" not in bytes(rows[0][1])
    assert Credentials(database, vault).find(SCOPE) == (name, f"secret-of-{name}")
    assert Credentials(database, vault).find(Scope(REGION, OTHER_PROJECT)) is None
    assert cloud.calls == [f"forget {PROJECT}"]
    # With another key it is as if there was none: the service's own user is tried.
    assert Credentials(database, Vault(Fernet.generate_key().decode())).find(SCOPE) is None
    assert service.remove(ACTOR) is True
    assert service.remove(ACTOR) is False
    assert service.get(ACTOR) is None


def test_credential_that_keystone_refuses_or_of_another_project_is_not_kept(
    database: Database, vault: Vault, cloud: FakeCloud
) -> None:
    service = CredentialService(database, vault, cloud, region=REGION)
    theirs = f"credential@{OTHER_PROJECT}"
    for secret, rule in (("wrong", "accepted"), (f"secret-of-{theirs}", "project")):
        with pytest.raises(InvalidRequest) as caught:
            service.register(ACTOR, application_credential_id=theirs, secret=secret)
        assert (caught.value.errors[0].field, caught.value.errors[0].rule) == ("application_credential_id", rule)
        assert secret not in str(caught.value)
    assert service.get(ACTOR) is None


def test_installation_without_a_key_keeps_no_secrets(database: Database, cloud: FakeCloud) -> None:
    with pytest.raises(Conflict) as caught:
        CredentialService(database, Vault(None), cloud, region=REGION).register(ACTOR, application_credential_id="x", secret="y")
    assert caught.value.reason == "NO_SECRET_KEY"
    with pytest.raises(ConfigurationError):
        Vault("not a key")


# -- catalogs -----------------------------------------------------------------------------------------------------------------------------------


def test_catalog_is_remembered_and_read_again_after_a_miss_or_a_minute(cloud: FakeCloud) -> None:
    clock = cloud.clock
    assert isinstance(clock, ManualClock)
    catalogs = Catalogs(cloud, clock, 60.0)
    assert catalogs.held(SCOPE) is None
    for _ in range(3):
        catalogs.get(SCOPE)
    assert cloud.calls.count("catalog") == 1
    cloud.templates.append(a_template(uuid="new", name="new"))
    assert catalogs.get(SCOPE).template("new") is None
    assert catalogs.after_miss(SCOPE).template("new") is None  # read this moment: not again yet
    clock.advance(3)
    assert catalogs.after_miss(SCOPE).template("new") is not None
    clock.advance(61)
    catalogs.get(SCOPE)
    assert cloud.calls.count("catalog") == 3


def test_catalog_of_an_outage_is_the_last_one(cloud: FakeCloud) -> None:
    clock = cloud.clock
    assert isinstance(clock, ManualClock)
    catalogs = Catalogs(cloud, clock, 60.0)
    cloud.faults = [Fault("catalog", Trouble.UNAVAILABLE)]
    with pytest.raises(Unavailable):
        catalogs.get(SCOPE)
    first = catalogs.get(SCOPE)
    clock.advance(3600)
    cloud.faults = [Fault("catalog", Trouble.UNAVAILABLE)]
    assert catalogs.get(SCOPE) is first


def test_catalog_is_read_by_one_thread_at_a_time(cloud: FakeCloud) -> None:
    catalogs = Catalogs(cloud, cloud.clock, 60.0)
    barrier = threading.Barrier(8)

    def get(_: int) -> int:
        barrier.wait(WAIT_S)
        return id(catalogs.get(SCOPE))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(get, range(8)))) == 1
    assert cloud.calls.count("catalog") == 1


# -- jobs, upkeep, wiring ------------------------------------------------------------------------------------------------------------------------


def test_waiting_for_a_job_ends_with_it_or_with_the_time(world: World) -> None:
    accepted = create(world)
    assert world.jobs.wait(ACTOR, accepted.job.id, 0.1).state is JobState.QUEUED
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(world.jobs.wait, ACTOR, accepted.job.id, WAIT_S)
        world.run_until_quiet()
        assert waiting.result(WAIT_S).state is JobState.SUCCEEDED
    with pytest.raises(NotFound):
        world.jobs.wait(ACTOR, uuid4(), 0.1)


def test_retry_after_is_a_tenth_of_what_such_jobs_take(world: World) -> None:
    job = create(world).job
    assert world.jobs.retry_after(job) == 30
    world.jobs._expected.clear()
    world.execute(
        "INSERT INTO durations (region, kind, template_id, seconds, finished_at) VALUES (:r, 'create', 't', 47, now())", r=REGION
    )
    assert world.jobs.retry_after(job) == 4


@pytest.mark.parametrize("marker", ["x", "6d0f1b7e-0000-4000-8000-000000000000"])
def test_unknown_markers_are_refused(world: World, marker: str) -> None:
    from shared.domain.ports import ClusterFilter, JobFilter

    for call in (
        lambda: world.clusters.list(ACTOR, ClusterFilter(), limit=5, marker=marker),
        lambda: world.jobs.list(ACTOR, JobFilter(), limit=5, marker=marker),
    ):
        with pytest.raises(InvalidRequest) as caught:
            call()
        assert caught.value.errors[0].field == "marker"


def test_upkeep_drops_in_batches_and_survives_an_outage(world: World) -> None:
    accepted = create(world)
    world.run_until_quiet()
    world.execute("UPDATE jobs SET finished_at = now() - interval '31 days'")
    upkeep = Upkeep(world.database, world.cloud, engine=engine_settings())
    assert upkeep.retain()["jobs"] == 1
    assert world.clusters.get(ACTOR, str(accepted.cluster.id)).live  # the cluster outlives its history
    world.execute("DELETE FROM scopes")
    upkeep.watch_own_project()
    upkeep.watch_own_project()
    assert [(row["region"], row["project_id"]) for row in world.rows("SELECT * FROM scopes")] == [(REGION, PROJECT)]

    class Away(FakeCloud):
        def own_scope(self) -> Scope:
            raise CloudUnavailable("Keystone is away")

    world.execute("DELETE FROM scopes")
    Upkeep(world.database, Away(world.clock), engine=engine_settings()).watch_own_project()
    assert not world.rows("SELECT * FROM scopes")


def test_everything_is_wired_without_a_connection() -> None:
    made = build(some_settings("postgresql+psycopg2://nobody@127.0.0.1:9/none"))
    assert made.runner() is not made.runner()  # one a caller; what they share is the database's pool
    made.converger()
    made.inventory()
    healthy, state = made.health.health()
    assert healthy is False
    assert state["services"]["database"] == "The database does not answer."
    ready, _ = made.health.ready()
    assert ready is False
    made.database.engine.dispose()


def test_ready_says_what_is_missing(empty_database_url: str) -> None:
    made = build(some_settings(empty_database_url), cloud=lambda _: FakeCloud(ManualClock()))
    ready, state = made.health.ready()
    assert ready is False
    assert state["checks"]["schema"] == "not migrated"
    assert state["checks"]["identity"] == "up"
    made.database.engine.dispose()


def test_metrics_tell_the_state_of_the_whole_system(world: World) -> None:
    made = build(some_settings(world.engine.url.render_as_string(hide_password=False)), cloud=lambda _: world.cloud)
    create(world)
    text_ = made.health.metrics().decode()
    assert 'kcloud_jobs{kind="create",state="queued"} 1.0' in text_
    assert 'kcloud_clusters{phase="Pending"} 1.0' in text_
    made.database.engine.dispose()


def test_cloud_that_refuses_the_projects_credentials_ends_the_job_with_its_words(world: World) -> None:
    accepted = create(world)
    world.cloud.allowed.discard(PROJECT)
    world.run_until_quiet()
    job = world.job(accepted.job.id)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error["reason"] == "AUTH_FAILED"


def test_ids_of_the_wrong_form_are_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        world.clusters.get(ACTOR, "not-an-id")
    with pytest.raises(NotFound):
        world.jobs.get(ACTOR, UUID(int=0))
    with pytest.raises(CloudError):
        world.cloud.gateway(SCOPE).resize("nothing", 1)


def test_a_job_submitted_while_a_tick_ends_is_looked_at_soon(world: World) -> None:
    """A worker has woken the scope and not committed; the tick must neither miss its job nor undo its wake."""
    create(world)
    world.round()
    world.run_until_quiet()
    cluster = world.rows("SELECT id FROM clusters")[0]["id"]
    change = world.clusters.request_resize(ACTOR, str(cluster), {"node_count": 3})
    assert change is not None
    world.execute("UPDATE scopes SET next_tick_at = now() - interval '1 s', lease_token = NULL, lease_expires_at = NULL")
    with ThreadPoolExecutor(1) as pool:
        with world.database.begin() as uow:
            uow.scopes.wake(SCOPE, within_s=0.5)
            tick = pool.submit(world.converger.tick, SCOPE)
            time.sleep(0.3)
            assert not tick.done()
            uow.connection.execute(
                text(
                    "UPDATE jobs SET state = 'converging', submitted_at = now(), look_at = now(),"
                    " params = params || jsonb_build_object('target_total', 3) WHERE id = :id"
                ),
                {"id": change.job.id},
            )
        tick.result(WAIT_S)
    planned = world.rows("SELECT extract(epoch FROM next_tick_at - now()) AS wait_s FROM scopes")[0]["wait_s"]
    assert planned < world.settings.tick_max_s
