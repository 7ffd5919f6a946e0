"""Usage intervals against histories: whatever is seen, when and in which order, they are what ran."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from shared.db.clusters import observation
from shared.db.engine import make_engine
from shared.db.uow import Database
from shared.domain.clusters import NodeGroup, NodeGroupSpec, Phase
from shared.services.usage import tell, tell_groups
from tests.builders import NOW, SCOPE, TEMPLATE_NAME, a_cluster, a_job, an_actor, an_observed
from tests.world import World

ACTOR = an_actor()
FLAVORS = {"default-master": "cpu.small", "default-worker": "cpu.large", "gpu": "gpu.a100", "npu": "npu.rngd"}


@pytest.fixture(scope="module")
def database(module_database_url: str) -> Iterator[Database]:
    engine = make_engine(module_database_url)
    yield Database(engine)
    engine.dispose()


def a_live_cluster(database: Database) -> UUID:
    cluster = a_cluster(f"c-{uuid4().hex[:8]}")
    database.acceptor.create(cluster, a_job(cluster_id=cluster.id), None)
    with database.begin() as uow:
        uow.clusters.bind(cluster.id, str(uuid4()))
    return cluster.id


# -- the database's own refusal -----------------------------------------------------------------------------------------


def put(database: Database, cluster: UUID, group: str, start: int, end: int | None) -> None:
    with database.begin() as uow:
        uow.connection.execute(
            text(
                "INSERT INTO usage_intervals (cluster_id, project_id, region, role, node_group, node_count, started_at, ended_at)"
                " VALUES (:id, 'p', 'r', 'worker', :group, 1, :start, :end)"
            ),
            {
                "id": cluster,
                "group": group,
                "start": NOW + timedelta(hours=start),
                "end": None if end is None else NOW + timedelta(hours=end),
            },
        )


@pytest.mark.parametrize("start,end", [(1, 3), (3, 5), (0, 9), (2, 3), (0, None), (5, None)])
def test_the_database_refuses_what_overlaps(database: Database, start: int, end: int | None) -> None:
    cluster = a_live_cluster(database)
    put(database, cluster, "gpu", 2, 4)
    put(database, cluster, "gpu", 6, None)
    with pytest.raises(IntegrityError) as caught:
        put(database, cluster, "gpu", start, end)
    assert "usage_intervals" in str(caught.value)
    put(database, cluster, "npu", start, end)  # another group
    put(database, cluster, "gpu", 4, 6)  # what adjoins does not overlap


def test_code_of_before_names_no_group(database: Database) -> None:
    cluster = a_live_cluster(database)
    with database.begin() as uow:
        made = uow.connection.execute(
            text(
                "INSERT INTO usage_intervals (cluster_id, project_id, region, role, node_count, started_at)"
                " VALUES (:id, 'p', 'r', 'master', 1, now()) RETURNING node_group"
            ),
            {"id": cluster},
        ).scalar_one()
    assert made == "default-master"


# -- any history --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """We look ``after`` of the time until the next change; the answer is written at once, or only after the next change was."""

    after: float
    late: bool
    clock_off_s: int


@dataclass(frozen=True)
class Step:
    """For so long, the cluster ran so many nodes in each group."""

    micros: int
    sizes: dict[str, int]
    masters: int
    status: str
    by_hand: bool
    looks: tuple[Look, ...]


LOOKS = st.builds(Look, st.floats(0, 1, exclude_max=True), st.booleans(), st.sampled_from([0, 0, 0, -7200, -30, 45, 86_400]))
STEPS = st.builds(
    Step,
    st.one_of(st.integers(1_000_000, 7_200_000_000), st.integers(10**11, 10**13)),
    st.fixed_dictionaries({"default-worker": st.integers(0, 4)}, optional={"gpu": st.integers(0, 3), "npu": st.integers(0, 9)}),
    st.integers(1, 3),
    st.sampled_from(["UPDATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED"]),
    st.booleans(),
    st.lists(LOOKS, min_size=0, max_size=3).map(tuple),
)


class Life:
    """A cluster whose truth is known, and what we are shown of it."""

    def __init__(self, database: Database, steps: list[Step]) -> None:
        self.database = database
        self.cluster_id = a_live_cluster(database)
        self.start = NOW - timedelta(days=1000)
        self.steps = steps
        self.late: list[tuple[Any, datetime]] = []
        self.dated = dict.fromkeys(FLAVORS, self.start)  # Magnum's date of each group
        self.before: Step | None = None

    def run(self) -> datetime:
        at = self.start
        wanted: Step | None = None
        for step in self.steps:
            if self.before is not None:
                changed = [name for name in FLAVORS if size(self.before, name) != size(step, name)]
                self.dated |= dict.fromkeys(changed, at)
            by_hand = step.by_hand and self._shows(step, wanted)
            if not by_hand:
                self._want(step)
                wanted = step
            shown = self._shown(step, at)
            answers, self.late = self.late, []
            # At least one answer for each state, or nobody could know of it; it may come after any outage.
            looks = (*step.looks, Look(0.999, late=False, clock_off_s=0))
            for look in looks:
                asked = at + timedelta(microseconds=int(step.micros * look.after))
                stamped = asked + timedelta(seconds=look.clock_off_s)
                if self.before is not None:
                    self._see(self._shown(self.before, at, "UPDATE_IN_PROGRESS"), stamped)
                if look.late:
                    self.late.append((shown, stamped))
                else:
                    self._see(shown, stamped)
                    self._read_groups(step, stamped)
                for late_shown, late_at in answers:
                    self._see(late_shown, late_at)
            self.before = step
            at += timedelta(microseconds=step.micros)
        event(f"{len(self.steps)} states")
        return at

    def _shows(self, step: Step, wanted: Step | None) -> bool:
        """Whether the total tells that somebody else changed it: it is neither what it was nor what we want."""
        return wanted is not None and self.before is not None and total(step) not in {0, total(wanted), total(self.before)}

    def _want(self, step: Step) -> None:
        with self.database.begin() as uow:
            uow.clusters.want_nodes(self.cluster_id, total(step))
            for name in ("gpu", "npu"):
                if name in step.sizes:
                    uow.clusters.want_group(self.cluster_id, NodeGroupSpec(name, step.sizes[name], FLAVORS[name]))
                else:
                    uow.clusters.drop_group(self.cluster_id, name)

    def _shown(self, step: Step, at: datetime, status: str | None = None) -> Any:
        return an_observed(
            status or step.status,
            node_count=total(step),
            master_count=step.masters,
            updated_at=at,
            created_at=self.start,
            flavor="cpu.large",
            master_flavor="cpu.small",
        )

    def _see(self, shown: Any, at: datetime) -> None:
        with self.database.begin() as uow:
            cluster = uow.clusters.by_id(self.cluster_id)
            assert cluster is not None
            before = uow.clusters.observe([observation(cluster, shown, at, (Phase.READY, None, None), arrived=True)])
            tell(uow, [(cluster, shown, at)], before)

    def _read_groups(self, step: Step, at: datetime) -> None:
        with self.database.begin() as uow:
            if self.cluster_id not in [one for one, _ in uow.usage.doubted(SCOPE, limit=10_000)]:
                return
            groups = [
                NodeGroup(
                    name,
                    name,
                    "master" if name == "default-master" else "worker",
                    size(step, name),
                    FLAVORS[name],
                    created_at=self.start,
                    updated_at=self.dated[name],
                )
                for name in FLAVORS
                if name in step.sizes or name == "default-master"
            ]
            tell_groups(uow, self.cluster_id, groups, at)

    def truth(self, group: str, start: datetime, end: datetime) -> Fraction:
        """Node-seconds of a group in a window, from the history itself."""
        found, at = Fraction(0), self.start
        for step in self.steps:
            until = at + timedelta(microseconds=step.micros)
            overlap = (min(until, end) - max(at, start)) // timedelta(microseconds=1)
            found += Fraction(max(0, overlap) * size(step, group), 10**6)
            at = until
        return found


def total(step: Step) -> int:
    return sum(step.sizes.values())


def size(step: Step, group: str) -> int:
    return step.masters if group == "default-master" else step.sizes.get(group, 0)


CLOCK_SET_BACK = Look(0.0, late=True, clock_off_s=45)


@example(
    [
        Step(10**6, {"default-worker": 0}, 1, "UPDATE_COMPLETE", False, ()),
        Step(10**6, {"default-worker": 0}, 2, "UPDATE_COMPLETE", False, (CLOCK_SET_BACK,)),
    ],
    [],
)
@given(st.lists(STEPS, min_size=1, max_size=6), st.lists(st.floats(0, 1), min_size=0, max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_history_is_on_record_as_it_was(database: Database, steps: list[Step], cuts: list[float]) -> None:
    """Each state of the cluster is seen at least once; answers come late, clocks are set, and nobody looks for as long as they like."""
    life = Life(database, steps)
    end = life.run()
    bounds = [life.start, *sorted(life.start + (end - life.start) * cut for cut in cuts), end]
    with database.begin() as uow:
        for start, until in [*pairwise(bounds), (life.start, end)]:
            found = dict.fromkeys(FLAVORS, Fraction(0))
            for used in uow.usage.between([life.cluster_id], start, until):
                assert used.flavor == FLAVORS[used.node_group]
                found[used.node_group] += Fraction((used.end - used.start) // timedelta(microseconds=1) * used.nodes, 10**6)
            assert found == {group: life.truth(group, start, until) for group in FLAVORS}


# -- through the whole product ------------------------------------------------------------------------------------------


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    made = World(database_url)
    with made.database.begin() as uow:
        uow.scopes.ensure(SCOPE)
    yield made
    made.close()


def running(world: World) -> dict[str, int]:
    found = world.rows("SELECT node_group, node_count FROM usage_intervals WHERE ended_at IS NULL AND role = 'worker'")
    return {row["node_group"]: row["node_count"] for row in found}


def made(world: World) -> str:
    accepted = world.clusters.request_create(ACTOR, {"name": "hybrid", "cluster_template_id": TEMPLATE_NAME, "node_count": 2})
    assert accepted is not None
    world.run_until_quiet()
    return str(accepted.cluster.id)


def test_groups_are_counted_by_themselves_from_their_making_to_their_end(world: World) -> None:
    cluster = made(world)
    world.clusters.request_node_group(ACTOR, cluster, {"name": "gpu", "node_count": 3, "flavor": "gpu.a100.large"})
    world.run_until_quiet()
    assert running(world) == {"default-worker": 2, "gpu": 3}
    [row] = world.rows("SELECT flavor, exact FROM usage_intervals WHERE node_group = 'gpu'")
    assert row == {"flavor": "gpu.a100.large", "exact": True}
    world.clusters.request_resize(ACTOR, cluster, {"node_count": 1, "node_group": "gpu"})
    world.run_until_quiet()
    assert running(world) == {"default-worker": 2, "gpu": 1}
    world.clusters.request_delete(ACTOR, cluster)
    world.run_until_quiet()
    assert running(world) == {}
    assert not world.rows("SELECT 1 FROM usage_intervals WHERE ended_at IS NULL")


def test_a_group_made_by_others_is_found_by_reading_the_groups(world: World) -> None:
    cluster = made(world)
    uuid = world.clusters.get(ACTOR, cluster).magnum_uuid
    assert uuid is not None
    world.cloud.gateway(SCOPE).add_node_group(uuid, NodeGroupSpec("byhand", 4, "gpu.a100.large"))
    world.clock.advance(3600)
    world.cloud.settle()
    world.inventory_now(passes=2)
    assert running(world) == {"default-worker": 2, "byhand": 4}
    assert not world.rows("SELECT 1 FROM usage_intervals WHERE NOT exact AND ended_at IS NULL")
    reads = world.cloud.calls.count("node_groups")
    world.inventory_now(passes=2)
    assert world.cloud.calls.count("node_groups") == reads  # what is known is not asked again
