"""How clusters move: what the conductor and the driver do, on the simulator's clock.

Nothing runs in the background. Work ends when its time has passed and somebody asks; a heap tells what is due.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulator.clock import Clock
from simulator.faults import Faults
from simulator.magnum.attachments import Attachments
from simulator.magnum.model import Cluster, Collection, NodeGroup, Template
from simulator.magnum.personalities import Personality, personality

FAILURES = {
    "create": "Resource CREATE failed: ResourceInError: resources.kube_masters.resources[0].resources.kube-master: Went to status"
    ' ERROR due to "Message: No valid host was found. There are not enough hosts available., Code: 500"',
    "update": 'Resource UPDATE failed: resources.kube_minions: Went to status ERROR due to "Message: No valid host was found."',
    "delete": "Resource DELETE failed: resources.network: One or more ports are still in use on the network.",
}
TIMED_OUT = "Timed out"
NO_AUTOSCALING_FROM_ZERO = "Min node count must be greater than or equal to 1 for all node groups."
MOST_TOLD = 50  #: nodes of a group whose health is told
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

    def schedule(self, cluster: Cluster, step: str, seconds: float, *, since: float | None = None) -> None:
        """Work on the cluster ends after ``seconds``, from now or ``since`` then; what was under way before is overtaken."""
        at = (self.clock.now() if since is None else since) + seconds
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

    def resize(self, uuid: str, group: str, count: int, removed: list[str]) -> None:
        """Change a group's size, unless the cluster's state forbids: then nothing happens, and nobody is told."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is None or not cluster.may_change:
            return
        found = next((each for each in cluster.groups if group in {each.name, each.uuid}), None)
        if found is None:
            return
        if removed and self.character(cluster).removes_chosen_nodes:
            cluster.chosen[found.uuid] = [node for node in found.nodes if not found.names_of(node, cluster).isdisjoint(removed)]
        self._set_count(cluster, found, count)

    def patch(self, uuid: str, count: int, health: str | None, reason: dict[str, str]) -> None:
        """PATCH: only from *_COMPLETE, and of node_count not with every driver."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is None or not cluster.status.endswith("_COMPLETE"):
            return
        if (health, reason) != (cluster.health_status, cluster.health_reason):
            self.collection.change(cluster, health_status=health, health_reason=reason, updated_at=self.clock.now())
        worker = next(each for each in cluster.groups if each.name == "default-worker")
        if count == worker.node_count:
            return
        if not self.character(cluster).patches_node_count:
            self._refuse_update(cluster, "")  # the words of a NotImplementedError, of which there are none
            return
        self._set_count(cluster, worker, count)

    def _set_count(self, cluster: Cluster, group: NodeGroup, count: int) -> None:
        before, group.node_count = group.node_count, count
        if self._lacks_a_node(cluster):
            group.node_count = before
            self._refuse_update(cluster, NO_AUTOSCALING_FROM_ZERO)
        else:
            self.begin_update(cluster, group)

    def _refuse_update(self, cluster: Cluster, reason: str) -> None:
        """The driver refuses at once: the cluster has failed, and all is as before."""
        now = self.clock.now()
        self.collection.change(cluster, status="UPDATE_FAILED", status_reason=reason, updated_at=now, completed_at=now)

    def add_group(self, uuid: str, group: NodeGroup) -> None:
        """A new node group, unless the cluster's state forbids."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is None or not cluster.may_change:
            return
        group.status, group.created_at, group.stack_id = "CREATE_IN_PROGRESS", self.clock.now(), cluster.stack_id
        cluster.groups.append(group)
        if self._lacks_a_node(cluster):
            group.status, group.status_reason = "CREATE_FAILED", NO_AUTOSCALING_FROM_ZERO
            self._refuse_update(cluster, NO_AUTOSCALING_FROM_ZERO)
        else:
            self.begin_update(cluster)

    def drop_group(self, uuid: str, group: NodeGroup) -> None:
        """Begin to remove a node group, unless the cluster's state forbids."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is not None and cluster.may_change and group in cluster.groups:
            self.begin_update(cluster, group, status="DELETE_IN_PROGRESS")

    def update_group(self, uuid: str, group: NodeGroup, wanted: dict[str, Any]) -> None:
        """Set a node group's bounds, labels and taints, unless the cluster's state forbids."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is not None and cluster.may_change and group in cluster.groups:
            for name, value in wanted.items():
                setattr(group, name, value)
            self.begin_update(cluster, group)

    def upgrade(self, uuid: str, template: Template) -> None:
        """Take over a template's image and version, unless the cluster's state forbids."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is None or not cluster.status.endswith("_COMPLETE"):
            return
        group = next(each for each in cluster.groups if each.name == "default-worker")
        group.image_id = template.body.get("image_id")
        cluster.template = template.uuid
        cluster.upgrade_tag = (template.body.get("labels") or {}).get("kube_tag") or cluster.upgrade_tag
        self.begin_update(cluster, group)

    def begin_update(self, cluster: Cluster, group: NodeGroup | None = None, *, status: str = "UPDATE_IN_PROGRESS") -> None:
        """The cluster is being updated from now on, and of its node groups that one."""
        now = self.clock.now()
        if group is not None:
            group.status, group.updated_at = status, now
        self.collection.change(cluster, status="UPDATE_IN_PROGRESS", status_reason=None, updated_at=now)
        self.schedule(cluster, "update", self.lasts(cluster, "update"))

    def delete(self, uuid: str) -> None:
        """Begin to remove a cluster, whatever it is doing."""
        cluster = self.collection.clusters.get(uuid)
        if cluster is None or cluster.status == "DELETE_IN_PROGRESS":
            return
        for group in cluster.groups:
            group.status = "DELETE_IN_PROGRESS"
        self.collection.change(cluster, status="DELETE_IN_PROGRESS", status_reason=None, updated_at=self.clock.now())
        self.schedule(cluster, "delete", self.lasts(cluster, "delete"))

    # -- ends -----------------------------------------------------------------------------------------------------------

    def _end(self, cluster: Cluster, at: float) -> None:
        step = cluster.next_step or "create"
        if step == "write":
            self.collection.change(cluster, updated_at=at)
            if self.attachments is not None:
                self.attachments.grow(cluster)  # what hinders it is told when the create ends, where it is tried again
            self._begin_create(cluster, at)
            return
        waits = cluster.never_ready and step != "delete"
        if waits or self.faults.cluster("stuck", step, cluster.name, cluster.project_id):
            self._wait_on(cluster, step)
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

    def _wait_on(self, cluster: Cluster, step: str) -> None:
        """It does not come to its end; what a timeout ends, that fails then."""
        self.collection.change(cluster, next_at=None, next_step=None)
        if step == "create" and self._timeout(cluster) is not None:
            self.schedule(cluster, "timeout", self._timeout(cluster) or 0.0, since=cluster.created_at)

    def _begin_create(self, cluster: Cluster, at: float) -> None:
        takes = 0.0 if self._refused(cluster) else self.lasts(cluster, "create")
        timeout = self._timeout(cluster)
        if timeout is not None and at + takes > cluster.created_at + timeout:
            self.schedule(cluster, "timeout", timeout, since=cluster.created_at)
        else:
            self.schedule(cluster, "create", takes, since=at)

    def _timeout(self, cluster: Cluster) -> float | None:
        """After how many seconds a create is given up."""
        keeps = self.character(cluster).keeps_create_timeout and cluster.create_timeout
        return self.clock.lasting(cluster.create_timeout * 60) if keeps else None

    def _lacks_a_node(self, cluster: Cluster) -> bool:
        """Whether a pool under the autoscaler may be empty, with a driver that refuses that."""
        if not cluster.is_autoscaled or self.character(cluster).autoscaled_from_zero:
            return False
        return any(self._least(cluster, group) < 1 for group in cluster.groups if group.role != "master")

    @staticmethod
    def _least(cluster: Cluster, group: NodeGroup) -> int:
        """The least that the autoscaler leaves of a group."""
        label = cluster.labels.get("min_node_count", "")
        if group.is_default:
            return int(label) if label.isdigit() else group.node_count
        return group.min_node_count

    def _refused(self, cluster: Cluster) -> str | None:
        return cluster.refused or (NO_AUTOSCALING_FROM_ZERO if self._lacks_a_node(cluster) else None)

    def _failure(self, cluster: Cluster, step: str) -> str | None:
        if step == "timeout":
            return TIMED_OUT
        if step == "create" and self._refused(cluster):
            return self._refused(cluster)
        scripted = self.faults.cluster("fail", step, cluster.name, cluster.project_id)
        if scripted is not None:
            return scripted.reason
        wanted = cluster.labels.get("rig_fail", "").replace(" ", "").split(",")
        if step in wanted and not (step == "delete" and cluster.failed_deletes):
            return cluster.labels.get("rig_fail_reason", FAILURES[step])
        limit = cluster.labels.get("rig_max_nodes", "1000")
        if step != "delete" and limit.isdigit() and cluster.node_count > int(limit):
            return NO_QUOTA.format(cluster.node_count)
        return None

    def _fail(self, cluster: Cluster, step: str, reason: str, at: float) -> None:
        operation = "create" if step == "timeout" else step
        told = reason if self.character(cluster).tells_nodes else None
        for group in cluster.groups:
            if group.is_busy:
                group.status, group.status_reason, group.updated_at = f"{str(group.status).split('_')[0]}_FAILED", told, at
        cluster.chosen.clear()
        self.collection.change(
            cluster,
            status=f"{operation.upper()}_FAILED",
            status_reason=reason,
            health_status="UNKNOWN" if operation == "create" else cluster.health_status,
            updated_at=at,
            completed_at=at,
            next_at=None,
            next_step=None,
            failed_deletes=cluster.failed_deletes + (step == "delete"),
        )

    def _complete(self, cluster: Cluster, step: str, at: float) -> None:
        character = self.character(cluster)
        reason = f"Stack {step.upper()} completed successfully" if character.tells_nodes else None
        cluster.groups = [group for group in cluster.groups if group.status != "DELETE_IN_PROGRESS"]
        for group in cluster.groups:
            group.settle(self.runs(cluster, group), cluster.chosen.get(group.uuid))
            if group.is_busy:
                group.status, group.status_reason, group.updated_at = f"{str(group.status).split('_')[0]}_COMPLETE", reason, at
        cluster.chosen.clear()
        health = cluster.labels.get("rig_health", "HEALTHY")
        told = {"api": "ok" if health == "HEALTHY" else "unreachable"}
        if character.tells_nodes:
            told |= {f"{cluster.name}-{g.name}-{node}.Ready": "True" for g in cluster.groups for node in g.nodes[:MOST_TOLD]}
        self.collection.change(
            cluster,
            status=f"{step.upper()}_COMPLETE",
            status_reason=reason,
            updated_at=at,
            completed_at=at,
            next_at=None,
            next_step=None,
            health_status=health,
            health_reason=told,
            api_address=cluster.api_address
            or f"https://10.{192 + cluster.id % 60}.{cluster.id // 250 % 250}.{cluster.id % 250 + 1}:6443",
            coe_version=cluster.upgrade_tag or cluster.labels.get("kube_tag") or "v1.33.1",
        )

    def runs(self, cluster: Cluster, group: NodeGroup) -> int:
        """How many machines a group has: as many as it is said to have, unless the autoscaler decides and nobody tells Magnum."""
        if group.role == "master" or not cluster.is_autoscaled or self.character(cluster).node_count_is_autoscaled:
            return group.node_count
        return self._least(cluster, group)

    def character(self, cluster: Cluster) -> Personality:
        """The driver's way of doing things."""
        return personality(cluster.driver)
