"""From what Magnum shows to usage: which nodes run, from when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.domain.usage import changed_at, changes, counts_stand, is_late, of_groups, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from shared.db.uow import UnitOfWork
    from shared.db.usage import Running
    from shared.domain.clusters import Cluster, NodeGroup, ObservedCluster
    from shared.domain.usage import GroupUse, Known

#: A cluster as its row was, what Magnum showed of it, and when it answered.
Sight = tuple["Cluster", "ObservedCluster", "datetime"]


def tell(uow: UnitOfWork, sights: Sequence[Sight], before: Mapping[UUID, Known]) -> None:
    """Bring the usage of these clusters up to what Magnum showed. ``before``: what :meth:`ClusterRepository.observe` returned.

    Late answers change nothing: those that were not written, and those of before Magnum's last dated change. To be called after what
    the answer means for jobs and wishes was written. While a change is under way the counts of before stand.
    """
    standing = [
        sight for sight in sights if sight[0].id in before and counts_stand(sight[1]) and not is_late(sight[1], before[sight[0].id])
    ]
    if not standing:
        return
    on_record = uow.usage.running([cluster.id for cluster, _, _ in standing])
    rows: list[dict[str, Any]] = []
    for cluster, observed, at in standing:
        running = on_record.get(cluster.id)
        if running is None:
            continue  # gone meanwhile
        told, known = split(observed, running.wanted)
        if _same_totals(told, running):
            if known and changes(told, running.groups):
                uow.usage.doubt(cluster.id)  # one group's gain is another's loss: only the groups themselves can tell
            continue
        since = changed_at(observed, before[cluster.id], at)
        rows += [_row(running, use, since, exact=known) for use in changes(told, running.groups)]
        if not known:
            uow.usage.doubt(cluster.id)
    uow.usage.set(rows)


def tell_groups(uow: UnitOfWork, cluster_id: UUID, groups: Sequence[NodeGroup], at: datetime) -> None:
    """The cluster's groups were read by themselves: their sizes hold, each since Magnum's date of it.

    A group that is no more has no date of its own: it went when Magnum last changed the cluster, else counts until ``at``.
    """
    running = uow.usage.running([cluster_id]).get(cluster_id)
    if running is None:
        return
    told = of_groups(groups)
    named = {use.group for use in told}
    rows = []
    for use in changes(told, running.groups):
        since = use.since or at
        if use.group not in named:
            began, changed = running.groups[use.group].since or at, running.updated_at
            since = changed if changed and (changed > began or (changed == began and running.guessed)) else at
        rows.append(_row(running, use, since, exact=True))
    uow.usage.set(rows)
    uow.usage.believe(cluster_id)


def _same_totals(told: Sequence[GroupUse], running: Running) -> bool:
    """Whether the sums by role, and the flavors of groups that run, are those on record."""
    for role in ("master", "worker"):
        if sum(use.nodes for use in told if use.role == role) != sum(
            use.nodes for use in running.groups.values() if use.role == role
        ):
            return False
    return all(
        use.flavor is None or use.group not in running.groups or running.groups[use.group].flavor == use.flavor for use in told
    )


def _row(running: Running, use: GroupUse, since: datetime, *, exact: bool) -> dict[str, Any]:
    return {
        "cluster_id": running.cluster_id,
        "project_id": running.project_id,
        "region": running.region,
        "role": use.role,
        "node_group": use.group,
        "flavor": use.flavor,
        "nodes": use.nodes,
        "at": since,
        "exact": exact,
    }
