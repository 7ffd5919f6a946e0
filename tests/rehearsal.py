"""Cleanup over one database and the fake cloud, with a clock that is moved by hand."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet

from shared.domain.clusters import Cluster
from shared.outbound import Outbound
from shared.services.accelerators import AcceleratorService, load_catalogue
from shared.services.cleanup import CleanupService
from shared.services.credentials import Vault
from shared.services.idleness import Watch
from shared.services.sweeping import Sweeper, Swept
from shared.services.webhooks import WebhookService
from shared.settings import PlacementSettings
from tests.builders import KEYPAIR, PROJECT, REGION, TEMPLATE_NAME, an_actor
from tests.world import World

#: Acts, at any hour.
ACTING = {"dry_run": False, "window": {"start": "00:00", "end": "23:59"}}
IDLE: dict[str, float | None] = {"gpu_usage": 1.0, "cpu_usage": 2.0, "running_pods": 0}


class Rehearsal(World):
    """The product with cleanup, whose clusters are measured as the test says."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        accelerators = AcceleratorService(load_catalogue(PlacementSettings()), self.catalogs, region=REGION)
        self.watch = Watch(accelerators, self.catalogs, self.clock, region=REGION)
        self.sweeper = self.a_sweeper()
        self.actor = an_actor()
        self.cleanup = CleanupService(self.database, self.clusters, self.jobs, self.watch, self.sweeper, self.clock, region=REGION)
        self.vault = Vault(Fernet.generate_key().decode())
        self.webhooks = WebhookService(self.database, self.vault, Outbound(["127.0.0.0/8"]), self.clock)
        self.measured: dict[UUID, dict[str, float | None]] = {}

    def a_sweeper(self, watch: Watch | None = None) -> Sweeper:
        """Another beat."""
        return Sweeper(self.database, self.clusters, watch or self.watch, self.clock, region=REGION)

    def policy(self, **changes: Any) -> None:
        """The project's policy."""
        self.cleanup.put_policy(self.actor, ACTING | changes)

    def make(self, name: str = "training", *, measured: Mapping[str, float | None] | None = None, **fields: Any) -> Cluster:
        """A ready cluster; ``measured`` from now on, by default as idle."""
        body = {"name": name, "cluster_template_id": TEMPLATE_NAME, "node_count": 2, "keypair": KEYPAIR}
        accepted = self.clusters.request_create(self.actor, body | fields)
        assert accepted is not None
        self.run_until_quiet()
        self.measured[accepted.cluster.id] = dict(IDLE if measured is None else measured)
        self.look_at_cloud()
        return self.clusters.get(self.actor, str(accepted.cluster.id))

    def look_at_cloud(self) -> None:
        """Inventory and telemetry have just been here."""
        self.inventory_now(passes=2)
        for cluster_id, values in self.measured.items():
            self.execute(
                "INSERT INTO cluster_metrics (time, cluster_id, project_id, cluster_name, gpu_usage_peak, cpu_usage_peak, running_pods)"
                " VALUES (now(), :id, :project, 'x', :gpu, :cpu, :pods) ON CONFLICT DO NOTHING",
                id=cluster_id,
                project=PROJECT,
                gpu=values.get("gpu_usage"),
                cpu=values.get("cpu_usage"),
                pods=values.get("running_pods"),
            )

    def sweep(self, minutes: float = 1.0) -> Swept:
        """Time passes, everything is measured, and a sweep looks."""
        self.clock.advance(minutes * 60)
        self.look_at_cloud()
        return self.sweeper.sweep(PROJECT)

    def stage(self, cluster: Cluster) -> str:
        """Where it is."""
        found = self.rows("SELECT stage FROM cleanup_states WHERE cluster_id = :id", id=cluster.id)
        return str(found[0]["stage"]) if found else "active"

    def until(self, cluster: Cluster, stage: str, *, minutes: float = 10.0, most: int = 60) -> None:
        """Sweeps until it is there."""
        for _ in range(most):
            if self.stage(cluster) == stage:
                return
            self.sweep(minutes)
            if self.stage(cluster) == "notified":
                self.webhooks.deliver()
        raise AssertionError(f"{cluster.name} is {self.stage(cluster)}: {self.why(cluster)}")

    def why(self, cluster: Cluster) -> Any:
        """What keeps it from being a candidate."""
        found, _, _ = self.cleanup.candidate(self.actor, str(cluster.id))
        return found.verdict.why_not

    def way_of(self, cluster: Cluster) -> list[tuple[str, str, str]]:
        """From, to and reason of each step, oldest first."""
        found = self.rows(
            "SELECT from_stage, to_stage, reason FROM cleanup_steps WHERE cluster_id = :id ORDER BY id", id=cluster.id
        )
        return [(row["from_stage"], row["to_stage"], row["reason"]) for row in found]
