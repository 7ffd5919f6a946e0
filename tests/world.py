"""The whole product over one database and the fake cloud, in one thread, step by step."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from shared.bootstrap import Container, build
from shared.db.engine import make_engine
from shared.db.uow import Database
from shared.domain.clusters import Scope
from shared.domain.jobs import ACTIVE, Job, JobKind, JobState
from shared.errors import Unavailable
from shared.services.catalogs import Catalogs
from shared.services.clusters import ClusterService
from shared.services.converge import Converger
from shared.services.inventory import Inventory
from shared.services.jobs import JobService
from shared.services.relay import Relay
from shared.services.runner import Runner
from tests.builders import REGION, SCOPE, engine_settings, some_settings
from tests.clocks import DatabaseClock
from tests.fake_cloud import FakeCloud, WorkerKilled

__all__ = ["Container", "RecordingDispatcher", "World", "build", "rows", "some_settings"]


@dataclass
class RecordingDispatcher:
    """A broker that keeps what it is given, until a test delivers or loses it (the port ``Dispatcher``)."""

    jobs: list[UUID] = field(default_factory=list)
    ticks: list[Scope] = field(default_factory=list)
    inventories: list[Scope] = field(default_factory=list)
    away: bool = False

    def waiting(self) -> int:
        self._require()
        return len(self.jobs)

    def send_job(self, job: Job) -> None:
        self._require()
        self.jobs.append(job.id)

    def send_tick(self, scope: Scope) -> None:
        self._require()
        self.ticks.append(scope)

    def send_inventory(self, scope: Scope) -> None:
        self._require()
        self.inventories.append(scope)

    def flush(self) -> None:
        """Everything that waits is lost."""
        self.jobs.clear()
        self.ticks.clear()
        self.inventories.clear()

    def _require(self) -> None:
        if self.away:
            raise Unavailable("The broker is away.", reason="BROKER_UNAVAILABLE")


class Announcements:
    """Remembers which jobs were announced as finished (the port ``Announcer``)."""

    def __init__(self) -> None:
        self.ended: list[tuple[UUID, JobState]] = []

    def finished(self, job: Job) -> None:
        self.ended.append((job.id, job.state))


class World:
    """Everything wired as ``bootstrap`` does it, but over the fake cloud, a clock that can be moved and no broker."""

    def __init__(self, url: str, **engine_changes: Any) -> None:
        self.clock = DatabaseClock(url)
        self.engine: Engine = make_engine(url, pool_size=8)
        self.database = Database(self.engine)
        self.cloud = FakeCloud(self.clock)
        self.settings = engine_settings(**engine_changes)
        self.nudges = 0
        self.dispatcher = RecordingDispatcher()
        self.announcer = Announcements()
        catalogs = Catalogs(self.cloud, self.clock, 60.0)
        self.catalogs = catalogs
        self.clusters = ClusterService(
            self.database, self.cloud, catalogs, self.clock, region=REGION, engine=self.settings, nudge=self._nudge
        )
        self.jobs = JobService(self.database, self.clusters, nudge=self._nudge)
        self.converger = Converger(self.database, self.cloud, self.clock, self.announcer, engine=self.settings)
        self.inventory = Inventory(self.database, self.cloud, self.clock, self.clusters, engine=self.settings)
        self.relay = Relay(self.database, self.dispatcher, self.announcer, engine=self.settings)
        self.runner = self.a_runner("worker-1")

    def a_runner(self, owner: str) -> Runner:
        """Another worker."""
        return Runner(
            self.database,
            self.cloud,
            self.clock,
            self.announcer,
            engine=self.settings,
            owner=owner,
            backoff_s=lambda attempt: min(0.5 * 2.0**attempt, 60.0),
        )

    def _nudge(self) -> None:
        self.nudges += 1

    def close(self) -> None:
        self.engine.dispose()

    def empty(self) -> None:
        """Forget everything."""
        with self.engine.begin() as connection:
            names = "clusters, stacks, jobs, job_events, idempotency_keys, scopes, credentials, usage_intervals, durations,"
            connection.execute(
                text(f"TRUNCATE {names} series_state, cluster_metrics, cluster_costs, audit_events, rate_cards CASCADE")
            )

    # -- steps ----------------------------------------------------------------------------------------------------------

    def work(self, job_id: UUID) -> None:
        """A worker takes one message; it may be killed at it."""
        try:
            self.runner.run(job_id)
        except WorkerKilled:
            return

    def tick(self, scope: Scope = SCOPE) -> None:
        """A convergence tick, now if one is due."""
        try:
            self.converger.tick(scope)
        except WorkerKilled:
            return

    def take_inventory(self, scope: Scope = SCOPE) -> None:
        """A slice of the inventory, now if one is due."""
        try:
            self.inventory.take(scope)
        except WorkerKilled:
            return

    def deliver(self) -> None:
        """Hand every waiting message to a worker."""
        broker = self.dispatcher
        jobs, ticks, inventories = list(broker.jobs), list(broker.ticks), list(broker.inventories)
        broker.flush()
        for job_id in jobs:
            self.work(job_id)
        for scope in ticks:
            self.tick(scope)
        for scope in inventories:
            self.take_inventory(scope)

    def round(self, seconds: float = 3.0) -> None:
        """Relay, deliver, and let time pass."""
        self.relay.dispatch()
        self.deliver()
        self.clock.advance(seconds)
        self.cloud.advance()

    def run_until_quiet(self, *, rounds: int = 400) -> None:
        """Rounds until no job is unfinished; AssertionError where they never are."""
        for number in range(rounds):
            if not self.unfinished():
                return
            self.round(3.0 if number < 40 else 30.0)
        left = [(job["kind"], job["state"], job["step"], job["attempts"]) for job in self.unfinished()]
        raise AssertionError(f"jobs that never end: {left}")

    def inventory_now(self, *, passes: int = 1, scope: Scope = SCOPE) -> None:
        """The whole inventory, due or not."""
        for _ in range(passes):
            self.execute("UPDATE scopes SET next_inventory_at = now(), inventory_expires_at = NULL, inventory_token = NULL")
            self.take_inventory(scope)

    # -- looking ----------------------------------------------------------------------------------------------------------

    def execute(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(statement), values).mappings()]

    def unfinished(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM jobs WHERE state = ANY(:states) ORDER BY seq", states=[state.value for state in ACTIVE])

    def job(self, job_id: UUID) -> Job:
        with self.database.single() as uow:
            job = uow.jobs.get(job_id)
        assert job is not None
        return job

    def steps(self, job_id: UUID) -> list[str]:
        with self.database.single() as uow:
            return [event.step for event in uow.jobs.events(job_id)]

    def jobs_of_kind(self, kind: JobKind) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM jobs WHERE kind = :kind ORDER BY seq", kind=kind.value)


def rows(url: str, statement: str, **values: Any) -> list[dict[str, Any]]:
    """What a statement finds in the database at ``url``, over a connection of its own."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        return [dict(row) for row in connection.execute(text(statement), values).mappings()]
