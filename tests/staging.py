"""The whole product over one database and the fake cloud, with plans that are made and carried out step by step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet

from shared.bootstrap import Container
from shared.domain.clusters import Cluster, Phase
from shared.domain.consolidation.plan import Act
from shared.domain.plans import ENDED, PlanState, PlanStep, StepState
from shared.domain.ports import Actor
from shared.errors import NotFound
from shared.services.plan_basis import snapshot
from shared.services.plans import Shown
from shared.settings import PlacementSettings, PlanSettings
from tests.builders import KEYPAIR, SCOPE, TEMPLATE_NAME, an_actor
from tests.fake_cloud import FakeCloud
from tests.world import World, build, some_settings

POD: dict[str, Any] = {"type": "general", "cpu_cores": 1, "memory_gb": 1, "movable": True}


class Staging(World):
    """A wired product, and a scheduler that does as it is told."""

    def __init__(self, url: str, **plans: Any) -> None:
        super().__init__(url)
        self.url = url
        self.actor: Actor = an_actor()
        self.container: Container = self.wired(**plans)
        self.clusters = self.container.clusters
        self.runner = self.container.runner()
        self.converger = self.container.converger()

    def wired(self, *, placement: PlacementSettings | None = None, **plans: Any) -> Container:
        """Another process."""
        settings = replace(
            some_settings(self.url),
            plans=PlanSettings(**plans),
            placement=placement or PlacementSettings(),
            secret_key=Fernet.generate_key().decode(),
            instance="worker-1",
        )
        cloud: FakeCloud = self.cloud
        return build(settings, cloud=lambda _credentials: cloud, clock=self.clock)

    def close(self) -> None:
        self.container.database.engine.dispose()
        super().close()

    def rewire(self, **settings: Any) -> None:
        """The same with other settings."""
        self.container.database.engine.dispose()
        self.container = self.wired(**settings)
        self.clusters = self.container.clusters
        self.runner = self.container.runner()

    # -- a fleet ----------------------------------------------------------------------------------------------------------

    def make(self, name: str, nodes: int, **fields: Any) -> Cluster:
        """A ready cluster, each node of it with four GPUs."""
        body = {"name": name, "cluster_template_id": TEMPLATE_NAME, "node_count": nodes, "keypair": KEYPAIR}
        accepted = self.clusters.request_create(self.actor, body | fields)
        assert accepted is not None
        self.run_until_quiet()
        return self.clusters.get(self.actor, str(accepted.cluster.id))

    def hold(self, cluster: Cluster, gpus: int, **changes: Any) -> UUID:
        """Hold a pod of so many GPUs on a cluster; the placement's id."""
        asked = POD | {"accelerator": {"count": gpus}, "preferred_clusters": [str(cluster.id)]} | changes
        before = {row["id"] for row in self.rows("SELECT id FROM placements")}
        accepted = self.container.matching.request(self.actor, [asked], many=False, place=True, lease_s=10 * 86400.0, at_once=True)
        assert accepted is not None
        (made,) = [row for row in self.rows("SELECT id, cluster_id FROM placements") if row["id"] not in before]
        assert made["cluster_id"] == cluster.id
        return UUID(str(made["id"]))

    # -- plans ------------------------------------------------------------------------------------------------------------

    def propose(self, **fields: Any) -> Shown:
        """A plan as it was made."""
        promised = self.container.consolidation.request(self.actor, {"new_clusters": False, "max_seconds": 5} | fields)
        assert promised is not None
        self.run_until_quiet()
        job = self.job(promised[0].id)
        assert job.state == "succeeded", job.error
        return self.plan(promised[0].id)

    def plan(self, plan_id: UUID) -> Shown:
        return self.container.plans.get(self.actor, str(plan_id))

    def begin(self, plan_id: UUID) -> Shown:
        """Approved and applied, as far as that goes at once."""
        self.container.plans.approve(self.actor, str(plan_id))
        return self.container.plans.apply(self.actor, str(plan_id))

    def offered(self, plan_id: UUID) -> list[PlanStep]:
        return [step for step in self.plan(plan_id).steps if step.is_move and step.state is StepState.RUNNING]

    def schedule(self, plan_id: UUID) -> None:
        """The scheduler does what it was told of, and reports it."""
        for step in self.offered(plan_id):
            self.container.plans.moved(self.actor, str(plan_id), str(step.number))

    def go(self, plan_id: UUID, *, until: Callable[[Shown], bool] | None = None, rounds: int = 60, moving: bool = True) -> Shown:
        """Beats, workers, ticks and the scheduler, until the plan has ended, or as the test says."""
        for _ in range(rounds):
            shown = self.plan(plan_id)
            if shown.plan.state in ENDED or (until is not None and until(shown)):
                return shown
            self.container.applier.apply_all(budget_s=10.0)
            if moving:
                self.schedule(plan_id)
            self.round()
        raise AssertionError([(step.act, step.state, step.state_reason) for step in self.plan(plan_id).steps])

    # -- looking ----------------------------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, dict[str, int]]:
        """Nodes by node group of the clusters that are there: those that Magnum shows."""
        found = {}
        for row in self.rows("SELECT id FROM clusters WHERE live AND deleted_at IS NULL ORDER BY seq"):
            try:
                cluster = self.clusters.get(self.actor, str(row["id"]))
            except NotFound:
                continue
            if cluster.phase is not Phase.DELETING:
                groups = self.clusters.node_groups(self.actor, str(cluster.id))
                found[str(cluster.id)] = {group.name: group.node_count for group in groups if not group.is_master}
        return found

    def spots(self) -> dict[str, tuple[str, str, int]]:
        """Where each held placement lies."""
        rows = self.rows("SELECT id, cluster_id, node_group, node FROM placements WHERE ended_at IS NULL")
        return {str(row["id"]): (str(row["cluster_id"]), row["node_group"], row["node"]) for row in rows}

    def snapshot(self) -> dict[str, Any]:
        """What a plan would rest on now."""
        with self.database.begin() as uow:
            rows = [dict(row) for row in uow.placements.clusters(SCOPE)]
            return snapshot(rows, uow.placements.active(SCOPE), ())

    def plan_jobs(self) -> list[dict[str, Any]]:
        """The jobs that plans have asked for."""
        return self.rows("SELECT * FROM jobs WHERE params ->> 'reason' = 'PLAN' ORDER BY seq")


def acts(shown: Shown) -> list[Act]:
    """What the steps do, in their order."""
    return [step.act for step in shown.steps]


def states(shown: Shown) -> list[tuple[Act, StepState]]:
    """The same with how far each has come."""
    return [(step.act, step.state) for step in shown.steps]


def stale(shown: Shown) -> str:
    """Why a plan is stale."""
    assert shown.plan.state is PlanState.STALE, (shown.plan.state, shown.plan.detail)
    return shown.plan.detail or ""
