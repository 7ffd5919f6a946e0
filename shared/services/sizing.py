"""Jobs that change how many workers a cluster has: node groups, hibernation, waking, upgrades.

Magnum drops a resize that comes while another is under way, so several groups are brought to their sizes one after the other: a
job makes one call, converges, and comes back for the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.domain.clusters import DEFAULT_GROUP, Cluster, NodeGroup, NodeGroupSpec
from shared.domain.jobs import SIZING, Job, JobError, JobKind, JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.db.uow import UnitOfWork
    from shared.domain.ports import CloudGateway


@dataclass(frozen=True, slots=True)
class Call:
    """One call to make, and what its job then waits for. Without ``make`` there is nothing to do."""

    params: dict[str, Any]
    group: str | None = None
    count: int = 0
    remove: tuple[str, ...] = ()
    spec: NodeGroupSpec | None = None  #: a group to add
    drop: str | None = None  #: a group to take away
    nothing: bool = False
    sizes: dict[str, int] | None = None  #: to be remembered before the first call of a hibernation

    def make(self, gateway: CloudGateway, uuid: str) -> None:
        """Make it."""
        if self.spec is not None:
            gateway.add_node_group(uuid, self.spec)
        elif self.drop is not None:
            gateway.remove_node_group(uuid, self.drop)
        else:
            gateway.resize(uuid, self.count, node_group=self.group, remove=self.remove)


def next_call(job: Job, groups: Sequence[NodeGroup], *, remembered: dict[str, int] | None) -> Call | JobError:
    """The call that brings the cluster nearer to what the job wants; an error where it can't be."""
    workers = [group for group in groups if not group.is_master]
    total = sum(group.node_count for group in workers)
    match job.kind:
        case JobKind.ADD_NODE_GROUP:
            return _add(job, workers, total)
        case JobKind.REMOVE_NODE_GROUP:
            return _remove(job, workers, total)
        case JobKind.HIBERNATE:
            sizes = remembered or {group.name: group.node_count for group in workers}
            least = int(job.params.get("floor", 0))
            floors = {group.name: max(group.least, least) for group in workers}
            return _towards(job, workers, floors, sizes=sizes)
        case JobKind.WAKE:
            return _towards(job, workers, remembered or {}, sizes=None)
        case _:
            return _resize(job, workers, total)


def _resize(job: Job, workers: Sequence[NodeGroup], total: int) -> Call | JobError:
    wanted = int(job.params["node_count"])
    name = job.params.get("node_group")
    group = _named(workers, name) if name else next((each for each in workers if each.is_default), None)
    if group is None:
        if name or workers:
            return _no_group(name or "default-worker", workers)
        group = NodeGroup(uuid="", name="default-worker", role="worker", node_count=-1, is_default=True)
    others = total - max(group.node_count, 0)
    params = {**job.params, "target_total": wanted + others}
    if group.node_count == wanted:
        return Call(params, nothing=True)
    return Call(params, group.name if name else None, wanted, tuple(job.params.get("nodes_to_remove", ())))


def _add(job: Job, workers: Sequence[NodeGroup], total: int) -> Call | JobError:
    spec = NodeGroupSpec(**job.params["spec"])
    there = _named(workers, spec.name)
    if there is not None:  # an earlier call of this job, whose answer was lost
        return Call({**job.params, "target_total": total}, nothing=True)
    return Call({**job.params, "target_total": total + spec.node_count}, spec=spec)


def _remove(job: Job, workers: Sequence[NodeGroup], total: int) -> Call:
    group = _named(workers, job.params["node_group"])
    if group is None:
        return Call({**job.params, "target_total": total}, nothing=True)
    return Call({**job.params, "target_total": total - group.node_count}, drop=group.name)


def _towards(job: Job, workers: Sequence[NodeGroup], targets: dict[str, int], *, sizes: dict[str, int] | None) -> Call:
    away = [group for group in workers if group.node_count != targets.get(group.name, group.node_count)]
    total = sum(group.node_count for group in workers)
    if not away:
        return Call({**job.params, "target_total": total, "calls_left": 0}, nothing=True, sizes=sizes)
    group, count = away[0], targets[away[0].name]
    params = {**job.params, "target_total": total - group.node_count + count, "calls_left": len(away) - 1}
    return Call(params, None if group.is_default else group.name, count, sizes=sizes)


def _named(workers: Sequence[NodeGroup], ref: str) -> NodeGroup | None:
    return next((group for group in workers if ref in (group.name, group.uuid)), None)


def _no_group(name: str, workers: Sequence[NodeGroup]) -> JobError:
    known = ", ".join(group.name for group in workers) or "none"
    return JobError("NODE_GROUP_NOT_FOUND", f"The cluster has no node group {name!r}. It has: {known}.")


def wanted_after(job: Job, sizes: dict[str, int]) -> dict[str, int]:
    """The workers wanted of each group once ``job`` is promised on top of ``sizes``."""
    name = job.params.get("node_group") or DEFAULT_GROUP
    match job.kind:
        case JobKind.RESIZE:
            return sizes | {name: int(job.params["node_count"])}
        case JobKind.ADD_NODE_GROUP:
            return sizes | {name: int(job.params["spec"]["node_count"])}
        case JobKind.REMOVE_NODE_GROUP:
            return sizes | {name: 0} if name in sizes else sizes
        case _:
            return sizes


def take_back(uow: UnitOfWork, cluster: Cluster, job: Job) -> int:
    """Undo what ``job``, which will not happen, promised; promises made after it stand. The workers now wanted in all."""
    sizes: dict[str, int] = job.params.get("before", {DEFAULT_GROUP: cluster.node_count})
    for later in uow.jobs.active_of(cluster.id):
        if later.seq > job.seq and later.kind in SIZING:
            uow.jobs.set_before(later.id, sizes)
            sizes = wanted_after(later, sizes)
    groups = uow.clusters.groups(cluster.id)
    for name, count in sizes.items():
        if name != DEFAULT_GROUP and name in groups and groups[name] != count:
            uow.clusters.want_group(cluster.id, NodeGroupSpec(name, count))
    for name in groups.keys() - sizes.keys():
        uow.clusters.drop_group(cluster.id, name)
    return sum(sizes.values())


def after_end(uow: UnitOfWork, ended: Sequence[Job]) -> None:
    """What jobs that have ended leave in their clusters' rows."""
    awake = [job for job in ended if job.kind is JobKind.WAKE and job.state is JobState.SUCCEEDED]
    if awake:
        uow.clusters.forget_sizes([job.of_cluster for job in awake])
    for job in ended:
        if job.state is JobState.SUCCEEDED:
            _arrived(uow, job)
        elif job.kind in {JobKind.ADD_NODE_GROUP, JobKind.REMOVE_NODE_GROUP}:
            # A group that Magnum made and calls failed still shows in the list of groups, and can be removed.
            cluster = uow.clusters.by_id(job.of_cluster)
            if cluster is not None:
                uow.clusters.want_nodes(cluster.id, take_back(uow, cluster, job))


def _arrived(uow: UnitOfWork, job: Job) -> None:
    if job.kind in {JobKind.WAKE, JobKind.HIBERNATE}:
        uow.clusters.want_nodes(job.of_cluster, int(job.params.get("target_total", 0)))
    elif job.kind is JobKind.REMOVE_NODE_GROUP:
        uow.clusters.drop_group(job.of_cluster, job.params["node_group"])
    elif job.kind is JobKind.UPGRADE:
        uow.clusters.set_template(job.of_cluster, job.params["template_id"], job.params.get("template_name"))
