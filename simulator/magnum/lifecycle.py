"""How clusters move: what the conductor and the driver do, on the simulator's clock.

Nothing runs in the background. Work ends when its time has passed and somebody asks; a heap tells what is due.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

from simulator.clock import Clock
from simulator.faults import Faults
from simulator.magnum.attachments import Attachments
from simulator.magnum.model import Cluster, Collection, NodeGroup
from simulator.magnum.personalities import Personality, personality

FAILURE = 'Resource CREATE failed: resources.kube_minions: Went to status ERROR due to "Message: No valid host was found."'
NO_QUOTA = "Quota exceeded for instances: Requested {}, but already used the whole quota."


@dataclass
class Timing:
    """Seconds of work by default, how much they vary, and the moments after an accepted call."""

    create_s: float = 4.0
    update_s: float = 4.0
    delete_s: float = 4.0
    spread: float = 0.0  #: 0.5 means between half and one and a half times as long
    accept_s: float = 0.05  #: until the conductor has written a cluster, or begun a change
    half_written_s: float = 0.05  #: after that, without node groups


class Conductor:
    """Takes accepted calls and carries them out. Callers hold the collection's lock."""

    def __init__(self, collection: Collection, clock: Clock, faults: Faults, timing: Timing, seed: int = 1) -> None:
        self.collection = collection
        self.clock = clock
        self.faults = faults
        self.timing = timing
        self.attachments: Attachments | None = None  #: without it clusters have nothing in other services
        self.down = False
        self._waiting: list[Callable[[], None]] = []
        self._random = random.Random(seed)  # noqa: S311 - chance, not cryptography
        self._heap: list[tuple[float, int, str]] = []
        for cluster in collection.clusters.values():
            if cluster.next_at is not None:
                heapq.heappush(self._heap, (cluster.next_at, cluster.id, cluster.uuid))

    # -- time ---------------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Let all that is due by now happen."""
        now = self.clock.now()
        while self._heap and self._heap[0][0] <= now:
            at, _, uuid = heapq.heappop(self._heap)
            cluster = self.collection.clusters.get(uuid)
            if cluster is not None and cluster.next_at == at:
                self._end(cluster, at)

    def schedule(self, cluster: Cluster, step: str, seconds: float) -> None:
        """Work on the cluster ends after ``seconds``; what was under way before is overtaken."""
        at = self.clock.now() + seconds
        self.collection.change(cluster, next_at=at, next_step=step)
        heapq.heappush(self._heap, (at, cluster.id, cluster.uuid))

    def lasts(self, cluster: Cluster, operation: str) -> float:
        """How long an operation takes, by label, else by default."""
        label = cluster.labels.get(f"rig_{operation}_seconds")
        try:
            seconds = float(label) if label is not None else getattr(self.timing, f"{operation}_s")
        except ValueError:
            seconds = getattr(self.timing, f"{operation}_s")
        if label is None and self.timing.spread:
            seconds *= self._random.uniform(1 - self.timing.spread, 1 + self.timing.spread)
        return self.clock.lasting(seconds)

    # -- accepted calls -----------------------------------------------------------------------------------------------

    def accept(self, work: Callable[[], None]) -> None:
        """Carry a call out now, or keep it while the conductor is down."""
        if self.down:
            self._waiting.append(work)
        else:
            work()

    def up(self) -> None:
        """The conductor is back: what waited runs at once, in any order."""
        self.down = False
        waiting, self._waiting = self._waiting, []
        self._random.shuffle(waiting)
        for work in waiting:
            work()

    def create(self, cluster: Cluster) -> None:
        """Write a new cluster and begin to make it."""
        now = self.clock.now()
        cluster.visible_at = now + self.clock.lasting(self.timing.accept_s)
        cluster.whole_at = cluster.visible_at + self.clock.lasting(self.timing.half_written_s)
        self.collection.add([cluster])
        # Until its node groups are written it has no updated_at, so it comes last where the newest change comes first.
        self.schedule(cluster, "write", cluster.whole_at - now)

    def resize(self, uuid: str, group: str | None, count: int, removed: list[str]) -> None:
        """Change a group's size, unless the cluster's state forbids: then nothing happens, and nobody is told."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is None or cluster.status in {
            "CREATE_IN_PROGRESS",
            "DELETE_IN_PROGRESS",
            "CREATE_FAILED",
            "DELETE_FAILED",
            "ROLLBACK_IN_PROGRESS",
        }:
            return
        del removed  # which nodes go shows in no count
        self._set_count(cluster, group, count)

    def patch_count(self, uuid: str, count: int) -> None:
        """PATCH of node_count: only from *_COMPLETE, and not with every driver."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is None or not cluster.status.endswith("_COMPLETE"):
            return
        if not self.character(cluster).patches_node_count:
            self.collection.change(
                cluster, status="UPDATE_FAILED", status_reason="NotImplementedError", updated_at=self.clock.now()
            )
            return
        self._set_count(cluster, None, count)

    def _set_count(self, cluster: Cluster, group: str | None, count: int) -> None:
        found = next((g for g in cluster.groups if (g.name, g.uuid).count(group or "default-worker")), None)
        if found is None:
            return
        found.node_count = count
        self.begin_update(cluster, found)

    def begin_update(self, cluster: Cluster, group: NodeGroup | None = None) -> None:
        """The cluster is being updated from now on."""
        now = self.clock.now()
        if group is not None:
            group.status, group.updated_at = "UPDATE_IN_PROGRESS", now
        self.collection.change(cluster, status="UPDATE_IN_PROGRESS", status_reason=None, updated_at=now)
        self.schedule(cluster, "update", self.lasts(cluster, "update"))

    def delete(self, uuid: str) -> None:
        """Begin to remove a cluster, whatever it is doing."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is None or cluster.status == "DELETE_IN_PROGRESS":
            return
        self.collection.change(cluster, status="DELETE_IN_PROGRESS", status_reason=None, updated_at=self.clock.now())
        self.schedule(cluster, "delete", self.lasts(cluster, "delete"))

    # -- ends -----------------------------------------------------------------------------------------------------------

    def _end(self, cluster: Cluster, at: float) -> None:
        step = cluster.next_step or "create"
        if step == "write":
            self.collection.change(cluster, updated_at=at)
            if self.attachments is not None:
                self.attachments.grow(cluster)  # what hinders it is told when the create ends, where it is tried again
            self.schedule(cluster, "create", self.lasts(cluster, "create"))
            return
        if self.faults.cluster("stuck", step, cluster.name, cluster.project_id):
            self.collection.change(cluster, next_at=None, next_step=None)
            return
        reason = self._failure(cluster, step)
        if reason is None and step in {"create", "update"} and self.attachments is not None:
            reason = self.attachments.grow(cluster)
        if reason is not None:
            self._fail(cluster, step, reason, at)
        elif step == "delete":
            left = self.faults.cluster("leftovers", step, cluster.name, cluster.project_id) is not None
            if self.attachments is not None:
                self.attachments.remove(cluster, leave=left)
            self.collection.remove(cluster, at)
        else:
            self._complete(cluster, step, at)

    def _failure(self, cluster: Cluster, step: str) -> str | None:
        scripted = self.faults.cluster("fail", step, cluster.name, cluster.project_id)
        if scripted is not None:
            return scripted.reason
        wanted = cluster.labels.get("rig_fail", "").replace(" ", "").split(",")
        if step in wanted and not (step == "delete" and cluster.failed_deletes):
            return cluster.labels.get("rig_fail_reason", FAILURE.replace("CREATE", step.upper()))
        limit = cluster.labels.get("rig_max_nodes", "1000")
        if step != "delete" and limit.isdigit() and cluster.node_count > int(limit):
            return NO_QUOTA.format(cluster.node_count)
        return None

    def _fail(self, cluster: Cluster, step: str, reason: str, at: float) -> None:
        status = f"{step.upper()}_FAILED"
        for group in cluster.groups:
            group.status, group.updated_at = status, at
        self.collection.change(
            cluster,
            status=status,
            status_reason=reason,
            updated_at=at,
            completed_at=at,
            next_at=None,
            next_step=None,
            failed_deletes=cluster.failed_deletes + (step == "delete"),
        )

    def _complete(self, cluster: Cluster, step: str, at: float) -> None:
        status = f"{step.upper()}_COMPLETE"
        for group in cluster.groups:
            group.status, group.updated_at = status, at
        health = cluster.labels.get("rig_health", "HEALTHY")
        self.collection.change(
            cluster,
            status=status,
            status_reason=f"Stack {step.upper()} completed successfully",
            updated_at=at,
            completed_at=at,
            next_at=None,
            next_step=None,
            health_status=health,
            health_reason={"api": "ok" if health == "HEALTHY" else "unreachable"},
            api_address=cluster.api_address
            or f"https://10.{192 + cluster.id % 60}.{cluster.id // 250 % 250}.{cluster.id % 250 + 1}:6443",
            coe_version=cluster.labels.get("kube_tag", "v1.33.1"),
        )

    def character(self, cluster: Cluster) -> Personality:
        """The driver's way of doing things."""
        return personality(cluster.driver)
